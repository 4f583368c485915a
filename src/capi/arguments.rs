//! The caller's pointers, checked and borrowed.

use std::ffi::{CStr, c_char, c_void};
use std::ops::Range;

use super::failure::{AvatorchStatus, Failure};

/// The type of the caller's samples.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum AvatorchSampleFormat {
    /// float, as it is.
    AVATORCH_F32 = 0,
    /// double, as it is.
    AVATORCH_F64 = 1,
    /// `int16_t`, divided by 32768.
    AVATORCH_I16 = 2,
    /// `int32_t`, divided by 2147483648.
    AVATORCH_I32 = 3,
}

pub(super) fn sample_format(format: i32) -> Result<AvatorchSampleFormat, Failure> {
    Ok(match format {
        0 => AvatorchSampleFormat::AVATORCH_F32,
        1 => AvatorchSampleFormat::AVATORCH_F64,
        2 => AvatorchSampleFormat::AVATORCH_I16,
        3 => AvatorchSampleFormat::AVATORCH_I32,
        _ => return Err(Failure::input(format!("the sample format is {format}, expected 0 to 3"))),
    })
}

/// The caller's samples in their own type.
#[derive(Clone, Copy)]
pub(super) enum Samples<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
    I16(&'a [i16]),
    I32(&'a [i32]),
}

/// Runs an expression with `$samples` bound to the slice of the samples' own type.
macro_rules! with_samples {
    ($from:expr, $samples:ident => $body:expr) => {
        match $from {
            $crate::capi::arguments::Samples::F32($samples) => $body,
            $crate::capi::arguments::Samples::F64($samples) => $body,
            $crate::capi::arguments::Samples::I16($samples) => $body,
            $crate::capi::arguments::Samples::I32($samples) => $body,
        }
    };
}
pub(super) use with_samples;

/// # Safety
/// `samples` is NULL or holds `length` numbers of `format` that nobody changes during the call.
pub(super) unsafe fn samples<'a>(samples: *const c_void, format: i32, length: usize) -> Result<Samples<'a>, Failure> {
    // SAFETY: the caller's promise.
    unsafe {
        Ok(match sample_format(format)? {
            AvatorchSampleFormat::AVATORCH_F32 => Samples::F32(slice("samples", samples.cast(), length)?),
            AvatorchSampleFormat::AVATORCH_F64 => Samples::F64(slice("samples", samples.cast(), length)?),
            AvatorchSampleFormat::AVATORCH_I16 => Samples::I16(slice("samples", samples.cast(), length)?),
            AvatorchSampleFormat::AVATORCH_I32 => Samples::I32(slice("samples", samples.cast(), length)?),
        })
    }
}

/// # Safety
/// `from` is NULL or holds `length` values that nobody changes during the call.
pub(super) unsafe fn slice<'a, T>(name: &str, from: *const T, length: usize) -> Result<&'a [T], Failure> {
    if length == 0 {
        return Ok(&[]);
    }
    check_memory(name, from, length)?;
    // SAFETY: not NULL, aligned, of a possible size; the rest is the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(from, length) })
}

/// # Safety
/// `from` is NULL or holds `length` values that nobody else uses during the call.
pub(super) unsafe fn slice_mut<'a, T>(name: &str, from: *mut T, length: usize) -> Result<&'a mut [T], Failure> {
    if length == 0 {
        return Ok(&mut []);
    }
    check_memory(name, from, length)?;
    // SAFETY: not NULL, aligned, of a possible size; the rest is the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts_mut(from, length) })
}

/// Refuses what no array of `length` values can be.
pub(super) fn check_memory<T>(name: &str, from: *const T, length: usize) -> Result<(), Failure> {
    if from.is_null() {
        return Err(Failure::input(format!("{name} is NULL, expected {length} values")));
    }
    if !from.is_aligned() {
        return Err(Failure::input(format!("{name} is not aligned to {} bytes", align_of::<T>())));
    }
    let fits = length.checked_mul(size_of::<T>()).filter(|&bytes| isize::try_from(bytes).is_ok());
    if fits.and_then(|bytes| from.addr().checked_add(bytes)).is_none() {
        return Err(Failure::input(format!("{name} has {length} values, more than memory can hold")));
    }
    Ok(())
}

/// Refuses an output that lies over the input.
pub(super) fn check_apart(input: (*const c_void, usize), output: (*const f32, usize)) -> Result<(), Failure> {
    let (input, output) = (input.0.addr()..input.0.addr().saturating_add(input.1), bytes(output.0, output.1));
    if input.is_empty() || output.is_empty() || input.end <= output.start || output.end <= input.start {
        return Ok(());
    }
    Err(Failure::input("the output lies over the samples, expected memory of its own"))
}

/// The addresses of `length` values.
pub(super) fn bytes<T>(from: *const T, length: usize) -> Range<usize> {
    from.addr()..from.addr().saturating_add(length.saturating_mul(size_of::<T>()))
}

impl Samples<'_> {
    /// Where they lie, and their size in bytes.
    pub(super) fn memory(&self) -> (*const c_void, usize) {
        with_samples!(*self, samples => (samples.as_ptr().cast(), size_of_val(samples)))
    }

    pub(super) fn len(&self) -> usize {
        with_samples!(*self, samples => samples.len())
    }
}

/// # Safety
/// `to` is NULL or may be written.
pub(super) unsafe fn put<T>(name: &str, to: *mut T, value: T) -> Result<(), Failure> {
    check_memory(name, to, 1)?;
    // SAFETY: not NULL and aligned; the rest is the caller's promise.
    unsafe { to.write(value) };
    Ok(())
}

/// As `put`, where NULL means that the caller does not want to know.
///
/// # Safety
/// `to` is NULL or may be written.
pub(super) unsafe fn put_if_wanted<T>(name: &str, to: *mut T, value: T) -> Result<(), Failure> {
    // SAFETY: the caller's promise.
    if to.is_null() { Ok(()) } else { unsafe { put(name, to, value) } }
}

/// # Safety
/// `text` is NULL or ends with a zero.
pub(super) unsafe fn text<'a>(name: &str, text: *const c_char) -> Result<&'a str, Failure> {
    if text.is_null() {
        return Err(Failure::input(format!("{name} is NULL, expected a text")));
    }
    // SAFETY: not NULL; the rest is the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_str().map_err(|_| Failure::input(format!("{name} is not UTF-8")))
}

/// `Err` unless the caller's buffer has exactly the size of the result.
pub(super) fn check_room(found: usize, expected: usize) -> Result<(), Failure> {
    if found == expected {
        return Ok(());
    }
    Err(Failure::new(
        AvatorchStatus::AVATORCH_BUFFER_SIZE,
        format!("the output has room for {found} values, expected {expected}"),
    ))
}
