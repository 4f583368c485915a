// One second of a 1 kHz tone from a Rust program that links the C library.
use std::ffi::{CStr, c_char};
use std::ptr;

#[repr(C)]
struct MojoMelConfig {
    sample_rate: i32,
    n_fft: i32,
    hop_length: i32,
    n_mels: i32,
}

#[repr(C)]
struct MojoMelSpectrogram {
    _opaque: [u8; 0],
}

#[link(name = "mojo_audio")]
unsafe extern "C" {
    fn mojo_mel_config_default() -> MojoMelConfig;
    fn mojo_mel_spectrogram_compute(
        audio_samples: *const f32,
        num_samples: usize,
        config: *const MojoMelConfig,
        out_result: *mut *mut MojoMelSpectrogram,
    ) -> i32;
    fn mojo_mel_spectrogram_get_shape(mel: *const MojoMelSpectrogram, n_mels: *mut usize, n_frames: *mut usize);
    fn mojo_mel_spectrogram_get_data(mel: *const MojoMelSpectrogram, buffer: *mut f32, size: usize) -> i32;
    fn mojo_mel_spectrogram_free(mel: *mut MojoMelSpectrogram);
    fn mojo_audio_last_error() -> *const c_char;
}

struct Mel {
    values: Vec<f32>, // [band][frame]
    bands: usize,
    frames: usize,
}

fn check(status: i32) -> Result<(), String> {
    if status == 0 {
        return Ok(());
    }
    // SAFETY: the text is never NULL, and this thread makes no call meanwhile.
    Err(unsafe { CStr::from_ptr(mojo_audio_last_error()) }.to_string_lossy().into_owned())
}

fn mel(samples: &[f32]) -> Result<Mel, String> {
    let mut handle = ptr::null_mut();
    let (mut bands, mut frames) = (0, 0);
    // SAFETY: every pointer is to memory of the size that goes with it.
    unsafe {
        check(mojo_mel_spectrogram_compute(samples.as_ptr(), samples.len(), &mojo_mel_config_default(), &mut handle))?;
        mojo_mel_spectrogram_get_shape(handle, &mut bands, &mut frames);
        let mut values = vec![0.0; bands * frames];
        let copied = check(mojo_mel_spectrogram_get_data(handle, values.as_mut_ptr(), values.len()));
        mojo_mel_spectrogram_free(handle);
        copied.map(|()| Mel { values, bands, frames })
    }
}

fn main() -> Result<(), String> {
    let samples: Vec<f32> = (0..16000).map(|i| 0.5 * (std::f32::consts::TAU * 1000.0 * i as f32 / 16000.0).sin()).collect();
    let Mel { values, bands, frames } = mel(&samples)?;
    let at = |band: usize| values[band * frames + 50];
    let loudest = (0..bands).max_by(|&a, &b| at(a).total_cmp(&at(b))).unwrap_or(0);
    println!("Shape: ({bands}, {frames}), loudest band {loudest}");
    assert!(mel(&samples[..200]).is_err_and(|text| text.contains("expected at least 201")));
    Ok(())
}
