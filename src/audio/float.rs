//! The two precisions, and the way from a precision and a level to the registers that compute it.

use std::fmt::Debug;

use super::samples::Sample;
#[cfg(target_arch = "aarch64")]
use crate::simd::Neon;
use crate::simd::{self, Lanes, Level, Registers, Stage};
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512, Sse2};

/// `f32`, for speed, or `f64`, for truth.
pub trait Float: realfft::FftNum + PartialOrd + Default + Debug + sealed::Sealed {
    const ZERO: Self;
    const NAN: Self;

    #[doc(hidden)]
    fn rounded(value: f64) -> Self;
    #[doc(hidden)]
    fn widened(self) -> f64;
    /// The samples themselves where they already have this precision.
    #[doc(hidden)]
    fn view<S: Sample>(samples: &[S]) -> Option<&[Self]>;
    #[doc(hidden)]
    fn lanes(level: Level) -> usize;
    /// The registers, float by float: lane `l` of register `r` is element `r * lanes + l`.
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn floats(registers: &mut Registers) -> &mut [Self];
    #[doc(hidden)]
    #[allow(private_bounds)]
    fn run<S: Stage<Self>>(level: Level, stage: S);
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

impl Float for f32 {
    const ZERO: Self = 0.0;
    const NAN: Self = Self::NAN;

    fn rounded(value: f64) -> Self {
        value as Self
    }
    fn widened(self) -> f64 {
        self.into()
    }
    fn view<S: Sample>(samples: &[S]) -> Option<&[Self]> {
        S::as_f32(samples)
    }

    fn lanes(level: Level) -> usize {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => Avx512::COUNT,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => Avx2::COUNT,
            #[cfg(target_arch = "x86_64")]
            _ => Sse2::COUNT,
            #[cfg(target_arch = "aarch64")]
            Level::Neon => Neon::COUNT,
            #[cfg(not(target_arch = "x86_64"))]
            _ => 1,
        }
    }

    #[allow(private_interfaces)]
    fn floats(registers: &mut Registers) -> &mut [Self] {
        registers.as_lanes()
    }
    #[allow(private_bounds)]
    fn run<S: Stage<Self>>(level: Level, stage: S) {
        simd::run(level, stage);
    }
}

impl Float for f64 {
    const ZERO: Self = 0.0;
    const NAN: Self = Self::NAN;

    fn rounded(value: f64) -> Self {
        value
    }
    fn widened(self) -> f64 {
        self
    }
    fn view<S: Sample>(samples: &[S]) -> Option<&[Self]> {
        S::as_f64(samples)
    }
    fn lanes(_level: Level) -> usize {
        1
    }
    #[allow(private_interfaces)]
    fn floats(registers: &mut Registers) -> &mut [Self] {
        registers.as_lanes()
    }
    #[allow(private_bounds)]
    fn run<S: Stage<Self>>(_level: Level, stage: S) {
        stage.run::<Self>();
    }
}
