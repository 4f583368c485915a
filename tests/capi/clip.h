/* A clip, its features as one thread alone computes them, and what ends a program that finds something else. */
#include <avatorch_mel.h>
#include <stdio.h>
#include <unistd.h>

enum { SAMPLES = 4000, VALUES = 80 * 25 };

static float samples[SAMPLES], expected[VALUES];
static AvatorchMelPlan* plan;

#define REQUIRE(condition)                                                                   \
  do {                                                                                       \
    if (!(condition)) {                                                                      \
      fprintf(stderr, "line %d: %s: %s\n", __LINE__, #condition, avatorch_mel_last_error()); \
      _exit(1);                                                                              \
    }                                                                                        \
  } while (0)

static AvatorchMelPlan* make_plan(const char* dialect) {
  AvatorchMelConfig config;
  AvatorchMelPlan* made;
  REQUIRE(avatorch_mel_config_init(&config, sizeof config, dialect) == AVATORCH_OK);
  REQUIRE(avatorch_mel_plan_new(&config, &made) == AVATORCH_OK);
  return made;
}

static void make_clip(void) {
  for (int i = 0; i < SAMPLES; i++) samples[i] = (float)((i * 7919) % 2001 - 1000) / 2000.0f;
  plan = make_plan("whisper");
  REQUIRE(avatorch_mel_compute(plan, NULL, samples, AVATORCH_F32, SAMPLES, expected, VALUES) == AVATORCH_OK);
}
