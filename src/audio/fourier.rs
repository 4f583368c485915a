//! The power spectrum of 400 real samples, for every frame of a register at once.
//!
//! 400 = 16 * 25, and 16 and 25 share no factor, so sample `25 a + 16 b` and bin `k` (with `k = p mod 16`,
//! `k = q mod 25`) separate without twiddle factors:
//!
//! ```text
//! X[k] = sum over b of W25^(b q) * (sum over a of W16^(a p) * x[25 a + 16 b])
//! ```
//!
//! The inner sums are 25 real transforms of 16 points, whose outputs p and 16 - p are conjugates: nine rows remain, two
//! real (p = 0, 8) and seven complex. Each row is then a transform of 25 points, and every bin appears exactly once.

use crate::simd::Lanes;

pub(super) const SAMPLES: usize = 400;
pub(super) const BINS: usize = 201;

/// Where sample (a, b) lies; the transforms of 16 write their sixteen results back to the same places.
const SAMPLE: [[u16; 16]; 25] = {
    let mut table = [[0; 16]; 25];
    let mut b = 0;
    while b < 25 {
        let mut a = 0;
        while a < 16 {
            table[b][a] = ((25 * a + 16 * b) % SAMPLES) as u16;
            a += 1;
        }
        b += 1;
    }
    table
};

/// The bin of (p, q). The spectrum of real samples is even in magnitude: bins above 200 fold back.
const fn bin(p: usize, q: usize) -> u16 {
    let k = (225 * p + 176 * q) % SAMPLES;
    (if k < BINS { k } else { SAMPLES - k }) as u16
}

/// The row p of each complex pair that a 16-point transform leaves: of p and 16 - p, the one that needs no negation.
const COMPLEX_ROWS: [usize; 7] = [15, 14, 3, 12, 11, 10, 7];

/// The bins of row p.
const fn row(p: usize) -> [u16; 25] {
    let mut bins = [0; 25];
    let mut q = 0;
    while q < 25 {
        bins[q] = bin(p, q);
        q += 1;
    }
    bins
}

const REAL_BINS: [[u16; 25]; 2] = [row(0), row(8)];
const COMPLEX_BINS: [[u16; 25]; 7] = {
    let mut table = [[0; 25]; 7];
    let mut i = 0;
    while i < 7 {
        table[i] = row(COMPLEX_ROWS[i]);
        i += 1;
    }
    table
};

/// A complex number in every lane.
#[derive(Clone, Copy)]
struct Complex<V> {
    re: V,
    im: V,
}

impl<V: Lanes> Complex<V> {
    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        Self { re: self.re + other.re, im: self.im + other.im }
    }
    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        Self { re: self.re - other.re, im: self.im - other.im }
    }
    /// Times `exp(-2 pi i b c / 25)`.
    #[inline(always)]
    fn turned(self, b: usize, c: usize) -> Self {
        if b == 0 {
            return self;
        }
        let (cos, sin) = (COS_25[b - 1][c - 1], SIN_25[b - 1][c - 1]);
        let (cos, sin, minus_sin) = (V::constant(cos), V::constant(sin), V::constant(-sin));
        Self { re: self.im.mul_add(sin, self.re * cos), im: self.re.mul_add(minus_sin, self.im * cos) }
    }
    #[inline(always)]
    fn norm(self) -> V {
        self.im.mul_add(self.im, self.re * self.re)
    }
}

