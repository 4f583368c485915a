//! The loops of skinning on the CPU, each over some vertices of one body. A matrix of 4 x 4 floats is a register or
//! four, so that a vertex costs a few instructions for each of its joints.
//!
//! Products and sums are rounded apart: the bits are the same on every processor.

// Small functions must be compiled with the instructions of the loop that calls them.
#![allow(clippy::inline_always)]

use std::array::from_fn;
use std::borrow::Cow;

use super::Real;
use crate::simd::{Lanes, Stage};

/// A 4 x 4 matrix that does not lie across lines of memory, which registers would wait for.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Matrix<T>(pub(super) [T; 16]);

/// Vertices whose matrices are kept at once.
const CHUNK: usize = 64;

/// For every vertex its joints and their weights. Joints are checked: -1 for none, else less than the number of matrices.
pub(super) struct Rows<'a, T> {
    weights: &'a [T],       // [V, K]
    joints: Cow<'a, [i32]>, // [V, K], or [K] for all vertices
    influences: usize,      // K
}

impl<'a, T: Real> Rows<'a, T> {
    /// Without joints the weights are dense: `K = J`.
    pub(super) fn new(weights: &'a [T], joints: Option<&'a [i32]>, influences: usize) -> Self {
        let joints = joints.map_or_else(|| (0..influences as i32).collect(), Cow::Borrowed);
        Self { weights, joints, influences }
    }

    #[inline(always)]
    fn of(&self, vertex: usize) -> impl Iterator<Item = (&i32, &T)> {
        let first = vertex * self.influences;
        let of_vertex = if self.joints.len() == self.weights.len() { first } else { 0 };
        self.joints[of_vertex..of_vertex + self.influences].iter().zip(&self.weights[first..first + self.influences])
    }

    /// `sum_j w_vj M_j` for the vertices from `first` on.
    #[inline(always)]
    fn blend<V: Lanes<Float = T>>(&self, first: usize, matrices: &[Matrix<T>], blended: &mut [Matrix<T>]) {
        for (i, blended) in blended.iter_mut().enumerate() {
            let mut sums = [V::splat(T::zero()); 16];
            for (joint, weight) in self.of(first + i) {
                if *joint < 0 {
                    continue;
                }
                let (matrix, weight) = (matrices[*joint as usize].0.chunks_exact(V::COUNT), V::splat(*weight));
                for (sum, part) in sums.iter_mut().zip(matrix) {
                    *sum = *sum + weight * V::load(part);
                }
            }
            for (sum, part) in sums.iter().zip(blended.0.chunks_exact_mut(V::COUNT)) {
                sum.store(part);
            }
        }
    }
}

/// Transforms for points: `A [v; 1]`.
pub(super) fn for_points<T: Real>(transforms: &[T]) -> Vec<Matrix<T>> {
    let columns = |m: &[T; 16]| Matrix(from_fn(|i| m[4 * (i % 4) + i / 4]));
    transforms.as_chunks::<16>().0.iter().map(columns).collect()
}

/// Transforms for the gradients of points, backwards: `A^T g`, without what comes of the 1.
pub(super) fn for_gradients<T: Real>(transforms: &[T]) -> Vec<Matrix<T>> {
    let rows = |m: &[T; 16]| Matrix(from_fn(|i| if i < 12 { m[i] } else { T::zero() }));
    transforms.as_chunks::<16>().0.iter().map(rows).collect()
}

/// `out_v = sum_j w_vj M_j [v; 1] + shift`.
pub(super) struct Skinned<'a, T> {
    pub(super) rows: &'a Rows<'a, T>,
    pub(super) first: usize,              // vertex
    pub(super) vectors: &'a [T],          // [part, 3]
    pub(super) matrices: &'a [Matrix<T>], // [J], column by column
    pub(super) shift: [T; 3],
    pub(super) out: &'a mut [T], // [part, 3]
}

impl<T: Real> Stage<T> for Skinned<'_, T> {
    #[inline(always)]
    fn run<V: Lanes<Float = T>>(self) {
        let mut blended = vec![Matrix([T::zero(); 16]); CHUNK.min(self.out.len() / 3)];
        let parts =
            self.vectors.as_chunks::<3>().0.chunks(CHUNK).zip(self.out.as_chunks_mut::<3>().0.chunks_mut(CHUNK));
        for (part, (vectors, out)) in parts.enumerate() {
            let blended = &mut blended[..out.len()];
            self.rows.blend::<V>(self.first + CHUNK * part, self.matrices, blended);
            for ((Matrix(m), v), out) in blended.iter().zip(vectors).zip(out) {
                *out = from_fn(|i| m[i] * v[0] + m[4 + i] * v[1] + m[8 + i] * v[2] + (m[12 + i] + self.shift[i]));
            }
        }
    }
}

/// The gradient of the transforms from some vertices: adds `sum_v w_vj g_v [v; 1]^T` to the first rows of joint `j`.
pub(super) struct Gathered<'a, T> {
    pub(super) rows: &'a Rows<'a, T>,
    pub(super) first: usize,              // vertex
    pub(super) gradient: &'a [T],         // [part, 3]
    pub(super) vertices: &'a [T],         // [part, 3]
    pub(super) sums: &'a mut [Matrix<T>], // [J]
}

