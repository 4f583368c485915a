//! What `prepare.cpp` asks of the GPU.

use smallvec::smallvec;
use tch::Device;

use crate::Result;
use crate::cuda::refuse_capture;
use crate::torch::{Arguments, Outputs, entry};

entry!(avatorch_refuse_capture, "smplx::prepare", waits_for_values);
/// A fingerprint is read on the host, which a capture forbids.
fn waits_for_values(args: &Arguments) -> Result<Outputs> {
    if let Device::Cuda(device) = args.tensor(0, "model")?.tensor.device() {
        refuse_capture(device, args.stream(), "smplx::forward: a tensor of the model")?;
    }
    Ok(smallvec![])
}
