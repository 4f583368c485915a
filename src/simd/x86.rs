//! Four, eight and sixteen lanes on x86-64.

// Every second name of the instruction set.
#[allow(clippy::wildcard_imports)]
use std::arch::x86_64::*;
use std::ops::{Add, Mul, Sub};

use super::{Bits, Lanes, logarithm};

/// 1/sqrt(2): mantissas are counted from here, so that their logarithms lie around zero.
const ROOT_HALF: i32 = std::f32::consts::FRAC_1_SQRT_2.to_bits() as i32;

/// What the three kinds of register have in common, by the names of their instructions.
macro_rules! register {
    (
        $(#[$doc:meta])* $name:ident($inner:ty) x $count:literal:
        $add:ident $sub:ident $mul:ident $mul_add:ident $max:ident $sqrt:ident $splat:ident $load:ident $store:ident $columns:ident
        $to_bits:ident $from_bits:ident $splat_bits:ident $sub_bits:ident $left:ident $right:ident $to_float:ident
        $if_finite:ident
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        #[repr(transparent)]
        pub(crate) struct $name($inner);

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

        impl Lanes for $name {
            type Float = f32;
            const COUNT: usize = $count;

            #[inline(always)]
            fn splat(value: f32) -> Self {
                // SAFETY: as for `add`.
                unsafe { Self($splat(value)) }
            }
            #[inline(always)]
            fn constant(value: f64) -> Self {
                Self::splat(value as f32)
            }
            #[inline(always)]
            fn mul_add(self, factor: Self, addend: Self) -> Self {
                // SAFETY: as for `add`.
                unsafe { Self($mul_add(self.0, factor.0, addend.0)) }
            }
            #[inline(always)]
            fn at_least(self, floor: Self) -> Self {
                // SAFETY: as for `add`. The second operand wins when either is not a number.
                unsafe { Self($max(floor.0, self.0)) }
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                // SAFETY: as for `add`.
                unsafe { Self($sqrt(self.0)) }
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
                // SAFETY: as for `add`, and the elements are there.
                unsafe { Self($load(from.as_ptr())) }
            }
            #[inline(always)]
            fn store(self, to: &mut [f32]) {
                assert!(to.len() >= Self::COUNT);
                // SAFETY: as for `add`, and there is room.
                unsafe { $store(to.as_mut_ptr(), self.0) }
            }
            #[inline(always)]
            fn columns(from: &[f32], stride: usize) -> [Self; 4] {
                assert!(from.len() >= (Self::COUNT - 1) * stride + 4);
                // SAFETY: as for `add`, and the last row's four elements are inside.
                let [a, b, c, d] = unsafe { $columns(from.as_ptr(), stride) };
                [Self(a), Self(b), Self(c), Self(d)]
            }
        }

        impl Bits for $name {
            #[inline(always)]
            fn split(self) -> (Self, Self) {
                // SAFETY: as for `add`.
                unsafe {
                    let bits = $to_bits(self.0);
                    let exponent = $right::<23>($sub_bits(bits, $splat_bits(ROOT_HALF)));
                    let mantissa = $sub_bits(bits, $left::<23>(exponent));
                    (Self($from_bits(mantissa)), Self($to_float(exponent)))
                }
            }
            #[inline(always)]
            fn if_finite(self, value: Self) -> Self {
                // SAFETY: as for `add`.
                unsafe { Self($if_finite(self.0, value.0, $splat(f32::INFINITY))) }
            }
        }
    };
}

register!(
    /// Four lanes; multiplication and addition round separately.
    Sse2(__m128) x 4:
    _mm_add_ps _mm_sub_ps _mm_mul_ps mul_add_4 _mm_max_ps _mm_sqrt_ps _mm_set1_ps _mm_loadu_ps _mm_storeu_ps columns_4
    _mm_castps_si128 _mm_castsi128_ps _mm_set1_epi32 _mm_sub_epi32 _mm_slli_epi32 _mm_srai_epi32 _mm_cvtepi32_ps
    if_finite_4
);
register!(
    /// Eight lanes.
    Avx2(__m256) x 8:
    _mm256_add_ps _mm256_sub_ps _mm256_mul_ps _mm256_fmadd_ps _mm256_max_ps _mm256_sqrt_ps _mm256_set1_ps _mm256_loadu_ps
    _mm256_storeu_ps columns_8 _mm256_castps_si256 _mm256_castsi256_ps _mm256_set1_epi32 _mm256_sub_epi32 _mm256_slli_epi32
    _mm256_srai_epi32 _mm256_cvtepi32_ps if_finite_8
);
register!(
    /// Sixteen lanes.
    Avx512(__m512) x 16:
    _mm512_add_ps _mm512_sub_ps _mm512_mul_ps _mm512_fmadd_ps _mm512_max_ps _mm512_sqrt_ps _mm512_set1_ps _mm512_loadu_ps
    _mm512_storeu_ps columns_16 _mm512_castps_si512 _mm512_castsi512_ps _mm512_set1_epi32 _mm512_sub_epi32 _mm512_slli_epi32
    _mm512_srai_epi32 _mm512_cvtepi32_ps if_finite_16
);

// The functions below are inlined into the methods above, which see to their conditions: the instructions exist, and
// four floats can be read at every row, `stride` floats apart.

#[inline(always)]
unsafe fn mul_add_4(a: __m128, b: __m128, c: __m128) -> __m128 {
    // SAFETY: see above.
    unsafe { _mm_add_ps(_mm_mul_ps(a, b), c) }
}

#[inline(always)]
unsafe fn if_finite_4(x: __m128, value: __m128, infinity: __m128) -> __m128 {
    // SAFETY: see above.
    unsafe {
        let finite = _mm_cmplt_ps(x, infinity);
        _mm_or_ps(_mm_and_ps(finite, value), _mm_andnot_ps(finite, x))
    }
}

#[inline(always)]
unsafe fn if_finite_8(x: __m256, value: __m256, infinity: __m256) -> __m256 {
    // SAFETY: see above.
    unsafe { _mm256_blendv_ps(x, value, _mm256_cmp_ps::<_CMP_LT_OQ>(x, infinity)) }
}

#[inline(always)]
unsafe fn if_finite_16(x: __m512, value: __m512, infinity: __m512) -> __m512 {
    // SAFETY: see above.
    unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(x, infinity), x, value) }
}

