//! Many bodies at once on a GPU, in float32: a slab is 32 of them, one in each lane of a warp. The pose correctives and
//! their gradient are products on tensor cores: both factors are split into two halves (`smplx::prepare` did so with the
//! model's), three products of halves make up for one of floats, and the sums are float32.
//!
//! Forward: `pose` (which also splits the features) -> product -> `slab_skinning`. Backward: `slab_transforms` ->
//! `slab_posed_gradient` -> product -> `slab_features_gradient` -> `pose_backward`.

mod backward;
mod forward;

use tch::{Device, Kind, Tensor};

use super::skinning::Skin;
use crate::cuda::{Program, multiprocessors, shared_memory};
use crate::torch::Argument;
use crate::{Error, Result};
pub(super) use backward::{Asked, ByJoint, backward};
pub(super) use forward::{Features, Rest, skinning};

pub(super) static PROGRAM: Program = Program::new(
    "body/slab.cu",
    &[
        "slab_skinning<0>",
        "slab_skinning<3>",
        "slab_skinning<5>",
        "slab_skinning<6>",
        "slab_posed_gradient<0>",
        "slab_posed_gradient<3>",
        "slab_posed_gradient<5>",
        "slab_posed_gradient<6>",
        "slab_features_gradient",
    ],
);
const POSED_GRADIENT: usize = 4; // positions in PROGRAM
const FEATURES_GRADIENT: usize = 8;
/// Shape coefficients that kernels are compiled for.
const SHAPES: [i64; 4] = [0, 12, 20, 24];

pub(super) static TRANSFORMS: Program = Program::new("body/slab_transforms.cu", &["slab_transforms"]);

/// Bodies of a slab.
const LANES: i64 = 32;
/// Fewer bodies than this leave most lanes idle.
const WORTH: i64 = 16;
/// Bodies of one product, a bound on the memory that passes between kernels.
const LAUNCH: i64 = 2048;
/// Joints of a launch of `slab_transforms`: their sums fill the registers of a block's warps.
const JOINTS: i64 = 16 * 4;
/// Most entries of the weights: their positions are 32-bit.
const ENTRIES: usize = 1 << 30;
/// Warps of a block, if its shared memory has room for their tiles, and the fewest that are worth it.
const WARPS: u32 = 16;
const FEWEST_WARPS: u32 = 4;
/// Vertices of a warp's tile in `slab.cu`, and of a block's in `slab_transforms.cu`.
const TILE: i64 = 8;
const TRANSFORMS_TILE: i64 = 64;
/// Bytes of the staged tiles of `slab_transforms.cu`: two buffers for two arrays.
const TRANSFORMS_STAGED: u32 = 2 * 2 * 192 * 33 * 4;

/// Pose directions split into halves, by `smplx::prepare`.
pub(super) struct Pair {
    halves: Tensor, // [chunks, N, 3, F'] halves: high, low, high; N' = chunks N coordinates, padded
    units: Tensor,  // [2]: what an entry is worth, and the largest sum of a vertex's absolute weights
    chunks: i64,    // of N', summed apart
}

impl Pair {
    /// From the prepared directions and units of a model of these many vertices and joints.
    pub(super) fn read(
        halves: Option<Argument<'_>>,
        units: Option<Argument<'_>>,
        (vertices, joints): (i64, i64),
    ) -> Result<Option<Self>> {
        let (Some(halves), Some(units)) = (halves, units) else { return Ok(None) };
        if halves.tensor.numel() == 0 || !matches!(halves.tensor.device(), Device::Cuda(_)) {
            return Ok(None);
        }
        let chunks = halves.shape(&[-1, -1, 3, -1])?.tensor.size()[0];
        let units = units.real()?.same_device(halves)?.shape(&[2])?.contiguous()?;
        if halves.tensor.kind() != Kind::Half || units.kind() != Kind::Float {
            // A module that changed its dtype since: the split is for float32 alone.
            return Ok(None);
        }
        let pair = Self { halves: halves.contiguous()?, units, chunks };
        if pair.rows() < 3 * vertices || pair.features() < 9 * (joints - 1) {
            return Err(halves.wrong_shape("those that smplx::prepare made for this model"));
        }
        Ok(Some(pair))
    }

