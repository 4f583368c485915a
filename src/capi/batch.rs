//! Many clips in one call.

use std::ffi::c_void;
use std::ops::Range;

use crate::audio::{Clip, Plan, Sample};

use super::arguments::{AvatorchSampleFormat, bytes, check_memory, check_room, sample_format, slice, slice_mut};
use super::failure::{AvatorchStatus, Failure, border};
use super::mel::{AvatorchMelPlan, PLANS};

/// More threads than any machine has.
const MOST_THREADS: usize = 1024;

/// Computes `n_clips` clips of any lengths on `n_threads` threads, one clip to a thread at a time. Clip `i` has
/// `lengths[i]` samples at `clips[i]`, and its values go to `values[i]`, which has room for exactly `rooms[i]` floats.
///
/// # Safety
/// `clips`, `lengths`, `values` and `rooms` are NULL or hold `n_clips` elements that keep these promises; no `values[i]`
/// is written or read by anybody else during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn avatorch_mel_compute_batch(
    plan: *const AvatorchMelPlan,
    n_threads: usize,
    n_clips: usize,
    clips: *const *const c_void,
    format: i32,
    lengths: *const usize,
    values: *const *mut f32,
    rooms: *const usize,
) -> AvatorchStatus {
    border(|| {
        let plan = PLANS.get(plan)?;
        if !(1..=MOST_THREADS).contains(&n_threads) {
            return Err(Failure::input(format!("n_threads is {n_threads}, expected 1 to {MOST_THREADS}")));
        }
        // SAFETY: the caller's promise.
        let (clips, lengths, values, rooms) = unsafe {
            (
                slice("clips", clips, n_clips)?,
                slice("lengths", lengths, n_clips)?,
                slice("values", values, n_clips)?,
                slice("rooms", rooms, n_clips)?,
            )
        };
        for i in 0..n_clips {
            let (n_features, n_frames) = plan.shape(lengths[i])?;
            check_room(rooms[i], n_features * n_frames)?;
        }
        let memory = Memory { clips, lengths, values, rooms };
        // SAFETY: the caller's promise.
        unsafe {
            match sample_format(format)? {
                AvatorchSampleFormat::AVATORCH_F32 => memory.compute::<f32>(&plan, n_threads),
                AvatorchSampleFormat::AVATORCH_F64 => memory.compute::<f64>(&plan, n_threads),
                AvatorchSampleFormat::AVATORCH_I16 => memory.compute::<i16>(&plan, n_threads),
                AvatorchSampleFormat::AVATORCH_I32 => memory.compute::<i32>(&plan, n_threads),
            }
        }
    })
}

/// The caller's clips.
struct Memory<'a> {
    clips: &'a [*const c_void],
    lengths: &'a [usize],
    values: &'a [*mut f32],
    rooms: &'a [usize],
}

impl Memory<'_> {
    /// # Safety
    /// Each clip holds `lengths[i]` samples of type S, and its values have room for `rooms[i]` floats.
    unsafe fn compute<S: Sample>(&self, plan: &Plan, n_threads: usize) -> Result<(), Failure> {
        for i in 0..self.clips.len() {
            check_array("samples", self.clips[i].cast::<S>(), self.lengths[i])?;
            check_array("values", self.values[i].cast_const(), self.rooms[i])?;
        }
        self.check_apart::<S>()?;
        let clip = |i: usize| -> Result<_, Failure> {
            // SAFETY: the caller's promise, and nothing lies over anything.
            unsafe {
                let samples = slice("samples", self.clips[i].cast::<S>(), self.lengths[i])?;
                Ok(Clip { samples, values: slice_mut("values", self.values[i], self.rooms[i])? })
            }
        };
        let mut clips = (0..self.clips.len()).map(clip).collect::<Result<Vec<_>, _>>()?;
        let mut workspaces: Vec<_> = (0..n_threads.min(clips.len()).max(1)).map(|_| plan.workspace()).collect();
        Ok(plan.compute_batch(&mut clips, &mut workspaces)?)
    }

    /// Refuses outputs that lie over each other or over samples.
    fn check_apart<S>(&self) -> Result<(), Failure> {
        let mut outputs: Vec<(Range<usize>, usize)> = (0..self.values.len())
            .map(|i| (bytes(self.values[i].cast_const(), self.rooms[i]), i))
            .filter(|(memory, _)| !memory.is_empty())
            .collect();
        outputs.sort_unstable_by_key(|(memory, i)| (memory.start, *i));
        for pair in outputs.windows(2) {
            let [(one, i), (other, j)] = pair else { continue };
            if other.start < one.end {
                let (i, j) = (i.min(j), i.max(j));
                return Err(Failure::input(format!(
                    "the outputs of clips {i} and {j} lie over each other, expected memory of their own"
                )));
            }
        }
        for (j, (&clip, &length)) in self.clips.iter().zip(self.lengths).enumerate() {
            let samples = bytes(clip.cast::<S>(), length);
            // Outputs lie apart from each other: if any begins before the samples end and ends inside, it is the last.
            let before = outputs.partition_point(|(memory, _)| memory.start < samples.end);
            let Some((memory, i)) = before.checked_sub(1).map(|last| &outputs[last]) else { continue };
            if !samples.is_empty() && memory.end > samples.start {
                return Err(Failure::input(format!(
                    "the output of clip {i} lies over the samples of clip {j}, expected memory of its own"
                )));
            }
        }
        Ok(())
    }
}

/// As `check_memory`, where nothing is needed of an empty array.
fn check_array<T>(name: &str, from: *const T, length: usize) -> Result<(), Failure> {
    if length == 0 { Ok(()) } else { check_memory(name, from, length) }
}
