//! Loops on torch's own threads, so that `torch.set_num_threads` holds and no second pool competes.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

unsafe extern "C" {
    fn torch_parallel_for(begin: i64, end: i64, grain: i64, body: ParallelBody, context: *mut c_void) -> i32;
}
type ParallelBody = unsafe extern "C" fn(i64, i64, *mut c_void);

/// Calls `body(begin, end)` for disjoint ranges that cover `0..count`; a panic inside is raised again here.
pub(crate) fn ranges<F: Fn(usize, usize) + Sync>(count: usize, grain: usize, body: F) {
    struct Context<'a, F> {
        body: &'a F,
        panic: Mutex<Option<Box<dyn std::any::Any + Send>>>,
    }
    unsafe extern "C" fn trampoline<F: Fn(usize, usize) + Sync>(begin: i64, end: i64, context: *mut c_void) {
        // SAFETY: `context` is the `Context` below, alive until torch_parallel_for returns.
        let context = unsafe { &*context.cast::<Context<'_, F>>() };
        let run = AssertUnwindSafe(|| (context.body)(begin as usize, end as usize));
        if let Err(panic) = catch_unwind(run) {
            *context.panic.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(panic);
        }
    }
    let context = Context { body: &body, panic: Mutex::new(None) };
    let pointer = (&raw const context).cast_mut().cast::<c_void>();
    // SAFETY: torch calls the trampoline with this context only, from any of its threads, before it returns; `F: Sync`.
    let status = unsafe { torch_parallel_for(0, count as i64, grain.max(1) as i64, trampoline::<F>, pointer) };
    if let Some(panic) = context.panic.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        std::panic::resume_unwind(panic);
    }
    assert_eq!(status, 0, "torch_parallel_for failed");
}

/// Splits `output` into rows of `row` elements and calls `body(index of the first row, those rows)` on each part.
pub(crate) fn rows<T: Send, F: Fn(usize, &mut [T]) + Sync>(output: &mut [T], row: usize, grain: usize, body: F) {
    assert!(row > 0 && output.len().is_multiple_of(row), "output is made of whole rows");
    let base = Shared(output.as_mut_ptr());
    ranges(output.len() / row, grain, |begin, end| {
        let base = &base;
        // SAFETY: ranges are disjoint and inside the output.
        let part = unsafe { std::slice::from_raw_parts_mut(base.0.add(begin * row), (end - begin) * row) };
        body(begin, part);
    });
}

/// Splits the columns of `output`, whose rows have `row` elements, and calls `body(part)` for each part.
pub(crate) fn columns<T: Send, F: Fn(Columns<'_, T>) + Sync>(
    output: &mut [T],
    row: usize,
    step: usize,
    grain: usize,
    body: F,
) {
    assert!(row > 0 && output.len().is_multiple_of(row), "output is made of whole rows");
    let base = Shared(output.as_mut_ptr());
    let rows = output.len() / row;
    ranges(row.div_ceil(step), grain, |begin, end| {
        let base = &base;
        body(Columns { base: base.0, rows, row, range: begin * step..(end * step).min(row), output: PhantomData });
    });
}

/// Some columns of a matrix, which nobody else has.
pub(crate) struct Columns<'a, T> {
    base: *mut T,
    rows: usize,
    row: usize,
    pub(crate) range: Range<usize>,
    output: PhantomData<&'a mut [T]>,
}

impl<T> Columns<'_, T> {
    /// The part of a row that lies in these columns and in `range`.
    pub(crate) fn of_row(&mut self, row: usize, range: Range<usize>) -> &mut [T] {
        assert!(row < self.rows && [self.range.start, range.start, range.end, self.range.end].is_sorted());
        // SAFETY: checked: inside the output and inside the columns that are only ours.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(row * self.row + range.start), range.len()) }
    }
}

