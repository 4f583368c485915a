//! From the gradient of the features to that of the samples: every step of `Plan::compute`, transposed, last to first.
//!
//! ```text
//! g_values --normalize, range--> g_log --logarithm, filters--> g_power --fourier, window--> g_frames --fold--> g_samples
//! ```
//!
//! Where a value ties with the floor it is raised to, both get half; equal loudest values share evenly. These are the
//! choices of `torch.maximum` and `torch.amax`.

use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};

use crate::Result;

use super::block::subtract_mean;
use super::filter_bank::Filter;
use super::float::Float;
use super::framing::Frames;
use super::options::{DynamicRange, Energy, Guard, Layout, Log, Loudest, Options, Preemphasis, Spectrum};
use super::plan::{Plan, Workspace};
use super::range::DEVIATION_GUARD;
use super::samples::{Conditioning, Sample, Signal};
use super::window;
use crate::simd::Level;

/// The transposed steps of one convention.
pub(super) struct Adjoint<F: Float> {
    options: Options,
    /// The same convention up to the logarithm.
    logs: Plan<F>,
    conditioning: Conditioning<F>,
    frames: Frames,
    window: Vec<F>,          // [frame sample]
    filters: Vec<Filter<F>>, // [mel]
    forward: Arc<dyn RealToComplex<F>>,
    inverse: Arc<dyn ComplexToReal<F>>,
}

/// One clip on its way back; empty where a clip has no frames.
#[derive(Default)]
pub(super) struct Back<'a, F> {
    pub(super) samples: &'a [F],
    /// The gradient of its features, in the convention's layout; of its logarithms after `through_range`.
    pub(super) grad: Vec<F>,
    /// The logarithms, `[mel, frame]` or `[frame, mel]`.
    pub(super) logs: Vec<F>,
}

impl<F: Float + Sample> Adjoint<F> {
    pub(super) fn new(options: Options, level: Level, weights: &[f64], filters: &[Filter<f64>]) -> Result<Self> {
        let bare = Options { dynamic_range: None, scale: 1.0, offset: 0.0, normalize_bands: false, ..options };
        let frames = Frames::new(&options);
        let mut planner = RealFftPlanner::new();
        Ok(Self {
            options,
            logs: Plan::with_tables(bare, level, weights, filters)?,
            conditioning: Conditioning::new(&options),
            frames,
            window: window::placed(weights, &options, frames.length).into_iter().map(F::rounded).collect(),
            filters: filters.iter().map(|filter| filter.rounded(F::rounded)).collect(),
            forward: planner.plan_fft_forward(options.n_fft),
            inverse: planner.plan_fft_inverse(options.n_fft),
        })
    }

    pub(super) fn workspace(&self) -> Workspace<F> {
        self.logs.workspace()
    }

