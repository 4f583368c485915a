//! One file of `kernels/` on every device it was loaded on.

use std::ffi::{CString, c_void};
use std::sync::{Mutex, OnceLock, PoisonError};

use cudarc::driver::{result, sys};

use super::{Kernel, cache};
use crate::{Error, Result};

const MAX_DEVICES: usize = 64;

pub(crate) struct Program {
    /// Below `kernels/`.
    pub(crate) file: &'static str,
    /// Template instances, such as `rodrigues<float>`.
    pub(crate) kernels: &'static [&'static str],
    loaded: [OnceLock<Vec<Kernel>>; MAX_DEVICES],
}

impl Program {
    pub(crate) const fn new(file: &'static str, kernels: &'static [&'static str]) -> Self {
        Self { file, kernels, loaded: [const { OnceLock::new() }; MAX_DEVICES] }
    }

    /// The kernel at `index` of `kernels`, loaded on first use unless a CUDA graph is being captured on `stream`; the
    /// device's context is then current, which it need not be on the threads on which torch runs a backward pass.
    pub(crate) fn kernel(&self, device: usize, index: usize, stream: *mut c_void) -> Result<Kernel> {
        make_current(device)?;
        match self.slot(device)?.get() {
            Some(kernels) => Ok(kernels[index]),
            None => Ok(self.load(device, stream)?[index]),
        }
    }

    /// Compiles or reads the program and loads it. `stream` tells whether loading is possible now.
    pub(crate) fn load(&self, device: usize, stream: *mut c_void) -> Result<&[Kernel]> {
        static LOADING: Mutex<()> = Mutex::new(());
        let slot = self.slot(device)?;
        make_current(device)?;
        if is_capturing(stream)? {
            return Err(Error::Runtime(format!(
                "kernels/{} is not loaded on cuda:{device} and cannot be while a CUDA graph is captured; \
                 call avatorch.warm_up(\"cuda:{device}\") before the capture",
                self.file
            )));
        }
        let _one_at_a_time = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernels) = slot.get() {
            return Ok(kernels);
        }
        let compiled = cache::cubin(self.file, self.kernels, &architecture(device)?)?;
        let knows_early = compute_capability(device)?.0 >= 9;
        let mut kernels = Vec::new();
        // SAFETY: a cubin for this device, whose context is current; the module is never unloaded.
        unsafe {
            let module = result::module::load_data(compiled.cubin.as_ptr().cast())?;
            for symbol in compiled.symbols {
                let symbol =
                    CString::new(symbol).map_err(|_| Error::Runtime("a kernel's name contains a zero byte".into()))?;
                let function = result::module::get_function(module, symbol)?;
                // Without this the driver loads the code in the first launch, which a capture forbids.
                sys::cuFuncLoad(function).result()?;
                kernels.push(Kernel::new(function, allow_shared_memory(function, device)?, knows_early));
            }
        }
        Ok(slot.get_or_init(|| kernels))
    }

    fn slot(&self, device: usize) -> Result<&OnceLock<Vec<Kernel>>> {
        self.loaded
            .get(device)
            .ok_or_else(|| Error::Runtime(format!("cuda:{device} is beyond the {MAX_DEVICES} devices supported")))
    }
}

/// Lets a kernel have all the shared memory that a block of this device can have beside its static part; how many bytes.
fn allow_shared_memory(function: sys::CUfunction, device: usize) -> Result<u32> {
    use sys::CUdevice_attribute_enum::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN as OPTIN;
    use sys::CUfunction_attribute_enum::{
        CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES as DYNAMIC, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES as STATIC,
    };
    // SAFETY: the device exists and the function was loaded on it.
    unsafe {
        let whole = result::device::get_attribute(result::device::get(device as i32)?, OPTIN)?;
        let dynamic = whole - result::function::get_function_attribute(function, STATIC)?;
        result::function::set_function_attribute(function, DYNAMIC, dynamic)?;
        Ok(dynamic as u32)
    }
}

/// How many multiprocessors a device has.
pub(crate) fn multiprocessors(device: usize) -> Result<u32> {
    use sys::CUdevice_attribute_enum::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT as COUNT;
    // SAFETY: the device exists, since a tensor lies on it.
    Ok(unsafe { result::device::get_attribute(result::device::get(device as i32)?, COUNT)? } as u32)
}

/// Whether a device has the tensor cores that `kernels/common/group_products.cuh` is written for: Hopper's.
pub(crate) fn has_group_products(device: usize) -> Result<bool> {
    Ok(compute_capability(device)? == (9, 0))
}

/// Whether a device copies into shared memory on the side, as `kernels/common/copy_later.cuh` does: from Ampere on.
pub(crate) fn has_copies_on_the_side(device: usize) -> Result<bool> {
    Ok(compute_capability(device)?.0 >= 8)
}

/// The bytes of shared memory that one block of a device can have.
pub(crate) fn shared_memory(device: usize) -> Result<u32> {
    use sys::CUdevice_attribute_enum::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN as SHARED;
    // SAFETY: the device exists, since a tensor lies on it.
    Ok(unsafe { result::device::get_attribute(result::device::get(device as i32)?, SHARED)? } as u32)
}

/// Torch's own (primary) context of the device becomes current on this thread, if none is.
fn make_current(device: usize) -> Result<()> {
    if result::ctx::get_current()?.is_none() {
        // SAFETY: the device exists, since a tensor lies on it; the context is torch's and is kept for good.
        unsafe { result::ctx::set_current(result::primary_ctx::retain(result::device::get(device as i32)?)?)? };
    }
    Ok(())
}

/// Refuses what must wait for the GPU while a CUDA graph is captured on the stream.
pub(crate) fn refuse_capture(device: usize, stream: *mut c_void, what: &str) -> Result<()> {
    make_current(device)?;
    if is_capturing(stream)? {
        return Err(Error::Runtime(format!(
            "{what} is seen for the first time while a CUDA graph is captured; make one call before the capture"
        )));
    }
    Ok(())
}

fn is_capturing(stream: *mut c_void) -> Result<bool> {
    let mut status = sys::CUstreamCaptureStatus_enum::CU_STREAM_CAPTURE_STATUS_NONE;
    // SAFETY: a live stream of torch's, or the default one.
    unsafe { sys::cuStreamIsCapturing(stream.cast(), &raw mut status).result()? };
    Ok(status != sys::CUstreamCaptureStatus_enum::CU_STREAM_CAPTURE_STATUS_NONE)
}

/// Such as `sm_90a`: from compute capability 9.0 on, the instructions of that very architecture.
fn architecture(device: usize) -> Result<String> {
    let (major, minor) = compute_capability(device)?;
    Ok(format!("sm_{major}{minor}{}", if major >= 9 { "a" } else { "" }))
}

/// Major and minor.
fn compute_capability(device: usize) -> Result<(i32, i32)> {
    use sys::CUdevice_attribute_enum::{
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
    };
    let device = result::device::get(device as i32)?;
    // SAFETY: the device exists.
    unsafe { Ok((result::device::get_attribute(device, MAJOR)?, result::device::get_attribute(device, MINOR)?)) }
}
