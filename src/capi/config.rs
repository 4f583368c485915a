//! The configuration of `include/avatorch_mel.h`: every option of a convention as a number.

use std::ffi::c_char;

use crate::audio::{
    Dialect, DynamicRange, Edge, Energy, Framing, Guard, Layout, Level, Log, Loudest, MelNorm, MelScale, Options,
    Padding, Preemphasis, Spectrum, Window,
};

use super::arguments::{put, slice, slice_mut, text};
use super::failure::{AvatorchStatus, Failure, border};

/// One convention. Fill it with `avatorch_mel_config_init`, then change fields.
///
/// Later versions only add fields at the end. `size` says how many bytes the caller knows, so that programs and libraries
/// of different versions understand each other.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct AvatorchMelConfig {
    /// Bytes of this structure, `sizeof(AvatorchMelConfig)`.
    pub size: u32,
    /// Hz.
    pub sample_rate: i32,
    /// Points of the Fourier transform.
    pub n_fft: i32,
    /// Samples under the window, at most `n_fft`.
    pub win_length: i32,
    /// Samples from one frame to the next.
    pub hop_length: i32,
    pub n_mels: i32,
    /// 0 Hann, 1 symmetric Hann, 2 Povey, 3 Hamming, 4 Blackman, 5 rectangular.
    pub window: i32,
    /// 0 centred with zeros beyond the ends, 1 centred with reflection, 2 as many frames as hops with reflection,
    /// 3 only frames that lie inside, 4 a frame per hop with mirrored ends.
    pub framing: i32,
    /// Not 0: leave out the last frame.
    pub drop_last: i32,
    /// What happens to the clip's length first: 0 nothing, 1 cut or fill with zeros to `padding_length`, 2 append
    /// `padding_length` zeros.
    pub padding: i32,
    pub padding_length: u64,
    /// Multiplies every sample; integers are first scaled to [-1, 1).
    pub input_scale: f64,
    /// Standard deviation of the noise added to every sample, and what chooses it.
    pub dither: f64,
    pub dither_seed: u64,
    /// Not 0: subtract each frame's mean.
    pub remove_dc: i32,
    /// 0 none, 1 inside each frame, 2 over the whole clip.
    pub preemphasis: i32,
    pub preemphasis_coefficient: f64,
    /// 0 power, 1 magnitude.
    pub spectrum: i32,
    /// 0 Slaney, 1 HTK, 2 Kaldi.
    pub mel_scale: i32,
    /// Added to the power before its root.
    pub magnitude_epsilon: f64,
    /// 0 none, 1 Slaney.
    pub mel_norm: i32,
    /// 0 none, 1 natural, 2 decimal.
    pub log: i32,
    /// Hz; `f_max` of zero or less counts from half of `sample_rate`.
    pub f_min: f64,
    pub f_max: f64,
    /// What keeps the logarithm away from zero: 0 smaller values become `guard_value`, 1 it is added.
    pub guard: i32,
    /// Raise values further than `range_below` under the loudest: 0 no, 1 of the clip, 2 of the batch, 3 so far,
    /// 4 `range_loudest`.
    pub range: i32,
    pub guard_value: f64,
    pub range_below: f64,
    pub range_loudest: f64,
    /// Every value becomes `scale * value + offset` at the end.
    pub scale: f64,
    pub offset: f64,
    /// Not 0: give every band zero mean and unit deviation over the clip.
    pub normalize_bands: i32,
    /// Put each frame's log energy before its bands: 0 no, 1 measured before pre-emphasis and window, 2 after.
    pub energy: i32,
    /// Smaller energies become this.
    pub energy_floor: f64,
    /// 0 `[mel][frame]`, 1 `[frame][mel]`.
    pub layout: i32,
    /// Instructions: 0 the best there are, 1 baseline, 2 NEON, 3 AVX2, 4 AVX-512.
    pub simd: i32,
}

/// The size of the first version, which no caller can be below.
const LEAST_SIZE: usize = size_of::<AvatorchMelConfig>();
/// No later version comes near it.
const MOST_SIZE: usize = 4096;

