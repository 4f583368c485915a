//! A convention as one line of text: a dialect, then what differs from it, such as
//! `whisper n_mels=128 padding=append:480000`.

use std::str::FromStr;

use crate::{Error, Result};

use super::dialect::Dialect;
use super::options::{
    DynamicRange, Edge, Energy, Framing, Guard, Layout, Log, Loudest, MelNorm, MelScale, Options, Padding, Preemphasis,
    Spectrum, Window,
};

const WINDOWS: &[(&str, Window)] = &[
    ("hann", Window::Hann),
    ("hann_symmetric", Window::HannSymmetric),
    ("povey", Window::Povey),
    ("hamming", Window::Hamming),
    ("blackman", Window::Blackman),
    ("rectangular", Window::Rectangular),
];
const FRAMINGS: &[(&str, Framing)] = &[
    ("center_zero", Framing::Center(Edge::Zero)),
    ("center_reflect", Framing::Center(Edge::Reflect)),
    ("same", Framing::Same),
    ("inside", Framing::Inside),
    ("mirrored", Framing::Mirrored),
];
const MEL_SCALES: &[(&str, MelScale)] =
    &[("slaney", MelScale::Slaney), ("htk", MelScale::Htk), ("kaldi", MelScale::Kaldi)];
const MEL_NORMS: &[(&str, MelNorm)] = &[("none", MelNorm::None), ("slaney", MelNorm::Slaney)];
const LOGS: &[(&str, Log)] = &[("none", Log::None), ("natural", Log::Natural), ("decimal", Log::Decimal)];
const LAYOUTS: &[(&str, Layout)] = &[("mel_major", Layout::MelMajor), ("frame_major", Layout::FrameMajor)];
const SWITCH: &[(&str, bool)] = &[("true", true), ("false", false)];

/// The names of all options, as in `Options`.
const NAMES: &str = "sample_rate, n_fft, win_length, hop_length, window, framing, drop_last, padding, input_scale, \
                     dither, dither_seed, remove_dc, preemphasis, spectrum, mel_scale, mel_norm, n_mels, f_min, f_max, \
                     log, guard, dynamic_range, loudest, scale, offset, normalize_bands, energy, energy_floor, layout";

impl FromStr for Options {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut words = text.split_whitespace();
        let dialect: Dialect = words.next().unwrap_or_default().parse()?;
        let mut options = dialect.options();
        // An option of a step that the dialect leaves out waits here until the step is asked for.
        let (mut loudest, mut energy_floor) = (Loudest::OfClip, Energy::default().floor);
        if let Some(range) = options.dynamic_range {
            loudest = range.loudest;
        }
        for word in words {
            let (name, value) = word
                .split_once('=')
                .ok_or_else(|| Error::Value(format!("option {word:?} has no value, expected name=value")))?;
            match name {
                "loudest" => loudest = self::loudest(value)?,
                "energy_floor" => energy_floor = number(name, value)?,
                _ => set(&mut options, name, value)?,
            }
        }
        if let Some(range) = &mut options.dynamic_range {
            range.loudest = loudest;
        }
        if let Some(energy) = &mut options.energy {
            energy.floor = energy_floor;
        }
        options.validate()?;
        Ok(options)
    }
}

