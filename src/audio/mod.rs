//! Speech: log-mel spectrograms.
//!
//! ```text
//! samples --samples, framing--> frames --fourier--> power --filter_bank--> mel --simd (logarithm)--> log mel --range--> values
//!            (scale, dither,     (window)          (block: one register's width of frames at a time)
//!             pre-emphasis)
//! ```
//!
//! A [`Dialect`] names a convention and gives its [`Options`]; a [`Plan`] holds its tables; [`Plan::compute`] runs one
//! clip through.

// Small functions of the kernels must be compiled with the instructions of the kernel that calls them.
#![allow(clippy::inline_always)]

mod batch;
mod block;
mod convention;
mod dialect;
mod filter_bank;
mod float;
mod fourier;
mod framing;
#[cfg(feature = "torch")]
mod gradient;
#[cfg(feature = "torch")]
pub(crate) mod mel;
mod options;
mod plan;
mod range;
mod resample;
mod samples;
mod stream;
mod wav;
mod waveform;
mod window;

pub use crate::simd::Level;
pub use batch::Clip;
pub use dialect::Dialect;
pub use float::Float;
pub use options::{
    DynamicRange, Edge, Energy, Framing, Guard, Layout, Log, Loudest, MelNorm, MelScale, Options, Padding, Preemphasis,
    Spectrum, Window,
};
pub use plan::{Plan, Workspace};
pub use resample::{resample, resampled_length};
pub use samples::Sample;
pub use stream::Stream;
pub use wav::{Audio, load_wav, read_wav};
pub use waveform::{Silence, normalize_waveform, trim_silence};
