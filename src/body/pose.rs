//! From pose and shape coefficients to the posed skeleton of a body, and back: rotations, rest joints and chain at once.

use std::iter::once;

use num_traits::Zero;
use smallvec::SmallVec;
use tch::{Device, Tensor};

use super::kinematic_chain::{Chain, GRAIN, global_transforms, launch_shape, write_results};
use super::skinning::{body_of, step};
use super::{Real, for_real, rotation, slab};
use crate::Result;
use crate::cuda::Program;
use crate::torch::Memory::{Own, Shared};
use crate::torch::parallel::{self, elements, elements_mut, int64s};
use crate::torch::{Arguments, Sizes, empty, empty_one};

pub(super) static PROGRAM: Program =
    Program::new("body/pose.cu", &["pose<float>", "pose<double>", "pose_backward<float>", "pose_backward<double>"]);
const BACKWARD: usize = 2; // the first backward kernel in PROGRAM
/// Threads of a body at least: entries of matrices are theirs one by one, joints are fewer.
const THREADS: u32 = 128;

/// The twin of `PoseParams` in `kernels/body/pose.cu`.
#[repr(C)]
struct Params {
    pose: u64,          // [B | 1, J, 3], or [B | 1, J, 3, 3]
    shape: u64,         // [B | 1, C]
    joint_base: u64,    // [J, 3] or [B, J, 3], rest joints before the directions below
    joint_dirs: u64,    // [J, 3, C] or null
    joint_offsets: u64, // [B | 1, J, 3] or null
    transl: u64,        // [B | 1, 3] or null
    parents: u64,       // [J] int64
    rot_mats: u64,      // [B, J, 3, 3]
    joints: u64,        // [B, J, 3]
    features: u64,      // [B, J - 1, 3, 3] or null
    halves: u64,        // [B.., products, F'] halves, or null
    feature_unit: u64,  // [B], with the above
    posed: u64,         // [B, J, 3]
    transforms: u64,    // [B, J, 4, 4]
    pose_step: i64,     // elements from one body to the next; 0 where all bodies share
    shape_step: i64,
    base_step: i64,
    offset_step: i64,
    transl_step: i64,
    joint_count: i64,
    shape_count: i64, // C
    matrices: i64,    // 1 when the pose is given as matrices
    products: i64,
    padded: i64, // F'
}

/// All contiguous, on one device.
pub(super) struct Inputs<'a> {
    pub(super) bodies: i64,
    pub(super) pose: &'a Tensor,       // [B | 1, 3 J], [B | 1, J, 3] or [B | 1, J, 3, 3]
    pub(super) shape: &'a Tensor,      // [B | 1, C]
    pub(super) joint_base: &'a Tensor, // [J, 3] or [B, J, 3]
    pub(super) joint_dirs: Option<&'a Tensor>, // [J, 3, C]
    pub(super) joint_offsets: Option<&'a Tensor>, // [B | 1, J, 3]
    pub(super) transl: Option<&'a Tensor>, // [B | 1, 3]
    pub(super) parents: &'a Tensor,    // [J]
    pub(super) wants_features: bool,
    pub(super) keep: bool, // what `smplx::forward` returns of the skeleton beside the posed joints
    pub(super) halves: Option<&'a slab::Features>, // to be filled, on a GPU
}

pub(super) struct Skeleton {
    pub(super) rot_mats: Tensor,         // [B, J, 3, 3]
    pub(super) joints: Tensor,           // [B, J, 3], at rest
    pub(super) features: Option<Tensor>, // [B, 9 (J - 1)]
    pub(super) posed: Tensor,            // [B, J, 3], translation added
    pub(super) transforms: Tensor,       // [B, J, 4, 4], without translation
}

