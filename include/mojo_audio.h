/* Whisper's log-mel spectrogram. Link with -lmojo_audio. */

#ifndef MOJO_AUDIO_H
#define MOJO_AUDIO_H

#include <stddef.h>
#include <stdint.h>

#define MOJO_AUDIO_VERSION_MAJOR 0

#define MOJO_AUDIO_VERSION_MINOR 1

#define MOJO_AUDIO_VERSION_PATCH 0

/**
 * What a call came to.
 */
typedef enum {
  MOJO_AUDIO_SUCCESS = 0,
  /**
   * An argument is NULL or out of range, or a handle is not alive.
   */
  MOJO_AUDIO_ERROR_INVALID_INPUT = -1,
  /**
   * Memory for the result could not be had.
   */
  MOJO_AUDIO_ERROR_ALLOCATION = -2,
  /**
   * Something outside the caller's hands failed.
   */
  MOJO_AUDIO_ERROR_PROCESSING = -3,
  /**
   * The caller's buffer is too small.
   */
  MOJO_AUDIO_ERROR_BUFFER_SIZE = -4,
} MojoAudioStatus;

/**
 * A log-mel spectrogram, row-major `[n_mels][n_frames]`.
 */
typedef struct MojoMelSpectrogram MojoMelSpectrogram;

/**
 * How to compute: rates in Hz, lengths in samples.
 */
typedef struct {
  int32_t sample_rate;
  int32_t n_fft;
  int32_t hop_length;
  int32_t n_mels;
} MojoMelConfig;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version of the library; compare it with the header's `MOJO_AUDIO_VERSION_*`. NULL is fine.
 *
 * # Safety
 * Each pointer is NULL or may be written.
 */
void mojo_audio_version(int32_t *major, int32_t *minor, int32_t *patch);

/**
 * The sentence of this thread's last failure, empty before the first. Never NULL; valid until the thread's next failure.
 */
const char *mojo_audio_last_error(void);

/**
 * Whisper's: 16 kHz, 400, 160, 80.
 */
MojoMelConfig mojo_mel_config_default(void);

/**
 * Whether `mojo_mel_spectrogram_compute` accepts the configuration; if not, `mojo_audio_last_error` names the field.
 *
 * # Safety
 * `config` is NULL or points to a configuration.
 */
MojoAudioStatus mojo_mel_config_validate(const MojoMelConfig *config);

/**
 * Whisper's log mel of `num_samples` at `config->sample_rate`. At least `n_fft / 2 + 1` samples. Free the result with
 * `mojo_mel_spectrogram_free`. Any number of threads may compute at once. A sample that is NaN or infinite makes the
 * whole result NaN, and no other.
 *
 * # Safety
 * `audio_samples` is NULL or holds `num_samples` floats; `config` is NULL or points to a configuration; `out_result` is
 * NULL or may be written.
 */
MojoAudioStatus mojo_mel_spectrogram_compute(const float *audio_samples,
                                             size_t num_samples,
                                             const MojoMelConfig *config,
                                             MojoMelSpectrogram **out_result);

/**
 * Rows and columns of the result; 0 and 0 for a handle that is not alive. NULL is fine.
 *
 * # Safety
 * Each pointer to a size is NULL or may be written.
 */
void mojo_mel_spectrogram_get_shape(const MojoMelSpectrogram *mel,
                                    size_t *out_n_mels,
                                    size_t *out_n_frames);

/**
 * Floats of the result; 0 for a handle that is not alive.
 */
size_t mojo_mel_spectrogram_get_size(const MojoMelSpectrogram *mel);

/**
 * Copies the result to `out_buffer`, which has room for `buffer_size` floats.
 *
 * # Safety
 * `out_buffer` is NULL or has that room.
 */
MojoAudioStatus mojo_mel_spectrogram_get_data(const MojoMelSpectrogram *mel,
                                              float *out_buffer,
                                              size_t buffer_size);

/**
 * The result in place: read only, aligned to 64 bytes, valid until `mojo_mel_spectrogram_free`. NULL for a handle that
 * is not alive.
 */
const float *mojo_mel_spectrogram_get_data_ptr(const MojoMelSpectrogram *mel);

/**
 * Frees a result. NULL is fine; a result that was freed before is left alone, and `mojo_audio_last_error` says so.
 */
void mojo_mel_spectrogram_free(MojoMelSpectrogram *mel);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* MOJO_AUDIO_H */
