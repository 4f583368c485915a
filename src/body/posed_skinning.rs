//! The last phase of a body: `v_posed = v_shaped + pose correctives + offsets`, and its skinning; and that backwards.

use std::array::from_fn;

use num_traits::Zero;
use tch::{Device, Tensor};

use super::skin::{Skinned, for_gradients, for_points};
use super::skinning::{Skin, body_of, step, within_bodies};
use super::{Real, for_real};
use crate::Result;
use crate::cuda::{Program, blocks_of};
use crate::torch::parallel::{self, elements, elements_mut};
use crate::torch::{Arguments, Sizes, empty_one};

pub(super) static PROGRAM: Program = Program::new(
    "body/posed_skinning.cu",
    &[
        "posed_skinning<float>",
        "posed_skinning<double>",
        "posed_skinning_backward<float>",
        "posed_skinning_backward<double>",
    ],
);
const BACKWARD: usize = 2; // the first backward kernel in PROGRAM

const THREADS: u32 = 128;
/// Vertices worth a thread of their own on the CPU.
const GRAIN: usize = 1024;

/// The twin of `PosedSkinningParams` in `kernels/body/posed_skinning.cu`.
#[repr(C)]
struct Params {
    v_shaped: u64,       // [B, V, 3]; backward: grad_vertices
    correctives: u64,    // [B, V, 3] or null, may be v_posed itself; backward: grad_v_posed that arrived, or null
    vertex_offsets: u64, // [B | 1, V, 3] or null; forward only
    transl: u64,         // [B | 1, 3] or null; forward only
    transforms: u64,     // [B, J, 4, 4]
    weights: u64,        // [V, K]
    joints: u64,         // [V, K] int32, or null: K = J
    v_posed: u64,        // [B, V, 3]; backward: grad_v_posed
    vertices: u64,       // [B, V, 3]; forward only
    offset_step: i64,    // elements from one body to the next; 0 where all bodies share
    transl_step: i64,
    vertex_count: i64,
    joint_count: i64,
    influences: i64, // K
}

/// What is skinned, all contiguous.
pub(super) struct Rest<'a> {
    pub(super) v_shaped: &'a Tensor,               // [B, V, 3]
    pub(super) correctives: Option<Tensor>,        // [B, V, 3], becomes v_posed
    pub(super) vertex_offsets: Option<&'a Tensor>, // [B | 1, V, 3]
    pub(super) transl: Option<&'a Tensor>,         // [B | 1, 3]
}

/// `(v_posed, vertices)`, both `[B, V, 3]`.
pub(super) fn forward(rest: Rest<'_>, transforms: &Tensor, skin: &Skin, args: &Arguments) -> Result<(Tensor, Tensor)> {
    let Rest { v_shaped, correctives, vertex_offsets, transl } = rest;
    let bodies = v_shaped.sizes()[0];
    let has_correctives = correctives.is_some();
    let mut v_posed = match correctives {
        Some(correctives) => correctives,
        None => empty_one(v_shaped, v_shaped.sizes(), v_shaped.kind())?,
    };
    let mut vertices = empty_one(v_shaped, v_shaped.sizes(), v_shaped.kind())?;
    match v_shaped.device() {
        Device::Cuda(device) => {
            let params = Params {
                v_shaped: v_shaped.data_ptr() as u64,
                correctives: if has_correctives { v_posed.data_ptr() as u64 } else { 0 },
                vertex_offsets: address(vertex_offsets),
                transl: address(transl),
                transforms: transforms.data_ptr() as u64,
                weights: skin.weights.data_ptr() as u64,
                joints: address(skin.joints.as_ref()),
                v_posed: v_posed.data_ptr() as u64,
                vertices: vertices.data_ptr() as u64,
                offset_step: vertex_offsets.map_or(0, step),
                transl_step: transl.map_or(0, step),
                vertex_count: skin.vertex_count(),
                joint_count: skin.joint_count,
                influences: skin.weights.sizes()[1],
            };
            let kernel = PROGRAM.kernel(device, for_real!(v_shaped, T => T::INDEX), args.stream())?;
            let blocks = blocks_of(bodies, skin.vertex_count(), THREADS)?;
            kernel.launch_if_any(blocks, THREADS, 0, &params, args.stream())?;
        }
        _ => for_real!(v_shaped, T => {
            let (count, joints, bodies) = (skin.vertex_count() as usize, skin.joint_count as usize, bodies as usize);
            let rows = &skin.rows::<T>();
            let (v_shaped, transforms) = (elements::<T>(v_shaped), elements::<T>(transforms));
            let (offsets, transl) = (vertex_offsets.map(elements::<T>), transl.map(elements::<T>));
            let outputs = [(elements_mut::<T>(&mut v_posed), 3), (elements_mut::<T>(&mut vertices), 3)];
            parallel::zip_parts(outputs, GRAIN, |first, [v_posed, out]| {
                let parts = within_bodies(first, v_posed, 3 * count).zip(within_bodies(first, out, 3 * count));
                for ((body, first, v_posed), (_, _, out)) in parts {
                    let range = 3 * first..3 * first + out.len();
                    let v_shaped = &v_shaped[3 * count * body..][range.clone()];
                    let offsets = offsets.map(|offsets| &body_of(offsets, 3 * count, bodies, body)[range]);
                    pose(v_shaped, offsets, has_correctives, v_posed);
                    T::run(Skinned {
                        rows,
                        first,
                        vectors: v_posed,
                        matrices: &for_points(&transforms[16 * joints * body..][..16 * joints]),
                        shift: transl.map_or([T::zero(); 3], |transl| from_fn(|i| body_of(transl, 3, bodies, body)[i])),
                        out,
                    });
                }
            });
        }),
    }
    Ok((v_posed, vertices))
}

