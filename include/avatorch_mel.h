/* Log-mel spectrograms: streams, batches, every convention. Link with -lavatorch_mel.
   Every function checks its arguments and may be called from any thread. */

#ifndef AVATORCH_MEL_H
#define AVATORCH_MEL_H

#include <stddef.h>
#include <stdint.h>

/**
 * What a call came to.
 */
typedef enum {
  AVATORCH_OK = 0,
  /**
   * An argument is NULL, out of range or contradictory.
   */
  AVATORCH_INVALID_INPUT = -1,
  /**
   * Memory for the result could not be had.
   */
  AVATORCH_ALLOCATION = -2,
  /**
   * Something outside the caller's hands failed.
   */
  AVATORCH_PROCESSING = -3,
  /**
   * The caller's buffer has not the size of the result.
   */
  AVATORCH_BUFFER_SIZE = -4,
  /**
   * A handle that was freed, that was never given out, or of another kind.
   */
  AVATORCH_INVALID_HANDLE = -5,
  /**
   * A workspace or stream that another thread is using.
   */
  AVATORCH_BUSY = -6,
} AvatorchStatus;

/**
 * The type of the caller's samples.
 */
typedef enum {
  /**
   * float, as it is.
   */
  AVATORCH_F32 = 0,
  /**
   * double, as it is.
   */
  AVATORCH_F64 = 1,
  /**
   * `int16_t`, divided by 32768.
   */
  AVATORCH_I16 = 2,
  /**
   * `int32_t`, divided by 2147483648.
   */
  AVATORCH_I32 = 3,
} AvatorchSampleFormat;

/**
 * A result in the library's memory.
 */
typedef struct AvatorchMelArray AvatorchMelArray;

/**
 * A configuration made ready. Never changes; any number of threads may use it at once.
 */
typedef struct AvatorchMelPlan AvatorchMelPlan;

/**
 * One audio stream. Frames come out as `[frame][feature]`, equal bit for bit to those of the whole clip, however the
 * audio is cut. Two threads that use the same one at once get `AVATORCH_BUSY`.
 */
typedef struct AvatorchMelStream AvatorchMelStream;

/**
 * The memory that one thread needs to compute. Two threads that use the same one at once get `AVATORCH_BUSY`.
 */
typedef struct AvatorchMelWorkspace AvatorchMelWorkspace;

/**
 * One convention. Fill it with `avatorch_mel_config_init`, then change fields.
 *
 * Later versions only add fields at the end. `size` says how many bytes the caller knows, so that programs and libraries
 * of different versions understand each other.
 */
