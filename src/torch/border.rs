//! Entry points that C++ calls: tensors are borrowed, results handed over, errors and panics become a sentence.

use std::ffi::{CStr, CString, c_char, c_void};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::panic::{AssertUnwindSafe, catch_unwind};

use smallvec::SmallVec;
use tch::Tensor;
use torch_sys::C_tensor;

use super::Arguments;
use crate::{Error, Result};

/// Results in the order of the operator's schema; `None` where a gradient was not asked for.
pub(crate) type Outputs = SmallVec<[Option<Tensor>; 12]>;

/// The twin of `avatorch::Call` in `border.h`.
#[repr(C)]
pub(crate) struct RawCall {
    inputs: *const *mut C_tensor, // [input_count], null where absent
    input_count: usize,
    numbers: *const i64, // [number_count]
    number_count: usize,
    text: *const c_char, // [text_length], UTF-8
    text_length: usize,
    outputs: *mut *mut C_tensor, // [output_count]
    output_count: usize,
    stream: *mut c_void, // null on the CPU
    message: *mut c_char,
}

/// Defines the `extern "C"` function that the C++ of an operator calls.
macro_rules! entry {
    ($symbol:ident, $operator:literal, $function:path) => {
        /// # Safety
        /// Called by this crate's C++ alone, with a `Call` whose pointers are live until it returns.
        #[unsafe(no_mangle)]
        pub(crate) unsafe extern "C" fn $symbol(call: *mut $crate::torch::border::RawCall) -> i32 {
            // SAFETY: the contract above.
            unsafe { $crate::torch::border::run($operator, &mut *call, $function) }
        }
    };
}
pub(crate) use entry;

/// # Safety
/// Every pointer in `call` is live, and the counts are true.
pub(crate) unsafe fn run(
    operator: &'static str,
    call: &mut RawCall,
    function: impl FnOnce(&Arguments) -> Result<Outputs>,
) -> i32 {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: C++ passes arrays of these lengths; a borrowed tensor is never dropped.
        let (pointers, numbers, text) = unsafe {
            (
                std::slice::from_raw_parts(call.inputs, call.input_count),
                std::slice::from_raw_parts(
                    if call.number_count == 0 { [].as_ptr() } else { call.numbers },
                    call.number_count,
                ),
                std::slice::from_raw_parts(
                    if call.text_length == 0 { [].as_ptr() } else { call.text.cast::<u8>() },
                    call.text_length,
                ),
            )
        };
        let tensors = pointers
            .iter()
            // SAFETY: not null, so it points at a live tensor.
            .map(|&pointer| (!pointer.is_null()).then(|| ManuallyDrop::new(unsafe { Tensor::from_ptr(pointer) })))
            .collect();
        let text = str::from_utf8(text).map_err(|_| Error::Value(format!("{operator}: a text is not UTF-8")))?;
        let outputs = function(&Arguments::new(operator, tensors, numbers, text, call.stream))?;
        if outputs.len() != call.output_count {
            return Err(Error::Runtime(format!(
                "{operator}: made {} results, expected {}",
                outputs.len(),
                call.output_count
            )));
        }
        for (i, output) in outputs.into_iter().enumerate() {
            if let Some(tensor) = output {
                // SAFETY: `outputs` has `output_count` places; C++ owns what is written there.
                unsafe { *call.outputs.add(i) = ManuallyDrop::new(tensor).as_mut_ptr() };
            }
        }
        Ok(())
    }));
    let (kind, text) = match outcome {
        Ok(Ok(())) => return 0,
        Ok(Err(error)) => (error.kind(), error.to_string()),
        Err(panic) => (Error::RUNTIME, format!("{operator}: internal error: {}", panic_text(panic.as_ref()))),
    };
    call.message = CString::new(text.replace('\0', " ")).map_or(std::ptr::null_mut(), CString::into_raw);
    kind
}

/// Calls C++ that answers 0, or 1 with a text in the memory it is given.
pub(crate) fn attempt(call: impl FnOnce(*mut c_char, usize) -> i32) -> Result<()> {
    let mut message = [const { MaybeUninit::<c_char>::uninit() }; 4096];
    if call(message.as_mut_ptr().cast(), message.len()) == 0 {
        return Ok(());
    }
    // SAFETY: C++ ends the text with a zero inside `message`.
    let text = unsafe { CStr::from_ptr(message.as_ptr().cast()) };
    Err(Error::Runtime(text.to_string_lossy().into_owned()))
}

pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message")
}

/// # Safety
/// `message` came from a failed call and is freed once.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn avatorch_free_message(message: *mut c_char) {
    // SAFETY: made by `CString::into_raw` above.
    drop(unsafe { CString::from_raw(message) });
}
