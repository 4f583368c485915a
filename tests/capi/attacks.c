/* Programs that do to the library what its header does not forbid, and nobody expects. attacks NAME [library [copy]] */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fenv.h>
#include <malloc.h>
#include <mojo_audio.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clip.h"

static atomic_bool is_over;

/* Both interfaces, all kinds of handles. */
static void use_everything(void) {
  float values[VALUES];
  AvatorchMelWorkspace* workspace;
  AvatorchMelStream* stream;
  AvatorchMelArray* array;
  size_t count;
  REQUIRE(avatorch_mel_workspace_new(plan, &workspace) == AVATORCH_OK);
  REQUIRE(avatorch_mel_compute(plan, workspace, samples, AVATORCH_F32, SAMPLES, values, VALUES) == AVATORCH_OK);
  REQUIRE(memcmp(values, expected, sizeof expected) == 0);
  REQUIRE(avatorch_mel_workspace_free(workspace) == AVATORCH_OK);
  REQUIRE(avatorch_mel_stream_new(plan, &stream) == AVATORCH_OK);
  REQUIRE(avatorch_mel_stream_push(stream, samples, AVATORCH_F32, SAMPLES, values, VALUES, &count) == AVATORCH_OK);
  REQUIRE(avatorch_mel_stream_free(stream) == AVATORCH_OK);
  REQUIRE(avatorch_mel_compute_array(plan, NULL, samples, AVATORCH_F32, SAMPLES, &array) == AVATORCH_OK);
  REQUIRE(avatorch_mel_array_free(array) == AVATORCH_OK);
  REQUIRE(avatorch_mel_array_free(array) == AVATORCH_INVALID_HANDLE);

  MojoMelConfig config = mojo_mel_config_default();
  MojoMelSpectrogram* mel;
  REQUIRE(mojo_mel_spectrogram_compute(samples, SAMPLES, &config, &mel) == MOJO_AUDIO_SUCCESS);
  mojo_mel_spectrogram_free(mel);
}

static void* use_until_over(void* unused) {
  (void)unused;
  while (!is_over) use_everything();
  return NULL;
}

/* A child is forked while other threads are inside the library; what they held is not held in the child. */
static void fork_among_threads(void) {
  enum { THREADS = 4, FORKS = 400 };
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++) REQUIRE(pthread_create(&threads[i], NULL, use_until_over, NULL) == 0);
  for (int i = 0; i < FORKS; i++) {
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      alarm(60); /* what hangs is killed, and found below */
      use_everything();
      _exit(0);
    }
    int status;
    REQUIRE(waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  is_over = true;
  for (int i = 0; i < THREADS; i++) REQUIRE(pthread_join(threads[i], NULL) == 0);
}

static void use_late(void* unused) {
  (void)unused;
  use_everything();
  REQUIRE(avatorch_mel_plan_free((AvatorchMelPlan*)8) == AVATORCH_INVALID_HANDLE);
  REQUIRE(avatorch_mel_last_error() != NULL);
}

static void use_at_exit(void) { use_late(NULL); }

static void* use_and_end(void* key) {
  use_everything();
  REQUIRE(pthread_setspecific(*(pthread_key_t*)key, key) == 0);
  return NULL;
}

/* Calls while a thread, and then the process, is ending; another thread is inside to the last. */
static void call_while_ending(void) {
  static pthread_key_t key;
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, use_until_over, NULL) == 0);
  REQUIRE(pthread_key_create(&key, use_late) == 0);
  REQUIRE(pthread_create(&thread, NULL, use_and_end, &key) == 0);
  REQUIRE(pthread_join(thread, NULL) == 0);
  REQUIRE(atexit(use_at_exit) == 0);
}

static const char* const DIALECTS[] = {"whisper", "librosa", "torchaudio", "kaldi",
                                       "nemo",    "hifigan", "bigvgan",    "vocos"};

