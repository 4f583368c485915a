// One second of a 1 kHz tone from Zig.
const std = @import("std");

const MojoMelConfig = extern struct { sample_rate: i32, n_fft: i32, hop_length: i32, n_mels: i32 };
const MojoMelSpectrogram = opaque {};
extern fn mojo_audio_last_error() [*:0]const u8;
extern fn mojo_mel_config_default() MojoMelConfig;
extern fn mojo_mel_spectrogram_compute([*]const f32, usize, *const MojoMelConfig, *?*MojoMelSpectrogram) c_int;
extern fn mojo_mel_spectrogram_get_shape(?*const MojoMelSpectrogram, *usize, *usize) void;
extern fn mojo_mel_spectrogram_get_data_ptr(?*const MojoMelSpectrogram) [*]const f32;
extern fn mojo_mel_spectrogram_free(?*MojoMelSpectrogram) void;
extern fn printf([*:0]const u8, ...) c_int;

pub fn main() !void {
    var samples: [16000]f32 = undefined;
    for (&samples, 0..) |*sample, i| {
        const turns: f32 = 1000.0 * @as(f32, @floatFromInt(i)) / 16000.0;
        sample.* = 0.5 * @sin(2.0 * std.math.pi * turns);
    }
    const config = mojo_mel_config_default();
    var handle: ?*MojoMelSpectrogram = null;
    if (mojo_mel_spectrogram_compute(&samples, samples.len, &config, &handle) != 0) {
        std.debug.print("{s}\n", .{mojo_audio_last_error()});
        return error.Mel;
    }
    defer mojo_mel_spectrogram_free(handle);
    var bands: usize = 0;
    var frames: usize = 0;
    mojo_mel_spectrogram_get_shape(handle, &bands, &frames);
    const values = mojo_mel_spectrogram_get_data_ptr(handle); // [band][frame]
    var loudest: usize = 0;
    for (0..bands) |band| {
        if (values[band * frames + 50] > values[loudest * frames + 50]) loudest = band;
    }
    _ = printf("Shape: (%zu, %zu), loudest band %zu\n", bands, frames, loudest);
}