    /// The clip with its logarithms computed again.
    pub(super) fn clip<'a>(&self, samples: &'a [F], grad: Vec<F>, workspace: &mut Workspace<F>) -> Result<Back<'a, F>> {
        let mut logs = vec![F::ZERO; grad.len()];
        self.logs.compute(samples, &mut logs, workspace)?;
        Ok(Back { samples, grad, logs })
    }

    /// Whether the clips of a batch have their loudest value in common.
    pub(super) fn spans_the_batch(&self) -> bool {
        matches!(self.options.dynamic_range, Some(DynamicRange { loudest: Loudest::OfBatch, .. }))
    }

    /// Gradients of values to gradients of logarithms, for clips that share their loudest value.
    pub(super) fn through_range(&self, clips: &mut [Back<'_, F>]) {
        let range = self.options.dynamic_range;
        let whole = clips.iter().map(|clip| peak(&clip.logs)).fold(Peak::NONE, Peak::joined);
        let mut of_floor = 0.0;
        for Back { grad, logs, .. } in clips.iter_mut().filter(|clip| !clip.logs.is_empty()) {
            let floors = self.floors(logs, whole.value);
            self.through_normalize(grad, logs, &floors);
            let mut of_floors = vec![0.0; floors.len()];
            for (i, g) in grad.iter_mut().enumerate() {
                let (frame, scaled) = (self.frame_of(i, floors.len()), g.widened() * self.options.scale);
                let share = share_above(logs[i].widened(), floors[frame]);
                *g = F::rounded(scaled * share);
                if share < 1.0 {
                    of_floors[frame] += scaled * (1.0 - share);
                }
            }
            match range {
                Some(DynamicRange { loudest: Loudest::SoFar, .. }) => {
                    self.to_the_loudest_so_far(grad, logs, &of_floors);
                }
                _ => of_floor += of_floors.iter().sum::<f64>(),
            }
        }
        if matches!(range, Some(DynamicRange { loudest: Loudest::OfClip | Loudest::OfBatch, .. })) && of_floor != 0.0 {
            let share = of_floor / whole.count as f64;
            for Back { grad, logs, .. } in clips {
                for (g, log) in grad.iter_mut().zip(logs) {
                    if log.widened() >= whole.value {
                        *g = F::rounded(g.widened() + share);
                    }
                }
            }
        }
    }

    /// What each frame's values are raised to.
    fn floors(&self, logs: &[F], loudest: f64) -> Vec<f64> {
        let n_frames = logs.len() / self.options.n_features();
        match self.options.dynamic_range {
            None => vec![f64::NEG_INFINITY; n_frames],
            Some(DynamicRange { below, loudest: Loudest::Constant(value) }) => {
                vec![F::rounded(value - below).widened(); n_frames]
            }
            Some(DynamicRange { below, loudest: Loudest::SoFar }) => self
                .loudest_so_far(logs, n_frames)
                .map(|(loudest, _)| (F::rounded(loudest) - F::rounded(below)).widened())
                .collect(),
            Some(DynamicRange { below, .. }) => {
                vec![(F::rounded(loudest) - F::rounded(below)).widened(); n_frames]
            }
        }
    }

    /// For every frame the loudest value up to it, and the last frame that has it.
    fn loudest_so_far<'a>(&'a self, logs: &'a [F], n_frames: usize) -> impl Iterator<Item = (f64, usize)> + 'a {
        (0..n_frames).scan((f64::NEG_INFINITY, 0), move |so_far, frame| {
            let places = (0..self.options.n_mels).map(|mel| self.place(mel, frame, n_frames));
            let own = places.map(|i| logs[i].widened()).fold(f64::NEG_INFINITY, f64::max);
            if own >= so_far.0 {
                *so_far = (own, frame);
            }
            Some(*so_far)
        })
    }

    /// What reached the floors goes to the values that they hang on.
    fn to_the_loudest_so_far(&self, grad: &mut [F], logs: &[F], of_floors: &[f64]) {
        let n_frames = of_floors.len();
        let sources: Vec<(f64, usize)> = self.loudest_so_far(logs, n_frames).collect();
        for (&of_floor, &(loudest, source)) in of_floors.iter().zip(&sources) {
            let places = (0..self.options.n_mels).map(|mel| self.place(mel, source, n_frames));
            let equal: Vec<usize> = places.filter(|&i| logs[i].widened() >= loudest).collect();
            for &i in &equal {
                grad[i] = F::rounded(grad[i].widened() + of_floor / equal.len() as f64);
            }
        }
    }

    /// Gradients of bands of zero mean and unit deviation to those of the bands as they were.
    fn through_normalize(&self, grad: &mut [F], logs: &[F], floors: &[f64]) {
        if !self.options.normalize_bands {
            return;
        }
        let n_frames = floors.len();
        let n = n_frames as f64;
        for feature in 0..self.options.n_features() {
            let places = || (0..n_frames).map(|frame| (self.place(feature, frame, n_frames), floors[frame]));
            let value = |(i, floor): (usize, f64)| self.options.scale * logs[i].widened().max(floor);
            let mean = places().map(value).sum::<f64>() / n;
            let squares: f64 = places().map(|place| (value(place) - mean).powi(2)).sum();
            let deviation = if n_frames > 1 { (squares / (n - 1.0)).sqrt() } else { 0.0 };
            let mean_grad = places().map(|(i, _)| grad[i].widened()).sum::<f64>() / n;
            let along: f64 = places().map(|place| grad[place.0].widened() * (value(place) - mean)).sum();
            let slope =
                if deviation > 0.0 { along / ((n - 1.0) * deviation * (deviation + DEVIATION_GUARD)) } else { 0.0 };
            for place in places() {
                let centred = value(place) - mean;
                let g = grad[place.0].widened() - mean_grad - slope * centred;
                grad[place.0] = F::rounded(g / (deviation + DEVIATION_GUARD));
            }
        }
    }

    fn place(&self, feature: usize, frame: usize, n_frames: usize) -> usize {
        match self.options.layout {
            Layout::MelMajor => feature * n_frames + frame,
            Layout::FrameMajor => frame * self.options.n_features() + feature,
        }
    }

    fn frame_of(&self, place: usize, n_frames: usize) -> usize {
        match self.options.layout {
            Layout::MelMajor => place % n_frames,
            Layout::FrameMajor => place / self.options.n_features(),
        }
    }

    /// Gradients of logarithms to gradients of samples, [sample].
    pub(super) fn through_frames(&self, clip: &Back<'_, F>, grad_samples: &mut [F]) -> Result<()> {
        let length = self.options.padded_length(clip.samples.len())?;
        let n_frames = clip.logs.len() / self.options.n_features();
        let signal = Signal::new(clip.samples, length, self.conditioning, self.frames);
        let mut samples = vec![F::ZERO; self.frames.length];
        let mut input = self.forward.make_input_vec();
        let mut spectrum = self.forward.make_output_vec();
        let mut scratch = self.forward.make_scratch_vec();
        let mut inverse_scratch = self.inverse.make_scratch_vec();
        let mut of_energy = vec![F::ZERO; if self.options.energy.is_some() { self.frames.length } else { 0 }];
        // Of the conditioned samples, and of the one echo that pre-emphasis leaves in appended zeros.
        let mut conditioned = vec![F::ZERO; length.min(clip.samples.len() + 1)];
        for frame in 0..n_frames {
            let of_features = |feature| clip.grad[self.place(feature, frame, n_frames)];
            if (0..self.options.n_features()).all(|feature| of_features(feature) == F::ZERO) {
                continue;
            }
            let start = self.frames.start(frame);
            let own = signal.region(start, &mut samples).unwrap_or(&samples);
            let energy = self.logs.tables.prepare(own, &mut input);
            if let Some(kind) = self.options.energy {
                self.through_energy(kind, of_features(0), energy, (own, &input), &mut of_energy);
            }
            let of_logs = |mel| of_features(self.options.n_features() - self.filters.len() + mel);
            self.forward.process_with_scratch(&mut input, &mut spectrum, &mut scratch).expect("sizes of one plan");
            self.through_filters(of_logs, &mut spectrum);
            self.inverse
                .process_with_scratch(&mut spectrum, &mut input, &mut inverse_scratch)
                .expect("sizes of one plan, and real ends");
            self.through_preparation(&mut input[..self.frames.length], &of_energy);
            let of_frame = &input[..self.frames.length];
            let inside = usize::try_from(start).ok().and_then(|at| conditioned.get_mut(at..at + of_frame.len()));
            if let Some(under) = inside {
                add(under, of_frame);
                continue;
            }
            for (i, &g) in of_frame.iter().enumerate() {
                if let Some(place) = self.frames.source(start + i as isize, length)
                    && let Some(sum) = conditioned.get_mut(place)
                {
                    *sum = *sum + g;
                }
            }
        }
        self.conditioning.transposed(&conditioned, grad_samples);
        Ok(())
    }

    /// A frame's spectrum to the one whose inverse transform is the gradient of the windowed frame.
    fn through_filters(&self, of_logs: impl Fn(usize) -> F, spectrum: &mut [Complex<F>]) {
        let magnitude = |value: &Complex<F>| match self.options.spectrum {
            Spectrum::Power => value.norm_sqr(),
            Spectrum::Magnitude { epsilon } => F::rounded((value.norm_sqr().widened() + epsilon).sqrt()),
        };
        let mut of_bins = vec![F::ZERO; spectrum.len()];
        for (mel, filter) in self.filters.iter().enumerate() {
            let g = of_logs(mel);
            if g == F::ZERO {
                continue;
            }
            let bins = &spectrum[filter.first..][..filter.weights.len()];
            let value: f64 = bins.iter().zip(&filter.weights).map(|(x, w)| (magnitude(x) * *w).widened()).sum();
            let g = F::rounded(g.widened() * slope_of_log(&self.options, value));
            for (sum, &weight) in of_bins[filter.first..].iter_mut().zip(&filter.weights) {
                *sum = *sum + g * weight;
            }
        }
        // The inverse transform counts the bins between the ends twice, as the conjugates they stand for.
        let last = spectrum.len() - 1;
        for (bin, (value, g)) in spectrum.iter_mut().zip(of_bins).enumerate() {
            let root = magnitude(value);
            let slope = match self.options.spectrum {
                Spectrum::Power => g,
                Spectrum::Magnitude { .. } if root > F::ZERO => g / (root + root),
                Spectrum::Magnitude { .. } => F::ZERO,
            };
            let is_end = bin == 0 || (bin == last && self.options.n_fft.is_multiple_of(2));
            *value = if is_end { Complex::new((slope + slope) * value.re, F::ZERO) } else { *value * slope };
        }
    }

    /// The gradient of a frame's log energy to that of the samples it was measured on: of the frame, or of the frame
    /// under the window.
    fn through_energy(&self, kind: Energy, grad: F, energy: F, (frame, windowed): (&[F], &[F]), to: &mut [F]) {
        let energy = energy.widened();
        let slope = if energy < kind.least() { 0.0 } else { 2.0 * grad.widened() / energy };
        to.copy_from_slice(if kind.raw { frame } else { &windowed[..to.len()] });
        if kind.raw && self.options.remove_dc {
            subtract_mean(to);
        }
        for x in to {
            *x = F::rounded(x.widened() * slope);
        }
    }

    /// The gradients of a windowed frame, and of the samples under its energy, to that of its samples.
    fn through_preparation(&self, frame: &mut [F], of_energy: &[F]) {
        let raw = self.options.energy.is_some_and(|energy| energy.raw);
        if !raw {
            add(frame, of_energy);
        }
        for (g, &weight) in frame.iter_mut().zip(&self.window) {
            *g = *g * weight;
        }
        if let Preemphasis::Frame(a) = self.options.preemphasis {
            let a = F::rounded(a);
            frame[0] = frame[0] - a * frame[0];
            for i in 1..frame.len() {
                frame[i - 1] = frame[i - 1] - a * frame[i];
            }
        }
        if raw {
            add(frame, of_energy);
        }
        if self.options.remove_dc {
            subtract_mean(frame);
        }
    }
}

