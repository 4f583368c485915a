//! The Stumpff functions, elementwise: the coefficients from which derivatives of rotations of any order are made.

use smallvec::smallvec;
use tch::Device;

use super::{Real, for_real, rotation::stumpff_series};
use crate::cuda::{Program, launch_1d};
use crate::torch::parallel::{elements, elements_mut, rows};
use crate::torch::{Arguments, Outputs, entry};
use crate::{Error, Result};

pub(super) static PROGRAM: Program = Program::new("body/stumpff.cu", &["stumpff<float>", "stumpff<double>"]);

const THREADS: u32 = 256;
/// Values worth a thread of their own on the CPU.
const GRAIN: usize = 2048;

/// The twin of `StumpffParams` in `kernels/body/stumpff.cu`.
#[repr(C)]
struct Params {
    x: u64,   // [count]
    out: u64, // [count]
    count: i64,
    order: i64,
}

entry!(avatorch_stumpff, "smplx::stumpff", forward);
fn forward(args: &Arguments) -> Result<Outputs> {
    let x = args.tensor(0, "x")?.real()?.contiguous()?;
    let order = args.number(0);
    if !(0..=64).contains(&order) {
        return Err(Error::Value(format!("smplx::stumpff: order is {order}, expected 0 to 64")));
    }
    let mut value = x.f_empty_like()?;
    match x.device() {
        Device::Cuda(device) => {
            let count = x.numel() as i64;
            let params = Params { x: x.data_ptr() as u64, out: value.data_ptr() as u64, count, order };
            let kernel = PROGRAM.kernel(device, for_real!(x, T => T::INDEX), args.stream())?;
            launch_1d(kernel, count, THREADS, &params, args.stream())?;
        }
        _ => for_real!(x, T => {
            let x: &[T] = elements(&x);
            rows(elements_mut(&mut value), 1, GRAIN, |first, part| {
                for (out, x) in part.iter_mut().zip(&x[first..]) {
                    *out = stumpff(*x, order as usize);
                }
            });
        }),
    }
    Ok(smallvec![Some(value)])
}

/// Terms of the series; enough below `recurrence_from`.
const TERMS: usize = 20;

/// Above this the recurrence `c_k = (1/(k-2)! - c_{k-2}) / x` loses little; below, the series converges quickly.
fn recurrence_from(order: usize) -> f64 {
    if order < 2 { 1.0 } else { ((order * order) as f64).max(10.0) }
}

fn stumpff<T: Real>(x: T, order: usize) -> T {
    if x < T::of(recurrence_from(order)) {
        return stumpff_series(x, order, TERMS);
    }
    let angle = x.sqrt();
    let mut value = if order.is_multiple_of(2) { angle.cos() } else { angle.sin() / angle };
    let mut factorial = 1.0;
    for k in (order % 2 + 2..=order).step_by(2) {
        value = (T::of(1.0 / factorial) - value) / x;
        factorial *= (k * (k - 1)) as f64;
    }
    value
}
