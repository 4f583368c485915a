//! From the caller's numbers to the samples that frames are cut from.

use std::f64::consts::TAU;

use super::float::Float;
use super::framing::Frames;
use super::options::{Options, Preemphasis};

/// A number that audio comes in. Integers are scaled to [-1, 1).
pub trait Sample: Copy + Send + Sync + 'static {
    fn to_f64(self) -> f64;

    #[doc(hidden)]
    fn as_f32(_samples: &[Self]) -> Option<&[f32]> {
        None
    }
    #[doc(hidden)]
    fn as_f64(_samples: &[Self]) -> Option<&[f64]> {
        None
    }
}

impl Sample for f32 {
    fn to_f64(self) -> f64 {
        self.into()
    }
    fn as_f32(samples: &[Self]) -> Option<&[f32]> {
        Some(samples)
    }
}

impl Sample for f64 {
    fn to_f64(self) -> f64 {
        self
    }
    fn as_f64(samples: &[Self]) -> Option<&[f64]> {
        Some(samples)
    }
}

impl Sample for i16 {
    fn to_f64(self) -> f64 {
        f64::from(self) / 32_768.0
    }
}

impl Sample for i32 {
    fn to_f64(self) -> f64 {
        f64::from(self) / 2_147_483_648.0
    }
}

/// What is done to every sample, whatever frame it falls into.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conditioning<F> {
    gain: F,
    dither: F,
    dither_seed: u64,
    preemphasis: F,
    /// Samples go through unchanged.
    is_identity: bool,
}

impl<F: Float> Conditioning<F> {
    pub(super) fn new(options: &Options) -> Self {
        let preemphasis = if let Preemphasis::Clip(a) = options.preemphasis { a } else { 0.0 };
        let (gain, dither) = (F::rounded(options.input_scale), F::rounded(options.dither));
        let preemphasis = F::rounded(preemphasis);
        let is_identity = gain == F::rounded(1.0) && dither == F::ZERO && preemphasis == F::ZERO;
        Self { gain, dither, dither_seed: options.dither_seed, preemphasis, is_identity }
    }

    /// Sample `index` of the clip before pre-emphasis.
    fn scaled<S: Sample>(&self, sample: S, index: usize) -> F {
        let value = F::rounded(sample.to_f64()) * self.gain;
        if self.dither == F::ZERO { value } else { value + self.dither * F::rounded(gaussian(self.dither_seed, index)) }
    }

    /// Conditions samples `first..first + to.len()`; `previous` is the scaled sample before them.
    pub(super) fn run<S: Sample>(
        &self,
        samples: &[S],
        first: usize,
        mut previous: Option<F>,
        to: &mut [F],
    ) -> Option<F> {
        for (i, (&sample, to)) in samples.iter().zip(to).enumerate() {
            let value = self.scaled(sample, first + i);
            *to = match previous {
                Some(before) if self.preemphasis != F::ZERO => value - self.preemphasis * before,
                _ => value,
            };
            previous = Some(value);
        }
        previous
    }

    /// Gradients of the conditioned samples, and of the echo that may follow them, to gradients of the samples.
    #[cfg(feature = "torch")]
    pub(super) fn transposed(&self, conditioned: &[F], samples: &mut [F]) {
        for (i, to) in samples.iter_mut().enumerate() {
            let [own, next] = [i, i + 1].map(|i| conditioned.get(i).copied().unwrap_or(F::ZERO));
            *to = self.gain * (own - self.preemphasis * next);
        }
    }
}

/// A whole clip.
pub(super) struct Signal<'a, S, F> {
    samples: &'a [S],
    /// With the zeros that padding appends, or without what it cuts.
    length: usize,
    conditioning: Conditioning<F>,
    frames: Frames,
}

impl<'a, S: Sample, F: Float> Signal<'a, S, F> {
    pub(super) fn new(samples: &'a [S], length: usize, conditioning: Conditioning<F>, frames: Frames) -> Self {
        Self { samples: &samples[..samples.len().min(length)], length, conditioning, frames }
    }

    /// The samples under frames that begin at `start`: the caller's own memory, or none and they are in `scratch`.
    pub(super) fn region(&self, start: isize, scratch: &mut [F]) -> Option<&'a [F]> {
        if self.conditioning.is_identity
            && start >= 0
            && let Some(all) = F::view(self.samples)
            && let Some(inside) = all.get(start as usize..start as usize + scratch.len())
        {
            return Some(inside);
        }
        self.fill(start, scratch);
        None
    }

    fn fill(&self, start: isize, scratch: &mut [F]) {
        let end = start + scratch.len() as isize;
        let inside = start.clamp(0, self.samples.len() as isize)..end.clamp(0, self.samples.len() as isize);
        let (from, to) = (inside.start as usize, inside.end as usize);
        scratch.fill(F::ZERO);
        if from < to {
            let at = (inside.start - start) as usize;
            let previous = from.checked_sub(1).map(|i| self.conditioning.scaled(self.samples[i], i));
            self.conditioning.run(&self.samples[from..to], from, previous, &mut scratch[at..at + to - from]);
        }
        // Between the last sample's echo and the padded end everything is zero.
        let (echo, beyond) = (self.samples.len() as isize, self.length as isize);
        for i in
            (start..end.min(0)).chain(echo.max(start)..end.min(echo + 1)).chain(beyond.max(echo + 1).max(start)..end)
        {
            scratch[(i - start) as usize] = self.beyond(i);
        }
    }

    /// A sample that is not one of the caller's.
    fn beyond(&self, i: isize) -> F {
        let Some(source) = self.frames.source(i, self.length) else { return F::ZERO };
        let mut value = [F::ZERO];
        if source < self.samples.len() {
            let previous = source.checked_sub(1).map(|before| self.conditioning.scaled(self.samples[before], before));
            self.conditioning.run(&self.samples[source..=source], source, previous, &mut value);
        } else if source == self.samples.len() && source > 0 {
            // Pre-emphasis echoes the last sample once in the appended zeros.
            let before = self.conditioning.scaled(self.samples[source - 1], source - 1);
            value[0] = F::ZERO - self.conditioning.preemphasis * before;
        }
        value[0]
    }
}

/// Noise of unit deviation that depends on nothing but the seed and the place.
fn gaussian(seed: u64, index: usize) -> f64 {
    let [a, b] = [0, 1].map(|i| mixed(seed ^ mixed(2 * index as u64 + i)) >> 11);
    let unit = 2.0_f64.powi(-53);
    let (radius, angle) = ((a as f64 + 1.0) * unit, b as f64 * unit);
    (-2.0 * radius.ln()).sqrt() * (TAU * angle).cos()
}

/// A bijection of 64 bits that leaves no pattern (the finaliser of the splitmix64 generator).
fn mixed(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
