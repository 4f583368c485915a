/* One second of a 1 kHz tone through a plan, then the same audio through a stream in pieces of 100 samples. */
#include <avatorch_mel.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SAMPLES 16000

static void check(AvatorchStatus status) {
  if (status != AVATORCH_OK) {
    fprintf(stderr, "%s: %s\n", avatorch_mel_status_text(status), avatorch_mel_last_error());
    exit(1);
  }
}

int main(void) {
  float* samples = malloc(SAMPLES * sizeof *samples);
  if (!samples) return 1;
  for (int i = 0; i < SAMPLES; i++) samples[i] = 0.5f * sinf(2.0f * 3.14159265f * 1000.0f * (float)i / 16000.0f);

  AvatorchMelConfig config;
  AvatorchMelPlan* plan;
  AvatorchMelWorkspace* workspace;
  check(avatorch_mel_config_init(&config, sizeof config, "whisper"));
  check(avatorch_mel_plan_new(&config, &plan));
  check(avatorch_mel_workspace_new(plan, &workspace));

  size_t bands, frames;
  check(avatorch_mel_plan_shape(plan, SAMPLES, &bands, &frames));
  float* mel = malloc(bands * frames * sizeof *mel); /* [band][frame] */
  if (!mel) return 1;
  check(avatorch_mel_compute(plan, workspace, samples, AVATORCH_F32, SAMPLES, mel, bands * frames));

  size_t loudest = 0;
  for (size_t band = 0; band < bands; band++)
    if (mel[band * frames + 50] > mel[loudest * frames + 50]) loudest = band;
  printf("Shape: (%zu, %zu), loudest band %zu\n", bands, frames, loudest);

  AvatorchMelStream* stream;
  check(avatorch_mel_stream_new(plan, &stream));
  float* streamed = malloc(bands * frames * sizeof *streamed); /* [frame][band] */
  if (!streamed) return 1;
  size_t done = 0, count;
  for (size_t at = 0; at < SAMPLES; at += 100) {
    check(avatorch_mel_stream_push(stream, samples + at, AVATORCH_F32, 100, streamed + done * bands,
                                   (frames - done) * bands, &count));
    done += count;
  }
  check(avatorch_mel_stream_flush(stream, streamed + done * bands, (frames - done) * bands, &count));
  check(avatorch_mel_stream_complete(stream, streamed, bands * frames));
  for (size_t band = 0; band < bands; band++)
    for (size_t frame = 0; frame < frames; frame++)
      if (memcmp(&mel[band * frames + frame], &streamed[frame * bands + band], sizeof(float)) != 0) {
        fprintf(stderr, "the stream differs at band %zu, frame %zu\n", band, frame);
        return 1;
      }

  check(avatorch_mel_stream_free(stream));
  check(avatorch_mel_workspace_free(workspace));
  check(avatorch_mel_plan_free(plan));
  free(streamed);
  free(mel);
  free(samples);
  return 0;
}
