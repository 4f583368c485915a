//! Any bytes as a configuration: refused with a sentence, or a plan that computes a short clip.
#![no_main]

use std::ptr;

use avatorch::capi::config::{AvatorchMelConfig, avatorch_mel_config_init, avatorch_mel_config_validate};
use avatorch::capi::failure::AvatorchStatus::AVATORCH_OK;
use avatorch::capi::mel::*;
use libfuzzer_sys::fuzz_target;

const DIALECTS: [&std::ffi::CStr; 8] =
    [c"whisper", c"librosa", c"torchaudio", c"kaldi", c"nemo", c"hifigan", c"bigvgan", c"vocos"];

const KNOWN: usize = size_of::<AvatorchMelConfig>();
const MOST: usize = 4096;

fuzz_target!(|data: &[u8]| {
    // A dialect, a size that the caller claims, then changes: place, and four bytes.
    let [dialect, size_low, size_high, changes @ ..] = data else { return };
    let size = match u16::from_le_bytes([*size_low, *size_high]) {
        size if size % 2 == 0 => KNOWN,
        size => size as usize % (MOST + 500),
    };
    let mut words = vec![u64::MAX; size.div_ceil(8)];
    let config = words.as_mut_ptr().cast::<AvatorchMelConfig>();
    // SAFETY: the words are as many bytes as the size says, and aligned.
    unsafe {
        let status = avatorch_mel_config_init(config, size, DIALECTS[*dialect as usize % 8].as_ptr());
        assert_eq!(status == AVATORCH_OK, (KNOWN..=MOST).contains(&size));
        let bytes = std::slice::from_raw_parts_mut(config.cast::<u8>(), size);
        for change in changes.chunks_exact(5).filter(|_| size >= 4) {
            let at = change[0] as usize % (size / 4) * 4;
            bytes[at..at + 4].copy_from_slice(&change[1..]);
        }
        if size >= 4 {
            config.cast::<u32>().write(size as u32);
            let valid = avatorch_mel_config_validate(config) == AVATORCH_OK;
            if status != AVATORCH_OK || bytes[KNOWN..].iter().any(|&byte| byte != 0) {
                assert!(!valid);
                return;
            }
        } else {
            return;
        }
        let config = &*config;
        let valid = avatorch_mel_config_validate(config) == AVATORCH_OK;
        // What is valid and large only costs time.
        if valid && (config.n_fft > 4096 || config.n_mels > 256 || config.padding_length > 4096) {
            return;
        }
        let mut plan = ptr::null_mut();
        assert_eq!(avatorch_mel_plan_new(config, &mut plan) == AVATORCH_OK, valid);
        if !valid {
            assert!(plan.is_null());
            return;
        }
        let samples: Vec<f32> = (0..1500).map(|i| ((i * 7919) % 2001) as f32 / 1000.0 - 1.0).collect();
        let (mut features, mut frames) = (0, 0);
        if avatorch_mel_plan_shape(plan, samples.len(), &mut features, &mut frames) == AVATORCH_OK {
            let mut values = vec![0.0; features * frames];
            let status = avatorch_mel_compute(
                plan,
                ptr::null_mut(),
                samples.as_ptr().cast(),
                0,
                samples.len(),
                values.as_mut_ptr(),
                values.len(),
            );
            assert_eq!(status, AVATORCH_OK);
        }
        assert_eq!(avatorch_mel_plan_free(plan), AVATORCH_OK);
    }
});