fn set(options: &mut Options, name: &str, value: &str) -> Result<()> {
    match name {
        "sample_rate" => options.sample_rate = number(name, value)?,
        "n_fft" => options.n_fft = number(name, value)?,
        "win_length" => options.win_length = number(name, value)?,
        "hop_length" => options.hop_length = number(name, value)?,
        "window" => options.window = one_of(name, value, WINDOWS)?,
        "framing" => options.framing = one_of(name, value, FRAMINGS)?,
        "drop_last" => options.drop_last = one_of(name, value, SWITCH)?,
        "padding" => {
            options.padding = match value.split_once(':') {
                None if value == "none" => Padding::None,
                Some(("to", samples)) => Padding::To(number(name, samples)?),
                Some(("append", samples)) => Padding::Append(number(name, samples)?),
                _ => return Err(unknown(name, value, "none, to:<samples>, append:<samples>")),
            }
        }
        "input_scale" => options.input_scale = number(name, value)?,
        "dither" => options.dither = number(name, value)?,
        "dither_seed" => options.dither_seed = number(name, value)?,
        "remove_dc" => options.remove_dc = one_of(name, value, SWITCH)?,
        "preemphasis" => {
            options.preemphasis = match value.split_once(':') {
                None if value == "none" => Preemphasis::None,
                Some(("frame", coefficient)) => Preemphasis::Frame(number(name, coefficient)?),
                Some(("clip", coefficient)) => Preemphasis::Clip(number(name, coefficient)?),
                _ => return Err(unknown(name, value, "none, frame:<coefficient>, clip:<coefficient>")),
            }
        }
        "spectrum" => {
            options.spectrum = match value.split_once(':') {
                None if value == "power" => Spectrum::Power,
                None if value == "magnitude" => Spectrum::Magnitude { epsilon: 0.0 },
                Some(("magnitude", epsilon)) => Spectrum::Magnitude { epsilon: number(name, epsilon)? },
                _ => return Err(unknown(name, value, "power, magnitude, magnitude:<epsilon>")),
            }
        }
        "mel_scale" => options.mel_scale = one_of(name, value, MEL_SCALES)?,
        "mel_norm" => options.mel_norm = one_of(name, value, MEL_NORMS)?,
        "n_mels" => options.n_mels = number(name, value)?,
        "f_min" => options.f_min = number(name, value)?,
        "f_max" => options.f_max = number(name, value)?,
        "log" => options.log = one_of(name, value, LOGS)?,
        "guard" => {
            options.guard = match value.split_once(':') {
                Some(("at_least", least)) => Guard::AtLeast(number(name, least)?),
                Some(("plus", added)) => Guard::Plus(number(name, added)?),
                _ => return Err(unknown(name, value, "at_least:<value>, plus:<value>")),
            }
        }
        "dynamic_range" => {
            options.dynamic_range = match value {
                "none" => None,
                _ => Some(DynamicRange { below: number(name, value)?, loudest: Loudest::OfClip }),
            }
        }
        "scale" => options.scale = number(name, value)?,
        "offset" => options.offset = number(name, value)?,
        "normalize_bands" => options.normalize_bands = one_of(name, value, SWITCH)?,
        "energy" => {
            options.energy = match value {
                "none" => None,
                "raw" => Some(Energy { raw: true, ..Energy::default() }),
                "windowed" => Some(Energy { raw: false, ..Energy::default() }),
                _ => return Err(unknown(name, value, "none, raw, windowed")),
            }
        }
        "layout" => options.layout = one_of(name, value, LAYOUTS)?,
        _ => return Err(Error::Value(format!("there is no option {name:?}, expected one of {NAMES}"))),
    }
    Ok(())
}

fn loudest(value: &str) -> Result<Loudest> {
    match value {
        "clip" => Ok(Loudest::OfClip),
        "batch" => Ok(Loudest::OfBatch),
        "so_far" => Ok(Loudest::SoFar),
        _ => value
            .parse()
            .map(Loudest::Constant)
            .map_err(|_| unknown("loudest", value, "clip, batch, so_far, or a number")),
    }
}

fn number<T: FromStr>(name: &str, value: &str) -> Result<T> {
    value.parse().map_err(|_| unknown(name, value, "a number in its range"))
}

fn one_of<T: Copy>(name: &str, value: &str, known: &[(&str, T)]) -> Result<T> {
    let found = known.iter().find(|(word, _)| *word == value);
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
        unknown(name, value, &words.join(", "))
    })
}

fn unknown(name: &str, value: &str, expected: &str) -> Error {
    Error::Value(format!("{name} is {value:?}, expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_dialect_and_what_differs() -> Result<()> {
        assert_eq!("whisper".parse::<Options>()?, Dialect::Whisper.options());
        let changed: Options = "whisper n_mels=128 padding=append:480000 loudest=batch".parse()?;
        let expected = Options {
            n_mels: 128,
            padding: Padding::Append(480_000),
            dynamic_range: Some(DynamicRange { below: 8.0, loudest: Loudest::OfBatch }),
            ..Dialect::Whisper.options()
        };
        assert_eq!(changed, expected);
        let energy: Options = "kaldi energy_floor=0.5 energy=windowed preemphasis=none loudest=1.5".parse()?;
        assert_eq!(energy.energy, Some(Energy { raw: false, floor: 0.5 }));
        assert_eq!((energy.preemphasis, energy.dynamic_range), (Preemphasis::None, None));
        Ok(())
    }

    #[test]
    fn what_makes_no_sense_is_a_sentence() {
        for (text, part) in [
            ("", "dialect is \"\", expected one of whisper, librosa"),
            ("whisper n_mels", "option \"n_mels\" has no value, expected name=value"),
            ("whisper mels=80", "there is no option \"mels\", expected one of sample_rate"),
            ("whisper n_mels=-1", "n_mels is \"-1\", expected a number"),
            ("whisper window=hanning", "window is \"hanning\", expected hann, hann_symmetric"),
            ("whisper padding=480000", "padding is \"480000\", expected none, to:<samples>"),
            ("whisper n_mels=0", "n_mels is 0, expected 1 to 4096"),
            ("whisper energy=raw", "there is an energy and a dynamic_range of 8, expected one of them"),
            ("whisper f_max=9000", "expected 0 <= f_min < f_max <= 8000 Hz"),
        ] {
            let error = text.parse::<Options>().map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
