//! The conventions that speech programs use, by name.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

use super::options::{
    DynamicRange, Edge, Energy, Framing, Guard, Layout, Log, Loudest, MelNorm, MelScale, Options, Padding, Preemphasis,
    Spectrum, Window,
};

/// A program whose numbers are reproduced with its default settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `OpenAI` Whisper, 80 mel bands; set `n_mels` to 128 for large-v3 and turbo.
    Whisper,
    /// `librosa.feature.melspectrogram`: power, no logarithm.
    Librosa,
    /// `torchaudio.transforms.MelSpectrogram`: power, no logarithm.
    Torchaudio,
    /// Kaldi's fbank without dither, 23 bands, on samples as they are given. Recipes made for 16-bit numbers want
    /// `input_scale` 32768.
    Kaldi,
    /// NVIDIA `NeMo`'s preprocessor for Parakeet and Canary in inference: 80 bands, normalised per band.
    Nemo,
    /// HiFi-GAN, 22.05 kHz, up to 8 kHz.
    Hifigan,
    /// `BigVGAN`, 24 kHz, 100 bands.
    Bigvgan,
    /// Vocos, 24 kHz, 100 bands.
    Vocos,
}

impl Dialect {
    pub const ALL: [Self; 8] = [
        Self::Whisper,
        Self::Librosa,
        Self::Torchaudio,
        Self::Kaldi,
        Self::Nemo,
        Self::Hifigan,
        Self::Bigvgan,
        Self::Vocos,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Whisper => "whisper",
            Self::Librosa => "librosa",
            Self::Torchaudio => "torchaudio",
            Self::Kaldi => "kaldi",
            Self::Nemo => "nemo",
            Self::Hifigan => "hifigan",
            Self::Bigvgan => "bigvgan",
            Self::Vocos => "vocos",
        }
    }

    pub fn options(self) -> Options {
        let plain = plain();
        match self {
            Self::Whisper => Options {
                drop_last: true,
                mel_scale: MelScale::Slaney,
                mel_norm: MelNorm::Slaney,
                n_mels: 80,
                log: Log::Decimal,
                guard: Guard::AtLeast(1e-10),
                dynamic_range: Some(DynamicRange { below: 8.0, loudest: Loudest::OfClip }),
                scale: 0.25,
                offset: 1.0,
                ..plain
            },
            Self::Librosa => Options {
                sample_rate: 22_050,
                n_fft: 2048,
                win_length: 2048,
                hop_length: 512,
                framing: Framing::Center(Edge::Zero),
                mel_scale: MelScale::Slaney,
                mel_norm: MelNorm::Slaney,
                ..plain
            },
            Self::Torchaudio => Options { hop_length: 200, ..plain },
            Self::Kaldi => Options {
                n_fft: 512,
                window: Window::Povey,
                framing: Framing::Inside,
                remove_dc: true,
                preemphasis: Preemphasis::Frame(0.97),
                mel_scale: MelScale::Kaldi,
                n_mels: 23,
                f_min: 20.0,
                log: Log::Natural,
                guard: Guard::AtLeast(f64::from(f32::EPSILON)),
                layout: Layout::FrameMajor,
                ..plain
            },
            Self::Nemo => Options {
                n_fft: 512,
                window: Window::HannSymmetric,
                framing: Framing::Center(Edge::Zero),
                drop_last: true,
                preemphasis: Preemphasis::Clip(0.97),
                mel_scale: MelScale::Slaney,
                mel_norm: MelNorm::Slaney,
                n_mels: 80,
                log: Log::Natural,
                guard: Guard::Plus(2.0_f64.powi(-24)),
                normalize_bands: true,
                ..plain
            },
            Self::Hifigan => Options { n_mels: 80, sample_rate: 22_050, f_max: 8000.0, ..vocoder(plain) },
            Self::Bigvgan => vocoder(plain),
            Self::Vocos => Options {
                framing: Framing::Center(Edge::Reflect),
                spectrum: Spectrum::Magnitude { epsilon: 0.0 },
                mel_scale: MelScale::Htk,
                mel_norm: MelNorm::None,
                guard: Guard::AtLeast(1e-7),
                ..vocoder(plain)
            },
        }
    }
}

/// Frames of 25 ms, every 10 ms, at 16 kHz; power on 128 HTK bands.
fn plain() -> Options {
    Options {
        sample_rate: 16_000,
        n_fft: 400,
        win_length: 400,
        hop_length: 160,
        window: Window::Hann,
        framing: Framing::Center(Edge::Reflect),
        drop_last: false,
        padding: Padding::None,
        input_scale: 1.0,
        dither: 0.0,
        dither_seed: 0,
        remove_dc: false,
        preemphasis: Preemphasis::None,
        spectrum: Spectrum::Power,
        mel_scale: MelScale::Htk,
        mel_norm: MelNorm::None,
        n_mels: 128,
        f_min: 0.0,
        f_max: 0.0,
        log: Log::None,
        guard: Guard::AtLeast(0.0),
        dynamic_range: None,
        scale: 1.0,
        offset: 0.0,
        normalize_bands: false,
        energy: None,
        layout: Layout::MelMajor,
    }
}

/// What waveform generators learn from: magnitudes of 1024 points, 24 kHz, 100 bands.
fn vocoder(plain: Options) -> Options {
    Options {
        sample_rate: 24_000,
        n_fft: 1024,
        win_length: 1024,
        hop_length: 256,
        framing: Framing::Same,
        spectrum: Spectrum::Magnitude { epsilon: 1e-9 },
        mel_scale: MelScale::Slaney,
        mel_norm: MelNorm::Slaney,
        n_mels: 100,
        log: Log::Natural,
        guard: Guard::AtLeast(1e-5),
        ..plain
    }
}

/// Kaldi's energy column with its usual floor.
impl Default for Energy {
    fn default() -> Self {
        Self { raw: true, floor: 1.0 }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Dialect {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|dialect| dialect.name() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            Error::Value(format!("dialect is {name:?}, expected one of {known}"))
        })
    }
}
