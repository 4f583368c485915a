//! Which arrays of a file make up the model, with shapes that fit each other: decided from headers alone.

use super::array::DType;
use super::source::Source;
use super::stored::Header;
use crate::{Error, Result};

/// A compressed or sparse file may grow to this many times its size, or to `SMALL_MODEL` if that is more.
const MAX_GROWTH: usize = 16;
const SMALL_MODEL: usize = 256 << 20;

/// One array of the file: the name it has there, and its header.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: &'static str,
    pub(super) header: Header,
}

/// Every array of the model under the name it has in the file. V vertices, J joints, C shape columns.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) vertices: usize,
    pub(super) joints: usize,
    pub(super) columns: usize,
    pub(super) v_template: Entry,        // [V, 3]
    pub(super) shapedirs: Option<Entry>, // [V, 3, C]
    pub(super) scale: Option<Entry>,     // [C], the unit of each column of shapedirs
    pub(super) posedirs: Option<Entry>,  // [V, 3, 9(J-1)], or [9(J-1), 3V] in the operator's layout
    pub(super) joint_source: JointSource,
    pub(super) parents: Entry, // [J], or [2, J] with the parents in the first row
    pub(super) weights: Weights,
    pub(super) faces: Entry,                      // [F, 3]
    pub(super) uv: Option<(Entry, Entry)>,        // [T, 2], [F, 3]
    pub(super) landmarks: Option<(Entry, Entry)>, // [L], [L, 3]
    pub(super) contour: Option<(Entry, Entry)>,   // [79, D], [79, D, 3]
    pub(super) hands: Hands,
}

#[derive(Debug)]
pub(super) enum JointSource {
    Regressor(Entry),                 // [J, V]
    Directions(Entry, Option<Entry>), // [J, 3], [J, 3, C]
}

#[derive(Debug)]
pub(super) enum Weights {
    Dense(Entry),                            // [V, J]
    Sparse { joints: Entry, values: Entry }, // [V, K] each
}

#[derive(Debug)]
pub(super) struct Hands {
    pub(super) components: [Option<Entry>; 3], // one hand, left, right: [N, 45]
    pub(super) means: [Option<Entry>; 3],      // one hand, left, right: [45]
}

/// Vertices or joints, so that sizes computed from their number cannot overflow.
const MAX_COUNT: usize = 1 << 28;
/// Rows of the contour table: one per degree of head rotation, -39 to 39.
const CONTOUR_ROWS: usize = 79;
/// Three joints in each of five fingers, three numbers each.
const HAND_POSE: usize = 45;

/// What an axis must be: a size, or `None` for any.
type Sizes<'a> = &'a [Option<usize>];

impl Plan {
    pub(super) fn new(source: &dyn Source) -> Result<Self> {
        let v_template = need(source, &["v_template"])?;
        check(&v_template, &[None, Some(3)])?;
        let vertices = v_template.header.shape[0];

        let parents = need(source, &["kintree_table", "parents"])?;
        match parents.key {
            "parents" => check(&parents, &[None])?,
            _ => check(&parents, &[Some(2), None])?,
        }
        let joints = parents.header.shape[parents.header.shape.len() - 1];
        for (key, what, count) in [("v_template", "vertices", vertices), (parents.key, "joints", joints)] {
            if !(1..=MAX_COUNT).contains(&count) {
                return Err(Error::Value(format!("key '{key}' holds {count} {what}, expected 1 to {MAX_COUNT}")));
            }
        }

        let mut shapedirs = find(source, &["shapedirs"])?;
        if let Some(entry) = &mut shapedirs {
            unflatten(entry, vertices);
            check(entry, &[Some(vertices), Some(3), None])?;
        }
        let columns = shapedirs.as_ref().map_or(0, |entry| entry.header.shape[2]);
        let scale = find(source, &["shapedirs_scale"])?;
        if let Some(entry) = &scale {
            check(entry, &[Some(columns)])?;
        }
        let features = 9 * (joints - 1);
        let mut posedirs = find(source, &["posedirs"])?;
        if let Some(entry) = &mut posedirs {
            unflatten(entry, vertices);
            match entry.header.shape.len() {
                2 => check(entry, &[Some(features), Some(3 * vertices)])?,
                _ => check(entry, &[Some(vertices), Some(3), Some(features)])?,
            }
        }

        let faces = need(source, &["f", "faces"])?;
        check(&faces, &[None, Some(3)])?;
        let uv = pair(source, "vt", "ft")?;
        if let Some((vt, ft)) = &uv {
            check(vt, &[None, Some(2)])?;
            check(ft, &[Some(faces.header.shape[0]), Some(3)])?;
        }
        let landmarks = pair(source, "lmk_faces_idx", "lmk_bary_coords")?;
        let contour = pair(source, "dynamic_lmk_faces_idx", "dynamic_lmk_bary_coords")?;
        check_landmarks(landmarks.as_ref(), contour.as_ref())?;

        let plan = Self {
            joint_source: JointSource::find(source, vertices, joints, columns)?,
            weights: Weights::find(source, vertices, joints)?,
            hands: Hands::find(source)?,
            posedirs: posedirs.filter(|_| features > 0),
            vertices,
            joints,
            columns,
            v_template,
            shapedirs,
            scale,
            parents,
            faces,
            uv,
            landmarks,
            contour,
        };
        Ok(plan)
    }

