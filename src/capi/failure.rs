//! Status codes, the sentence behind the last one, and the border that no panic crosses.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::Error;

/// What a call came to.
#[allow(non_camel_case_types, clippy::upper_case_acronyms)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum AvatorchStatus {
    AVATORCH_OK = 0,
    /// An argument is NULL, out of range or contradictory.
    AVATORCH_INVALID_INPUT = -1,
    /// Memory for the result could not be had.
    AVATORCH_ALLOCATION = -2,
    /// Something outside the caller's hands failed.
    AVATORCH_PROCESSING = -3,
    /// The caller's buffer has not the size of the result.
    AVATORCH_BUFFER_SIZE = -4,
    /// A handle that was freed, that was never given out, or of another kind.
    AVATORCH_INVALID_HANDLE = -5,
    /// A workspace or stream that another thread is using.
    AVATORCH_BUSY = -6,
}

/// A status and its sentence.
pub(super) struct Failure {
    status: AvatorchStatus,
    text: String,
}

impl Failure {
    pub(super) fn new(status: AvatorchStatus, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }

    pub(super) fn input(text: impl Into<String>) -> Self {
        Self::new(AvatorchStatus::AVATORCH_INVALID_INPUT, text)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match error {
            Error::File(..) | Error::Runtime(_) => AvatorchStatus::AVATORCH_PROCESSING,
            _ => AvatorchStatus::AVATORCH_INVALID_INPUT,
        };
        Self::new(status, error.to_string())
    }
}

thread_local! {
    static LAST_ERROR: RefCell<Option<CString>> = const { RefCell::new(None) };
}

/// Runs a call; its failure becomes the thread's last error.
pub(super) fn border(call: impl FnOnce() -> Result<(), Failure>) -> AvatorchStatus {
    border_or((), call).0
}

/// As `border`, for a call that gives a value, or `otherwise` when it fails.
pub(super) fn border_or<T>(otherwise: T, call: impl FnOnce() -> Result<T, Failure>) -> (AvatorchStatus, T) {
    let failure = match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => return (AvatorchStatus::AVATORCH_OK, value),
        Ok(Err(failure)) => failure,
        Err(panic) => {
            Failure::new(AvatorchStatus::AVATORCH_PROCESSING, format!("internal error: {}", message(&*panic)))
        }
    };
    let text = CString::new(failure.text.replace('\0', " ")).ok();
    // While the thread ends, its last error may be gone already.
    let _ = LAST_ERROR.try_with(|last| *last.borrow_mut() = text);
    (failure.status, otherwise)
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

pub(super) fn last_error() -> *const c_char {
    let text = LAST_ERROR.try_with(|last| last.borrow().as_ref().map(|text| text.as_ptr()));
    text.ok().flatten().unwrap_or(c"".as_ptr())
}

/// The sentence of this thread's last failure, empty before the first. Never NULL; valid until the thread's next failure.
#[unsafe(no_mangle)]
pub extern "C" fn avatorch_mel_last_error() -> *const c_char {
    last_error()
}

/// A status in a few words. Never NULL; valid for ever.
#[unsafe(no_mangle)]
pub extern "C" fn avatorch_mel_status_text(status: i32) -> *const c_char {
    const TEXTS: [&CStr; 7] = [
        c"success",
        c"invalid input",
        c"out of memory",
        c"processing failed",
        c"wrong buffer size",
        c"invalid handle",
        c"in use by another thread",
    ];
    let place = usize::try_from(status.wrapping_neg()).unwrap_or(usize::MAX);
    TEXTS.get(place).copied().unwrap_or(c"unknown status").as_ptr()
}

/// The library's version, "major.minor.patch". Never NULL; valid for ever.
#[unsafe(no_mangle)]
pub extern "C" fn avatorch_mel_version() -> *const c_char {
    const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!("a version has no zero inside"),
    };
    VERSION.as_ptr()
}
