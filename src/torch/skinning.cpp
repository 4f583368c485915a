// smplx::skinning, smplx::skinning_transforms, smplx::skinning_weights: the three gradients of one form that is linear
// in the vectors g, the transforms A, the weights w, and affine in the vertices v:
//   L(g, v, A, w) = sum over bodies, vertices, joints of w g . A [v; 1].
// So the derivative of each, of any order, is made of the other two.
#include "skinning.h"

#include <torch/library.h>

#include "autocast.h"
#include "border.h"
#include "node.h"

extern "C" int32_t avatorch_skinning(avatorch::Call*);
extern "C" int32_t avatorch_skinning_transforms(avatorch::Call*);
extern "C" int32_t avatorch_skinning_weights(avatorch::Call*);

namespace avatorch {

using Skinning = Tensor(const Tensor&, const Tensor&, const Tensor&, const OptionalTensor&);
using Transforms = Tensor(const Tensor&, const Tensor&, const Tensor&, const OptionalTensor&, c10::SymInt);
using Weights = Tensor(const Tensor&, const Tensor&, const Tensor&, const OptionalTensor&);
AVATORCH_OPERATOR(skinning_operator, Skinning, "smplx::skinning")
AVATORCH_OPERATOR(transforms_operator, Transforms, "smplx::skinning_transforms")
AVATORCH_OPERATOR(weights_operator, Weights, "smplx::skinning_weights")

Tensor skinning(const Tensor& v, const Tensor& a, const Tensor& w, const OptionalTensor& joints) {
  return skinning_operator().call(v, a, w, joints);
}
Tensor skinning_transforms(const Tensor& g, const Tensor& v, const Tensor& w, const OptionalTensor& joints,
                           c10::SymInt joint_count) {
  return transforms_operator().call(g, v, w, joints, std::move(joint_count));
}
Tensor skinning_weights(const Tensor& g, const Tensor& v, const Tensor& a, const OptionalTensor& joints) {
  return weights_operator().call(g, v, a, joints);
}

static Tensor linear(const Tensor& transforms) { return transforms.narrow(-2, 0, 3).narrow(-1, 0, 3); }
Tensor linear_part(const Tensor& transforms) { return at::constant_pad_nd(linear(transforms), {0, 1, 0, 1}); }
Tensor transposed_linear_part(const Tensor& transforms) {
  return at::constant_pad_nd(linear(transforms).mT(), {0, 1, 0, 1});
}

// Kernels.

static Tensor skinning_kernel(const Tensor& v, const Tensor& a, const Tensor& w, const OptionalTensor& joints) {
  return enter<1>(avatorch_skinning, {&v, &a, &w, lend(joints)})[0];
}
static Tensor transforms_kernel(const Tensor& g, const Tensor& v, const Tensor& w, const OptionalTensor& joints,
                                c10::SymInt joint_count) {
  return enter<1>(avatorch_skinning_transforms, {&g, &v, &w, lend(joints)},
                  {joint_count.guard_int(__FILE__, __LINE__)})[0];
}
static Tensor weights_kernel(const Tensor& g, const Tensor& v, const Tensor& a, const OptionalTensor& joints) {
  return enter<1>(avatorch_skinning_weights, {&g, &v, &a, lend(joints)})[0];
}

// Shapes.

static c10::SymInt batch_of(const Tensor& a, const Tensor& b) {
  return TORCH_GUARD_OR_FALSE(a.sym_size(0).sym_eq(1)) ? b.sym_size(0) : a.sym_size(0);
}
static Tensor skinning_meta(const Tensor& v, const Tensor& a, const Tensor& w, const OptionalTensor& joints) {
  check_all_meta("smplx::skinning", v, a, w, joints);
  return at::empty_symint({batch_of(v, a), w.sym_size(0), 3}, v.options());
}
static Tensor transforms_meta(const Tensor& g, const Tensor& v, const Tensor& w, const OptionalTensor& joints,
                              c10::SymInt joint_count) {
  check_all_meta("smplx::skinning_transforms", g, v, w, joints);
  return at::empty_symint({batch_of(g, v), std::move(joint_count), 4, 4}, g.options());
}
static Tensor weights_meta(const Tensor& g, const Tensor& v, const Tensor& a, const OptionalTensor& joints) {
  check_all_meta("smplx::skinning_weights", g, v, a, joints);
  return at::empty_symint({g.sym_size(1), joints.has_value() ? joints->sym_size(1) : a.sym_size(1)}, g.options());
}

// Derivatives. `joints` may be undefined when it comes back from a Node: torch saves no optionals.

static OptionalTensor optional(const Tensor& tensor) {
  return tensor.defined() ? OptionalTensor(tensor) : std::nullopt;
}

struct SkinningFormula {
  static constexpr const char* name = "SkinningBackward";
  static variable_list backward(const variable_list& grads, const Saved& saved, const Needs& needs) {
    const Tensor &g = grads[0], &v = saved.tensors[0], &a = saved.tensors[1], &w = saved.tensors[2];
    const OptionalTensor joints = optional(saved.tensors[3]);
    return {needs[0] ? reduced_to(skinning(g, transposed_linear_part(a), w, joints), v) : Tensor(),
            needs[1] ? reduced_to(skinning_transforms(g, v, w, joints, a.sym_size(1)), a) : Tensor(),
            needs[2] ? skinning_weights(g, v, a, joints) : Tensor()};
  }
};

struct TransformsFormula {
  static constexpr const char* name = "SkinningTransformsBackward";
  static variable_list backward(const variable_list& grads, const Saved& saved, const Needs& needs) {
    const Tensor &u = grads[0], &g = saved.tensors[0], &v = saved.tensors[1], &w = saved.tensors[2];
    const OptionalTensor joints = optional(saved.tensors[3]);
    return {needs[0] ? reduced_to(skinning(v, u, w, joints), g) : Tensor(),
            needs[1] ? reduced_to(skinning(g, transposed_linear_part(u), w, joints), v) : Tensor(),
            needs[2] ? skinning_weights(g, v, u, joints) : Tensor()};
  }
};

struct WeightsFormula {
  static constexpr const char* name = "SkinningWeightsBackward";
  static variable_list backward(const variable_list& grads, const Saved& saved, const Needs& needs) {
    const Tensor &u = grads[0], &g = saved.tensors[0], &v = saved.tensors[1], &a = saved.tensors[2];
    const OptionalTensor joints = optional(saved.tensors[3]);
    return {needs[0] ? reduced_to(skinning(v, a, u, joints), g) : Tensor(),
            needs[1] ? reduced_to(skinning(g, transposed_linear_part(a), u, joints), v) : Tensor(),
            needs[2] ? reduced_to(skinning_transforms(g, v, u, joints, a.sym_size(1)), a) : Tensor()};
  }
};

// A call with its Node; `call` runs the operator on tensors without derivatives of this level.
template <class Formula, class Run>
static Tensor with_node(const Tensor& x, const Tensor& y, const Tensor& z, const OptionalTensor& joints,
                        const Run& call) {
  const auto node = node_for<Formula>(x, y, z);
  if (node) {
    for (const Tensor* tensor : {&x, &y, &z}) node->save(*tensor);
    node->save(joints.value_or(Tensor()));
  }
  Tensor out;
  {
    at::AutoDispatchBelowADInplaceOrView below;
    out = call();
  }
  if (node) set_history(out, node);
  return out;
}

static Tensor primal(const Tensor& tensor) { return tensor._fw_primal(0); }
static Tensor tangent(const Tensor& tensor) { return tensor._fw_grad(0); }

static Tensor skinning_autograd(c10::DispatchKeySet keys, const Tensor& v, const Tensor& a, const Tensor& w,
                                const OptionalTensor& joints) {
  Tensor out = with_node<SkinningFormula>(v, a, w, joints, [&] {
    return skinning_operator().redispatch(keys & c10::after_autograd_keyset, v, a, w, joints);
  });
  if (any_tangent(v, a, w)) {
    Tensor t;
    if (has_tangent(v)) t = plus(t, skinning(tangent(v), linear_part(primal(a)), primal(w), joints));
    if (has_tangent(a)) t = plus(t, skinning(primal(v), tangent(a), primal(w), joints));
    if (has_tangent(w)) t = plus(t, skinning(primal(v), primal(a), tangent(w), joints));
    out._set_fw_grad(t, 0, false);
  }
  return out;
}

static Tensor transforms_autograd(c10::DispatchKeySet keys, const Tensor& g, const Tensor& v, const Tensor& w,
                                  const OptionalTensor& joints, c10::SymInt joint_count) {
  Tensor out = with_node<TransformsFormula>(g, v, w, joints, [&] {
    return transforms_operator().redispatch(keys & c10::after_autograd_keyset, g, v, w, joints, joint_count);
  });
  if (any_tangent(g, v, w)) {
    Tensor t;
    if (has_tangent(g)) t = plus(t, skinning_transforms(tangent(g), primal(v), primal(w), joints, joint_count));
    if (has_tangent(v))
      t = plus(t, linear_part(skinning_transforms(primal(g), tangent(v), primal(w), joints, joint_count)));
    if (has_tangent(w)) t = plus(t, skinning_transforms(primal(g), primal(v), tangent(w), joints, joint_count));
    out._set_fw_grad(t, 0, false);
  }
  return out;
}

static Tensor weights_autograd(c10::DispatchKeySet keys, const Tensor& g, const Tensor& v, const Tensor& a,
                               const OptionalTensor& joints) {
  Tensor out = with_node<WeightsFormula>(g, v, a, joints, [&] {
    return weights_operator().redispatch(keys & c10::after_autograd_keyset, g, v, a, joints);
  });
  if (any_tangent(g, v, a)) {
    Tensor t;
    if (has_tangent(g)) t = plus(t, skinning_weights(tangent(g), primal(v), primal(a), joints));
    if (has_tangent(v)) t = plus(t, skinning_weights(primal(g), tangent(v), linear_part(primal(a)), joints));
    if (has_tangent(a)) t = plus(t, skinning_weights(primal(g), primal(v), tangent(a), joints));
    out._set_fw_grad(t, 0, false);
  }
  return out;
}

TORCH_LIBRARY_FRAGMENT(smplx, library) {
  const std::vector<at::Tag> tags{at::Tag::pt2_compliant_tag};
  library.def("skinning(Tensor vertices, Tensor transforms, Tensor weights, Tensor? joints=None) -> Tensor", tags);
  library.def(
      "skinning_transforms(Tensor vectors, Tensor vertices, Tensor weights, Tensor? joints, SymInt joint_count) -> "
      "Tensor",
      tags);
  library.def("skinning_weights(Tensor vectors, Tensor vertices, Tensor transforms, Tensor? joints=None) -> Tensor",
              tags);
  for (const auto key : {c10::DispatchKey::CPU, c10::DispatchKey::CUDA}) {
    library.impl("skinning", key, skinning_kernel);
    library.impl("skinning_transforms", key, transforms_kernel);
    library.impl("skinning_weights", key, weights_kernel);
  }
  library.impl("skinning", c10::DispatchKey::Meta, skinning_meta);
  library.impl("skinning_transforms", c10::DispatchKey::Meta, transforms_meta);
  library.impl("skinning_weights", c10::DispatchKey::Meta, weights_meta);
  library.impl("skinning", c10::DispatchKey::Autograd, skinning_autograd);
  library.impl("skinning_transforms", c10::DispatchKey::Autograd, transforms_autograd);
  library.impl("skinning_weights", c10::DispatchKey::Autograd, weights_autograd);
  in_float32_under_autocast<Skinning, skinning>(library, "skinning");
  in_float32_under_autocast<Transforms, skinning_transforms>(library, "skinning_transforms");
  in_float32_under_autocast<Weights, skinning_weights>(library, "skinning_weights");
}

}  // namespace avatorch
