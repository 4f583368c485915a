//! The two scalar types of every operator. One template serves both, so that gradcheck in float64 runs the real kernels.

use num_traits::{Float, NumAssign};
use tch::Kind;

use crate::simd::{self, Level, Stage};

pub(crate) trait Real: Float + NumAssign + Send + Sync + 'static {
    const KIND: Kind;
    /// The position of this type's kernel in a `Program`.
    const INDEX: usize;
    /// Terms of a Stumpff series that reach this precision for arguments up to 1.
    const SERIES_TERMS: usize;
    /// A constant of a formula, rounded.
    fn of(value: f64) -> Self;
    /// Runs a piece of work on matrices of 16 elements, for which registers of eight lanes are faster than wider ones.
    fn run<S: Stage<Self>>(stage: S);
}

impl Real for f32 {
    const KIND: Kind = Kind::Float;
    const INDEX: usize = 0;
    const SERIES_TERMS: usize = 6;
    fn of(value: f64) -> Self {
        value as f32
    }
    fn run<S: Stage<Self>>(stage: S) {
        simd::run(Level::Avx2.or_less(), stage);
    }
}

impl Real for f64 {
    const KIND: Kind = Kind::Double;
    const INDEX: usize = 1;
    const SERIES_TERMS: usize = 10;
    fn of(value: f64) -> Self {
        value
    }
    fn run<S: Stage<Self>>(stage: S) {
        stage.run::<Self>();
    }
}

/// Runs `$body` with `$T` as the type of a tensor that `Argument::real` let pass.
macro_rules! for_real {
    ($tensor:expr, $T:ident => $body:expr) => {
        if $tensor.kind() == tch::Kind::Double {
            type $T = f64;
            $body
        } else {
            type $T = f32;
            $body
        }
    };
}
pub(crate) use for_real;
