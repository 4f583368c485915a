//! Pickled models of every protocol, and pickles that must not be obeyed.

use avatorch::model::Model;
use avatorch::model::pickle::Pickled;

use crate::rig::{Field, assert_rig, assert_robust, fields, refusal, with};

/// Written by `python2_pickles.py` under Python 2.7.
const PYTHON2: [&[u8]; 3] = [
    include_bytes!("python2_protocol0.pkl"),
    include_bytes!("python2_protocol1.pkl"),
    include_bytes!("python2_protocol2.pkl"),
];

#[test]
fn python2_pickles_with_chumpy_and_scipy_are_read() {
    for bytes in PYTHON2 {
        assert_rig(&Model::from_bytes(bytes).expect("a good file"));
    }
}

#[test]
fn damage_anywhere_is_survived() {
    for bytes in PYTHON2 {
        assert_robust(bytes);
    }
    assert_robust(&pickled(&fields()));
}

fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

fn integer(value: usize) -> Vec<u8> {
    [b"\x8a\x08", &(value as u64).to_le_bytes()[..]].concat()
}

/// A protocol-3 array: `_reconstruct(ndarray, (0,), b'b')` and its state.
fn array(field: &Field) -> Vec<u8> {
    let shape: Vec<u8> = field.shape.iter().flat_map(|&size| integer(size)).collect();
    [
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR(K\x01(",
        &shape[..],
        b"tcnumpy\ndtype\n",
        &text(&field.descr[1..]),
        b"K\x00K\x01\x87R(K\x03",
        &text(&field.descr[..1]),
        b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb",
        &[if field.fortran { 0x88 } else { 0x89 }],
        b"B",
        &(field.data.len() as u32).to_le_bytes(),
        &field.data,
        b"tb",
    ]
    .concat()
}

fn dict(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let entries: Vec<u8> = entries.iter().flat_map(|(key, value)| [text(key), value.clone()].concat()).collect();
    [b"\x80\x03}(", &entries[..], b"u."].concat()
}

fn pickled(fields: &[Field]) -> Vec<u8> {
    let entries: Vec<_> = fields.iter().map(|field| (field.key.as_str(), array(field))).collect();
    dict(&entries)
}

/// The rig with the pickle code of one value replaced.
fn with_value(key: &str, code: &[u8]) -> Vec<u8> {
    let mut entries: Vec<_> =
        fields().into_iter().filter(|field| field.key != key).map(|field| (field.key.clone(), array(&field))).collect();
    entries.push((key.into(), code.to_vec()));
    dict(&entries.iter().map(|(key, code)| (key.as_str(), code.clone())).collect::<Vec<_>>())
}

#[test]
fn plain_arrays_are_read() {
    assert_rig(&Model::from_bytes(&pickled(&fields())).expect("a good file"));
    let big = Field::new("v_template", ">f8", &[3, 3], &crate::rig::ramp(9));
    assert_rig(&Model::from_bytes(&pickled(&with(big))).expect("a good file"));
}

#[test]
fn no_other_name_is_allowed() {
    for (module, name) in [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("__builtin__", "getattr"),
        ("numpy", "load"),
        ("numpy.core.multiarray", "fromfile"),
        ("chumpy.ch", "MatVecMult"),
        ("scipy.sparse.csc", "eval"),
        ("subprocess", "Popen"),
    ] {
        let refused = format!("is a pickle that mentions {module}.{name}, which is refused: ");
        for code in [
            format!("c{module}\n{name}\n(S'id'\ntR.").into_bytes(),
            [b"\x80\x04", &text(module)[..], &text(name), b"\x93."].concat(),
            with_value("bs_style", format!("c{module}\n{name}\n)R}}b").as_bytes()),
        ] {
            assert!(refusal(&code).starts_with(&refused), "{}", refusal(&code));
        }
    }
}

#[test]
fn opcodes_that_execute_are_refused_by_name() {
    for (code, name) in [
        (&b"(S'id'\nios\nsystem\n."[..], "INST"),
        (b"(cnumpy\nndarray\no.", "OBJ"),
        (b"Pid\n.", "PERSID"),
        (b"NQ.", "BINPERSID"),
        (b"\x80\x02\x82\x01.", "EXT"),
        (b"\x80\x04cnumpy\nndarray\n)}\x92.", "NEWOBJ_EX"),
        (b"\x80\x05\x97.", "NEXT_BUFFER"),
        (b"\x80\x05C\x00\x98.", "READONLY_BUFFER"),
    ] {
        assert_eq!(refusal(code), format!("is a pickle with opcode {name}, which is refused: expected only data"));
    }
}

#[test]
fn calls_of_what_is_no_class_are_refused() {
    for code in [&b"NN\x86NR."[..], b"K\x05)R.", b"cnumpy\nndarray\nNR.", b"c__builtin__\nobject\n)R.", b"}}b."] {
        assert!(refusal(code).starts_with("is a damaged pickle, or none: "), "{}", refusal(code));
    }
}

#[test]
fn damaged_pickles_are_refused_with_a_reason() {
    for (code, reason) in [
        (&b"."[..], "the stack is empty"),
        (b"N", "it ends too early"),
        (b"t.", "there is no mark"),
        (b"(.", "a mark stands where a value is expected"),
        (b"h\x07.", "memo 7 is not set"),
        (b"}(Nu.", "a key without a value"),
        (b"NNa.", "a plain value is filled like a container"),
        (b"Ixyz\n.", "\"xyz\" is not an integer of 64 bits"),
        (b"S'abc\n.", "\"'abc\" is not a quoted string"),
        (b"\x80\x09N.", "protocol 9, expected 0 to 5"),
        (b"\xff.", "there is no opcode 0xff"),
        (b"X\xff\xff\xff\xff.", "it ends too early"),
        (b"\x8b\xff\xff\xff\x7f.", "it ends too early"),
        (b"X\x02\x00\x00\x00\xc3\x28.", "text that is not UTF-8"),
    ] {
        assert_eq!(refusal(code), format!("is a damaged pickle, or none: {reason}"));
    }
    assert_eq!(refusal(b"N."), "is a pickle that does not hold a dict");
    assert_eq!(refusal(b"\x80\x02]."), "is a pickle that does not hold a dict");
}

#[test]
fn a_small_pickle_stays_small() {
    let million = vec![b'N'; 2 << 20];
    assert!(refusal(&million).starts_with("is a pickle of more than 1048576 items"));
    // Lists of lists of lists, each repeated by reference: large if unfolded, small as it stands.
    let mut laughs = b"\x80\x02]q\x00".to_vec();
    for level in 1..40_u8 {
        laughs.extend(b"(");
        laughs.extend([b'h', level - 1].repeat(10));
        laughs.extend([b'l', b'q', level]);
    }
    laughs.push(b'.');
    assert!(Pickled::parse(&laughs).is_ok());
    // The same list copied into sets again and again.
    let mut copies = b"\x80\x02(".to_vec();
    copies.extend(vec![b'N'; 100_000]);
    copies.extend(b"lq\x00");
    copies.extend(b"c__builtin__\nset\nh\x00\x85R0".repeat(1000));
    copies.push(b'.');
    assert!(refusal(&copies).starts_with("is a pickle of more than 1048576 items"));
}

#[test]
fn a_million_entries_of_one_long_key_are_nothing() {
    let key = "k".repeat(1 << 20);
    let mut bytes = [b"\x80\x02}(", &text(&key)[..], b"q\x00N"].concat();
    bytes.extend(b"h\x00N".repeat(300_000));
    bytes.extend(b"u.");
    assert_eq!(refusal(&bytes), "has no key 'v_template'; found: ");
}

#[test]
fn values_that_are_no_arrays_are_named() {
    for (code, what) in [(&b"N"[..], "None"), (b"K\x05", "a plain number"), (b"]", "a list"), (b"}", "a dict")] {
        assert_eq!(refusal(&with_value("weights", code)), format!("key 'weights' is {what}, expected an array"));
    }
    let objects = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR(K\x01(K\x03K\x02t\
        cnumpy\ndtype\nX\x02\x00\x00\x00O8K\x00K\x01\x87R\x89]tb";
    assert_eq!(refusal(&with_value("weights", objects)), "key 'weights' holds python objects, expected numbers");
}

#[test]
fn shapes_that_no_file_can_hold_are_refused() {
    let many = |count: usize| {
        let mut field = Field::new("v_template", "<f8", &[3, 3], &crate::rig::ramp(9));
        field.shape[0] = count;
        pickled(&with(field))
    };
    assert!(refusal(&many(1 << 62)).starts_with("key 'v_template' holds 4611686018427387904 vertices, expected 1 to "));
    assert!(refusal(&many(usize::MAX)).starts_with("key 'v_template' cannot be read: a numpy array without a shape"));
    assert!(refusal(&many(4)).contains("expected [4, 3, any]"));
    let empty = b"cscipy.sparse._csc\ncsc_matrix\n)\x81}(X\x06\x00\x00\x00_shape\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x40K\x00\x86";
    let parts = ["data", "indices", "indptr"].map(|key| [text(key), array(&Field::new("", "<i4", &[0], &[]))].concat());
    let code = [&empty[..], &parts.concat(), b"ub"].concat();
    assert!(refusal(&with_value("weights", &code)).contains("expected [3, 2]"));
}

#[test]
fn terms_within_terms_end_somewhere() {
    // A Ch whose x is itself.
    let cycle = b"cchumpy.ch\nCh\n)\x81q\x05}X\x01\x00\x00\x00xh\x05sb";
    assert_eq!(refusal(&with_value("weights", cycle)), "key 'weights' cannot be read: terms are nested too deeply");
}

#[test]
fn a_select_must_stay_within_its_array() {
    let source = array(&Field::new("", "<f4", &[2], &[1.0, 0.0]));
    let select = |idxs: &[f64], shape: &[u8]| {
        let idxs = array(&Field::new("", "<i8", &[idxs.len()], idxs));
        let state = [&text("a")[..], &source, &text("idxs"), &idxs, &text("preferred_shape"), shape].concat();
        with_value("weights", &[b"cchumpy.reordering\nSelect\n)\x81}(", &state[..], b"ub"].concat())
    };
    let picked = [0.0, 1.0, -2.0, -1.0, 0.0, 1.0];
    let model = Model::from_bytes(&select(&picked, b"K\x03J\xff\xff\xff\xff\x86")).expect("a good file");
    assert_eq!(model.lbs_weights.to_f64(), [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
    assert_eq!(
        refusal(&select(&[0.0, 1.0, 2.0, 0.0, 0.0, 0.0], b"K\x03K\x02\x86")),
        "key 'weights' is a chumpy Select of entry 2 in an array of 2"
    );
    assert!(refusal(&select(&picked, b"K\x05K\x02\x86")).contains("a chumpy Select of 6 entries as [5, 2]"));
}

#[test]
fn a_sparse_matrix_must_fit_together() {
    let csc = |values: &[f64], rows: &[f64], starts: &[f64]| {
        let part =
            |key, descr, values: &[f64]| [text(key), array(&Field::new("", descr, &[values.len()], values))].concat();
        let state = [
            text("_shape"),
            b"K\x03K\x02\x86".to_vec(),
            part("data", "<f4", values),
            part("indices", "<i4", rows),
            part("indptr", "<i4", starts),
        ];
        with_value("weights", &[b"cscipy.sparse._csc\ncsc_matrix\n)\x81}(", &state.concat()[..], b"ub"].concat())
    };
    let good = csc(&[1.0, 0.25, 0.5, 0.75, 0.5], &[0.0, 1.0, 2.0, 1.0, 2.0], &[0.0, 3.0, 5.0]);
    assert_rig(&Model::from_bytes(&good).expect("a good file"));
    for (values, rows, starts) in [
        (&[1.0, 1.0][..], &[0.0, 3.0][..], &[0.0, 1.0, 2.0][..]),
        (&[1.0, 1.0], &[0.0, -1.0], &[0.0, 1.0, 2.0]),
        (&[1.0, 1.0], &[0.0, 0.0], &[0.0, 2.0, 2.0]),
        (&[1.0, 1.0], &[0.0, 1.0], &[0.0, 3.0, 2.0]),
        (&[1.0, 1.0], &[0.0, 1.0], &[0.0, 2.0]),
        (&[1.0], &[0.0, 1.0], &[0.0, 1.0, 2.0]),
    ] {
        assert!(refusal(&csc(values, rows, starts)).ends_with("indptr do not belong together"));
    }
}