typedef struct {
  /**
   * Bytes of this structure, `sizeof(AvatorchMelConfig)`.
   */
  uint32_t size;
  /**
   * Hz.
   */
  int32_t sample_rate;
  /**
   * Points of the Fourier transform.
   */
  int32_t n_fft;
  /**
   * Samples under the window, at most `n_fft`.
   */
  int32_t win_length;
  /**
   * Samples from one frame to the next.
   */
  int32_t hop_length;
  int32_t n_mels;
  /**
   * 0 Hann, 1 symmetric Hann, 2 Povey, 3 Hamming, 4 Blackman, 5 rectangular.
   */
  int32_t window;
  /**
   * 0 centred with zeros beyond the ends, 1 centred with reflection, 2 as many frames as hops with reflection,
   * 3 only frames that lie inside, 4 a frame per hop with mirrored ends.
   */
  int32_t framing;
  /**
   * Not 0: leave out the last frame.
   */
  int32_t drop_last;
  /**
   * What happens to the clip's length first: 0 nothing, 1 cut or fill with zeros to `padding_length`, 2 append
   * `padding_length` zeros.
   */
  int32_t padding;
  uint64_t padding_length;
  /**
   * Multiplies every sample; integers are first scaled to [-1, 1).
   */
  double input_scale;
  /**
   * Standard deviation of the noise added to every sample, and what chooses it.
   */
  double dither;
  uint64_t dither_seed;
  /**
   * Not 0: subtract each frame's mean.
   */
  int32_t remove_dc;
  /**
   * 0 none, 1 inside each frame, 2 over the whole clip.
   */
  int32_t preemphasis;
  double preemphasis_coefficient;
  /**
   * 0 power, 1 magnitude.
   */
  int32_t spectrum;
  /**
   * 0 Slaney, 1 HTK, 2 Kaldi.
   */
  int32_t mel_scale;
  /**
   * Added to the power before its root.
   */
  double magnitude_epsilon;
  /**
   * 0 none, 1 Slaney.
   */
  int32_t mel_norm;
  /**
   * 0 none, 1 natural, 2 decimal.
   */
  int32_t log;
  /**
   * Hz; `f_max` of zero or less counts from half of `sample_rate`.
   */
  double f_min;
  double f_max;
  /**
   * What keeps the logarithm away from zero: 0 smaller values become `guard_value`, 1 it is added.
   */
  int32_t guard;
  /**
   * Raise values further than `range_below` under the loudest: 0 no, 1 of the clip, 2 of the batch, 3 so far,
   * 4 `range_loudest`.
   */
  int32_t range;
  double guard_value;
  double range_below;
  double range_loudest;
  /**
   * Every value becomes `scale * value + offset` at the end.
   */
  double scale;
  double offset;
  /**
   * Not 0: give every band zero mean and unit deviation over the clip.
   */
  int32_t normalize_bands;
  /**
   * Put each frame's log energy before its bands: 0 no, 1 measured before pre-emphasis and window, 2 after.
   */
  int32_t energy;
  /**
   * Smaller energies become this.
   */
  double energy_floor;
  /**
   * 0 `[mel][frame]`, 1 `[frame][mel]`.
   */
  int32_t layout;
  /**
   * Instructions: 0 the best there are, 1 baseline, 2 NEON, 3 AVX2, 4 AVX-512.
   */
  int32_t simd;
} AvatorchMelConfig;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The sentence of this thread's last failure, empty before the first. Never NULL; valid until the thread's next failure.
 */
const char *avatorch_mel_last_error(void);

/**
 * A status in a few words. Never NULL; valid for ever.
 */
const char *avatorch_mel_status_text(int32_t status);

/**
 * The library's version, "major.minor.patch". Never NULL; valid for ever.
 */
const char *avatorch_mel_version(void);

/**
 * Fills `config`, of which the caller knows `size` bytes, with a convention by name: "whisper", "librosa", "torchaudio",
 * "kaldi", "nemo", "hifigan", "bigvgan" or "vocos". Fields that this version does not know become zero.
 *
 * # Safety
 * `config` is NULL or `size` bytes that may be written; `dialect` is NULL or ends with a zero.
 */
AvatorchStatus avatorch_mel_config_init(AvatorchMelConfig *config,
                                        size_t size,
                                        const char *dialect);

/**
 * Whether a plan can be made of it; if not, `avatorch_mel_last_error` names the field.
 *
 * # Safety
 * `config` is NULL or as large as its `size` says.
 */
AvatorchStatus avatorch_mel_config_validate(const AvatorchMelConfig *config);

/**
 * Makes a plan. Free it with `avatorch_mel_plan_free`.
 *
 * # Safety
 * `config` is NULL or as large as its `size` says; `out_plan` is NULL or may be written.
 */
AvatorchStatus avatorch_mel_plan_new(const AvatorchMelConfig *config, AvatorchMelPlan **out_plan);

/**
 * Frees a plan; streams that were made of it go on. NULL is fine; a stale handle gives `AVATORCH_INVALID_HANDLE`.
 */
AvatorchStatus avatorch_mel_plan_free(AvatorchMelPlan *plan);

/**
 * The instructions that a plan uses: "baseline", "neon", "avx2" or "avx512"; "" for a handle that is not alive.
 */
const char *avatorch_mel_plan_simd(const AvatorchMelPlan *plan);

/**
 * The result's size for a clip of `n_samples`: values per frame (bands, and the energy), and frames.
 *
 * # Safety
 * Each pointer to a size is NULL or may be written.
 */
