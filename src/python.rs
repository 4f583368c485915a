//! The compiled module `avatorch._native`: importing it registers the operators; what it holds is not for tensors.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::model::dlpack;
use crate::{audio, body, cuda};

/// Versions and folders, for `avatorch info`.
#[pyfunction]
fn build_info(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let info = PyDict::new(py);
    info.set_item("version", env!("CARGO_PKG_VERSION"))?;
    info.set_item("torch", "2.11.0")?;
    info.set_item("profile", if cfg!(debug_assertions) { "debug" } else { "release" })?;
    info.set_item("target", std::env::consts::ARCH)?;
    info.set_item("cache", cuda::cache_folder())?;
    info.set_item("nvrtc", cuda::nvrtc_version().ok().map(|(major, minor)| format!("{major}.{minor}")))?;
    Ok(info)
}

fn programs() -> impl Iterator<Item = &'static cuda::Program> {
    body::PROGRAMS.iter().chain(audio::mel::PROGRAMS).copied()
}

/// File, kernels, their symbols, and the compiler's log.
type CompiledFile = (String, Vec<String>, Vec<String>, String);

/// Compiles every kernel for `arch`, such as "sm_90a", without a GPU: a list of (file, kernels, compiler's log).
#[pyfunction]
fn compile_kernels(py: Python<'_>, arch: &str) -> PyResult<Vec<CompiledFile>> {
    py.detach(|| {
        let mut report = Vec::new();
        for program in programs() {
            let cuda::Compiled { symbols, log, .. } = cuda::compile(program.file, program.kernels, arch)?;
            let kernels = program.kernels.iter().map(ToString::to_string).collect();
            report.push((program.file.to_string(), kernels, symbols, log));
        }
        Ok(report)
    })
}

/// Loads every kernel on a CUDA device, compiling those that are not cached.
#[pyfunction]
fn load_kernels(py: Python<'_>, device: usize) -> PyResult<()> {
    py.detach(|| {
        for program in programs() {
            program.load(device, std::ptr::null_mut())?;
        }
        Ok(())
    })
}

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(build_info, module)?)?;
    module.add_function(wrap_pyfunction!(compile_kernels, module)?)?;
    module.add_function(wrap_pyfunction!(load_kernels, module)?)?;
    module.add_function(wrap_pyfunction!(dlpack::load_model, module)?)?;
    module.add_function(wrap_pyfunction!(dlpack::convert_model, module)?)?;
    module.add_class::<dlpack::PyArray>()
}