/// Fills `config`, of which the caller knows `size` bytes, with a convention by name: "whisper", "librosa", "torchaudio",
/// "kaldi", "nemo", "hifigan", "bigvgan" or "vocos". Fields that this version does not know become zero.
///
/// # Safety
/// `config` is NULL or `size` bytes that may be written; `dialect` is NULL or ends with a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn avatorch_mel_config_init(
    config: *mut AvatorchMelConfig,
    size: usize,
    dialect: *const c_char,
) -> AvatorchStatus {
    border(|| {
        check_size(size)?;
        // SAFETY: the caller's promise.
        let options = unsafe { text("dialect", dialect)? }.parse::<Dialect>()?.options();
        let known = AvatorchMelConfig { size: size as u32, ..AvatorchMelConfig::from(&options) };
        // SAFETY: the caller's promise, and the size is enough.
        unsafe {
            slice_mut("config", config.cast::<u8>(), size)?[LEAST_SIZE..].fill(0);
            put("config", config, known)
        }
    })
}

/// Whether a plan can be made of it; if not, `avatorch_mel_last_error` names the field.
///
/// # Safety
/// `config` is NULL or as large as its `size` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn avatorch_mel_config_validate(config: *const AvatorchMelConfig) -> AvatorchStatus {
    border(|| {
        // SAFETY: the caller's promise.
        let (options, level) = unsafe { read(config)? };
        options.validate()?;
        level.require()?;
        Ok(())
    })
}

/// # Safety
/// `config` is NULL or as large as its `size` says.
pub(super) unsafe fn read(config: *const AvatorchMelConfig) -> Result<(Options, Level), Failure> {
    // SAFETY: the caller's promise; the size alone is read before it is checked.
    let size = unsafe { slice("config", config.cast::<u32>(), 1)? }[0] as usize;
    check_size(size)?;
    // SAFETY: the caller's promise, and the size is enough.
    let (known, bytes) = unsafe { (slice("config", config, 1)?, slice("config", config.cast::<u8>(), size)?) };
    if bytes[LEAST_SIZE..].iter().any(|&byte| byte != 0) {
        return Err(Failure::input(format!(
            "config has {size} bytes and sets fields that this version, with {LEAST_SIZE} bytes, does not know"
        )));
    }
    Ok((options(&known[0])?, level(known[0].simd)?))
}

fn check_size(size: usize) -> Result<(), Failure> {
    if (LEAST_SIZE..=MOST_SIZE).contains(&size) {
        return Ok(());
    }
    Err(Failure::input(format!("the size of config is {size} bytes, expected {LEAST_SIZE} to {MOST_SIZE}")))
}

fn level(simd: i32) -> Result<Level, Failure> {
    Ok(match choice("simd", simd, 5)? {
        0 => Level::best(),
        number => Level::ALL[number - 1],
    })
}

const WINDOWS: [Window; 6] =
    [Window::Hann, Window::HannSymmetric, Window::Povey, Window::Hamming, Window::Blackman, Window::Rectangular];
const FRAMINGS: [Framing; 5] =
    [Framing::Center(Edge::Zero), Framing::Center(Edge::Reflect), Framing::Same, Framing::Inside, Framing::Mirrored];
const MEL_SCALES: [MelScale; 3] = [MelScale::Slaney, MelScale::Htk, MelScale::Kaldi];
const MEL_NORMS: [MelNorm; 2] = [MelNorm::None, MelNorm::Slaney];
const LOGS: [Log; 3] = [Log::None, Log::Natural, Log::Decimal];
const LAYOUTS: [Layout; 2] = [Layout::MelMajor, Layout::FrameMajor];

