//! Linear blend skinning and its partial contractions. With `x = [v; 1]` the form
//! `L(g, A, v, w) = sum over body, vertex, joint of w g . A x` is linear in each argument; each operator is its gradient
//! with respect to one of them, so the three express one another's derivatives of any order.
//!
//! Weights are `[V, K]` with the joint of each in `joints [V, K]` (-1: none), or dense `[V, J]` without `joints`.

use num_traits::Zero;
use smallvec::{SmallVec, smallvec};
use tch::{Device, Kind, Tensor};

use super::skin::{Gathered, Matrix, Rows, Skinned, for_points};
use super::{Real, for_real};
use crate::cuda::{Program, blocks_of, launch_1d};
use crate::torch::parallel::{self, elements, elements_mut};
use crate::torch::{Argument, Arguments, Outputs, Sizes, empty_one, entry};
use crate::{Error, Result};

pub(super) static PROGRAM: Program = Program::new(
    "body/skinning.cu",
    &[
        "skinning<float>",
        "skinning<double>",
        "skinning_transforms<float>",
        "skinning_transforms<double>",
        "skinning_weights<float>",
        "skinning_weights<double>",
    ],
);
const TRANSFORMS: usize = 2; // the first kernel of each operator in PROGRAM
const WEIGHTS: usize = 4;

const THREADS: u32 = 128;
/// Vertices worth a thread of their own on the CPU; also the length of a partial sum, whatever the number of threads.
const GRAIN: usize = 1024;

/// The twin of `SkinningParams` in `kernels/body/skinning.cu`.
#[repr(C)]
struct Params {
    vectors: u64,     // [B, V, 3], the gradient g; null in `skinning`
    vertices: u64,    // [B | 1, V, 3]
    transforms: u64,  // [B | 1, J, 4, 4]
    weights: u64,     // [V, K]
    joints: u64,      // [V, K] int32, or null: K = J
    order: u64,       // [V K] int64, positions in `weights` sorted by joint, or null
    start: u64,       // [J + 1] int64, where each joint's positions begin in `order`, or null
    out: u64,         // [B, V, 3], [B, J, 4, 4] or [V, K]
    vector_step: i64, // elements from one body to the next; 0 where all bodies share
    vertex_step: i64,
    transform_step: i64,
    bodies: i64,
    vertex_count: i64,
    joint_count: i64,
    influences: i64, // K
}

/// What the three operators take, checked and contiguous.
pub(super) struct Skin {
    pub(super) weights: Tensor,        // [V, K]
    pub(super) joints: Option<Tensor>, // [V, K] int32
    pub(super) joint_count: i64,
}

impl Skin {
    pub(super) fn read(weights: Argument<'_>, joints: Option<Argument<'_>>, joint_count: i64) -> Result<Self> {
        let weights = weights.real()?;
        let joints = if let Some(joints) = joints {
            Some(joints.int32()?.same_device(weights)?.shape(weights.tensor.sizes())?.contiguous()?)
        } else {
            weights.shape(&[-1, joint_count])?;
            None
        };
        Ok(Self { weights: weights.shape(&[-1, -1])?.contiguous()?, joints, joint_count })
    }

    pub(super) fn vertex_count(&self) -> i64 {
        self.weights.sizes()[0]
    }

    fn influences(&self) -> usize {
        self.weights.sizes()[1] as usize
    }

    /// For every vertex the `(joint, weight)` pairs, on the CPU. Joints out of range were refused by `check_joints`.
    pub(super) fn rows<T: Real>(&self) -> Rows<'_, T> {
        Rows::new(elements(&self.weights), self.joints.as_ref().map(parallel::int32s), self.influences())
    }

    /// On the CPU a joint out of range is an error; the CUDA kernels skip it, as reading it here would wait for the GPU.
    pub(super) fn check_joints(&self, operator: &str) -> Result<()> {
        let Some(joints) = self.joints.as_ref().filter(|joints| joints.device() == Device::Cpu) else { return Ok(()) };
        match parallel::int32s(joints).iter().find(|joint| i64::from(**joint) >= self.joint_count || **joint < -1) {
            Some(joint) => Err(Error::Index(format!(
                "{operator}: joints holds {joint}, expected -1 to {} for {} joints",
                self.joint_count - 1,
                self.joint_count
            ))),
            None => Ok(()),
        }
    }

    /// `weights` positions sorted by joint and where each joint's begin, for gathers without atomics. Nothing waits.
    pub(super) fn by_joint(&self) -> Result<Option<(Tensor, Tensor)>> {
        let Some(joints) = &self.joints else { return Ok(None) };
        let (sorted, order) = joints.f_flatten(0, -1)?.f_sort_stable(true, 0, false)?;
        let bounds = Tensor::f_arange(self.joint_count + 1, (Kind::Int, joints.device()))?;
        let start = bounds.f_searchsorted(&sorted, false, false, "left", None::<&Tensor>)?;
        Ok(Some((order, start)))
    }
}

