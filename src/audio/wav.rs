//! WAV files: 8 to 32-bit integers and 32-bit floats.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use hound::{SampleFormat, WavReader};

use crate::{Error, Result};

/// Sound from a file, in [-1, 1) where the file holds integers.
#[derive(Clone, Debug, PartialEq)]
pub struct Audio {
    pub samples: Vec<f32>, // [frame, channel]
    pub n_channels: usize,
    /// Hz.
    pub sample_rate: u32,
}

impl Audio {
    /// The mean of all channels.
    pub fn mono(&self) -> Vec<f32> {
        let scale = 1.0 / self.n_channels as f32;
        self.samples.chunks_exact(self.n_channels).map(|frame| frame.iter().sum::<f32>() * scale).collect()
    }
}

/// Reads a file. What is wrong with it is said in a sentence that names it, and costs no more memory than the file has
/// bytes, four times over.
pub fn load_wav(path: &Path) -> Result<Audio> {
    let file = File::open(path).map_err(|cause| Error::File(path.into(), cause))?;
    let size = file.metadata().map_err(|cause| Error::File(path.into(), cause))?.len();
    read_wav(BufReader::new(file), size, &path.display().to_string())
}

/// As `load_wav`, from `size` bytes that are called `name` in errors.
pub fn read_wav(bytes: impl Read, size: u64, name: &str) -> Result<Audio> {
    let refused = |text: String| Error::Value(format!("{name}: {text}"));
    let mut reader = WavReader::new(bytes).map_err(|cause| refused(format!("not a WAV file: {cause}")))?;
    let spec = reader.spec();
    let (declared, width) = (u64::from(reader.len()), u64::from(spec.bits_per_sample.div_ceil(8)));
    if spec.channels == 0 || spec.sample_rate == 0 {
        return Err(refused(format!(
            "declares {} channels at {} Hz, expected at least one of each",
            spec.channels, spec.sample_rate
        )));
    }
    if declared * width > size {
        return Err(refused(format!("declares {declared} samples of {width} bytes, and has {size} bytes in all")));
    }
    let mut samples = Vec::with_capacity(declared as usize);
    match spec.sample_format {
        SampleFormat::Float => collect(reader.samples::<f32>(), |sample| sample, &mut samples),
        SampleFormat::Int => {
            let scale = 2.0_f64.powi(1 - i32::from(spec.bits_per_sample));
            collect(reader.samples::<i32>(), |sample| (f64::from(sample) * scale) as f32, &mut samples)
        }
    }
    .map_err(|cause| refused(format!("sample {} of {declared} cannot be read: {cause}", samples.len())))?;
    if let Some(place) = samples.iter().position(|sample| !sample.is_finite()) {
        return Err(refused(format!("sample {place} is {}, expected a finite number", samples[place])));
    }
    Ok(Audio { samples, n_channels: spec.channels.into(), sample_rate: spec.sample_rate })
}

fn collect<S>(
    from: impl Iterator<Item = hound::Result<S>>,
    convert: impl Fn(S) -> f32,
    to: &mut Vec<f32>,
) -> hound::Result<()> {
    for sample in from {
        to.push(convert(sample?));
    }
    Ok(())
}
