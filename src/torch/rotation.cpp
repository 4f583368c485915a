// smplx::stumpff, the smooth coefficients of every rotation formula, and the matrices around it.
#include "rotation.h"

#include <torch/library.h>

#include "border.h"
#include "node.h"

extern "C" int32_t avatorch_stumpff(avatorch::Call*);

namespace avatorch {

using Signature = Tensor(const Tensor&, int64_t);

AVATORCH_OPERATOR(stumpff_operator, Signature, "smplx::stumpff")

Tensor stumpff(const Tensor& x, int64_t order) { return stumpff_operator().call(x, order); }

static Tensor stumpff_kernel(const Tensor& x, int64_t order) { return enter<1>(avatorch_stumpff, {&x}, {order})[0]; }

static Tensor stumpff_meta(const Tensor& x, int64_t /*order*/) { return at::empty_symint(x.sym_sizes(), x.options()); }

static Tensor stumpff_derivative(const Tensor& x, int64_t order) {
  return 0.5 * (order * stumpff(x, order + 2) - stumpff(x, order + 1));
}

struct StumpffFormula {
  static constexpr const char* name = "StumpffBackward";
  static variable_list backward(const variable_list& grads, const Saved& saved, const Needs&) {
    return {grads[0] * stumpff_derivative(saved.tensors[0], saved.numbers[0])};
  }
};

static Tensor stumpff_autograd(c10::DispatchKeySet keys, const Tensor& x, int64_t order) {
  const auto node = node_for<StumpffFormula>(x);
  Tensor value;
  {
    at::AutoDispatchBelowADInplaceOrView below;
    value = stumpff_operator().redispatch(keys & c10::after_autograd_keyset, x, order);
  }
  if (node) {
    node->save(x);
    node->save(order);
    set_history(value, node);
  }
  if (any_tangent(x)) value._set_fw_grad(x._fw_grad(0) * stumpff_derivative(x._fw_primal(0), order), 0, false);
  return value;
}

Tensor cross_matrix(const Tensor& vector) {
  const auto xyz = vector.unbind(-1);
  const Tensor &x = xyz[0], &y = xyz[1], &z = xyz[2], zero = at::zeros_like(x);
  return at::stack({zero, -z, y, z, zero, -x, -y, x, zero}, -1).unflatten(-1, {3, 3});
}

Tensor skew_part(const Tensor& matrix) {
  const Tensor twice = matrix - matrix.mT();
  return at::stack(
      {twice.select(-2, 2).select(-1, 1), twice.select(-2, 0).select(-1, 2), twice.select(-2, 1).select(-1, 0)}, -1);
}

TORCH_LIBRARY_FRAGMENT(smplx, library) {
  library.def("stumpff(Tensor x, int order) -> Tensor", {at::Tag::pt2_compliant_tag});
  library.impl("stumpff", c10::DispatchKey::CPU, stumpff_kernel);
  library.impl("stumpff", c10::DispatchKey::CUDA, stumpff_kernel);
  library.impl("stumpff", c10::DispatchKey::Meta, stumpff_meta);
  library.impl("stumpff", c10::DispatchKey::Autograd, stumpff_autograd);
}

}  // namespace avatorch