impl<T: Real> Stage<T> for Gathered<'_, T> {
    #[inline(always)]
    fn run<V: Lanes<Float = T>>(self) {
        let mut outer = vec![Matrix([T::zero(); 16]); CHUNK.min(self.vertices.len() / 3)];
        let parts = self.gradient.as_chunks::<3>().0.chunks(CHUNK).zip(self.vertices.as_chunks::<3>().0.chunks(CHUNK));
        for (part, (gradient, vertices)) in parts.enumerate() {
            for ((Matrix(outer), g), v) in outer.iter_mut().zip(gradient).zip(vertices) {
                for (row, g) in outer.as_chunks_mut::<4>().0.iter_mut().zip(g) {
                    *row = [*g * v[0], *g * v[1], *g * v[2], *g];
                }
            }
            for (i, Matrix(outer)) in outer[..vertices.len()].iter().enumerate() {
                for (joint, weight) in self.rows.of(self.first + CHUNK * part + i) {
                    if *joint < 0 {
                        continue;
                    }
                    let (sum, weight) = (&mut self.sums[*joint as usize].0, V::splat(*weight));
                    for (sum, part) in sum.chunks_exact_mut(V::COUNT).zip(outer.chunks_exact(V::COUNT)) {
                        (V::load(sum) + weight * V::load(part)).store(sum);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{self, Level};

    fn numbers(count: usize, seed: u64) -> Vec<f64> {
        (0..count as u64).map(|i| ((i * 2_654_435_761 + seed * 40_503) % 2001) as f64 / 1000.0 - 1.0).collect()
    }

    /// Vertices, joints, influences; with and without joints, more and fewer than a chunk.
    const SIZES: [(usize, usize, usize); 4] = [(1, 1, 1), (63, 5, 3), (131, 7, 7), (200, 55, 4)];

    /// Every result as float64 from the formulas: skinned, unskinned, gathered.
    fn expected([weights, g, v, transforms]: &[Vec<f64>; 4], joints: &[i32], influences: usize) -> [Vec<f64>; 3] {
        let count = v.len() / 3;
        let (mut skinned, mut unskinned) = (vec![0.0; 3 * count], vec![0.0; 3 * count]);
        let mut gathered = vec![0.0; transforms.len()];
        for vertex in 0..count {
            let point = [v[3 * vertex], v[3 * vertex + 1], v[3 * vertex + 2], 1.0];
            for k in vertex * influences..(vertex + 1) * influences {
                let Ok(joint) = usize::try_from(joints[k]) else { continue };
                for (row, column) in (0..3).flat_map(|row| (0..4).map(move |column| (row, column))) {
                    let entry = weights[k] * transforms[16 * joint + 4 * row + column];
                    skinned[3 * vertex + row] += entry * point[column];
                    if column < 3 {
                        unskinned[3 * vertex + column] += entry * g[3 * vertex + row];
                    }
                    gathered[16 * joint + 4 * row + column] += weights[k] * g[3 * vertex + row] * point[column];
                }
            }
        }
        [skinned, unskinned, gathered]
    }

    #[test]
    fn the_loops_agree_with_the_formulas_and_with_one_another() {
        for (count, joint_count, influences) in SIZES {
            let of_all = [
                numbers(count * influences, 1),
                numbers(3 * count, 2),
                numbers(3 * count, 3),
                numbers(16 * joint_count, 4),
            ];
            let dense = influences == joint_count;
            let joint = |i: usize| if dense { i % influences } else { (i * 7 + i / 5) % joint_count } as i32;
            let joints: Vec<i32> =
                (0..count * influences).map(|i| if !dense && i % 11 == 0 { -1 } else { joint(i) }).collect();
            let exact = expected(&of_all, &joints, influences);
            let narrow = of_all.each_ref().map(|all| all.iter().map(|value| *value as f32).collect::<Vec<_>>());
            let [weights, g, v, transforms] = &narrow;
            let rows = &Rows::new(weights, (!dense).then_some(&joints), influences);
            let mut first: Option<[Vec<f32>; 3]> = None;
            for level in Level::ALL.into_iter().filter(|level| level.is_available()) {
                let (mut skinned, mut unskinned) = (vec![f32::NAN; 3 * count], vec![f32::NAN; 3 * count]);
                let mut sums = vec![Matrix([0.0; 16]); joint_count];
                let shift = [0.0; 3];
                let (matrices, out) = (&for_points(transforms), &mut skinned);
                simd::run(level, Skinned { rows, first: 0, vectors: v, matrices, shift, out });
                let (matrices, out) = (&for_gradients(transforms), &mut unskinned);
                simd::run(level, Skinned { rows, first: 0, vectors: g, matrices, shift, out });
                simd::run(level, Gathered { rows, first: 0, gradient: g, vertices: v, sums: &mut sums });
                let gathered = sums.iter().flat_map(|sum| sum.0).collect();
                let found = [skinned, unskinned, gathered];
                for (found, exact) in found.iter().zip(&exact) {
                    let error = found.iter().zip(exact).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
                    assert!(error < 1e-4, "{level}, {count} vertices: {error}");
                }
                // Whatever the registers, the bits are the same.
                assert_eq!(*first.get_or_insert_with(|| found.clone()), found, "{level}");
            }
        }
    }
}
