//! Audio that arrives in pieces.

use std::ffi::c_void;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::audio::Stream;

use super::arguments::{check_apart, check_room, put, put_if_wanted, samples, slice_mut, with_samples};
use super::failure::{AvatorchStatus, Failure, border};
use super::handle::Handles;
use super::mel::{AvatorchMelPlan, PLANS, exclusive};

/// One audio stream. Frames come out as `[frame][feature]`, equal bit for bit to those of the whole clip, however the
/// audio is cut. Two threads that use the same one at once get `AVATORCH_BUSY`.
pub struct AvatorchMelStream {
    _opaque: [u8; 0],
}

pub(super) static STREAMS: Handles<Mutex<Stream>> = Handles::new(12, "stream");

fn with_stream(
    stream: *const AvatorchMelStream,
    call: impl FnOnce(MutexGuard<'_, Stream>) -> Result<(), Failure>,
) -> AvatorchStatus {
    border(|| {
        let stream = STREAMS.get(stream)?;
        call(exclusive("stream", &stream)?)
    })
}

/// Starts a stream. Free it with `avatorch_mel_stream_free`.
///
/// # Safety
/// `out_stream` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn avatorch_mel_stream_new(
    plan: *const AvatorchMelPlan,
    out_stream: *mut *mut AvatorchMelStream,
) -> AvatorchStatus {
    border(|| {
        // SAFETY: the caller's promise.
        unsafe {
            put("out_stream", out_stream, std::ptr::null_mut())?;
            let stream = Stream::new(Arc::clone(&*PLANS.get(plan)?))?;
            put("out_stream", out_stream, STREAMS.insert(Mutex::new(stream))?)
        }
    })
}

/// Frees a stream. NULL is fine; a stale handle gives `AVATORCH_INVALID_HANDLE`.
#[unsafe(no_mangle)]
pub extern "C" fn avatorch_mel_stream_free(stream: *mut AvatorchMelStream) -> AvatorchStatus {
    border(|| STREAMS.remove(stream))
}

/// Forgets everything that was pushed.
#[unsafe(no_mangle)]
pub extern "C" fn avatorch_mel_stream_reset(stream: *mut AvatorchMelStream) -> AvatorchStatus {
    with_stream(stream, |mut stream| {
        stream.reset();
        Ok(())
    })
}

/// How many frames pushing `n_samples` more would give, and how many flushing now would give; the latter is 0 where the
/// stream is too short to be flushed.
///
/// # Safety
/// Each out pointer is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn avatorch_mel_stream_frames(
    stream: *const AvatorchMelStream,
    n_samples: usize,
    out_by_push: *mut usize,
    out_by_flush: *mut usize,
) -> AvatorchStatus {
    with_stream(stream, |stream| {
        // SAFETY: the caller's promise.
        unsafe {
            put_if_wanted("out_by_push", out_by_push, stream.frames_after(n_samples))?;
            put_if_wanted("out_by_flush", out_by_flush, stream.frames_left().unwrap_or(0))
        }
    })
}

/// Takes the next samples, and writes the frames they complete to `values`, which has room for `length` floats. Takes
/// nothing where that is too little. Allocates nothing.
///
/// # Safety
/// `samples_` is NULL or holds `n_samples` of `format`; `values` is NULL or has room for `length` floats; `out_n_frames`
/// is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn avatorch_mel_stream_push(
    stream: *mut AvatorchMelStream,
    samples_: *const c_void,
    format: i32,
    n_samples: usize,
    values: *mut f32,
    length: usize,
    out_n_frames: *mut usize,
) -> AvatorchStatus {
    with_stream(stream, |mut stream| {
        // SAFETY: the caller's promise.
        let samples = unsafe { samples(samples_, format, n_samples)? };
        let needed = stream.frames_after(n_samples).saturating_mul(stream.plan().options().n_features());
        check_room(length.min(needed), needed)?;
        check_apart(samples.memory(), (values, needed))?;
        // SAFETY: the caller's promise.
        let values = unsafe { slice_mut("values", values, needed)? };
        let n_frames = with_samples!(samples, samples => stream.push(samples, values))?;
        // SAFETY: the caller's promise.
        unsafe { put_if_wanted("out_n_frames", out_n_frames, n_frames) }
    })
}

/// Ends the stream, and writes the frames that reach beyond its last sample.
///
/// # Safety
/// `values` is NULL or has room for `length` floats; `out_n_frames` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn avatorch_mel_stream_flush(
    stream: *mut AvatorchMelStream,
    values: *mut f32,
    length: usize,
    out_n_frames: *mut usize,
) -> AvatorchStatus {
    with_stream(stream, |mut stream| {
        let needed = stream.frames_left()?.saturating_mul(stream.plan().options().n_features());
        check_room(length.min(needed), needed)?;
        // SAFETY: the caller's promise.
        let n_frames = stream.flush(unsafe { slice_mut("values", values, needed)? })?;
        // SAFETY: the caller's promise.
        unsafe { put_if_wanted("out_n_frames", out_n_frames, n_frames) }
    })
}

/// Applies what hangs on the whole clip (Whisper's range below the loudest, normalised bands) to all frames that the
/// stream gave, in their order. Does nothing where frames were final when they came out.
///
/// # Safety
/// `values` is NULL or holds `length` floats.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn avatorch_mel_stream_complete(
    stream: *mut AvatorchMelStream,
    values: *mut f32,
    length: usize,
) -> AvatorchStatus {
    with_stream(stream, |stream| {
        check_room(length, stream.n_frames() * stream.plan().options().n_features())?;
        // SAFETY: the caller's promise.
        Ok(stream.complete(unsafe { slice_mut("values", values, length)? })?)
    })
}

/// Bytes of memory that the stream holds, whatever its length.
///
/// # Safety
/// `out_bytes` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn avatorch_mel_stream_bytes(
    stream: *const AvatorchMelStream,
    out_bytes: *mut usize,
) -> AvatorchStatus {
    // SAFETY: the caller's promise.
    with_stream(stream, |stream| unsafe { put("out_bytes", out_bytes, stream.bytes()) })
}
