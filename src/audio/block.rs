//! A register's width of neighbouring frames: samples -> spectrum -> filters -> logarithm.

use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex};

use super::filter_bank::Filter;
use super::float::Float;
use super::fourier;
use super::framing::Frames;
use super::options::{Energy, Guard, Layout, Log, Options, Preemphasis, Spectrum};
use super::window;
use crate::simd::{Lanes, Level, MOST_LANES, Registers, Stage};

/// The constants of a convention in one precision.
pub(super) struct Tables<F: Float> {
    pub(super) level: Level,
    pub(super) frames: Frames,
    n_bins: usize,
    window: Vec<F>, // [frame sample]
    /// What rounding took from the window.
    window_rest: Vec<F>, // [frame sample]
    filters: Vec<Filter<F>>, // [mel]
    /// Absent where the 400-point transform across frames does it.
    transform: Option<Arc<dyn RealToComplex<F>>>,
    remove_dc: bool,
    preemphasis: Option<F>,
    magnitude_epsilon: Option<F>,
    guard: Guard,
    log: Log,
    energy: Option<Energy>,
}

/// Memory for one block.
pub(super) struct Scratch<F: Float> {
    pub(super) samples: Vec<F>, // under all frames of the block
    frame: Registers,           // [frame sample] x lanes
    power: Registers,           // [bin] x lanes
    input: Vec<F>,              // [n_fft], one frame
    spectrum: Vec<realfft::num_complex::Complex<F>>,
    transform: Vec<realfft::num_complex::Complex<F>>,
    energy: [F; MOST_LANES],
}

/// Where a block's results go.
pub(super) struct Output<'a, F> {
    pub(super) values: &'a mut [F], // [feature, frame] or [frame, feature]
    pub(super) layout: Layout,
    pub(super) n_frames: usize,
    /// The block's first frame.
    pub(super) first: usize,
    /// The block's frames, at most a register's.
    pub(super) count: usize,
}

impl<F: Float> Tables<F> {
    /// With the window's weights, [win_length], and a filter for each band.
    pub(super) fn new(options: &Options, level: Level, window: &[f64], filters: &[Filter<f64>]) -> Self {
        let frames = Frames::new(options);
        let window = window::placed(window, options, frames.length);
        let per_frame =
            options.remove_dc || options.energy.is_some() || matches!(options.preemphasis, Preemphasis::Frame(_));
        let across_frames = options.n_fft == fourier::SAMPLES && frames.length == fourier::SAMPLES && !per_frame;
        Self {
            level,
            frames,
            n_bins: options.n_fft / 2 + 1,
            window_rest: window.iter().map(|&weight| F::rounded(weight - F::rounded(weight).widened())).collect(),
            window: window.into_iter().map(F::rounded).collect(),
            filters: filters.iter().map(|filter| filter.rounded(F::rounded)).collect(),
            transform: (!across_frames).then(|| RealFftPlanner::new().plan_fft_forward(options.n_fft)),
            remove_dc: options.remove_dc,
            preemphasis: if let Preemphasis::Frame(a) = options.preemphasis { Some(F::rounded(a)) } else { None },
            magnitude_epsilon: match options.spectrum {
                Spectrum::Power => None,
                Spectrum::Magnitude { epsilon } => Some(F::rounded(epsilon)),
            },
            guard: options.guard,
            log: options.log,
            energy: options.energy,
        }
    }

    /// Frames that a block computes at once.
    pub(super) fn lanes(&self) -> usize {
        F::lanes(self.level)
    }

    /// Samples that a block reads.
    pub(super) fn span(&self) -> usize {
        (self.lanes() - 1) * self.frames.hop + self.frames.length
    }

    pub(super) fn n_features(&self) -> usize {
        self.filters.len() + usize::from(self.energy.is_some())
    }

    pub(super) fn scratch(&self) -> Scratch<F> {
        let n_fft = self.transform.as_ref().map_or(0, |transform| transform.len());
        Scratch {
            samples: vec![F::ZERO; self.span()],
            frame: Registers::new(if self.transform.is_none() { self.frames.length } else { 0 }),
            power: Registers::new(self.n_bins),
            input: vec![F::ZERO; n_fft],
            spectrum: self.transform.as_ref().map_or_else(Vec::new, |transform| transform.make_output_vec()),
            transform: self.transform.as_ref().map_or_else(Vec::new, |transform| transform.make_scratch_vec()),
            energy: [F::ZERO; MOST_LANES],
        }
    }

