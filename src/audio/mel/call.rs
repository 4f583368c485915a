//! The arguments of a call, checked, and where each clip lies in them.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::convention::convention;
use super::prepared::Prepared;
use crate::audio::filter_bank::Filter;
use crate::audio::options::{Layout, Options};
use crate::torch::Arguments;
use crate::torch::parallel::{elements, int64s};
use crate::{Error, Result};

pub(super) struct Call {
    text: String,
    pub(super) waveform: Tensor,        // [clip, sample]
    pub(super) window: Tensor,          // [win_length], float64
    pub(super) filters: Tensor,         // [n_mels, bin], float64
    pub(super) bands: Tensor,           // [n_mels, 2]
    pub(super) lengths: Option<Tensor>, // [clip]
    pub(super) shape: Vec<i64>,         // of the values
    pub(super) clips: Clips,
}

impl Call {
    /// The waveform is argument `at`; its tables and lengths follow.
    pub(super) fn new(args: &Arguments, at: usize) -> Result<Self> {
        let options = convention(args.text())?;
        let (n_mels, n_bins) = (options.n_mels as i64, options.n_fft as i64 / 2 + 1);
        let waveform = args.tensor(at, "waveform")?.real()?;
        let window =
            args.tensor(at + 1, "window")?.real()?.same_device(waveform)?.shape(&[options.win_length as i64])?;
        let filters = args.tensor(at + 2, "filters")?.real()?.same_device(waveform)?.shape(&[n_mels, n_bins])?;
        let bands = args.tensor(at + 3, "bands")?.int64()?.same_device(waveform)?.shape(&[n_mels, 2])?;
        let size = waveform.tensor.size();
        let (&length, leading) = size
            .split_last()
            .ok_or_else(|| Error::Value("mel::log_mel: waveform has shape [], expected [..., samples]".into()))?;
        let lengths = match args.optional(at + 4, "lengths") {
            Some(lengths) => Some(lengths.int64()?.same_device(waveform)?.shape(leading)?.contiguous()?),
            None => None,
        };
        let clips = Clips {
            count: leading.iter().product::<i64>() as usize,
            length: length as usize,
            lengths: match &lengths {
                Some(lengths) if lengths.device() == Device::Cpu => Some(int64s(lengths).to_vec()),
                _ => None,
            },
            n_frames: options.n_frames(length as usize).map_err(named)?,
            options,
        };
        clips.check()?;
        let double = |tensor: Tensor| tensor.f_to_kind(Kind::Double);
        Ok(Self {
            text: args.text().into(),
            waveform: waveform.contiguous()?,
            window: double(window.contiguous()?)?,
            filters: double(filters.contiguous()?)?,
            bands: bands.contiguous()?,
            lengths,
            shape: [leading, &clips.shape()].concat(),
            clips,
        })
    }

    /// The plans for these tables, on the CPU.
    pub(super) fn prepared(&self) -> Result<Arc<Prepared>> {
        let n_bins = self.clips.options.n_fft / 2 + 1;
        let rows = elements::<f64>(&self.filters).chunks_exact(n_bins).zip(int64s(&self.bands).as_chunks::<2>().0);
        let filters = rows.enumerate().map(|(mel, (row, &[first, end]))| {
            if !(0 <= first && first <= end && end as usize <= n_bins) {
                return Err(Error::Value(format!(
                    "mel::log_mel: bands[{mel}] is [{first}, {end}], expected 0 <= first <= end <= {n_bins}"
                )));
            }
            Ok(Filter { first: first as usize, weights: row[first as usize..end as usize].to_vec() })
        });
        Ok(Prepared::of(&self.text, self.clips.options, elements(&self.window), filters.collect::<Result<_>>()?))
    }
}

/// Clips of one length, of which each may use a part, and their frames.
pub(super) struct Clips {
    pub(super) options: Options,
    pub(super) count: usize,
    pub(super) length: usize,
    pub(super) n_frames: usize,
    /// The samples that count, where they were given on the CPU.
    lengths: Option<Vec<i64>>,
}

impl Clips {
    fn shape(&self) -> [i64; 2] {
        let (features, frames) = (self.options.n_features() as i64, self.n_frames as i64);
        match self.options.layout {
            Layout::MelMajor => [features, frames],
            Layout::FrameMajor => [frames, features],
        }
    }

    /// Values of a clip.
    pub(super) fn row(&self) -> usize {
        self.options.n_features() * self.n_frames
    }

    fn check(&self) -> Result<()> {
        for (clip, &length) in self.lengths.iter().flatten().enumerate() {
            if !(0..=self.length as i64).contains(&length) {
                let most = self.length;
                return Err(Error::Value(format!(
                    "mel::log_mel: lengths[{clip}] is {length}, expected 0 to {most}, the samples of waveform"
                )));
            }
            if length > 0 {
                let named = |error| Error::Value(format!("mel::log_mel: clip {clip}: {error}"));
                self.options.n_frames(length as usize).map_err(named)?;
            }
        }
        Ok(())
    }

    pub(super) fn samples<'a, T>(&self, all: &'a [T], clip: usize) -> &'a [T] {
        let length = self.lengths.as_ref().map_or(self.length, |lengths| lengths[clip] as usize);
        &all[clip * self.length..][..length]
    }

    /// A clip's own frames; one of length zero has none.
    pub(super) fn frames_of(&self, clip: usize) -> usize {
        match self.lengths.as_ref().map(|lengths| lengths[clip]) {
            None => self.n_frames,
            Some(0) => 0,
            Some(length) => self.options.n_frames(length as usize).expect("checked").min(self.n_frames),
        }
    }

    /// A clip's own frames out of the room that every clip has.
    pub(super) fn gathered<T: Copy>(&self, values: &[T], n_frames: usize) -> Vec<T> {
        match self.options.layout {
            Layout::FrameMajor => values[..n_frames * self.options.n_features()].to_vec(),
            Layout::MelMajor => {
                values.chunks_exact(self.n_frames).flat_map(|band| &band[..n_frames]).copied().collect()
            }
        }
    }

    /// The reverse.
    pub(super) fn scatter<T: Copy>(&self, own: &[T], values: &mut [T], n_frames: usize) {
        match self.options.layout {
            Layout::FrameMajor => values[..own.len()].copy_from_slice(own),
            Layout::MelMajor => {
                for (band, own) in values.chunks_exact_mut(self.n_frames).zip(own.chunks_exact(n_frames.max(1))) {
                    band[..n_frames].copy_from_slice(own);
                }
            }
        }
    }
}

/// An error of the plan as one of the operator.
pub(super) fn named(error: Error) -> Error {
    match error {
        Error::Value(text) => Error::Value(format!("mel::log_mel: {text}")),
        other => other,
    }
}
