//! The same frames, from audio that arrives in pieces.

use std::sync::Arc;

use crate::{Error, Result};

use super::block::Output;
use super::float::Float;
use super::options::{Layout, Padding};
use super::plan::{Plan, Workspace, louder, loudest_or_nan};
use super::samples::Sample;

/// One audio stream. Each frame comes out as soon as its last sample is in, `[frame, feature]`, and is equal to the frame
/// of the whole clip, bit for bit, however the audio is cut. Pushing allocates nothing.
///
/// Where a value hangs on the whole clip (a dynamic range below the clip's maximum, normalised bands), frames come out as
/// they are before that step, and `complete` applies it to all of them at the end.
pub struct Stream<F: Float = f32> {
    plan: Arc<Plan<F>>,
    workspace: Workspace<F>,
    /// Conditioned samples `base..received` of the stream.
    buffer: Vec<F>,
    base: usize,
    received: usize,
    /// The last sample before pre-emphasis.
    previous: Option<F>,
    emitted: usize,
    loudest: F,
    is_flushed: bool,
}

impl<F: Float> Stream<F> {
    pub fn new(plan: Arc<Plan<F>>) -> Result<Self> {
        if plan.options.padding != Padding::None {
            return Err(Error::Unsupported("a stream has no padding: push the zeros before flushing".into()));
        }
        let frames = plan.tables.frames;
        let capacity = plan.tables.span() + 2 * frames.length + frames.hop;
        Ok(Self {
            workspace: plan.workspace(),
            plan,
            buffer: vec![F::ZERO; capacity],
            base: 0,
            received: 0,
            previous: None,
            emitted: 0,
            loudest: F::rounded(f64::NEG_INFINITY),
            is_flushed: false,
        })
    }

    /// Forgets everything that was pushed.
    pub fn reset(&mut self) {
        (self.base, self.received, self.emitted) = (0, 0, 0);
        self.previous = None;
        self.loudest = F::rounded(f64::NEG_INFINITY);
        self.is_flushed = false;
    }

    pub fn plan(&self) -> &Plan<F> {
        &self.plan
    }

