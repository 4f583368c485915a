//! Many bodies at once on a GPU, in float32: a slab is 32 of them, one in each lane of a warp. The pose correctives and
//! their gradient are products on tensor cores: both factors are split into two halves (`smplx::prepare` did so with the
//! model's), three products of halves make up for one of floats, and the sums are float32. What was prepared to be fast
//! has the high halves alone, and one product of them.
//!
//! Forward: `pose` (which also splits the features) -> product -> `slab_skinning`; of one slab `pose` ->
//! `one_slab_skinning`.
//! Backward: `slab_transforms` -> `slab_posed_gradient` -> product -> `slab_features_gradient` -> `slab_sums` ->
//! `pose_backward`.

mod backward;
mod forward;

use tch::{Device, Kind, Tensor};

use super::skinning::Skin;
use crate::cuda::{Kernel, Program, has_copies_on_the_side, has_group_products, multiprocessors, shared_memory};
use crate::torch::{Argument, Arguments, Sizes};
use crate::{Error, Result};
pub(super) use backward::{Asked, ByJoint, backward};
use forward::one_slab_shared;
pub(super) use forward::{Features, Rest, skinning};

pub(super) static SKINNING: Program = Program::new(
    "body/slab_skinning.cu",
    &["slab_skinning<0>", "slab_skinning<3>", "slab_skinning<5>", "slab_skinning<6>"],
);
/// The same for Hopper, where the sums over joints are products on tensor cores.
pub(super) static GROUP_SKINNING: Program =
    Program::new("body/group_skinning.cu", &["group_skinning<0>", "group_skinning<3>", "group_skinning<5>"]);
pub(super) static GROUP_POSED_GRADIENT: [Program; 2] = [
    Program::new(
        "body/group_posed_gradient.cu",
        &["group_posed_gradient<0, 2>", "group_posed_gradient<3, 2>", "group_posed_gradient<5, 2>"],
    ),
    Program::new(
        "body/group_posed_gradient.cu",
        &["group_posed_gradient<0, 1>", "group_posed_gradient<3, 1>", "group_posed_gradient<5, 1>"],
    ),
];
/// Bodies, vertices and joints at most, and threads, of a block there; `kBodies` and so on in `group.cuh`.
const GROUP: i64 = 16;
const GROUP_VERTICES: i64 = 64;
const GROUP_JOINTS: i64 = 64;
const GROUP_THREADS: u32 = 128;
/// Bytes of shared memory of each instance, `GroupMemory` in the two kernels.
const GROUP_SKINNING_SHARED: [u32; 3] = [96_160, 106_912, 114_080];
const GROUP_GRADIENT_SHARED: [u32; 3] = [95_184, 104_400, 110_544];
/// Shape coefficients that these and those of POSED_GRADIENT are compiled for.
const SHAPES: [i64; 4] = [0, 12, 20, 24];

pub(super) static TRANSFORMS: Program =
    Program::new("body/slab_transforms.cu", &["slab_transforms<64>", "slab_transforms<128>"]);
/// As all that is compiled for three products and for one: in two programs, so that who is not fast compiles no more.
pub(super) static POSED_GRADIENT: [Program; 2] = [
    Program::new(
        "body/slab_posed_gradient.cu",
        &[
            "slab_posed_gradient<0, 2>",
            "slab_posed_gradient<3, 2>",
            "slab_posed_gradient<5, 2>",
            "slab_posed_gradient<6, 2>",
            "slab_features_gradient",
        ],
    ),
    Program::new(
        "body/slab_posed_gradient.cu",
        &[
            "slab_posed_gradient<0, 1>",
            "slab_posed_gradient<3, 1>",
            "slab_posed_gradient<5, 1>",
            "slab_posed_gradient<6, 1>",
            "slab_features_gradient",
        ],
    ),
];
const FEATURES_GRADIENT: usize = 4; // position in POSED_GRADIENT
/// Few slabs, with the product of the directions.
pub(super) static ONE_SLAB_SKINNING: [Program; 2] = [
    Program::new("body/one_slab_skinning.cu", &["one_slab_skinning<3>"]),
    Program::new("body/one_slab_skinning.cu", &["one_slab_skinning<1>"]),
];
/// Warps and vertices of a block there, `kWarps` and `kVertices`.
const ONE_SLAB_WARPS: u32 = 15;
const ONE_SLAB_VERTICES: i64 = 80;
/// Bodies up to which that is worth it.
const ONE_SLAB_BODIES: i64 = 32;
pub(super) static FEATURES_PROGRAM: [Program; 2] = [
    Program::new("body/slab_features.cu", &["slab_features<1, 3>", "slab_features<2, 3>", "slab_features<4, 3>"]),
    Program::new("body/slab_features.cu", &["slab_features<1, 1>", "slab_features<2, 1>", "slab_features<4, 1>"]),
];
/// Features for which the last of these is compiled.
const FEATURES: i64 = 4 * 16 * 16;
const FEATURES_THREADS: u32 = 512;
/// Rows of a sum there at most, as `kChunk` in prepare.cpp: longer ones on tensor cores lose digits.
const FEATURES_ROWS: i64 = 2560;
pub(super) static SUMS: Program = Program::new("body/slab_sums.cu", &["slab_sums"]);
/// Threads of a block there and in `slab_features_gradient`.
const PART_THREADS: u32 = 256;

