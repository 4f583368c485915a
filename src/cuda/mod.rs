//! Kernels from source text to a launch on torch's stream, with nothing of CUDA needed at build time:
//! `compile` (NVRTC, for the GPU that is there) -> `cache` (on disk) -> `program` (loaded on a device) -> `launch`.

mod cache;
mod compile;
mod launch;
mod program;
mod sources;

#[cfg(feature = "python")]
pub(crate) use cache::folder as cache_folder;
#[cfg(feature = "python")]
pub(crate) use compile::{Compiled, compile, version as nvrtc_version};
pub(crate) use launch::{Kernel, blocks_of, launch_1d};
pub(crate) use program::{
    Program, has_copies_on_the_side, has_group_products, multiprocessors, refuse_capture, shared_memory,
};

use crate::Error;

impl From<cudarc::driver::DriverError> for Error {
    fn from(error: cudarc::driver::DriverError) -> Self {
        Self::Runtime(format!("CUDA driver: {error}"))
    }
}