AvatorchStatus avatorch_mel_plan_shape(const AvatorchMelPlan *plan,
                                       size_t n_samples,
                                       size_t *out_n_features,
                                       size_t *out_n_frames);

/**
 * Makes a workspace for a plan. Free it with `avatorch_mel_workspace_free`.
 *
 * # Safety
 * `out_workspace` is NULL or may be written.
 */
AvatorchStatus avatorch_mel_workspace_new(const AvatorchMelPlan *plan,
                                          AvatorchMelWorkspace **out_workspace);

/**
 * Frees a workspace. NULL is fine; a stale handle gives `AVATORCH_INVALID_HANDLE`.
 */
AvatorchStatus avatorch_mel_workspace_free(AvatorchMelWorkspace *workspace);

/**
 * Computes one clip into `values`, which has room for exactly the `length` that `avatorch_mel_plan_shape` gives. Nothing
 * is allocated, unless `workspace` is NULL.
 *
 * A sample that is NaN or infinite makes the frames over it NaN or infinite, and the whole clip NaN where the
 * configuration has a range below the clip's loudest; other clips never.
 *
 * # Safety
 * `samples_` is NULL or holds `n_samples` of `format`; `values` is NULL or has room for `length` floats.
 */
AvatorchStatus avatorch_mel_compute(const AvatorchMelPlan *plan,
                                    AvatorchMelWorkspace *workspace,
                                    const void *samples_,
                                    int32_t format,
                                    size_t n_samples,
                                    float *values,
                                    size_t length);

/**
 * Computes one clip into memory of the library, to be read in place. Free it with `avatorch_mel_array_free`.
 *
 * # Safety
 * `samples_` is NULL or holds `n_samples` of `format`; `out_array` is NULL or may be written.
 */
AvatorchStatus avatorch_mel_compute_array(const AvatorchMelPlan *plan,
                                          AvatorchMelWorkspace *workspace,
                                          const void *samples_,
                                          int32_t format,
                                          size_t n_samples,
                                          AvatorchMelArray **out_array);

/**
 * A result in place, in the layout of its configuration: read only, aligned to 64 bytes, valid until
 * `avatorch_mel_array_free`.
 *
 * # Safety
 * Each out pointer is NULL or may be written.
 */
AvatorchStatus avatorch_mel_array_data(const AvatorchMelArray *array,
                                       const float **out_values,
                                       size_t *out_n_features,
                                       size_t *out_n_frames);

/**
 * Frees a result. NULL is fine; a stale handle gives `AVATORCH_INVALID_HANDLE`.
 */
AvatorchStatus avatorch_mel_array_free(AvatorchMelArray *array);

/**
 * Computes `n_clips` clips of any lengths on `n_threads` threads, one clip to a thread at a time. Clip `i` has
 * `lengths[i]` samples at `clips[i]`, and its values go to `values[i]`, which has room for exactly `rooms[i]` floats.
 *
 * # Safety
 * `clips`, `lengths`, `values` and `rooms` are NULL or hold `n_clips` elements that keep these promises; no `values[i]`
 * is written or read by anybody else during the call.
 */
AvatorchStatus avatorch_mel_compute_batch(const AvatorchMelPlan *plan,
                                          size_t n_threads,
                                          size_t n_clips,
                                          const void *const *clips,
                                          int32_t format,
                                          const size_t *lengths,
                                          float *const *values,
                                          const size_t *rooms);

/**
 * Starts a stream. Free it with `avatorch_mel_stream_free`.
 *
 * # Safety
 * `out_stream` is NULL or may be written.
 */
AvatorchStatus avatorch_mel_stream_new(const AvatorchMelPlan *plan, AvatorchMelStream **out_stream);

/**
 * Frees a stream. NULL is fine; a stale handle gives `AVATORCH_INVALID_HANDLE`.
 */
AvatorchStatus avatorch_mel_stream_free(AvatorchMelStream *stream);

/**
 * Forgets everything that was pushed.
 */
AvatorchStatus avatorch_mel_stream_reset(AvatorchMelStream *stream);

/**
 * How many frames pushing `n_samples` more would give, and how many flushing now would give; the latter is 0 where the
 * stream is too short to be flushed.
 *
 * # Safety
 * Each out pointer is NULL or may be written.
 */
