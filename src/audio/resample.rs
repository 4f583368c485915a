//! Audio of any rate at the rate that a convention wants.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler, WindowFunction};

use crate::{Error, Result};

use super::samples::Sample;

/// Points of the filter at the lower of both rates: its stop band begins at that rate's half, and its pass band reaches
/// to 97 % of it.
const FILTER_POINTS: usize = 1024;
const LEAST_RATE: u32 = 1_000;
const MOST_RATE: u32 = 768_000;

/// Samples that `n_samples` at `from` Hz become at `to` Hz.
pub fn resampled_length(n_samples: usize, from: u32, to: u32) -> Result<usize> {
    check_rate("from", from)?;
    check_rate("to", to)?;
    let length = (n_samples as u128 * u128::from(to)).div_ceil(u128::from(from));
    usize::try_from(length)
        .ok()
        .filter(|&length| length <= isize::MAX as usize / 8)
        .ok_or_else(|| Error::Value(format!("{n_samples} samples at {to} Hz are more than memory can hold")))
}

/// One clip at another rate. Frequencies that the new rate cannot hold are removed, and the clip is not delayed. A sample
/// that is NaN, infinite or beyond 1e30 is refused: it would reach every other.
pub fn resample<S: Sample>(samples: &[S], from: u32, to: u32) -> Result<Vec<f32>> {
    let length = resampled_length(samples.len(), from, to)?;
    check_loudness(samples)?;
    let input: Vec<f32> = samples.iter().map(|sample| sample.to_f64() as f32).collect();
    if from == to || input.is_empty() {
        return Ok(input);
    }
    let (from, to) = (from as usize, to as usize);
    // The smallest chunks that both rates divide; an even number of them, so that the filter's middle falls on a sample.
    let (least, points) = (from / common_divisor(from, to), (FILTER_POINTS * from).div_ceil(to).max(FILTER_POINTS));
    let chunk = least * points.div_ceil(least).next_multiple_of(2);
    let mut resampler = Fft::<f32>::new_custom(from, to, chunk, 1, 1, WindowFunction::BlackmanHarris2, FixedSync::Both)
        .map_err(runtime)?;
    let clip = InterleavedSlice::new(&input, 1, input.len()).map_err(runtime)?;
    let mut output = resampler.process_all(&clip, input.len(), None).map_err(runtime)?.take_data();
    output.resize(length, 0.0);
    Ok(output)
}

/// Beyond it, and with what is not finite, the resampler's transforms overflow.
const LOUDEST: f64 = 1e30_f32 as f64;

fn check_loudness<S: Sample>(samples: &[S]) -> Result<()> {
    let is_fit = |sample: &S| sample.to_f64().abs() <= LOUDEST;
    let Some(at) = samples.iter().position(|sample| !is_fit(sample)) else { return Ok(()) };
    let sample = samples[at].to_f64();
    Err(Error::Value(format!("sample {at} is {sample:e}, expected a number of at most 1e30")))
}

fn common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

fn check_rate(name: &str, rate: u32) -> Result<()> {
    if (LEAST_RATE..=MOST_RATE).contains(&rate) {
        return Ok(());
    }
    Err(Error::Value(format!("the rate resampled {name} is {rate} Hz, expected {LEAST_RATE} to {MOST_RATE}")))
}

fn runtime(error: impl std::fmt::Display) -> Error {
    Error::Runtime(format!("resampling failed: {error}"))
}
