//! A call's convention: of the text, for Rust; as plain numbers, for the formulas in C++.

use std::ffi::{CString, c_char};

use crate::audio::framing::Frames;
use crate::audio::options::{Guard, Layout, Log, Loudest, Options, Padding, Preemphasis, Spectrum};
use crate::audio::window::first_weight;
use crate::{Error, Result};

/// The convention of a call.
pub(super) fn convention(text: &str) -> Result<Options> {
    let options: Options = text.parse().map_err(|error| Error::Value(format!("mel::log_mel: {error}")))?;
    if options.dither != 0.0 {
        return Err(Error::Unsupported(format!(
            "mel::log_mel: dither is {}, expected 0: an operator that draws numbers would not repeat; MelSpectrogram \
             adds the noise to the waveform",
            options.dither
        )));
    }
    Ok(options)
}

/// What the formulas in C++ need of a convention: the twin of `avatorch::Convention` in `mel.h`.
#[repr(C)]
pub(crate) struct Convention {
    pub(super) n_fft: i64,
    pub(super) win_length: i64,
    pub(super) n_mels: i64,
    pub(super) hop_length: i64,
    /// First sample of frame 0, and samples to a frame.
    pub(super) origin: i64,
    pub(super) frame_length: i64,
    /// The sample of a frame at which the window begins.
    pub(super) first_weight: i64,
    /// Beyond the ends: 0 nothing, 1 zeros, 2 reflected, 3 mirrored.
    pub(super) beyond: i64,
    pub(super) drop_last: i64,
    /// 0 none, 1 to, 2 append `padding_length`.
    pub(super) padding: i64,
    pub(super) padding_length: i64,
    pub(super) remove_dc: i64,
    /// 0 none, 1 in each frame, 2 over the clip.
    pub(super) preemphasis: i64,
    /// 0 none, 1 natural, 2 decimal.
    pub(super) log: i64,
    /// 0 at least, 1 plus `guard_value`.
    pub(super) guard: i64,
    /// 0 none, 1 of the clip, 2 of the batch, 3 so far, 4 constant.
    pub(super) loudest: i64,
    pub(super) normalize_bands: i64,
    /// 0 none, 1 before pre-emphasis and window, 2 after.
    pub(super) energy: i64,
    pub(super) frame_major: i64,
    pub(super) input_scale: f64,
    pub(super) preemphasis_coefficient: f64,
    /// Below zero for power.
    pub(super) magnitude_epsilon: f64,
    pub(super) guard_value: f64,
    pub(super) range_below: f64,
    pub(super) range_constant: f64,
    /// Above zero.
    pub(super) energy_floor: f64,
    pub(super) scale: f64,
    pub(super) offset: f64,
}

impl From<&Options> for Convention {
    fn from(options: &Options) -> Self {
        let frames = Frames::new(options);
        let (padding, padding_length) = match options.padding {
            Padding::None => (0, 0),
            Padding::To(length) => (1, length),
            Padding::Append(length) => (2, length),
        };
        let (preemphasis, preemphasis_coefficient) = match options.preemphasis {
            Preemphasis::None => (0, 0.0),
            Preemphasis::Frame(a) => (1, a),
            Preemphasis::Clip(a) => (2, a),
        };
        let (guard, guard_value) = match options.guard {
            Guard::AtLeast(least) => (0, least),
            Guard::Plus(added) => (1, added),
        };
        let (loudest, range_constant) = match options.dynamic_range.map(|range| range.loudest) {
            None => (0, 0.0),
            Some(Loudest::OfClip) => (1, 0.0),
            Some(Loudest::OfBatch) => (2, 0.0),
            Some(Loudest::SoFar) => (3, 0.0),
            Some(Loudest::Constant(value)) => (4, value),
        };
        Self {
            n_fft: options.n_fft as i64,
            win_length: options.win_length as i64,
            n_mels: options.n_mels as i64,
            hop_length: options.hop_length as i64,
            origin: frames.origin as i64,
            frame_length: frames.length as i64,
            first_weight: first_weight(options, frames.length) as i64,
            beyond: frames.beyond as i64,
            drop_last: options.drop_last.into(),
            padding,
            padding_length: padding_length as i64,
            remove_dc: options.remove_dc.into(),
            preemphasis,
            log: match options.log {
                Log::None => 0,
                Log::Natural => 1,
                Log::Decimal => 2,
            },
            guard,
            loudest,
            normalize_bands: options.normalize_bands.into(),
            energy: options.energy.map_or(0, |energy| if energy.raw { 1 } else { 2 }),
            frame_major: (options.layout == Layout::FrameMajor).into(),
            input_scale: options.input_scale,
            preemphasis_coefficient,
            magnitude_epsilon: match options.spectrum {
                Spectrum::Power => -1.0,
                Spectrum::Magnitude { epsilon } => epsilon,
            },
            guard_value,
            range_below: options.dynamic_range.map_or(0.0, |range| range.below),
            range_constant,
            energy_floor: options.energy.unwrap_or_default().least(),
            scale: options.scale,
            offset: options.offset,
        }
    }
}

/// Fills `convention`, or gives the kind of error and its text.
///
/// # Safety
/// `text` has `length` bytes of UTF-8; `convention` and `message` can be written to.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn avatorch_mel_convention(
    text: *const c_char,
    length: usize,
    out: *mut Convention,
    message: *mut *mut c_char,
) -> i32 {
    // SAFETY: the contract above.
    let bytes = unsafe { std::slice::from_raw_parts(if length == 0 { [].as_ptr() } else { text.cast() }, length) };
    match convention(&String::from_utf8_lossy(bytes)) {
        Ok(options) => {
            // SAFETY: as above.
            unsafe { out.write(Convention::from(&options)) };
            0
        }
        Err(error) => {
            let text = CString::new(error.to_string().replace('\0', " "));
            // SAFETY: as above; freed by `avatorch_free_message`.
            unsafe { message.write(text.map_or(std::ptr::null_mut(), CString::into_raw)) };
            error.kind()
        }
    }
}