    /// F', the features of a body padded.
    pub(super) fn features(&self) -> i64 {
        self.halves.size()[3]
    }

    /// N', the coordinates of a body padded.
    fn rows(&self) -> i64 {
        self.chunks * self.halves.size()[1]
    }

    fn chunk(&self) -> i64 {
        self.halves.size()[1]
    }
}

/// Whether slabs serve these bodies: many of them, on a GPU, of a model with a shared template.
pub(super) fn serves(bodies: i64, shapes: i64, skin: &Skin) -> Result<bool> {
    let Device::Cuda(device) = skin.weights.device() else { return Ok(false) };
    let sizes = shapes <= SHAPES[3] && skin.weights.numel() <= ENTRIES && bodies >= WORTH;
    if !sizes || skin.joints.is_none() || skin.weights.kind() != Kind::Float {
        return Ok(false);
    }
    let memory = shared_memory(device)?;
    let few = [Block::skinning(memory, shapes, skin), Block::posed_gradient(memory, shapes, skin)];
    Ok(TRANSFORMS_STAGED <= memory && few.iter().all(|block| block.warps >= FEWEST_WARPS))
}

/// The shape of a launch of `slab.cu`.
struct Block {
    warps: u32,
    shared: u32, // bytes
}

impl Block {
    /// Twelve numbers of each joint for a slab, and for each warp two tiles of coordinates and what it keeps of the model.
    fn skinning(memory: u32, shapes: i64, skin: &Skin) -> Self {
        Self::of(memory, 12 * skin.joint_count, 24 * (33 + 36) + model_tile(shapes, skin))
    }

    /// Nine numbers of each joint, and one tile.
    fn posed_gradient(memory: u32, shapes: i64, skin: &Skin) -> Self {
        Self::of(memory, 9 * skin.joint_count, 24 * 36 + model_tile(shapes, skin))
    }

    /// As many warps as the memory has room for.
    fn of(memory: u32, of_lane: i64, of_warp: i64) -> Self {
        let floats = |count: i64| u32::try_from(4 * count).unwrap_or(u32::MAX);
        let (slab, tile) = (floats(LANES * of_lane), floats(of_warp));
        let warps = (memory.saturating_sub(slab) / tile).min(WARPS);
        Self { warps, shared: slab.saturating_add(warps * tile) }
    }

    /// Vertices that its warps take at once.
    fn vertices(&self) -> i64 {
        TILE * i64::from(self.warps)
    }
}

/// The kernel among those for different numbers of shape coefficients.
fn for_shapes(shapes: i64) -> usize {
    SHAPES.iter().position(|&most| shapes <= most).unwrap_or(SHAPES.len() - 1)
}

/// Numbers that a warp keeps of the model: `ModelTile` in `slab.cu`.
fn model_tile(shapes: i64, skin: &Skin) -> i64 {
    24 * SHAPES[for_shapes(shapes)] + 2 * TILE * ((skin.weights.size()[1] + 3) / 4 * 4) + 24
}

/// Bodies padded to whole slabs.
pub(super) fn padded(bodies: i64) -> i64 {
    (bodies + LANES - 1) / LANES * LANES
}

/// The bodies of each launch: where they begin, and how many.
fn launches(bodies: i64) -> impl Iterator<Item = (i64, i64)> {
    (0..bodies).step_by(LAUNCH as usize).map(move |first| (first, LAUNCH.min(bodies - first)))
}

/// Blocks that share the vertices of a slab, so that a small batch fills the GPU too.
fn splits(device: usize, bodies: i64, vertices: i64, of_block: i64) -> Result<i64> {
    let slabs = padded(bodies) / LANES;
    Ok((i64::from(multiprocessors(device)?) / slabs).clamp(1, ((vertices + of_block - 1) / of_block).max(1)))
}

fn device_of(tensor: &Tensor) -> Result<usize> {
    match tensor.device() {
        Device::Cuda(device) => Ok(device),
        _ => Err(Error::Runtime("slabs of bodies are for a GPU".into())),
    }
}

fn address(tensor: Option<&Tensor>) -> u64 {
    tensor.map_or(0, |tensor| tensor.data_ptr() as u64)
}
