//! Named arrays become a [`Model`]: the same steps for every file format.
//!
//! 1. `plan`: which arrays there are, and that their shapes fit each other.
//! 2. Read them, in two halves at once: `posedirs` is one.
//! 3. Recognise the family, and `validate` the values.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::AddAssign;
use std::thread;

use super::array::{Array, DType, Element};
use super::family::{Family, Gender, ShapeColumns, Side};
use super::plan::{Entry, JointSource, Plan, Weights, in_key};
use super::source::Source;
use super::stored::{self, Kind};
use super::{Contour, Hands, Joints, Landmarks, Model, Uv, validate};
use crate::{Error, Result};

/// Builds the model of a file of `file_size` bytes.
pub(super) fn assemble(source: &dyn Source, file_size: usize) -> Result<Model> {
    let plan = Plan::new(source)?;
    plan.check_growth(file_size)?;
    let (posedirs, model) = thread::scope(|scope| {
        let posedirs = scope.spawn(|| plan.posedirs.as_ref().map(|entry| read_posedirs(source, entry)).transpose());
        let model = read_all_but_posedirs(source, &plan);
        (posedirs.join(), model)
    });
    let mut model = model?;
    model.posedirs = posedirs.map_err(|_| Error::Runtime("the thread that reads 'posedirs' failed".into()))??;
    Ok(model)
}

fn read_all_but_posedirs(source: &dyn Source, plan: &Plan) -> Result<Model> {
    let metadata = Metadata { entries: source.metadata() };
    let mut warnings = Vec::new();
    let parents = read_parents(source, &plan.parents, &mut warnings)?;
    let family = match metadata.parsed("family", Family::from_name)? {
        Some(family) if family != Family::Generic && family.parents() != parents => {
            return Err(Error::Value(format!(
                "metadata 'family' is {:?}, expected \"generic\": 'parents' is another tree of joints",
                family.name()
            )));
        }
        Some(family) => family,
        // Without both of these a rig of the same joints is no body of the family.
        None if matches!(plan.joint_source, JointSource::Directions(..)) || plan.posedirs.is_none() => Family::Generic,
        None => Family::from_parents(&parents),
    };
    let split = metadata.shape_columns(plan.columns)?.unwrap_or_else(|| family.split_columns(plan.columns));
    let used = split.betas + split.expressions;
    if used < plan.columns {
        warnings.push(format!(
            "'shapedirs' has {} columns, of which {} uses the first {used}",
            plan.columns,
            family.name()
        ));
    }
    let lbs_weights = read_weights(source, plan)?;
    validate::weights(&lbs_weights, &mut warnings);
    let faces = read_indices(source, &plan.faces, plan.vertices)?;
    let v_template = read_floats(source, &plan.v_template)?;
    let directions = |entry: Option<&Entry>, scale: Option<&Entry>, rows: usize| match (entry, v_template.dtype()) {
        (Some(entry), _) => {
            let array = read_floats(source, entry)?;
            first_columns(scale.map_or(Ok(array.clone()), |scale| scaled(&array, &read_floats(source, scale)?))?, used)
        }
        (None, DType::F32) => Array::new::<f32>(&[rows, 3, 0], &[]),
        (None, _) => Array::new::<f64>(&[rows, 3, 0], &[]),
    };

    Ok(Model {
        family,
        gender: metadata.parsed("gender", Gender::from_name)?,
        hand: metadata.parsed("hand", Side::from_name)?,
        num_betas: split.betas,
        num_expressions: split.expressions,
        shapedirs: directions(plan.shapedirs.as_ref(), plan.scale.as_ref(), plan.vertices)?,
        posedirs: None,
        joints: match &plan.joint_source {
            JointSource::Regressor(entry) => Joints::Regressor { j_regressor: read_floats(source, entry)? },
            JointSource::Directions(template, entry) => Joints::Directions {
                j_template: read_floats(source, template)?,
                j_shapedirs: directions(entry.as_ref(), None, plan.joints)?,
            },
        },
        v_template,
        parents: Array::new(&[plan.joints], &parents)?,
        lbs_weights,
        uv: read_uv(source, plan)?,
        landmarks: read_landmarks(source, plan.landmarks.as_ref(), plan.contour.as_ref(), faces.shape()[0])?,
        faces,
        hands: read_hands(source, plan)?,
        joint_names: metadata.names("joint_names", plan.joints)?,
        shape_names: metadata.names("shape_names", split.betas)?,
        expression_names: metadata.names("expression_names", split.expressions)?,
        licence: metadata.text("licence").map(str::to_owned),
        attribution: metadata.text("attribution").map(str::to_owned),
        warnings,
    })
}