    /// Refuses a file that is small only because it is packed beyond reason.
    pub(super) fn check_growth(&self, file_size: usize) -> Result<()> {
        let limit = file_size.saturating_mul(MAX_GROWTH).max(SMALL_MODEL);
        let mut total = 0_usize;
        let mut add = |count: Option<usize>, size: usize| {
            let bytes = count.and_then(|count| count.checked_mul(size)).unwrap_or(usize::MAX);
            total = total.saturating_add(bytes);
        };
        for entry in self.entries() {
            // Integers are widened to i64, half floats to f32.
            let size = if entry.header.kind.float_dtype() == DType::F32 { 4 } else { 8 };
            add(entry.header.count(), size);
        }
        if let Weights::Sparse { values, .. } = &self.weights {
            add(self.vertices.checked_mul(self.joints), values.header.kind.float_dtype().size());
        }
        if total <= limit {
            return Ok(());
        }
        Err(Error::Value(format!(
            "unpacks to {total} bytes from a file of {file_size}, expected at most {limit}: refused as a likely zip bomb"
        )))
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        let joint_source = match &self.joint_source {
            JointSource::Regressor(regressor) => [Some(regressor), None],
            JointSource::Directions(template, directions) => [Some(template), directions.as_ref()],
        };
        let weights = match &self.weights {
            Weights::Dense(dense) => [Some(dense), None],
            Weights::Sparse { joints, values } => [Some(joints), Some(values)],
        };
        let pairs = [&self.uv, &self.landmarks, &self.contour];
        [
            Some(&self.v_template),
            Some(&self.parents),
            Some(&self.faces),
            self.shapedirs.as_ref(),
            self.scale.as_ref(),
            self.posedirs.as_ref(),
        ]
        .into_iter()
        .chain(joint_source)
        .chain(weights)
        .chain(pairs.into_iter().flatten().flat_map(|(first, second)| [Some(first), Some(second)]))
        .chain(self.hands.components.iter().map(Option::as_ref))
        .chain(self.hands.means.iter().map(Option::as_ref))
        .flatten()
    }
}

impl JointSource {
    fn find(source: &dyn Source, vertices: usize, joints: usize, columns: usize) -> Result<Self> {
        if let Some(regressor) = find(source, &["J_regressor"])? {
            check(&regressor, &[Some(joints), Some(vertices)])?;
            return Ok(Self::Regressor(regressor));
        }
        let directions = find(source, &["J_shapedirs"])?;
        if let Some(directions) = &directions {
            check(directions, &[Some(joints), Some(3), Some(columns)])?;
        }
        match find(source, &["J_template"])? {
            Some(template) if directions.is_some() || columns == 0 => {
                check(&template, &[Some(joints), Some(3)])?;
                Ok(Self::Directions(template, directions))
            }
            _ => Err(missing(source, "'J_regressor', or 'J_template' and 'J_shapedirs'")),
        }
    }
}

impl Weights {
    fn find(source: &dyn Source, vertices: usize, joints: usize) -> Result<Self> {
        if let Some(dense) = find(source, &["weights", "lbs_weights"])? {
            check(&dense, &[Some(vertices), Some(joints)])?;
            return Ok(Self::Dense(dense));
        }
        match pair(source, "lbs_weight_joints", "lbs_weight_values")? {
            Some((joints, values)) => {
                check(&joints, &[Some(vertices), None])?;
                check(&values, &[Some(vertices), Some(joints.header.shape[1])])?;
                Ok(Self::Sparse { joints, values })
            }
            None => Err(missing(source, "'weights'")),
        }
    }
}

