//! The gradient of many bodies' vertices to transforms, pose features and shape coefficients.

use tch::{Kind, Tensor};

use super::super::skinning::Skin;
use super::{
    Block, FEATURES_GRADIENT, JOINTS, LANES, LAUNCH, POSED_GRADIENT, PROGRAM, Pair, TRANSFORMS, TRANSFORMS_STAGED,
    TRANSFORMS_TILE, WARPS, address, device_of, for_shapes, launches, padded, splits,
};
use crate::Result;
use crate::cuda::{launch_1d, shared_memory};
use crate::torch::{Argument, Arguments};

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
    pub(in crate::body) correctives: Option<&'a Pair>, // if the features' gradient is asked for
    pub(in crate::body) shapedirs: Option<&'a Tensor>, // [V, 3, C], if the coefficients' is
}

pub(in crate::body) fn backward(asked: &Asked<'_>, skin: &Skin, args: &Arguments) -> Result<Gradients> {
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
