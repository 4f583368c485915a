//! Which body a file describes, recognised from what is in it.

use std::path::Path;

/// The body models whose files are known, and any other rig.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Smpl,
    SmplH,
    SmplX,
    Mano,
    Flame,
    Generic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gender {
    Female,
    Male,
    Neutral,
}

/// Which hand a MANO model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Left,
    Right,
}

/// Parent of every joint; the root's is -1.
const SMPL: [i64; 24] = [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21];
/// The body joints that SMPL, SMPL-H and SMPL-X share; the wrists, 20 and 21, are the last.
const BODY_JOINTS: usize = 22;
const MANO: [i64; 16] = [-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14];
const FLAME: [i64; 5] = [-1, 0, 1, 1, 1];
/// Jaw, left eye, right eye: all below the head.
const FACE: [i64; 3] = [15, 15, 15];

/// Columns of the shape space of SMPL-X 1.1 and FLAME: betas, then expressions.
const FULL_COLUMNS: (usize, usize) = (300, 100);
/// Columns of the shape space of SMPL-X 1.0.
const SHORT_COLUMNS: (usize, usize) = (10, 10);

impl Family {
    pub const ALL: [Self; 6] = [Self::Smpl, Self::SmplH, Self::SmplX, Self::Mano, Self::Flame, Self::Generic];

    pub fn name(self) -> &'static str {
        match self {
            Self::Smpl => "smpl",
            Self::SmplH => "smplh",
            Self::SmplX => "smplx",
            Self::Mano => "mano",
            Self::Flame => "flame",
            Self::Generic => "generic",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.name() == name)
    }

    /// The family with exactly this joint tree, or `Generic`.
    pub fn from_parents(parents: &[i64]) -> Self {
        [Self::Smpl, Self::SmplH, Self::SmplX, Self::Mano, Self::Flame]
            .into_iter()
            .find(|family| family.parents() == parents)
            .unwrap_or(Self::Generic)
    }

    /// The parent of every joint; empty for a generic rig.
    pub fn parents(self) -> Vec<i64> {
        let body = SMPL[..BODY_JOINTS].to_vec();
        match self {
            Self::Smpl => SMPL.to_vec(),
            Self::SmplH => with_hands(body),
            Self::SmplX => with_hands([body, FACE.to_vec()].concat()),
            Self::Mano => MANO.to_vec(),
            Self::Flame => FLAME.to_vec(),
            Self::Generic => Vec::new(),
        }
    }

    /// How many of `columns` shape directions are betas and how many expressions, and where the expressions start.
    /// Directions outside both ranges are unused, as in smplx.
    pub fn split_columns(self, columns: usize) -> ShapeColumns {
        let (betas, expressions) = match self {
            Self::SmplX | Self::Flame if columns >= FULL_COLUMNS.0 + FULL_COLUMNS.1 => FULL_COLUMNS,
            Self::SmplX | Self::Flame => {
                let betas = columns.min(SHORT_COLUMNS.0);
                (betas, (columns - betas).min(SHORT_COLUMNS.1))
            }
            _ => (columns, 0),
        };
        ShapeColumns { betas, expressions }
    }
}

/// The columns of `shapedirs`: betas first, expressions right behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShapeColumns {
    pub betas: usize,
    pub expressions: usize,
}

/// A hand is five fingers of three joints below each wrist.
fn with_hands(body: Vec<i64>) -> Vec<i64> {
    let mut parents = body;
    for wrist in [20, 21] {
        for _finger in 0..5 {
            let first = parents.len() as i64;
            parents.extend([wrist, first, first + 1]);
        }
    }
    parents
}

impl Gender {
    pub const ALL: [Self; 3] = [Self::Neutral, Self::Female, Self::Male];

    pub fn name(self) -> &'static str {
        match self {
            Self::Female => "female",
            Self::Male => "male",
            Self::Neutral => "neutral",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|gender| gender.name() == name)
    }

    /// From a file name such as `SMPLX_NEUTRAL.npz`, or the folder of `neutral/model.npz`.
    pub fn from_path(path: &Path) -> Option<Self> {
        words(path).iter().find_map(|word| Self::from_name(word))
    }
}

impl Side {
    pub fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Right => "right",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Left, Self::Right].into_iter().find(|side| side.name() == name)
    }

    /// From a file name such as `MANO_LEFT.pkl`.
    pub fn from_path(path: &Path) -> Option<Self> {
        words(path).iter().find_map(|word| Self::from_name(word))
    }
}

/// The words of a file's name, then those of its folder's, in lower case.
fn words(path: &Path) -> Vec<String> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let folder = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    [name, folder]
        .iter()
        .flat_map(|text| text.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase).collect::<Vec<_>>())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_are_those_of_the_published_models() {
        let smplh = Family::SmplH.parents();
        assert_eq!(smplh.len(), 52);
        assert_eq!(smplh[22..37], [20, 22, 23, 20, 25, 26, 20, 28, 29, 20, 31, 32, 20, 34, 35]);
        assert_eq!(smplh[37..], [21, 37, 38, 21, 40, 41, 21, 43, 44, 21, 46, 47, 21, 49, 50]);
        let smplx = Family::SmplX.parents();
        assert_eq!(smplx.len(), 55);
        assert_eq!(smplx[22..40], [15, 15, 15, 20, 25, 26, 20, 28, 29, 20, 31, 32, 20, 34, 35, 20, 37, 38]);
        assert_eq!(smplx[40..], [21, 40, 41, 21, 43, 44, 21, 46, 47, 21, 49, 50, 21, 52, 53]);
        for family in Family::ALL {
            assert_eq!(
                Family::from_parents(&family.parents()),
                if family.parents().is_empty() { Family::Generic } else { family }
            );
        }
    }

    #[test]
    fn columns_split_as_in_smplx() {
        let split = |family: Family, columns| {
            let columns = family.split_columns(columns);
            (columns.betas, columns.expressions)
        };
        assert_eq!(split(Family::SmplX, 400), (300, 100));
        assert_eq!(split(Family::SmplX, 20), (10, 10));
        assert_eq!(split(Family::SmplX, 16), (10, 6));
        assert_eq!(split(Family::SmplX, 10), (10, 0));
        assert_eq!(split(Family::Flame, 401), (300, 100));
        assert_eq!(split(Family::Smpl, 300), (300, 0));
        assert_eq!(split(Family::Generic, 400), (400, 0));
    }

    #[test]
    fn names_give_gender_and_side() {
        assert_eq!(Gender::from_path(Path::new("a/SMPLX_FEMALE.npz")), Some(Gender::Female));
        assert_eq!(Gender::from_path(Path::new("smplh/male/model.npz")), Some(Gender::Male));
        assert_eq!(Gender::from_path(Path::new("rig.npz")), None);
        assert_eq!(Side::from_path(Path::new("MANO_LEFT.pkl")), Some(Side::Left));
    }
}
