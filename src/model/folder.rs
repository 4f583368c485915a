//! Model files by their usual names: in a folder, in a folder per family, and FLAME's side files.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::assemble::{read_contour, read_landmarks};
use super::family::{Family, Gender, Side};
use super::plan::{Entry, check_landmarks, need};
use super::source::Source;
use super::{Contour, Landmarks, in_file, map_bytes, open};
use crate::{Error, Result};

/// File types, the fastest first.
const EXTENSIONS: [&str; 3] = ["safetensors", "npz", "pkl"];
const FLAME_STATIC: &str = "flame_static_embedding.pkl";
const FLAME_DYNAMIC: &str = "flame_dynamic_embedding.npy";

/// A file with a name such as `SMPLX_NEUTRAL.npz` or `MANO_LEFT.pkl`.
struct Candidate {
    path: PathBuf,
    family: Family,
    gender: Option<Gender>,
    /// Its place in [`EXTENSIONS`].
    rank: usize,
}

/// The model file of a folder: of this family if given, of this gender or else neutral.
pub(super) fn find(folder: &Path, family: Option<Family>, gender: Option<Gender>) -> Result<PathBuf> {
    let found = candidates(folder);
    let mut matching: Vec<_> = found.iter().filter(|file| family.is_none_or(|family| file.family == family)).collect();
    match gender {
        Some(gender) => matching.retain(|file| file.gender.is_none_or(|its| its == gender)),
        None if matching.iter().any(|file| file.gender == Some(Gender::Neutral)) => {
            matching.retain(|file| file.gender.is_none_or(|its| its == Gender::Neutral));
        }
        None => {}
    }
    // The same model in two formats is one model.
    let best = matching.iter().min_by_key(|file| file.rank);
    let same = |a: &Candidate, b: &Candidate| a.path.with_extension("") == b.path.with_extension("");
    match best {
        Some(best) if matching.iter().all(|file| same(file, best)) => Ok(best.path.clone()),
        _ => Err(not_found(folder, family, gender, &found, best.is_some())),
    }
}

fn not_found(
    folder: &Path,
    family: Option<Family>,
    gender: Option<Gender>,
    found: &[Candidate],
    several: bool,
) -> Error {
    let mut text = String::from(if several { "several model files fit" } else { "no model file fits" });
    let wanted: Vec<_> = [family.map(Family::name), gender.map(Gender::name)].into_iter().flatten().collect();
    if !wanted.is_empty() {
        let _ = write!(text, " ({})", wanted.join(", "));
    }
    let names: Vec<_> =
        found.iter().map(|file| file.path.strip_prefix(folder).unwrap_or(&file.path).display().to_string()).collect();
    if names.is_empty() {
        text.push_str("; found none, expected a name like SMPLX_NEUTRAL.npz");
    } else {
        let _ = write!(text, "; found {}; name one of them", names.join(", "));
    }
    let kind = if several { io::ErrorKind::InvalidInput } else { io::ErrorKind::NotFound };
    Error::File(folder.to_owned(), io::Error::new(kind, text))
}

/// Every model file in the folder itself, in folders named like a family, and in AMASS's `{gender}/model.npz`.
fn candidates(folder: &Path) -> Vec<Candidate> {
    let families = Family::ALL.map(|family| folder.join(family.name()));
    let mut found = Vec::new();
    for place in [folder.to_owned()].into_iter().chain(families) {
        let Ok(files) = fs::read_dir(&place) else { continue };
        found.extend(files.flatten().filter_map(|file| candidate(file.path())));
        for gender in Gender::ALL {
            let path = place.join(gender.name()).join("model.npz");
            if path.is_file() {
                found.push(Candidate { path, family: Family::SmplH, gender: Some(gender), rank: 1 });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn candidate(path: PathBuf) -> Option<Candidate> {
    let extension = path.extension()?.to_str()?.to_lowercase();
    let rank = EXTENSIONS.iter().position(|&known| known == extension)?;
    let name = path.file_stem()?.to_str()?.to_lowercase();
    let (family, variant) = name.split_once('_')?;
    let family = Family::from_name(family).filter(|&family| family != Family::Generic)?;
    let gender = Gender::from_name(variant);
    let known = gender.is_some() || (family == Family::Mano && Side::from_name(variant).is_some());
    (known && path.is_file()).then_some(Candidate { path, family, gender, rank })
}

/// The landmarks that FLAME keeps in two files beside the model, where those are there.
pub(super) fn flame_landmarks(model: &Path, faces: usize) -> Result<Option<Landmarks>> {
    let beside = |name: &str| Some(model.with_file_name(name)).filter(|path| path.is_file());
    let Some(path) = beside(FLAME_STATIC) else { return Ok(None) };
    let landmarks = read_side_file(&path, |source| {
        let entries = side_entries(source)?;
        check_landmarks(Some(&entries), None)?;
        read_landmarks(source, Some(&entries), None, faces)
    })?;
    let contour = match beside(FLAME_DYNAMIC) {
        Some(path) => read_side_file(&path, |source| {
            let entries = side_entries(source)?;
            check_landmarks(None, Some(&entries))?;
            read_contour(source, Some(&entries), faces)
        })?,
        None => None::<Contour>,
    };
    Ok(landmarks.map(|landmarks| Landmarks { contour, ..landmarks }))
}

fn side_entries(source: &dyn Source) -> Result<(Entry, Entry)> {
    Ok((need(source, &["lmk_face_idx"])?, need(source, &["lmk_b_coords"])?))
}

fn read_side_file<T>(path: &Path, read: impl Fn(&dyn Source) -> Result<T>) -> Result<T> {
    let map = super::map(path)?;
    open(map_bytes(&map), None).and_then(|source| read(&*source)).map_err(|cause| in_file(path, cause))
}