/// cos(2 pi k / 16) for k = 1, 2, 3; the sines are these, backwards.
const COS_16: [f64; 3] = [0.923_879_532_511_286_7, std::f64::consts::FRAC_1_SQRT_2, 0.382_683_432_365_089_8];
/// The cosines of 2 pi / 5 and 4 pi / 5 are -1/4 plus and minus this.
const ROOT_5_QUARTER: f64 = 0.559_016_994_374_947_5;
/// sin of 2 pi k / 5 for k = 1, 2.
const SIN_5: [f64; 2] = [0.951_056_516_295_153_5, 0.587_785_252_292_473_1];
/// cos and sin of 2 pi b c / 25 for b, c = 1..=4.
const COS_25: [[f64; 4]; 4] = [
    [0.968_583_161_128_631_1, 0.876_306_680_043_863_6, 0.728_968_627_421_411_6, 0.535_826_794_978_996_6],
    [0.876_306_680_043_863_6, 0.535_826_794_978_996_6, 0.062_790_519_529_313_37, -0.425_779_291_565_072_6],
    [0.728_968_627_421_411_6, 0.062_790_519_529_313_37, -0.637_423_989_748_689_7, -0.992_114_701_314_477_8],
    [0.535_826_794_978_996_6, -0.425_779_291_565_072_6, -0.992_114_701_314_477_8, -0.637_423_989_748_689_7],
];
const SIN_25: [[f64; 4]; 4] = [
    [0.248_689_887_164_854_8, 0.481_753_674_101_715_3, 0.684_547_105_928_688_7, 0.844_327_925_502_015_1],
    [0.481_753_674_101_715_3, 0.844_327_925_502_015_1, 0.998_026_728_428_271_6, 0.904_827_052_466_019_5],
    [0.684_547_105_928_688_7, 0.998_026_728_428_271_6, 0.770_513_242_775_789_3, 0.125_333_233_564_304_25],
    [0.844_327_925_502_015_1, 0.904_827_052_466_019_5, 0.125_333_233_564_304_25, -0.770_513_242_775_789_2],
];

/// Overwrites `frame` and leaves the squared magnitudes of bins 0..=200 in `power`.
#[inline(always)]
pub(super) fn power_spectrum_400<V: Lanes>(frame: &mut [V; SAMPLES], power: &mut [V; BINS]) {
    for places in &SAMPLE {
        transform_16(frame, places);
    }
    for (place, bins) in REAL_BINS.iter().enumerate() {
        real_row(frame, place, bins, power);
    }
    for (row, bins) in COMPLEX_BINS.iter().enumerate() {
        complex_row(frame, 2 + 2 * row, bins, power);
    }
}

/// Sixteen real samples to X0, X8 and the complex X15, X14, X3, X12, X11, X10, X7, in place.
#[inline(always)]
fn transform_16<V: Lanes>(frame: &mut [V; SAMPLES], places: &[u16; 16]) {
    let [cos_1, half, sin_1] = COS_16.map(V::constant);
    let [minus_cos_1, _, minus_sin_1] = COS_16.map(|c| V::constant(-c));
    let mut x = [frame[0]; 16];
    for (x, place) in x.iter_mut().zip(places) {
        *x = frame[*place as usize];
    }

    // Even bins: a real transform of the eight sums.
    let mut sum = [x[0]; 8];
    // Odd bins: the eight differences, as four complex numbers `difference[n] + i difference[n + 4]`.
    let mut difference = [x[0]; 8];
    for n in 0..8 {
        sum[n] = x[n] + x[n + 8];
        difference[n] = x[n] - x[n + 8];
    }

    let s = [sum[0] + sum[4], sum[1] + sum[5], sum[2] + sum[6], sum[3] + sum[7]];
    let d = [sum[0] - sum[4], sum[1] - sum[5], sum[2] - sum[6], sum[3] - sum[7]];
    let (even, odd) = (s[0] + s[2], s[1] + s[3]);
    let (minus, plus) = ((d[1] - d[3]) * half, (d[1] + d[3]) * half);

    // Each complex number turned by exp(2 pi i n / 16).
    let b = difference;
    let t0 = Complex { re: b[0], im: b[4] };
    let t1 = Complex { re: b[5].mul_add(minus_sin_1, b[1] * cos_1), im: b[5].mul_add(cos_1, b[1] * sin_1) };
    let t2 = Complex { re: (b[2] - b[6]) * half, im: (b[2] + b[6]) * half };
    let t3 = Complex { re: b[7].mul_add(minus_cos_1, b[3] * sin_1), im: b[7].mul_add(sin_1, b[3] * cos_1) };
    let (u0, u1) = (t0.plus(t2), t0.minus(t2));
    let (v0, v1) = (t1.plus(t3), t1.minus(t3));

    let results = [
        even + odd,
        even - odd,
        u0.re + v0.re, // X15
        u0.im + v0.im,
        d[0] + minus, // X14
        d[2] + plus,
        u1.re + v1.im, // X3
        u1.im - v1.re,
        s[0] - s[2], // X12
        s[1] - s[3],
        u1.re - v1.im, // X11
        u1.im + v1.re,
        d[0] - minus, // X10
        plus - d[2],
        u0.re - v0.re, // X7
        u0.im - v0.im,
    ];
    for (place, result) in places.iter().zip(results) {
        frame[*place as usize] = result;
    }
}

