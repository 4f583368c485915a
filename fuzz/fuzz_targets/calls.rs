//! Any sequence of calls with live, freed and invented handles: each is accepted or refused as a list of live ones says.
#![no_main]

use std::ptr;

use avatorch::capi::config::{AvatorchMelConfig, avatorch_mel_config_init};
use avatorch::capi::failure::AvatorchStatus::{AVATORCH_INVALID_HANDLE, AVATORCH_OK};
use avatorch::capi::failure::avatorch_mel_last_error;
use avatorch::capi::mel::*;
use avatorch::capi::mojo_audio::*;
use avatorch::capi::stream::*;
use libfuzzer_sys::fuzz_target;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    Plan,
    Workspace,
    Array,
    Stream,
    Spectrogram,
}

const SAMPLES: [f32; 400] = [0.25; 400];

fuzz_target!(|data: &[u8]| {
    let mut known: Vec<(Kind, usize, bool)> = Vec::new(); // kind, handle, alive
    for call in data.chunks_exact(2) {
        let (what, which) = (call[0] % 12, call[1] as usize);
        let (kind, handle, alive) = match known.get(which) {
            Some(&entry) => entry,
            None => (Kind::Plan, which.wrapping_mul(0x0101_0101_0101_0101), false),
        };
        let is = |wanted: Kind| alive && kind == wanted;
        let status_for = |wanted: Kind| if is(wanted) { AVATORCH_OK } else { AVATORCH_INVALID_HANDLE };
        // SAFETY: every buffer has the size that goes with it; handles may be anything.
        unsafe {
            match what {
                0 => {
                    let mut config: AvatorchMelConfig = std::mem::zeroed();
                    let mut plan = ptr::null_mut();
                    assert_eq!(
                        avatorch_mel_config_init(&mut config, size_of_val(&config), c"whisper".as_ptr()),
                        AVATORCH_OK
                    );
                    (config.n_fft, config.win_length, config.n_mels, config.hop_length) = (32, 32, 2, 16);
                    assert_eq!(avatorch_mel_plan_new(&config, &mut plan), AVATORCH_OK);
                    known.push((Kind::Plan, plan.addr(), true));
                }
                1 => {
                    let mut made = ptr::null_mut();
                    assert_eq!(avatorch_mel_workspace_new(handle as *const _, &mut made), status_for(Kind::Plan));
                    assert_eq!(made.is_null(), !is(Kind::Plan));
                    known.extend(is(Kind::Plan).then_some((Kind::Workspace, made.addr(), true)));
                }
                2 => {
                    let mut made = ptr::null_mut();
                    assert_eq!(avatorch_mel_stream_new(handle as *const _, &mut made), status_for(Kind::Plan));
                    known.extend(is(Kind::Plan).then_some((Kind::Stream, made.addr(), true)));
                }
                3 => {
                    let mut made = ptr::null_mut();
                    let from = SAMPLES.as_ptr().cast();
                    let status =
                        avatorch_mel_compute_array(handle as *const _, ptr::null_mut(), from, 0, 400, &mut made);
                    assert_eq!(status, status_for(Kind::Plan));
                    known.extend(is(Kind::Plan).then_some((Kind::Array, made.addr(), true)));
                }
                4 => {
                    let (config, mut made) = (mojo_mel_config_default(), ptr::null_mut());
                    let status = mojo_mel_spectrogram_compute(SAMPLES.as_ptr(), 400, &config, &mut made);
                    assert_eq!(status, MojoAudioStatus::MOJO_AUDIO_SUCCESS);
                    known.push((Kind::Spectrogram, made.addr(), true));
                }
                5 => {
                    let workspace = known.iter().rev().find(|entry| entry.0 == Kind::Workspace);
                    let (workspace, lives) = workspace.map_or((0, true), |entry| (entry.1, entry.2));
                    let mut values = [0.0; 50];
                    let from = SAMPLES.as_ptr().cast();
                    let status = avatorch_mel_compute(
                        handle as *const _,
                        workspace as *mut _,
                        from,
                        0,
                        400,
                        values.as_mut_ptr(),
                        50,
                    );
                    assert_eq!(status == AVATORCH_OK, is(Kind::Plan) && lives);
                }
                6 => {
                    let mut given = 0;
                    let mut values = [0.0; 60];
                    let from = SAMPLES.as_ptr().cast();
                    assert_eq!(avatorch_mel_stream_reset(handle as *mut _), status_for(Kind::Stream));
                    let status =
                        avatorch_mel_stream_push(handle as *mut _, from, 0, 400, values.as_mut_ptr(), 60, &mut given);
                    assert_eq!(status, status_for(Kind::Stream));
                }
                7 => {
                    let view = mojo_mel_spectrogram_get_data_ptr(handle as *const _);
                    assert_eq!(view.is_null(), !is(Kind::Spectrogram));
                    let size = mojo_mel_spectrogram_get_size(handle as *const _);
                    assert_eq!(size, if is(Kind::Spectrogram) { 160 } else { 0 });
                    assert!(view.is_null() || std::slice::from_raw_parts(view, size).iter().all(|x| x.is_finite()));
                }
                _ => {
                    let wanted = [Kind::Plan, Kind::Workspace, Kind::Array, Kind::Stream][what as usize % 4];
                    let status = match wanted {
                        Kind::Plan => avatorch_mel_plan_free(handle as *mut _),
                        Kind::Workspace => avatorch_mel_workspace_free(handle as *mut _),
                        Kind::Array => avatorch_mel_array_free(handle as *mut _),
                        _ => avatorch_mel_stream_free(handle as *mut _),
                    };
                    let expected = if handle == 0 { AVATORCH_OK } else { status_for(wanted) };
                    assert_eq!(status, expected);
                    if is(wanted) {
                        known[which].2 = false;
                    }
                }
            }
            assert!(!avatorch_mel_last_error().is_null());
        }
    }
    for (kind, handle, _) in known.into_iter().filter(|entry| entry.2) {
        match kind {
            Kind::Plan => assert_eq!(avatorch_mel_plan_free(handle as *mut _), AVATORCH_OK),
            Kind::Workspace => assert_eq!(avatorch_mel_workspace_free(handle as *mut _), AVATORCH_OK),
            Kind::Array => assert_eq!(avatorch_mel_array_free(handle as *mut _), AVATORCH_OK),
            Kind::Stream => assert_eq!(avatorch_mel_stream_free(handle as *mut _), AVATORCH_OK),
            Kind::Spectrogram => mojo_mel_spectrogram_free(handle as *mut _),
        }
    }
});
