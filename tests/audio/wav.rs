//! WAV files, good and hostile.

use std::io::Cursor;

use avatorch::audio::{Audio, load_wav, read_wav};
use hound::{SampleFormat, WavSpec, WavWriter};

const FLOAT: WavSpec =
    WavSpec { channels: 1, sample_rate: 16_000, bits_per_sample: 32, sample_format: SampleFormat::Float };

fn write<S: hound::Sample + Copy>(spec: WavSpec, samples: &[S]) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let mut writer = WavWriter::new(&mut bytes, spec).unwrap();
    for &sample in samples {
        writer.write_sample(sample).unwrap();
    }
    writer.finalize().unwrap();
    bytes.into_inner()
}

fn read(bytes: &[u8]) -> avatorch::Result<Audio> {
    read_wav(bytes, bytes.len() as u64, "a.wav")
}

fn refusal(bytes: &[u8]) -> String {
    read(bytes).unwrap_err().to_string()
}

#[test]
fn every_width_comes_back_scaled() {
    for bits in [8, 16, 24, 32] {
        let spec =
            WavSpec { channels: 2, sample_rate: 44_100, bits_per_sample: bits, sample_format: SampleFormat::Int };
        let top = (1_i64 << (bits - 1)) as f64;
        let whole = [-top as i32, 0, 1, (top - 1.0) as i32];
        let audio = read(&write(spec, &whole)).unwrap();
        let expected: Vec<f32> = whole.iter().map(|&sample| (f64::from(sample) / top) as f32).collect();
        assert_eq!(audio, Audio { samples: expected, n_channels: 2, sample_rate: 44_100 });
    }
    let floats = [0.0_f32, -1.5, 0.25];
    assert_eq!(read(&write(FLOAT, &floats)).unwrap().samples, floats);
}

#[test]
fn channels_are_averaged() {
    let spec = WavSpec { channels: 2, ..FLOAT };
    assert_eq!(read(&write(spec, &[1.0_f32, 0.0, 0.5, -0.5])).unwrap().mono(), [0.5, 0.0]);
    assert!(read(&write(spec, &[] as &[f32])).unwrap().mono().is_empty());
}

#[test]
fn hostile_files_are_sentences() {
    let good = write(FLOAT, &[0.5_f32; 100]);
    for length in 0..good.len() {
        let text = refusal(&good[..length]);
        assert!(text.starts_with("a.wav: "), "{length}: {text}");
    }
    let data = good.windows(4).position(|tag| tag == b"data").unwrap();
    let mut huge = good.clone();
    huge[data + 4..data + 8].copy_from_slice(&0xffff_fff0_u32.to_le_bytes());
    assert!(refusal(&huge).contains("declares 1073741820 samples of 4 bytes, and has"), "{}", refusal(&huge));
    assert!(refusal(b"RIFX not at all").starts_with("a.wav: not a WAV file"));
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert!(refusal(&write(FLOAT, &[0.0, 0.0, bad])).contains("a.wav: sample 2 is"));
    }
}

#[test]
fn lengths_that_are_not_there_ask_for_no_memory() {
    let good = write(FLOAT, &[0.5_f32; 100]);
    let most = 4 * good.len();
    // Sizes of the file, of its format and of its data, and the numbers of channels, bytes and bits.
    for place in [4, 16, 22, 24, 28, 32, 34].into_iter().chain(36..good.len() - 400) {
        for value in [0, 0x7f, 0x80, 0xff] {
            let mut bytes = good.clone();
            let end = (place + 4).min(bytes.len());
            bytes[place..end].fill(value);
            super::LARGEST.set(0);
            let outcome = read(&bytes);
            let largest = super::LARGEST.get();
            assert!(largest <= most, "bytes {place}..{end} are {value}: {largest} bytes asked for, {outcome:?}");
        }
    }
}

#[test]
fn any_byte_may_be_wrong() {
    let good = write(FLOAT, &[0.5_f32; 20]);
    for place in 0..good.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[place] = value;
            // Read or refused, and never more samples than bytes.
            if let Ok(audio) = read(&bytes) {
                assert!(audio.samples.len() <= bytes.len());
            }
        }
    }
}

#[test]
fn a_missing_file_is_named() {
    let text = load_wav("no/such/file.wav".as_ref()).unwrap_err().to_string();
    assert!(text.starts_with("no/such/file.wav: "), "{text}");
}
