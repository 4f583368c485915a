//! Four, eight and sixteen frames on x86-64.

// Every second name of the instruction set.
#[allow(clippy::wildcard_imports)]
use std::arch::x86_64::*;
use std::ops::{Add, Mul, Sub};

use super::{Bits, Lanes, logarithm};

/// 1/sqrt(2): mantissas are counted from here, so that their logarithms lie around zero.
const ROOT_HALF: i32 = std::f32::consts::FRAC_1_SQRT_2.to_bits() as i32;

macro_rules! register {
    ($(#[$doc:meta])* $name:ident($inner:ty) x $count:literal, add $add:ident, sub $sub:ident, mul $mul:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        #[repr(transparent)]
        pub(in crate::audio) struct $name($inner);

        impl Add for $name {
            type Output = Self;
            #[inline(always)]
            fn add(self, other: Self) -> Self {
                // SAFETY: registers exist only inside kernels whose instructions were detected.
                unsafe { Self($add(self.0, other.0)) }
            }
        }
        impl Sub for $name {
            type Output = Self;
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                // SAFETY: as for `add`.
                unsafe { Self($sub(self.0, other.0)) }
            }
        }
        impl Mul for $name {
            type Output = Self;
            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                // SAFETY: as for `add`.
                unsafe { Self($mul(self.0, other.0)) }
            }
        }
    };
}

register!(
    /// Four frames; multiplication and addition round separately.
    Sse2(__m128) x 4, add _mm_add_ps, sub _mm_sub_ps, mul _mm_mul_ps
);
register!(
    /// Eight frames.
    Avx2(__m256) x 8, add _mm256_add_ps, sub _mm256_sub_ps, mul _mm256_mul_ps
);
register!(
    /// Sixteen frames.
    Avx512(__m512) x 16, add _mm512_add_ps, sub _mm512_sub_ps, mul _mm512_mul_ps
);

// SAFETY of every block below: registers exist only inside kernels whose instructions were detected, and each slice is
// measured before its pointer is used.

impl Lanes for Sse2 {
    type Float = f32;
    const COUNT: usize = 4;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm_set1_ps(value)) }
    }
    #[inline(always)]
    fn constant(value: f64) -> Self {
        Self::splat(value as f32)
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        self * factor + addend
    }
    #[inline(always)]
    fn at_least(self, floor: Self) -> Self {
        // SAFETY: see above. The second operand wins when either is not a number.
        unsafe { Self(_mm_max_ps(floor.0, self.0)) }
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm_sqrt_ps(self.0)) }
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
    fn store(self, to: &mut [f32]) {
        assert!(to.len() >= Self::COUNT);
        // SAFETY: see above.
        unsafe { _mm_storeu_ps(to.as_mut_ptr(), self.0) }
    }
    #[inline(always)]
    fn columns(from: &[f32], stride: usize) -> [Self; 4] {
        assert!(from.len() >= (Self::COUNT - 1) * stride + 4);
        let row = from.as_ptr();
        // SAFETY: see above.
        unsafe {
            let (a, b) = (_mm_loadu_ps(row), _mm_loadu_ps(row.add(stride)));
            let (c, d) = (_mm_loadu_ps(row.add(2 * stride)), _mm_loadu_ps(row.add(3 * stride)));
            let (ab_low, ab_high) = (_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
            let (cd_low, cd_high) = (_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
            [
                Self(_mm_movelh_ps(ab_low, cd_low)),
                Self(_mm_movehl_ps(cd_low, ab_low)),
                Self(_mm_movelh_ps(ab_high, cd_high)),
                Self(_mm_movehl_ps(cd_high, ab_high)),
            ]
        }
    }
}

impl Bits for Sse2 {
    #[inline(always)]
    fn split(self) -> (Self, Self) {
        // SAFETY: see above.
        unsafe {
            let bits = _mm_castps_si128(self.0);
            let exponent = _mm_srai_epi32::<23>(_mm_sub_epi32(bits, _mm_set1_epi32(ROOT_HALF)));
            let mantissa = _mm_sub_epi32(bits, _mm_slli_epi32::<23>(exponent));
            (Self(_mm_castsi128_ps(mantissa)), Self(_mm_cvtepi32_ps(exponent)))
        }
    }
    #[inline(always)]
    fn if_finite(self, value: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            let finite = _mm_cmplt_ps(self.0, _mm_set1_ps(f32::INFINITY));
            Self(_mm_or_ps(_mm_and_ps(finite, value.0), _mm_andnot_ps(finite, self.0)))
        }
    }
}

impl Lanes for Avx2 {
    type Float = f32;
    const COUNT: usize = 8;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm256_set1_ps(value)) }
    }
    #[inline(always)]
    fn constant(value: f64) -> Self {
        Self::splat(value as f32)
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm256_fmadd_ps(self.0, factor.0, addend.0)) }
    }
    #[inline(always)]
    fn at_least(self, floor: Self) -> Self {
        // SAFETY: see above. The second operand wins when either is not a number.
        unsafe { Self(_mm256_max_ps(floor.0, self.0)) }
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm256_sqrt_ps(self.0)) }
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
    fn store(self, to: &mut [f32]) {
        assert!(to.len() >= Self::COUNT);
        // SAFETY: see above.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), self.0) }
    }
    #[inline(always)]
    fn columns(from: &[f32], stride: usize) -> [Self; 4] {
        assert!(from.len() >= (Self::COUNT - 1) * stride + 4);
        let row = from.as_ptr();
        // SAFETY: see above.
        unsafe {
            let a = pair(row, stride, 0);
            let b = pair(row, stride, 1);
            let c = pair(row, stride, 2);
            let d = pair(row, stride, 3);
            let (ab_low, ab_high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            let (cd_low, cd_high) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
            [
                Self(_mm256_shuffle_ps::<0x44>(ab_low, cd_low)),
                Self(_mm256_shuffle_ps::<0xee>(ab_low, cd_low)),
                Self(_mm256_shuffle_ps::<0x44>(ab_high, cd_high)),
                Self(_mm256_shuffle_ps::<0xee>(ab_high, cd_high)),
            ]
        }
    }
}

