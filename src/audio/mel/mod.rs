//! The operators of `torch.ops.mel`: tensors in, a plan's numbers out. Clips are spread over torch's threads, each clip
//! on one.

mod call;
mod convention;
mod cuda;
mod prepared;

use std::sync::{Mutex, PoisonError};

use smallvec::smallvec;
use tch::{Device, Tensor};

use crate::body::for_real;
#[cfg(feature = "python")]
use crate::cuda::Program;
use crate::torch::parallel::{elements, elements_mut, rows, zip_rows};
use crate::torch::{Arguments, Outputs, entry};
use crate::{Error, Result};

use super::filter_bank::filter_bank;
use super::gradient::Back;
use super::plan::louder;
use super::window::window;
use call::{Call, Clips, named};
use prepared::Scalar;

/// Every CUDA program of this part, for compilation ahead of use.
#[cfg(feature = "python")]
pub(crate) static PROGRAMS: &[&Program] = &[&cuda::FORWARD, &cuda::BACKWARD];

entry!(avatorch_mel_tables, "mel::tables", tables);
/// A convention's window [win_length], filters [n_mels, n_fft / 2 + 1], and bands [n_mels, 2]: the bins, first and end,
/// that each filter touches.
fn tables(args: &Arguments) -> Result<Outputs> {
    let options = convention::convention(args.text())?;
    let n_bins = options.n_fft / 2 + 1;
    let mut dense = vec![0.0; options.n_mels * n_bins];
    let mut bands = Vec::new();
    for (row, filter) in dense.chunks_exact_mut(n_bins).zip(filter_bank(&options)) {
        let end = filter.first + filter.weights.len();
        row[filter.first..end].copy_from_slice(&filter.weights);
        bands.extend([filter.first as i64, end as i64]);
    }
    let shape = [options.n_mels as i64, n_bins as i64];
    Ok(smallvec![
        Some(Tensor::f_from_slice(&window(&options))?),
        Some(Tensor::f_from_slice(&dense)?.f_reshape(shape)?),
        Some(Tensor::f_from_slice(&bands)?.f_reshape([shape[0], 2])?),
    ])
}

entry!(avatorch_log_mel, "mel::log_mel", forward);
fn forward(args: &Arguments) -> Result<Outputs> {
    let call = Call::new(args, 0)?;
    let options = (call.waveform.kind(), call.waveform.device());
    let values = if let Device::Cuda(device) = call.waveform.device() {
        let values = Tensor::f_empty(&call.shape, options)?;
        if values.numel() > 0 {
            cuda::forward(&call, &values, device, args.stream())?;
        }
        values
    } else {
        let mut values = Tensor::f_zeros(&call.shape, options)?;
        if values.numel() > 0 {
            for_real!(call.waveform, T => forward_cpu::<T>(&call, elements_mut(&mut values)))?;
        }
        values
    };
    Ok(smallvec![Some(values)])
}

fn forward_cpu<T: Scalar>(call: &Call, values: &mut [T]) -> Result<()> {
    let (prepared, clips) = (call.prepared()?, &call.clips);
    let plan = T::plan(&prepared)?;
    let samples: &[T] = elements(&call.waveform);
    let failure = Failure::default();
    // Each clip's loudest value, for a batch that has one in common.
    let mut loudest = vec![T::ZERO; clips.count];
    zip_rows([(&mut *values, clips.row()), (&mut loudest, 1)], 1, |clip, [values, loudest]| {
        in_its_own_room(clips, clip, values, |values| {
            failure.catch(|| {
                loudest[0] = plan.raw(clips.samples(samples, clip), values, &mut plan.workspace())?;
                if !plan.finish.spans_the_batch() {
                    plan.complete(loudest[0], values);
                }
                Ok(())
            });
        });
    });
    if plan.finish.spans_the_batch() {
        let counted = (0..clips.count).filter(|&clip| clips.frames_of(clip) > 0);
        let whole = counted.fold(T::rounded(f64::NEG_INFINITY), |whole, clip| louder(whole, loudest[clip]));
        zip_rows([(&mut *values, clips.row()), (&mut loudest, 1)], 1, |clip, [values, loudest]| {
            in_its_own_room(clips, clip, values, |values| {
                if loudest[0].widened().is_nan() {
                    values.fill(T::NAN);
                }
                plan.complete(whole, values);
            });
        });
    }
    failure.outcome()
}

