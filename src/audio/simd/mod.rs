//! One float per frame: a register holds the same sample of 1, 4, 8 or 16 neighbouring frames.
//!
//! Frames never mix inside a register, so a frame's result does not depend on its neighbours, on its place in the
//! register, or on how many frames are computed at once. Streaming equals offline because of that.

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
pub(super) use neon::Neon;
#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512, Sse2};

/// The widest register in use, in frames.
pub(super) const MOST_LANES: usize = 16;

/// A register of `COUNT` frames.
///
/// Every method is inlined into a kernel that was entered after its instructions were found on this processor.
pub(super) trait Lanes: Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> {
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
    fn store(self, to: &mut [Self::Float]);
    /// Four neighbouring samples of every frame: element `j` holds `from[lane * stride + j]`.
    fn columns(from: &[Self::Float], stride: usize) -> [Self; 4];
}

/// The parts of a single-precision register that the logarithm takes apart.
pub(super) trait Bits: Lanes<Float = f32> {
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
pub(super) struct Registers(Vec<Line>);

impl Registers {
    /// Room for `count` registers of the widest kind.
    pub(super) fn new(count: usize) -> Self {
        Self(vec![Line([0; 64]); count])
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.len() * size_of::<Line>()
    }

    pub(super) fn as_lanes<V: Lanes>(&mut self) -> &mut [V] {
        const { assert!(align_of::<V>() <= align_of::<Line>() && size_of::<Line>().is_multiple_of(size_of::<V>())) };
        let length = self.0.len() * (size_of::<Line>() / size_of::<V>());
        // SAFETY: the memory is initialised, aligned for V, `length` V's long, and any bits are a float.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), length) }
    }
}
