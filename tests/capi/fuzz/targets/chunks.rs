//! Any clip cut anywhere, in any framing: the stream's frames are those of the whole clip, bit for bit.
#![no_main]

use std::sync::Arc;

use avatorch::audio::{Dialect, Edge, Framing, Layout, Options, Plan, Stream};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [dialect, framing, hop, flags, length_low, length_high, cuts @ ..] = data else { return };
    let mut options = Dialect::ALL[*dialect as usize % 8].options();
    if flags & 1 != 0 {
        let framings =
            [Framing::Center(Edge::Zero), Framing::Center(Edge::Reflect), Framing::Same, Framing::Inside, Framing::Mirrored];
        options = Options {
            framing: framings[*framing as usize % 5],
            hop_length: 1 + usize::from(*hop) * usize::from(flags >> 4),
            n_fft: if flags & 2 != 0 { 400 } else { 64 },
            win_length: if flags & 2 != 0 { 400 } else { 49 },
            n_mels: 5,
            drop_last: flags & 4 != 0,
            ..options
        };
    }
    options.layout = Layout::FrameMajor;
    let Ok(plan) = Plan::<f32>::new(options) else { return };
    let plan = Arc::new(plan);
    let length = usize::from(u16::from_le_bytes([*length_low, *length_high])) % 6000;
    let samples: Vec<f32> = (0..length).map(|i| ((i * i * 31 + i * 7) % 2003) as f32 / 1000.0 - 1.0).collect();

    let mut stream = Stream::new(Arc::clone(&plan)).expect("no padding");
    let mut rest = &samples[..];
    let mut values = Vec::new();
    for &cut in cuts {
        let (now, later) = rest.split_at(rest.len().min(usize::from(cut) * usize::from(cut) / 16));
        push(&mut stream, now, &mut values, &plan);
        rest = later;
    }
    push(&mut stream, rest, &mut values, &plan);
    let Ok(expected) = plan.log_mel(&samples) else {
        assert!(stream.flush(&mut []).is_err());
        return;
    };
    let at = values.len();
    let left = stream.frames_left().expect("the whole clip is long enough");
    values.resize(at + left * plan.options().n_features(), 0.0);
    assert_eq!(stream.flush(&mut values[at..]).expect("room is made"), left);
    stream.complete(&mut values).expect("all frames are here");
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&values), bits(&expected));
});

fn push(stream: &mut Stream, samples: &[f32], values: &mut Vec<f32>, plan: &Plan) {
    let (at, frames) = (values.len(), stream.frames_after(samples.len()));
    values.resize(at + frames * plan.options().n_features(), 0.0);
    assert_eq!(stream.push(samples, &mut values[at..]).expect("room is made"), frames);
}
