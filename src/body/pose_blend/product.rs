//! A matrix of few rows times a large one.

// Small functions must be compiled with the instructions of the product that calls them.
#![allow(clippy::inline_always)]

use std::array::from_fn;
use std::ops::Range;

use crate::simd::{self, Lanes, Level, Registers, Stage, prefetch};
use crate::torch::parallel::{self, Columns};

/// Registers of a panel: columns that are computed together, for all rows.
pub(super) const WIDTH: usize = 3;
/// Floats of a line of memory, and the lines that a row of a panel lies in at most.
pub(super) const LINE: usize = 16;
const LINES: usize = WIDTH * simd::MOST_LANES / LINE + 1;
/// Products worth a thread of their own.
pub(super) const GRAIN: usize = 1 << 18;

pub(super) fn run(level: Level, rows: &[f32], matrix: &[f32], columns: usize, out: &mut [f32]) {
    if out.is_empty() {
        return;
    }
    let depth = matrix.len() / columns;
    let step = WIDTH * simd::MOST_LANES;
    let grain = GRAIN.div_ceil(out.len() / columns * depth * step);
    parallel::columns(out, columns, step, grain, |out| {
        simd::run(level, Product { rows, matrix, columns, out });
    });
}

/// Some columns of a product of few rows and a large matrix.
struct Product<'a> {
    rows: &'a [f32],   // [B, depth]
    matrix: &'a [f32], // [depth, columns]
    columns: usize,
    out: Columns<'a, f32>, // [B, columns]
}

impl Stage<f32> for Product<'_> {
    #[inline(always)]
    fn run<V: Lanes<Float = f32>>(mut self) {
        let depth = self.matrix.len() / self.columns;
        let mut memory = Registers::new(depth * WIDTH);
        let panel = memory.as_lanes::<V>()[..depth * WIDTH].as_chunks_mut::<WIDTH>().0;
        let mut range = self.out.range.clone();
        while !range.is_empty() {
            let width = range.len().min(WIDTH * V::COUNT);
            self.lay_out(panel, range.start..range.start + width);
            range.start += width;
            let next = range.start..(range.start + WIDTH * V::COUNT).min(self.columns);
            self.compute(panel, next.start - width..next.start, next);
        }
    }
}

impl Product<'_> {
    /// The matrix's rows within some columns, each in registers of its own.
    #[inline(always)]
    fn lay_out<V: Lanes<Float = f32>>(&self, panel: &mut [[V; WIDTH]], range: Range<usize>) {
        if range.len() == WIDTH * V::COUNT {
            for (row, registers) in self.matrix.chunks_exact(self.columns).zip(panel) {
                *registers = from_fn(|i| V::load(&row[range.start + i * V::COUNT..range.end]));
            }
            return;
        }
        for (row, registers) in self.matrix.chunks_exact(self.columns).zip(panel) {
            let mut padded = [0.0; WIDTH * simd::MOST_LANES];
            padded[..range.len()].copy_from_slice(&row[range.clone()]);
            *registers = from_fn(|i| V::load(&padded[i * V::COUNT..]));
        }
    }

    /// All rows times one panel, meanwhile wishing for the next.
    #[inline(always)]
    fn compute<V: Lanes<Float = f32>>(&mut self, panel: &[[V; WIDTH]], range: Range<usize>, next: Range<usize>) {
        let depth = panel.len();
        // At the end of the matrix there is nothing to wish for, and the panel itself does no harm.
        let wish = if next.is_empty() { range.start } else { next.start };
        let mut done = 0;
        // As many rows as there are registers for.
        if V::COUNT == 16 {
            done = self.tiles::<V, 8>(panel, &range, wish, done);
            done = self.tiles::<V, 4>(panel, &range, wish, done);
        } else {
            done = self.tiles::<V, 3>(panel, &range, wish, done);
        }
        done = self.tiles::<V, 2>(panel, &range, wish, done);
        done = self.tiles::<V, 1>(panel, &range, wish, done);
        debug_assert_eq!(done * depth, self.rows.len());
    }

    #[inline(always)]
    fn tiles<V: Lanes<Float = f32>, const ROWS: usize>(
        &mut self,
        panel: &[[V; WIDTH]],
        range: &Range<usize>,
        wish: usize,
        mut done: usize,
    ) -> usize {
        let depth = panel.len();
        let lines = (LINES * ROWS * depth).div_ceil(self.rows.len()).min(LINES);
        while (done + ROWS) * depth <= self.rows.len() {
            let rows = from_fn(|row| &self.rows[(done + row) * depth..][..depth]);
            // Few tiles have little time to wish for all lines of the next panel.
            let wish = self.matrix.as_ptr().wrapping_add(wish + done / ROWS * lines % LINES * LINE);
            let sums = tile::<V, ROWS, WIDTH>(rows, panel, |at| {
                for line in 0..lines {
                    prefetch(wish.wrapping_add(at * self.columns + line * LINE));
                }
            });
            for (row, sums) in sums.iter().enumerate() {
                let mut wide = [0.0; WIDTH * simd::MOST_LANES];
                for (sum, to) in sums.iter().zip(wide.chunks_exact_mut(V::COUNT)) {
                    sum.store(to);
                }
                self.out.of_row(done + row, range.clone()).copy_from_slice(&wide[..range.len()]);
            }
            done += ROWS;
        }
        done
    }
}

/// `rows [ROWS, depth] . panel [depth, WIDTH * V::COUNT]`; `ask` is called once for each row of the panel.
#[inline(always)]
pub(super) fn tile<V: Lanes<Float = f32>, const ROWS: usize, const WIDTH: usize>(
    rows: [&[f32]; ROWS],
    panel: &[[V; WIDTH]],
    ask: impl Fn(usize),
) -> [[V; WIDTH]; ROWS] {
    assert!(rows.iter().all(|row| row.len() == panel.len()));
    let mut sums = [[V::splat(0.0); WIDTH]; ROWS];
    for (at, registers) in panel.iter().enumerate() {
        ask(at);
        for (sums, row) in sums.iter_mut().zip(rows) {
            // SAFETY: every row has as many elements as the panel has rows.
            let factor = V::splat(unsafe { *row.get_unchecked(at) });
            for (sum, register) in sums.iter_mut().zip(registers) {
                *sum = register.mul_add(factor, *sum);
            }
        }
    }
    sums
}
