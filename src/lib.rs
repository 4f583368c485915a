//! avatorch: body parameters and speech become a moving human inside `PyTorch`.
//!
//! ```text
//! model file --model--> Model --+
//!                               v
//! shape, pose ----> body: blend_shapes -> joints -> kinematic_chain -> skinning ----> vertices, joints, transforms
//!                           ^        (backward: the same four, right to left)
//! speech --audio--> mel                                   (features for speech models)
//! speech --face---> network, animators (Python) -> solver ----> 52 + 16 weights of a face
//! ```
//!
//! Features: `torch` (the operators, through libtorch), `python` (the module `avatorch._native`), `capi` (the C library
//! of the mel part). `model` and `audio` need none of them.

pub mod audio;
#[cfg(feature = "torch")]
mod body;
#[cfg(feature = "capi")]
pub mod capi;
#[cfg(feature = "torch")]
mod cuda;
pub mod error;
#[cfg(feature = "torch")]
mod face;
pub mod model;
#[cfg(feature = "python")]
mod python;
mod simd;
#[cfg(feature = "torch")]
mod torch;

pub use error::{Error, Result};
#[cfg(feature = "torch")]
pub use torch::operators;
