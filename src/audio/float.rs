//! The two precisions, and the way from a precision and a level to the registers that compute it.

use std::fmt::Debug;

use super::samples::Sample;
#[cfg(target_arch = "aarch64")]
use super::simd::Neon;
#[cfg(target_arch = "x86_64")]
use super::simd::{Avx2, Avx512, Sse2};
use super::simd::{Lanes, Level, Registers};

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

/// A piece of work that is written once and compiled for every kind of register.
pub(super) trait Stage<F> {
    /// Must be `#[inline(always)]`, as everything it calls, so that it is compiled with the caller's instructions.
    fn run<V: Lanes<Float = F>>(self);
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
        match level {
            // SAFETY: plans are made only at levels that `Level::require` has found on this processor.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { run_avx512(stage) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { run_avx2(stage) },
            #[cfg(target_arch = "x86_64")]
            _ => stage.run::<Sse2>(),
            #[cfg(target_arch = "aarch64")]
            Level::Neon => stage.run::<Neon>(),
            #[cfg(not(target_arch = "x86_64"))]
            _ => stage.run::<Self>(),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn run_avx512<S: Stage<f32>>(stage: S) {
    stage.run::<Avx512>();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2<S: Stage<f32>>(stage: S) {
    stage.run::<Avx2>();
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
