//! One float a lane: a register holds the same element of 1, 4, 8 or 16 neighbouring rows, be they frames of speech or
//! columns of a matrix, and a piece of work is compiled for every kind of register that the processor may have.
//!
//! Lanes never mix inside a register, so a row's result does not depend on its neighbours, on its place in the register,
//! or on how many rows are computed at once. Streaming equals offline because of that.

// Small functions must be compiled with the instructions of the work that calls them.
#![allow(clippy::inline_always)]

mod level;
mod logarithm;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::ops::{Add, Mul, Sub};

pub use level::Level;
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512, Sse2};

/// The widest register in use, in lanes.
pub(crate) const MOST_LANES: usize = 16;

/// A register of `COUNT` lanes.
///
/// Every method is inlined into work that was entered after its instructions were found on this processor.
pub(crate) trait Lanes: Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> {
    type Float: Copy;
    const COUNT: usize;

    fn splat(value: Self::Float) -> Self;
    /// A mathematical constant, rounded to the register's precision.
    fn constant(value: f64) -> Self;
    /// `self * factor + addend`, fused where the processor can.
    fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// The larger of both; a NaN in `self` stays.
    fn at_least(self, floor: Self) -> Self;
    fn sqrt(self) -> Self;
    /// Natural logarithm of normal positive numbers; infinity and NaN come back as they are.
    fn ln(self) -> Self;
    fn log10(self) -> Self;
    /// The first `COUNT` elements.
    #[cfg_attr(not(feature = "torch"), allow(dead_code, reason = "speech is read in columns"))]
    fn load(from: &[Self::Float]) -> Self;
    fn store(self, to: &mut [Self::Float]);
    /// Four neighbouring elements of every row: element `j` holds `from[lane * stride + j]`.
    fn columns(from: &[Self::Float], stride: usize) -> [Self; 4];
}

/// The parts of a single-precision register that the logarithm takes apart.
pub(crate) trait Bits: Lanes<Float = f32> {
    /// `x = mantissa * 2^exponent` with the mantissa in [sqrt(1/2), sqrt(2)); gives (mantissa, exponent).
    fn split(self) -> (Self, Self);
    /// `value` where `self` is finite, `self` where it is infinite or not a number.
    fn if_finite(self, value: Self) -> Self;
}

/// 64 bytes, so that any register may be read from it in place.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Memory for registers, allocated once.
pub(crate) struct Registers(Vec<Line>);

impl Registers {
    /// Room for `count` registers of the widest kind.
    pub(crate) fn new(count: usize) -> Self {
        Self(vec![Line([0; 64]); count])
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.0.len() * size_of::<Line>()
    }

    pub(crate) fn as_lanes<V: Lanes>(&mut self) -> &mut [V] {
        const { assert!(align_of::<V>() <= align_of::<Line>() && size_of::<Line>().is_multiple_of(size_of::<V>())) };
        let length = self.0.len() * (size_of::<Line>() / size_of::<V>());
        // SAFETY: the memory is initialised, aligned for V, `length` V's long, and any bits are a float.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), length) }
    }
}

/// A piece of work that is written once and compiled for every kind of register.
pub(crate) trait Stage<F> {
    /// Must be `#[inline(always)]`, as everything it calls, so that it is compiled with the caller's instructions.
    fn run<V: Lanes<Float = F>>(self);
}

/// Runs a stage in the registers of a level that [`Level::require`] or [`Level::best`] has found on this processor.
pub(crate) fn run<S: Stage<f32>>(level: Level, stage: S) {
    match level {
        // SAFETY: the caller knows that the processor has these instructions.
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
        _ => stage.run::<f32>(),
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

/// Asks for memory ahead of its use, where the processor takes such wishes.
#[cfg(feature = "torch")]
#[inline(always)]
pub(crate) fn prefetch<T>(from: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a wish reads nothing, whatever the address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(from.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = from;
}
