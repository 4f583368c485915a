//! Local rotations and rest joints to posed joints and skinning transforms, along the tree of joints.

use num_traits::Zero;
use smallvec::smallvec;
use tch::{Device, Tensor};

use super::{Real, for_real};
use crate::Result;
use crate::cuda::Program;
use crate::torch::parallel::{self, elements, elements_mut, int64s};
use crate::torch::{Argument, Arguments, Outputs, Sizes, entry};

pub(super) static PROGRAM: Program = Program::new(
    "body/kinematic_chain.cu",
    &[
        "kinematic_chain<float>",
        "kinematic_chain<double>",
        "kinematic_chain_backward<float>",
        "kinematic_chain_backward<double>",
    ],
);
const BACKWARD: usize = 2; // the first backward kernel in PROGRAM

/// Bodies worth a thread of their own on the CPU.
pub(super) const GRAIN: usize = 16;

/// The twin of `ChainParams` in `kernels/body/kinematic_chain.cu`.
#[repr(C)]
struct Params {
    rotations: u64,       // [B, J, 3, 3]
    positions: u64,       // [B, J, 3]
    parents: u64,         // [J] int64
    grad_posed: u64,      // [B, J, 3], backward only, or null
    grad_transforms: u64, // [B, J, 4, 4], backward only, or null
    first: u64,           // posed [B, J, 3]; backward: grad_rotations [B, J, 3, 3]
    second: u64,          // transforms [B, J, 4, 4]; backward: grad_positions [B, J, 3]
    joints: i64,
}

/// Threads and bytes of shared memory for one body: `ChainMemory` of `kernels/common/chain.cuh`.
pub(super) fn launch_shape<T: Real>(joints: i64) -> (u32, u32) {
    let threads = (joints as u32).next_multiple_of(32).clamp(32, 256);
    let joint = 3 * 13 * size_of::<T>() + 6 * size_of::<i32>();
    (threads, u32::try_from(joints as usize * joint).unwrap_or(u32::MAX))
}

/// `parents [J]` of a rig of `joints` joints. On the CPU every parent must be an earlier joint, or -1; on a GPU that is
/// not read here, since it would wait: the kernels take any other value for a root.
pub(super) fn parents_of(parents: Argument<'_>, joints: i64) -> Result<Tensor> {
    let dense = parents.int64()?.shape(&[joints])?.contiguous()?;
    if dense.device() == Device::Cpu {
        for (joint, &parent) in int64s(&dense).iter().enumerate() {
            if parent < -1 || parent >= joint as i64 {
                let expected = format!("-1 for a root or an earlier joint, 0 to {}", joint as i64 - 1);
                return Err(parents.wrong_index(&[joint], parent, &expected));
            }
        }
    }
    Ok(dense)
}

entry!(avatorch_kinematic_chain, "smplx::kinematic_chain", forward);
fn forward(args: &Arguments) -> Result<Outputs> {
    let rotations = args.tensor(0, "rot_mats")?.real()?.shape(&[-1, -1, 3, 3])?;
    let (bodies, joints) = (rotations.tensor.sizes()[0], rotations.tensor.sizes()[1]);
    let positions = args.tensor(1, "joints")?.like(rotations)?.shape(&[bodies, joints, 3])?.contiguous()?;
    let parents = parents_of(args.tensor(2, "parents")?.same_device(rotations)?, joints)?;
    let rotations = rotations.contiguous()?;
    let options = (rotations.kind(), rotations.device());
    let mut posed = Tensor::f_empty([bodies, joints, 3], options)?;
    let mut transforms = Tensor::f_empty([bodies, joints, 4, 4], options)?;
    match rotations.device() {
        Device::Cuda(device) => for_real!(rotations, T => {
            let params = Params {
                rotations: rotations.data_ptr() as u64,
                positions: positions.data_ptr() as u64,
                parents: parents.data_ptr() as u64,
                grad_posed: 0,
                grad_transforms: 0,
                first: posed.data_ptr() as u64,
                second: transforms.data_ptr() as u64,
                joints,
            };
            let (threads, shared) = launch_shape::<T>(joints);
            PROGRAM.kernel(device, T::INDEX, args.stream())?.launch_if_any(bodies as u32, threads, shared, &params, args.stream())?;
        }),
        _ => for_real!(rotations, T => {
            let (rotations, positions) = (elements::<T>(&rotations), elements::<T>(&positions));
            let (parents, joints) = (int64s(&parents), joints as usize);
            if joints > 0 {
                let outputs = [(elements_mut::<T>(&mut posed), 3 * joints), (elements_mut::<T>(&mut transforms), 16 * joints)];
                parallel::zip_rows(outputs, GRAIN, |body, [posed, transforms]| {
                    let positions = &positions[3 * joints * body..][..3 * joints];
                    let globals = global_transforms(&rotations[9 * joints * body..][..9 * joints], positions, parents);
                    write_results(&globals, positions, [T::zero(); 3], posed, transforms);
                });
            }
        }),
    }
    Ok(smallvec![Some(posed), Some(transforms)])
}

