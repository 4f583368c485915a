//! Clips of any length, type and content, and buffers of any size: the right status, and no write beyond the buffer.
#![no_main]

use std::ptr;
use std::sync::LazyLock;

use avatorch::capi::batch::avatorch_mel_compute_batch;
use avatorch::capi::config::{AvatorchMelConfig, avatorch_mel_config_init};
use avatorch::capi::failure::AvatorchStatus::{AVATORCH_BUFFER_SIZE, AVATORCH_INVALID_INPUT, AVATORCH_OK};
use avatorch::capi::mel::*;
use avatorch::capi::mojo_audio::*;
use avatorch::capi::waveform::*;
use libfuzzer_sys::fuzz_target;

static PLANS: LazyLock<Vec<usize>> = LazyLock::new(|| {
    [c"whisper", c"librosa", c"torchaudio", c"kaldi", c"nemo", c"hifigan", c"bigvgan", c"vocos"]
        .iter()
        .map(|dialect| unsafe {
            let mut config: AvatorchMelConfig = std::mem::zeroed();
            let mut plan = ptr::null_mut();
            assert_eq!(avatorch_mel_config_init(&mut config, size_of_val(&config), dialect.as_ptr()), AVATORCH_OK);
            assert_eq!(avatorch_mel_plan_new(&config, &mut plan), AVATORCH_OK);
            plan.addr()
        })
        .collect()
});

fuzz_target!(|data: &[u8]| {
    let [choice, format, room_low, room_high, rest @ ..] = data else { return };
    let (plan, format) = (PLANS[*choice as usize % 8] as *const AvatorchMelPlan, i32::from(format % 4));
    let width = [4, 8, 2, 4][format as usize];
    let count = rest.len() / width;
    let mut samples = vec![0_u64; rest.len().div_ceil(8)];
    unsafe {
        ptr::copy_nonoverlapping(rest.as_ptr(), samples.as_mut_ptr().cast(), rest.len());
        let samples = samples.as_ptr().cast();
        let (mut features, mut frames) = (0, 0);
        let shape = avatorch_mel_plan_shape(plan, count, &mut features, &mut frames);
        let given = usize::from(u16::from_le_bytes([*room_low, *room_high]));
        for room in [given, features * frames] {
            let mut values = vec![0.0_f32; room];
            let status = avatorch_mel_compute(plan, ptr::null_mut(), samples, format, count, values.as_mut_ptr(), room);
            let expected = match shape {
                AVATORCH_OK if room == features * frames => AVATORCH_OK,
                AVATORCH_OK => AVATORCH_BUFFER_SIZE,
                _ => AVATORCH_INVALID_INPUT,
            };
            assert_eq!(status, expected);
        }
        if format == 0 {
            let (config, mut mel) = (mojo_mel_config_default(), ptr::null_mut());
            let status = mojo_mel_spectrogram_compute(samples.cast(), count, &config, &mut mel);
            assert_eq!(status == MojoAudioStatus::MOJO_AUDIO_SUCCESS, count > 200);
            mojo_mel_spectrogram_free(mel);
        }
        let (mut first, mut end) = (9, 9);
        assert_eq!(
            avatorch_audio_trim_silence(samples, format, count, 40, 16, 60.0, &mut first, &mut end),
            AVATORCH_OK
        );
        assert!(first <= end && end <= count);
        let mut values = vec![0.0_f32; count];
        assert_eq!(avatorch_audio_normalize(samples, format, count, values.as_mut_ptr(), count), AVATORCH_OK);

        let (from, to) = (RATES[*room_low as usize % RATES.len()], RATES[*room_high as usize % RATES.len()]);
        let mut length = 0;
        assert_eq!(avatorch_audio_resampled_length(count, from, to, &mut length), AVATORCH_OK);
        let mut values = vec![0.0_f32; length];
        let status = avatorch_audio_resample(samples, format, count, from, to, values.as_mut_ptr(), length);
        assert!(status == AVATORCH_OK || status == AVATORCH_INVALID_INPUT && format < 2, "{status:?}");

        batch(plan, samples, format, width, count, usize::from(*room_low) % (count + 1));
    }
});

const RATES: [u32; 5] = [8_000, 16_000, 22_050, 44_100, 48_000];

/// The clip whole and in two parts, in one batch: each as `avatorch_mel_compute` gives it, or refused for its length.
unsafe fn batch(
    plan: *const AvatorchMelPlan,
    samples: *const std::ffi::c_void,
    format: i32,
    width: usize,
    count: usize,
    cut: usize,
) {
    // SAFETY: the parts lie inside the clip, and every output has the size that the plan gives.
    unsafe {
        let clips = [samples, samples, samples.cast::<u8>().add(cut * width).cast()];
        let lengths = [count, cut, count - cut];
        let mut alone = lengths.map(|length| {
            let (mut features, mut frames) = (0, 0);
            avatorch_mel_plan_shape(plan, length, &mut features, &mut frames);
            vec![0.0_f32; features * frames]
        });
        let mut together = alone.clone();
        let rooms = [0, 1, 2].map(|i| alone[i].len());
        let values = together.each_mut().map(|values| values.as_mut_ptr());
        let statuses = [0, 1, 2].map(|i| {
            avatorch_mel_compute(plan, ptr::null_mut(), clips[i], format, lengths[i], alone[i].as_mut_ptr(), rooms[i])
        });
        // One thread: the leak check of the fuzzer counts what a thread that is about to end still holds.
        let status = avatorch_mel_compute_batch(
            plan,
            1,
            3,
            clips.as_ptr(),
            format,
            lengths.as_ptr(),
            values.as_ptr(),
            rooms.as_ptr(),
        );
        assert_eq!(status == AVATORCH_OK, statuses == [AVATORCH_OK; 3]);
        if status == AVATORCH_OK {
            let bits = |values: &Vec<f32>| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            assert_eq!(together.each_ref().map(bits), alone.each_ref().map(bits));
        }
    }
}
