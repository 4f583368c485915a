//! avatorch: body parameters and speech become a moving human inside `PyTorch`.
//!
//! ```text
//! model file --model--> Model --+
//!                               v
//! shape, pose ----> body: blend_shapes -> joints -> kinematic_chain -> skinning ----> vertices, joints, transforms
//!                           ^        (backward: the same four, right to left)
//! speech --audio--> mel                                   (features for speech models)
//! ```

pub mod audio;
#[cfg(feature = "capi")]
pub mod capi;
pub mod error;
pub mod model;

pub use error::{Error, Result};
