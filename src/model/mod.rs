//! Model files become a [`Model`]; readers execute nothing.
//!
//! ```text
//! folder --folder--> file --npz, pickle, safetensors--> Source (named arrays, headers first)
//!                                                          |
//!                          stored (any dtype, any order) --+--> assemble --validate--> Model --save--> .safetensors
//! ```
//!
//! Every reader gives a [`source::Source`]: named arrays whose headers are known before their data is touched. Shapes
//! are checked against each other first, so that nothing is allocated on the word of a hostile file.

pub mod array;
pub mod arrays;
mod assemble;
#[cfg(feature = "python")]
pub(crate) mod dlpack;
pub mod family;
mod folder;
pub mod npy;
pub mod npz;
pub mod pickle;
mod plan;
pub mod safetensors;
mod save;
pub mod source;
pub mod stored;
mod validate;
pub mod zip;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::{MmapOptions, MmapRaw};

pub use array::{Array, DType};
pub use family::{Family, Gender, Side};

use crate::{Error, Result};
use source::Source;

/// A body ready for the operator. V vertices, F faces, J joints, C shape columns.
///
/// Floats are f32 or f64 as the file has them (f16 becomes f32), indices are i64; every array is contiguous.
#[derive(Debug)]
pub struct Model {
    pub family: Family,
    pub gender: Option<Gender>,
    /// Which hand a MANO model is.
    pub hand: Option<Side>,

    /// The first columns of `shapedirs`.
    pub num_betas: usize,
    /// The columns of `shapedirs` behind the betas; C = `num_betas` + `num_expressions`.
    pub num_expressions: usize,
    pub v_template: Array,       // [V, 3]
    pub shapedirs: Array,        // [V, 3, C], C may be 0
    pub posedirs: Option<Array>, // [9(J-1), 3V], column = 3 * vertex + xyz
    pub joints: Joints,
    pub parents: Array,     // [J] i64, root -1, parents[j] < j
    pub lbs_weights: Array, // [V, J]
    pub faces: Array,       // [F, 3] i64
    pub uv: Option<Uv>,
    pub landmarks: Option<Landmarks>,
    pub hands: Hands,

    pub joint_names: Vec<String>,
    pub shape_names: Vec<String>,
    pub expression_names: Vec<String>,
    pub licence: Option<String>,
    pub attribution: Option<String>,
    /// What is unusual about the file and was read all the same.
    pub warnings: Vec<String>,
}

/// Where rest joints come from.
#[derive(Debug)]
pub enum Joints {
    /// Regressed from the shaped vertices.
    Regressor { j_regressor: Array }, // [J, V]
    /// Blended like vertices.
    Directions {
        j_template: Array,  // [J, 3]
        j_shapedirs: Array, // [J, 3, C]
    },
}

/// Texture coordinates.
#[derive(Debug)]
pub struct Uv {
    pub vt: Array, // [T, 2]
    pub ft: Array, // [F, 3] i64
}

/// Points on faces: a face and barycentric coordinates within it.
#[derive(Debug)]
pub struct Landmarks {
    pub lmk_faces_idx: Array,   // [L] i64
    pub lmk_bary_coords: Array, // [L, 3]
    pub contour: Option<Contour>,
}

/// The face contour, by the angle of the head.
#[derive(Debug)]
pub struct Contour {
    pub dynamic_lmk_faces_idx: Array,   // [79, D] i64
    pub dynamic_lmk_bary_coords: Array, // [79, D, 3]
}

/// Principal components and mean of hand poses, named as in the files. MANO has one hand, the others two, and some
/// files have none.
#[derive(Debug, Default)]
pub struct Hands {
    pub hands_components: Option<Array>,  // [N, 45]
    pub hands_componentsl: Option<Array>, // [N, 45]
    pub hands_componentsr: Option<Array>, // [N, 45]
    pub hands_mean: Option<Array>,        // [45]
    pub hands_meanl: Option<Array>,       // [45]
    pub hands_meanr: Option<Array>,       // [45]
}

