//! Our own layout: what is saved is what is loaded, without a copy.

use std::fs;
use std::path::PathBuf;

use avatorch::model::{DType, Family, Model};

use crate::rig::{Field, Packing, assert_rig, assert_robust, fields, npz, ramp, refusal};

/// A path that is this test's own, in cargo's folder for such files.
fn scratch(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// A body file as another program might write it.
fn file(metadata: &[(&str, &str)], fields: &[Field]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let texts: serde_json::Map<_, _> =
        metadata.iter().map(|(key, text)| ((*key).to_owned(), serde_json::json!(text))).collect();
    header.insert("__metadata__".into(), texts.into());
    let mut data = Vec::new();
    for field in fields {
        let start = data.len();
        data.extend(&field.data);
        let dtype = field.descr[1..].to_uppercase();
        let bits: usize = dtype[1..].parse::<usize>().expect("the size of an element") * 8;
        let dtype = format!("{}{bits}", &dtype[..1]);
        let entry = serde_json::json!({"dtype": dtype, "shape": field.shape, "data_offsets": [start, data.len()]});
        header.insert(field.key.clone(), entry);
    }
    let header = serde_json::Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

const FORMAT: [(&str, &str); 2] = [("format", "avatorch-body"), ("version", "1")];

#[test]
fn a_saved_model_is_the_same_model() {
    let path = scratch("saved.safetensors");
    let mut model = Model::from_bytes(&npz(&fields(), Packing::Stored)).expect("a good file");
    model.joint_names = vec!["root".into(), "tip".into()];
    model.licence = Some("CC0".into());
    model.save(&path).expect("a writable folder");
    let loaded = Model::load(&path).expect("the file just written");
    assert_rig(&loaded);
    assert_eq!((loaded.joint_names, loaded.licence), (model.joint_names.clone(), model.licence.clone()));
    assert!(loaded.v_template.is_mapped() && loaded.posedirs.expect("posedirs").is_mapped());

    let first = fs::read(&path).expect("the file just written");
    model.save(&path).expect("a writable folder");
    assert_eq!(fs::read(&path).expect("the file just written"), first, "the same model is the same bytes");
}

#[test]
fn a_model_can_be_saved_over_the_file_it_is_mapped_from() {
    let path = scratch("over_itself.safetensors");
    let model = Model::from_bytes(&npz(&fields(), Packing::Stored)).expect("a good file");
    model.save(&path).expect("a writable folder");
    let mapped = Model::load(&path).expect("the file just written");
    mapped.save(&path).expect("a writable folder");
    assert_rig(&Model::load(&path).expect("the file just written"));
}

#[test]
fn sparse_weights_and_half_floats_are_widened() {
    let fields = [
        Field::new("v_template", "<f2", &[3, 3], &ramp(9)),
        Field::new("J_template", "<f2", &[3, 3], &ramp(9)),
        Field::new("parents", "<i4", &[3], &[-1.0, 0.0, 0.0]),
        Field::new("lbs_weight_joints", "<u2", &[3, 2], &[2.0, 0.0, 1.0, 2.0, 0.0, 0.0]),
        Field::new("lbs_weight_values", "<f2", &[3, 2], &[1.0, 0.0, 0.5, 0.5, 1.0, 0.0]),
        Field::new("faces", "<u2", &[1, 3], &[0.0, 1.0, 2.0]),
    ];
    let model = Model::from_bytes(&file(&FORMAT, &fields)).expect("a good file");
    assert_eq!((model.family, model.float_dtype()), (Family::Generic, Some(DType::F32)));
    assert_eq!((model.v_template.dtype(), model.v_template.to_f64()), (DType::F32, ramp(9)));
    assert_eq!(model.lbs_weights.to_f64(), [0.0, 0.0, 1.0, 0.0, 0.5, 0.5, 1.0, 0.0, 0.0]);
}

#[test]
fn directions_in_units_of_their_columns() {
    let rig = |units: &[f64]| {
        file(
            &FORMAT,
            &[
                Field::new("v_template", "<f4", &[1, 3], &ramp(3)),
                Field::new("shapedirs", "<i2", &[1, 3, 2], &[-32767.0, 2.0, 0.0, -2.0, 5.0, 4.0]),
                Field::new("shapedirs_scale", "<f4", &[units.len()], units),
                Field::new("J_template", "<f4", &[1, 3], &ramp(3)),
                Field::new("J_shapedirs", "<f4", &[1, 3, 2], &ramp(6)),
                Field::new("parents", "<i4", &[1], &[-1.0]),
                Field::new("lbs_weights", "<f4", &[1, 1], &[1.0]),
                Field::new("faces", "<u2", &[0, 3], &[]),
            ],
        )
    };
    let model = Model::from_bytes(&rig(&[0.5, 0.25])).expect("a good file");
    assert_eq!(model.shapedirs.dtype(), DType::F32);
    assert_eq!(model.shapedirs.to_f64(), [-16383.5, 0.5, 0.0, -0.5, 2.5, 1.0]);
    assert_eq!(refusal(&rig(&[0.5])), "key 'shapedirs_scale' has shape [1], expected [2]");
    assert!(refusal(&rig(&[0.5, 3e38])).contains("'shapedirs'"), "a product that is not finite");
}

#[test]
fn metadata_must_fit_the_arrays() {
    let mut layout: Vec<_> = fields().into_iter().filter(|field| field.key != "posedirs").collect();
    for field in &mut layout {
        field.key = match field.key.as_str() {
            "weights" => "lbs_weights".into(),
            "f" => "faces".into(),
            key => key.into(),
        };
    }
    let tree = layout.iter_mut().find(|field| field.key == "kintree_table").expect("the joints");
    *tree = Field::new("parents", "<i4", &[2], &[-1.0, 0.0]);
    let with = |extra: &[(&str, &str)]| file(&[&FORMAT[..], extra].concat(), &layout);

    let model = Model::from_bytes(&with(&[("num_betas", "1"), ("num_expressions", "1"), ("family", "generic")]));
    let model = model.expect("a good file");
    assert_eq!((model.family, model.num_betas, model.num_expressions), (Family::Generic, 1, 1));
    for (extra, text) in [
        (&[("family", "dog")][..], "metadata 'family' is \"dog\", which is not one of the known values"),
        (
            &[("family", "flame")],
            "metadata 'family' is \"flame\", expected \"generic\": 'parents' is another tree of joints",
        ),
        (
            &[("num_betas", "2"), ("num_expressions", "1")],
            "metadata has 2 betas and 1 expressions, expected together the 2 columns of 'shapedirs'",
        ),
        (&[("joint_names", "[\"root\"]")], "metadata 'joint_names' has 1 names, expected 2"),
    ] {
        assert_eq!(refusal(&with(extra)), text);
    }
    assert!(refusal(&with(&[("joint_names", "[1")])).starts_with("metadata 'joint_names' is not a JSON list of names"));
    assert_eq!(
        refusal(&file(&[("format", "avatorch-body"), ("version", "2")], &layout)),
        "has layout version 2, expected 1: a newer avatorch wrote it"
    );
    assert_eq!(
        refusal(&file(&[], &layout)),
        "is a safetensors file of format \"(none)\", expected \"avatorch-body\" in its metadata"
    );
}

#[test]
fn mapped_values_are_checked_too() {
    let path = scratch("not_finite.safetensors");
    let model = Model::from_bytes(&npz(&fields(), Packing::Stored)).expect("a good file");
    model.save(&path).expect("a writable folder");
    let mut bytes = fs::read(&path).expect("the file just written");
    // The last value of the ramp stands once, in posedirs.
    let last = ramp(81)[80].to_le_bytes();
    let place = bytes.windows(8).position(|window| window == last).expect("the value");
    bytes[place..place + 8].copy_from_slice(&f64::NAN.to_le_bytes());
    fs::write(&path, bytes).expect("a writable folder");
    assert_eq!(
        Model::load(&path).expect_err("a bad value").to_string(),
        format!("{}: key 'posedirs' holds NaN at [8, 8], expected finite numbers", path.display())
    );
}

#[test]
fn damage_anywhere_is_survived() {
    let path = scratch("damaged.safetensors");
    Model::from_bytes(&npz(&fields(), Packing::Stored)).expect("a good file").save(&path).expect("a writable folder");
    assert_robust(&fs::read(&path).expect("the file just written"));
}

#[cfg(unix)]
#[test]
fn a_link_is_followed_and_what_is_no_file_is_left_alone() {
    let (link, file, folder) = (scratch("link.safetensors"), scratch("behind.safetensors"), scratch("folder"));
    let model = Model::from_bytes(&npz(&fields(), Packing::Stored)).expect("a good file");
    fs::write(&file, b"old").expect("a writable folder");
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(&file, &link).expect("a writable folder");
    model.save(&link).expect("a writable folder");
    assert!(fs::symlink_metadata(&link).expect("the link").file_type().is_symlink());
    assert_rig(&Model::load(&file).expect("what the link leads to"));

    fs::create_dir_all(&folder).expect("a writable folder");
    let refused = model.save(&folder).expect_err("a folder is no file").to_string();
    assert!(refused.contains("is not a regular file"), "{refused}");
    assert!(folder.is_dir());
}

#[test]
fn a_file_that_was_cut_off_is_called_what_it_is() {
    let whole = file(&FORMAT, &fields());
    for length in [9, 100, whole.len() - 1] {
        let said = refusal(&whole[..length]);
        assert!(said.starts_with("is not a valid safetensors file: "), "{length}: {said}");
    }
}
