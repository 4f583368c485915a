//! Finding the model in a folder.

use std::fs;
use std::path::{Path, PathBuf};

use avatorch::Error;
use avatorch::model::{Family, Gender, Model};

use crate::rig::{Packing, fields, npz};

/// A folder with the rig under each of these names.
fn folder(name: &str, files: &[&str]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a writable folder");
    for file in files {
        let path = folder.join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a writable folder");
        fs::write(path, npz(&fields(), Packing::Stored)).expect("a writable folder");
    }
    folder
}

fn gender_found(folder: &Path, family: Option<Family>, gender: Option<Gender>) -> Option<Gender> {
    Model::load_from(folder, family, gender).expect("a good file").gender
}

fn refusal(folder: &Path, family: Option<Family>, gender: Option<Gender>) -> String {
    match Model::load_from(folder, family, gender) {
        Err(Error::File(path, cause)) if path == folder => cause.to_string(),
        other => panic!("expected a file error, got {other:?}"),
    }
}

#[test]
fn neutral_is_preferred() {
    let genders = folder("genders", &["SMPLX_FEMALE.npz", "SMPLX_NEUTRAL.npz", "SMPLX_MALE.npz", "notes.npz"]);
    assert_eq!(gender_found(&genders, None, None), Some(Gender::Neutral));
    assert_eq!(gender_found(&genders, None, Some(Gender::Male)), Some(Gender::Male));
    let below = folder("below", &["smplx/SMPLX_NEUTRAL.npz", "smpl/SMPL_NEUTRAL.pkl"]);
    assert_eq!(gender_found(&below, Some(Family::SmplX), None), Some(Gender::Neutral));
    let single = folder("single", &["SMPLX_MALE.npz"]);
    assert_eq!(gender_found(&single, None, None), Some(Gender::Male));
    let amass = folder("amass", &["neutral/model.npz", "male/model.npz"]);
    assert_eq!(gender_found(&amass, Some(Family::SmplH), Some(Gender::Male)), Some(Gender::Male));
}

#[test]
fn the_fastest_format_of_a_model_is_taken() {
    let formats = folder("formats", &["SMPLX_NEUTRAL.npz"]);
    Model::load(&formats).expect("a good file").save(formats.join("SMPLX_NEUTRAL.safetensors")).expect("writable");
    fs::write(formats.join("SMPLX_NEUTRAL.npz"), b"not read").expect("a writable folder");
    assert!(Model::load(&formats).expect("a good file").v_template.is_mapped());
}

#[test]
fn what_was_found_is_said_when_nothing_fits() {
    let empty = folder("empty", &["model.npz"]);
    assert_eq!(refusal(&empty, None, None), "no model file fits; found none, expected a name like SMPLX_NEUTRAL.npz");
    let one = folder("one", &["SMPLX_MALE.npz"]);
    assert_eq!(
        refusal(&one, Some(Family::SmplX), Some(Gender::Female)),
        "no model file fits (smplx, female); found SMPLX_MALE.npz; name one of them"
    );
    let two = folder("two", &["MANO_LEFT.pkl", "MANO_RIGHT.pkl"]);
    assert_eq!(
        refusal(&two, None, None),
        "several model files fit; found MANO_LEFT.pkl, MANO_RIGHT.pkl; name one of them"
    );
}

#[test]
fn files_that_cannot_be_opened_are_named() {
    let here = folder("here", &[]);
    let missing = here.join("nothing.npz");
    assert!(matches!(Model::load(&missing), Err(Error::File(path, _)) if path == missing));
    let empty = here.join("empty.npz");
    fs::write(&empty, b"").expect("a writable folder");
    assert_eq!(Model::load(&empty).expect_err("an empty file").to_string(), format!("{}: is empty", empty.display()));
    let text = here.join("text.npz");
    fs::write(&text, b"hello").expect("a writable folder");
    let error = Model::load(&text).expect_err("no model").to_string();
    assert!(error.starts_with(&format!("{}: is a damaged pickle, or none", text.display())), "{error}");
}
