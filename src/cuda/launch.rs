//! A kernel with one parameter struct, launched on torch's stream. Nothing here allocates or waits.

use std::ffi::c_void;

use cudarc::driver::{result, sys};

use crate::Result;

/// A loaded kernel.
#[derive(Clone, Copy)]
pub(crate) struct Kernel(sys::CUfunction);

// SAFETY: a function handle may be used from any thread.
unsafe impl Send for Kernel {}
// SAFETY: as above.
unsafe impl Sync for Kernel {}

impl Kernel {
    pub(super) fn new(function: sys::CUfunction) -> Self {
        Self(function)
    }

    /// `params` is the `#[repr(C)]` twin of the kernel's parameter struct.
    pub(crate) fn launch<P>(
        self,
        blocks: u32,
        threads: u32,
        shared: u32,
        params: &P,
        stream: *mut c_void,
    ) -> Result<()> {
        let mut arguments = [(&raw const *params).cast_mut().cast::<c_void>()];
        // SAFETY: the struct matches the kernel's and is copied by the call; its pointers are into live tensors.
        unsafe {
            result::launch_kernel(self.0, (blocks, 1, 1), (threads, 1, 1), shared, stream.cast(), &mut arguments)?
        };
        Ok(())
    }
}

/// One thread for each of `count` items.
pub(crate) fn launch_1d<P>(kernel: Kernel, count: i64, threads: u32, params: &P, stream: *mut c_void) -> Result<()> {
    match blocks_for(count, threads)? {
        0 => Ok(()),
        blocks => kernel.launch(blocks, threads, 0, params, stream),
    }
}

/// Blocks that cover `count` items; the grid's first dimension goes to 2^31 - 1.
fn blocks_for(count: i64, threads: u32) -> Result<u32> {
    let blocks = (count as u64).div_ceil(u64::from(threads));
    u32::try_from(blocks).ok().filter(|&blocks| blocks < 1 << 31).ok_or_else(|| {
        crate::Error::Value(format!("{count} items are more than one launch of {threads} threads a block covers"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_every_item_and_no_more() {
        assert_eq!(blocks_for(0, 256).ok(), Some(0));
        assert_eq!(blocks_for(1, 256).ok(), Some(1));
        assert_eq!(blocks_for(256, 256).ok(), Some(1));
        assert_eq!(blocks_for(257, 256).ok(), Some(2));
        assert!(blocks_for(1 << 40, 256).is_err());
    }
}