/// Bodies of a slab.
const LANES: i64 = 32;
/// Fewer bodies than this leave most lanes idle: where one kernel takes a slab, elsewhere, and backwards.
const ONE_SLAB_WORTH: i64 = 5;
const WORTH: i64 = 16;
pub(super) const BACKWARD_WORTH: i64 = 2;
/// Bodies of one product at most, a bound on the memory that passes between kernels: forward, and where gradients lie
/// beside all that a pass keeps. On an H200 both leave blocks enough, and few idle ones, for its 132 multiprocessors.
const LAUNCH: i64 = 1408;
const BACKWARD_LAUNCH: i64 = 1024;
/// Joints of a launch of `slab_transforms`: their sums fill the registers of a block's warps.
const JOINTS: i64 = 16 * 4;
/// Most entries of the weights: their positions are 32-bit.
const ENTRIES: usize = 1 << 29;
/// Warps of a block, if its shared memory has room for their tiles, and the fewest that are worth it; those of
/// `slab_transforms`.
const WARPS: u32 = 16;
const FEWEST_WARPS: u32 = 4;
const TRANSFORMS_WARPS: u32 = 16;
/// Warps that share a run of vertices, `kTeam` in `slab_tiles.cuh`; fewer are one team.
const TEAM: u32 = 8;
/// Vertices of a warp's tile in `slab_tiles.cuh`, and of a block's step in `slab_transforms.cu`.
const TILE: i64 = 8;
const TRANSFORMS_STEPS: [i64; 2] = [64, 128];
/// Numbers of a staged tile.
const STAGED: i64 = 3 * TILE * (LANES + 1);

/// Pose directions split into halves, by `smplx::prepare`.
pub(super) struct Pair {
    halves: Tensor, // [chunks, N, 3, F'] halves: high, low, high; or [chunks, N, 1, F'], high; N' = chunks N
    units: Tensor,  // [2]: what an entry is worth, and the largest sum of a vertex's absolute weights
    chunks: i64,    // of the padded coordinates N', summed apart
    products: i64,  // 3, or 1 where it is to be fast
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
        let &[chunks, _, products @ (1 | 3), _] = halves.tensor.sizes() else {
            return Err(halves.wrong_shape("[*, *, 3, *], or [*, *, 1, *] of what was prepared to be fast"));
        };
        let units = units.real()?.same_device(halves)?.shape(&[2])?.contiguous()?;
        if halves.tensor.kind() != Kind::Half || units.kind() != Kind::Float {
            // A module that changed its dtype since: the split is for float32 alone.
            return Ok(None);
        }
        let dense = halves.contiguous()?;
        // Kernels read sixteen bytes at once.
        let is_aligned = (dense.data_ptr() as u64).is_multiple_of(16);
        let pair = Self { halves: if is_aligned { dense } else { dense.f_alias_copy()? }, units, chunks, products };
        let is_padded = pair.rows() % 16 == 0 && pair.features() % 64 == 0;
        if !is_padded || pair.rows() < 3 * vertices || pair.features() < 9 * (joints - 1) {
            return Err(halves.wrong_shape("those that smplx::prepare made for this model"));
        }
        Ok(Some(pair))
    }

    /// F', the features of a body padded.
    pub(super) fn features(&self) -> i64 {
        self.halves.sizes()[3]
    }

    /// N', the coordinates of a body padded.
    fn rows(&self) -> i64 {
        self.chunks * self.halves.sizes()[1]
    }

    fn chunk(&self) -> i64 {
        self.halves.sizes()[1]
    }

    /// Halves of a number: `halves_for` in `kernels/common/half_products.cuh`.
    fn parts(&self) -> i64 {
        if self.products == 3 { 2 } else { 1 }
    }

    /// The one for it of two programs.
    fn program(&self, programs: &'static [Program; 2]) -> &'static Program {
        &programs[usize::from(self.products == 1)]
    }
}

