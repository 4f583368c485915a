// One second of a 1 kHz tone from Node.js, through koffi: npm install koffi
'use strict';
const koffi = require('koffi');

const library = koffi.load(process.argv[2] ?? 'libmojo_audio.so');
koffi.struct('MojoMelConfig', { sample_rate: 'int32', n_fft: 'int32', hop_length: 'int32', n_mels: 'int32' });
koffi.opaque('MojoMelSpectrogram');
const lastError = library.func('const char *mojo_audio_last_error()');
const defaultConfig = library.func('MojoMelConfig mojo_mel_config_default()');
const compute = library.func(
  'int mojo_mel_spectrogram_compute(const float *samples, size_t count, const MojoMelConfig *config, _Out_ MojoMelSpectrogram **out)');
const getShape = library.func(
  'void mojo_mel_spectrogram_get_shape(const MojoMelSpectrogram *mel, _Out_ size_t *bands, _Out_ size_t *frames)');
const getData = library.func('int mojo_mel_spectrogram_get_data(const MojoMelSpectrogram *mel, _Out_ float *to, size_t room)');
const free = library.func('void mojo_mel_spectrogram_free(MojoMelSpectrogram *mel)');

function check(status) {
  if (status !== 0) throw new Error(lastError());
}

/** Values as [band][frame], one after the other. */
function mel(samples) {
  const handle = [null];
  check(compute(samples, samples.length, defaultConfig(), handle));
  try {
    const bands = [0], frames = [0];
    getShape(handle[0], bands, frames);
    const values = new Float32Array(Number(bands[0]) * Number(frames[0]));
    check(getData(handle[0], values, values.length));
    return { values, bands: Number(bands[0]), frames: Number(frames[0]) };
  } finally {
    free(handle[0]);
  }
}

const samples = Float32Array.from({ length: 16000 }, (_, i) => 0.5 * Math.sin(2 * Math.PI * 1000 * i / 16000));
const { values, bands, frames } = mel(samples);
let loudest = 0;
for (let band = 0; band < bands; band++) {
  if (values[band * frames + 50] > values[loudest * frames + 50]) loudest = band;
}
console.log(`Shape: (${bands}, ${frames}), loudest band ${loudest}`);
