//! Logarithms of a register: exponent, and a polynomial on the mantissa.

use super::Bits;

/// `ln(1 + z) = z - z^2 / 2 + z^3 P(z)` for `1 + z` in [sqrt(1/2), sqrt(2)): the coefficients of P, lowest first.
/// Minimax of the relative error, 5.9e-9 before rounding.
const P: [f64; 8] = [
    0.333_333_313_465_118_4,
    -0.250_008_195_638_656_6,
    0.200_012_266_635_894_78,
    -0.166_233_569_383_621_22,
    0.142_017_573_118_209_84,
    -0.131_601_825_356_483_46,
    0.127_615_779_638_290_4,
    -0.076_344_975_009_083_75,
];

/// ln 2 in two parts: the first has nine bits, so its product with an exponent is exact.
const LN_2_HIGH: f64 = 0.693_359_375;
const LN_2_LOW: f64 = -2.121_944_400_546_905_8e-4;

/// log10(2) and log10(e), each in two parts of which the first has nine bits.
const LOG10_2_HIGH: f64 = 0.301_025_390_625;
const LOG10_2_LOW: f64 = std::f64::consts::LOG10_2 - LOG10_2_HIGH;
const LOG10_E_HIGH: f64 = 0.434_570_312_5;
const LOG10_E_LOW: f64 = std::f64::consts::LOG10_E - LOG10_E_HIGH;

#[inline(always)]
pub(crate) fn ln<V: Bits>(x: V) -> V {
    let (z, exponent, rest) = parts(x);
    let small = exponent.mul_add(V::constant(LN_2_LOW), rest);
    x.if_finite(exponent.mul_add(V::constant(LN_2_HIGH), z + small))
}

/// Rounded once, where the product of `ln` and log10(e) would be rounded twice.
#[inline(always)]
pub(crate) fn log10<V: Bits>(x: V) -> V {
    let (z, exponent, rest) = parts(x);
    let small = exponent.mul_add(V::constant(LOG10_2_LOW), rest * V::constant(std::f64::consts::LOG10_E));
    let small = z.mul_add(V::constant(LOG10_E_LOW), small);
    let small = z.mul_add(V::constant(LOG10_E_HIGH), small);
    x.if_finite(exponent.mul_add(V::constant(LOG10_2_HIGH), small))
}

/// z, e and r of `ln(x) = e ln(2) + z + r`.
#[inline(always)]
fn parts<V: Bits>(x: V) -> (V, V, V) {
    let (mantissa, exponent) = x.split();
    let z = mantissa - V::constant(1.0);
    let z2 = z * z;
    let mut p = V::constant(P[7]);
    p = p.mul_add(z, V::constant(P[6]));
    p = p.mul_add(z, V::constant(P[5]));
    p = p.mul_add(z, V::constant(P[4]));
    p = p.mul_add(z, V::constant(P[3]));
    p = p.mul_add(z, V::constant(P[2]));
    p = p.mul_add(z, V::constant(P[1]));
    p = p.mul_add(z, V::constant(P[0]));
    (z, exponent, z2.mul_add(V::constant(-0.5), p * z * z2))
}

#[cfg(test)]
mod tests {
    use super::{ln, log10};

    #[test]
    fn within_a_unit_in_the_last_place() {
        // Every exponent of normal numbers, and mantissas around the seam.
        for exponent in 1..255_u32 {
            for step in 0..997_u32 {
                let x = f32::from_bits((exponent << 23) | (step * 8_413));
                for (found, truth) in [(ln(x), f64::from(x).ln()), (log10(x), f64::from(x).log10())] {
                    let unit = f64::from((truth as f32).abs().next_up()) - f64::from((truth as f32).abs());
                    assert!((f64::from(found) - truth).abs() <= 1.5 * unit + 1e-45, "{x:e}: {found} is not {truth}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_finite_stays() {
        assert!(ln(f32::NAN).is_nan() && log10(f32::NAN).is_nan());
        assert_eq!((ln(f32::INFINITY), log10(f32::INFINITY)), (f32::INFINITY, f32::INFINITY));
        assert_eq!((ln(1.0_f32), log10(1.0_f32)), (0.0, 0.0));
    }
}
