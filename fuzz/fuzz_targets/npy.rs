//! `.npy` headers, and the pickled dict that a `.npy` may hold.
#![no_main]

use avatorch::model::npy;
use avatorch::model::pickle::PickleFile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok((header, start)) = npy::parse(bytes) {
        assert!(start <= bytes.len());
        let _ = (header.count(), header.byte_len());
    }
    if let Ok(file) = PickleFile::open_npy(bytes) {
        avatorch_fuzz::read_all(&file, bytes.len());
    }
});