    /// Computes the frames of one block and each frame's largest value; a frame with a value that is not finite has NaN.
    /// `samples` is `span()` long, or `None` where `scratch.samples` holds them.
    pub(super) fn run(
        &self,
        samples: Option<&[F]>,
        scratch: &mut Scratch<F>,
        output: Output<'_, F>,
    ) -> [F; MOST_LANES] {
        let Scratch { samples: own, frame, power, input, spectrum, transform, energy } = scratch;
        let samples = samples.unwrap_or(own);
        let mut peaks = [F::NAN; MOST_LANES];
        if let Some(fft) = &self.transform {
            let lanes = self.lanes();
            let power = F::floats(power);
            for lane in 0..output.count {
                let frame = &samples[lane * self.frames.hop..][..self.frames.length];
                energy[lane] = self.prepare(frame, input);
                fft.process_with_scratch(input, spectrum, transform).expect("buffers are made for this transform");
                for (bin, value) in spectrum.iter().enumerate() {
                    power[bin * lanes + lane] = value.norm_sqr();
                }
            }
        } else {
            F::run(
                self.level,
                Spectra400 {
                    samples,
                    hop: self.frames.hop,
                    window: &self.window,
                    window_rest: &self.window_rest,
                    frame,
                    power: &mut *power,
                },
            );
        }
        F::run(self.level, Features { tables: self, power, energy, output, peaks: &mut peaks });
        peaks
    }

    /// One frame into `input`, windowed and followed by zeros; gives its energy.
    pub(super) fn prepare(&self, frame: &[F], input: &mut [F]) -> F {
        let input = {
            let (frame_part, zeros) = input.split_at_mut(frame.len());
            zeros.fill(F::ZERO);
            frame_part.copy_from_slice(frame);
            frame_part
        };
        if self.remove_dc {
            subtract_mean(input);
        }
        let raw_energy = self.energy_of(input, true);
        if let Some(a) = self.preemphasis {
            for i in (1..input.len()).rev() {
                input[i] = input[i] - a * input[i - 1];
            }
            input[0] = input[0] - a * input[0];
        }
        for (x, &weight) in input.iter_mut().zip(&self.window) {
            *x = *x * weight;
        }
        raw_energy + self.energy_of(input, false)
    }

    /// The frame's energy if it is to be measured at this point, else zero.
    fn energy_of(&self, frame: &[F], raw: bool) -> F {
        match self.energy {
            Some(energy) if energy.raw == raw => F::rounded(frame.iter().map(|x| x.widened().powi(2)).sum()),
            _ => F::ZERO,
        }
    }

    fn log_energy(&self, energy: F) -> F {
        let floor = self.energy.map_or(0.0, Energy::least);
        let energy = energy.widened();
        F::rounded(if energy < floor { floor.ln() } else { energy.ln() })
    }
}

pub(super) fn subtract_mean<F: Float>(frame: &mut [F]) {
    let mean = F::rounded(frame.iter().map(|x| x.widened()).sum::<f64>() / frame.len() as f64);
    for x in frame {
        *x = *x - mean;
    }
}

impl<F: Float> Scratch<F> {
    /// Whether it was made for tables of this shape.
    pub(super) fn fits(&self, tables: &Tables<F>) -> bool {
        let n_fft = tables.transform.as_ref().map_or(0, |transform| transform.len());
        self.samples.len() == tables.span()
            && self.input.len() == n_fft
            && self.power.count() == tables.n_bins
            && (tables.transform.is_some() || self.frame.count() == tables.frames.length)
    }

    pub(super) fn bytes(&self) -> usize {
        let complex = size_of::<F>() * 2 * (self.spectrum.len() + self.transform.len());
        size_of::<F>() * (self.samples.len() + self.input.len()) + complex + self.frame.bytes() + self.power.bytes()
    }
}

