//! What follows the logarithm: the dynamic range below the loudest value, scale and offset, normalised bands.

use super::float::Float;
use super::options::{DynamicRange, Layout, Loudest, Options};
use crate::simd::{Lanes, Level, Stage};

/// The last step of a convention.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finish<F> {
    range: Option<DynamicRange>,
    scale: F,
    offset: F,
    normalize_bands: bool,
}

impl<F: Float> Finish<F> {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            range: options.dynamic_range,
            scale: F::rounded(options.scale),
            offset: F::rounded(options.offset),
            normalize_bands: options.normalize_bands,
        }
    }

    /// Frames depend on the ones before them only through the loudest so far.
    pub(super) fn follows_the_loudest(&self) -> bool {
        matches!(self.range, Some(DynamicRange { loudest: Loudest::SoFar, .. }))
    }

    pub(super) fn spans_the_batch(&self) -> bool {
        matches!(self.range, Some(DynamicRange { loudest: Loudest::OfBatch, .. }))
    }

    /// No frame can be finished before the clip's end.
    pub(super) fn needs_clip_maximum(&self) -> bool {
        matches!(self.range, Some(DynamicRange { loudest: Loudest::OfClip | Loudest::OfBatch, .. }))
    }

    /// Applies range, scale and offset. `loudest` is the largest value, or NaN where any value is not finite: then, with
    /// a range that hangs on it, every result is NaN.
    pub(super) fn apply(&self, level: Level, loudest: F, values: &mut [F]) {
        let floor = match self.range {
            None => None,
            Some(DynamicRange { below, loudest: Loudest::Constant(value) }) => Some(F::rounded(value - below)),
            Some(_) if loudest.widened().is_nan() => return values.fill(F::NAN),
            Some(DynamicRange { below, .. }) => Some(loudest - F::rounded(below)),
        };
        let is_unchanged = floor.is_none() && self.scale == F::rounded(1.0) && self.offset == F::ZERO;
        if !is_unchanged {
            let floor = floor.unwrap_or(F::rounded(f64::NEG_INFINITY));
            F::run(level, Affine { floor, scale: self.scale, offset: self.offset, values });
        }
    }

    /// Zero mean and unit deviation for every feature, if the convention asks for it.
    pub(super) fn normalize(&self, layout: Layout, n_features: usize, values: &mut [F]) {
        if !self.normalize_bands || values.is_empty() {
            return;
        }
        let n_frames = values.len() / n_features;
        for feature in 0..n_features {
            let (first, step) = match layout {
                Layout::MelMajor => (feature * n_frames, 1),
                Layout::FrameMajor => (feature, n_features),
            };
            let places = || (0..n_frames).map(move |frame| first + frame * step);
            let mean = places().map(|i| values[i].widened()).sum::<f64>() / n_frames as f64;
            let squares: f64 = places().map(|i| (values[i].widened() - mean).powi(2)).sum();
            let deviation = if n_frames > 1 { (squares / (n_frames - 1) as f64).sqrt() } else { 0.0 };
            for i in places() {
                values[i] = F::rounded((values[i].widened() - mean) / (deviation + DEVIATION_GUARD));
            }
        }
    }
}

/// Added to a band's deviation before dividing by it.
pub(super) const DEVIATION_GUARD: f64 = 1e-5;

/// `max(value, floor) * scale + offset`, rounded after each step at every level, so that no result depends on how the
/// values are grouped.
struct Affine<'a, F> {
    floor: F,
    scale: F,
    offset: F,
    values: &'a mut [F],
}

impl<F: Float> Stage<F> for Affine<'_, F> {
    #[inline(always)]
    fn run<V: Lanes<Float = F>>(self) {
        let Self { floor, scale, offset, values } = self;
        for value in values {
            let raised = if *value < floor { floor } else { *value };
            *value = raised * scale + offset;
        }
    }
}