/// The data of an array, which must be what its header says.
fn data<'a>(source: &'a dyn Source, entry: &Entry) -> Result<Cow<'a, [u8]>> {
    source.data(entry.key).map_err(|cause| in_key(entry.key, cause))
}

/// The array's own memory, where the file is mapped and holds it in the right form.
fn borrow(source: &dyn Source, entry: &Entry) -> Option<Array> {
    let dtype = match entry.header.kind {
        Kind::F32 => DType::F32,
        Kind::F64 => DType::F64,
        _ => return None,
    };
    let (map, offset) = source.mapped(entry.key)?;
    Array::mapped(dtype, &entry.header.shape, map, offset)
}

pub(super) fn read_floats(source: &dyn Source, entry: &Entry) -> Result<Array> {
    let array = match borrow(source, entry) {
        Some(array) => array,
        None => stored::floats(&entry.header, &data(source, entry)?).map_err(|cause| in_key(entry.key, cause))?,
    };
    validate::finite(entry.key, &array)?;
    Ok(array)
}

/// `[V, 3, 9(J-1)]` is transposed to the operator's `[9(J-1), 3V]`.
fn read_posedirs(source: &dyn Source, entry: &Entry) -> Result<Array> {
    if entry.header.shape.len() == 2 {
        return read_floats(source, entry);
    }
    let array = stored::transposed_floats(&entry.header, &data(source, entry)?);
    let array = array.map_err(|cause| in_key(entry.key, cause))?;
    validate::finite(entry.key, &array)?;
    Ok(array)
}

/// Indices of at least 0 and below `limit`.
pub(super) fn read_indices(source: &dyn Source, entry: &Entry, limit: usize) -> Result<Array> {
    let array = read_integers(source, entry)?;
    validate::indices(entry.key, array.as_slice().unwrap_or_default(), limit)?;
    Ok(array)
}

fn read_integers(source: &dyn Source, entry: &Entry) -> Result<Array> {
    stored::indices(&entry.header, &data(source, entry)?).map_err(|cause| in_key(entry.key, cause))
}

/// The parent of every joint, the root's set to -1: files have 4294967295 there, or anything else.
fn read_parents(source: &dyn Source, entry: &Entry, warnings: &mut Vec<String>) -> Result<Vec<i64>> {
    let array = read_integers(source, entry)?;
    let mut values = array.as_slice::<i64>().unwrap_or_default().to_vec();
    let joints = entry.header.shape[entry.header.shape.len() - 1];
    let ids = values.split_off(joints);
    if !ids.iter().copied().eq(0..ids.len() as i64) {
        warnings.push(format!("'{}' numbers its joints in another order than 0, 1, 2, ...; ignored", entry.key));
    }
    if (1..joints as i64).contains(&values[0]) {
        warnings.push(format!("'{}' gives joint 0 the parent {}; it is taken as the root", entry.key, values[0]));
    }
    values[0] = -1;
    validate::parents(entry.key, &values)?;
    Ok(values)
}

fn read_weights(source: &dyn Source, plan: &Plan) -> Result<Array> {
    match &plan.weights {
        Weights::Dense(entry) => read_floats(source, entry),
        Weights::Sparse { joints, values } => {
            let joints = read_indices(source, joints, plan.joints)?;
            let values = read_floats(source, values)?;
            match values.dtype() {
                DType::F32 => dense_weights::<f32>(&joints, &values, plan.joints),
                _ => dense_weights::<f64>(&joints, &values, plan.joints),
            }
        }
    }
}

/// `[V, K]` joints and values to `[V, J]`. Padding adds 0 to joint 0.
fn dense_weights<T: Element + AddAssign>(indices: &Array, values: &Array, joints: usize) -> Result<Array> {
    let (vertices, influences) = (indices.shape()[0], indices.shape()[1]);
    let indices = indices.as_slice::<i64>().unwrap_or_default();
    let values = values.as_slice::<T>().unwrap_or_default();
    Array::filled(&[vertices, joints], |dense: &mut [T]| {
        for (place, (&joint, &value)) in indices.iter().zip(values).enumerate() {
            dense[place / influences * joints + joint as usize] += value;
        }
        Ok(())
    })
}

/// `[V, 3, C]` in units of `[C]`, as wide as the units.
fn scaled(array: &Array, units: &Array) -> Result<Array> {
    let (values, factors) = (array.to_f64(), units.to_f64());
    let products = values.iter().zip(factors.iter().cycle()).map(|(value, factor)| value * factor);
    let scaled = match units.dtype() {
        DType::F32 => Array::new(array.shape(), &products.map(|product| product as f32).collect::<Vec<_>>()),
        _ => Array::new(array.shape(), &products.collect::<Vec<_>>()),
    }?;
    validate::finite("shapedirs", &scaled)?;
    Ok(scaled)
}