/// Row `body` of a tensor whose batch may be 1.
pub(super) fn body_of<T>(values: &[T], size: usize, bodies: usize, body: usize) -> &[T] {
    let first = if values.len() == size && bodies != 1 { 0 } else { body * size };
    &values[first..first + size]
}

/// Splits `part`, which begins at vertex `first` of all bodies' vertices, where bodies end: body, first vertex, values.
pub(super) fn within_bodies<T>(
    first: usize,
    part: &mut [T], // [part, 3]
    size: usize,    // 3 V
) -> impl Iterator<Item = (usize, usize, &mut [T])> {
    let (mut at, mut rest) = (3 * first, part);
    std::iter::from_fn(move || {
        let end = rest.len().min(size - at % size);
        let (here, after) = std::mem::take(&mut rest).split_at_mut(end);
        let found = (at / size, at % size / 3, here);
        (at, rest) = (at + end, after);
        (end > 0).then_some(found)
    })
}

/// A batch of `bodies`, or 1 to be shared by all.
pub(super) fn batched<'a>(argument: Argument<'a>, bodies: i64, rest: &[i64]) -> Result<Argument<'a>> {
    let mut expected: SmallVec<[i64; 4]> = smallvec![bodies];
    if argument.tensor.sizes().first() == Some(&1) {
        expected[0] = 1;
    }
    expected.extend_from_slice(rest);
    argument.shape(&expected)
}