AvatorchStatus avatorch_mel_stream_frames(const AvatorchMelStream *stream,
                                          size_t n_samples,
                                          size_t *out_by_push,
                                          size_t *out_by_flush);

/**
 * Takes the next samples, and writes the frames they complete to `values`, which has room for `length` floats. Takes
 * nothing where that is too little. Allocates nothing.
 *
 * # Safety
 * `samples_` is NULL or holds `n_samples` of `format`; `values` is NULL or has room for `length` floats; `out_n_frames`
 * is NULL or may be written.
 */
AvatorchStatus avatorch_mel_stream_push(AvatorchMelStream *stream,
                                        const void *samples_,
                                        int32_t format,
                                        size_t n_samples,
                                        float *values,
                                        size_t length,
                                        size_t *out_n_frames);

/**
 * Ends the stream, and writes the frames that reach beyond its last sample.
 *
 * # Safety
 * `values` is NULL or has room for `length` floats; `out_n_frames` is NULL or may be written.
 */
AvatorchStatus avatorch_mel_stream_flush(AvatorchMelStream *stream,
                                         float *values,
                                         size_t length,
                                         size_t *out_n_frames);

/**
 * Applies what hangs on the whole clip (Whisper's range below the loudest, normalised bands) to all frames that the
 * stream gave, in their order. Does nothing where frames were final when they came out.
 *
 * # Safety
 * `values` is NULL or holds `length` floats.
 */
AvatorchStatus avatorch_mel_stream_complete(AvatorchMelStream *stream,
                                            float *values,
                                            size_t length);

/**
 * Bytes of memory that the stream holds, whatever its length.
 *
 * # Safety
 * `out_bytes` is NULL or may be written.
 */
AvatorchStatus avatorch_mel_stream_bytes(const AvatorchMelStream *stream, size_t *out_bytes);

/**
 * Samples that `n_samples` at `from` Hz become at `to` Hz.
 *
 * # Safety
 * `out_length` is NULL or may be written.
 */
AvatorchStatus avatorch_audio_resampled_length(size_t n_samples,
                                               uint32_t from,
                                               uint32_t to,
                                               size_t *out_length);

/**
 * One clip at another rate, into exactly `length` floats, as `avatorch_audio_resampled_length` gives them. Frequencies
 * that the new rate cannot hold are removed, and the clip is not delayed. A sample that is NaN, infinite or beyond 1e30
 * is refused.
 *
 * # Safety
 * `samples_` is NULL or holds `n_samples` of `format`; `values` is NULL or has room for `length` floats.
 */
AvatorchStatus avatorch_audio_resample(const void *samples_,
                                       int32_t format,
                                       size_t n_samples,
                                       uint32_t from,
                                       uint32_t to,
                                       float *values,
                                       size_t length);

/**
 * The part of a clip between its silences: samples `out_first` to `out_end`, the latter not included, both 0 where all
 * is silent. Loudness is the root mean square of `frame_length` samples, every `hop_length`; silent is more than
 * `below_db` decibels below the loudest frame, or holds a NaN.
 *
 * # Safety
 * `samples_` is NULL or holds `n_samples` of `format`; each out pointer is NULL or may be written.
 */
AvatorchStatus avatorch_audio_trim_silence(const void *samples_,
                                           int32_t format,
                                           size_t n_samples,
                                           size_t frame_length,
                                           size_t hop_length,
                                           double below_db,
                                           size_t *out_first,
                                           size_t *out_end);

/**
 * Zero mean and unit deviation, as wav2vec 2.0 and `HuBERT` take their samples, into exactly `n_samples` floats; all of
 * them NaN where any sample is not finite.
 *
 * # Safety
 * `samples_` is NULL or holds `n_samples` of `format`; `values` is NULL or has room for `length` floats.
 */
AvatorchStatus avatorch_audio_normalize(const void *samples_,
                                        int32_t format,
                                        size_t n_samples,
                                        float *values,
                                        size_t length);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* AVATORCH_MEL_H */
