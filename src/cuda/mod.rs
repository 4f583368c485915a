//! Kernels from source text to a launch on torch's stream, with nothing of CUDA needed at build time:
//! `compile` (NVRTC, for the GPU that is there) -> `cache` (on disk) -> `program` (loaded on a device) -> `launch`.

mod cache;
mod compile;
mod launch;
mod program;

pub(crate) use cache::folder as cache_folder;
#[cfg(feature = "python")]
pub(crate) use compile::{Compiled, compile, version as nvrtc_version};
pub(crate) use launch::{Kernel, blocks_of, launch_1d};
pub(crate) use program::{Program, multiprocessors};

use crate::{Error, Result};

/// The multiprocessors of a device, and the bytes of shared memory that one block can have.
pub(crate) fn multiprocessors(device: usize) -> Result<(i64, u32)> {
    use cudarc::driver::result::device::{get, get_attribute};
    use cudarc::driver::sys::CUdevice_attribute_enum::{
        CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN as SHARED,
        CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT as COUNT,
    };
    let device = get(device as i32)?;
    // SAFETY: the device exists.
    let (count, shared) = unsafe { (get_attribute(device, COUNT)?, get_attribute(device, SHARED)?) };
    Ok((i64::from(count), shared as u32))
}

impl From<cudarc::driver::DriverError> for Error {
    fn from(error: cudarc::driver::DriverError) -> Self {
        Self::Runtime(format!("CUDA driver: {error}"))
    }
}
