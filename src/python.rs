//! The compiled module `avatorch._native`: importing it registers the operators; what it holds is not for tensors.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::model::array::Array;
use crate::model::dlpack::{self, PyArray};
use crate::{audio, body, cuda, face};

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
    body::PROGRAMS.iter().chain(audio::mel::PROGRAMS).chain(face::PROGRAMS).copied()
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

/// A WAV file's samples `[channel, sample]`, at `sample_rate` Hz if that is given, and their rate.
#[pyfunction]
#[pyo3(signature = (path, sample_rate=None))]
fn load_wav(py: Python<'_>, path: PathBuf, sample_rate: Option<u32>) -> PyResult<(PyArray, u32)> {
    py.detach(|| {
        let audio = audio::load_wav(&path)?;
        let rate = sample_rate.unwrap_or(audio.sample_rate);
        let channel = |c| audio.samples.iter().skip(c).step_by(audio.n_channels).copied().collect::<Vec<f32>>();
        let named = |error| match error {
            crate::Error::Value(text) => crate::Error::Value(format!("{}: {text}", path.display())),
            other => other,
        };
        let channels = (0..audio.n_channels)
            .map(|c| audio::resample(&channel(c), audio.sample_rate, rate).map_err(named))
            .collect::<crate::Result<Vec<_>>>()?;
        let shape = [audio.n_channels, channels[0].len()];
        Ok((PyArray(Array::new(&shape, &channels.concat())?), rate))
    })
}

/// What a mel convention says of rates, sizes and noise.
#[pyfunction]
fn mel_options<'py>(py: Python<'py>, convention: &str) -> PyResult<Bound<'py, PyDict>> {
    let options: audio::Options = convention.parse()?;
    let known = PyDict::new(py);
    known.set_item("sample_rate", options.sample_rate)?;
    known.set_item("n_fft", options.n_fft)?;
    known.set_item("hop_length", options.hop_length)?;
    known.set_item("n_mels", options.n_mels)?;
    known.set_item("n_features", options.n_features())?;
    known.set_item("input_scale", options.input_scale)?;
    known.set_item("dither", options.dither)?;
    known.set_item("dither_seed", options.dither_seed)?;
    known.set_item("frame_major", options.layout == audio::Layout::FrameMajor)?;
    Ok(known)
}

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(build_info, module)?)?;
    module.add_function(wrap_pyfunction!(compile_kernels, module)?)?;
    module.add_function(wrap_pyfunction!(load_kernels, module)?)?;
    module.add_function(wrap_pyfunction!(load_wav, module)?)?;
    module.add_function(wrap_pyfunction!(mel_options, module)?)?;
    module.add_function(wrap_pyfunction!(dlpack::read_npz, module)?)?;
    module.add_function(wrap_pyfunction!(dlpack::load_model, module)?)?;
    module.add_function(wrap_pyfunction!(dlpack::convert_model, module)?)?;
    module.add_class::<dlpack::PyArray>()
}
