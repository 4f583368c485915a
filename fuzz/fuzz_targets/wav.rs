//! Any bytes as a WAV file: samples, no more of them than bytes, or a sentence.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    match avatorch::audio::read_wav(data, data.len() as u64, "fuzz.wav") {
        Ok(audio) => assert!(audio.samples.len() <= data.len() && audio.samples.iter().all(|x| x.is_finite())),
        Err(error) => assert!(error.to_string().starts_with("fuzz.wav: ")),
    }
});
