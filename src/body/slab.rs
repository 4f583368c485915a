//! Many bodies at once on a GPU, in float32: a slab is 32 of them, one in each lane of a warp. The pose correctives and
//! their gradient are products on tensor cores: both factors are split into two halves (`smplx::prepare` did so with the
//! model's), three products of halves make up for one of floats, and the sums are float32.
//!
//! Forward: `pose` (which also splits the features) -> product -> `slab_skinning`. Backward: `slab_transforms` ->
//! `slab_posed_gradient` -> product -> `slab_features_gradient` -> `pose_backward`.

use tch::{Device, Kind, Tensor};

use super::skinning::{Skin, step};
use crate::cuda::{Program, launch_1d, multiprocessors, shared_memory};
use crate::torch::{Argument, Arguments};
use crate::{Error, Result};

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
    pub(super) fn read(halves: Option<Argument<'_>>, units: Option<Argument<'_>>) -> Result<Option<Self>> {
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
        Ok(Some(Self { halves: halves.contiguous()?, units, chunks }))
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

/// The twin of `SlabSkinningParams` in `kernels/body/slab.cu`.
#[repr(C)]
struct SkinningParams {
    correctives: u64,    // [N', W], or null
    direction_unit: u64, // [1]
    feature_unit: u64,   // [B]
    v_template: u64,     // [V, 3]
    shapedirs: u64,      // [V, 3, C]
    shape: u64,          // [B | 1, C]
    vertex_offsets: u64, // [B | 1, V, 3] or null
    transl: u64,         // [B | 1, 3] or null
    transforms: u64,     // [B, J, 4, 4]
    weights: u64,        // [V, K]
    joints: u64,         // [V, K] int32
    vertices: u64,       // [B, V, 3]
    v_posed: u64,        // [B, V, 3] or null
    v_shaped: u64,       // [B, V, 3] or null
    shape_step: i64,     // elements from one body to the next; 0 where all bodies share
    offset_step: i64,
    transl_step: i64,
    first_body: i64,
    bodies: i64,
    width: i64,
    vertex_count: i64,
    joint_count: i64,
    influences: i64,
    shape_count: i64,
    splits: i64,
}

/// What is skinned, all contiguous.
pub(super) struct Rest<'a> {
    pub(super) bodies: i64,
    pub(super) v_template: &'a Tensor,             // [V, 3]
    pub(super) shapedirs: &'a Tensor,              // [V, 3, C]
    pub(super) shape: &'a Tensor,                  // [B | 1, C]
    pub(super) vertex_offsets: Option<&'a Tensor>, // [B | 1, V, 3]
    pub(super) transl: Option<&'a Tensor>,         // [B | 1, 3]
}

/// Pose features split into halves by `pose`, and their units.
pub(super) struct Features {
    pub(super) halves: Tensor, // [B padded, 3 F']
    pub(super) unit: Tensor,   // [B]
}

impl Features {
    pub(super) fn empty(bodies: i64, pair: &Pair) -> Result<Self> {
        let device = pair.halves.device();
        let size = [padded(bodies), 3 * pair.features()];
        let halves = Tensor::f_empty(size, (Kind::Half, device))?;
        // Columns of their own for the product, of no body; but they must be numbers.
        let _ = halves.f_narrow(0, bodies, size[0] - bodies)?.f_zero_()?;
        Ok(Self { halves, unit: Tensor::f_empty([bodies], (Kind::Float, device))? })
    }
}

