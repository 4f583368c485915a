/* The calls of a program written for mojo_audio.h, unchanged: gcc guide.c -lmojo_audio -lm */
#include <mojo_audio.h>
#include <stdio.h>
#include <stdlib.h>

int main(void) {
  int32_t major, minor, patch;
  mojo_audio_version(&major, &minor, &patch);
  if (major != MOJO_AUDIO_VERSION_MAJOR || minor != MOJO_AUDIO_VERSION_MINOR || patch != MOJO_AUDIO_VERSION_PATCH)
    return 2;

  size_t num_samples = 480000;
  float* audio = (float*)calloc(num_samples, sizeof(float));
  MojoMelConfig config = mojo_mel_config_default();
  if (mojo_mel_config_validate(&config) != MOJO_AUDIO_SUCCESS) return 3;

  MojoMelSpectrogram* mel = NULL;
  MojoAudioStatus status = mojo_mel_spectrogram_compute(audio, num_samples, &config, &mel);
  if (status != MOJO_AUDIO_SUCCESS) {
    fprintf(stderr, "Error: %s\n", mojo_audio_last_error());
    return 1;
  }
  size_t n_mels, n_frames;
  mojo_mel_spectrogram_get_shape(mel, &n_mels, &n_frames);
  printf("Shape: (%zu, %zu)\n", n_mels, n_frames);

  size_t size = mojo_mel_spectrogram_get_size(mel);
  float* data = (float*)malloc(size * sizeof(float));
  status = mojo_mel_spectrogram_get_data(mel, data, size);
  if (status != MOJO_AUDIO_SUCCESS) return 4;
  const float* view = mojo_mel_spectrogram_get_data_ptr(mel);
  for (size_t i = 0; i < size; i++)
    if (data[i] != view[i] || data[i] != -1.5f) return 5;

  mojo_mel_spectrogram_free(mel);
  mojo_mel_spectrogram_free(NULL);
  free(data);
  free(audio);
  return 0;
}
