//! Four lanes on 64-bit ARM, where these instructions are always present.

// Every second name of the instruction set.
#[allow(clippy::wildcard_imports)]
use std::arch::aarch64::*;
use std::ops::{Add, Mul, Sub};

use super::{Bits, Lanes, logarithm};

/// 1/sqrt(2): mantissas are counted from here, so that their logarithms lie around zero.
const ROOT_HALF: i32 = std::f32::consts::FRAC_1_SQRT_2.to_bits() as i32;

/// Four lanes.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Neon(float32x4_t);

// SAFETY of every block below: NEON is part of the architecture, and each slice is measured before its pointer is used.

impl Add for Neon {
    type Output = Self;
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(vaddq_f32(self.0, other.0)) }
    }
}

impl Sub for Neon {
    type Output = Self;
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(vsubq_f32(self.0, other.0)) }
    }
}

impl Mul for Neon {
    type Output = Self;
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(vmulq_f32(self.0, other.0)) }
    }
}

impl Lanes for Neon {
    type Float = f32;
    const COUNT: usize = 4;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: see above.
        unsafe { Self(vdupq_n_f32(value)) }
    }
    #[inline(always)]
    fn constant(value: f64) -> Self {
        Self::splat(value as f32)
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(vfmaq_f32(addend.0, self.0, factor.0)) }
    }
    #[inline(always)]
    fn at_least(self, floor: Self) -> Self {
        // SAFETY: see above. This maximum keeps a NaN of either side, and the floor never is one.
        unsafe { Self(vmaxq_f32(self.0, floor.0)) }
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: see above.
        unsafe { Self(vsqrtq_f32(self.0)) }
    }
    #[inline(always)]
    fn ln(self) -> Self {
        logarithm::ln(self)
    }
    #[inline(always)]
    fn log10(self) -> Self {
        logarithm::log10(self)
    }
    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        assert!(from.len() >= Self::COUNT);
        // SAFETY: see above.
        unsafe { Self(vld1q_f32(from.as_ptr())) }
    }
    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        assert!(to.len() >= Self::COUNT);
        // SAFETY: see above.
        unsafe { vst1q_f32(to.as_mut_ptr(), self.0) }
    }
    #[inline(always)]
    fn columns(from: &[f32], stride: usize) -> [Self; 4] {
        assert!(from.len() >= (Self::COUNT - 1) * stride + 4);
        let row = from.as_ptr();
        // SAFETY: see above.
        unsafe {
            let (a, b) = (vld1q_f32(row), vld1q_f32(row.add(stride)));
            let (c, d) = (vld1q_f32(row.add(2 * stride)), vld1q_f32(row.add(3 * stride)));
            let (ac_low, ac_high) = (vzip1q_f32(a, c), vzip2q_f32(a, c));
            let (bd_low, bd_high) = (vzip1q_f32(b, d), vzip2q_f32(b, d));
            [
                Self(vzip1q_f32(ac_low, bd_low)),
                Self(vzip2q_f32(ac_low, bd_low)),
                Self(vzip1q_f32(ac_high, bd_high)),
                Self(vzip2q_f32(ac_high, bd_high)),
            ]
        }
    }
}

impl Bits for Neon {
    #[inline(always)]
    fn split(self) -> (Self, Self) {
        // SAFETY: see above.
        unsafe {
            let bits = vreinterpretq_s32_f32(self.0);
            let exponent = vshrq_n_s32::<23>(vsubq_s32(bits, vdupq_n_s32(ROOT_HALF)));
            let mantissa = vsubq_s32(bits, vshlq_n_s32::<23>(exponent));
            (Self(vreinterpretq_f32_s32(mantissa)), Self(vcvtq_f32_s32(exponent)))
        }
    }
    #[inline(always)]
    fn if_finite(self, value: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(vbslq_f32(vcltq_f32(self.0, vdupq_n_f32(f32::INFINITY)), value.0, self.0)) }
    }
}