static void* use_every_dialect(void* clip) {
  for (size_t i = 0; i < sizeof DIALECTS / sizeof *DIALECTS; i++) {
    AvatorchMelPlan* made = make_plan(DIALECTS[i]);
    AvatorchMelArray* array;
    REQUIRE(avatorch_mel_compute_array(made, NULL, clip, AVATORCH_F32, SAMPLES, &array) == AVATORCH_OK);
    REQUIRE(avatorch_mel_array_free(array) == AVATORCH_OK);
    REQUIRE(avatorch_mel_plan_free(made) == AVATORCH_OK);
  }
  return NULL;
}

/* 64 KiB of stack, half of what musl gives a thread. */
static void use_a_small_stack(void) {
  pthread_attr_t attributes;
  pthread_t thread;
  REQUIRE(pthread_attr_init(&attributes) == 0 && pthread_attr_setstacksize(&attributes, 64 * 1024) == 0);
  REQUIRE(pthread_create(&thread, &attributes, use_every_dialect, samples) == 0);
  REQUIRE(pthread_join(thread, NULL) == 0);
}

/* A program that stops at every invalid operation, division by zero and overflow. */
static void trap_floats(void) {
  static float silence[SAMPLES];
  feenableexcept(FE_INVALID | FE_DIVBYZERO | FE_OVERFLOW);
  use_every_dialect(samples);
  use_every_dialect(silence);
}