/// A rotation, row-major, and a translation.
#[derive(Clone, Copy)]
pub(super) struct Rigid<T> {
    pub(super) r: [T; 9],
    pub(super) t: [T; 3],
}

/// The transform of every joint: a parent's times its own, root to leaves.
pub(super) fn global_transforms<T: Real>(rotations: &[T], positions: &[T], parents: &[i64]) -> Vec<Rigid<T>> {
    let (rotations, positions) = (rotations.as_chunks::<9>().0, positions.as_chunks::<3>().0);
    let mut globals: Vec<Rigid<T>> = Vec::with_capacity(parents.len());
    for (joint, &parent) in parents.iter().enumerate() {
        let (r, x) = (rotations[joint], positions[joint]);
        globals.push(match usize::try_from(parent) {
            Err(_) => Rigid { r, t: x },
            Ok(parent) => {
                let (up, from) = (globals[parent], positions[parent]);
                let offset = [x[0] - from[0], x[1] - from[1], x[2] - from[2]];
                let turned = times(&up.r, offset);
                Rigid { r: product(&up.r, &r), t: std::array::from_fn(|i| up.t[i] + turned[i]) }
            }
        });
    }
    globals
}

/// Posed joints with the translation added, and `[G | t - G x; 0 0 0 1]`.
pub(super) fn write_results<T: Real>(
    globals: &[Rigid<T>],
    positions: &[T],
    transl: [T; 3],
    posed: &mut [T],
    transforms: &mut [T],
) {
    let joints = globals.iter().zip(positions.as_chunks::<3>().0);
    let outputs = posed.as_chunks_mut::<3>().0.iter_mut().zip(transforms.as_chunks_mut::<16>().0);
    for ((global, x), (posed, a)) in joints.zip(outputs) {
        let turned = times(&global.r, *x);
        for row in 0..3 {
            posed[row] = global.t[row] + transl[row];
            a[4 * row..4 * row + 3].copy_from_slice(&global.r[3 * row..3 * row + 3]);
            a[4 * row + 3] = global.t[row] - turned[row];
        }
        a[12..].copy_from_slice(&[T::zero(), T::zero(), T::zero(), T::one()]);
    }
}

entry!(avatorch_kinematic_chain_backward, "smplx::kinematic_chain_backward", backward);
fn backward(args: &Arguments) -> Result<Outputs> {
    let rotations = args.tensor(2, "rot_mats")?.real()?.shape(&[-1, -1, 3, 3])?;
    let (bodies, joints) = (rotations.tensor.sizes()[0], rotations.tensor.sizes()[1]);
    let positions = args.tensor(3, "joints")?.like(rotations)?.shape(&[bodies, joints, 3])?.contiguous()?;
    let parents = parents_of(args.tensor(4, "parents")?.same_device(rotations)?, joints)?;
    let grad = |position, name, shape: &[i64]| match args.optional(position, name) {
        Some(grad) => grad.like(rotations)?.shape(shape)?.contiguous().map(Some),
        None => Ok(None),
    };
    let grad_posed = grad(0, "grad_posed_joints", &[bodies, joints, 3])?;
    let grad_transforms = grad(1, "grad_transforms", &[bodies, joints, 4, 4])?;
    let rotations = rotations.contiguous()?;
    let (mut grad_rotations, mut grad_positions) = (rotations.f_empty_like()?, positions.f_empty_like()?);
    match rotations.device() {
        Device::Cuda(device) => for_real!(rotations, T => {
            let address = |tensor: &Option<Tensor>| tensor.as_ref().map_or(0, |tensor| tensor.data_ptr() as u64);
            let params = Params {
                rotations: rotations.data_ptr() as u64,
                positions: positions.data_ptr() as u64,
                parents: parents.data_ptr() as u64,
                grad_posed: address(&grad_posed),
                grad_transforms: address(&grad_transforms),
                first: grad_rotations.data_ptr() as u64,
                second: grad_positions.data_ptr() as u64,
                joints,
            };
            let (threads, shared) = launch_shape::<T>(joints);
            let kernel = PROGRAM.kernel(device, BACKWARD + T::INDEX, args.stream())?;
            kernel.launch_if_any(bodies as u32, threads, shared, &params, args.stream())?;
        }),
        _ => for_real!(rotations, T => {
            let (rotations, positions) = (elements::<T>(&rotations), elements::<T>(&positions));
            let (grad_posed, grad_transforms) = (grad_posed.as_ref().map(elements::<T>), grad_transforms.as_ref().map(elements::<T>));
            let (parents, joints) = (int64s(&parents), joints as usize);
            if joints > 0 {
                let outputs = [(elements_mut::<T>(&mut grad_rotations), 9 * joints), (elements_mut::<T>(&mut grad_positions), 3 * joints)];
                parallel::zip_rows(outputs, GRAIN, |body, [grad_rotations, grad_positions]| {
                    let chain = Chain {
                        rotations: &rotations[9 * joints * body..][..9 * joints],
                        positions: &positions[3 * joints * body..][..3 * joints],
                        parents,
                    };
                    let grad_posed = grad_posed.map(|grad| &grad[3 * joints * body..][..3 * joints]);
                    let grad_transforms = grad_transforms.map(|grad| &grad[16 * joints * body..][..16 * joints]);
                    chain.backward(grad_posed, grad_transforms, grad_rotations, grad_positions);
                });
            }
        }),
    }
    Ok(smallvec![Some(grad_rotations), Some(grad_positions)])
}

