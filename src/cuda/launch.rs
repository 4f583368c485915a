//! A kernel with one parameter struct, launched on torch's stream. Nothing here allocates or waits.

use std::ffi::c_void;

use cudarc::driver::sys;

use crate::{Error, Result};

/// A loaded kernel.
#[derive(Clone, Copy)]
pub(crate) struct Kernel {
    function: sys::CUfunction,
    /// Bytes of dynamic shared memory that a block of this kernel can have on its device.
    shared_limit: u32,
    /// Whether the device lets kernels begin early.
    knows_early: bool,
    is_early: bool,
}

// SAFETY: a function handle may be used from any thread.
unsafe impl Send for Kernel {}
// SAFETY: as above.
unsafe impl Sync for Kernel {}

impl Kernel {
    pub(super) fn new(function: sys::CUfunction, shared_limit: u32, knows_early: bool) -> Self {
        Self { function, shared_limit, knows_early, is_early: false }
    }

    /// The same, but it may begin before the kernel in front of it on the stream has ended, where the device can; it
    /// waits for that one itself (`wait_for_former` in `kernels/common/early.cuh`).
    pub(crate) fn early(self) -> Self {
        Self { is_early: self.knows_early, ..self }
    }

    /// Whether it can begin early.
    pub(crate) fn knows_early(self) -> bool {
        self.knows_early
    }

    /// Bytes of dynamic shared memory that a block can have.
    pub(crate) fn shared_limit(self) -> u32 {
        self.shared_limit
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
        if shared > self.shared_limit {
            return Err(Error::Value(format!(
                "this rig has too many joints for the GPU: a block would need {shared} bytes of shared memory and has {}",
                self.shared_limit
            )));
        }
        let mut arguments = [(&raw const *params).cast_mut().cast::<c_void>()];
        let mut value = sys::CUlaunchAttributeValue { pad: [0; 64] };
        value.programmaticStreamSerializationAllowed = 1;
        let id = sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
        let mut early = sys::CUlaunchAttribute { id, pad: [0; 4], value };
        let config = sys::CUlaunchConfig {
            gridDimX: blocks,
            gridDimY: 1,
            gridDimZ: 1,
            blockDimX: threads,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: shared,
            hStream: stream.cast(),
            attrs: &raw mut early,
            numAttrs: u32::from(self.is_early),
        };
        // SAFETY: the struct matches the kernel's and is copied by the call; its pointers are into live tensors.
        unsafe {
            sys::cuLaunchKernelEx(&raw const config, self.function, arguments.as_mut_ptr(), std::ptr::null_mut())
                .result()?;
        }
        Ok(())
    }
}

impl Kernel {
    /// Launches unless there is nothing to do: a grid of no blocks is an error to CUDA.
    pub(crate) fn launch_if_any<P>(
        self,
        blocks: u32,
        threads: u32,
        shared: u32,
        params: &P,
        stream: *mut c_void,
    ) -> Result<()> {
        if blocks == 0 { Ok(()) } else { self.launch(blocks, threads, shared, params, stream) }
    }
}

/// One thread for each of `count` items.
pub(crate) fn launch_1d<P>(kernel: Kernel, count: i64, threads: u32, params: &P, stream: *mut c_void) -> Result<()> {
    kernel.launch_if_any(blocks_of(1, count, threads)?, threads, 0, params, stream)
}

/// Whole blocks for the `items` of each body. The batch is in the grid's first dimension, which goes to 2^31 - 1.
pub(crate) fn blocks_of(bodies: i64, items: i64, threads: u32) -> Result<u32> {
    let blocks = bodies as u128 * u128::from((items as u64).div_ceil(u64::from(threads)));
    u32::try_from(blocks).ok().filter(|&blocks| blocks < 1 << 31).ok_or_else(|| {
        Error::Value(format!("{bodies} bodies of {items} items are more than one launch covers; split the batch"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_every_item_and_no_more() {
        assert_eq!(blocks_of(1, 0, 256).ok(), Some(0));
        assert_eq!(blocks_of(1, 1, 256).ok(), Some(1));
        assert_eq!(blocks_of(1, 256, 256).ok(), Some(1));
        assert_eq!(blocks_of(3, 257, 256).ok(), Some(6));
        assert!(blocks_of(1 << 40, 1, 256).is_err());
    }
}