/// Whether these are bodies enough for slabs, with these directions.
pub(super) fn is_worth(bodies: i64, pair: Option<&Pair>, shapes: i64, skin: &Skin) -> Result<bool> {
    match pair {
        Some(pair) if (ONE_SLAB_WORTH..WORTH).contains(&bodies) => Ok(one_slab_shared(pair, shapes, skin)?.is_some()),
        _ => Ok(bodies >= WORTH),
    }
}

/// Whether slabs serve a model's bodies, if they are enough: on a GPU, of a shared template.
pub(super) fn serves(shapes: i64, skin: &Skin) -> Result<bool> {
    let Device::Cuda(device) = skin.weights.device() else { return Ok(false) };
    let sizes = shapes <= SHAPES[3] && skin.weights.numel() <= ENTRIES;
    if !has_copies_on_the_side(device)? || !sizes || skin.joints.is_none() || skin.weights.kind() != Kind::Float {
        return Ok(false);
    }
    let memory = shared_memory(device)?;
    let few = [Block::skinning(memory, shapes, skin), Block::posed_gradient(memory, shapes, skin)];
    Ok(transforms_step(memory).1 <= memory && few.iter().all(|block| block.warps >= FEWEST_WARPS))
}

/// Which kernel serves some bodies, and how.
struct Launch {
    kernel: Kernel,
    threads: u32,
    shared: u32,   // bytes
    of_block: i64, // bodies
    splits: i64,   // blocks that share the vertices of the same bodies
}

impl Launch {
    /// Of `slab_skinning` or `group_skinning`.
    fn skinning(device: usize, bodies: i64, shapes: i64, skin: &Skin, args: &Arguments) -> Result<Self> {
        let groups = (&GROUP_SKINNING, GROUP_SKINNING_SHARED);
        if let Some(launch) = Self::in_groups(groups, device, bodies, shapes, skin, args)? {
            return Ok(launch.early());
        }
        let block = Block::skinning(shared_memory(device)?, shapes, skin);
        Ok(Self::in_slabs(&SKINNING, &block, device, bodies, shapes, skin, args)?.early())
    }

    /// Of `slab_posed_gradient` or `group_posed_gradient`.
    fn posed_gradient(pair: &Pair, bodies: i64, shapes: i64, skin: &Skin, args: &Arguments) -> Result<Self> {
        let device = device_of(&pair.halves)?;
        let groups = (pair.program(&GROUP_POSED_GRADIENT), GROUP_GRADIENT_SHARED);
        if let Some(launch) = Self::in_groups(groups, device, bodies, shapes, skin, args)? {
            return Ok(launch);
        }
        let block = Block::posed_gradient(shared_memory(device)?, shapes, skin);
        Self::in_slabs(pair.program(&POSED_GRADIENT), &block, device, bodies, shapes, skin, args)
    }

    fn in_groups(
        (program, shared): (&Program, [u32; 3]),
        device: usize,
        bodies: i64,
        shapes: i64,
        skin: &Skin,
        args: &Arguments,
    ) -> Result<Option<Self>> {
        if !has_group_products(device)? || skin.joint_count > GROUP_JOINTS || shapes > SHAPES[shared.len() - 1] {
            return Ok(None);
        }
        let groups = padded(bodies) / GROUP;
        let tiles = (skin.vertex_count() + GROUP_VERTICES - 1) / GROUP_VERTICES;
        let splits = (2 * i64::from(multiprocessors(device)?) / groups).clamp(1, tiles.max(1));
        let instance = for_shapes(shapes);
        let kernel = program.kernel(device, instance, args.stream())?;
        Ok(Some(Self { kernel, threads: GROUP_THREADS, shared: shared[instance], of_block: GROUP, splits }))
    }