/// A transform of 25 complex numbers, five by five.
#[inline(always)]
fn complex_row<V: Lanes>(frame: &[V; SAMPLES], place: usize, bins: &[u16; 25], power: &mut [V; BINS]) {
    let columns = [
        complex_column(frame, place, 0),
        complex_column(frame, place, 1),
        complex_column(frame, place, 2),
        complex_column(frame, place, 3),
        complex_column(frame, place, 4),
    ]; // [b, c]
    let [k, l, m, n, o] = columns;
    for c in 0..5 {
        put_norms(transform_5([k[c], l[c], m[c], n[c], o[c]]), bins, c, power);
    }
}

/// The inner transform of samples b, b + 5, ..., b + 20, turned for the outer one.
#[inline(always)]
fn complex_column<V: Lanes>(frame: &[V; SAMPLES], place: usize, b: usize) -> [Complex<V>; 5] {
    let y = transform_5([
        complex_sample(frame, place, b),
        complex_sample(frame, place, b + 5),
        complex_sample(frame, place, b + 10),
        complex_sample(frame, place, b + 15),
        complex_sample(frame, place, b + 20),
    ]);
    [y[0], y[1].turned(b, 1), y[2].turned(b, 2), y[3].turned(b, 3), y[4].turned(b, 4)]
}

#[inline(always)]
fn complex_sample<V: Lanes>(frame: &[V; SAMPLES], place: usize, b: usize) -> Complex<V> {
    Complex { re: frame[SAMPLE[b][place] as usize], im: frame[SAMPLE[b][place + 1] as usize] }
}

/// A transform of 25 real numbers: 13 bins, the others mirror them.
#[inline(always)]
fn real_row<V: Lanes>(frame: &[V; SAMPLES], place: usize, bins: &[u16; 25], power: &mut [V; BINS]) {
    let (a0, a1, a2) = real_column(frame, place, 0);
    let (b0, b1, b2) = real_column(frame, place, 1);
    let (c0, c1, c2) = real_column(frame, place, 2);
    let (d0, d1, d2) = real_column(frame, place, 3);
    let (e0, e1, e2) = real_column(frame, place, 4);
    let (y0, y1, y2) = real_transform_5([a0, b0, c0, d0, e0]);
    power[bins[0] as usize] = y0 * y0;
    power[bins[5] as usize] = y1.norm();
    power[bins[10] as usize] = y2.norm();
    put_norms(transform_5([a1, b1, c1, d1, e1]), bins, 1, power);
    put_norms(transform_5([a2, b2, c2, d2, e2]), bins, 2, power);
}

/// As `complex_column`; outputs 3 and 4 are the conjugates of 2 and 1.
#[inline(always)]
fn real_column<V: Lanes>(frame: &[V; SAMPLES], place: usize, b: usize) -> (V, Complex<V>, Complex<V>) {
    let x = |a: usize| frame[SAMPLE[5 * a + b][place] as usize];
    let (y0, y1, y2) = real_transform_5([x(0), x(1), x(2), x(3), x(4)]);
    (y0, y1.turned(b, 1), y2.turned(b, 2))
}

/// Outputs c, c + 5, ..., c + 20.
#[inline(always)]
fn put_norms<V: Lanes>(y: [Complex<V>; 5], bins: &[u16; 25], c: usize, power: &mut [V; BINS]) {
    for d in 0..5 {
        power[bins[c + 5 * d] as usize] = y[d].norm();
    }
}

