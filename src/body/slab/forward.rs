//! Many bodies to vertices.

use tch::{Kind, Tensor};

use super::super::skinning::{Skin, step};
use super::{
    LANES, LAUNCH, Launch, ONE_SLAB_BODIES, ONE_SLAB_SKINNING, ONE_SLAB_VERTICES, ONE_SLAB_WARPS, Pair, address,
    device_of, launches, padded,
};
use crate::Result;
use crate::cuda::shared_memory;
use crate::torch::Memory::{Own, Shared};
use crate::torch::{Arguments, Sizes, empty, empty_one, with_float_sums};

/// The twin of `SlabSkinningParams` in `kernels/body/slab_skinning.cu`.
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

/// The twin of `OneSlabSkinningParams` in `kernels/body/one_slab_skinning.cu`.
#[repr(C)]
struct OneSlabParams {
    skinning: SkinningParams, // without correctives
    directions: u64,          // [N', products, F'] halves
    features: u64,            // [B padded, products, F'] halves
    rows: i64,
    features_padded: i64,
}

/// What is skinned, all contiguous.
pub(in crate::body) struct Rest<'a> {
    pub(in crate::body) bodies: i64,
    pub(in crate::body) v_template: &'a Tensor,             // [V, 3]
    pub(in crate::body) shapedirs: &'a Tensor,              // [V, 3, C]
    pub(in crate::body) shape: &'a Tensor,                  // [B | 1, C]
    pub(in crate::body) vertex_offsets: Option<&'a Tensor>, // [B | 1, V, 3]
    pub(in crate::body) transl: Option<&'a Tensor>,         // [B | 1, 3]
}

/// Pose features split into halves by `pose`, and their units.
pub(in crate::body) struct Features {
    pub(in crate::body) halves: Tensor, // [B padded, products F'], zero where there is no body
    pub(in crate::body) unit: Tensor,   // [B]
    pub(in crate::body) products: i64,
}

impl Features {
    pub(in crate::body) fn empty(bodies: i64, pair: &Pair) -> Result<Self> {
        let size = [padded(bodies), pair.products * pair.features()];
        let [halves, unit] = empty(&pair.halves, [(Shared, &size, Kind::Half), (Shared, &[bodies], Kind::Float)])?;
        Ok(Self { halves, unit, products: pair.products })
    }
}

/// Vertices `[B, V, 3]`, and if they are kept v_shaped and v_posed.
pub(in crate::body) fn skinning(
    rest: &Rest<'_>,
    correctives: Option<(&Pair, &Features)>,
    transforms: &Tensor,
    skin: &Skin,
    keep: bool,
    args: &Arguments,
) -> Result<(Tensor, Option<(Tensor, Tensor)>)> {
    let size = [rest.bodies, skin.vertex_count(), 3];
    let device = device_of(transforms)?;
    let result = (Own, size.as_slice(), Kind::Float);
    let (vertices, kept) = if keep {
        let [vertices, v_shaped, v_posed] = empty(transforms, [result; 3])?;
        (vertices, Some((v_shaped, v_posed)))
    } else {
        (empty_one(transforms, &size, Kind::Float)?, None)
    };
    let shapes = rest.shape.sizes()[1];
    let params_of = |blend: Option<&Tensor>, (first_body, bodies): (i64, i64), splits: i64| SkinningParams {
        correctives: address(blend),
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
        first_body,
        bodies,
        width: padded(bodies),
        vertex_count: skin.vertex_count(),
        joint_count: skin.joint_count,
        influences: skin.weights.sizes()[1],
        shape_count: shapes,
        splits,
    };
    if let Some((pair, features)) = correctives.filter(|_| rest.bodies <= ONE_SLAB_BODIES)
        && let Some(shared) = one_slab_shared(pair, shapes, skin)?
    {
        let params = OneSlabParams {
            skinning: params_of(None, (0, rest.bodies), 1),
            directions: pair.halves.data_ptr() as u64,
            features: features.halves.data_ptr() as u64,
            rows: pair.rows(),
            features_padded: pair.features(),
        };
        let kernel = pair.program(&ONE_SLAB_SKINNING).kernel(device, 0, args.stream())?.early();
        let tiles = (skin.vertex_count() + ONE_SLAB_VERTICES - 1) / ONE_SLAB_VERTICES;
        let blocks = (tiles * padded(rest.bodies) / LANES) as u32;
        kernel.launch_if_any(blocks, 32 * ONE_SLAB_WARPS, shared, &params, args.stream())?;
        return Ok((vertices, kept));
    }
    for (first, bodies) in launches(rest.bodies, LAUNCH) {
        let blend = match correctives {
            Some((pair, features)) => Some(product(pair, features, (first, padded(bodies)))?),
            None => None,
        };
        let launch = Launch::skinning(device, bodies, shapes, skin, args)?;
        launch.run(bodies, &params_of(blend.as_ref(), (first, bodies), launch.splits), args)?;
    }
    Ok((vertices, kept))
}

/// The bytes of shared memory that a block of `one_slab_skinning` takes, if it serves this model.
pub(super) fn one_slab_shared(pair: &Pair, shapes: i64, skin: &Skin) -> Result<Option<u32>> {
    let (rows, influences) = (3 * ONE_SLAB_VERTICES, skin.weights.sizes()[1]);
    let staged = 4 * rows * (LANES + 1); // coordinates of all vertices and bodies
    let kept = 4 * 12 * skin.joint_count * LANES + staged + 8 * ONE_SLAB_VERTICES * influences;
    // First what the shape needs, then the features, then the vertices before and after skinning.
    let shape = 4 * (rows + (rows + LANES) * ((shapes + 3) / 4 * 4));
    let multiplied = 2 * pair.parts() * LANES * pair.features();
    let shared = u32::try_from(kept + shape.max(multiplied).max(2 * staged)).unwrap_or(u32::MAX);
    Ok((shared <= shared_memory(device_of(&pair.halves)?)?).then_some(shared))
}

/// The correctives `[N', W]` of the `width` bodies from the first one on.
fn product(pair: &Pair, features: &Features, (first, width): (i64, i64)) -> Result<Tensor> {
    let all = &features.halves;
    let part = if width == all.sizes()[0] { all.shallow_clone() } else { all.f_narrow(0, first, width)? };
    let directions = pair.halves.f_view([pair.rows(), -1])?;
    Ok(with_float_sums(|| directions.f_mm_dtype(&part.f_tr()?, Kind::Float))?)
}