    fn in_slabs(
        program: &Program,
        block: &Block,
        device: usize,
        bodies: i64,
        shapes: i64,
        skin: &Skin,
        args: &Arguments,
    ) -> Result<Self> {
        let splits = splits(device, bodies, skin.vertex_count(), block.vertices())?;
        let kernel = program.kernel(device, for_shapes(shapes), args.stream())?;
        Ok(Self { kernel, threads: 32 * block.warps, shared: block.shared, of_block: LANES, splits })
    }

    fn early(self) -> Self {
        Self { kernel: self.kernel.early(), ..self }
    }

    /// For so many bodies, which may be fewer than those it was made for.
    fn run<P>(&self, bodies: i64, params: &P, args: &Arguments) -> Result<()> {
        let blocks = (padded(bodies) / self.of_block * self.splits) as u32;
        self.kernel.launch_if_any(blocks, self.threads, self.shared, params, args.stream())
    }
}

/// The shape of a launch of `slab_skinning` or `slab_posed_gradient`.
struct Block {
    warps: u32,
    shared: u32, // bytes
}

impl Block {
    /// Twelve numbers of each joint for a slab, and for each warp two tiles of coordinates and what it keeps of the model.
    fn skinning(memory: u32, shapes: i64, skin: &Skin) -> Self {
        let of_model = directions(shapes) + 2 * influences(skin) + 3 * TILE;
        Self::of(memory, 12 * skin.joint_count, 2 * STAGED + of_model)
    }

    /// Nine numbers of each joint; two tiles, with the weights of both and the directions of one.
    fn posed_gradient(memory: u32, shapes: i64, skin: &Skin) -> Self {
        Self::of(memory, 9 * skin.joint_count, 2 * (STAGED + influences(skin)) + directions(shapes))
    }

    /// As many warps as the memory has room for.
    fn of(memory: u32, of_lane: i64, of_warp: i64) -> Self {
        let floats = |count: i64| u32::try_from(4 * count).unwrap_or(u32::MAX);
        let (slab, tile) = (floats(LANES * of_lane), floats(of_warp));
        let room = (memory.saturating_sub(slab) / tile).min(WARPS);
        let warps = if room < TEAM { room } else { room / TEAM * TEAM };
        Self { warps, shared: slab.saturating_add(warps * tile) }
    }

    /// Vertices that its warps take at once.
    fn vertices(&self) -> i64 {
        TILE * i64::from(self.warps)
    }
}

/// The step of `slab_transforms` that shared memory has room for, and the bytes it takes: two buffers for two arrays.
fn transforms_step(memory: u32) -> (i64, u32) {
    let staged = TRANSFORMS_STEPS.map(|step| (step, 2 * 2 * 4 * (step / TILE * STAGED) as u32));
    if staged[1].1 <= memory { staged[1] } else { staged[0] }
}

/// The kernel among those for different numbers of shape coefficients.
fn for_shapes(shapes: i64) -> usize {
    SHAPES.iter().position(|&most| shapes <= most).unwrap_or(SHAPES.len() - 1)
}

/// Numbers that a warp keeps of the weights: `Influences` in `slab_tiles.cuh`.
fn influences(skin: &Skin) -> i64 {
    2 * TILE * ((skin.weights.sizes()[1] + 3) / 4 * 4).max(4)
}

/// And of the shape directions: `ShapeDirections` there.
fn directions(shapes: i64) -> i64 {
    3 * TILE * SHAPES[for_shapes(shapes)]
}

/// Bodies padded to whole slabs.
pub(super) fn padded(bodies: i64) -> i64 {
    (bodies + LANES - 1) / LANES * LANES
}

/// Bodies of a launch where `most` are allowed, whole slabs: all launches have about as many.
fn of_launch(bodies: i64, most: i64) -> i64 {
    let launches = ((bodies + most - 1) / most).max(1);
    padded((bodies + launches - 1) / launches).max(LANES)
}

/// The bodies of each launch: where they begin, and how many.
fn launches(bodies: i64, most: i64) -> impl Iterator<Item = (i64, i64)> {
    let each = of_launch(bodies, most);
    (0..bodies).step_by(each as usize).map(move |first| (first, each.min(bodies - first)))
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