#[inline(always)]
fn transform_5<V: Lanes>(x: [Complex<V>; 5]) -> [Complex<V>; 5] {
    let (re_cos, re_sin) = real_parts_5([x[0].re, x[1].re, x[2].re, x[3].re, x[4].re]);
    let (im_cos, im_sin) = real_parts_5([x[0].im, x[1].im, x[2].im, x[3].im, x[4].im]);
    // (re + i im) (cos - i sin); for bins 3 and 4 the sine turns its sign.
    [
        Complex { re: re_cos[0], im: im_cos[0] },
        Complex { re: re_cos[1] + im_sin[0], im: im_cos[1] - re_sin[0] },
        Complex { re: re_cos[2] + im_sin[1], im: im_cos[2] - re_sin[1] },
        Complex { re: re_cos[2] - im_sin[1], im: im_cos[2] + re_sin[1] },
        Complex { re: re_cos[1] - im_sin[0], im: im_cos[1] + re_sin[0] },
    ]
}

/// Bins 0, 1 and 2 of five real numbers; 3 and 4 are the conjugates of 2 and 1.
#[inline(always)]
fn real_transform_5<V: Lanes>(x: [V; 5]) -> (V, Complex<V>, Complex<V>) {
    let (cos, sin) = real_parts_5(x);
    let zero = V::constant(0.0);
    (cos[0], Complex { re: cos[1], im: zero - sin[0] }, Complex { re: cos[2], im: zero - sin[1] })
}

/// For five real numbers: the cosine sums of bins 0, 1, 2 and the sine sums of bins 1, 2.
#[inline(always)]
fn real_parts_5<V: Lanes>(x: [V; 5]) -> ([V; 3], [V; 2]) {
    let [sin_1, sin_2] = SIN_5.map(V::constant);
    let minus_sin_1 = V::constant(-SIN_5[0]);
    let (outer, inner) = (x[1] + x[4], x[2] + x[3]);
    let (outer_odd, inner_odd) = (x[1] - x[4], x[2] - x[3]);
    let sum = outer + inner;
    let (mean, difference) = (sum.mul_add(V::constant(-0.25), x[0]), outer - inner);
    (
        [
            x[0] + sum,
            difference.mul_add(V::constant(ROOT_5_QUARTER), mean),
            difference.mul_add(V::constant(-ROOT_5_QUARTER), mean),
        ],
        [inner_odd.mul_add(sin_2, outer_odd * sin_1), inner_odd.mul_add(minus_sin_1, outer_odd * sin_2)],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Squared magnitudes from the definition.
    fn definition(samples: &[f64; SAMPLES]) -> Vec<f64> {
        let turn = std::f64::consts::TAU / SAMPLES as f64;
        (0..BINS)
            .map(|k| {
                let sum = |part: fn(f64) -> f64| -> f64 {
                    samples.iter().enumerate().map(|(n, x)| x * part(turn * (n * k % SAMPLES) as f64)).sum()
                };
                sum(f64::cos).powi(2) + sum(f64::sin).powi(2)
            })
            .collect()
    }

    fn noise(seed: usize) -> [f64; SAMPLES] {
        std::array::from_fn(|n| ((n * n * 37 + n * seed + seed) % 2003) as f64 / 1000.0 - 1.0)
    }

    #[test]
    fn every_bin_is_the_definition() {
        for seed in 0..20 {
            let samples = noise(seed);
            let expected = definition(&samples);
            let loudest = expected.iter().fold(0.0_f64, |a, &b| a.max(b));
            let mut power = [0.0_f64; BINS];
            power_spectrum_400(&mut samples.clone(), &mut power);
            let mut single = [0.0_f32; BINS];
            power_spectrum_400(&mut samples.map(|x| x as f32), &mut single);
            for bin in 0..BINS {
                assert!((power[bin] - expected[bin]).abs() <= 1e-13 * loudest, "bin {bin}");
                assert!((f64::from(single[bin]) - expected[bin]).abs() <= 5e-6 * loudest, "bin {bin}");
            }
        }
    }
}
