//! Axis-angle vectors to rotation matrices.

use smallvec::smallvec;
use tch::{Device, Tensor};

use super::{Real, for_real, rotation};
use crate::Result;
use crate::cuda::{Program, launch_1d};
use crate::torch::parallel::{elements, elements_mut, rows};
use crate::torch::{Arguments, Outputs, entry};

pub(super) static PROGRAM: Program = Program::new(
    "body/rodrigues.cu",
    &["rodrigues<float>", "rodrigues<double>", "rodrigues_backward<float>", "rodrigues_backward<double>"],
);
const BACKWARD: usize = 2; // the first backward kernel in PROGRAM

const THREADS: u32 = 256;
/// Rotations worth a thread of their own on the CPU.
const GRAIN: usize = 2048;

/// The twin of `RodriguesParams` in `kernels/body/rodrigues.cu`.
#[repr(C)]
struct Params {
    grad: u64,   // [count, 3, 3], backward only
    rotvec: u64, // [count, 3]
    out: u64,    // [count, 3, 3] forward, [count, 3] backward
    count: i64,
}

entry!(avatorch_rodrigues, "smplx::rodrigues", forward);
fn forward(args: &Arguments) -> Result<Outputs> {
    let rotvec = args.tensor(0, "rotvec")?.real()?.ends_with(&[3])?.contiguous()?;
    let mut size = rotvec.size();
    size.push(3);
    let mut rotation = Tensor::f_empty(&size, (rotvec.kind(), rotvec.device()))?;
    match rotvec.device() {
        Device::Cuda(device) => {
            let count = rotvec.numel() as i64 / 3;
            let params = Params { grad: 0, rotvec: rotvec.data_ptr() as u64, out: rotation.data_ptr() as u64, count };
            let kernel = PROGRAM.kernel(device, for_real!(rotvec, T => T::INDEX), args.stream())?;
            launch_1d(kernel, count, THREADS, &params, args.stream())?;
        }
        _ => for_real!(rotvec, T => forward_cpu::<T>(elements(&rotvec), elements_mut(&mut rotation))),
    }
    Ok(smallvec![Some(rotation)])
}

fn forward_cpu<T: Real>(rotvec: &[T], rotation: &mut [T]) {
    let (rotvec, _) = rotvec.as_chunks::<3>();
    rows(rotation, 9, GRAIN, |first, part| {
        for (matrix, r) in part.as_chunks_mut::<9>().0.iter_mut().zip(&rotvec[first..]) {
            *matrix = rotation::rodrigues(*r);
        }
    });
}

entry!(avatorch_rodrigues_backward, "smplx::rodrigues_backward", backward);
fn backward(args: &Arguments) -> Result<Outputs> {
    let rotvec = args.tensor(1, "rotvec")?.real()?.ends_with(&[3])?;
    let mut size = rotvec.tensor.size();
    size.push(3);
    let grad = args.tensor(0, "grad")?.like(rotvec)?.shape(&size)?.contiguous()?;
    let rotvec = rotvec.contiguous()?;
    let mut grad_rotvec = rotvec.f_empty_like()?;
    match rotvec.device() {
        Device::Cuda(device) => {
            let count = rotvec.numel() as i64 / 3;
            let params = Params {
                grad: grad.data_ptr() as u64,
                rotvec: rotvec.data_ptr() as u64,
                out: grad_rotvec.data_ptr() as u64,
                count,
            };
            let kernel = PROGRAM.kernel(device, BACKWARD + for_real!(rotvec, T => T::INDEX), args.stream())?;
            launch_1d(kernel, count, THREADS, &params, args.stream())?;
        }
        _ => for_real!(rotvec, T => {
            backward_cpu::<T>(elements(&grad), elements(&rotvec), elements_mut(&mut grad_rotvec));
        }),
    }
    Ok(smallvec![Some(grad_rotvec)])
}

fn backward_cpu<T: Real>(grad: &[T], rotvec: &[T], grad_rotvec: &mut [T]) {
    let (grad, rotvec) = (grad.as_chunks::<9>().0, rotvec.as_chunks::<3>().0);
    rows(grad_rotvec, 3, GRAIN, |first, part| {
        for (i, out) in part.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            *out = rotation::rodrigues_backward(grad[first + i], rotvec[first + i]);
        }
    });
}
