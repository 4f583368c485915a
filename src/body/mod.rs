//! A body model and a pose become vertices, joints and transforms. One file a stage: checks, CPU path, launch.

mod real;
mod rodrigues;
mod rotation;
mod stumpff;

use crate::cuda::Program;
pub(crate) use real::{Real, for_real};

/// Every CUDA program of this part, for compilation ahead of use.
pub(crate) static PROGRAMS: &[&Program] = &[&rodrigues::PROGRAM, &stumpff::PROGRAM];
