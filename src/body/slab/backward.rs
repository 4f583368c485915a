//! The gradient of many bodies' vertices to transforms, pose features and shape coefficients.

use tch::{Kind, Tensor};

use super::super::skinning::Skin;
use super::{
    BACKWARD_LAUNCH, FEATURES, FEATURES_GRADIENT, FEATURES_PROGRAM, FEATURES_ROWS, FEATURES_THREADS, JOINTS, LANES,
    Launch, PART_THREADS, POSED_GRADIENT, Pair, SUMS, TRANSFORMS, TRANSFORMS_STEPS, TRANSFORMS_WARPS, address,
    device_of, launches, of_launch, padded, splits, transforms_step,
};
use crate::cuda::{multiprocessors, shared_memory};
use crate::torch::Memory::{self, Own, Shared};
use crate::torch::{Argument, Arguments, Sizes, empty, empty_one, with_float_sums};
use crate::{Error, Result};

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
    bodies: i64,
    vertex_count: i64,
    joint_count: i64,
    first_joint: i64,
    splits: i64,
}

/// The twin of `SlabPosedGradientParams` in `kernels/body/slab_posed_gradient.cu`.
#[repr(C)]
struct PosedGradientParams {
    grad_vertices: u64, // [B, V, 3]
    transforms: u64,    // [B, J, 4, 4]
    weights: u64,       // [V, K]
    joints: u64,        // [V, K] int32
    shapedirs: u64,     // [V, 3, C], or null
    largest: u64,       // [parts, B]
    weight_sum: u64,    // [1]
    pair: u64,          // [N', parts, W] halves
    unit: u64,          // [B]
    grad_shape: u64,    // [splits, B, C], or null
    parts: i64,
    batch: i64,
    first_body: i64,
    bodies: i64,
    width: i64,
    rows: i64,
    vertex_count: i64,
    joint_count: i64,
    influences: i64,
    shape_count: i64,
    splits: i64,
}

/// The twin of `SlabFeaturesParams` in `kernels/body/slab_features.cu`.
#[repr(C)]
struct FeaturesParams {
    directions: u64, // [N', products, F'] halves
    gradient: u64,   // [N', parts, 32] halves
    parts: u64,      // [blocks, 32, F']
    rows: i64,
    features_padded: i64,
    stages: i64,
}

/// The twin of `SlabFeaturesGradientParams` in `kernels/body/slab_posed_gradient.cu`.
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

/// The twin of `Parts` in `kernels/body/slab_sums.cu`, three of which are its parameters.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Parts {
    numbers: u64, // [count, size]
    out: u64,     // [size]
    count: i64,
    size: i64,
}

/// What of the vertices' gradient reaches the skeleton, the pose features and the shape coefficients.
pub(in crate::body) struct Gradients {
    pub(in crate::body) transforms: Tensor,       // [B, J, 4, 4]
    pub(in crate::body) sums: Tensor,             // [B, 3], the gradient of the translation
    pub(in crate::body) features: Option<Tensor>, // [B, 9 (J - 1)]
    pub(in crate::body) shape: Option<Tensor>,    // [B, C], through the vertices
}

/// The vertices that each joint moves, by `smplx::prepare`.
pub(in crate::body) struct ByJoint {
    pub(in crate::body) moved: Tensor,   // [V K] int32, joint after joint, ascending
    pub(in crate::body) weights: Tensor, // [V K]
    pub(in crate::body) start: Tensor,   // [J + 1] int64, where each joint's begin
}

