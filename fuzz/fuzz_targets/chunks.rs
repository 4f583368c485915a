//! Any clip of any sample format cut anywhere, in any framing: the stream's frames are those of the whole clip, bit for bit.
#![no_main]

use std::ptr;

use avatorch::capi::config::{AvatorchMelConfig, avatorch_mel_config_init};
use avatorch::capi::failure::AvatorchStatus::{AVATORCH_BUFFER_SIZE, AVATORCH_INVALID_INPUT, AVATORCH_OK};
use avatorch::capi::mel::*;
use avatorch::capi::stream::*;
use libfuzzer_sys::fuzz_target;

const DIALECTS: [&std::ffi::CStr; 8] =
    [c"whisper", c"librosa", c"torchaudio", c"kaldi", c"nemo", c"hifigan", c"bigvgan", c"vocos"];
/// Bytes of a sample, by format.
const WIDTHS: [usize; 4] = [4, 8, 2, 4];

fuzz_target!(|data: &[u8]| {
    let [dialect, framing, hop, flags, format, length_low, length_high, cuts @ ..] = data else { return };
    let format = *format as usize % 4;
    let length = usize::from(u16::from_le_bytes([*length_low, *length_high])) % 6000;
    let samples = samples(format, length); // eight bytes a word, so that it is aligned
    let from = |at: usize| samples.as_ptr().cast::<u8>().wrapping_add(at * WIDTHS[format]).cast();
    // SAFETY: every buffer has the size that goes with it.
    unsafe {
        let Some((config, plan)) = plan(*dialect, *framing, *hop, *flags) else { return };
        let n_features = config.n_mels as usize + usize::from(config.energy != 0);
        let mut stream = ptr::null_mut();
        assert_eq!(avatorch_mel_stream_new(plan, &mut stream), AVATORCH_OK);

        let (mut at, mut values) = (0, Vec::new());
        let ends = cuts.iter().map(|&cut| usize::from(cut) * usize::from(cut) / 16).chain([length]);
        for cut in ends {
            let count = cut.min(length - at);
            let (mut frames, mut given, old) = (0, 0, values.len());
            assert_eq!(avatorch_mel_stream_frames(stream, count, &mut frames, ptr::null_mut()), AVATORCH_OK);
            values.resize(old + frames * n_features, 0.0_f32);
            let to = values.as_mut_ptr().add(old);
            if frames > 0 {
                let short = frames * n_features - 1;
                let status = avatorch_mel_stream_push(stream, from(at), format as i32, count, to, short, &mut given);
                assert_eq!((status, given), (AVATORCH_BUFFER_SIZE, 0));
            }
            let room = frames * n_features;
            assert_eq!(
                avatorch_mel_stream_push(stream, from(at), format as i32, count, to, room, &mut given),
                AVATORCH_OK
            );
            assert_eq!(given, frames);
            at += count;
        }
        assert_eq!(at, length);

        let (mut left, mut given, mut n_frames, old) = (0, 0, 0, values.len());
        let whole = avatorch_mel_plan_shape(plan, length, ptr::null_mut(), &mut n_frames);
        assert_eq!(avatorch_mel_stream_frames(stream, 0, ptr::null_mut(), &mut left), AVATORCH_OK);
        values.resize(old + left * n_features, 0.0);
        let to = values.as_mut_ptr().add(old);
        let flushed = avatorch_mel_stream_flush(stream, to, left * n_features, &mut given);
        assert_eq!(flushed, whole);
        if whole == AVATORCH_OK {
            assert_eq!((given, values.len()), (left, n_frames * n_features));
            assert_eq!(avatorch_mel_stream_complete(stream, values.as_mut_ptr(), values.len()), AVATORCH_OK);
            let status =
                avatorch_mel_stream_push(stream, from(0), format as i32, 1.min(length), ptr::null_mut(), 0, &mut given);
            assert_eq!(status, AVATORCH_INVALID_INPUT, "a flushed stream takes no more");
            let mut expected = vec![0.0_f32; values.len()];
            let (to, room) = (expected.as_mut_ptr(), expected.len());
            let computed = avatorch_mel_compute(plan, ptr::null_mut(), from(0), format as i32, length, to, room);
            assert_eq!(computed, AVATORCH_OK);
            let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&values), bits(&expected));
        }
        assert_eq!(avatorch_mel_stream_free(stream), AVATORCH_OK);
        assert_eq!(avatorch_mel_plan_free(plan), AVATORCH_OK);
    }
});

/// A dialect, in another framing where the flags say so; none where its options contradict each other.
unsafe fn plan(dialect: u8, framing: u8, hop: u8, flags: u8) -> Option<(AvatorchMelConfig, *mut AvatorchMelPlan)> {
    let mut plan = ptr::null_mut();
    // SAFETY: the structure is plain numbers, and as large as it says.
    unsafe {
        let mut config: AvatorchMelConfig = std::mem::zeroed();
        let name = DIALECTS[dialect as usize % 8].as_ptr();
        assert_eq!(avatorch_mel_config_init(&mut config, size_of_val(&config), name), AVATORCH_OK);
        if flags & 1 != 0 {
            config.framing = i32::from(framing % 5);
            config.hop_length = 1 + i32::from(hop) * i32::from(flags >> 4);
            (config.n_fft, config.win_length) = if flags & 2 != 0 { (400, 400) } else { (64, 49) };
            config.n_mels = 5;
            config.drop_last = i32::from(flags & 4 != 0);
            config.range = i32::from(flags & 8 != 0) * 3;
        }
        (config.padding, config.layout) = (0, 1);
        (avatorch_mel_plan_new(&config, &mut plan) == AVATORCH_OK).then_some((config, plan))
    }
}

fn samples(format: usize, length: usize) -> Vec<u64> {
    let mut words = vec![0; (length * WIDTHS[format]).div_ceil(8)];
    let bytes = words.as_mut_ptr().cast::<u8>();
    for i in 0..length {
        let value = ((i * i * 31 + i * 7) % 2003) as f32 / 1002.0 - 1.0;
        let at = bytes.wrapping_add(i * WIDTHS[format]);
        // SAFETY: the words have room for `length` samples of the width.
        unsafe {
            match format {
                0 => at.cast::<f32>().write(value),
                1 => at.cast::<f64>().write(f64::from(value)),
                2 => at.cast::<i16>().write((value * 32767.0) as i16),
                _ => at.cast::<i32>().write((value * 2e9) as i32),
            }
        }
    }
    words
}
