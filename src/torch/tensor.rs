//! Tensors past tch and the dispatcher, which take longer than the allocator does: a body is many small ones.

use std::ffi::c_char;

use tch::{Kind, Tensor};
use torch_sys::C_tensor;

use super::border::attempt;
use crate::Result;

/// Whose allocation a tensor lies in.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Memory {
    /// Its own, as a result must.
    Own,
    /// One for all of these in a call of `empty`, which lives as long as any of them.
    Shared,
}

/// The twin of `avatorch::Wanted` in `border.cpp`.
#[repr(C)]
struct Wanted {
    size: *const i64, // [rank]
    rank: usize,
    dtype: i32, // at::ScalarType
    is_own: i32,
}

unsafe extern "C" {
    fn avatorch_empty(
        beside: *const C_tensor,
        wanted: *const Wanted,
        count: usize,
        outputs: *mut *mut C_tensor,
        message: *mut c_char,
        message_size: usize,
    ) -> i32;
    fn avatorch_sizes(tensor: *const C_tensor, rank: *mut usize) -> *const i64;
}

/// Contiguous tensors of memory that nobody has written, on the device of another: inside an operator, the current one.
pub(crate) fn empty<const N: usize>(beside: &Tensor, wanted: [(Memory, &[i64], Kind); N]) -> Result<[Tensor; N]> {
    let wanted = wanted.map(|(memory, size, kind)| Wanted {
        size: size.as_ptr(),
        rank: size.len(),
        dtype: scalar_type(kind),
        is_own: i32::from(memory == Memory::Own),
    });
    let mut outputs = [std::ptr::null_mut(); N];
    attempt(|message, message_size| {
        // SAFETY: the sizes are borrowed for as long as this call; the counts are those of the arrays.
        unsafe { avatorch_empty(beside.as_ptr(), wanted.as_ptr(), N, outputs.as_mut_ptr(), message, message_size) }
    })?;
    // SAFETY: every output was written, each an owned tensor.
    Ok(outputs.map(|output| unsafe { Tensor::from_ptr(output) }))
}

/// One result.
pub(crate) fn empty_one(beside: &Tensor, size: &[i64], kind: Kind) -> Result<Tensor> {
    let [tensor] = empty(beside, [(Memory::Own, size, kind)])?;
    Ok(tensor)
}

/// The number of a dtype in `c10/core/ScalarType.h`.
fn scalar_type(kind: Kind) -> i32 {
    match kind {
        Kind::Half => 5,
        Kind::Float => 6,
        Kind::Double => 7,
        _ => unreachable!("no operator makes memory of another dtype"),
    }
}

pub(crate) trait Sizes {
    /// The sizes themselves; `Tensor::size` copies them.
    fn sizes(&self) -> &[i64];
}

impl Sizes for Tensor {
    fn sizes(&self) -> &[i64] {
        let mut rank = 0;
        // SAFETY: the tensor lives, and is not resized while it is borrowed.
        unsafe {
            let sizes = avatorch_sizes(self.as_ptr(), &raw mut rank);
            assert!(!sizes.is_null(), "a tensor in memory has sizes");
            std::slice::from_raw_parts(sizes, rank)
        }
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::Memory::{Own, Shared};
    use super::*;

    #[test]
    fn shared_tensors_lie_one_behind_another_and_nothing_overlaps() {
        let beside = Tensor::zeros([2, 3], (Kind::Float, Device::Cpu));
        let mut made = empty(
            &beside,
            [
                (Shared, &[3, 5], Kind::Half),
                (Own, &[7], Kind::Float),
                (Shared, &[0, 4], Kind::Float),
                (Shared, &[2, 2, 2], Kind::Double),
                (Shared, &[1], Kind::Float),
            ],
        )
        .unwrap();
        let sizes: [&[i64]; 5] = [&[3, 5], &[7], &[0, 4], &[2, 2, 2], &[1]];
        for (tensor, size) in made.iter().zip(sizes) {
            assert_eq!(tensor.sizes(), size);
            assert!(tensor.is_contiguous());
        }
        assert_eq!(
            made.each_ref().map(Tensor::kind),
            [Kind::Half, Kind::Float, Kind::Float, Kind::Double, Kind::Float]
        );
        let first = made[0].data_ptr() as usize;
        assert_eq!([3, 4].map(|i: usize| made[i].data_ptr() as usize - first), [256, 512]);
        for (i, tensor) in made.iter_mut().enumerate() {
            let _ = tensor.fill_(i as i64);
        }
        let sums = made.each_ref().map(|tensor| tensor.sum(Kind::Int64).int64_value(&[]));
        assert_eq!(sums, [0, 7, 0, 24, 4]);
    }

    #[test]
    fn what_is_shared_outlives_the_others() {
        let beside = Tensor::zeros([1], (Kind::Float, Device::Cpu));
        let [first, mut last] =
            empty(&beside, [(Shared, &[1000], Kind::Float), (Shared, &[1000], Kind::Float)]).unwrap();
        drop(first);
        let _ = last.fill_(1);
        assert_eq!(last.sum(Kind::Int64).int64_value(&[]), 1000);
    }

    #[test]
    fn sizes_that_no_memory_has_are_an_error() {
        let beside = Tensor::zeros([1], (Kind::Float, Device::Cpu));
        let half: &[i64] = &[1 << 60];
        let text = |wanted| empty::<2>(&beside, wanted).unwrap_err().to_string();
        assert!(text([(Own, &[1 << 40, 1 << 40], Kind::Float), (Own, half, Kind::Half)]).contains("overflowed"));
        assert!(text([(Shared, half, Kind::Float), (Shared, half, Kind::Float)]).contains("overflowed"));
        assert!(text([(Own, &[-1], Kind::Float), (Own, &[1], Kind::Float)]).contains("negative dimension"));
        assert!(text([(Own, &[1 << 50], Kind::Float), (Own, &[1], Kind::Float)]).contains("memory"));
    }
}