/// Transposes four rows of four elements.
#[inline(always)]
unsafe fn columns_4(row: *const f32, stride: usize) -> [__m128; 4] {
    // SAFETY: see above.
    unsafe {
        let (a, b) = (_mm_loadu_ps(row), _mm_loadu_ps(row.add(stride)));
        let (c, d) = (_mm_loadu_ps(row.add(2 * stride)), _mm_loadu_ps(row.add(3 * stride)));
        let (ab_low, ab_high) = (_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
        let (cd_low, cd_high) = (_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
        [
            _mm_movelh_ps(ab_low, cd_low),
            _mm_movehl_ps(cd_low, ab_low),
            _mm_movelh_ps(ab_high, cd_high),
            _mm_movehl_ps(cd_high, ab_high),
        ]
    }
}

/// As `columns_4` in each half.
#[inline(always)]
unsafe fn columns_8(row: *const f32, stride: usize) -> [__m256; 4] {
    // SAFETY: see above.
    unsafe {
        let (a, b) = (pair(row, stride), pair(row.add(stride), stride));
        let (c, d) = (pair(row.add(2 * stride), stride), pair(row.add(3 * stride), stride));
        let (ab_low, ab_high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        let (cd_low, cd_high) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
        [
            _mm256_shuffle_ps::<0x44>(ab_low, cd_low),
            _mm256_shuffle_ps::<0xee>(ab_low, cd_low),
            _mm256_shuffle_ps::<0x44>(ab_high, cd_high),
            _mm256_shuffle_ps::<0xee>(ab_high, cd_high),
        ]
    }
}

/// As `columns_4` in each quarter.
#[inline(always)]
unsafe fn columns_16(row: *const f32, stride: usize) -> [__m512; 4] {
    // SAFETY: see above.
    unsafe {
        let (a, b) = (four(row, stride), four(row.add(stride), stride));
        let (c, d) = (four(row.add(2 * stride), stride), four(row.add(3 * stride), stride));
        let (ab_low, ab_high) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
        let (cd_low, cd_high) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
        [
            _mm512_shuffle_ps::<0x44>(ab_low, cd_low),
            _mm512_shuffle_ps::<0xee>(ab_low, cd_low),
            _mm512_shuffle_ps::<0x44>(ab_high, cd_high),
            _mm512_shuffle_ps::<0xee>(ab_high, cd_high),
        ]
    }
}

/// Four elements of this row and of the fourth after it.
#[inline(always)]
unsafe fn pair(row: *const f32, stride: usize) -> __m256 {
    // SAFETY: see above.
    unsafe {
        let first = _mm256_castps128_ps256(_mm_loadu_ps(row));
        _mm256_insertf128_ps::<1>(first, _mm_loadu_ps(row.add(4 * stride)))
    }
}

/// Four elements of this row and of the fourth, eighth and twelfth after it.
#[inline(always)]
unsafe fn four(row: *const f32, stride: usize) -> __m512 {
    // SAFETY: see above.
    unsafe {
        let rows = _mm512_castps128_ps512(_mm_loadu_ps(row));
        let rows = _mm512_insertf32x4::<1>(rows, _mm_loadu_ps(row.add(4 * stride)));
        let rows = _mm512_insertf32x4::<2>(rows, _mm_loadu_ps(row.add(8 * stride)));
        _mm512_insertf32x4::<3>(rows, _mm_loadu_ps(row.add(12 * stride)))
    }
}
