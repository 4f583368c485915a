// One second of a 1 kHz tone, with handles that free themselves.
#include <avatorch_mel.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <vector>

namespace {

void check(AvatorchStatus status) {
  if (status != AVATORCH_OK) throw std::runtime_error(avatorch_mel_last_error());
}

struct Free {
  void operator()(AvatorchMelPlan* plan) const { avatorch_mel_plan_free(plan); }
  void operator()(AvatorchMelArray* array) const { avatorch_mel_array_free(array); }
};

std::unique_ptr<AvatorchMelPlan, Free> make_plan(const char* dialect) {
  AvatorchMelConfig config;
  AvatorchMelPlan* plan = nullptr;
  check(avatorch_mel_config_init(&config, sizeof config, dialect));
  check(avatorch_mel_plan_new(&config, &plan));
  return std::unique_ptr<AvatorchMelPlan, Free>(plan);
}

}  // namespace

int main() try {
  std::vector<float> samples(16000);
  for (std::size_t i = 0; i < samples.size(); ++i)
    samples[i] = 0.5F * std::sin(2.0F * 3.14159265F * 1000.0F * static_cast<float>(i) / 16000.0F);

  auto plan = make_plan("whisper");
  AvatorchMelArray* handle = nullptr;
  check(avatorch_mel_compute_array(plan.get(), nullptr, samples.data(), AVATORCH_F32, samples.size(), &handle));
  std::unique_ptr<AvatorchMelArray, Free> array(handle);

  const float* mel = nullptr;  // [band][frame], in the library's memory
  std::size_t bands = 0, frames = 0;
  check(avatorch_mel_array_data(array.get(), &mel, &bands, &frames));
  std::size_t loudest = 0;
  for (std::size_t band = 0; band < bands; ++band)
    if (mel[band * frames + 50] > mel[loudest * frames + 50]) loudest = band;
  std::printf("Shape: (%zu, %zu), loudest band %zu\n", bands, frames, loudest);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
