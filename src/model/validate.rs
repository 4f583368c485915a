//! Values that no shape check can judge: finite numbers, indices in range, a tree of joints, weights that add up.

use super::array::{Array, DType};
use crate::{Error, Result};

/// How far the weights of a vertex may add up to other than 1; float16 files are off by this much.
const WEIGHT_SUM_TOLERANCE: f64 = 1e-3;
/// Elements checked at once, without a branch.
const CHUNK: usize = 1024;

/// Refuses NaN and infinity.
pub(super) fn finite(key: &str, array: &Array) -> Result<()> {
    let found = match array.dtype() {
        DType::F32 => first_not(array.as_slice::<f32>().unwrap_or_default(), f32::is_finite)
            .map(|(place, value)| (place, f64::from(value))),
        DType::F64 => first_not(array.as_slice::<f64>().unwrap_or_default(), f64::is_finite),
        DType::I64 => None,
    };
    let Some((place, value)) = found else { return Ok(()) };
    let position = position(array.shape(), place);
    Err(Error::Value(format!("key '{key}' holds {value} at {position:?}, expected finite numbers")))
}

fn first_not<T: Copy>(values: &[T], finite: impl Fn(T) -> bool) -> Option<(usize, T)> {
    let bad = |value: &T| !finite(*value);
    let chunk = values.chunks(CHUNK).position(|chunk| chunk.iter().fold(false, |found, value| found | bad(value)))?;
    let place = chunk * CHUNK + values[chunk * CHUNK..].iter().position(bad)?;
    Some((place, values[place]))
}

/// The index along every axis of the element at `place`.
fn position(shape: &[usize], mut place: usize) -> Vec<usize> {
    let mut position = vec![0; shape.len()];
    for (axis, &size) in shape.iter().enumerate().rev() {
        position[axis] = place % size;
        place /= size;
    }
    position
}

/// Refuses indices outside `0..limit`.
pub(super) fn indices(key: &str, values: &[i64], limit: usize) -> Result<()> {
    match values.iter().find(|&&value| !usize::try_from(value).is_ok_and(|value| value < limit)) {
        None => Ok(()),
        Some(value) => Err(Error::Value(format!("key '{key}' holds index {value}, expected 0 to below {limit}"))),
    }
}

/// Every joint but the root must have an earlier joint as parent: no cycles, no second root.
pub(super) fn parents(key: &str, parents: &[i64]) -> Result<()> {
    match (1..parents.len()).find(|&joint| !(0..joint as i64).contains(&parents[joint])) {
        None => Ok(()),
        Some(joint) => Err(Error::Value(format!(
            "key '{key}' gives joint {joint} the parent {}, expected an earlier joint, 0 to {}",
            parents[joint],
            joint - 1
        ))),
    }
}

/// Warns about negative weights and about vertices whose weights do not add up to 1.
pub(super) fn weights(weights: &Array, warnings: &mut Vec<String>) {
    let joints = weights.shape()[1];
    let sums: Vec<(f64, bool)> = match weights.dtype() {
        DType::F32 => rows(weights.as_slice::<f32>().unwrap_or_default(), joints),
        _ => rows(weights.as_slice::<f64>().unwrap_or_default(), joints),
    };
    let off = |sum: f64| (sum - 1.0).abs();
    let wrong: Vec<_> = sums.iter().filter(|(sum, _)| off(*sum) > WEIGHT_SUM_TOLERANCE).collect();
    if let Some((worst, _)) = wrong.iter().max_by(|a, b| off(a.0).total_cmp(&off(b.0))) {
        let count = wrong.len();
        warnings.push(format!("the skinning weights of {count} vertices do not add up to 1 (the worst: {worst})"));
    }
    let negative = sums.iter().filter(|(_, negative)| *negative).count();
    if negative > 0 {
        warnings.push(format!("{negative} vertices have negative skinning weights"));
    }
}

/// The sum of every row, and whether it has a negative entry.
fn rows<T: Copy + Into<f64>>(values: &[T], columns: usize) -> Vec<(f64, bool)> {
    let row = |row: &[T]| {
        row.iter().fold((0.0, false), |(sum, negative), &value| (sum + value.into(), negative | (value.into() < 0.0)))
    };
    values.chunks_exact(columns).map(row).collect()
}