/// Vertices `[B, V, 3]`, and if they are kept v_shaped and v_posed.
pub(super) fn skinning(
    rest: &Rest<'_>,
    correctives: Option<(&Pair, &Features)>,
    transforms: &Tensor,
    skin: &Skin,
    keep: bool,
    args: &Arguments,
) -> Result<(Tensor, Option<(Tensor, Tensor)>)> {
    let size = [rest.bodies, skin.vertex_count(), 3];
    let device = device_of(transforms)?;
    let empty = || Tensor::f_empty(size, (Kind::Float, transforms.device()));
    let vertices = empty()?;
    let kept = if keep { Some((empty()?, empty()?)) } else { None };
    let block = Block::skinning(shared_memory(device)?, rest.shape.size()[1], skin);
    for (first, bodies) in launches(rest.bodies) {
        let width = padded(bodies);
        let blend = match correctives {
            Some((pair, features)) => {
                let features = features.halves.f_narrow(0, first, width)?;
                Some(pair.halves.f_view([pair.rows(), -1])?.f_mm_dtype(&features.f_tr()?, Kind::Float)?)
            }
            None => None,
        };
        let splits = splits(device, bodies, skin.vertex_count(), block.vertices())?;
        let params = SkinningParams {
            correctives: address(blend.as_ref()),
            direction_unit: address(correctives.map(|(pair, _)| &pair.units)),
            feature_unit: address(correctives.map(|(_, features)| &features.unit)),
            v_template: rest.v_template.data_ptr() as u64,
            shapedirs: rest.shapedirs.data_ptr() as u64,
            shape: rest.shape.data_ptr() as u64,
            vertex_offsets: address(rest.vertex_offsets),
            transl: address(rest.transl),
            transforms: transforms.data_ptr() as u64,
            weights: skin.weights.data_ptr() as u64,
            joints: address(skin.joints.as_ref()),
            vertices: vertices.data_ptr() as u64,
            v_posed: address(kept.as_ref().map(|(_, v_posed)| v_posed)),
            v_shaped: address(kept.as_ref().map(|(v_shaped, _)| v_shaped)),
            shape_step: step(rest.shape),
            offset_step: rest.vertex_offsets.map_or(0, step),
            transl_step: rest.transl.map_or(0, step),
            first_body: first,
            bodies,
            width,
            vertex_count: skin.vertex_count(),
            joint_count: skin.joint_count,
            influences: skin.weights.size()[1],
            shape_count: rest.shape.size()[1],
            splits,
        };
        let kernel = PROGRAM.kernel(device, for_shapes(rest.shape.size()[1]), args.stream())?;
        kernel.launch_if_any(
            (width / LANES * splits) as u32,
            32 * block.warps,
            block.shared,
            &params,
            args.stream(),
        )?;
    }
    Ok((vertices, kept))
}

/// The twin of `SlabTransformsParams` in `kernels/body/slab_transforms.cu`.
#[repr(C)]
struct TransformsParams {
    vectors: u64,  // [B, V, 3]
    vertices: u64, // [B, V, 3]
    moved: u64,    // [V K] int32
    weights: u64,  // [V K]
    start: u64,    // [J + 1]
    out: u64,      // [splits, B, J, 4, 4]
    sums: u64,     // [splits, B, 3]
    largest: u64,  // [splits, B]
    batch: i64,
    first_body: i64,
    bodies: i64,
    vertex_count: i64,
    joint_count: i64,
    first_joint: i64,
    splits: i64,
}

/// The twin of `SlabPosedGradientParams` in `kernels/body/slab.cu`.
#[repr(C)]
struct PosedGradientParams {
    grad_vertices: u64, // [B, V, 3]
    transforms: u64,    // [B, J, 4, 4]
    weights: u64,       // [V, K]
    joints: u64,        // [V, K] int32
    shapedirs: u64,     // [V, 3, C], or null
    largest: u64,       // [parts, B]
    weight_sum: u64,    // [1]
    pair: u64,          // [N', 2, W], or null
    unit: u64,          // [B], or null
    grad_shape: u64,    // [splits, B, C], or null
    parts: i64,
    batch: i64,
    first_body: i64,
    bodies: i64,
    width: i64,
    vertex_count: i64,
    joint_count: i64,
    influences: i64,
    shape_count: i64,
    splits: i64,
}

/// The twin of `SlabFeaturesGradientParams` in `kernels/body/slab.cu`.
#[repr(C)]
struct FeaturesGradientParams {
    parts: u64,          // [P, W, F']
    direction_unit: u64, // [1]
    unit: u64,           // [B]
    out: u64,            // [B, F]
    part_count: i64,
    first_body: i64,
    bodies: i64,
    width: i64,
    padded: i64,
    features: i64,
}

