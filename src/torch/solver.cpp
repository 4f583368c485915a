// audio2face::solve, bounded least squares for the weights of blend shapes: schema and shapes.
#include <torch/library.h>

#include "autocast.h"
#include "border.h"

extern "C" int32_t avatorch_solve(avatorch::Call*);

namespace avatorch {

using Solve = at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
                         const at::Tensor&);

static const auto& solve_operator() {
  static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("audio2face::solve", "").typed<Solve>();
  return op;
}

static at::Tensor solve(const at::Tensor& normal, const at::Tensor& rhs, const at::Tensor& previous,
                        const at::Tensor& temporal, const at::Tensor& upper, const at::Tensor& pairs) {
  return solve_operator().call(normal, rhs, previous, temporal, upper, pairs);
}

static at::Tensor solve_kernel(const at::Tensor& normal, const at::Tensor& rhs, const at::Tensor& previous,
                               const at::Tensor& temporal, const at::Tensor& upper, const at::Tensor& pairs) {
  return enter<1>(avatorch_solve, {&normal, &rhs, &previous, &temporal, &upper, &pairs})[0];
}

static at::Tensor solve_meta(const at::Tensor& normal, const at::Tensor& rhs, const at::Tensor& previous,
                             const at::Tensor& temporal, const at::Tensor& upper, const at::Tensor& pairs) {
  check_all_meta("audio2face::solve", normal, rhs, previous, temporal, upper, pairs);
  return at::empty_symint(rhs.sym_sizes(), rhs.options());
}

// The weights are constant in pieces where bounds hold; no derivative is defined.
static at::Tensor solve_autograd(c10::DispatchKeySet keys, const at::Tensor& normal, const at::Tensor& rhs,
                                 const at::Tensor& previous, const at::Tensor& temporal, const at::Tensor& upper,
                                 const at::Tensor& pairs) {
  for (const auto* tensor : {&normal, &rhs, &previous, &temporal, &upper}) {
    TORCH_CHECK_NOT_IMPLEMENTED(!(at::GradMode::is_enabled() && tensor->requires_grad()),
                                "audio2face::solve has no derivative; detach its arguments, or call it under no_grad");
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return solve_operator().redispatch(keys & c10::after_autograd_keyset, normal, rhs, previous, temporal, upper, pairs);
}

TORCH_LIBRARY_FRAGMENT(audio2face, library) {
  library.def(
      "solve(Tensor normal, Tensor rhs, Tensor previous, Tensor temporal, Tensor upper, Tensor pairs) -> Tensor",
      {at::Tag::pt2_compliant_tag});
  for (const auto key : {c10::DispatchKey::CPU, c10::DispatchKey::CUDA}) library.impl("solve", key, solve_kernel);
  library.impl("solve", c10::DispatchKey::Meta, solve_meta);
  library.impl("solve", c10::DispatchKey::Autograd, solve_autograd);
  in_float32_under_autocast<Solve, solve>(library, "solve");
}

}  // namespace avatorch
