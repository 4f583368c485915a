//! Everything that tells one log-mel convention from another, as plain values.

use crate::{Error, Result};

use super::{filter_bank, framing};

/// One convention. Start from a named one, `Dialect::options`, and change what differs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Hz.
    pub sample_rate: u32,
    /// Points of the Fourier transform.
    pub n_fft: usize,
    /// Samples under the window, at most `n_fft`.
    pub win_length: usize,
    /// Samples from one frame to the next.
    pub hop_length: usize,
    pub window: Window,
    pub framing: Framing,
    /// Leave out the last frame.
    pub drop_last: bool,
    /// What happens to the clip's length first.
    pub padding: Padding,
    /// Multiplies every sample. Integers are first scaled to [-1, 1).
    pub input_scale: f64,
    /// Standard deviation of the Gaussian noise added to every sample, before `preemphasis`.
    pub dither: f64,
    /// Chooses the noise; the same seed gives the same noise, however the audio is cut into chunks.
    pub dither_seed: u64,
    /// Subtract each frame's mean.
    pub remove_dc: bool,
    pub preemphasis: Preemphasis,
    pub spectrum: Spectrum,
    pub mel_scale: MelScale,
    pub mel_norm: MelNorm,
    pub n_mels: usize,
    /// Lowest and highest frequency of the filters, Hz; a highest frequency of zero or less counts from Nyquist.
    pub f_min: f64,
    pub f_max: f64,
    pub log: Log,
    /// What keeps the logarithm away from zero.
    pub guard: Guard,
    /// Raise values that lie further than this below the loudest, in the units of the logarithm.
    pub dynamic_range: Option<DynamicRange>,
    /// Every value becomes `scale * value + offset` at the end.
    pub scale: f64,
    pub offset: f64,
    /// Give every mel band zero mean and unit deviation over the clip (unbiased, 1e-5 added to the deviation).
    pub normalize_bands: bool,
    /// Put the logarithm of each frame's energy before its mel bands.
    pub energy: Option<Energy>,
    pub layout: Layout,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Window {
    /// Raised cosine over `win_length`, without its last zero.
    Hann,
    /// Raised cosine that reaches zero at both ends.
    HannSymmetric,
    /// `HannSymmetric` to the power 0.85.
    Povey,
    /// 0.54 - 0.46 cos, symmetric.
    Hamming,
    /// 0.42 - 0.5 cos + 0.08 cos of twice the angle, symmetric.
    Blackman,
    Rectangular,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Framing {
    /// Frame t is centred on sample `t * hop_length`.
    Center(Edge),
    /// `(n_fft - hop_length) / 2` reflected samples at each end: as many frames as hops.
    Same,
    /// Only frames that lie inside; the window starts at the frame's first sample.
    Inside,
    /// A frame per hop, centred in it; samples beyond an end are mirrored, the end sample included.
    Mirrored,
}

/// What lies beyond the ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Edge {
    Zero,
    /// The signal mirrored, without repeating the end sample.
    Reflect,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Padding {
    None,
    /// Cut, or fill with zeros, to this many samples.
    To(usize),
    /// This many zeros after the clip.
    Append(usize),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Preemphasis {
    None,
    /// `x[i] - a x[i - 1]` inside each frame; the first sample takes itself as its predecessor.
    Frame(f64),
    /// `x[i] - a x[i - 1]` over the whole clip; the first sample stays.
    Clip(f64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Spectrum {
    /// Squared magnitude.
    Power,
    /// `sqrt(squared magnitude + epsilon)`.
    Magnitude { epsilon: f64 },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MelScale {
    /// Linear below 1 kHz, logarithmic above; triangles in Hz.
    Slaney,
    /// 2595 log10(1 + f / 700); triangles in Hz.
    Htk,
    /// 1127 ln(1 + f / 700); triangles in mel, without the Nyquist bin.
    Kaldi,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MelNorm {
    /// Every triangle peaks at one.
    None,
    /// Every triangle has the area of one Hz.
    Slaney,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Log {
    None,
    Natural,
    Decimal,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Guard {
    /// Smaller values become this.
    AtLeast(f64),
    /// This is added to every value.
    Plus(f64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DynamicRange {
    /// How far below the loudest a value may lie.
    pub below: f64,
    pub loudest: Loudest,
}

/// Whose maximum the dynamic range hangs on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loudest {
    /// Each clip's own. A whole file is one clip; a stream knows it at its end.
    OfClip,
    /// All clips of one call.
    OfBatch,
    /// The clip so far, up to and including the frame.
    SoFar,
    /// A fixed value.
    Constant(f64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Energy {
    /// Measured before pre-emphasis and window, else after.
    pub raw: bool,
    /// Smaller energies become this.
    pub floor: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `[mel, frame]`.
    MelMajor,
    /// `[frame, mel]`.
    FrameMajor,
}

impl Energy {
    /// What keeps the logarithm away from zero: the floor, or Kaldi's own.
    pub(super) fn least(self) -> f64 {
        self.floor.max(f64::from(f32::EPSILON))
    }
}

/// No convention comes near these; they keep hostile values from asking for memory.
const MOST_POINTS: usize = 1 << 16;
const MOST_MELS: usize = 1 << 12;
const MOST_PADDING: usize = 1 << 40;

impl Options {
    /// Values per frame: the mel bands, and the energy where it is asked for.
    pub fn n_features(&self) -> usize {
        self.n_mels + usize::from(self.energy.is_some())
    }

    /// Frames of a clip of `n_samples`.
    pub fn n_frames(&self, n_samples: usize) -> Result<usize> {
        framing::Frames::new(self).count(self.padded_length(n_samples)?)
    }

    /// The clip's length after `padding`.
    pub(super) fn padded_length(&self, n_samples: usize) -> Result<usize> {
        match self.padding {
            Padding::None => Ok(n_samples),
            Padding::To(length) => Ok(length),
            Padding::Append(zeros) => n_samples.checked_add(zeros).ok_or_else(|| {
                Error::Value(format!("a clip of {n_samples} samples is too long to append {zeros} zeros"))
            }),
        }
    }

    /// The highest frequency of the filters, Hz.
    pub(super) fn highest_frequency(&self) -> f64 {
        if self.f_max > 0.0 { self.f_max } else { f64::from(self.sample_rate) / 2.0 + self.f_max }
    }

    /// A sentence for the first value that makes no sense.
    pub fn validate(&self) -> Result<()> {
        within("sample_rate", self.sample_rate as usize, 1, 1 << 30)?;
        within("n_fft", self.n_fft, 4, MOST_POINTS)?;
        within("win_length", self.win_length, 1, self.n_fft)?;
        within("hop_length", self.hop_length, 1, MOST_POINTS)?;
        within("n_mels", self.n_mels, 1, MOST_MELS)?;
        if let Padding::To(length) | Padding::Append(length) = self.padding {
            within("padding", length, 0, MOST_PADDING)?;
        }
        if matches!(self.framing, Framing::Same) && self.hop_length > self.n_fft {
            return Err(Error::Value(format!(
                "hop_length is {}, expected at most n_fft ({}) for this framing",
                self.hop_length, self.n_fft
            )));
        }
        if matches!(self.mel_scale, MelScale::Kaldi) && !self.n_fft.is_multiple_of(2) {
            return Err(Error::Value(format!("n_fft is {}, expected an even number for this mel scale", self.n_fft)));
        }
        for (name, value) in self.numbers() {
            if !value.is_finite() {
                return Err(Error::Value(format!("{name} is {value}, expected a finite number")));
            }
        }
        for (name, value) in self.not_negative() {
            if value < 0.0 {
                return Err(Error::Value(format!("{name} is {value}, expected zero or more")));
            }
        }
        if let (Some(_), Some(DynamicRange { below, .. })) = (self.energy, self.dynamic_range) {
            return Err(Error::Value(format!(
                "there is an energy and a dynamic_range of {below}, expected one of them: no program has both"
            )));
        }
        self.validate_guard()?;
        let (low, high, nyquist) = (self.f_min, self.highest_frequency(), f64::from(self.sample_rate) / 2.0);
        if !(low < high && high <= nyquist) {
            return Err(Error::Value(format!(
                "f_min is {low} Hz and f_max is {high} Hz, expected 0 <= f_min < f_max <= {nyquist} Hz (half of sample_rate)"
            )));
        }
        filter_bank::validate(self)
    }

    fn numbers(&self) -> [(&'static str, f64); 11] {
        let (below, loudest) = match self.dynamic_range {
            None => (0.0, 0.0),
            Some(DynamicRange { below, loudest: Loudest::Constant(value) }) => (below, value),
            Some(DynamicRange { below, .. }) => (below, 0.0),
        };
        let preemphasis = match self.preemphasis {
            Preemphasis::None => 0.0,
            Preemphasis::Frame(a) | Preemphasis::Clip(a) => a,
        };
        [
            ("input_scale", self.input_scale),
            ("dither", self.dither),
            ("preemphasis", preemphasis),
            ("epsilon", self.epsilon()),
            ("f_min", self.f_min),
            ("f_max", self.f_max),
            ("dynamic_range", below),
            ("loudest", loudest),
            ("scale", self.scale),
            ("offset", self.offset),
            ("energy_floor", self.energy.map_or(0.0, |energy| energy.floor)),
        ]
    }

    fn not_negative(&self) -> [(&'static str, f64); 5] {
        [
            ("f_min", self.f_min),
            ("dither", self.dither),
            ("epsilon", self.epsilon()),
            ("dynamic_range", self.dynamic_range.map_or(0.0, |range| range.below)),
            ("energy_floor", self.energy.map_or(0.0, |energy| energy.floor)),
        ]
    }

    fn epsilon(&self) -> f64 {
        match self.spectrum {
            Spectrum::Power => 0.0,
            Spectrum::Magnitude { epsilon } => epsilon,
        }
    }

    fn validate_guard(&self) -> Result<()> {
        let (Guard::AtLeast(value) | Guard::Plus(value)) = self.guard;
        let least = f64::from(f32::MIN_POSITIVE);
        if matches!(self.log, Log::None) || (value >= least && value <= f64::from(f32::MAX)) {
            return Ok(());
        }
        Err(Error::Value(format!("guard is {value}, expected at least {least:e} so that the logarithm is finite")))
    }
}

fn within(name: &str, value: usize, least: usize, most: usize) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::Value(format!("{name} is {value}, expected {least} to {most}")))
}
