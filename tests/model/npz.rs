//! `.npz` archives.

use avatorch::model::{DType, Model};

use crate::rig::{
    Field, Packing, ZipEntry, assert_rig, assert_robust, deflate, fields, npz, ramp, refusal, with, without, zip,
    zip_entries,
};

fn open(bytes: &[u8]) -> Model {
    Model::from_bytes(bytes).expect("a good file")
}

#[test]
fn stored_deflated_and_zip64_archives_are_the_same_model() {
    for packing in [Packing::Stored, Packing::Deflated, Packing::Wide] {
        assert_rig(&open(&npz(&fields(), packing)));
    }
}

#[test]
fn every_npy_version_is_read() {
    for version in 1..=3 {
        let members: Vec<_> = fields().iter().map(|field| (format!("{}.npy", field.key), field.npy(version))).collect();
        assert_rig(&open(&zip(&members, Packing::Stored)));
    }
    let members = [("v_template.npy".into(), fields()[0].npy(4))];
    assert_eq!(
        refusal(&zip(&members, Packing::Stored)),
        "key 'v_template' is npy version 4.0, expected 1.0, 2.0 or 3.0"
    );
}

#[test]
fn floats_keep_their_width_and_halves_become_single() {
    for (descr, dtype) in
        [("<f2", DType::F32), ("<f4", DType::F32), ("<f8", DType::F64), (">f2", DType::F32), (">f8", DType::F64)]
    {
        let model = open(&npz(&with(Field::new("v_template", descr, &[3, 3], &ramp(9))), Packing::Stored));
        assert_eq!(model.v_template.dtype(), dtype, "{descr}");
        let model = open(&npz(&with(Field::new("posedirs", descr, &[3, 3, 9], &ramp(81))), Packing::Stored));
        assert_rig(&model);
    }
    let model =
        open(&npz(&with(Field::new("weights", "<f8", &[3, 2], &[1.0, 0.0, 0.25, 0.75, 0.5, 0.5])), Packing::Stored));
    assert_eq!(model.float_dtype(), Some(DType::F64));
    assert_eq!(open(&npz(&fields(), Packing::Stored)).float_dtype(), None, "the rig's weights are float32");
}

#[test]
fn indices_may_be_of_any_integer_type() {
    for descr in ["|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", ">i2", ">u4", ">i8", "<f4", "<f8"] {
        let faces = Field::new("f", descr, &[1, 3], &[0.0, 1.0, 2.0]);
        let tree = Field::new("kintree_table", descr, &[2, 2], &[0.0, 0.0, 0.0, 1.0]);
        let mut fields = with(faces);
        fields.retain(|field| field.key != "kintree_table");
        fields.push(tree);
        assert_rig(&open(&npz(&fields, Packing::Stored)));
    }
    let faces = Field::new("f", "<f8", &[1, 3], &[0.0, 1.5, 2.0]);
    assert_eq!(
        refusal(&npz(&with(faces), Packing::Stored)),
        "key 'f' holds numbers with fractions, expected whole ones"
    );
}

#[test]
fn fortran_order_is_undone() {
    let ramp3 = |sizes: [usize; 3]| {
        let [a, b, c] = sizes;
        let mut values = Vec::new();
        for k in 0..c {
            for j in 0..b {
                for i in 0..a {
                    values.push(0.5 * ((i * b + j) * c + k) as f64 - 1.0);
                }
            }
        }
        values
    };
    for (key, shape) in [("shapedirs", [3, 3, 2]), ("posedirs", [3, 3, 9])] {
        let field = Field { fortran: true, ..Field::new(key, "<f4", &shape, &ramp3(shape)) };
        assert_rig(&open(&npz(&with(field), Packing::Deflated)));
    }
    let weights = Field::new("weights", ">f4", &[3, 2], &[1.0, 0.25, 0.5, 0.0, 0.75, 0.5]);
    assert_rig(&open(&npz(&with(Field { fortran: true, ..weights }), Packing::Stored)));
}

#[test]
fn object_arrays_matter_only_where_an_array_is_needed() {
    let objects = |key: &str| Field {
        key: key.into(),
        descr: "|O".into(),
        fortran: false,
        shape: Vec::new(),
        data: b"cos\nsystem\n.".to_vec(),
    };
    assert_rig(&open(&npz(&with(objects("joint2num")), Packing::Stored)));
    assert_eq!(
        refusal(&npz(&with(objects("weights")), Packing::Stored)),
        "key 'weights' holds python objects, expected numbers"
    );
}

#[test]
fn npy_headers_are_read_as_python_reads_them() {
    let member = |header: &str, data: &[u8]| {
        let mut npy = b"\x93NUMPY\x01\x00".to_vec();
        npy.extend((header.len() as u16).to_le_bytes());
        npy.extend(header.as_bytes());
        npy.extend(data);
        let mut members: Vec<_> =
            without("f").iter().map(|field| (format!("{}.npy", field.key), field.npy(1))).collect();
        members.push(("f.npy".into(), npy));
        zip(&members, Packing::Stored)
    };
    assert_rig(&open(&member("{\"shape\":(1L,3L),\"descr\":'|u1','fortran_order' : False}   \n", &[0, 1, 2])));
    let structured = "{'descr': [('a', '<u4', (2,)), (']', '|O')], 'fortran_order': False, 'shape': (1, 3)}";
    assert_eq!(refusal(&member(structured, &[])), "key 'f' holds records with named fields, expected numbers");
    for (header, wrong) in [
        ("{'descr': '<u4', 'fortran_order': False}", "no shape"),
        ("{'descr': '<u4', 'fortran_order': 0, 'shape': ()}", "expected True or False"),
        ("{'descr': '<u4', 'fortran_order': False, 'shape': (-1,)}", "expected a tuple of sizes"),
        ("{'descr': '<u4', 'fortran_order': False, 'shape': (99999999999999999999,)}", "expected a tuple of sizes"),
        ("{'descr': '<u4', 'fortran_order': False, 'shape': (1, 3)} + 1", "something follows the dict"),
        ("{'descr': __import__('os'), 'fortran_order': False, 'shape': (1, 3)}", "expected a string"),
        ("{'descr': '<u4", "unterminated string"),
        ("", "expected '{'"),
    ] {
        assert!(refusal(&member(header, &[])).ends_with(wrong), "{}", refusal(&member(header, &[])));
    }
}