    /// Bytes of memory held, whatever the stream's length.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.buffer[..]) + self.workspace.bytes()
    }

    /// Frames given so far.
    pub fn n_frames(&self) -> usize {
        self.emitted
    }

    /// Frames that pushing `n_samples` more would give.
    pub fn frames_after(&self, n_samples: usize) -> usize {
        let ready = self.plan.tables.frames.ready(self.received.saturating_add(n_samples));
        if self.is_flushed { 0 } else { ready - self.emitted }
    }

    /// Frames that `flush` would give.
    pub fn frames_left(&self) -> Result<usize> {
        Ok(self.plan.tables.frames.count(self.received)?.saturating_sub(self.emitted))
    }

    /// Takes the next samples and writes the frames they complete; gives their number. Nothing is taken when `values` is
    /// too short.
    pub fn push<S: Sample>(&mut self, samples: &[S], values: &mut [F]) -> Result<usize> {
        if self.is_flushed {
            return Err(Error::Value("the stream has been flushed: reset it before pushing again".into()));
        }
        let n_frames = self.frames_after(samples.len());
        let mut values = self.room(n_frames, values)?;
        let mut rest = samples;
        while !rest.is_empty() {
            let held = self.received - self.base;
            let (now, later) = rest.split_at(rest.len().min(self.buffer.len() - held));
            let room = &mut self.buffer[held..held + now.len()];
            self.previous = self.plan.conditioning.run(now, self.received, self.previous, room);
            self.received += now.len();
            rest = later;
            values = self.emit(self.plan.tables.frames.ready(self.received), values);
            self.forget();
        }
        Ok(n_frames)
    }

    /// Ends the stream: writes the frames that reach beyond its last sample; gives their number.
    pub fn flush(&mut self, values: &mut [F]) -> Result<usize> {
        let n_frames = if self.is_flushed { 0 } else { self.frames_left()? };
        let values = self.room(n_frames, values)?;
        self.is_flushed = true;
        self.emit(self.emitted + n_frames, values);
        Ok(n_frames)
    }

    /// Applies what hangs on the whole clip to all frames of the stream, `[frame, feature]`. Does nothing where every
    /// frame was final when it came out.
    pub fn complete(&self, values: &mut [F]) -> Result<()> {
        let n_features = self.plan.options.n_features();
        if values.len() != self.emitted * n_features {
            return Err(Error::Value(format!(
                "there are {} values, expected {} frames x {n_features}: all that the stream gave",
                values.len(),
                self.emitted
            )));
        }
        if self.plan.finish.needs_clip_maximum() {
            self.plan.finish.apply(self.plan.tables.level, self.loudest, values);
        }
        self.plan.finish.normalize(Layout::FrameMajor, n_features, values);
        Ok(())
    }

    fn room<'a>(&self, n_frames: usize, values: &'a mut [F]) -> Result<&'a mut [F]> {
        let n_features = self.plan.options.n_features();
        let (found, expected) = (values.len(), n_frames.saturating_mul(n_features));
        values.get_mut(..expected).ok_or_else(|| {
            Error::Value(format!("the output has room for {found} values, expected {n_frames} frames x {n_features}"))
        })
    }

    /// Computes frames up to `end`; gives what is left of `values`.
    fn emit<'a>(&mut self, end: usize, mut values: &'a mut [F]) -> &'a mut [F] {
        let n_features = self.plan.options.n_features();
        while self.emitted < end {
            let count = (end - self.emitted).min(self.plan.tables.lanes());
            let (now, later) = values.split_at_mut(count * n_features);
            let from = self.gather();
            let samples = from.map(|at| &self.buffer[at..at + self.plan.tables.span()]);
            let output = Output { values: &mut *now, layout: Layout::FrameMajor, n_frames: count, first: 0, count };
            let peaks = self.plan.tables.run(samples, &mut self.workspace.scratch, output);
            for (values, &peak) in now.chunks_mut(n_features).zip(&peaks) {
                self.finish_frame(peak, values);
            }
            self.emitted += count;
            values = later;
        }
        values
    }

    fn finish_frame(&mut self, peak: F, values: &mut [F]) {
        let finish = self.plan.finish;
        self.loudest =
            if finish.follows_the_loudest() { louder(self.loudest, peak) } else { loudest_or_nan(self.loudest, peak) };
        if !finish.needs_clip_maximum() {
            finish.apply(self.plan.tables.level, self.loudest, values);
        }
    }

    /// The next block's samples: where they begin in the buffer, or none and they are in the workspace.
    fn gather(&mut self) -> Option<usize> {
        let frames = self.plan.tables.frames;
        let start = frames.start(self.emitted);
        let (base, received) = (self.base as isize, self.received as isize);
        let scratch = &mut self.workspace.scratch.samples;
        if start >= base && start + scratch.len() as isize <= received {
            return Some((start - base) as usize);
        }
        for (i, value) in (start..).zip(scratch) {
            // Before the end is known, nothing stands beyond the last sample; the frames there are not asked for.
            let source = if i >= received && !self.is_flushed { None } else { frames.source(i, self.received) };
            *value = source.and_then(|i| self.buffer.get(i.wrapping_sub(self.base)).copied()).unwrap_or(F::ZERO);
        }
        None
    }

    /// Drops the samples that no later frame and no mirrored edge needs.
    fn forget(&mut self) {
        let frames = self.plan.tables.frames;
        let next = frames.start(self.emitted).max(0) as usize;
        let keep = next.min(self.received.saturating_sub(frames.length)).max(self.base);
        self.buffer.copy_within(keep - self.base..self.received - self.base, 0);
        self.base = keep;
    }
}
