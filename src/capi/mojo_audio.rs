//! The interface of `include/mojo_audio.h`: Whisper's log mel in ten functions.

use std::cell::RefCell;
use std::ffi::c_char;

use crate::audio::{Dialect, Options, Plan, Workspace};

use super::arguments::{put, put_if_wanted, slice, slice_mut};
use super::array::Array;
use super::failure::{AvatorchStatus, Failure, border, border_or, last_error};
use super::handle::Handles;

pub const MOJO_AUDIO_VERSION_MAJOR: i32 = 0;
pub const MOJO_AUDIO_VERSION_MINOR: i32 = 1;
pub const MOJO_AUDIO_VERSION_PATCH: i32 = 0;

const _: () = {
    assert!(is_number(env!("CARGO_PKG_VERSION_MAJOR"), MOJO_AUDIO_VERSION_MAJOR));
    assert!(is_number(env!("CARGO_PKG_VERSION_MINOR"), MOJO_AUDIO_VERSION_MINOR));
    assert!(is_number(env!("CARGO_PKG_VERSION_PATCH"), MOJO_AUDIO_VERSION_PATCH));
};

const fn is_number(text: &str, number: i32) -> bool {
    matches!(i32::from_str_radix(text, 10), Ok(value) if value == number)
}

/// What a call came to.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum MojoAudioStatus {
    MOJO_AUDIO_SUCCESS = 0,
    /// An argument is NULL or out of range, or a handle is not alive.
    MOJO_AUDIO_ERROR_INVALID_INPUT = -1,
    /// Memory for the result could not be had.
    MOJO_AUDIO_ERROR_ALLOCATION = -2,
    /// Something outside the caller's hands failed.
    MOJO_AUDIO_ERROR_PROCESSING = -3,
    /// The caller's buffer is too small.
    MOJO_AUDIO_ERROR_BUFFER_SIZE = -4,
}

impl From<AvatorchStatus> for MojoAudioStatus {
    fn from(status: AvatorchStatus) -> Self {
        match status {
            AvatorchStatus::AVATORCH_OK => Self::MOJO_AUDIO_SUCCESS,
            AvatorchStatus::AVATORCH_INVALID_INPUT | AvatorchStatus::AVATORCH_INVALID_HANDLE => {
                Self::MOJO_AUDIO_ERROR_INVALID_INPUT
            }
            AvatorchStatus::AVATORCH_ALLOCATION => Self::MOJO_AUDIO_ERROR_ALLOCATION,
            AvatorchStatus::AVATORCH_PROCESSING | AvatorchStatus::AVATORCH_BUSY => Self::MOJO_AUDIO_ERROR_PROCESSING,
            AvatorchStatus::AVATORCH_BUFFER_SIZE => Self::MOJO_AUDIO_ERROR_BUFFER_SIZE,
        }
    }
}

/// How to compute: rates in Hz, lengths in samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct MojoMelConfig {
    pub sample_rate: i32,
    pub n_fft: i32,
    pub hop_length: i32,
    pub n_mels: i32,
}

/// A log-mel spectrogram, row-major `[n_mels][n_frames]`.
pub struct MojoMelSpectrogram {
    _opaque: [u8; 0],
}

pub(super) static SPECTROGRAMS: Handles<Array> = Handles::new(8, "spectrogram");

thread_local! {
    /// The thread's last configuration, made ready.
    static LAST_PLAN: RefCell<Option<(MojoMelConfig, Plan, Workspace)>> = const { RefCell::new(None) };
}

/// The version of the library; compare it with the header's `MOJO_AUDIO_VERSION_*`. NULL is fine.
///
/// # Safety
/// Each pointer is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mojo_audio_version(major: *mut i32, minor: *mut i32, patch: *mut i32) {
    border(|| {
        // SAFETY: the caller's promise.
        unsafe {
            put_if_wanted("major", major, MOJO_AUDIO_VERSION_MAJOR)?;
            put_if_wanted("minor", minor, MOJO_AUDIO_VERSION_MINOR)?;
            put_if_wanted("patch", patch, MOJO_AUDIO_VERSION_PATCH)
        }
    });
}

/// The sentence of this thread's last failure, empty before the first. Never NULL; valid until the thread's next failure.
#[unsafe(no_mangle)]
pub extern "C" fn mojo_audio_last_error() -> *const c_char {
    last_error()
}

/// Whisper's: 16 kHz, 400, 160, 80.
#[unsafe(no_mangle)]
pub extern "C" fn mojo_mel_config_default() -> MojoMelConfig {
    MojoMelConfig { sample_rate: 16_000, n_fft: 400, hop_length: 160, n_mels: 80 }
}

/// Whether `mojo_mel_spectrogram_compute` accepts the configuration; if not, `mojo_audio_last_error` names the field.
///
/// # Safety
/// `config` is NULL or points to a configuration.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mojo_mel_config_validate(config: *const MojoMelConfig) -> MojoAudioStatus {
    // SAFETY: the caller's promise.
    border(|| options(unsafe { read(config)? })?.validate().map_err(Into::into)).into()
}

