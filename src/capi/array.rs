//! Results in memory of our own, which callers read in place.

use super::failure::{AvatorchStatus, Failure};

/// 64 bytes: the widest register, and a line of the cache.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// A matrix of floats that begins on a line of the cache.
pub(super) struct Array {
    lines: Vec<Line>,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl Array {
    /// Zeros, or a failure where memory is short.
    pub(super) fn zeros(rows: usize, columns: usize) -> Result<Self, Failure> {
        let count = (rows * columns).div_ceil(16);
        let mut lines = Vec::new();
        lines.try_reserve_exact(count).map_err(|_| {
            Failure::new(AvatorchStatus::AVATORCH_ALLOCATION, format!("no memory for {rows} x {columns} values"))
        })?;
        lines.resize(count, Line([0.0; 16]));
        Ok(Self { lines, rows, columns })
    }

    pub(super) fn len(&self) -> usize {
        self.rows * self.columns
    }

    pub(super) fn values(&self) -> &[f32] {
        // SAFETY: the lines are floats, `len()` of them or a few more.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len()) }
    }

    pub(super) fn values_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len()) }
    }
}