fn options(config: &AvatorchMelConfig) -> Result<Options, Failure> {
    let padding_length = usize::try_from(config.padding_length).unwrap_or(usize::MAX);
    Ok(Options {
        sample_rate: count("sample_rate", config.sample_rate)? as u32,
        n_fft: count("n_fft", config.n_fft)?,
        win_length: count("win_length", config.win_length)?,
        hop_length: count("hop_length", config.hop_length)?,
        window: WINDOWS[choice("window", config.window, WINDOWS.len())?],
        framing: FRAMINGS[choice("framing", config.framing, FRAMINGS.len())?],
        drop_last: config.drop_last != 0,
        padding: match choice("padding", config.padding, 3)? {
            0 => Padding::None,
            1 => Padding::To(padding_length),
            _ => Padding::Append(padding_length),
        },
        input_scale: config.input_scale,
        dither: config.dither,
        dither_seed: config.dither_seed,
        remove_dc: config.remove_dc != 0,
        preemphasis: match choice("preemphasis", config.preemphasis, 3)? {
            0 => Preemphasis::None,
            1 => Preemphasis::Frame(config.preemphasis_coefficient),
            _ => Preemphasis::Clip(config.preemphasis_coefficient),
        },
        spectrum: match choice("spectrum", config.spectrum, 2)? {
            0 => Spectrum::Power,
            _ => Spectrum::Magnitude { epsilon: config.magnitude_epsilon },
        },
        mel_scale: MEL_SCALES[choice("mel_scale", config.mel_scale, MEL_SCALES.len())?],
        mel_norm: MEL_NORMS[choice("mel_norm", config.mel_norm, MEL_NORMS.len())?],
        n_mels: count("n_mels", config.n_mels)?,
        f_min: config.f_min,
        f_max: config.f_max,
        log: LOGS[choice("log", config.log, LOGS.len())?],
        guard: match choice("guard", config.guard, 2)? {
            0 => Guard::AtLeast(config.guard_value),
            _ => Guard::Plus(config.guard_value),
        },
        dynamic_range: match choice("range", config.range, 5)? {
            0 => None,
            number => Some(DynamicRange {
                below: config.range_below,
                loudest: match number {
                    1 => Loudest::OfClip,
                    2 => Loudest::OfBatch,
                    3 => Loudest::SoFar,
                    _ => Loudest::Constant(config.range_loudest),
                },
            }),
        },
        scale: config.scale,
        offset: config.offset,
        normalize_bands: config.normalize_bands != 0,
        energy: match choice("energy", config.energy, 3)? {
            0 => None,
            number => Some(Energy { raw: number == 1, floor: config.energy_floor }),
        },
        layout: LAYOUTS[choice("layout", config.layout, LAYOUTS.len())?],
    })
}

fn count(name: &str, value: i32) -> Result<usize, Failure> {
    usize::try_from(value).map_err(|_| Failure::input(format!("{name} is {value}, expected a positive number")))
}

fn choice(name: &str, value: i32, choices: usize) -> Result<usize, Failure> {
    let found = usize::try_from(value).ok().filter(|&value| value < choices);
    found.ok_or_else(|| Failure::input(format!("{name} is {value}, expected 0 to {}", choices - 1)))
}

/// The number of `value` among `choices`.
fn number<T: PartialEq>(choices: &[T], value: &T) -> i32 {
    choices.iter().position(|choice| choice == value).expect("every value has a number") as i32
}

impl From<&Options> for AvatorchMelConfig {
    fn from(options: &Options) -> Self {
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
        let (spectrum, magnitude_epsilon) = match options.spectrum {
            Spectrum::Power => (0, 0.0),
            Spectrum::Magnitude { epsilon } => (1, epsilon),
        };
        let (guard, guard_value) = match options.guard {
            Guard::AtLeast(value) => (0, value),
            Guard::Plus(value) => (1, value),
        };
        let (range, range_below, range_loudest) = match options.dynamic_range {
            None => (0, 0.0, 0.0),
            Some(DynamicRange { below, loudest }) => match loudest {
                Loudest::OfClip => (1, below, 0.0),
                Loudest::OfBatch => (2, below, 0.0),
                Loudest::SoFar => (3, below, 0.0),
                Loudest::Constant(value) => (4, below, value),
            },
        };
        let (energy, energy_floor) = match options.energy {
            None => (0, Energy::default().floor),
            Some(Energy { raw, floor }) => (if raw { 1 } else { 2 }, floor),
        };
        Self {
            size: size_of::<Self>() as u32,
            sample_rate: options.sample_rate as i32,
            n_fft: options.n_fft as i32,
            win_length: options.win_length as i32,
            hop_length: options.hop_length as i32,
            n_mels: options.n_mels as i32,
            window: number(&WINDOWS, &options.window),
            framing: number(&FRAMINGS, &options.framing),
            drop_last: options.drop_last.into(),
            padding,
            padding_length: padding_length as u64,
            input_scale: options.input_scale,
            dither: options.dither,
            dither_seed: options.dither_seed,
            remove_dc: options.remove_dc.into(),
            preemphasis,
            preemphasis_coefficient,
            spectrum,
            mel_scale: number(&MEL_SCALES, &options.mel_scale),
            magnitude_epsilon,
            mel_norm: number(&MEL_NORMS, &options.mel_norm),
            log: number(&LOGS, &options.log),
            f_min: options.f_min,
            f_max: options.f_max,
            guard,
            range,
            guard_value,
            range_below,
            range_loudest,
            scale: options.scale,
            offset: options.offset,
            normalize_bands: options.normalize_bands.into(),
            energy,
            energy_floor,
            layout: number(&LAYOUTS, &options.layout),
            simd: 0,
        }
    }
}