pub(super) fn forward(inputs: &Inputs<'_>, args: &Arguments) -> Result<Skeleton> {
    let (bodies, joints) = (inputs.bodies, inputs.parents.sizes()[0]);
    let (kind, kept) = (inputs.pose.kind(), if inputs.keep { Own } else { Shared });
    let matrices = inputs.pose.dim() == 4;
    let [rot_mats, rest, posed, transforms] = empty(
        inputs.pose,
        [
            (kept, &[bodies, joints, 3, 3], kind),
            (kept, &[bodies, joints, 3], kind),
            (Own, &[bodies, joints, 3], kind),
            (kept, &[bodies, joints, 4, 4], kind),
        ],
    )?;
    let features = || empty_one(inputs.pose, &[bodies, 9 * (joints - 1)], kind);
    let features = inputs.wants_features.then(features).transpose()?;
    let mut out = Skeleton { rot_mats, joints: rest, features, posed, transforms };
    match inputs.pose.device() {
        Device::Cuda(device) => for_real!(inputs.pose, T => {
            let params = Params {
                pose: inputs.pose.data_ptr() as u64,
                shape: inputs.shape.data_ptr() as u64,
                joint_base: inputs.joint_base.data_ptr() as u64,
                joint_dirs: address(inputs.joint_dirs),
                joint_offsets: address(inputs.joint_offsets),
                transl: address(inputs.transl),
                parents: inputs.parents.data_ptr() as u64,
                rot_mats: out.rot_mats.data_ptr() as u64,
                joints: out.joints.data_ptr() as u64,
                features: address(out.features.as_ref()),
                halves: address(inputs.halves.map(|features| &features.halves)),
                feature_unit: address(inputs.halves.map(|features| &features.unit)),
                posed: out.posed.data_ptr() as u64,
                transforms: out.transforms.data_ptr() as u64,
                pose_step: step(inputs.pose),
                shape_step: step(inputs.shape),
                base_step: if inputs.joint_base.dim() == 2 { 0 } else { step(inputs.joint_base) },
                offset_step: inputs.joint_offsets.map_or(0, step),
                transl_step: inputs.transl.map_or(0, step),
                joint_count: joints,
                shape_count: inputs.shape.sizes()[1],
                matrices: i64::from(matrices),
                products: inputs.halves.map_or(0, |features| features.products),
                padded: inputs.halves.map_or(0, |features| features.halves.sizes()[1] / features.products),
            };
            let (threads, shared) = launch_shape::<T>(joints);
            let threads = threads.max(THREADS);
            PROGRAM.kernel(device, T::INDEX, args.stream())?.launch_if_any(bodies as u32, threads, shared, &params, args.stream())?;
        }),
        _ => for_real!(inputs.pose, T => forward_cpu::<T>(inputs, &mut out, matrices)),
    }
    Ok(out)
}

fn forward_cpu<T: Real>(inputs: &Inputs<'_>, out: &mut Skeleton, matrices: bool) {
    let parents = int64s(inputs.parents);
    let (joints, bodies, shapes) = (parents.len(), inputs.bodies as usize, inputs.shape.sizes()[1] as usize);
    let (pose, shape, base) =
        (elements::<T>(inputs.pose), elements::<T>(inputs.shape), elements::<T>(inputs.joint_base));
    let dirs = inputs.joint_dirs.map(elements::<T>);
    let (offsets, transl) = (inputs.joint_offsets.map(elements::<T>), inputs.transl.map(elements::<T>));
    let mut none = Vec::new();
    let (features, feature_count) = match &mut out.features {
        Some(features) => (elements_mut::<T>(features), 9 * (joints - 1)),
        None => (none.as_mut_slice(), 0),
    };
    let outputs = [
        (elements_mut::<T>(&mut out.rot_mats), 9 * joints),
        (elements_mut::<T>(&mut out.joints), 3 * joints),
        (features, feature_count),
        (elements_mut::<T>(&mut out.posed), 3 * joints),
        (elements_mut::<T>(&mut out.transforms), 16 * joints),
    ];
    parallel::zip_rows(outputs, GRAIN, |body, [rot_mats, rest, features, posed, transforms]| {
        if matrices {
            rot_mats.copy_from_slice(body_of(pose, 9 * joints, bodies, body));
        } else {
            let vectors = body_of(pose, 3 * joints, bodies, body).as_chunks::<3>().0;
            for (matrix, vector) in rot_mats.as_chunks_mut::<9>().0.iter_mut().zip(vectors) {
                *matrix = rotation::rodrigues(*vector);
            }
        }
        for (i, (feature, entry)) in features.iter_mut().zip(rot_mats.iter().skip(9)).enumerate() {
            *feature = if (i % 9).is_multiple_of(4) { *entry - T::one() } else { *entry };
        }
        rest.copy_from_slice(body_of(base, 3 * joints, bodies, body));
        if let Some(dirs) = dirs.filter(|_| shapes > 0) {
            let shape = body_of(shape, shapes, bodies, body);
            for (coordinate, dirs) in rest.iter_mut().zip(dirs.chunks_exact(shapes)) {
                for (direction, coefficient) in dirs.iter().zip(shape) {
                    *coordinate += *direction * *coefficient;
                }
            }
        }
        if let Some(offsets) = offsets {
            rest.iter_mut().zip(body_of(offsets, 3 * joints, bodies, body)).for_each(|(sum, offset)| *sum += *offset);
        }
        let globals = global_transforms(rot_mats, rest, parents);
        let transl =
            transl.map_or([T::zero(); 3], |transl| std::array::from_fn(|i| body_of(transl, 3, bodies, body)[i]));
        write_results(&globals, rest, transl, posed, transforms);
    });
}

