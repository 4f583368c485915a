// mel::normalize_waveform, samples of zero mean and unit deviation, as wav2vec 2.0, HuBERT and WavLM take them.
#include "composite.h"

namespace avatorch {

using OptionalTensor = std::optional<Tensor>;

// Added to the variance before its root.
constexpr double kVarianceGuard = 1e-7;

// waveform [..., sample], lengths [...]: the samples that count; the others become zero.
static Tensor normalize_waveform(const Tensor& waveform, const OptionalTensor& lengths) {
  const char* op = "mel::normalize_waveform";
  const Argument checked{op, "waveform", waveform};
  checked.real();
  TORCH_CHECK_VALUE(waveform.dim() > 0, op, ": waveform has shape [], expected [..., samples]");
  if (!lengths.has_value()) {
    const Tensor rest = waveform - waveform.mean(-1, true);
    return rest / (rest.square().mean(-1, true) + kVarianceGuard).sqrt();
  }
  const Argument checked_lengths{op, "lengths", *lengths};
  checked_lengths.int64();
  checked_lengths.on_device_of(checked);
  const auto sizes = waveform.sym_sizes();
  checked_lengths.shape(sizes.slice(0, sizes.size() - 1));
  const Tensor used = at::arange(sizes.back(), lengths->options()).lt(lengths->unsqueeze(-1));
  const Tensor count = lengths->clamp_min(1).unsqueeze(-1);
  const Tensor mean = at::where(used, waveform, 0.0).sum(-1, true) / count;
  const Tensor rest = at::where(used, waveform - mean, 0.0);
  return rest / (rest.square().sum(-1, true) / count + kVarianceGuard).sqrt();
}

TORCH_LIBRARY_FRAGMENT(mel, library) {
  using Normalize = Tensor(const Tensor&, const OptionalTensor&);
  composite<Normalize, normalize_waveform>(library,
                                           "normalize_waveform(Tensor waveform, Tensor? lengths=None) -> Tensor");
}

}  // namespace avatorch