/// What of the vertices' gradient reaches the skeleton, the pose features and the shape coefficients.
pub(super) struct Gradients {
    pub(super) transforms: Tensor,       // [B, J, 4, 4]
    pub(super) sums: Tensor,             // [B, 3], the gradient of the translation
    pub(super) features: Option<Tensor>, // [B, 9 (J - 1)]
    pub(super) shape: Option<Tensor>,    // [B, C], through the vertices
}

/// The vertices that each joint moves, by `smplx::prepare`.
pub(super) struct ByJoint {
    pub(super) moved: Tensor,   // [V K] int32, joint after joint, ascending
    pub(super) weights: Tensor, // [V K]
    pub(super) start: Tensor,   // [J + 1] int64, where each joint's begin
}

impl ByJoint {
    /// From the start, the vertices and the weights.
    pub(super) fn read(lists: [Option<Argument<'_>>; 3]) -> Result<Option<Self>> {
        let [Some(start), Some(moved), Some(weights)] = lists else { return Ok(None) };
        let moved = moved.int32()?.rank(1)?;
        let weights = weights.same_device(moved)?.shape(&moved.tensor.size())?;
        let start = start.int64()?.same_device(moved)?.rank(1)?;
        Ok(Some(Self { moved: moved.contiguous()?, weights: weights.contiguous()?, start: start.contiguous()? }))
    }
}

/// What the gradients are asked of, all contiguous.
pub(super) struct Asked<'a> {
    pub(super) grad_vertices: &'a Tensor, // [B, V, 3]
    pub(super) v_posed: &'a Tensor,       // [B, V, 3]
    pub(super) transforms: &'a Tensor,    // [B, J, 4, 4]
    pub(super) by_joint: &'a ByJoint,
    pub(super) correctives: Option<&'a Pair>, // if the features' gradient is asked for
    pub(super) shapedirs: Option<&'a Tensor>, // [V, 3, C], if the coefficients' is
}

