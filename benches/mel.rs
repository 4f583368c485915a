//! Milliseconds for 30 s of audio at every level of this processor: `cargo bench --no-default-features --bench mel`.

use std::time::Instant;

use avatorch::audio::{Dialect, Level, Options, Plan};

fn main() {
    let samples = noise(480_000);
    for n_mels in [80, 128] {
        for level in Level::ALL.into_iter().filter(|level| level.is_available()) {
            report(
                &format!("whisper, {n_mels} mels"),
                Options { n_mels, ..Dialect::Whisper.options() },
                level,
                &samples,
            );
        }
    }
    for dialect in Dialect::ALL.into_iter().skip(1) {
        report(dialect.name(), dialect.options(), Level::best(), &samples);
    }
}

fn report(name: &str, options: Options, level: Level, samples: &[f32]) {
    let plan = Plan::<f32>::with_level(options, level).expect("named conventions are valid");
    let (n_features, n_frames) = plan.shape(samples.len()).expect("the clip is long enough");
    let mut values = vec![0.0; n_features * n_frames];
    let mut workspace = plan.workspace();
    let mut times: Vec<f64> = (0..60)
        .map(|_| {
            let start = Instant::now();
            plan.compute(samples, &mut values, &mut workspace).expect("sizes match");
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("{name:20} {level:9} {:7.3} ms median, {:7.3} least", times[30], times[0]);
}

/// A linear congruential generator: random enough to keep the processor honest.
fn noise(length: usize) -> Vec<f32> {
    let mut state = 1_u64;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / 8_388_608.0 - 1.0
        })
        .collect()
}
