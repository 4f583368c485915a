//! CUDA C++ to a cubin, in memory, with the NVRTC that torch brought.

use std::ffi::{CStr, CString, c_char, c_int};

use cudarc::nvrtc::sys;

use super::sources::SOURCES;
use crate::{Error, Result};

/// What NVRTC is told besides the architecture. Part of the cache's key.
pub(super) const OPTIONS: &[&CStr] =
    &[c"-std=c++17", c"-default-device", c"-lineinfo", c"--ptxas-options=-v", c"-DAVATORCH_NVRTC"];

pub(crate) struct Compiled {
    pub(crate) cubin: Vec<u8>,
    /// The names of the kernels inside the cubin, in the order asked for.
    pub(crate) symbols: Vec<String>,
    /// What ptxas says of registers and spills.
    #[cfg_attr(not(feature = "python"), expect(dead_code))]
    pub(crate) log: String,
}

/// The text of a file below `kernels/`.
pub(super) fn source(file: &str) -> Result<&'static str> {
    let found = SOURCES.iter().find(|(name, _)| *name == file);
    found.map(|(_, text)| *text).ok_or_else(|| Error::Runtime(format!("kernels/{file} is not part of this build")))
}

/// Compiles `kernels/{file}` for an architecture such as `sm_90a`, with the template instances named in `kernels`.
pub(crate) fn compile(file: &str, kernels: &[&str], arch: &str) -> Result<Compiled> {
    version()?;
    let text = c_string(source(file)?)?;
    let name = c_string(&format!("kernels/{file}"))?;
    let headers = SOURCES.iter().filter(|(name, _)| name.ends_with(".cuh")).collect::<Vec<_>>();
    let header_names = headers.iter().map(|(name, _)| c_string(name)).collect::<Result<Vec<_>>>()?;
    let header_texts = headers.iter().map(|(_, text)| c_string(text)).collect::<Result<Vec<_>>>()?;

    let mut program = Program(std::ptr::null_mut());
    // SAFETY: every pointer is to a C string that lives until the end of this function.
    unsafe {
        check(
            sys::nvrtcCreateProgram(
                &raw mut program.0,
                text.as_ptr(),
                name.as_ptr(),
                headers.len() as c_int,
                pointers(&header_texts).as_ptr(),
                pointers(&header_names).as_ptr(),
            ),
            file,
        )?;
        let expressions = kernels.iter().map(|kernel| c_string(kernel)).collect::<Result<Vec<_>>>()?;
        for expression in &expressions {
            check(sys::nvrtcAddNameExpression(program.0, expression.as_ptr()), file)?;
        }
        let arch = c_string(&format!("-arch={arch}"))?;
        let mut options: Vec<*const c_char> = OPTIONS.iter().map(|option| option.as_ptr()).collect();
        options.push(arch.as_ptr());
        let status = sys::nvrtcCompileProgram(program.0, options.len() as c_int, options.as_ptr());
        let log = program.bytes(sys::nvrtcGetProgramLogSize, sys::nvrtcGetProgramLog, file)?;
        let log = String::from_utf8_lossy(&log).trim_end_matches('\0').trim().to_string();
        if status != sys::nvrtcResult::NVRTC_SUCCESS {
            return Err(Error::Runtime(format!("kernels/{file} does not compile for {arch:?}:\n{log}")));
        }
        let mut symbols = Vec::new();
        for expression in &expressions {
            let mut symbol = std::ptr::null();
            check(sys::nvrtcGetLoweredName(program.0, expression.as_ptr(), &raw mut symbol), file)?;
            symbols.push(CStr::from_ptr(symbol).to_string_lossy().into_owned());
        }
        let cubin = program.bytes(sys::nvrtcGetCUBINSize, sys::nvrtcGetCUBIN, file)?;
        Ok(Compiled { cubin, symbols, log })
    }
}

/// The version of the NVRTC that was found, or how to get one.
pub(crate) fn version() -> Result<(i32, i32)> {
    // SAFETY: looks for the library; never called into when it is absent.
    if !unsafe { sys::is_culib_present() } {
        let text = "the CUDA run-time compiler (libnvrtc) was not found; pip install nvidia-cuda-nvrtc, or a torch built for CUDA";
        return Err(Error::Runtime(text.into()));
    }
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both pointers are to live integers.
    check(unsafe { sys::nvrtcVersion(&raw mut major, &raw mut minor) }, "its version")?;
    Ok((major, minor))
}

/// An NVRTC program, destroyed when it goes out of scope.
struct Program(sys::nvrtcProgram);

impl Program {
    /// # Safety
    /// `size` and `read` belong together, and the program was created.
    unsafe fn bytes(
        &self,
        size: unsafe fn(sys::nvrtcProgram, *mut usize) -> sys::nvrtcResult,
        read: unsafe fn(sys::nvrtcProgram, *mut c_char) -> sys::nvrtcResult,
        file: &str,
    ) -> Result<Vec<u8>> {
        let mut length = 0;
        // SAFETY: `read` writes exactly the length that `size` told.
        unsafe {
            check(size(self.0, &raw mut length), file)?;
            let mut bytes = vec![0u8; length];
            check(read(self.0, bytes.as_mut_ptr().cast()), file)?;
            Ok(bytes)
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: created by nvrtcCreateProgram and destroyed once.
            unsafe { sys::nvrtcDestroyProgram(&raw mut self.0) };
        }
    }
}

fn check(status: sys::nvrtcResult, what: &str) -> Result<()> {
    status.result().map_err(|error| Error::Runtime(format!("NVRTC failed on {what}: {:?}", error.0)))
}

fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::Runtime("a kernel source contains a zero byte".into()))
}

fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts.iter().map(|text| text.as_ptr()).collect()
}
