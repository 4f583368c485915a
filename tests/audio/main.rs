//! The mel part as a Rust program uses it.

mod wav;

use std::alloc::{GlobalAlloc, Layout as Memory, System};
use std::cell::Cell;
use std::sync::Arc;

use avatorch::audio::{Clip, Dialect, DynamicRange, Layout, Level, Loudest, Options, Plan, Stream};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static LARGEST: Cell<usize> = const { Cell::new(0) }; // bytes
}

struct Counting;

// SAFETY: everything is handed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, memory: Memory) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        LARGEST.with(|bytes| bytes.set(bytes.get().max(memory.size())));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(memory) }
    }
    unsafe fn dealloc(&self, at: *mut u8, memory: Memory) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, memory) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn noise(length: usize) -> Vec<f32> {
    let mut state = 5_u64;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / 8_388_608.0 - 1.0
        })
        .collect()
}

fn levels() -> impl Iterator<Item = Level> {
    Level::ALL.into_iter().filter(|level| level.is_available())
}

#[test]
fn every_level_agrees_with_float64() {
    let samples = noise(7001);
    for dialect in Dialect::ALL {
        let truth = Plan::<f64>::new(dialect.options()).unwrap().log_mel(&samples).unwrap();
        let largest = truth.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
        for level in levels() {
            let values = Plan::<f32>::with_level(dialect.options(), level).unwrap().log_mel(&samples).unwrap();
            assert_eq!(values.len(), truth.len());
            for (value, truth) in values.iter().zip(&truth) {
                assert!(
                    (f64::from(*value) - truth).abs() <= 3e-5 * largest,
                    "{dialect} {level}: {value} is not {truth}"
                );
            }
        }
    }
}

#[test]
fn streams_equal_clips_at_every_level() {
    let samples = noise(9973);
    for dialect in Dialect::ALL {
        for level in levels() {
            let options = Options { layout: Layout::FrameMajor, ..dialect.options() };
            let plan = Arc::new(Plan::<f32>::with_level(options, level).unwrap());
            let expected = plan.log_mel(&samples).unwrap();
            let mut stream = Stream::new(Arc::clone(&plan)).unwrap();
            let mut values = vec![0.0; expected.len()];
            let mut at = 0;
            for chunk in samples.chunks(331) {
                at += stream.push(chunk, &mut values[at..]).unwrap() * options.n_features();
            }
            stream.flush(&mut values[at..]).unwrap();
            stream.complete(&mut values).unwrap();
            assert_eq!(values, expected, "{dialect} {level}");
        }
    }
}

#[test]
fn computing_and_pushing_allocate_nothing() {
    let samples = noise(16_000);
    for dialect in Dialect::ALL {
        let plan = Arc::new(Plan::<f32>::new(dialect.options()).unwrap());
        let (n_features, n_frames) = plan.shape(samples.len()).unwrap();
        let mut values = vec![0.0; n_features * n_frames];
        let mut workspace = plan.workspace();
        let mut stream = Stream::new(Arc::clone(&plan)).unwrap();
        let before = ALLOCATIONS.get();
        for _ in 0..3 {
            plan.compute(&samples, &mut values, &mut workspace).unwrap();
        }
        let frames = stream.push(&samples, &mut values).unwrap();
        stream.flush(&mut values[frames * n_features..]).unwrap();
        assert_eq!(ALLOCATIONS.get(), before, "{dialect}");
    }
}

#[test]
fn a_bad_clip_spoils_no_other() {
    let good = noise(4000);
    let mut bad = good.clone();
    bad[1000] = f32::NAN;
    let range = DynamicRange { below: 8.0, loudest: Loudest::OfBatch };
    for loudest in [Loudest::OfClip, Loudest::OfBatch] {
        let range = DynamicRange { loudest, ..range };
        let plan = Plan::<f32>::new(Options { dynamic_range: Some(range), ..Dialect::Whisper.options() }).unwrap();
        let mut values = [vec![0.0; 2000], vec![0.0; 2000], vec![0.0; 2000]];
        let [a, b, c] = &mut values;
        let mut clips = [(&good, a), (&bad, b), (&good, c)].map(|(samples, values)| Clip { samples, values });
        plan.compute_batch(&mut clips, &mut [plan.workspace(), plan.workspace()]).unwrap();
        assert!(values[1].iter().all(|value| value.is_nan()));
        assert_eq!(values[0], values[2]);
        assert_eq!(values[0], Plan::<f32>::new(Dialect::Whisper.options()).unwrap().log_mel(&good).unwrap());
    }
}
