/* Counts what is allocated while clips go through a workspace and a stream, in every dialect and sample format:
 * nothing. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "clip.h"

/* Those of the C library, under its own names; ours below stand before them for this process and what it links. */
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);

static long allocations;

void* malloc(size_t size) {
  allocations++;
  return __libc_malloc(size);
}

void* calloc(size_t count, size_t size) {
  allocations++;
  return __libc_calloc(count, size);
}

void* realloc(void* old, size_t size) {
  allocations++;
  return __libc_realloc(old, size);
}

int posix_memalign(void** out, size_t alignment, size_t size) {
  allocations++;
  *out = __libc_memalign(alignment, size);
  return *out ? 0 : ENOMEM;
}

static void count(const char* dialect, int32_t format) {
  static uint64_t input[SAMPLES]; /* zeros of any format */
  static float values[200000];
  AvatorchMelWorkspace* workspace;
  AvatorchMelStream* stream;
  size_t features, frames, given;
  AvatorchMelPlan* made = make_plan(dialect);
  REQUIRE(avatorch_mel_workspace_new(made, &workspace) == AVATORCH_OK);
  REQUIRE(avatorch_mel_stream_new(made, &stream) == AVATORCH_OK);
  REQUIRE(avatorch_mel_plan_shape(made, SAMPLES, &features, &frames) == AVATORCH_OK);
  long before = allocations;
  for (int i = 0; i < 3; i++)
    REQUIRE(avatorch_mel_compute(made, workspace, input, format, SAMPLES, values, features * frames) == AVATORCH_OK);
  for (size_t cut = 0; cut < SAMPLES / 4; cut += 37)
    REQUIRE(avatorch_mel_stream_push(stream, input, format, cut, values, 200000, &given) == AVATORCH_OK);
  REQUIRE(avatorch_mel_stream_flush(stream, values, 200000, &given) == AVATORCH_OK);
  REQUIRE(allocations == before);
  REQUIRE(avatorch_mel_stream_free(stream) == AVATORCH_OK);
  REQUIRE(avatorch_mel_workspace_free(workspace) == AVATORCH_OK);
  REQUIRE(avatorch_mel_plan_free(made) == AVATORCH_OK);
}

int main(void) {
  static const char* const dialects[] = {"whisper", "librosa", "torchaudio", "kaldi",
                                         "nemo",    "hifigan", "bigvgan",    "vocos"};
  make_clip();
  REQUIRE(allocations > 0);
  for (int32_t format = AVATORCH_F32; format <= AVATORCH_I32; format++)
    for (size_t i = 0; i < sizeof dialects / sizeof *dialects; i++) count(dialects[i], format);
  printf("nothing\n");
  return 0;
}
