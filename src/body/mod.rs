//! A body model and a pose become vertices, joints and transforms. One file a stage: checks, CPU path, launch.

mod backward;
mod few_skinning;
mod forward;
mod kinematic_chain;
mod pose;
mod pose_blend;
mod posed_skinning;
mod prepare;
mod real;
mod rodrigues;
mod rotation;
mod skin;
mod skinning;
mod slab;
mod stumpff;

#[cfg(feature = "python")]
use crate::cuda::Program;
pub(crate) use real::{Real, for_real};

/// Every CUDA program of this part, for compilation ahead of use.
#[cfg(feature = "python")]
pub(crate) static PROGRAMS: &[&Program] = &[
    &few_skinning::PROGRAM,
    &kinematic_chain::PROGRAM,
    &pose::PROGRAM,
    &posed_skinning::PROGRAM,
    &rodrigues::PROGRAM,
    &skinning::PROGRAM,
    &slab::ONE_SLAB_SKINNING[0],
    &slab::ONE_SLAB_SKINNING[1],
    &slab::SKINNING,
    &slab::GROUP_SKINNING,
    &slab::GROUP_POSED_GRADIENT[0],
    &slab::GROUP_POSED_GRADIENT[1],
    &slab::TRANSFORMS,
    &slab::POSED_GRADIENT[0],
    &slab::POSED_GRADIENT[1],
    &slab::FEATURES_PROGRAM[0],
    &slab::FEATURES_PROGRAM[1],
    &slab::SUMS,
    &stumpff::PROGRAM,
];
