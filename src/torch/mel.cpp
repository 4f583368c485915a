// mel::log_mel, waveforms to spectrograms on a mel scale, and mel::tables, the window and filters of a convention:
// schemas, shapes, derivatives.
#include "mel.h"

#include <torch/library.h>

#include <limits>

#include "autocast.h"
#include "border.h"
#include "node.h"

extern "C" int32_t avatorch_mel_tables(avatorch::Call*);
extern "C" int32_t avatorch_log_mel(avatorch::Call*);
extern "C" int32_t avatorch_log_mel_backward(avatorch::Call*);

namespace avatorch {

using Text = c10::string_view;
using Forward = Tensor(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const OptionalTensor&, Text);
using Backward = Tensor(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                        const OptionalTensor&, Text);
AVATORCH_OPERATOR(forward_operator, Forward, "mel::log_mel")
AVATORCH_OPERATOR(backward_operator, Backward, "mel::log_mel_backward")

static Tensor log_mel(const Tensor& waveform, const Tensor& window, const Tensor& filters, const Tensor& bands,
                      const OptionalTensor& lengths, Text convention) {
  return forward_operator().call(waveform, window, filters, bands, lengths, convention);
}
static Tensor log_mel_backward(const Tensor& grad, const Tensor& waveform, const Tensor& window, const Tensor& filters,
                               const Tensor& bands, const OptionalTensor& lengths, Text convention) {
  return backward_operator().call(grad, waveform, window, filters, bands, lengths, convention);
}

// Kernels.

static std::tuple<Tensor, Tensor, Tensor> tables(Text convention) {
  auto made = enter<3>(avatorch_mel_tables, {}, {}, convention);
  return {std::move(made[0]), std::move(made[1]), std::move(made[2])};
}

static Tensor log_mel_kernel(const Tensor& waveform, const Tensor& window, const Tensor& filters, const Tensor& bands,
                             const OptionalTensor& lengths, Text convention) {
  return enter<1>(avatorch_log_mel, {&waveform, &window, &filters, &bands, lend(lengths)}, {}, convention)[0];
}

static Tensor log_mel_backward_kernel(const Tensor& grad, const Tensor& waveform, const Tensor& window,
                                      const Tensor& filters, const Tensor& bands, const OptionalTensor& lengths,
                                      Text convention) {
  return enter<1>(avatorch_log_mel_backward, {&grad, &waveform, &window, &filters, &bands, lend(lengths)}, {},
                  convention)[0];
}

// The GPU's kernels have no energies: the formula measures them.

static std::string without_energy(Text convention) { return std::string(convention) + " energy=none"; }

static Tensor log_mel_cuda(const Tensor& waveform, const Tensor& window, const Tensor& filters, const Tensor& bands,
                           const OptionalTensor& lengths, Text convention) {
  const Convention c = convention_of(convention);
  if (c.energy == 0) return log_mel_kernel(waveform, window, filters, bands, lengths, convention);
  const int64_t features = c.frame_major ? -1 : -2;
  const Tensor of_bands = log_mel_kernel(waveform, window, filters, bands, lengths, without_energy(convention));
  const Tensor of_energy = energy_formula({waveform, window, filters, bands, lengths}, c);
  // A clip that is too short for its edges is not a number in any feature; only the kernel looks.
  const Tensor refused = of_bands.slice(features, 0, 1).isnan();
  return at::cat({of_energy.masked_fill(refused, std::numeric_limits<double>::quiet_NaN()), of_bands}, features);
}

static Tensor log_mel_backward_cuda(const Tensor& grad, const Tensor& waveform, const Tensor& window,
                                    const Tensor& filters, const Tensor& bands, const OptionalTensor& lengths,
                                    Text convention) {
  const Convention c = convention_of(convention);
  if (c.energy == 0) return log_mel_backward_kernel(grad, waveform, window, filters, bands, lengths, convention);
  const int64_t features = c.frame_major ? -1 : -2;
  const Tensor through_bands = log_mel_backward_kernel(grad.slice(features, 1), waveform, window, filters, bands,
                                                       lengths, without_energy(convention));
  return through_bands +
         energy_backward_formula(grad.slice(features, 0, 1), {waveform, window, filters, bands, lengths}, c);
}

// Shapes alone, with symbolic sizes.

static Tensor log_mel_meta(const Tensor& waveform, const Tensor&, const Tensor&, const Tensor&, const OptionalTensor&,
                           Text convention) {
  return at::empty_symint(log_mel_sizes(convention_of(convention), waveform), waveform.options());
}

static Tensor log_mel_backward_meta(const Tensor&, const Tensor& waveform, const Tensor&, const Tensor&, const Tensor&,
                                    const OptionalTensor&, Text) {
  return at::empty_symint(waveform.sym_sizes(), waveform.options());
}

// Derivatives. The kernel gives the waveform's; those of the tables come from the formula.

struct LogMelFormula {
  static constexpr const char* name = "LogMelBackward";
  static variable_list backward(const variable_list& grads, const Saved& saved, const Needs& needs) {
    const auto& [waveform, window, filters, bands, given] =
        std::tie(saved.tensors[0], saved.tensors[1], saved.tensors[2], saved.tensors[3], saved.tensors[4]);
    // Torch saves no optionals.
    const OptionalTensor lengths = given.defined() ? OptionalTensor(given) : std::nullopt;
    if (!needs[1] && !needs[2]) {
      return {log_mel_backward(grads[0], waveform, window, filters, bands, lengths, saved.text), Tensor(), Tensor()};
    }
    auto all =
        log_mel_backward_formula(grads[0], {waveform, window, filters, bands, lengths}, convention_of(saved.text));
    variable_list wanted(all.begin(), all.end());
    for (size_t i = 0; i < wanted.size(); ++i) {
      if (!needs[i]) wanted[i] = Tensor();
    }
    return wanted;
  }
};

static Tensor log_mel_autograd(c10::DispatchKeySet keys, const Tensor& waveform, const Tensor& window,
                               const Tensor& filters, const Tensor& bands, const OptionalTensor& lengths,
                               Text convention) {
  if (any_tangent(waveform, window, filters)) {
    return log_mel_formula({waveform, window, filters, bands, lengths}, convention_of(convention));
  }
  const auto node = node_for<LogMelFormula>(waveform, window, filters);
  if (node) {
    for (const Tensor* tensor : {&waveform, &window, &filters, &bands}) node->save(*tensor);
    node->save(lengths.value_or(Tensor()));
    node->save(convention);
  }
  at::AutoDispatchBelowADInplaceOrView below;
  Tensor values = forward_operator().redispatch(keys & c10::after_autograd_keyset, waveform, window, filters, bands,
                                                lengths, convention);
  if (node) set_history(values, node);
  return values;
}

static Tensor log_mel_backward_autograd(c10::DispatchKeySet keys, const Tensor& grad, const Tensor& waveform,
                                        const Tensor& window, const Tensor& filters, const Tensor& bands,
                                        const OptionalTensor& lengths, Text convention) {
  if (any_tangent(grad, waveform, window, filters) ||
      torch::autograd::compute_requires_grad(grad, waveform, window, filters)) {
    return log_mel_backward_formula(grad, {waveform, window, filters, bands, lengths}, convention_of(convention))[0];
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return backward_operator().redispatch(keys & c10::after_autograd_keyset, grad, waveform, window, filters, bands,
                                        lengths, convention);
}

TORCH_LIBRARY_FRAGMENT(mel, library) {
  const std::vector<at::Tag> tags{at::Tag::pt2_compliant_tag};
  library.def("tables(str convention) -> (Tensor window, Tensor filters, Tensor bands)", tables);
  library.def(
      "log_mel(Tensor waveform, Tensor window, Tensor filters, Tensor bands, Tensor? lengths=None, str "
      "convention='whisper') -> Tensor",
      tags);
  library.def(
      "log_mel_backward(Tensor grad, Tensor waveform, Tensor window, Tensor filters, Tensor bands, Tensor? lengths, "
      "str convention) -> Tensor",
      tags);
  library.impl("log_mel", c10::DispatchKey::CPU, log_mel_kernel);
  library.impl("log_mel_backward", c10::DispatchKey::CPU, log_mel_backward_kernel);
  library.impl("log_mel", c10::DispatchKey::CUDA, log_mel_cuda);
  library.impl("log_mel_backward", c10::DispatchKey::CUDA, log_mel_backward_cuda);
  library.impl("log_mel", c10::DispatchKey::Meta, log_mel_meta);
  library.impl("log_mel_backward", c10::DispatchKey::Meta, log_mel_backward_meta);
  library.impl("log_mel", c10::DispatchKey::Autograd, log_mel_autograd);
  library.impl("log_mel_backward", c10::DispatchKey::Autograd, log_mel_backward_autograd);
  in_float32_under_autocast<Forward, log_mel>(library, "log_mel");
  in_float32_under_autocast<Backward, log_mel_backward>(library, "log_mel_backward");
}

}  // namespace avatorch
