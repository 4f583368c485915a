//! A body model and a pose become vertices, joints and transforms. One file a stage: checks, CPU path, launch.

mod real;
mod rodrigues;
mod rotation;
mod skinning;
mod stumpff;

pub(crate) use real::{Real, for_real};
use crate::cuda::Program;

/// Every CUDA program of this part, for compilation ahead of use.
pub(crate) static PROGRAMS: &[&Program] = &[&rodrigues::PROGRAM, &skinning::PROGRAM, &stumpff::PROGRAM];
