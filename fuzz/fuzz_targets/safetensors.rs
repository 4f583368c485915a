//! Our own layout, as arrays and as a model.
#![no_main]

use avatorch::model::Model;
use avatorch::model::safetensors::Tensors;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(file) = Tensors::open(bytes, None) {
        avatorch_fuzz::read_all(&file, bytes.len());
        let _ = Model::from_bytes(bytes);
    }
});