impl ByJoint {
    /// From the start, the vertices and the weights, for a skin of these joints at rest.
    pub(in crate::body) fn read(
        lists: [Option<Argument<'_>>; 3],
        joints: Argument<'_>,
        skin: &Skin,
    ) -> Result<Option<Self>> {
        let [Some(start), Some(moved), Some(weights)] = lists else { return Ok(None) };
        let entries = [skin.weights.numel() as i64];
        let moved = moved.int32()?.same_device(joints)?.shape(&entries)?;
        let weights = weights.like(joints)?.shape(&entries)?;
        let start = start.int64()?.same_device(joints)?.shape(&[skin.joint_count + 1])?;
        Ok(Some(Self { moved: moved.contiguous()?, weights: weights.contiguous()?, start: start.contiguous()? }))
    }
}

/// What the gradients are asked of, all contiguous.
pub(in crate::body) struct Asked<'a> {
    pub(in crate::body) grad_vertices: &'a Tensor, // [B, V, 3]
    pub(in crate::body) v_posed: &'a Tensor,       // [B, V, 3]
    pub(in crate::body) transforms: &'a Tensor,    // [B, J, 4, 4]
    pub(in crate::body) by_joint: &'a ByJoint,
    pub(in crate::body) directions: Option<&'a Pair>, // if the features' or the coefficients' gradient is asked for
    pub(in crate::body) features: bool,               // if the features' is
    pub(in crate::body) shapedirs: Option<&'a Tensor>, // [V, 3, C], if the coefficients' is
}

pub(in crate::body) fn backward(asked: &Asked<'_>, skin: &Skin, args: &Arguments) -> Result<Gradients> {
    let of_vertices = of_vertices(asked, skin, args)?;
    let (features, shape) = match asked.directions {
        Some(pair) => through_posed(asked, pair, &of_vertices.largest, skin, args)?,
        None => (None, None),
    };
    let [transforms, sums] = [of_vertices.transforms, of_vertices.sums].map(Some);
    let [transforms, sums, shape] = added([transforms, sums, shape], args)?;
    let missing = || Error::Runtime("slabs gave no gradient of transforms".into());
    Ok(Gradients { transforms: transforms.ok_or_else(missing)?, sums: sums.ok_or_else(missing)?, features, shape })
}

/// Where parts lie that are to be added: a single one is the sum itself, and may become a result.
fn memory_of(parts: i64) -> Memory {
    if parts == 1 { Own } else { Shared }
}

/// The sums over parts, the first dimension of each.
fn added(of_parts: [Option<Tensor>; 3], args: &Arguments) -> Result<[Option<Tensor>; 3]> {
    let mut sums = [const { None }; 3];
    let mut params = [Parts::default(); 3];
    for ((sum, params), parts) in sums.iter_mut().zip(&mut params).zip(&of_parts) {
        let Some(parts) = parts else { continue };
        let size = parts.sizes();
        if size[0] == 1 {
            *sum = Some(parts.f_squeeze_dim(0)?);
            continue;
        }
        let whole = empty_one(parts, &size[1..], Kind::Float)?;
        let numbers = whole.numel() as i64;
        *params =
            Parts { numbers: parts.data_ptr() as u64, out: whole.data_ptr() as u64, count: size[0], size: numbers };
        *sum = Some(whole);
    }
    let blocks: i64 = params.iter().map(|params| blocks_of_parts(params.count, params.size)).sum();
    if let Some(parts) = of_parts.iter().flatten().next() {
        let kernel = SUMS.kernel(device_of(parts)?, 0, args.stream())?;
        kernel.launch_if_any(blocks as u32, PART_THREADS, 0, &params, args.stream())?;
    }
    Ok(sums)
}

/// Blocks that add `count` parts of `size` numbers: the twin of `PartShape` in `kernels/common/parts.cuh`.
fn blocks_of_parts(count: i64, size: i64) -> i64 {
    let columns = if count > 64 { i64::from(PART_THREADS) / 8 } else { i64::from(PART_THREADS) };
    (size + columns - 1) / columns
}

/// Sums over the vertices, by parts of them.
struct OfVertices {
    transforms: Tensor, // [parts, B, J, 4, 4]
    sums: Tensor,       // [parts, B, 3]
    largest: Tensor,    // [parts, B], of absolute values
}