impl Hands {
    fn find(source: &dyn Source) -> Result<Self> {
        let components = ["hands_components", "hands_componentsl", "hands_componentsr"].map(|key| find(source, &[key]));
        let means = ["hands_mean", "hands_meanl", "hands_meanr"].map(|key| find(source, &[key]));
        let hands = Self { components: all(components)?, means: all(means)? };
        for entry in hands.components.iter().flatten() {
            check(entry, &[None, Some(HAND_POSE)])?;
        }
        for entry in hands.means.iter().flatten() {
            check(entry, &[Some(HAND_POSE)])?;
        }
        Ok(hands)
    }
}

fn all([first, second, third]: [Result<Option<Entry>>; 3]) -> Result<[Option<Entry>; 3]> {
    Ok([first?, second?, third?])
}

/// The shapes of landmarks and contour, wherever they come from.
pub(super) fn check_landmarks(landmarks: Option<&(Entry, Entry)>, contour: Option<&(Entry, Entry)>) -> Result<()> {
    if let Some((faces, coordinates)) = landmarks {
        check(faces, &[None])?;
        check(coordinates, &[Some(faces.header.shape[0]), Some(3)])?;
    }
    if let Some((faces, coordinates)) = contour {
        check(faces, &[Some(CONTOUR_ROWS), None])?;
        check(coordinates, &[Some(CONTOUR_ROWS), Some(faces.header.shape[1]), Some(3)])?;
    }
    Ok(())
}

/// The array under the first of its names that the file has.
pub(super) fn find(source: &dyn Source, keys: &[&'static str]) -> Result<Option<Entry>> {
    for &key in keys {
        if let Some(header) = source.header(key).map_err(|cause| in_key(key, cause))? {
            if let Some(what) = header.kind.not_numbers() {
                return Err(Error::Value(format!("key '{key}' holds {what}, expected numbers")));
            }
            return Ok(Some(Entry { key, header }));
        }
    }
    Ok(None)
}

pub(super) fn need(source: &dyn Source, keys: &[&'static str]) -> Result<Entry> {
    find(source, keys)?.ok_or_else(|| {
        let names: Vec<_> = keys.iter().map(|key| format!("'{key}'")).collect();
        missing(source, &names.join(" or "))
    })
}

/// Two arrays of which neither makes sense alone.
pub(super) fn pair(source: &dyn Source, first: &'static str, second: &'static str) -> Result<Option<(Entry, Entry)>> {
    match (find(source, &[first])?, find(source, &[second])?) {
        (Some(first), Some(second)) => Ok(Some((first, second))),
        (None, None) => Ok(None),
        (found, _) => {
            let (has, lacks) = if found.is_some() { (first, second) } else { (second, first) };
            Err(Error::Value(format!("has key '{has}' without '{lacks}', expected both or neither")))
        }
    }
}

fn missing(source: &dyn Source, what: &str) -> Error {
    /// Keys named in an error.
    const LISTED: usize = 20;
    let keys = source.keys();
    let more = if keys.len() > LISTED { ", ..." } else { "" };
    let listed: Vec<_> = keys.iter().take(LISTED).map(|key| key.chars().take(40).collect::<String>()).collect();
    Error::Value(format!("has no key {what}; found: {}{more}", listed.join(", ")))
}

/// Some files hold `[V, 3, N]` as one long row.
fn unflatten(entry: &mut Entry, vertices: usize) {
    if let [length] = entry.header.shape[..]
        && length.is_multiple_of(3 * vertices)
    {
        entry.header.shape = vec![vertices, 3, length / (3 * vertices)];
    }
}

pub(super) fn check(entry: &Entry, sizes: Sizes) -> Result<()> {
    let shape = &entry.header.shape;
    let fits = shape.len() == sizes.len()
        && shape.iter().zip(sizes).all(|(size, wanted)| wanted.is_none_or(|wanted| *size == wanted));
    if fits {
        return Ok(());
    }
    let wanted: Vec<_> = sizes.iter().map(|size| size.map_or("any".into(), |size| size.to_string())).collect();
    Err(Error::Value(format!("key '{}' has shape {shape:?}, expected [{}]", entry.key, wanted.join(", "))))
}

/// The same error with the key in front.
pub(super) fn in_key(key: &str, cause: Error) -> Error {
    match cause {
        Error::Value(text) => Error::Value(format!("key '{key}' {text}")),
        other => other,
    }
}
