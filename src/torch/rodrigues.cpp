// smplx::rodrigues, axis-angle vectors to rotation matrices: schema, shapes, derivatives. The pattern of every
// operator.
#include <torch/library.h>

#include "autocast.h"
#include "border.h"
#include "node.h"
#include "rotation.h"

extern "C" int32_t avatorch_rodrigues(avatorch::Call*);
extern "C" int32_t avatorch_rodrigues_backward(avatorch::Call*);

namespace avatorch {

using Forward = Tensor(const Tensor&);
using Backward = Tensor(const Tensor&, const Tensor&);

AVATORCH_OPERATOR(forward_operator, Forward, "smplx::rodrigues")
AVATORCH_OPERATOR(backward_operator, Backward, "smplx::rodrigues_backward")

Tensor rodrigues(const Tensor& rotvec) { return forward_operator().call(rotvec); }
Tensor rodrigues_backward(const Tensor& grad, const Tensor& rotvec) { return backward_operator().call(grad, rotvec); }

// Kernels, for the CPU and CUDA alike: Rust looks at the device.

static Tensor rodrigues_kernel(const Tensor& rotvec) { return enter<1>(avatorch_rodrigues, {&rotvec})[0]; }

static Tensor rodrigues_backward_kernel(const Tensor& grad, const Tensor& rotvec) {
  return enter<1>(avatorch_rodrigues_backward, {&grad, &rotvec})[0];
}

// Shapes alone, with symbolic sizes.

static Tensor rodrigues_meta(const Tensor& rotvec) {
  TORCH_CHECK_VALUE(rotvec.dim() > 0 && rotvec.sym_size(-1) == 3, "smplx::rodrigues: rotvec has shape ",
                    rotvec.sym_sizes(), ", expected [..., 3]");
  auto sizes = rotvec.sym_sizes().vec();
  sizes.push_back(3);
  return at::empty_symint(sizes, rotvec.options());
}

static Tensor rodrigues_backward_meta(const Tensor& grad, const Tensor& rotvec) {
  check_all_meta("smplx::rodrigues_backward", grad, rotvec);
  return at::empty_symint(rotvec.sym_sizes(), rotvec.options());
}

// Derivatives.

// R = I + c1(x) [r] + c2(x) [r]^2 with x = |r|^2, [r] the cross product matrix, c the Stumpff functions.
static Tensor rodrigues_formula(const Tensor& rotvec) {
  const Tensor x = rotvec.square().sum(-1).unsqueeze(-1).unsqueeze(-1);  // [..., 1, 1]
  const Tensor cross = cross_matrix(rotvec);                             // [..., 3, 3]
  return at::eye(3, rotvec.options()) + stumpff(x, 1) * cross + stumpff(x, 2) * at::matmul(cross, cross);
}

// With G the gradient of R, s its skew part (G32 - G23, G13 - G31, G21 - G12), c' = 2 dc/dx:
// c1 s + c2 ((G + G^T) r - 2 tr(G) r) + (c1' (s.r) + c2' (r.G r - x tr G)) r.
static Tensor rodrigues_backward_formula(const Tensor& grad, const Tensor& rotvec) {
  const Tensor x = rotvec.square().sum(-1, true);                                             // [..., 1]
  const Tensor skew = skew_part(grad);                                                        // [..., 3]
  const Tensor trace = grad.diagonal(0, -2, -1).sum(-1, true);                                // [..., 1]
  const Tensor symmetric_r = at::matmul(grad + grad.mT(), rotvec.unsqueeze(-1)).squeeze(-1);  // [..., 3]
  const Tensor c1 = stumpff(x, 1), c2 = stumpff(x, 2), c3 = stumpff(x, 3), c4 = stumpff(x, 4);
  const Tensor along = (c3 - c2) * (skew * rotvec).sum(-1, true) +
                       (2 * c4 - c3) * (0.5 * (symmetric_r * rotvec).sum(-1, true) - x * trace);
  return c1 * skew + c2 * (symmetric_r - 2 * trace * rotvec) + along * rotvec;
}

struct RodriguesFormula {
  static constexpr const char* name = "RodriguesBackward";
  static variable_list backward(const variable_list& grads, const Saved& saved, const Needs&) {
    return {rodrigues_backward(grads[0], saved.tensors[0])};
  }
};

static Tensor rodrigues_autograd(c10::DispatchKeySet keys, const Tensor& rotvec) {
  if (any_tangent(rotvec)) return rodrigues_formula(rotvec);
  const auto node = node_for<RodriguesFormula>(rotvec);
  if (node) node->save(rotvec);
  at::AutoDispatchBelowADInplaceOrView below;
  Tensor rotation = forward_operator().redispatch(keys & c10::after_autograd_keyset, rotvec);
  if (node) set_history(rotation, node);
  return rotation;
}

static Tensor rodrigues_backward_autograd(c10::DispatchKeySet keys, const Tensor& grad, const Tensor& rotvec) {
  if (any_tangent(grad, rotvec) || torch::autograd::compute_requires_grad(grad, rotvec)) {
    return rodrigues_backward_formula(grad, rotvec);
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return backward_operator().redispatch(keys & c10::after_autograd_keyset, grad, rotvec);
}

TORCH_LIBRARY_FRAGMENT(smplx, library) {
  library.def("rodrigues(Tensor rotvec) -> Tensor", {at::Tag::pt2_compliant_tag});
  library.def("rodrigues_backward(Tensor grad, Tensor rotvec) -> Tensor", {at::Tag::pt2_compliant_tag});
  for (const auto key : {c10::DispatchKey::CPU, c10::DispatchKey::CUDA}) {
    library.impl("rodrigues", key, rodrigues_kernel);
    library.impl("rodrigues_backward", key, rodrigues_backward_kernel);
  }
  library.impl("rodrigues", c10::DispatchKey::Meta, rodrigues_meta);
  library.impl("rodrigues_backward", c10::DispatchKey::Meta, rodrigues_backward_meta);
  library.impl("rodrigues", c10::DispatchKey::Autograd, rodrigues_autograd);
  library.impl("rodrigues_backward", c10::DispatchKey::Autograd, rodrigues_backward_autograd);
  in_float32_under_autocast<Forward, rodrigues>(library, "rodrigues");
  in_float32_under_autocast<Backward, rodrigues_backward>(library, "rodrigues_backward");
}

}  // namespace avatorch