/// Frames i and i + 4 side by side, so that the transposition stays inside each half.
///
/// # Safety
/// Four floats can be read at both frames.
#[inline(always)]
unsafe fn pair(row: *const f32, stride: usize, i: usize) -> __m256 {
    // SAFETY: the caller's promise.
    unsafe {
        let first = _mm256_castps128_ps256(_mm_loadu_ps(row.add(i * stride)));
        _mm256_insertf128_ps::<1>(first, _mm_loadu_ps(row.add((i + 4) * stride)))
    }
}

impl Bits for Avx2 {
    #[inline(always)]
    fn split(self) -> (Self, Self) {
        // SAFETY: see above.
        unsafe {
            let bits = _mm256_castps_si256(self.0);
            let exponent = _mm256_srai_epi32::<23>(_mm256_sub_epi32(bits, _mm256_set1_epi32(ROOT_HALF)));
            let mantissa = _mm256_sub_epi32(bits, _mm256_slli_epi32::<23>(exponent));
            (Self(_mm256_castsi256_ps(mantissa)), Self(_mm256_cvtepi32_ps(exponent)))
        }
    }
    #[inline(always)]
    fn if_finite(self, value: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            let finite = _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, _mm256_set1_ps(f32::INFINITY));
            Self(_mm256_blendv_ps(self.0, value.0, finite))
        }
    }
}

impl Lanes for Avx512 {
    type Float = f32;
    const COUNT: usize = 16;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm512_set1_ps(value)) }
    }
    #[inline(always)]
    fn constant(value: f64) -> Self {
        Self::splat(value as f32)
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm512_fmadd_ps(self.0, factor.0, addend.0)) }
    }
    #[inline(always)]
    fn at_least(self, floor: Self) -> Self {
        // SAFETY: see above. The second operand wins when either is not a number.
        unsafe { Self(_mm512_max_ps(floor.0, self.0)) }
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm512_sqrt_ps(self.0)) }
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
    fn store(self, to: &mut [f32]) {
        assert!(to.len() >= Self::COUNT);
        // SAFETY: see above.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self.0) }
    }
    #[inline(always)]
    fn columns(from: &[f32], stride: usize) -> [Self; 4] {
        assert!(from.len() >= (Self::COUNT - 1) * stride + 4);
        let row = from.as_ptr();
        // SAFETY: see above.
        unsafe {
            let a = four(row, stride, 0);
            let b = four(row, stride, 1);
            let c = four(row, stride, 2);
            let d = four(row, stride, 3);
            let (ab_low, ab_high) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
            let (cd_low, cd_high) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
            [
                Self(_mm512_shuffle_ps::<0x44>(ab_low, cd_low)),
                Self(_mm512_shuffle_ps::<0xee>(ab_low, cd_low)),
                Self(_mm512_shuffle_ps::<0x44>(ab_high, cd_high)),
                Self(_mm512_shuffle_ps::<0xee>(ab_high, cd_high)),
            ]
        }
    }
}

/// Frames i, i + 4, i + 8 and i + 12 side by side, so that the transposition stays inside each quarter.
///
/// # Safety
/// Four floats can be read at all four frames.
#[inline(always)]
unsafe fn four(row: *const f32, stride: usize, i: usize) -> __m512 {
    // SAFETY: the caller's promise.
    unsafe {
        let frames = _mm512_castps128_ps512(_mm_loadu_ps(row.add(i * stride)));
        let frames = _mm512_insertf32x4::<1>(frames, _mm_loadu_ps(row.add((i + 4) * stride)));
        let frames = _mm512_insertf32x4::<2>(frames, _mm_loadu_ps(row.add((i + 8) * stride)));
        _mm512_insertf32x4::<3>(frames, _mm_loadu_ps(row.add((i + 12) * stride)))
    }
}

impl Bits for Avx512 {
    #[inline(always)]
    fn split(self) -> (Self, Self) {
        // SAFETY: see above.
        unsafe {
            let bits = _mm512_castps_si512(self.0);
            let exponent = _mm512_srai_epi32::<23>(_mm512_sub_epi32(bits, _mm512_set1_epi32(ROOT_HALF)));
            let mantissa = _mm512_sub_epi32(bits, _mm512_slli_epi32::<23>(exponent));
            (Self(_mm512_castsi512_ps(mantissa)), Self(_mm512_cvtepi32_ps(exponent)))
        }
    }
    #[inline(always)]
    fn if_finite(self, value: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            let finite = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, _mm512_set1_ps(f32::INFINITY));
            Self(_mm512_mask_blend_ps(finite, self.0, value.0))
        }
    }
}