/// Runs `work` on a clip's own frames, in memory without gaps; a clip without frames is left alone.
fn in_its_own_room<T: Scalar>(clips: &Clips, clip: usize, values: &mut [T], work: impl FnOnce(&mut [T])) {
    let n_frames = clips.frames_of(clip);
    if n_frames == clips.n_frames {
        work(values);
    } else if n_frames > 0 {
        let mut own = clips.gathered(values, n_frames);
        work(&mut own);
        clips.scatter(&own, values, n_frames);
    }
}

entry!(avatorch_log_mel_backward, "mel::log_mel_backward", backward);
fn backward(args: &Arguments) -> Result<Outputs> {
    let call = Call::new(args, 1)?;
    let grad = args.tensor(0, "grad")?.like(args.tensor(1, "waveform")?)?.shape(&call.shape)?.contiguous()?;
    let mut grad_waveform = call.waveform.f_zeros_like()?;
    if grad.numel() > 0 && grad_waveform.numel() > 0 {
        match call.waveform.device() {
            Device::Cuda(device) => cuda::backward(&call, &grad, &grad_waveform, device, args.stream())?,
            _ => for_real!(call.waveform, T => {
                backward_cpu::<T>(&call, elements(&grad), elements_mut(&mut grad_waveform))
            })?,
        }
    }
    Ok(smallvec![Some(grad_waveform)])
}

fn backward_cpu<T: Scalar>(call: &Call, grad: &[T], grad_waveform: &mut [T]) -> Result<()> {
    let (prepared, clips) = (call.prepared()?, &call.clips);
    let adjoint = T::adjoint(&prepared)?;
    let samples: &[T] = elements(&call.waveform);
    let failure = Failure::default();
    let back = |clip: usize| {
        let own = clips.gathered(&grad[clip * clips.row()..][..clips.row()], clips.frames_of(clip));
        adjoint.clip(clips.samples(samples, clip), own, &mut adjoint.workspace())
    };
    let finish = |back: &Back<'_, T>, to: &mut [T]| adjoint.through_frames(back, &mut to[..back.samples.len()]);
    if adjoint.spans_the_batch() {
        let mut all = (0..clips.count)
            .map(|clip| if clips.frames_of(clip) > 0 { back(clip) } else { Ok(Back::default()) })
            .collect::<Result<Vec<_>>>()
            .map_err(named)?;
        adjoint.through_range(&mut all);
        rows(grad_waveform, clips.length, 1, |first, part| {
            for (back, to) in all[first..].iter().zip(part.chunks_exact_mut(clips.length)) {
                failure.catch(|| if back.logs.is_empty() { Ok(()) } else { finish(back, to) });
            }
        });
    } else {
        rows(grad_waveform, clips.length, 1, |first, part| {
            for (clip, to) in (first..).zip(part.chunks_exact_mut(clips.length)) {
                failure.catch(|| {
                    if clips.frames_of(clip) > 0 {
                        let mut own = back(clip)?;
                        adjoint.through_range(std::slice::from_mut(&mut own));
                        finish(&own, to)?;
                    }
                    Ok(())
                });
            }
        });
    }
    failure.outcome()
}

/// A failure on any thread.
#[derive(Default)]
struct Failure(Mutex<Option<Error>>);

impl Failure {
    fn catch(&self, work: impl FnOnce() -> Result<()>) {
        if let Err(error) = work() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(named(error));
        }
    }

    fn outcome(self) -> Result<()> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}
