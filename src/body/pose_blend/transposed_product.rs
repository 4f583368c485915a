//! A matrix of few rows times a large one, transposed.

// Small functions must be compiled with the instructions of the product that calls them.
#![allow(clippy::inline_always)]

use std::array::from_fn;
use std::ops::Range;

use super::product::{GRAIN, WIDTH, tile};
use crate::simd::{self, Lanes, Level, Registers, Stage};
use crate::torch::parallel::{self, Columns};

/// Columns of a partial sum, of which each thread has several.
const SEGMENT: usize = 8192;
/// Columns that are laid out at once.
const DEPTH: usize = 512;

pub(super) fn run(level: Level, rows: &[f32], matrix: &[f32], features: usize, out: &mut [f32]) {
    let columns = matrix.len() / features;
    if out.is_empty() {
        return;
    }
    let bodies = out.len() / features;
    let step = WIDTH * simd::MOST_LANES;
    let padded = features.next_multiple_of(step);
    // Sums of each segment apart, side by side: [B, segments, padded features].
    let segments = columns.div_ceil(SEGMENT);
    let mut partial = vec![0.0; bodies * segments * padded];
    let grain = GRAIN.div_ceil(bodies * columns.min(SEGMENT) * step);
    parallel::columns(&mut partial, segments * padded, step, grain, |sums| {
        simd::run(level, TransposedProduct { rows, matrix, columns, features, padded, sums });
    });
    for (out, sums) in out.chunks_exact_mut(features).zip(partial.chunks_exact(segments * padded)) {
        for sums in sums.chunks_exact(padded) {
            out.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
        }
    }
}

/// Some segments and features of a product of few rows and a large matrix transposed.
struct TransposedProduct<'a> {
    rows: &'a [f32],   // [B, columns]
    matrix: &'a [f32], // [features, columns]
    columns: usize,
    features: usize,
    padded: usize,          // features
    sums: Columns<'a, f32>, // [B, segments, padded]
}

impl Stage<f32> for TransposedProduct<'_> {
    #[inline(always)]
    fn run<V: Lanes<Float = f32>>(mut self) {
        let mut memory = Registers::new(DEPTH * WIDTH);
        let range = self.sums.range.clone();
        for to in range.step_by(WIDTH * V::COUNT) {
            let (segment, feature) = (to / self.padded, to % self.padded);
            let end = ((segment + 1) * SEGMENT).min(self.columns);
            for first in (segment * SEGMENT..end).step_by(DEPTH) {
                let columns = first..(first + DEPTH).min(end);
                match self.features.saturating_sub(feature).div_ceil(V::COUNT) {
                    0 => {}
                    1 => self.block::<V, 1>(memory.as_lanes(), feature, columns, to),
                    2 => self.block::<V, 2>(memory.as_lanes(), feature, columns, to),
                    _ => self.block::<V, WIDTH>(memory.as_lanes(), feature, columns, to),
                }
            }
        }
    }
}

impl TransposedProduct<'_> {
    #[inline(always)]
    fn block<V: Lanes<Float = f32>, const WIDTH: usize>(
        &mut self,
        memory: &mut [V],
        feature: usize,
        columns: Range<usize>,
        to: usize,
    ) {
        let panel = memory[..columns.len() * WIDTH].as_chunks_mut::<WIDTH>().0;
        for register in 0..WIDTH {
            self.turn(panel, register, feature + register * V::COUNT, columns.start);
        }
        let mut done = 0;
        if V::COUNT == 16 {
            done = self.tiles::<V, 8, WIDTH>(panel, columns.start, to, done);
            done = self.tiles::<V, 4, WIDTH>(panel, columns.start, to, done);
        } else {
            done = self.tiles::<V, 3, WIDTH>(panel, columns.start, to, done);
        }
        done = self.tiles::<V, 2, WIDTH>(panel, columns.start, to, done);
        done = self.tiles::<V, 1, WIDTH>(panel, columns.start, to, done);
        debug_assert_eq!(done * self.columns, self.rows.len());
    }

    /// Fills one register of every row of the panel with the next features at that column.
    #[inline(always)]
    fn turn<V: Lanes<Float = f32>, const WIDTH: usize>(
        &self,
        panel: &mut [[V; WIDTH]],
        register: usize,
        feature: usize,
        column: usize,
    ) {
        let count = V::COUNT.min(self.features - feature);
        let whole = if count == V::COUNT { panel.len() / 4 * 4 } else { 0 };
        let (fours, rest) = panel.split_at_mut(whole);
        let from = &self.matrix[feature * self.columns + column..];
        for (i, four) in fours.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            for (row, turned) in four.iter_mut().zip(V::columns(&from[4 * i..], self.columns)) {
                row[register] = turned;
            }
        }
        for (i, row) in rest.iter_mut().enumerate() {
            let mut lanes = [0.0; simd::MOST_LANES];
            for (lane, to) in lanes[..count].iter_mut().enumerate() {
                *to = from[lane * self.columns + whole + i];
            }
            row[register] = V::load(&lanes);
        }
    }

    #[inline(always)]
    fn tiles<V: Lanes<Float = f32>, const ROWS: usize, const WIDTH: usize>(
        &mut self,
        panel: &[[V; WIDTH]],
        column: usize,
        to: usize,
        mut done: usize,
    ) -> usize {
        while (done + ROWS) * self.columns <= self.rows.len() {
            let rows = from_fn(|row| &self.rows[(done + row) * self.columns + column..][..panel.len()]);
            let sums = tile::<V, ROWS, WIDTH>(rows, panel, |_| ());
            for (row, sums) in sums.iter().enumerate() {
                let totals = self.sums.of_row(done + row, to..to + WIDTH * V::COUNT);
                for (total, sum) in totals.chunks_exact_mut(V::COUNT).zip(sums) {
                    (V::load(total) + *sum).store(total);
                }
            }
            done += ROWS;
        }
        done
    }
}