/// The chain of one body.
pub(super) struct Chain<'a, T> {
    pub(super) rotations: &'a [T], // [J, 3, 3]
    pub(super) positions: &'a [T], // [J, 3]
    pub(super) parents: &'a [i64],
}

impl<T: Real> Chain<'_, T> {
    /// With `G, t` the global transforms and `a = t - G x`: leaves to root, see `docs/gradients.md`, `kinematic_chain`.
    pub(super) fn backward(
        &self,
        grad_posed: Option<&[T]>,      // [J, 3]
        grad_transforms: Option<&[T]>, // [J, 4, 4]
        grad_rotations: &mut [T],      // [J, 3, 3]
        grad_positions: &mut [T],      // [J, 3]
    ) {
        let (rotations, positions) = (self.rotations.as_chunks::<9>().0, self.positions.as_chunks::<3>().0);
        let globals = global_transforms(self.rotations, self.positions, self.parents);
        let (grad_rotations, grad_positions) =
            (grad_rotations.as_chunks_mut::<9>().0, grad_positions.as_chunks_mut::<3>().0);
        let mut grads = vec![Rigid { r: [T::zero(); 9], t: [T::zero(); 3] }; globals.len()];
        grad_positions.fill([T::zero(); 3]);
        for (joint, grad) in grads.iter_mut().enumerate() {
            if let Some(a) = grad_transforms.map(|grad| &grad[16 * joint..16 * joint + 12]) {
                grad.t = [a[3], a[7], a[11]];
                let outer = |i: usize| grad.t[i / 3] * positions[joint][i % 3];
                grad.r = std::array::from_fn(|i| a[4 * (i / 3) + i % 3] - outer(i));
                let back = transposed_times(&globals[joint].r, grad.t);
                grad_positions[joint] = back.map(|component| -component);
            }
            if let Some(posed) = grad_posed {
                (0..3).for_each(|i| grad.t[i] += posed[3 * joint + i]);
            }
        }
        for joint in (0..globals.len()).rev() {
            let Rigid { r, t } = grads[joint];
            let Ok(parent) = usize::try_from(self.parents[joint]) else {
                grad_rotations[joint] = r;
                (0..3).for_each(|i| grad_positions[joint][i] += t[i]);
                continue;
            };
            let up = globals[parent].r;
            grad_rotations[joint] = transposed_product(&up, &r);
            let step = transposed_times(&up, t);
            let local = &rotations[joint];
            for i in 0..3 {
                grad_positions[joint][i] += step[i];
                grad_positions[parent][i] -= step[i];
                grads[parent].t[i] += t[i];
            }
            for i in 0..9 {
                let (row, column) = (3 * (i / 3), 3 * (i % 3));
                let turned = r[row] * local[column] + r[row + 1] * local[column + 1] + r[row + 2] * local[column + 2];
                let offset = positions[joint][i % 3] - positions[parent][i % 3];
                grads[parent].r[i] += turned + t[i / 3] * offset;
            }
        }
    }
}

fn times<T: Real>(m: &[T; 9], v: [T; 3]) -> [T; 3] {
    [0, 3, 6].map(|row| m[row] * v[0] + m[row + 1] * v[1] + m[row + 2] * v[2])
}

fn transposed_times<T: Real>(m: &[T; 9], v: [T; 3]) -> [T; 3] {
    [0, 1, 2].map(|column| m[column] * v[0] + m[column + 3] * v[1] + m[column + 6] * v[2])
}

fn product<T: Real>(a: &[T; 9], b: &[T; 9]) -> [T; 9] {
    std::array::from_fn(|i| {
        let (row, column) = (3 * (i / 3), i % 3);
        a[row] * b[column] + a[row + 1] * b[column + 3] + a[row + 2] * b[column + 6]
    })
}

/// `a^T b`.
fn transposed_product<T: Real>(a: &[T; 9], b: &[T; 9]) -> [T; 9] {
    std::array::from_fn(|i| {
        let (row, column) = (i / 3, i % 3);
        a[row] * b[column] + a[row + 3] * b[column + 3] + a[row + 6] * b[column + 6]
    })
}