/// The twin of `PoseBackwardParams` in `kernels/body/pose.cu`.
#[repr(C)]
struct BackwardParams {
    pose: u64,            // [B | 1, J, 3], or null when matrices were given
    rot_mats: u64,        // [B, J, 3, 3]
    joints: u64,          // [B, J, 3]
    parents: u64,         // [J]
    grad_posed: u64,      // [B, J, 3] or null
    grad_transforms: u64, // [B, J, 4, 4] or null
    grad_features: u64,   // [B, J - 1, 3, 3] or null
    arrived_rot: u64,     // [B, J, 3, 3] or null
    arrived_joints: u64,  // [B, J, 3] or null
    grad_rot: u64,        // [B, J, 3, 3]
    grad_joints: u64,     // [B, J, 3]
    grad_pose: u64,       // [B, J, 3], or null when matrices were given
    shape_partial: u64,   // [B, C] or null
    joint_dirs: u64,      // [J, 3, C], with the below
    grad_shape: u64,      // [B, C] or null
    pose_step: i64,
    joint_count: i64,
    shape_count: i64, // C
}

/// Gradients that arrive at the skeleton; contiguous, each may be absent.
pub(super) struct Arriving<'a> {
    pub(super) posed: Option<&'a Tensor>,      // [B, J, 3]
    pub(super) transforms: Option<&'a Tensor>, // [B, J, 4, 4]
    pub(super) features: Option<&'a Tensor>,   // [B, 9 (J - 1)]
    pub(super) rot_mats: Option<&'a Tensor>,   // [B, J, 3, 3]
    pub(super) joints: Option<&'a Tensor>,     // [B, J, 3]
}

/// What the gradient of the shape coefficients is made of beside that of the rest joints.
pub(super) struct Shape<'a> {
    pub(super) partial: Option<&'a Tensor>, // [B, C], what comes through the vertices
    pub(super) joint_dirs: &'a Tensor,      // [J, 3, C]
}

pub(super) struct Gradients {
    pub(super) pose: Tensor,          // as it was given, for all bodies
    pub(super) joints: Tensor,        // [B, J, 3]
    pub(super) shape: Option<Tensor>, // [B, C], if it was asked for
}

