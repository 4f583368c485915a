/* stress threads N: eight threads, one plan, N clips each, every result compared.
   stress calls N: N times compute and free.
   stress flat N: the same, and the memory of the process must not grow. */
#include <mojo_audio.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "clip.h"

enum { THREADS = 8 };

static long rounds;

/* The clip and the first half of it, twice, on threads of the library. */
static void batch(void) {
  enum { HALF = 80 * 12 };
  static const size_t lengths[] = {SAMPLES, SAMPLES / 2, SAMPLES, SAMPLES / 2}, rooms[] = {VALUES, HALF, VALUES, HALF};
  const void* const clips[] = {samples, samples, samples, samples};
  float results[4][VALUES], half[HALF];
  float* const values[] = {results[0], results[1], results[2], results[3]};
  REQUIRE(avatorch_mel_compute(plan, NULL, samples, AVATORCH_F32, SAMPLES / 2, half, HALF) == AVATORCH_OK);
  REQUIRE(avatorch_mel_compute_batch(plan, 3, 4, clips, AVATORCH_F32, lengths, values, rooms) == AVATORCH_OK);
  for (int i = 0; i < 4; i++)
    REQUIRE(memcmp(results[i], i % 2 ? half : expected, i % 2 ? sizeof half : sizeof expected) == 0);
}

static void* work(void* unused) {
  (void)unused;
  AvatorchMelWorkspace* workspace;
  AvatorchMelStream* stream;
  float* values = malloc(VALUES * sizeof *values);
  REQUIRE(values && avatorch_mel_workspace_new(plan, &workspace) == AVATORCH_OK);
  REQUIRE(avatorch_mel_stream_new(plan, &stream) == AVATORCH_OK);
  for (long i = 0; i < rounds; i++) {
    memset(values, 0, VALUES * sizeof *values);
    REQUIRE(avatorch_mel_compute(plan, workspace, samples, AVATORCH_F32, SAMPLES, values, VALUES) == AVATORCH_OK);
    REQUIRE(memcmp(values, expected, sizeof expected) == 0);

    AvatorchMelArray* array;
    const float* view;
    REQUIRE(avatorch_mel_compute_array(plan, NULL, samples, AVATORCH_F32, SAMPLES, &array) == AVATORCH_OK);
    REQUIRE(avatorch_mel_array_data(array, &view, NULL, NULL) == AVATORCH_OK);
    REQUIRE(memcmp(view, expected, sizeof expected) == 0);
    REQUIRE(avatorch_mel_array_free(array) == AVATORCH_OK);
    REQUIRE(avatorch_mel_array_free(array) == AVATORCH_INVALID_HANDLE);

    size_t count;
    REQUIRE(avatorch_mel_stream_push(stream, samples, AVATORCH_F32, SAMPLES, values, VALUES, &count) == AVATORCH_OK);
    REQUIRE(avatorch_mel_stream_reset(stream) == AVATORCH_OK);

    if (i % 10 == 0) batch();

    MojoMelConfig config = mojo_mel_config_default();
    MojoMelSpectrogram* mel;
    REQUIRE(mojo_mel_spectrogram_compute(samples, SAMPLES, &config, &mel) == MOJO_AUDIO_SUCCESS);
    REQUIRE(memcmp(mojo_mel_spectrogram_get_data_ptr(mel), expected, sizeof expected) == 0);
    mojo_mel_spectrogram_free(mel);
  }
  REQUIRE(avatorch_mel_stream_free(stream) == AVATORCH_OK);
  REQUIRE(avatorch_mel_workspace_free(workspace) == AVATORCH_OK);
  free(values);
  return NULL;
}

static long resident_pages(void) {
  long total, resident;
  FILE* file = fopen("/proc/self/statm", "r");
  REQUIRE(file && fscanf(file, "%ld %ld", &total, &resident) == 2);
  fclose(file);
  return resident;
}

static void calls(int is_flat) {
  MojoMelConfig config = mojo_mel_config_default();
  long before = 0;
  for (long i = 0; i < rounds; i++) {
    if (i == rounds / 10) before = resident_pages();
    MojoMelSpectrogram* mel;
    REQUIRE(mojo_mel_spectrogram_compute(samples, 201 + (size_t)(i % 300), &config, &mel) == MOJO_AUDIO_SUCCESS);
    mojo_mel_spectrogram_free(mel);
  }
  long grown = resident_pages() - before;
  printf("%ld calls, %ld pages grown\n", rounds, grown);
  REQUIRE(!is_flat || grown <= 64);
}

int main(int argc, char** argv) {
  REQUIRE(argc == 3);
  rounds = atol(argv[2]);
  make_clip();
  if (strcmp(argv[1], "threads") != 0) {
    calls(strcmp(argv[1], "flat") == 0);
    return 0;
  }
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++) REQUIRE(pthread_create(&threads[i], NULL, work, NULL) == 0);
  for (int i = 0; i < THREADS; i++) REQUIRE(pthread_join(threads[i], NULL) == 0);
  REQUIRE(avatorch_mel_plan_free(plan) == AVATORCH_OK);
  printf("%d threads, %ld clips each\n", THREADS, rounds);
  return 0;
}
