//! The part of a talking face that is no network: bounded least squares for the weights of its blend shapes.

mod solver;

use crate::cuda::Program;

/// Every CUDA program of this part, for compilation ahead of use.
pub(crate) static PROGRAMS: &[&Program] = &[&solver::PROGRAM];