#[test]
fn sizes_are_checked_before_anything_is_allocated() {
    let huge = |shape: &str, data: &[u8]| {
        let mut members: Vec<_> =
            without("v_template").iter().map(|field| (format!("{}.npy", field.key), field.npy(1))).collect();
        let header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}");
        let mut npy = b"\x93NUMPY\x01\x00".to_vec();
        npy.extend((header.len() as u16).to_le_bytes());
        npy.extend(header.as_bytes());
        npy.extend(data);
        members.push(("v_template.npy".into(), npy));
        refusal(&zip(&members, Packing::Stored))
    };
    assert_eq!(
        huge("(100000000000, 3)", &[0; 72]),
        "key 'v_template' has 72 bytes of data, expected shape [100000000000, 3] of 8-byte elements"
    );
    assert!(huge("(9223372036854775807, 9223372036854775807)", &[]).contains("has 0 bytes of data"));
    assert_eq!(huge("(0, 3)", &[]), "key 'v_template' holds 0 vertices, expected 1 to 268435456");
}

/// The member of an array of zeros that claims to be of its shape: a true beginning, then just enough padding.
fn claim(field: &Field) -> ZipEntry {
    let header = field.npy(1);
    let item: usize = field.descr[2..].parse().expect("the size of an element");
    let size = header.len() + item * field.shape.iter().product::<usize>();
    let mut packed = deflate(&[header, vec![0; 70_000]].concat());
    packed.resize(size / 1032 + 100, 0);
    ZipEntry { name: format!("{}.npy", field.key), crc: 0, size: size as u64, packed }
}

#[test]
fn zip_bombs_are_refused_unopened() {
    let vertices = 6_000_000;
    let mut entries = Vec::new();
    for field in fields() {
        // The first axis of 3 is that of the vertices, except in the faces.
        if let Some(axis) = field.shape.iter().position(|&size| size == 3).filter(|_| field.key != "f") {
            let mut shape = field.shape;
            shape[axis] = vertices;
            entries.push(claim(&Field { shape, data: Vec::new(), ..field }));
        } else {
            let npy = field.npy(1);
            let (crc, size) = (crc32fast::hash(&npy), npy.len() as u64);
            entries.push(ZipEntry { name: format!("{}.npy", field.key), crc, size, packed: deflate(&npy) });
        }
    }
    let text = refusal(&zip_entries(&entries, Packing::Deflated));
    assert!(text.starts_with("unpacks to ") && text.ends_with("refused as a likely zip bomb"), "{text}");

    entries[0].packed.truncate(100);
    let text = refusal(&zip_entries(&entries, Packing::Deflated));
    assert!(text.contains("which its 100 packed bytes cannot hold"), "{text}");
}

#[test]
fn archives_that_lie_are_refused() {
    let good = npz(&fields(), Packing::Stored);
    let twice: Vec<_> = ["f", "f"].map(|key| (format!("{key}.npy"), fields()[6].npy(1))).to_vec();
    assert_eq!(refusal(&zip(&twice, Packing::Stored)), "is a zip archive with two members named \"f.npy\"");

    let find = |archive: &[u8], wanted: &[u8]| {
        archive.windows(wanted.len()).position(|window| window == wanted).expect("the record")
    };
    let mut overlapping = good.clone();
    let second = find(&good, b"PK\x01\x02") + 46 + "v_template.npy".len();
    overlapping[second + 42..second + 46].copy_from_slice(&[0; 4]);
    assert!(refusal(&overlapping).contains("overlap"));

    let mut damaged = good.clone();
    let value = find(&good, &0.5_f64.to_le_bytes());
    damaged[value] ^= 1;
    assert_eq!(refusal(&damaged), "key 'v_template' does not match its checksum: the archive is damaged");

    let directory = find(&good, b"PK\x01\x02");
    let mut encrypted = good.clone();
    encrypted[directory + 8] = 1;
    assert_eq!(refusal(&encrypted), "key 'v_template' is encrypted");
    let mut packed = good.clone();
    packed[directory + 10] = 12;
    assert_eq!(
        refusal(&packed),
        "key 'v_template' uses zip compression method 12, expected stored (0) or deflated (8)"
    );

    let mut many = good;
    let end = many.len() - 22;
    many[end + 8..end + 12].copy_from_slice(&[0xFE; 4]);
    assert!(refusal(&many).starts_with("is a zip archive that is cut off"));
}

#[test]
fn deflate_data_of_another_length_is_refused() {
    let npy = fields()[0].npy(1);
    for size in [npy.len() - 1, npy.len() + 8] {
        let entry = ZipEntry { name: "v_template.npy".into(), crc: 0, size: size as u64, packed: deflate(&npy) };
        let text = refusal(&zip_entries(&[entry], Packing::Deflated));
        assert!(text.contains("bytes"), "{text}");
    }
}

#[test]
fn damage_anywhere_is_survived() {
    for packing in [Packing::Stored, Packing::Deflated, Packing::Wide] {
        assert_robust(&npz(&fields(), packing));
    }
}