fn of_vertices(asked: &Asked<'_>, skin: &Skin, args: &Arguments) -> Result<OfVertices> {
    let (bodies, vertices, joints) = (asked.grad_vertices.sizes()[0], skin.vertex_count(), skin.joint_count);
    let device = device_of(asked.grad_vertices)?;
    let (step, staged) = transforms_step(shared_memory(device)?);
    let parts = splits(device, bodies, vertices, step)?;
    let [transforms, sums, largest] = empty(
        asked.grad_vertices,
        [
            (Shared, &[parts, bodies, joints, 4, 4], Kind::Float),
            (memory_of(parts), &[parts, bodies, 3], Kind::Float),
            (Shared, &[parts, bodies], Kind::Float),
        ],
    )?;
    let found = OfVertices { transforms, sums, largest };
    let kernel = TRANSFORMS.kernel(device, usize::from(step == TRANSFORMS_STEPS[1]), args.stream())?;
    for first_joint in (0..joints).step_by(JOINTS as usize) {
        let params = TransformsParams {
            vectors: asked.grad_vertices.data_ptr() as u64,
            vertices: asked.v_posed.data_ptr() as u64,
            moved: asked.by_joint.moved.data_ptr() as u64,
            weights: asked.by_joint.weights.data_ptr() as u64,
            start: asked.by_joint.start.data_ptr() as u64,
            out: found.transforms.data_ptr() as u64,
            sums: found.sums.data_ptr() as u64,
            largest: found.largest.data_ptr() as u64,
            bodies,
            vertex_count: vertices,
            joint_count: joints,
            first_joint,
            splits: parts,
        };
        let blocks = (padded(bodies) / LANES * parts) as u32;
        kernel.launch_if_any(blocks, 32 * TRANSFORMS_WARPS, staged, &params, args.stream())?;
    }
    Ok(found)
}

/// The gradients of the features `[B, F]` and of the coefficients `[parts, B, C]`, through v_posed.
fn through_posed(
    asked: &Asked<'_>,
    pair: &Pair,
    largest: &Tensor,
    skin: &Skin,
    args: &Arguments,
) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let (bodies, vertices) = (asked.grad_vertices.sizes()[0], skin.vertex_count());
    let shapes = asked.shapedirs.map_or(0, |dirs| dirs.sizes()[2]);
    let launch = Launch::posed_gradient(pair, of_launch(bodies, BACKWARD_LAUNCH), shapes, skin, args)?;
    // Kernels read sixteen bytes at once.
    let is_aligned = (asked.transforms.data_ptr() as u64).is_multiple_of(16);
    let transforms = if is_aligned { asked.transforms.shallow_clone() } else { asked.transforms.f_alias_copy()? };
    let count = if asked.features { 9 * (skin.joint_count - 1) } else { 0 };
    let [unit, features, shape] = empty(
        asked.grad_vertices,
        [
            (Shared, &[bodies], Kind::Float),
            (Shared, &[bodies, count], Kind::Float),
            (memory_of(launch.splits), &[launch.splits, bodies, shapes], Kind::Float),
        ],
    )?;
    let (features, shape) = (asked.features.then_some(features), asked.shapedirs.map(|_| shape));
    for (first, count) in launches(bodies, BACKWARD_LAUNCH) {
        let width = padded(count);
        let halves = empty_one(asked.grad_vertices, &[pair.rows(), pair.parts(), width], Kind::Half)?;
        let params = PosedGradientParams {
            grad_vertices: asked.grad_vertices.data_ptr() as u64,
            transforms: transforms.data_ptr() as u64,
            weights: skin.weights.data_ptr() as u64,
            joints: address(skin.joints.as_ref()),
            shapedirs: address(asked.shapedirs),
            largest: largest.data_ptr() as u64,
            weight_sum: pair.units.data_ptr() as u64 + 4,
            pair: halves.data_ptr() as u64,
            unit: unit.data_ptr() as u64,
            grad_shape: address(shape.as_ref()),
            parts: largest.sizes()[0],
            batch: bodies,
            first_body: first,
            bodies: count,
            width,
            rows: pair.rows(),
            vertex_count: vertices,
            joint_count: skin.joint_count,
            influences: skin.weights.sizes()[1],
            shape_count: shapes,
            splits: launch.splits,
        };
        launch.run(count, &params, args)?;
        if let Some(out) = &features {
            features_gradient(pair, &halves, &unit, out, (first, count), args)?;
        }
    }
    Ok((features, shape))
}

