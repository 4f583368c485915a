//! A convention made ready, and the memory that one thread needs to use it.

use crate::{Error, Result};

use super::block::{Output, Scratch, Tables};
use super::filter_bank::{Filter, filter_bank};
use super::float::Float;
use super::options::{Layout, Options};
use super::range::Finish;
use super::samples::{Conditioning, Sample, Signal};
use super::window::window;
use crate::simd::Level;

/// Tables of one convention. Made once, never changed, shared by any number of threads.
pub struct Plan<F: Float = f32> {
    pub(super) options: Options,
    pub(super) tables: Tables<F>,
    pub(super) conditioning: Conditioning<F>,
    pub(super) finish: Finish<F>,
}

/// One thread's memory; computing with it allocates nothing.
pub struct Workspace<F: Float = f32> {
    pub(super) scratch: Scratch<F>,
}

impl<F: Float> Plan<F> {
    pub fn new(options: Options) -> Result<Self> {
        Self::with_level(options, Level::best())
    }

    /// With the instructions of `level`, whatever else the processor has.
    pub fn with_level(options: Options, level: Level) -> Result<Self> {
        options.validate()?;
        Self::with_tables(options, level, &window(&options), &filter_bank(&options))
    }

    /// With a window, [win_length], and a filter for each band in place of the convention's own.
    pub(super) fn with_tables(options: Options, level: Level, window: &[f64], filters: &[Filter<f64>]) -> Result<Self> {
        let tables = Tables::new(&options, level.require()?, window, filters);
        let (conditioning, finish) = (Conditioning::new(&options), Finish::new(&options));
        Ok(Self { options, tables, conditioning, finish })
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    pub fn level(&self) -> Level {
        self.tables.level
    }

    pub fn workspace(&self) -> Workspace<F> {
        Workspace { scratch: self.tables.scratch() }
    }

    /// (features, frames) of a clip of `n_samples`; its values are their product.
    pub fn shape(&self, n_samples: usize) -> Result<(usize, usize)> {
        let (n_features, n_frames) = (self.options.n_features(), self.options.n_frames(n_samples)?);
        match n_features.checked_mul(n_frames) {
            Some(values) if values <= isize::MAX as usize / 8 => Ok((n_features, n_frames)),
            _ => Err(Error::Value(format!("{n_frames} frames of {n_features} values are more than memory can hold"))),
        }
    }

    /// The features of one clip into `values`, `[feature, frame]` or `[frame, feature]` as the options say.
    ///
    /// A sample that is not finite makes the frames over it NaN; with a dynamic range below the clip's own maximum, it
    /// makes the whole clip NaN, and never another clip.
    pub fn compute<S: Sample>(&self, samples: &[S], values: &mut [F], workspace: &mut Workspace<F>) -> Result<()> {
        let loudest = self.raw(samples, values, workspace)?;
        self.complete(loudest, values);
        Ok(())
    }

    /// As `compute`, in new memory.
    pub fn log_mel<S: Sample>(&self, samples: &[S]) -> Result<Vec<F>> {
        let (n_features, n_frames) = self.shape(samples.len())?;
        let mut values = vec![F::ZERO; n_features * n_frames];
        self.compute(samples, &mut values, &mut self.workspace())?;
        Ok(values)
    }

    /// Everything up to the logarithm, and further where a frame does not have to wait for the clip's end. Gives the
    /// largest value.
    pub(super) fn raw<S: Sample>(&self, samples: &[S], values: &mut [F], workspace: &mut Workspace<F>) -> Result<F> {
        let (n_features, n_frames) = self.shape(samples.len())?;
        if values.len() != n_features * n_frames {
            return Err(Error::Value(format!(
                "the output has room for {} values, expected {n_features} x {n_frames} = {}",
                values.len(),
                n_features * n_frames
            )));
        }
        self.check_workspace(workspace)?;
        let length = self.options.padded_length(samples.len())?;
        let signal = Signal::new(samples, length, self.conditioning, self.tables.frames);
        let mut loudest = F::rounded(f64::NEG_INFINITY);
        for first in (0..n_frames).step_by(self.tables.lanes()) {
            let count = (n_frames - first).min(self.tables.lanes());
            let region = signal.region(self.tables.frames.start(first), &mut workspace.scratch.samples);
            let output = Output { values: &mut *values, layout: self.options.layout, n_frames, first, count };
            let peaks = self.tables.run(region, &mut workspace.scratch, output);
            for (lane, &peak) in peaks[..count].iter().enumerate() {
                loudest = if self.finish.follows_the_loudest() {
                    let loudest = louder(loudest, peak);
                    self.complete_frame(loudest, values, n_frames, first + lane);
                    loudest
                } else {
                    loudest_or_nan(loudest, peak)
                };
            }
        }
        Ok(loudest)
    }

    /// The steps that wait for the whole clip.
    pub(super) fn complete(&self, loudest: F, values: &mut [F]) {
        if !self.finish.follows_the_loudest() {
            self.finish.apply(self.tables.level, loudest, values);
        }
        self.finish.normalize(self.options.layout, self.options.n_features(), values);
    }

    fn complete_frame(&self, loudest: F, values: &mut [F], n_frames: usize, frame: usize) {
        let n_features = self.options.n_features();
        match self.options.layout {
            Layout::FrameMajor => {
                self.finish.apply(self.tables.level, loudest, &mut values[frame * n_features..][..n_features]);
            }
            Layout::MelMajor => {
                for feature in 0..n_features {
                    self.finish.apply(self.tables.level, loudest, &mut values[feature * n_frames + frame..][..1]);
                }
            }
        }
    }

    pub(super) fn check_workspace(&self, workspace: &Workspace<F>) -> Result<()> {
        if workspace.scratch.fits(&self.tables) {
            return Ok(());
        }
        Err(Error::Value("the workspace was made by a plan with other options".into()))
    }
}

impl<F: Float> Workspace<F> {
    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        self.scratch.bytes()
    }
}

/// The larger; a peak that is not a number does not count.
pub(super) fn louder<F: Float>(loudest: F, peak: F) -> F {
    if peak > loudest { peak } else { loudest }
}

/// The larger, or NaN once either was.
pub(super) fn loudest_or_nan<F: Float>(loudest: F, peak: F) -> F {
    if peak <= loudest || loudest.widened().is_nan() { loudest } else { peak }
}
