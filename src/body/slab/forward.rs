//! Many bodies to vertices.

use tch::{Kind, Tensor};

use super::super::skinning::{Skin, step};
use super::{
    CORRECTIVES, CORRECTIVES_APART, CORRECTIVES_THREADS, LANES, LAUNCH, Launch, Pair, address, device_of, launches,
    padded,
};
use crate::Result;
use crate::cuda::{multiprocessors, shared_memory};
use crate::torch::Memory::{Own, Shared};
use crate::torch::{Arguments, Sizes, empty, empty_one};

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

/// The twin of `SlabCorrectivesParams` in `kernels/body/slab_correctives.cu`.
#[repr(C)]
struct CorrectivesParams {
    directions: u64,  // [N', products, F'] halves
    features: u64,    // [32, products, F'] halves
    correctives: u64, // [N', 32]
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
    for (first, bodies) in launches(rest.bodies, LAUNCH) {
        let width = padded(bodies);
        let blend = match correctives {
            Some((pair, features)) => Some(product(pair, features, (first, width), args)?),
            None => None,
        };
        let launch = Launch::skinning(device, bodies, shapes, skin, args)?;
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
            influences: skin.weights.sizes()[1],
            shape_count: shapes,
            splits: launch.splits,
        };
        launch.run(bodies, &params, args)?;
    }
    Ok((vertices, kept))
}

/// The correctives `[N', W]` of the `width` bodies from the first one on.
fn product(pair: &Pair, features: &Features, (first, width): (i64, i64), args: &Arguments) -> Result<Tensor> {
    let (device, count) = (device_of(&features.halves)?, pair.features());
    let shared = (2 * pair.parts() * width * (count + CORRECTIVES_APART)) as u32;
    if width > LANES || shared > shared_memory(device)? {
        let all = &features.halves;
        let part = if width == all.sizes()[0] { all.shallow_clone() } else { all.f_narrow(0, first, width)? };
        return Ok(pair.halves.f_view([pair.rows(), -1])?.f_mm_dtype(&part.f_tr()?, Kind::Float)?);
    }
    let correctives = empty_one(&pair.halves, &[pair.rows(), width], Kind::Float)?;
    let params = CorrectivesParams {
        directions: pair.halves.data_ptr() as u64,
        features: features.halves.data_ptr() as u64 + (2 * first * features.halves.sizes()[1]) as u64,
        correctives: correctives.data_ptr() as u64,
        rows: pair.rows(),
        features_padded: count,
    };
    let kernel = pair.program(&CORRECTIVES).kernel(device, 0, args.stream())?.early();
    kernel.launch_if_any(multiprocessors(device)?, CORRECTIVES_THREADS, shared, &params, args.stream())?;
    Ok(correctives)
}
