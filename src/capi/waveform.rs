//! What happens to audio before features: its rate, the silence around it, its deviation.

use std::ffi::c_void;

use crate::audio::{Silence, normalize_waveform, resample, resampled_length, trim_silence};

use super::arguments::{check_apart, check_room, put, put_if_wanted, samples, slice_mut, with_samples};
use super::failure::{AvatorchStatus, border};

/// Samples that `n_samples` at `from` Hz become at `to` Hz.
///
/// # Safety
/// `out_length` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn avatorch_audio_resampled_length(
    n_samples: usize,
    from: u32,
    to: u32,
    out_length: *mut usize,
) -> AvatorchStatus {
    // SAFETY: the caller's promise.
    border(|| unsafe { put("out_length", out_length, resampled_length(n_samples, from, to)?) })
}

/// One clip at another rate, into exactly `length` floats, as `avatorch_audio_resampled_length` gives them. Frequencies
/// that the new rate cannot hold are removed, and the clip is not delayed. A sample that is NaN, infinite or beyond 1e30
/// is refused.
///
/// # Safety
/// `samples_` is NULL or holds `n_samples` of `format`; `values` is NULL or has room for `length` floats.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn avatorch_audio_resample(
    samples_: *const c_void,
    format: i32,
    n_samples: usize,
    from: u32,
    to: u32,
    values: *mut f32,
    length: usize,
) -> AvatorchStatus {
    border(|| {
        // SAFETY: the caller's promise.
        let samples = unsafe { samples(samples_, format, n_samples)? };
        check_room(length, resampled_length(samples.len(), from, to)?)?;
        check_apart(samples.memory(), (values, length))?;
        // SAFETY: the caller's promise.
        let values = unsafe { slice_mut("values", values, length)? };
        values.copy_from_slice(&with_samples!(samples, samples => resample(samples, from, to))?);
        Ok(())
    })
}

/// The part of a clip between its silences: samples `out_first` to `out_end`, the latter not included, both 0 where all
/// is silent. Loudness is the root mean square of `frame_length` samples, every `hop_length`; silent is more than
/// `below_db` decibels below the loudest frame, or holds a NaN.
///
/// # Safety
/// `samples_` is NULL or holds `n_samples` of `format`; each out pointer is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn avatorch_audio_trim_silence(
    samples_: *const c_void,
    format: i32,
    n_samples: usize,
    frame_length: usize,
    hop_length: usize,
    below_db: f64,
    out_first: *mut usize,
    out_end: *mut usize,
) -> AvatorchStatus {
    border(|| {
        // SAFETY: the caller's promise.
        let samples = unsafe { samples(samples_, format, n_samples)? };
        let silence = Silence { frame_length, hop_length, below_db };
        let kept = with_samples!(samples, samples => trim_silence(samples, silence))?;
        // SAFETY: the caller's promise.
        unsafe {
            put_if_wanted("out_first", out_first, kept.start)?;
            put_if_wanted("out_end", out_end, kept.end)
        }
    })
}

/// Zero mean and unit deviation, as wav2vec 2.0 and `HuBERT` take their samples, into exactly `n_samples` floats; all of
/// them NaN where any sample is not finite.
///
/// # Safety
/// `samples_` is NULL or holds `n_samples` of `format`; `values` is NULL or has room for `length` floats.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn avatorch_audio_normalize(
    samples_: *const c_void,
    format: i32,
    n_samples: usize,
    values: *mut f32,
    length: usize,
) -> AvatorchStatus {
    border(|| {
        // SAFETY: the caller's promise.
        let samples = unsafe { samples(samples_, format, n_samples)? };
        check_room(length, samples.len())?;
        check_apart(samples.memory(), (values, length))?;
        // SAFETY: the caller's promise.
        let values = unsafe { slice_mut("values", values, length)? };
        Ok(with_samples!(samples, samples => normalize_waveform(samples, values))?)
    })
}