/// `[rows, 3, C]` to `[rows, 3, used]`.
fn first_columns(array: Array, used: usize) -> Result<Array> {
    match array.dtype() {
        _ if used == array.shape()[2] => Ok(array),
        DType::F32 => cut::<f32>(&array, used),
        _ => cut::<f64>(&array, used),
    }
}

fn cut<T: Element>(array: &Array, used: usize) -> Result<Array> {
    let [rows, axes, columns] = array.shape().try_into().unwrap_or_default();
    let values = array.as_slice::<T>().unwrap_or_default();
    Array::filled(&[rows, axes, used], |kept: &mut [T]| {
        for (kept, all) in kept.chunks_exact_mut(used.max(1)).zip(values.chunks_exact(columns)) {
            kept.copy_from_slice(&all[..used]);
        }
        Ok(())
    })
}

fn read_uv(source: &dyn Source, plan: &Plan) -> Result<Option<Uv>> {
    let Some((vt, ft)) = &plan.uv else { return Ok(None) };
    let ft = read_indices(source, ft, vt.header.shape[0])?;
    Ok(Some(Uv { vt: read_floats(source, vt)?, ft }))
}

/// Landmarks, and the contour where there is one.
pub(super) fn read_landmarks(
    source: &dyn Source,
    landmarks: Option<&(Entry, Entry)>,
    contour: Option<&(Entry, Entry)>,
    faces: usize,
) -> Result<Option<Landmarks>> {
    let Some((indices, coordinates)) = landmarks else { return Ok(None) };
    Ok(Some(Landmarks {
        lmk_faces_idx: read_indices(source, indices, faces)?,
        lmk_bary_coords: read_floats(source, coordinates)?,
        contour: read_contour(source, contour, faces)?,
    }))
}

pub(super) fn read_contour(
    source: &dyn Source,
    contour: Option<&(Entry, Entry)>,
    faces: usize,
) -> Result<Option<Contour>> {
    let Some((indices, coordinates)) = contour else { return Ok(None) };
    Ok(Some(Contour {
        dynamic_lmk_faces_idx: read_indices(source, indices, faces)?,
        dynamic_lmk_bary_coords: read_floats(source, coordinates)?,
    }))
}

fn read_hands(source: &dyn Source, plan: &Plan) -> Result<Hands> {
    let read = |entry: &Option<Entry>| entry.as_ref().map(|entry| read_floats(source, entry)).transpose();
    let ([one, left, right], [mean, left_mean, right_mean]) = (&plan.hands.components, &plan.hands.means);
    Ok(Hands {
        hands_components: read(one)?,
        hands_componentsl: read(left)?,
        hands_componentsr: read(right)?,
        hands_mean: read(mean)?,
        hands_meanl: read(left_mean)?,
        hands_meanr: read(right_mean)?,
    })
}

/// The text that a `.safetensors` file carries; other formats have none.
struct Metadata<'a> {
    entries: Option<&'a HashMap<String, String>>,
}

impl Metadata<'_> {
    fn text(&self, key: &str) -> Option<&str> {
        self.entries?.get(key).map(String::as_str)
    }

    fn parsed<T>(&self, key: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>> {
        let Some(text) = self.text(key) else { return Ok(None) };
        let wrong = || Error::Value(format!("metadata '{key}' is {text:?}, which is not one of the known values"));
        parse(text).map(Some).ok_or_else(wrong)
    }

    /// `num_betas` and `num_expressions`, which together are all columns.
    fn shape_columns(&self, columns: usize) -> Result<Option<ShapeColumns>> {
        let number = |key| self.parsed(key, |text| text.parse::<usize>().ok());
        let (Some(betas), Some(expressions)) = (number("num_betas")?, number("num_expressions")?) else {
            return Ok(None);
        };
        if betas.checked_add(expressions) == Some(columns) {
            return Ok(Some(ShapeColumns { betas, expressions }));
        }
        Err(Error::Value(format!(
            "metadata has {betas} betas and {expressions} expressions, expected together the {columns} columns of 'shapedirs'"
        )))
    }

    /// A JSON list of as many names as there are things to name; empty where absent.
    fn names(&self, key: &str, count: usize) -> Result<Vec<String>> {
        let Some(text) = self.text(key) else { return Ok(Vec::new()) };
        let names: Vec<String> = serde_json::from_str(text)
            .map_err(|cause| Error::Value(format!("metadata '{key}' is not a JSON list of names: {cause}")))?;
        if names.len() == count || names.is_empty() {
            return Ok(names);
        }
        Err(Error::Value(format!("metadata '{key}' has {} names, expected {count}", names.len())))
    }
}
