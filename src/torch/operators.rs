//! The operators as Rust programs call them: through torch's dispatcher, so gradients flow as they do in Python.

use std::ffi::{CStr, c_char};

use tch::Tensor;
use torch_sys::C_tensor;

use super::border::attempt;
use crate::Result;

unsafe extern "C" {
    fn avatorch_dispatch(
        name: *const c_char,
        inputs: *const *const C_tensor,
        input_count: usize,
        outputs: *mut *mut C_tensor,
        output_count: usize,
        message: *mut c_char,
        message_size: usize,
    ) -> i32;
}

/// Axis-angle vectors `[..., 3]` to rotation matrices `[..., 3, 3]`.
pub fn rodrigues(rotvec: &Tensor) -> Result<Tensor> {
    let [rotation] = dispatch(c"smplx::rodrigues", &[Some(rotvec)])?;
    Ok(rotation)
}

fn dispatch<const OUTPUTS: usize>(name: &CStr, inputs: &[Option<&Tensor>]) -> Result<[Tensor; OUTPUTS]> {
    let inputs: Vec<*const C_tensor> =
        inputs.iter().map(|input| input.map_or(std::ptr::null(), Tensor::as_ptr)).collect();
    let mut outputs = [std::ptr::null_mut(); OUTPUTS];
    let places = outputs.as_mut_ptr();
    attempt(|message, message_size| {
        // SAFETY: the lengths are those of the arrays; an output that was written is owned here.
        unsafe {
            avatorch_dispatch(name.as_ptr(), inputs.as_ptr(), inputs.len(), places, OUTPUTS, message, message_size)
        }
    })?;
    // SAFETY: every output was written, each an owned tensor.
    Ok(outputs.map(|output| unsafe { Tensor::from_ptr(output) }))
}