/// Samples to power spectra, 400 points, all frames at once.
struct Spectra400<'a, F> {
    samples: &'a [F],
    hop: usize,
    window: &'a [F],
    window_rest: &'a [F],
    frame: &'a mut Registers,
    power: &'a mut Registers,
}

impl<F: Float> Stage<F> for Spectra400<'_, F> {
    #[inline(always)]
    fn run<V: Lanes<Float = F>>(self) {
        let frame: &mut [V; fourier::SAMPLES] = self.frame.as_lanes().first_chunk_mut().expect("a register per sample");
        let power: &mut [V; fourier::BINS] = self.power.as_lanes().first_chunk_mut().expect("a register per bin");
        let window: &[F; fourier::SAMPLES] = self.window.first_chunk().expect("a weight per sample");
        let window_rest: &[F; fourier::SAMPLES] = self.window_rest.first_chunk().expect("a weight per sample");
        for i in (0..fourier::SAMPLES).step_by(4) {
            let columns = V::columns(&self.samples[i..], self.hop);
            for j in 0..4 {
                let rest = columns[j] * V::splat(window_rest[i + j]);
                frame[i + j] = columns[j].mul_add(V::splat(window[i + j]), rest);
            }
        }
        fourier::power_spectrum_400(frame, power);
    }
}

/// Power spectra to features, in place of the output, and each frame's largest.
struct Features<'a, F: Float> {
    tables: &'a Tables<F>,
    power: &'a mut Registers,
    energy: &'a [F; MOST_LANES],
    output: Output<'a, F>,
    peaks: &'a mut [F; MOST_LANES],
}

impl<F: Float> Stage<F> for Features<'_, F> {
    #[inline(always)]
    fn run<V: Lanes<Float = F>>(self) {
        let Self { tables, power, energy, mut output, peaks } = self;
        let power: &mut [V] = &mut power.as_lanes()[..tables.n_bins];
        if let Some(epsilon) = tables.magnitude_epsilon {
            for value in power.iter_mut() {
                *value = (*value + V::splat(epsilon)).sqrt();
            }
        }
        let (guard, floor) = match tables.guard {
            Guard::AtLeast(value) => (V::constant(value), true),
            Guard::Plus(value) => (V::constant(value), false),
        };
        let zero = V::constant(0.0);
        let mut peak = V::constant(f64::NEG_INFINITY);
        let mut poison = zero;
        let first_mel = usize::from(tables.energy.is_some());
        for (mel, filter) in tables.filters.iter().enumerate() {
            let mut value = zero;
            for (power, &weight) in power[filter.first..].iter().zip(&filter.weights) {
                value = power.mul_add(V::splat(weight), value);
            }
            if tables.log != Log::None {
                value = if floor { value.at_least(guard) } else { value + guard };
                value = if tables.log == Log::Natural { value.ln() } else { value.log10() };
            }
            peak = value.at_least(peak);
            poison = value.mul_add(zero, poison);
            output.put(tables, first_mel + mel, value);
        }
        (peak + poison).store(peaks);
        if tables.energy.is_some() {
            for (lane, &energy) in energy[..output.count].iter().enumerate() {
                *output.at(tables, 0, lane) = tables.log_energy(energy);
            }
        }
    }
}

impl<F: Float> Output<'_, F> {
    #[inline(always)]
    fn put<V: Lanes<Float = F>>(&mut self, tables: &Tables<F>, feature: usize, value: V) {
        if self.count == V::COUNT && self.layout == Layout::MelMajor {
            value.store(&mut self.values[feature * self.n_frames + self.first..]);
            return;
        }
        let mut lanes = [F::ZERO; MOST_LANES];
        value.store(&mut lanes);
        for (lane, &value) in lanes[..self.count].iter().enumerate() {
            *self.at(tables, feature, lane) = value;
        }
    }

    #[inline(always)]
    fn at(&mut self, tables: &Tables<F>, feature: usize, lane: usize) -> &mut F {
        let frame = self.first + lane;
        match self.layout {
            Layout::MelMajor => &mut self.values[feature * self.n_frames + frame],
            Layout::FrameMajor => &mut self.values[frame * tables.n_features() + feature],
        }
    }
}
