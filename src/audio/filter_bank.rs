//! Triangular filters on the mel scale, each stored as the short run of bins it touches.

use crate::{Error, Result};

use super::options::{MelNorm, MelScale, Options};

/// One triangle: `weights` on the bins from `first` on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Filter<F> {
    pub(super) first: usize,
    pub(super) weights: Vec<F>,
}

/// The filters of `options`, lowest band first. A band that lies between two bins has no weights.
pub(super) fn filter_bank(options: &Options) -> Vec<Filter<f64>> {
    let edges = edges(options); // Hz, or mel on Kaldi's scale; [n_mels + 2]
    let n_bins = if matches!(options.mel_scale, MelScale::Kaldi) { options.n_fft / 2 } else { options.n_fft / 2 + 1 };
    let positions: Vec<f64> = (0..n_bins).map(|bin| position(options, bin)).collect(); // [n_bins]
    edges
        .windows(3)
        .map(|edge| {
            let (left, center, right) = (edge[0], edge[1], edge[2]);
            let first = positions.partition_point(|&p| p <= left);
            let last = positions.partition_point(|&p| p < right).max(first);
            let area = match options.mel_norm {
                MelNorm::None => 1.0,
                MelNorm::Slaney => 2.0 / (right - left),
            };
            let triangle = |&p: &f64| ((p - left) / (center - left)).min((right - p) / (right - center)).max(0.0);
            Filter { first, weights: positions[first..last].iter().map(|p| triangle(p) * area).collect() }
        })
        .collect()
}

/// At the lowest and highest frequency, and evenly between them in mel.
fn edges(options: &Options) -> Vec<f64> {
    let scale = options.mel_scale;
    let (low, high) = (to_mel(scale, options.f_min), to_mel(scale, options.highest_frequency()));
    let step = (high - low) / (options.n_mels + 1) as f64;
    (0..options.n_mels + 2)
        .map(|i| {
            let mel = if i == options.n_mels + 1 { high } else { low + step * i as f64 };
            if matches!(scale, MelScale::Kaldi) { mel } else { to_hz(scale, mel) }
        })
        .collect()
}

/// Where a bin lies, in the unit of the edges.
fn position(options: &Options, bin: usize) -> f64 {
    let hz = bin as f64 * f64::from(options.sample_rate) / options.n_fft as f64;
    if matches!(options.mel_scale, MelScale::Kaldi) { to_mel(MelScale::Kaldi, hz) } else { hz }
}

/// Slaney's scale is linear up to here, Hz, and then has 27 steps to a factor of 6.4.
const LINEAR_TO: f64 = 1000.0;
const HZ_PER_MEL: f64 = 200.0 / 3.0;

fn log_step() -> f64 {
    6.4_f64.ln() / 27.0
}

fn to_mel(scale: MelScale, hz: f64) -> f64 {
    match scale {
        MelScale::Slaney if hz < LINEAR_TO => hz / HZ_PER_MEL,
        MelScale::Slaney => LINEAR_TO / HZ_PER_MEL + (hz / LINEAR_TO).ln() / log_step(),
        MelScale::Htk => 2595.0 * (1.0 + hz / 700.0).log10(),
        MelScale::Kaldi => 1127.0 * (1.0 + hz / 700.0).ln(),
    }
}

fn to_hz(scale: MelScale, mel: f64) -> f64 {
    match scale {
        MelScale::Slaney if mel < LINEAR_TO / HZ_PER_MEL => HZ_PER_MEL * mel,
        MelScale::Slaney => LINEAR_TO * (log_step() * (mel - LINEAR_TO / HZ_PER_MEL)).exp(),
        MelScale::Htk => 700.0 * (10.0_f64.powf(mel / 2595.0) - 1.0),
        MelScale::Kaldi => 700.0 * ((mel / 1127.0).exp() - 1.0),
    }
}

/// Two edges that coincide in floating point would divide by zero.
pub(super) fn validate(options: &Options) -> Result<()> {
    if edges(options).windows(2).all(|edge| edge[0] < edge[1]) {
        return Ok(());
    }
    Err(Error::Value(format!(
        "n_mels is {}, too many to tell apart between {} Hz and {} Hz",
        options.n_mels,
        options.f_min,
        options.highest_frequency()
    )))
}

impl Filter<f64> {
    pub(super) fn rounded<F>(&self, round: impl Fn(f64) -> F) -> Filter<F> {
        Filter { first: self.first, weights: self.weights.iter().map(|&weight| round(weight)).collect() }
    }
}