/* A result larger than memory is refused; without a stack for a second thread, the first does all. */
static void run_short_of_memory(void) {
  AvatorchMelConfig config;
  AvatorchMelPlan* large;
  AvatorchMelArray* array;
  const struct rlimit limit = {512UL << 20, 512UL << 20};
  REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0);
  REQUIRE(avatorch_mel_config_init(&config, sizeof config, "whisper") == AVATORCH_OK);
  config.padding = 1;
  config.padding_length = 1ULL << 40;
  REQUIRE(avatorch_mel_plan_new(&config, &large) == AVATORCH_OK);
  REQUIRE(avatorch_mel_compute_array(large, NULL, samples, AVATORCH_F32, SAMPLES, &array) == AVATORCH_ALLOCATION);
  REQUIRE(array == NULL && strstr(avatorch_mel_last_error(), "no memory for 80 x 6871947673 values"));

  /* Leave the heap a few megabytes, and nothing else. */
  REQUIRE(mallopt(M_TRIM_THRESHOLD, 64 << 20) == 1 && mallopt(M_MMAP_THRESHOLD, 32 << 20) == 1);
  free(malloc(16 << 20));
  while (mmap(NULL, 64 << 10, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
  static float results[2][VALUES];
  const void* const clips[] = {samples, samples};
  const size_t lengths[] = {SAMPLES, SAMPLES}, rooms[] = {VALUES, VALUES};
  float* const values[] = {results[0], results[1]};
  REQUIRE(avatorch_mel_compute_batch(plan, 2, 2, clips, AVATORCH_F32, lengths, values, rooms) == AVATORCH_OK);
  REQUIRE(memcmp(results[1], expected, sizeof expected) == 0);
  use_everything();
}

typedef struct {
  AvatorchMelPlan* plan;
  AvatorchMelWorkspace* workspace;
} Pair;

static void* use_pair(void* argument) {
  const Pair* pair = argument;
  float values[VALUES];
  for (;;) {
    AvatorchStatus status =
        avatorch_mel_compute(pair->plan, pair->workspace, samples, AVATORCH_F32, SAMPLES, values, VALUES);
    if (status == AVATORCH_INVALID_HANDLE) return NULL;
    REQUIRE(status == AVATORCH_OK || status == AVATORCH_BUSY);
  }
}

/* One thread frees what four others are using; each of them ends when it is told so. */
static void free_under_use(void) {
  for (int round = 0; round < 50; round++) {
    Pair pair = {make_plan("whisper"), NULL};
    pthread_t threads[4];
    REQUIRE(avatorch_mel_workspace_new(pair.plan, &pair.workspace) == AVATORCH_OK);
    for (int i = 0; i < 4; i++) REQUIRE(pthread_create(&threads[i], NULL, use_pair, &pair) == 0);
    REQUIRE(avatorch_mel_workspace_free(pair.workspace) == AVATORCH_OK);
    REQUIRE(avatorch_mel_plan_free(pair.plan) == AVATORCH_OK);
    for (int i = 0; i < 4; i++) REQUIRE(pthread_join(threads[i], NULL) == 0);
    REQUIRE(avatorch_mel_workspace_free(pair.workspace) == AVATORCH_INVALID_HANDLE);
  }
}

typedef AvatorchStatus Init(AvatorchMelConfig*, size_t, const char*);
typedef AvatorchStatus New(const AvatorchMelConfig*, AvatorchMelPlan**);
typedef AvatorchStatus Free(AvatorchMelPlan*);
typedef struct {
  void* library;
  AvatorchMelPlan* plan;
  Free* free;
} Copy;

/* ISO C has no way from a data pointer to a function. */
static void find(void* library, const char* name, void* function) {
  void* found = dlsym(library, name);
  REQUIRE(found);
  memcpy(function, &found, sizeof found);
}

static Copy load(const char* path) {
  Copy copy = {dlopen(path, RTLD_NOW | RTLD_LOCAL), NULL, NULL};
  if (!copy.library) fprintf(stderr, "%s\n", dlerror());
  REQUIRE(copy.library);
  Init* init;
  New* make;
  AvatorchMelConfig config;
  find(copy.library, "avatorch_mel_config_init", (void*)&init);
  find(copy.library, "avatorch_mel_plan_new", (void*)&make);
  find(copy.library, "avatorch_mel_plan_free", (void*)&copy.free);
  REQUIRE(init(&config, sizeof config, "whisper") == AVATORCH_OK);
  REQUIRE(make(&config, &copy.plan) == AVATORCH_OK);
  return copy;
}

/* Two copies in one process do not take each other's handles for their own. */
static void load_two_copies(const char* first, const char* second) {
  Copy one = load(first), other = load(second);
  REQUIRE(one.free != other.free);
  REQUIRE(one.free(other.plan) == AVATORCH_INVALID_HANDLE);
  REQUIRE(other.free(one.plan) == AVATORCH_INVALID_HANDLE);
  REQUIRE(one.free(one.plan) == AVATORCH_OK);
  REQUIRE(other.free(other.plan) == AVATORCH_OK);
}

static void* load_and_leave(void* path) {
  static AvatorchMelPlan* left;
  Copy copy = load(path);
  REQUIRE(copy.free(left) ==
          (left ? AVATORCH_INVALID_HANDLE : AVATORCH_OK)); /* of the library before it was unloaded */
  REQUIRE(copy.free(copy.plan) == AVATORCH_OK);
  REQUIRE(copy.free(copy.plan) == AVATORCH_INVALID_HANDLE); /* leaves this thread a sentence to free at its end */
  REQUIRE(dlclose(copy.library) == 0);
  copy = load(path);
  left = copy.plan;
  REQUIRE(dlclose(copy.library) == 0);
  return NULL;
}

/* Loaded, unloaded and loaded again by threads that end later; then nothing of it is left, not even at a fork. */
static void reload(char* path) {
  for (int i = 0; i < 100; i++) {
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, load_and_leave, path) == 0);
    REQUIRE(pthread_join(thread, NULL) == 0);
    /* While the thread lived its sentence kept the library; closed once more, it goes. */
    REQUIRE(dlclose(dlopen(path, RTLD_NOW)) == 0);
    REQUIRE(dlopen(path, RTLD_NOW | RTLD_NOLOAD) == NULL);
  }
  pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) _exit(0);
  int status;
  REQUIRE(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(int argc, char** argv) {
  REQUIRE(argc >= 2);
  const char* name = argv[1];
  make_clip();
  if (strcmp(name, "fork") == 0)
    fork_among_threads();
  else if (strcmp(name, "ending") == 0)
    call_while_ending();
  else if (strcmp(name, "stack") == 0)
    use_a_small_stack();
  else if (strcmp(name, "traps") == 0)
    trap_floats();
  else if (strcmp(name, "memory") == 0)
    run_short_of_memory();
  else if (strcmp(name, "free") == 0)
    free_under_use();
  else if (strcmp(name, "copies") == 0 && argc == 4)
    load_two_copies(argv[2], argv[3]);
  else if (strcmp(name, "reload") == 0 && argc == 3)
    reload(argv[2]);
  else
    return 2;
  printf("%s: held\n", name);
  return 0;
}