/// Whisper's log mel of `num_samples` at `config->sample_rate`. At least `n_fft / 2 + 1` samples. Free the result with
/// `mojo_mel_spectrogram_free`. Any number of threads may compute at once. A sample that is NaN or infinite makes the
/// whole result NaN, and no other.
///
/// # Safety
/// `audio_samples` is NULL or holds `num_samples` floats; `config` is NULL or points to a configuration; `out_result` is
/// NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mojo_mel_spectrogram_compute(
    audio_samples: *const f32,
    num_samples: usize,
    config: *const MojoMelConfig,
    out_result: *mut *mut MojoMelSpectrogram,
) -> MojoAudioStatus {
    border(|| {
        // SAFETY: the caller's promise.
        unsafe {
            put("out_result", out_result, std::ptr::null_mut())?;
            let samples = slice("audio_samples", audio_samples, num_samples)?;
            let config = read(config)?;
            // While the thread ends, its last plan may be gone already.
            let array = LAST_PLAN
                .try_with(|last| compute(samples, config, &mut last.borrow_mut()))
                .unwrap_or_else(|_| compute(samples, config, &mut None))?;
            put("out_result", out_result, SPECTROGRAMS.insert(array)?)
        }
    })
    .into()
}

fn compute(
    samples: &[f32],
    config: MojoMelConfig,
    last: &mut Option<(MojoMelConfig, Plan, Workspace)>,
) -> Result<Array, Failure> {
    if last.as_ref().is_none_or(|(made_for, ..)| *made_for != config) {
        let plan = Plan::new(options(config)?)?;
        let workspace = plan.workspace();
        *last = Some((config, plan, workspace));
    }
    let (_, plan, workspace) = last.as_mut().expect("made above");
    let (n_mels, n_frames) = plan.shape(samples.len())?;
    let mut array = Array::zeros(n_mels, n_frames)?;
    plan.compute(samples, array.values_mut(), workspace)?;
    Ok(array)
}

/// Rows and columns of the result; 0 and 0 for a handle that is not alive. NULL is fine.
///
/// # Safety
/// Each pointer to a size is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mojo_mel_spectrogram_get_shape(
    mel: *const MojoMelSpectrogram,
    out_n_mels: *mut usize,
    out_n_frames: *mut usize,
) {
    let (_, (rows, columns)) = border_or((0, 0), || SPECTROGRAMS.get(mel).map(|array| (array.rows, array.columns)));
    border(|| {
        // SAFETY: the caller's promise.
        unsafe {
            put_if_wanted("out_n_mels", out_n_mels, rows)?;
            put_if_wanted("out_n_frames", out_n_frames, columns)
        }
    });
}

/// Floats of the result; 0 for a handle that is not alive.
#[unsafe(no_mangle)]
pub extern "C" fn mojo_mel_spectrogram_get_size(mel: *const MojoMelSpectrogram) -> usize {
    border_or(0, || SPECTROGRAMS.get(mel).map(|array| array.len())).1
}

/// Copies the result to `out_buffer`, which has room for `buffer_size` floats.
///
/// # Safety
/// `out_buffer` is NULL or has that room.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mojo_mel_spectrogram_get_data(
    mel: *const MojoMelSpectrogram,
    out_buffer: *mut f32,
    buffer_size: usize,
) -> MojoAudioStatus {
    border(|| {
        let array = SPECTROGRAMS.get(mel)?;
        if buffer_size < array.len() {
            let text = format!("out_buffer has room for {buffer_size} floats, expected {}", array.len());
            return Err(Failure::new(AvatorchStatus::AVATORCH_BUFFER_SIZE, text));
        }
        // SAFETY: the caller's promise.
        unsafe { slice_mut("out_buffer", out_buffer, array.len())? }.copy_from_slice(array.values());
        Ok(())
    })
    .into()
}

/// The result in place: read only, aligned to 64 bytes, valid until `mojo_mel_spectrogram_free`. NULL for a handle that
/// is not alive.
#[unsafe(no_mangle)]
pub extern "C" fn mojo_mel_spectrogram_get_data_ptr(mel: *const MojoMelSpectrogram) -> *const f32 {
    border_or(std::ptr::null(), || SPECTROGRAMS.get(mel).map(|array| array.values().as_ptr())).1
}

/// Frees a result. NULL is fine; a result that was freed before is left alone, and `mojo_audio_last_error` says so.
#[unsafe(no_mangle)]
pub extern "C" fn mojo_mel_spectrogram_free(mel: *mut MojoMelSpectrogram) {
    border(|| SPECTROGRAMS.remove(mel));
}

/// # Safety
/// `config` is NULL or points to a configuration.
unsafe fn read(config: *const MojoMelConfig) -> Result<MojoMelConfig, Failure> {
    // SAFETY: the caller's promise.
    let config = unsafe { slice("config", config, 1)? };
    Ok(config[0])
}

fn options(config: MojoMelConfig) -> Result<Options, Failure> {
    let positive = |name: &str, value: i32| {
        usize::try_from(value).map_err(|_| Failure::input(format!("{name} is {value}, expected a positive number")))
    };
    let n_fft = positive("n_fft", config.n_fft)?;
    Ok(Options {
        sample_rate: positive("sample_rate", config.sample_rate)? as u32,
        n_fft,
        win_length: n_fft,
        hop_length: positive("hop_length", config.hop_length)?,
        n_mels: positive("n_mels", config.n_mels)?,
        ..Dialect::Whisper.options()
    })
}