/// Outputs whose rows belong together: calls `body(index, one row of each)` for every index. An output with rows of no
/// elements takes part with an empty row.
pub(crate) fn zip_rows<T: Send, const N: usize, F>(outputs: [(&mut [T], usize); N], grain: usize, body: F)
where
    F: Fn(usize, [&mut [T]; N]) + Sync,
{
    let rows: [usize; N] = outputs.each_ref().map(|(_, row)| *row);
    zip_parts(outputs, grain, |first, mut parts| {
        let count = parts.iter().zip(rows).filter(|(_, row)| *row > 0).map(|(part, row)| part.len() / row).max();
        for index in first..first + count.unwrap_or(0) {
            let mut rows = rows.iter();
            body(
                index,
                parts
                    .each_mut()
                    .map(|part| part.split_off_mut(..*rows.next().expect("a size each")).expect("a row each")),
            );
        }
    });
}

/// As `zip_rows`, with all rows of a thread at once: calls `body(index of the first rows, those rows of each)`.
pub(crate) fn zip_parts<T: Send, const N: usize, F>(outputs: [(&mut [T], usize); N], grain: usize, body: F)
where
    F: Fn(usize, [&mut [T]; N]) + Sync,
{
    let count = outputs.iter().filter(|(_, row)| *row > 0).map(|(all, row)| all.len() / row).max().unwrap_or(0);
    for (all, row) in &outputs {
        assert_eq!(all.len(), row * count, "every output has a row for each index");
    }
    let bases = outputs.map(|(all, row)| (Shared(all.as_mut_ptr()), row));
    ranges(count, grain, |begin, end| {
        let bases = &bases;
        let part = |i: usize| {
            let (base, row): &(Shared<T>, usize) = &bases[i];
            // SAFETY: ranges are disjoint and every output has `count` rows.
            unsafe { std::slice::from_raw_parts_mut(base.0.add(begin * row), (end - begin) * row) }
        };
        body(begin, std::array::from_fn(part));
    });
}

struct Shared<T>(*mut T);
// SAFETY: only disjoint parts are made of it, one a thread, and `T: Send`.
unsafe impl<T: Send> Sync for Shared<T> {}

/// The elements of a contiguous CPU tensor.
pub(crate) fn elements<T: crate::body::Real>(tensor: &tch::Tensor) -> &[T] {
    check::<T>(tensor);
    if tensor.numel() == 0 {
        return &[];
    }
    // SAFETY: checked: on the CPU, contiguous, of this dtype.
    unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<T>(), tensor.numel()) }
}

/// The elements of a contiguous CPU tensor that was just allocated here, so that nobody else sees it.
pub(crate) fn elements_mut<T: crate::body::Real>(tensor: &mut tch::Tensor) -> &mut [T] {
    check::<T>(tensor);
    if tensor.numel() == 0 {
        return &mut [];
    }
    // SAFETY: checked: on the CPU, contiguous, of this dtype.
    unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast::<T>(), tensor.numel()) }
}

/// The elements of a contiguous int32 CPU tensor.
pub(crate) fn int32s(tensor: &tch::Tensor) -> &[i32] {
    integers(tensor, tch::Kind::Int)
}

/// The elements of a contiguous int64 CPU tensor.
pub(crate) fn int64s(tensor: &tch::Tensor) -> &[i64] {
    integers(tensor, tch::Kind::Int64)
}

fn integers<T>(tensor: &tch::Tensor, kind: tch::Kind) -> &[T] {
    assert!(tensor.device() == tch::Device::Cpu && tensor.is_contiguous() && tensor.kind() == kind);
    if tensor.numel() == 0 {
        return &[];
    }
    // SAFETY: checked: on the CPU, contiguous, of the dtype that `T` is.
    unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<T>(), tensor.numel()) }
}

fn check<T: crate::body::Real>(tensor: &tch::Tensor) {
    assert!(tensor.device() == tch::Device::Cpu && tensor.is_contiguous() && tensor.kind() == T::KIND);
}
