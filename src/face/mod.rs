//! The part of a talking face that is no network: bounded least squares for the weights of its blend shapes.

mod solver;

#[cfg(feature = "python")]
use crate::cuda::Program;

/// Every CUDA program of this part, for compilation ahead of use.
#[cfg(feature = "python")]
pub(crate) static PROGRAMS: &[&Program] = &[&solver::PROGRAM];
