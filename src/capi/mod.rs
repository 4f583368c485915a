//! The mel part for every language: two C interfaces over `crate::audio`.
//!
//! - [`mojo_audio`]: `include/mojo_audio.h`, a small interface of ten functions that programs are already written for.
//! - Everything else: `include/avatorch_mel.h`, the whole of the mel part.
//!
//! No panic crosses the border, every pointer may be NULL, and handles are looked up, never followed: a handle that was
//! freed, or was never given out, is an error with a sentence.

pub mod arguments;
mod array;
pub mod batch;
pub mod config;
pub mod failure;
mod fork;
mod handle;
pub mod mel;
pub mod mojo_audio;
pub mod stream;
pub mod waveform;