/// `out [B, F]` for the bodies of one launch: the gradient's `halves [N', parts, W]` times the directions'. Long sums on
/// tensor cores lose digits, so N' is summed in parts.
fn features_gradient(
    pair: &Pair,
    halves: &Tensor,
    unit: &Tensor,
    out: &Tensor,
    (first, bodies): (i64, i64),
    args: &Arguments,
) -> Result<()> {
    let (device, width) = (device_of(halves)?, halves.sizes()[2]);
    let (stages, shared) = features_stages(shared_memory(device)?, pair);
    let parts = if width == LANES && pair.features() <= FEATURES && stages >= 2 {
        let blocks = i64::from(multiprocessors(device)?).max((pair.rows() + FEATURES_ROWS - 1) / FEATURES_ROWS);
        let parts = empty_one(halves, &[blocks, width, pair.features()], Kind::Float)?;
        let params = FeaturesParams {
            directions: pair.halves.data_ptr() as u64,
            gradient: halves.data_ptr() as u64,
            parts: parts.data_ptr() as u64,
            rows: pair.rows(),
            features_padded: pair.features(),
            stages,
        };
        let tiles = (pair.features() + FEATURES / 4 - 1) / (FEATURES / 4); // of 256 features, for a block's warps
        let kernel = pair.program(&FEATURES_PROGRAM).kernel(device, [0, 0, 1, 2, 2][tiles as usize], args.stream())?;
        kernel.launch_if_any(blocks as u32, FEATURES_THREADS, shared, &params, args.stream())?;
        parts
    } else {
        features_by_chunks(pair, halves)?
    };
    let params = FeaturesGradientParams {
        parts: parts.data_ptr() as u64,
        direction_unit: pair.units.data_ptr() as u64,
        unit: unit.data_ptr() as u64,
        out: out.data_ptr() as u64,
        part_count: parts.sizes()[0],
        first_body: first,
        bodies,
        width,
        padded: pair.features(),
        features: out.sizes()[1],
    };
    let kernel = pair.program(&POSED_GRADIENT).kernel(device, FEATURES_GRADIENT, args.stream())?;
    let blocks = blocks_of_parts(parts.sizes()[0], width * pair.features());
    kernel.launch_if_any(blocks as u32, PART_THREADS, 0, &params, args.stream())
}

/// By cuBLAS, `[products chunks, W, F']`.
fn features_by_chunks(pair: &Pair, halves: &Tensor) -> Result<Tensor> {
    let (chunks, chunk, padded, width) = (pair.chunks, pair.chunk(), pair.features(), halves.sizes()[2]);
    let parts = empty_one(halves, &[pair.products * chunks, width, padded], Kind::Float)?;
    let wide = pair.parts() * width; // high halves of all bodies, then low ones
    let gradient = halves.f_view([chunks, chunk, wide])?.f_transpose(1, 2)?; // [chunks, wide, chunk]
    let products = parts.f_narrow(0, 0, pair.parts() * chunks)?.f_view([chunks, wide, padded])?;
    let direction = |place: i64| pair.halves.f_select(2, place); // [chunks, chunk, F']
    let _ = with_float_sums(|| gradient.f_bmm_dtype_out(&products, &direction(0)?, Kind::Float))?;
    if pair.products == 3 {
        let products = parts.f_narrow(0, 2 * chunks, chunks)?;
        let high = gradient.f_narrow(1, 0, width)?;
        let _ = with_float_sums(|| high.f_bmm_dtype_out(&products, &direction(1)?, Kind::Float))?;
    }
    Ok(parts)
}

/// The steps that shared memory has room for in `slab_features`, four at most, and their bytes.
fn features_stages(memory: u32, pair: &Pair) -> (i64, u32) {
    let (features, parts) = (pair.features(), pair.parts());
    let step = 2 * 16 * (parts * features + 8 * (parts - 1) + parts * (LANES + 8)) as u32;
    let stages = (memory / step).min(4);
    (i64::from(stages), stages * step)
}
