// The convention of a mel spectrogram, and its steps in differentiable operators of torch.
#pragma once
#include <ATen/ATen.h>

#include <array>
#include <string_view>

namespace avatorch {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

// The Rust twin is `Convention` in src/audio/mel/convention.rs.
struct Convention {
  int64_t n_fft;
  int64_t win_length;
  int64_t n_mels;
  int64_t hop_length;
  int64_t origin;        // first sample of frame 0
  int64_t frame_length;  // samples to a frame
  int64_t first_weight;  // the sample of a frame at which the window begins
  int64_t beyond;        // past the ends: a Beyond
  int64_t drop_last;
  int64_t padding;  // 0 none, 1 to, 2 append padding_length
  int64_t padding_length;
  int64_t remove_dc;
  int64_t preemphasis;  // 0 none, 1 in each frame, 2 over the clip
  int64_t log;          // 0 none, 1 natural, 2 decimal
  int64_t guard;        // 0 at least, 1 plus guard_value
  int64_t loudest;      // whose: a Loudest
  int64_t normalize_bands;
  int64_t energy;  // 0 none, 1 before pre-emphasis and window, 2 after
  int64_t frame_major;
  double input_scale;
  double preemphasis_coefficient;
  double magnitude_epsilon;  // below zero for power
  double guard_value;
  double range_below;
  double range_constant;
  double energy_floor;  // above zero
  double scale;
  double offset;

  // Values of a frame: its energy, if that is asked for, and its bands.
  int64_t n_features() const { return n_mels + (energy != 0); }
};

enum Beyond : int64_t { kNothing, kZero, kReflect, kMirror };
enum Loudest : int64_t { kNoRange, kOfClip, kOfBatch, kSoFar, kConstant };

// What a text such as "whisper n_mels=128" says; throws a sentence.
Convention convention_of(std::string_view text);

// Frames of a clip of `samples`.
c10::SymInt frame_count(const Convention& convention, c10::SymInt samples);

// The tensors of a call.
struct MelInputs {
  const Tensor& waveform;         // [..., sample]
  const Tensor& window;           // [win_length]
  const Tensor& filters;          // [n_mels, bin]
  const Tensor& bands;            // [n_mels, 2]
  const OptionalTensor& lengths;  // [...]
};

// [..., n_features, frame], or [..., frame, n_features]: the sizes of the result.
std::vector<c10::SymInt> log_mel_sizes(const Convention& convention, const Tensor& waveform);

Tensor log_mel_formula(const MelInputs& inputs, const Convention& convention);

// The energies alone, [..., 1, frame] or [..., frame, 1], and their gradient to that of the waveform.
Tensor energy_formula(const MelInputs& inputs, Convention convention);
Tensor energy_backward_formula(const Tensor& grad, const MelInputs& inputs, Convention convention);

// Gradients of waveform, window and filters.
std::array<Tensor, 3> log_mel_backward_formula(const Tensor& grad, const MelInputs& inputs,
                                               const Convention& convention);

}  // namespace avatorch
