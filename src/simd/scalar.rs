//! One lane: float64, and float32 where the architecture has nothing wider.

use super::{Bits, Lanes, logarithm};

macro_rules! one_lane {
    ($float:ident, $ln:path, $log10:path) => {
        impl Lanes for $float {
            type Float = Self;
            const COUNT: usize = 1;

            #[inline(always)]
            fn splat(value: Self) -> Self {
                value
            }
            #[inline(always)]
            fn constant(value: f64) -> Self {
                value as Self
            }
            #[inline(always)]
            fn mul_add(self, factor: Self, addend: Self) -> Self {
                self * factor + addend
            }
            #[inline(always)]
            fn at_least(self, floor: Self) -> Self {
                if self < floor { floor } else { self }
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                self.sqrt()
            }
            #[inline(always)]
            fn ln(self) -> Self {
                $ln(self)
            }
            #[inline(always)]
            fn log10(self) -> Self {
                $log10(self)
            }
            #[inline(always)]
            fn load(from: &[Self]) -> Self {
                from[0]
            }
            #[inline(always)]
            fn store(self, to: &mut [Self]) {
                to[0] = self;
            }
            #[inline(always)]
            fn columns(from: &[Self], _stride: usize) -> [Self; 4] {
                [from[0], from[1], from[2], from[3]]
            }
        }
    };
}

one_lane!(f64, f64::ln, f64::log10);
one_lane!(f32, logarithm::ln, logarithm::log10);

impl Bits for f32 {
    #[inline(always)]
    fn split(self) -> (Self, Self) {
        let bits = self.to_bits() as i32;
        let exponent = (bits - std::f32::consts::FRAC_1_SQRT_2.to_bits() as i32) >> 23;
        (Self::from_bits((bits - (exponent << 23)) as u32), exponent as Self)
    }
    #[inline(always)]
    fn if_finite(self, value: Self) -> Self {
        if self < Self::INFINITY { value } else { self }
    }
}