fn add<F: Float>(sums: &mut [F], values: &[F]) {
    for (sum, &value) in sums.iter_mut().zip(values) {
        *sum = *sum + value;
    }
}

/// d log(guarded value) / d value.
fn slope_of_log(options: &Options, value: f64) -> f64 {
    let per_log = match options.log {
        Log::None => return 1.0,
        Log::Natural => 1.0,
        Log::Decimal => std::f64::consts::LOG10_E,
    };
    match options.guard {
        Guard::AtLeast(least) if value < least => 0.0,
        Guard::AtLeast(_) => per_log / value,
        Guard::Plus(added) => per_log / (value + added),
    }
}

/// How much of a value's gradient stays with it when it is raised to the floor.
fn share_above(value: f64, floor: f64) -> f64 {
    if value > floor {
        1.0
    } else if value < floor {
        0.0
    } else {
        0.5
    }
}

/// The largest value and how often it is there.
#[derive(Clone, Copy)]
struct Peak {
    value: f64,
    count: usize,
}

impl Peak {
    const NONE: Self = Self { value: f64::NEG_INFINITY, count: 0 };

    fn joined(self, other: Self) -> Self {
        if other.value > self.value {
            other
        } else if other.value < self.value {
            self
        } else {
            Self { value: self.value, count: self.count + other.count }
        }
    }
}

fn peak<F: Float>(values: &[F]) -> Peak {
    values.iter().map(|value| Peak { value: value.widened(), count: 1 }).fold(Peak::NONE, Peak::joined)
}
