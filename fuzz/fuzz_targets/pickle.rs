//! Pickles of every protocol, as arrays and as a model.
#![no_main]

use avatorch::model::Model;
use avatorch::model::pickle::PickleFile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(file) = PickleFile::open(bytes) {
        avatorch_fuzz::read_all(&file, bytes.len());
        let _ = Model::from_bytes(bytes);
    }
});