/// The common batch of tensors each of which may have batch 1.
pub(super) fn common_batch(tensors: &[Argument<'_>]) -> i64 {
    tensors.iter().filter_map(|argument| argument.tensor.sizes().first().copied()).find(|&size| size != 1).unwrap_or(1)
}

pub(super) fn step(tensor: &Tensor) -> i64 {
    let sizes = tensor.sizes();
    if sizes[0] == 1 { 0 } else { sizes[1..].iter().product() }
}

// out_v = sum_j w_vj A_j [v; 1]

entry!(avatorch_skinning, "smplx::skinning", forward);
fn forward(args: &Arguments) -> Result<Outputs> {
    let vertices = args.tensor(0, "vertices")?.real()?.rank(3)?;
    let transforms = args.tensor(1, "transforms")?.like(vertices)?.rank(4)?;
    let bodies = common_batch(&[vertices, transforms]);
    let transforms = batched(transforms, bodies, &[-1, 4, 4])?;
    let skin = Skin::read(
        args.tensor(2, "weights")?.like(vertices)?,
        args.optional(3, "joints"),
        transforms.tensor.sizes()[1],
    )?;
    let vertices = batched(vertices, bodies, &[skin.vertex_count(), 3])?.contiguous()?;
    skin.check_joints("smplx::skinning")?;
    Ok(smallvec![Some(run(&vertices, &transforms.contiguous()?, &skin, bodies, args)?)])
}

fn run(vertices: &Tensor, transforms: &Tensor, skin: &Skin, bodies: i64, args: &Arguments) -> Result<Tensor> {
    let mut out = empty_one(vertices, &[bodies, skin.vertex_count(), 3], vertices.kind())?;
    match vertices.device() {
        Device::Cuda(device) => {
            let params = params(None, Some(vertices), Some(transforms), skin, &out, bodies, None);
            let kernel = PROGRAM.kernel(device, for_real!(vertices, T => T::INDEX), args.stream())?;
            let blocks = blocks_of(bodies, skin.vertex_count(), THREADS)?;
            kernel.launch_if_any(blocks, THREADS, 0, &params, args.stream())?;
        }
        _ => for_real!(vertices, T => {
            let (v_count, j_count) = (skin.vertex_count() as usize, skin.joint_count as usize);
            let (rows, bodies) = (&skin.rows::<T>(), bodies as usize);
            let (vertices, transforms) = (elements::<T>(vertices), elements::<T>(transforms));
            parallel::rows(elements_mut::<T>(&mut out), 3, GRAIN, |first, part| {
                for (body, first, part) in within_bodies(first, part, 3 * v_count) {
                    T::run(Skinned {
                        rows,
                        first,
                        vectors: &body_of(vertices, 3 * v_count, bodies, body)[3 * first..][..part.len()],
                        matrices: &for_points(body_of(transforms, 16 * j_count, bodies, body)),
                        shift: [T::zero(); 3],
                        out: part,
                    });
                }
            });
        }),
    }
    Ok(out)
}

// out_j = sum_v w_vj g_v [v; 1]^T, the gradient of the transforms; their last row is zero

entry!(avatorch_skinning_transforms, "smplx::skinning_transforms", transforms_gradient);
fn transforms_gradient(args: &Arguments) -> Result<Outputs> {
    let vectors = args.tensor(0, "vectors")?.real()?.rank(3)?;
    let vertices = args.tensor(1, "vertices")?.like(vectors)?.rank(3)?;
    let bodies = common_batch(&[vectors, vertices]);
    let joint_count = args.number(0);
    if joint_count < 0 {
        return Err(Error::Value(format!(
            "smplx::skinning_transforms: joint_count is {joint_count}, expected 0 or more"
        )));
    }
    let skin = Skin::read(args.tensor(2, "weights")?.like(vectors)?, args.optional(3, "joints"), joint_count)?;
    let vectors = batched(vectors, bodies, &[skin.vertex_count(), 3])?.contiguous()?;
    let vertices = batched(vertices, bodies, &[skin.vertex_count(), 3])?.contiguous()?;
    skin.check_joints("smplx::skinning_transforms")?;
    Ok(smallvec![Some(run_transforms(&vectors, &vertices, &skin, bodies, None, args)?)])
}

pub(super) fn run_transforms(
    vectors: &Tensor,
    vertices: &Tensor,
    skin: &Skin,
    bodies: i64,
    by_joint: Option<&(Tensor, Tensor)>,
    args: &Arguments,
) -> Result<Tensor> {
    let mut out = empty_one(vectors, &[bodies, skin.joint_count, 4, 4], vectors.kind())?;
    match vectors.device() {
        Device::Cuda(device) => {
            let made = if by_joint.is_none() { skin.by_joint()? } else { None };
            let params = params(Some(vectors), Some(vertices), None, skin, &out, bodies, by_joint.or(made.as_ref()));
            let kernel = PROGRAM.kernel(device, TRANSFORMS + for_real!(vectors, T => T::INDEX), args.stream())?;
            let blocks = blocks_of(bodies, skin.joint_count, 1)?;
            kernel.launch_if_any(blocks, THREADS, 0, &params, args.stream())?;
        }
        _ => for_real!(vectors, T => {
            let rows = &skin.rows::<T>();
            let (v_count, j_count, bodies) = (skin.vertex_count() as usize, skin.joint_count as usize, bodies as usize);
            let (vectors, vertices) = (elements::<T>(vectors), elements::<T>(vertices));
            // Partial sums over fixed ranges of vertices, added in order: the same bits for any number of threads.
            let parts = v_count.div_ceil(GRAIN);
            let mut partial = vec![Matrix([T::zero(); 16]); bodies * parts * j_count];
            elements_mut::<T>(&mut out).fill(T::zero());
            if partial.is_empty() {
                return Ok(out);
            }
            parallel::rows(&mut partial, j_count, 1, |first, sums| {
                for (i, sums) in sums.chunks_exact_mut(j_count).enumerate() {
                    let (body, first) = ((first + i) / parts, (first + i) % parts * GRAIN);
                    let range = 3 * first..3 * (first + GRAIN).min(v_count);
                    T::run(Gathered {
                        rows,
                        first,
                        gradient: &body_of(vectors, 3 * v_count, bodies, body)[range.clone()],
                        vertices: &body_of(vertices, 3 * v_count, bodies, body)[range],
                        sums,
                    });
                }
            });
            parallel::rows(elements_mut::<T>(&mut out), j_count * 16, 1, |first, out| {
                for (i, out) in out.chunks_exact_mut(j_count * 16).enumerate() {
                    for sums in partial[(first + i) * parts * j_count..].chunks_exact(j_count).take(parts) {
                        for (out, Matrix(sums)) in out.as_chunks_mut::<16>().0.iter_mut().zip(sums) {
                            // The last row is zero, whatever the numbers are.
                            out[..12].iter_mut().zip(sums).for_each(|(total, sum)| *total += *sum);
                        }
                    }
                }
            });
        }),
    }
    Ok(out)
}

// out_vk = sum over bodies of g_v . A_j [v; 1], the gradient of the weights

entry!(avatorch_skinning_weights, "smplx::skinning_weights", weights_gradient);
fn weights_gradient(args: &Arguments) -> Result<Outputs> {
    let vectors = args.tensor(0, "vectors")?.real()?.rank(3)?;
    let vertices = args.tensor(1, "vertices")?.like(vectors)?.rank(3)?;
    let transforms = args.tensor(2, "transforms")?.like(vectors)?.rank(4)?;
    let bodies = common_batch(&[vectors, vertices, transforms]);
    let transforms = batched(transforms, bodies, &[-1, 4, 4])?;
    let v_count = vectors.tensor.sizes()[1];
    let joint_count = transforms.tensor.sizes()[1];
    let vectors = batched(vectors, bodies, &[v_count, 3])?;
    // The weights themselves do not matter, their shape does.
    let influences =
        args.optional(3, "joints").map_or(joint_count, |joints| joints.tensor.sizes().get(1).copied().unwrap_or(0));
    let out = empty_one(vectors.tensor, &[v_count, influences], vectors.tensor.kind())?;
    let joints = match args.optional(3, "joints") {
        Some(joints) => Some(joints.int32()?.same_device(vectors)?.shape(&[v_count, influences])?.contiguous()?),
        None => None,
    };
    let mut skin = Skin { weights: out, joints, joint_count };
    skin.check_joints("smplx::skinning_weights")?;
    let vertices = batched(vertices, bodies, &[v_count, 3])?.contiguous()?;
    run_weights(&vectors.contiguous()?, &vertices, &transforms.contiguous()?, &mut skin, bodies, args)?;
    Ok(smallvec![Some(skin.weights)])
}

pub(super) fn run_weights(
    g: &Tensor,
    v: &Tensor,
    transforms: &Tensor,
    skin: &mut Skin,
    bodies: i64,
    args: &Arguments,
) -> Result<()> {
    match g.device() {
        Device::Cuda(device) => {
            let params = params(Some(g), Some(v), Some(transforms), skin, &skin.weights, bodies, None);
            let kernel = PROGRAM.kernel(device, WEIGHTS + for_real!(g, T => T::INDEX), args.stream())?;
            launch_1d(kernel, skin.weights.numel() as i64, THREADS, &params, args.stream())?;
        }
        _ => for_real!(g, T => {
            let (v_count, j_count, bodies) = (skin.vertex_count() as usize, skin.joint_count as usize, bodies as usize);
            let influences = skin.influences();
            let (g, v, transforms) = (elements::<T>(g), elements::<T>(v), elements::<T>(transforms));
            let joints = skin.joints.as_ref().map(parallel::int32s);
            if influences == 0 {
                return Ok(());
            }
            parallel::rows(elements_mut::<T>(&mut skin.weights), influences, 64, |first, out| {
                out.fill(T::zero());
                for body in 0..bodies {
                    let transforms = body_of(transforms, 16 * j_count, bodies, body);
                    let (g, v) = (body_of(g, 3 * v_count, bodies, body), body_of(v, 3 * v_count, bodies, body));
                    for (i, out) in out.chunks_exact_mut(influences).enumerate() {
                        let vertex = first + i;
                        let (g, v) = (&g[3 * vertex..3 * vertex + 3], &v[3 * vertex..3 * vertex + 3]);
                        for (k, total) in out.iter_mut().enumerate() {
                            let joint = joints.map_or(k as i32, |joints| joints[vertex * influences + k]);
                            if let Ok(joint) = usize::try_from(joint) {
                                let m = &transforms[16 * joint..16 * joint + 12];
                                for row in 0..3 {
                                    let m = &m[4 * row..4 * row + 4];
                                    *total += g[row] * (m[0] * v[0] + m[1] * v[1] + m[2] * v[2] + m[3]);
                                }
                            }
                        }
                    }
                }
            });
        }),
    }
    Ok(())
}

fn params(
    vectors: Option<&Tensor>,
    vertices: Option<&Tensor>,
    transforms: Option<&Tensor>,
    skin: &Skin,
    out: &Tensor,
    bodies: i64,
    by_joint: Option<&(Tensor, Tensor)>,
) -> Params {
    let address = |tensor: Option<&Tensor>| tensor.map_or(0, |tensor| tensor.data_ptr() as u64);
    Params {
        vectors: address(vectors),
        vertices: address(vertices),
        transforms: address(transforms),
        weights: address(Some(&skin.weights)),
        joints: address(skin.joints.as_ref()),
        order: address(by_joint.map(|(order, _)| order)),
        start: address(by_joint.map(|(_, start)| start)),
        out: address(Some(out)),
        vector_step: vectors.map_or(0, step),
        vertex_step: vertices.map_or(0, step),
        transform_step: transforms.map_or(0, step),
        bodies,
        vertex_count: skin.vertex_count(),
        joint_count: skin.joint_count,
        influences: skin.influences() as i64,
    }
}
