//! The pose correctives, `features . posedirs`, and that backwards, on the CPU. The directions are by far the largest
//! thing that a body reads, and nearly all of its arithmetic.
//!
//! For float32 and wide registers the product is ours: a batch of bodies is a matrix of few rows, for which libraries
//! lay out the large matrix anew. Every element is summed in one order, whatever the batch and the number of threads.

mod product;
mod transposed_product;

use tch::{Device, Kind, Tensor};

use crate::Result;
use crate::simd::{self, Level};
use crate::torch::parallel::{elements, elements_mut};

/// Whether the product is ours: wide registers, and something to fill them. One body is a matter of memory alone.
fn level_for(posedirs: &Tensor, bodies: i64) -> Option<Level> {
    let level = Level::best();
    let is_wide = matches!(level, Level::Avx2 | Level::Avx512) && bodies > 1;
    let is_ours = posedirs.device() == Device::Cpu && posedirs.kind() == Kind::Float;
    (is_ours && is_wide && posedirs.size().iter().all(|&size| size >= simd::MOST_LANES as i64)).then_some(level)
}

/// `features [B, F] . posedirs [F, 3 V]`, both contiguous.
pub(super) fn forward(features: &Tensor, posedirs: &Tensor) -> Result<Tensor> {
    let Some(level) = level_for(posedirs, features.size()[0]) else { return Ok(features.f_mm(posedirs)?) };
    let (bodies, columns) = (features.size()[0] as usize, posedirs.size()[1] as usize);
    let mut out = Tensor::f_empty([bodies as i64, columns as i64], (Kind::Float, Device::Cpu))?;
    product::run(level, elements(features), elements(posedirs), columns, elements_mut(&mut out));
    Ok(out)
}

/// `gradient [B, 3 V] . posedirs^T`, `[B, F]`.
pub(super) fn backward(gradient: &Tensor, posedirs: &Tensor) -> Result<Tensor> {
    let Some(level) = level_for(posedirs, gradient.size()[0]) else { return Ok(gradient.f_mm(&posedirs.f_tr()?)?) };
    let (bodies, features) = (gradient.size()[0] as usize, posedirs.size()[0] as usize);
    let mut out = Tensor::f_zeros([bodies as i64, features as i64], (Kind::Float, Device::Cpu))?;
    transposed_product::run(level, elements(gradient), elements(posedirs), features, elements_mut(&mut out));
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers between -1 and 1 that look random.
    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(next).collect()
    }

    fn levels() -> impl Iterator<Item = Level> {
        Level::ALL.into_iter().filter(|level| level.is_available())
    }

    /// The largest distance of products from those in float64, over the sum of the magnitudes of their terms.
    fn largest_error(found: &[f32], terms: impl Fn(usize) -> Vec<(f32, f32)>) -> f64 {
        let error = |(i, found): (usize, &f32)| {
            let terms = terms(i);
            let exact: f64 = terms.iter().map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let magnitude: f64 = terms.iter().map(|(a, b)| (f64::from(*a) * f64::from(*b)).abs()).sum();
            (f64::from(*found) - exact).abs() / magnitude
        };
        found.iter().enumerate().map(error).fold(0.0, f64::max)
    }

    /// Rows, depth and columns around the sizes of tiles, panels and segments.
    const SIZES: [(usize, usize, usize); 8] = [
        (1, 16, 16),
        (2, 17, 47),
        (3, 48, 48),
        (5, 49, 97),
        (8, 64, 145),
        (15, 90, 511),
        (23, 31, 1031),
        (2, 16, 16_387),
    ];

    #[test]
    fn products_are_as_exact_as_float32_allows_at_every_level() {
        for (bodies, depth, columns) in SIZES {
            let (rows, matrix) = (numbers(bodies * depth, 1), numbers(depth * columns, 2));
            let gradient = numbers(bodies * columns, 3);
            for level in levels() {
                let mut out = vec![f32::NAN; bodies * columns];
                product::run(level, &rows, &matrix, columns, &mut out);
                let of = |i: usize| {
                    (0..depth).map(|k| (rows[i / columns * depth + k], matrix[k * columns + i % columns])).collect()
                };
                let error = largest_error(&out, of);
                assert!(error < 1e-6, "{level}, {bodies} x {depth} x {columns}: {error}");

                let mut back = vec![0.0; bodies * depth];
                transposed_product::run(level, &gradient, &matrix, depth, &mut back);
                let of = |i: usize| {
                    let (row, feature) = (&gradient[i / depth * columns..], &matrix[i % depth * columns..]);
                    row.iter().copied().zip(feature.iter().copied()).take(columns).collect()
                };
                let error = largest_error(&back, of);
                assert!(error < 1e-6, "{level}, {bodies} x {depth} x {columns} back: {error}");
            }
        }
    }

    /// A body's bits depend neither on its neighbours in the batch nor on what they are.
    #[test]
    fn a_row_does_not_know_its_neighbours() {
        let (bodies, depth, columns) = (23, 49, 8200);
        let (mut rows, matrix) = (numbers(bodies * depth, 4), numbers(depth * columns, 5));
        let mut gradient = numbers(bodies * columns, 6);
        rows[..depth].fill(f32::NAN);
        gradient[..columns].fill(f32::INFINITY);
        for level in levels() {
            let (mut out, mut back) = (vec![0.0; bodies * columns], vec![0.0; bodies * depth]);
            product::run(level, &rows, &matrix, columns, &mut out);
            transposed_product::run(level, &gradient, &matrix, depth, &mut back);
            assert!(out[..columns].iter().all(|value| value.is_nan()));
            assert!(back[..depth].iter().all(|value| !value.is_finite()));
            for body in 1..bodies {
                let (mut alone, mut alone_back) = (vec![0.0; columns], vec![0.0; depth]);
                product::run(level, &rows[body * depth..][..depth], &matrix, columns, &mut alone);
                transposed_product::run(level, &gradient[body * columns..][..columns], &matrix, depth, &mut alone_back);
                assert_eq!(alone, out[body * columns..][..columns], "{level}, body {body}");
                assert_eq!(alone_back, back[body * depth..][..depth], "{level}, body {body} back");
            }
        }
    }

    #[test]
    fn nothing_comes_of_no_bodies() {
        for level in levels() {
            product::run(level, &[], &numbers(16 * 16, 7), 16, &mut []);
            transposed_product::run(level, &[], &numbers(16 * 16, 7), 16, &mut []);
        }
    }
}
