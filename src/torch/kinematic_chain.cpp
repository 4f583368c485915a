// smplx::kinematic_chain: schema, shapes, derivatives.
#include "kinematic_chain.h"

#include <torch/library.h>

#include "autocast.h"
#include "border.h"
#include "node.h"

extern "C" int32_t avatorch_kinematic_chain(avatorch::Call*);
extern "C" int32_t avatorch_kinematic_chain_backward(avatorch::Call*);

namespace avatorch {

using OptionalTensor = std::optional<Tensor>;
using Forward = TensorPair(const Tensor&, const Tensor&, const Tensor&);
using Backward = TensorPair(const OptionalTensor&, const OptionalTensor&, const Tensor&, const Tensor&, const Tensor&);
AVATORCH_OPERATOR(forward_operator, Forward, "smplx::kinematic_chain")
AVATORCH_OPERATOR(backward_operator, Backward, "smplx::kinematic_chain_backward")

TensorPair kinematic_chain(const Tensor& rot_mats, const Tensor& joints, const Tensor& parents) {
  return forward_operator().call(rot_mats, joints, parents);
}
TensorPair kinematic_chain_backward(const OptionalTensor& grad_posed, const OptionalTensor& grad_transforms,
                                    const Tensor& rot_mats, const Tensor& joints, const Tensor& parents) {
  return backward_operator().call(grad_posed, grad_transforms, rot_mats, joints, parents);
}

// Kernels.

static TensorPair forward_kernel(const Tensor& rot_mats, const Tensor& joints, const Tensor& parents) {
  auto out = enter<2>(avatorch_kinematic_chain, {&rot_mats, &joints, &parents});
  return {std::move(out[0]), std::move(out[1])};
}

static TensorPair backward_kernel(const OptionalTensor& grad_posed, const OptionalTensor& grad_transforms,
                                  const Tensor& rot_mats, const Tensor& joints, const Tensor& parents) {
  auto out = enter<2>(avatorch_kinematic_chain_backward,
                      {lend(grad_posed), lend(grad_transforms), &rot_mats, &joints, &parents});
  return {std::move(out[0]), std::move(out[1])};
}

// Shapes.

static TensorPair forward_meta(const Tensor& rot_mats, const Tensor& joints, const Tensor& parents) {
  check_all_meta("smplx::kinematic_chain", rot_mats, joints, parents);
  const auto bodies = rot_mats.sym_size(0), count = rot_mats.sym_size(1);
  return {at::empty_symint({bodies, count, 3}, joints.options()),
          at::empty_symint({bodies, count, 4, 4}, joints.options())};
}

static TensorPair backward_meta(const OptionalTensor& grad_posed, const OptionalTensor& grad_transforms,
                                const Tensor& rot_mats, const Tensor& joints, const Tensor& parents) {
  check_all_meta("smplx::kinematic_chain_backward", grad_posed, grad_transforms, rot_mats, joints, parents);
  return {at::empty_symint(rot_mats.sym_sizes(), rot_mats.options()),
          at::empty_symint(joints.sym_sizes(), joints.options())};
}

// Derivatives of any order, by doubling. A joint holds the product of the transforms from its ancestor (exclusive) to
// itself; in each round it multiplies by what its ancestor holds and takes over that one's ancestor:
//   t' = t[up] + G[up] t,   G' = G[up] G,   up' = up[up].
// One more joint, the identity and its own ancestor, stands above the roots. Nothing here reads a value, so nothing
// waits.
struct Round {
  Tensor rotation;     // G [B, J + 1, 3, 3]
  Tensor translation;  // t [B, J + 1, 3, 1]
  Tensor ancestor;     // up [J + 1]
};

static Tensor above_roots(const Tensor& parents) {
  const auto joints = parents.size(0);
  const Tensor real = at::where(parents < 0, at::full_like(parents, joints), parents);
  return at::cat({real, at::full_like(parents.narrow(0, 0, 1), joints)});
}

static Tensor offsets(const Tensor& joints, const Tensor& ancestor) {
  const Tensor padded = at::constant_pad_nd(joints, {0, 0, 0, 1});  // the joint above the roots lies at the origin
  return padded - padded.index_select(1, ancestor);                 // [B, J + 1, 3]
}

static std::vector<Round> rounds(const Tensor& rot_mats, const Tensor& joints, const Tensor& parents) {
  const Tensor ancestor = above_roots(parents);
  const Tensor identity = at::eye(3, rot_mats.options()).expand_symint({rot_mats.sym_size(0), 1, 3, 3});
  std::vector<Round> all{{at::cat({rot_mats, identity}, 1), offsets(joints, ancestor).unsqueeze(-1), ancestor}};
  for (int64_t reach = 1; reach < parents.size(0); reach *= 2) {
    const Round& now = all.back();
    const Tensor above = now.rotation.index_select(1, now.ancestor);
    all.push_back({at::matmul(above, now.rotation),
                   now.translation.index_select(1, now.ancestor) + at::matmul(above, now.translation),
                   now.ancestor.index_select(0, now.ancestor)});
  }
  return all;
}

static TensorPair forward_formula(const Tensor& rot_mats, const Tensor& joints, const Tensor& parents) {
  const auto count = parents.size(0);
  const Round last = rounds(rot_mats, joints, parents).back();
  const Tensor rotation = last.rotation.narrow(1, 0, count), posed = last.translation.narrow(1, 0, count);
  const Tensor shift = posed - at::matmul(rotation, joints.unsqueeze(-1));
  const Tensor upper = at::cat({rotation, shift}, -1);  // [B, J, 3, 4]
  const Tensor lower =
      at::eye(4, rot_mats.options()).narrow(0, 3, 1).expand_symint({rot_mats.sym_size(0), count, 1, 4});
  return {posed.squeeze(-1), at::cat({upper, lower}, -2)};
}

// Each round backwards, with g the gradient of its result:
//   G: G[up]^T gG, and to the ancestor gG G^T + gt t^T;   t: G[up]^T gt, and to the ancestor gt.
static TensorPair backward_formula(const OptionalTensor& grad_posed, const OptionalTensor& grad_transforms,
                                   const Tensor& rot_mats, const Tensor& joints, const Tensor& parents) {
  const auto count = parents.size(0);
  const auto all = rounds(rot_mats, joints, parents);
  const Tensor rotation = all.back().rotation.narrow(1, 0, count);
  Tensor g_rotation = at::zeros_like(rot_mats), g_translation = at::zeros_like(joints).unsqueeze(-1),
         g_joints = at::zeros_like(joints);
  if (grad_transforms.has_value() && grad_transforms->defined()) {
    const Tensor upper = grad_transforms->narrow(-2, 0, 3), shift = upper.narrow(-1, 3, 1);  // [B, J, 3, 1]
    g_rotation = upper.narrow(-1, 0, 3) - at::matmul(shift, joints.unsqueeze(-2));
    g_translation = shift;
    g_joints = -at::matmul(rotation.mT(), shift).squeeze(-1);
  }
  if (grad_posed.has_value() && grad_posed->defined()) g_translation = g_translation + grad_posed->unsqueeze(-1);
  g_rotation = at::constant_pad_nd(g_rotation, {0, 0, 0, 0, 0, 1});
  g_translation = at::constant_pad_nd(g_translation, {0, 0, 0, 0, 0, 1});
  for (size_t i = all.size() - 1; i-- > 0;) {
    const Round& round = all[i];
    const Tensor above = round.rotation.index_select(1, round.ancestor).mT();
    const Tensor to_rotation =
        at::matmul(g_rotation, round.rotation.mT()) + at::matmul(g_translation, round.translation.mT());
    const Tensor to_translation = g_translation;
    g_rotation = at::matmul(above, g_rotation).index_add(1, round.ancestor, to_rotation);
    g_translation = at::matmul(above, g_translation).index_add(1, round.ancestor, to_translation);
  }
  const Tensor step = g_translation.squeeze(-1);
  g_joints = g_joints + step.index_add(1, all[0].ancestor, -step).narrow(1, 0, count);
  return {g_rotation.narrow(1, 0, count), g_joints};
}

struct ChainFormula {
  static constexpr const char* name = "KinematicChainBackward";
  static variable_list backward(const variable_list& grads, const Saved& saved, const Needs&) {
    const auto [rot_mats, joints] =
        kinematic_chain_backward(grads[0], grads[1], saved.tensors[0], saved.tensors[1], saved.tensors[2]);
    return {rot_mats, joints};
  }
};

static TensorPair forward_autograd(c10::DispatchKeySet keys, const Tensor& rot_mats, const Tensor& joints,
                                   const Tensor& parents) {
  if (any_tangent(rot_mats, joints)) return forward_formula(rot_mats, joints, parents);
  const auto node = node_for<ChainFormula>(rot_mats, joints);
  if (node) {
    for (const Tensor* tensor : {&rot_mats, &joints, &parents}) node->save(*tensor);
  }
  TensorPair out;
  {
    at::AutoDispatchBelowADInplaceOrView below;
    out = forward_operator().redispatch(keys & c10::after_autograd_keyset, rot_mats, joints, parents);
  }
  if (node) set_history(variable_list{std::get<0>(out), std::get<1>(out)}, node);
  return out;
}

static TensorPair backward_autograd(c10::DispatchKeySet keys, const OptionalTensor& grad_posed,
                                    const OptionalTensor& grad_transforms, const Tensor& rot_mats, const Tensor& joints,
                                    const Tensor& parents) {
  if (any_tangent(grad_posed, grad_transforms, rot_mats, joints) ||
      torch::autograd::compute_requires_grad(grad_posed, grad_transforms, rot_mats, joints)) {
    return backward_formula(grad_posed, grad_transforms, rot_mats, joints, parents);
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return backward_operator().redispatch(keys & c10::after_autograd_keyset, grad_posed, grad_transforms, rot_mats,
                                        joints, parents);
}

TORCH_LIBRARY_FRAGMENT(smplx, library) {
  const std::vector<at::Tag> tags{at::Tag::pt2_compliant_tag};
  library.def(
      "kinematic_chain(Tensor rot_mats, Tensor joints, Tensor parents) -> (Tensor posed_joints, Tensor transforms)",
      tags);
  library.def(
      "kinematic_chain_backward(Tensor? grad_posed_joints, Tensor? grad_transforms, Tensor rot_mats, Tensor joints, "
      "Tensor parents) -> (Tensor grad_rot_mats, Tensor grad_joints)",
      tags);
  for (const auto key : {c10::DispatchKey::CPU, c10::DispatchKey::CUDA}) {
    library.impl("kinematic_chain", key, forward_kernel);
    library.impl("kinematic_chain_backward", key, backward_kernel);
  }
  library.impl("kinematic_chain", c10::DispatchKey::Meta, forward_meta);
  library.impl("kinematic_chain_backward", c10::DispatchKey::Meta, backward_meta);
  library.impl("kinematic_chain", c10::DispatchKey::Autograd, forward_autograd);
  library.impl("kinematic_chain_backward", c10::DispatchKey::Autograd, backward_autograd);
  in_float32_under_autocast<Forward, kinematic_chain>(library, "kinematic_chain");
  in_float32_under_autocast<Backward, kinematic_chain_backward>(library, "kinematic_chain_backward");
}

}  // namespace avatorch
