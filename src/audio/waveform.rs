//! Steps on the waveform itself: unit deviation for wav2vec 2.0 and `HuBERT`, and the silence around speech.

use std::ops::Range;

use crate::{Error, Result};

use super::float::Float;
use super::samples::Sample;

/// Added to the variance before its root.
const VARIANCE_GUARD: f64 = 1e-7;

/// Zero mean and unit deviation, as wav2vec 2.0, `HuBERT` and `WavLM` take their samples: `(x - mean) / sqrt(variance + 1e-7)`.
pub fn normalize_waveform<S: Sample, F: Float>(samples: &[S], values: &mut [F]) -> Result<()> {
    if samples.len() != values.len() {
        let (found, expected) = (values.len(), samples.len());
        return Err(Error::Value(format!("the output has room for {found} values, expected {expected}")));
    }
    let n = samples.len().max(1) as f64;
    let mean = samples.iter().map(|x| x.to_f64()).sum::<f64>() / n;
    let variance = samples.iter().map(|x| (x.to_f64() - mean).powi(2)).sum::<f64>() / n;
    let deviation = (variance + VARIANCE_GUARD).sqrt();
    for (value, sample) in values.iter_mut().zip(samples) {
        *value = F::rounded((sample.to_f64() - mean) / deviation);
    }
    Ok(())
}

/// What counts as silence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Silence {
    /// Loudness is the root mean square over this many samples ...
    pub frame_length: usize,
    /// ... taken every so many.
    pub hop_length: usize,
    /// Frames more than this far below the loudest one are silent.
    pub below_db: f64,
}

impl Default for Silence {
    /// 25 ms every 10 ms at 16 kHz, 60 dB.
    fn default() -> Self {
        Self { frame_length: 400, hop_length: 160, below_db: 60.0 }
    }
}

/// Hops to a frame: every sample is read this often.
const MOST_OVERLAP: usize = 64;

/// The samples from the first frame that is not silent to the end of the last; empty where all are.
pub fn trim_silence<S: Sample>(samples: &[S], silence: Silence) -> Result<Range<usize>> {
    let Silence { frame_length, hop_length, below_db } = silence;
    if frame_length == 0
        || hop_length == 0
        || frame_length / hop_length > MOST_OVERLAP
        || !(0.0..=1e3).contains(&below_db)
    {
        return Err(Error::Value(format!(
            "frame_length is {frame_length}, hop_length is {hop_length} and below_db is {below_db}, expected positive \
             lengths, at most {MOST_OVERLAP} hops to a frame, and 0 to 1000 decibels"
        )));
    }
    let energy = |start: usize| {
        let frame = &samples[start..samples.len().min(start + frame_length)];
        frame.iter().map(|x| x.to_f64().powi(2)).sum::<f64>() / frame.len() as f64
    };
    let starts = || (0..samples.len()).step_by(hop_length);
    let loudest = starts().map(energy).fold(0.0, f64::max);
    let floor = loudest * 10.0_f64.powf(-below_db / 10.0);
    let is_loud = |&start: &usize| loudest > 0.0 && energy(start) >= floor;
    let Some(first) = starts().find(is_loud) else { return Ok(0..0) };
    let last = starts().rfind(is_loud).unwrap_or(first);
    Ok(first..samples.len().min(last + frame_length))
}