pub(super) fn backward(asked: &Asked<'_>, skin: &Skin, args: &Arguments) -> Result<Gradients> {
    let (bodies, vertices, joints) = (asked.grad_vertices.size()[0], skin.vertex_count(), skin.joint_count);
    let device = device_of(asked.grad_vertices)?;
    let options = (Kind::Float, asked.grad_vertices.device());
    let shapes = asked.shapedirs.map_or(0, |dirs| dirs.size()[2]);
    let features = 9 * (joints - 1);
    let empty = |size: &[i64]| Tensor::f_empty(size, options);
    let parts = splits(device, bodies.min(LAUNCH), vertices, TRANSFORMS_TILE)?;
    let block = Block::posed_gradient(shared_memory(device)?, shapes, skin);
    let shares = splits(device, bodies.min(LAUNCH), vertices, block.vertices())?;
    let (transforms, sums, largest) =
        (empty(&[parts, bodies, joints, 4, 4])?, empty(&[parts, bodies, 3])?, empty(&[parts, bodies])?);
    let unit = empty(&[bodies])?;
    let grad_shape = asked.shapedirs.map(|_| empty(&[shares, bodies, shapes])).transpose()?;
    let grad_features = asked.correctives.map(|_| empty(&[bodies, features])).transpose()?;
    for (first, count) in launches(bodies) {
        let width = padded(count);
        for first_joint in (0..joints).step_by(JOINTS as usize) {
            let params = TransformsParams {
                vectors: asked.grad_vertices.data_ptr() as u64,
                vertices: asked.v_posed.data_ptr() as u64,
                moved: asked.by_joint.moved.data_ptr() as u64,
                weights: asked.by_joint.weights.data_ptr() as u64,
                start: asked.by_joint.start.data_ptr() as u64,
                out: transforms.data_ptr() as u64,
                sums: sums.data_ptr() as u64,
                largest: largest.data_ptr() as u64,
                batch: bodies,
                first_body: first,
                bodies: count,
                vertex_count: vertices,
                joint_count: joints,
                first_joint,
                splits: parts,
            };
            let blocks = (width / LANES * parts) as u32;
            let kernel = TRANSFORMS.kernel(device, 0, args.stream())?;
            kernel.launch_if_any(blocks, 32 * WARPS, TRANSFORMS_STAGED, &params, args.stream())?;
        }
        if asked.correctives.is_none() && grad_shape.is_none() {
            continue;
        }
        let pair = match asked.correctives {
            Some(pair) => {
                let halves = Tensor::f_empty([pair.rows(), 2, width], (Kind::Half, options.1))?;
                let _ = halves.f_narrow(0, 3 * vertices, pair.rows() - 3 * vertices)?.f_zero_()?;
                Some(halves)
            }
            None => None,
        };
        let params = PosedGradientParams {
            grad_vertices: asked.grad_vertices.data_ptr() as u64,
            transforms: asked.transforms.data_ptr() as u64,
            weights: skin.weights.data_ptr() as u64,
            joints: address(skin.joints.as_ref()),
            shapedirs: address(asked.shapedirs),
            largest: largest.data_ptr() as u64,
            weight_sum: asked.correctives.map_or(0, |pair| pair.units.data_ptr() as u64 + 4),
            pair: address(pair.as_ref()),
            unit: unit.data_ptr() as u64,
            grad_shape: address(grad_shape.as_ref()),
            parts,
            batch: bodies,
            first_body: first,
            bodies: count,
            width,
            vertex_count: vertices,
            joint_count: joints,
            influences: skin.weights.size()[1],
            shape_count: shapes,
            splits: shares,
        };
        let kernel = PROGRAM.kernel(device, POSED_GRADIENT + for_shapes(shapes), args.stream())?;
        kernel.launch_if_any(
            (width / LANES * shares) as u32,
            32 * block.warps,
            block.shared,
            &params,
            args.stream(),
        )?;
        if let (Some(pair), Some(halves), Some(out)) = (asked.correctives, pair, &grad_features) {
            features_gradient(pair, &halves, &unit, out, (first, count), args)?;
        }
    }
    let added = |parts: Tensor| match parts.size()[0] {
        1 => parts.f_squeeze_dim(0),
        _ => parts.f_sum_dim_intlist([0i64].as_slice(), false, None),
    };
    Ok(Gradients {
        transforms: added(transforms)?,
        sums: added(sums)?,
        features: grad_features,
        shape: grad_shape.map(added).transpose()?,
    })
}

/// `out [B, F]` for the bodies of one launch: the gradient's `halves [N', 2, W]` times the directions'. Long sums on
/// tensor cores lose digits, so N' is summed in chunks.
fn features_gradient(
    pair: &Pair,
    halves: &Tensor,
    unit: &Tensor,
    out: &Tensor,
    (first, bodies): (i64, i64),
    args: &Arguments,
) -> Result<()> {
    let (chunks, chunk, padded, width) = (pair.chunks, pair.chunk(), pair.features(), halves.size()[2]);
    let parts = Tensor::f_empty([3 * chunks, width, padded], (Kind::Float, halves.device()))?;
    let both = halves.f_view([chunks, chunk, 2 * width])?.f_transpose(1, 2)?; // [chunks, 2 W, chunk]
    let products = parts.f_narrow(0, 0, 2 * chunks)?.f_view([chunks, 2 * width, padded])?;
    let direction = |place: i64| pair.halves.f_select(2, place); // [chunks, chunk, F']
    let _ = both.f_bmm_dtype_out(&products, &direction(0)?, Kind::Float)?;
    let products = parts.f_narrow(0, 2 * chunks, chunks)?;
    let _ = both.f_narrow(1, 0, width)?.f_bmm_dtype_out(&products, &direction(1)?, Kind::Float)?;
    let params = FeaturesGradientParams {
        parts: parts.data_ptr() as u64,
        direction_unit: pair.units.data_ptr() as u64,
        unit: unit.data_ptr() as u64,
        out: out.data_ptr() as u64,
        part_count: 3 * chunks,
        first_body: first,
        bodies,
        width,
        padded,
        features: out.size()[1],
    };
    let kernel = PROGRAM.kernel(device_of(halves)?, FEATURES_GRADIENT, args.stream())?;
    launch_1d(kernel, bodies * out.size()[1], 256, &params, args.stream())
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