/// `v_posed` of some vertices, which holds the correctives where there are any.
fn pose<T: Real>(v_shaped: &[T], offsets: Option<&[T]>, has_correctives: bool, v_posed: &mut [T]) {
    for (i, (sum, shaped)) in v_posed.iter_mut().zip(v_shaped).enumerate() {
        let offset = offsets.map_or(*shaped, |offsets| *shaped + offsets[i]);
        *sum = if has_correctives { offset + *sum } else { offset };
    }
}

/// The gradient of `v_posed [B, V, 3]` from `grad_vertices` and what arrived at `v_posed` itself.
pub(super) fn backward(
    grad_vertices: &Tensor,
    arrived: Option<&Tensor>,
    transforms: &Tensor,
    skin: &Skin,
    args: &Arguments,
) -> Result<Tensor> {
    let bodies = grad_vertices.sizes()[0];
    let mut grad = empty_one(grad_vertices, grad_vertices.sizes(), grad_vertices.kind())?;
    match grad_vertices.device() {
        Device::Cuda(device) => {
            let params = Params {
                v_shaped: grad_vertices.data_ptr() as u64,
                correctives: address(arrived),
                vertex_offsets: 0,
                transl: 0,
                transforms: transforms.data_ptr() as u64,
                weights: skin.weights.data_ptr() as u64,
                joints: address(skin.joints.as_ref()),
                v_posed: grad.data_ptr() as u64,
                vertices: 0,
                offset_step: 0,
                transl_step: 0,
                vertex_count: skin.vertex_count(),
                joint_count: skin.joint_count,
                influences: skin.weights.sizes()[1],
            };
            let kernel = PROGRAM.kernel(device, BACKWARD + for_real!(grad_vertices, T => T::INDEX), args.stream())?;
            let blocks = blocks_of(bodies, skin.vertex_count(), THREADS)?;
            kernel.launch_if_any(blocks, THREADS, 0, &params, args.stream())?;
        }
        _ => for_real!(grad_vertices, T => {
            let (count, joints) = (skin.vertex_count() as usize, skin.joint_count as usize);
            let rows = &skin.rows::<T>();
            let (g, transforms) = (elements::<T>(grad_vertices), elements::<T>(transforms));
            let arrived = arrived.map(elements::<T>);
            parallel::rows(elements_mut::<T>(&mut grad), 3, GRAIN, |first, part| {
                for (body, first, out) in within_bodies(first, part, 3 * count) {
                    let begin = 3 * (count * body + first);
                    let range = begin..begin + out.len();
                    let arrived = arrived.map(|arrived| &arrived[range.clone()]);
                    T::run(Skinned {
                        rows,
                        first,
                        vectors: &g[range],
                        matrices: &for_gradients(&transforms[16 * joints * body..][..16 * joints]),
                        shift: [T::zero(); 3],
                        out: &mut *out,
                    });
                    if let Some(arrived) = arrived {
                        out.iter_mut().zip(arrived).for_each(|(sum, arrived)| *sum += *arrived);
                    }
                }
            });
        }),
    }
    Ok(grad)
}

fn address(tensor: Option<&Tensor>) -> u64 {
    tensor.map_or(0, |tensor| tensor.data_ptr() as u64)
}