pub(super) fn backward(
    arriving: &Arriving<'_>,
    shape: Option<&Shape<'_>>,
    pose: &Tensor,
    rot_mats: &Tensor,
    joints: &Tensor,
    parents: &Tensor,
    args: &Arguments,
) -> Result<Gradients> {
    let (bodies, joint_count) = (joints.sizes()[0], joints.sizes()[1]);
    let vectors = pose.dim() != 4;
    let [mut grad_rot, mut grad_joints] = empty(
        joints,
        [
            (if vectors { Shared } else { Own }, &[bodies, joint_count, 3, 3], joints.kind()),
            (Shared, &[bodies, joint_count, 3], joints.kind()),
        ],
    )?;
    let as_given: SmallVec<[i64; 4]> = once(bodies).chain(pose.sizes()[1..].iter().copied()).collect();
    let mut grad_pose = vectors.then(|| empty_one(joints, &as_given, joints.kind())).transpose()?;
    let shapes = shape.map_or(0, |shape| shape.joint_dirs.sizes()[2]);
    let mut grad_shape = shape.map(|_| empty_one(joints, &[bodies, shapes], joints.kind())).transpose()?;
    match rot_mats.device() {
        Device::Cuda(device) => for_real!(rot_mats, T => {
            let params = BackwardParams {
                pose: if vectors { pose.data_ptr() as u64 } else { 0 },
                rot_mats: rot_mats.data_ptr() as u64,
                joints: joints.data_ptr() as u64,
                parents: parents.data_ptr() as u64,
                grad_posed: address(arriving.posed),
                grad_transforms: address(arriving.transforms),
                grad_features: address(arriving.features),
                arrived_rot: address(arriving.rot_mats),
                arrived_joints: address(arriving.joints),
                grad_rot: grad_rot.data_ptr() as u64,
                grad_joints: grad_joints.data_ptr() as u64,
                grad_pose: address(grad_pose.as_ref()),
                shape_partial: address(shape.and_then(|shape| shape.partial)),
                joint_dirs: address(shape.map(|shape| shape.joint_dirs)),
                grad_shape: address(grad_shape.as_ref()),
                pose_step: step(pose),
                joint_count,
                shape_count: shapes,
            };
            let (threads, shared) = launch_shape::<T>(joint_count);
            let threads = threads.max(THREADS);
            let kernel = PROGRAM.kernel(device, BACKWARD + T::INDEX, args.stream())?;
            kernel.launch_if_any(bodies as u32, threads, shared, &params, args.stream())?;
        }),
        _ => for_real!(rot_mats, T => {
            let count = joint_count as usize;
            let (pose, rot_mats, joints, parents) = (elements::<T>(pose), elements::<T>(rot_mats), elements::<T>(joints), int64s(parents));
            let [posed, transforms, features, arrived_rot, arrived_joints] =
                [arriving.posed, arriving.transforms, arriving.features, arriving.rot_mats, arriving.joints].map(|grad| grad.map(elements::<T>));
            let (shape_count, partial) = (shapes as usize, shape.and_then(|shape| shape.partial).map(elements::<T>));
            let dirs = shape.map_or(&[][..], |shape| elements::<T>(shape.joint_dirs));
            let pose_size = if vectors { 3 * count } else { 0 };
            let (mut no_pose, mut no_shape) = (Vec::new(), Vec::new());
            let outputs = [
                (elements_mut::<T>(&mut grad_rot), 9 * count),
                (elements_mut::<T>(&mut grad_joints), 3 * count),
                (grad_pose.as_mut().map_or(no_pose.as_mut_slice(), elements_mut::<T>), pose_size),
                (grad_shape.as_mut().map_or(no_shape.as_mut_slice(), elements_mut::<T>), shape_count),
            ];
            parallel::zip_rows(outputs, GRAIN, |body, [grad_rot, grad_joints, grad_pose, grad_shape]| {
                let chain = Chain { rotations: &rot_mats[9 * count * body..][..9 * count], positions: &joints[3 * count * body..][..3 * count], parents };
                chain.backward(row(posed, 3 * count, body), row(transforms, 16 * count, body), grad_rot, grad_joints);
                let add = |to: &mut [T], from: Option<&[T]>| {
                    to.iter_mut().zip(from.into_iter().flatten()).for_each(|(sum, term)| *sum += *term);
                };
                add(grad_rot.get_mut(9..).unwrap_or_default(), row(features, 9 * count.saturating_sub(1), body));
                add(grad_rot, row(arrived_rot, 9 * count, body));
                add(grad_joints, row(arrived_joints, 3 * count, body));
                if pose_size > 0 {
                    let vectors = body_of(pose, 3 * count, bodies as usize, body).as_chunks::<3>().0;
                    let both = grad_rot.as_chunks::<9>().0.iter().zip(vectors);
                    for (grad, (g, vector)) in grad_pose.as_chunks_mut::<3>().0.iter_mut().zip(both) {
                        *grad = rotation::rodrigues_backward(*g, *vector);
                    }
                }
                grad_shape.fill(T::zero());
                if shape_count > 0 {
                    for (dirs, g) in dirs.chunks_exact(shape_count).zip(grad_joints.iter()) {
                        grad_shape.iter_mut().zip(dirs).for_each(|(sum, direction)| *sum += *direction * *g);
                    }
                }
                add(grad_shape, row(partial, shape_count, body));
            });
        }),
    }
    Ok(Gradients { pose: grad_pose.unwrap_or(grad_rot), joints: grad_joints, shape: grad_shape })
}

fn row<T>(of_all: Option<&[T]>, size: usize, body: usize) -> Option<&[T]> {
    of_all.map(|all| &all[size * body..][..size])
}

fn address(tensor: Option<&Tensor>) -> u64 {
    tensor.map_or(0, |tensor| tensor.data_ptr() as u64)
}
