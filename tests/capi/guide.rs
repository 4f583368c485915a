// The calls of a Rust program written for mojo_audio.h: statuses as i32, structures of C, a vector for a tensor.
use std::ffi::CStr;
use std::os::raw::c_char;

#[repr(C)]
pub struct MojoMelConfig {
    pub sample_rate: i32,
    pub n_fft: i32,
    pub hop_length: i32,
    pub n_mels: i32,
}

#[repr(C)]
pub struct MojoMelSpectrogram {
    _private: [u8; 0],
}

#[link(name = "mojo_audio")]
extern "C" {
    fn mojo_audio_version(major: *mut i32, minor: *mut i32, patch: *mut i32);
    fn mojo_mel_config_default() -> MojoMelConfig;
    fn mojo_mel_config_validate(config: *const MojoMelConfig) -> i32;
    fn mojo_mel_spectrogram_compute(
        audio_samples: *const f32,
        num_samples: usize,
        config: *const MojoMelConfig,
        out_result: *mut *mut MojoMelSpectrogram,
    ) -> i32;
    fn mojo_mel_spectrogram_get_shape(mel: *const MojoMelSpectrogram, n_mels: *mut usize, n_frames: *mut usize);
    fn mojo_mel_spectrogram_get_size(mel: *const MojoMelSpectrogram) -> usize;
    fn mojo_mel_spectrogram_get_data(mel: *const MojoMelSpectrogram, buffer: *mut f32, buffer_size: usize) -> i32;
    fn mojo_mel_spectrogram_free(mel: *mut MojoMelSpectrogram);
    fn mojo_audio_last_error() -> *const c_char;
}

fn main() {
    let audio = vec![0.0f32; 480_000];
    unsafe {
        let (mut major, mut minor, mut patch) = (0, 0, 0);
        mojo_audio_version(&mut major, &mut minor, &mut patch);
        let config = mojo_mel_config_default();
        assert_eq!(mojo_mel_config_validate(&config), 0);
        let mut mel: *mut MojoMelSpectrogram = std::ptr::null_mut();
        let status = mojo_mel_spectrogram_compute(audio.as_ptr(), audio.len(), &config, &mut mel);
        if status != 0 {
            panic!("{}", CStr::from_ptr(mojo_audio_last_error()).to_string_lossy());
        }
        let (mut n_mels, mut n_frames) = (0usize, 0usize);
        mojo_mel_spectrogram_get_shape(mel, &mut n_mels, &mut n_frames);
        let mut data = vec![0.0f32; mojo_mel_spectrogram_get_size(mel)];
        assert_eq!(mojo_mel_spectrogram_get_data(mel, data.as_mut_ptr(), data.len()), 0);
        mojo_mel_spectrogram_free(mel);
        assert_eq!(data.len(), n_mels * n_frames);
        println!("Shape: ({n_mels}, {n_frames})");
    }
}