impl Model {
    /// Reads a model file, or finds one in a folder.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Self::load_from(path, None, None)
    }

    /// Like [`Model::load`]; in a folder, looks for this family and gender (neutral unless given).
    pub fn load_from(path: impl AsRef<Path>, family: Option<Family>, gender: Option<Gender>) -> Result<Self> {
        let path = path.as_ref();
        let path: PathBuf = if path.is_dir() { folder::find(path, family, gender)? } else { path.to_owned() };
        let map = map(&path)?;
        let bytes = map_bytes(&map);
        let mut model = open(bytes, Some(Arc::clone(&map)))
            .and_then(|source| assemble::assemble(&*source, bytes.len()))
            .map_err(|cause| in_file(&path, cause))?;
        model.gender = model.gender.or_else(|| Gender::from_path(&path));
        if model.family == Family::Mano {
            model.hand = model.hand.or_else(|| Side::from_path(&path));
        }
        if model.family == Family::Flame && model.landmarks.is_none() {
            model.landmarks = folder::flame_landmarks(&path, model.faces.shape()[0])?;
        }
        Ok(model)
    }

    /// Reads a model from the bytes of a file.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        assemble::assemble(&*open(bytes, None)?, bytes.len())
    }

    /// Every array of the model under the name it has in a `.safetensors` file.
    pub fn arrays(&self) -> Vec<(&'static str, &Array)> {
        let mut arrays = vec![
            ("v_template", &self.v_template),
            ("shapedirs", &self.shapedirs),
            ("parents", &self.parents),
            ("lbs_weights", &self.lbs_weights),
            ("faces", &self.faces),
        ];
        match &self.joints {
            Joints::Regressor { j_regressor } => arrays.push(("J_regressor", j_regressor)),
            Joints::Directions { j_template, j_shapedirs } => {
                arrays.extend([("J_template", j_template), ("J_shapedirs", j_shapedirs)]);
            }
        }
        if let Some(Uv { vt, ft }) = &self.uv {
            arrays.extend([("vt", vt), ("ft", ft)]);
        }
        if let Some(landmarks) = &self.landmarks {
            arrays.push(("lmk_faces_idx", &landmarks.lmk_faces_idx));
            arrays.push(("lmk_bary_coords", &landmarks.lmk_bary_coords));
            if let Some(contour) = &landmarks.contour {
                arrays.push(("dynamic_lmk_faces_idx", &contour.dynamic_lmk_faces_idx));
                arrays.push(("dynamic_lmk_bary_coords", &contour.dynamic_lmk_bary_coords));
            }
        }
        let hands = &self.hands;
        let optional = [
            ("posedirs", &self.posedirs),
            ("hands_components", &hands.hands_components),
            ("hands_componentsl", &hands.hands_componentsl),
            ("hands_componentsr", &hands.hands_componentsr),
            ("hands_mean", &hands.hands_mean),
            ("hands_meanl", &hands.hands_meanl),
            ("hands_meanr", &hands.hands_meanr),
        ];
        arrays.extend(optional.into_iter().filter_map(|(name, array)| Some((name, array.as_ref()?))));
        arrays
    }

    /// The dtype of the arrays the operator computes with, or `None` where the file mixes f32 and f64.
    pub fn float_dtype(&self) -> Option<DType> {
        let (first, second) = match &self.joints {
            Joints::Regressor { j_regressor } => (j_regressor, None),
            Joints::Directions { j_template, j_shapedirs } => (j_template, Some(j_shapedirs)),
        };
        let others = [Some(&self.shapedirs), self.posedirs.as_ref(), Some(&self.lbs_weights), Some(first), second];
        let dtype = self.v_template.dtype();
        others.into_iter().flatten().all(|array| array.dtype() == dtype).then_some(dtype)
    }
}

/// The reader for what the bytes are, whatever the file is called.
fn open<'a>(bytes: &'a [u8], map: Option<Arc<MmapRaw>>) -> Result<Box<dyn Source + 'a>> {
    if bytes.starts_with(b"PK") {
        Ok(Box::new(npz::Npz::open(bytes)?))
    } else if safetensors::is_safetensors(bytes) {
        Ok(Box::new(safetensors::Tensors::open(bytes, map)?))
    } else if npy::is_npy(bytes) {
        Ok(Box::new(pickle::PickleFile::open_npy(bytes)?))
    } else {
        Ok(Box::new(pickle::PickleFile::open(bytes)?))
    }
}

/// A private map: arrays that keep it may be written to without changing the file.
fn map(path: &Path) -> Result<Arc<MmapRaw>> {
    let failed = |cause| Error::File(path.to_owned(), cause);
    // A pipe or device would block or never end.
    let about = fs::metadata(path).map_err(failed)?;
    if !about.is_file() || about.len() == 0 {
        let what = if about.is_file() { "is empty" } else { "is no regular file" };
        return Err(in_file(path, Error::Value(what.into())));
    }
    let file = File::open(path).map_err(failed)?;
    // SAFETY: the map is private to us. A file that another process shortens meanwhile raises SIGBUS, as with every
    // memory map; `docs/model-format.md` says so.
    let map = unsafe { MmapOptions::new().map_copy(&file) }.map_err(failed)?;
    Ok(Arc::new(map.into()))
}

/// All bytes of a map.
fn map_bytes(map: &MmapRaw) -> &[u8] {
    // SAFETY: the slice covers exactly the map, whose borrow keeps it alive, and nobody writes to it meanwhile: arrays
    // give no mutable views before loading is over.
    unsafe { std::slice::from_raw_parts(map.as_ptr(), map.len()) }
}

/// The same error with the file's name in front.
fn in_file(path: &Path, cause: Error) -> Error {
    match cause {
        Error::Value(text) => Error::Value(format!("{}: {text}", path.display())),
        Error::Unsupported(text) => Error::Unsupported(format!("{}: {text}", path.display())),
        other => other,
    }
}
