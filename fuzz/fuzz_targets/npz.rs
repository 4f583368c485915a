//! `.npz` archives, as arrays and as a model. Checksums are not verified while fuzzing.
#![no_main]

use avatorch::model::Model;
use avatorch::model::npz::Npz;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(file) = Npz::open(bytes) {
        avatorch_fuzz::read_all(&file, bytes.len());
        let _ = Model::from_bytes(bytes);
    }
});
