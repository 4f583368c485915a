// smplx::forward, a body from shape coefficients and pose: schema, shapes, derivatives. The stages are operators too; this
// one runs them fused and differentiates through their formulas.
#include <torch/library.h>

#include "autocast.h"
#include "border.h"
#include "kinematic_chain.h"
#include "model.h"
#include "node.h"
#include "rotation.h"
#include "skinning.h"

extern "C" int32_t avatorch_forward(avatorch::Call*);
extern "C" int32_t avatorch_forward_backward(avatorch::Call*);

namespace avatorch {

using at::TensorList;
using Results = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;
using Forward = Results(const Tensor&, const Tensor&, const OptionalTensor&, const Tensor&, const Tensor&, const OptionalTensor&,
                        const OptionalTensor&, const Tensor&, const Tensor&, const OptionalTensor&, const OptionalTensor&,
                        const OptionalTensor&, const OptionalTensor&, TensorList, bool);
using Backward = std::vector<Tensor>(TensorList, const Tensor&, const Tensor&, const Tensor&, const OptionalTensor&,
                                     const OptionalTensor&, const Tensor&, const Tensor&, const OptionalTensor&, const Tensor&,
                                     const Tensor&, const Tensor&, const Tensor&, const Tensor&, TensorList, int64_t, int64_t);
AVATORCH_OPERATOR(forward_operator, Forward, "smplx::forward")
AVATORCH_OPERATOR(backward_operator, Backward, "smplx::forward_backward")

// The arguments of smplx::forward that a gradient can reach, in the order of the Node's edges; the bit of each in `needs`.
enum Input { kShape, kPose, kTransl, kTemplate, kShapedirs, kPosedirs, kRegressor, kWeights, kJointTemplate, kJointDirs, kVertexOffsets, kJointOffsets, kInputs };

// Everything smplx::forward takes, named once.
struct Arguments {
  Tensor shape;              // [B|1, C]
  Tensor pose;               // [B|1, 3 J], [B|1, J, 3] or [B|1, J, 3, 3]
  OptionalTensor transl;     // [B|1, 3]
  Tensor v_template;         // [V, 3] or [B|1, V, 3]
  Tensor shapedirs;          // [V, 3, C]
  OptionalTensor posedirs;   // [9 (J - 1), 3 V]
  OptionalTensor regressor;  // [J, V], or the two below
  Tensor parents;            // [J]
  Tensor weights;            // [V, J]
  OptionalTensor joint_template;  // [J, 3]
  OptionalTensor joint_dirs;      // [J, 3, C]
  OptionalTensor vertex_offsets;  // [B|1, V, 3]
  OptionalTensor joint_offsets;   // [B|1, J, 3]

  c10::SymInt vertices() const { return weights.sym_size(0); }
  c10::SymInt joints() const { return weights.sym_size(1); }

  // The batch: the first size other than 1 among the arguments that have one.
  c10::SymInt bodies() const {
    c10::SymInt found = 1;
    const auto look = [&](const OptionalTensor& tensor, int64_t batched_rank) {
      if (!tensor.has_value() || !tensor->defined() || tensor->dim() < batched_rank) return;
      if (TORCH_GUARD_OR_FALSE(found.sym_eq(1))) found = tensor->sym_size(0);
    };
    look(shape, 2), look(pose, 2), look(transl, 2), look(v_template, 3), look(vertex_offsets, 3), look(joint_offsets, 3);
    return found;
  }
};

static Tensor all_bodies(const Tensor& tensor, const c10::SymInt& bodies) {
  auto sizes = tensor.sym_sizes().vec();
  sizes[0] = bodies;
  return tensor.expand_symint(sizes);
}

static bool given(const OptionalTensor& tensor) { return tensor.has_value() && tensor->defined(); }
static OptionalTensor optional(const Tensor& tensor) { return tensor.defined() ? OptionalTensor(tensor) : std::nullopt; }

// Kernels.

static Results forward_kernel(const Tensor& shape, const Tensor& pose, const OptionalTensor& transl, const Tensor& v_template,
                              const Tensor& shapedirs, const OptionalTensor& posedirs, const OptionalTensor& regressor,
                              const Tensor& parents, const Tensor& weights, const OptionalTensor& joint_template,
                              const OptionalTensor& joint_dirs, const OptionalTensor& vertex_offsets,
                              const OptionalTensor& joint_offsets, TensorList prepared, bool intermediates) {
  check_prepared("smplx::forward", prepared, v_template, shapedirs, regressor, parents, weights, joint_template, joint_dirs);
  const auto made = [&](Prepared::Position i) { return prepared.empty() ? nullptr : lend(prepared[i]); };
  auto out = enter<7>(avatorch_forward,
                      {&shape, &pose, lend(transl), &v_template, &shapedirs, lend(posedirs), lend(regressor), &parents, &weights,
                       lend(joint_template), lend(joint_dirs), lend(vertex_offsets), lend(joint_offsets),
                       made(Prepared::kJointTemplate), made(Prepared::kJointDirs), made(Prepared::kWeights), made(Prepared::kWeightJoints)},
                      {intermediates});
  return {std::move(out[0]), std::move(out[1]), std::move(out[2]), std::move(out[3]), std::move(out[4]), std::move(out[5]), std::move(out[6])};
}

static std::vector<Tensor> backward_kernel(TensorList grads, const Tensor& shape, const Tensor& pose, const Tensor& shapedirs,
                                           const OptionalTensor& posedirs, const OptionalTensor& regressor, const Tensor& parents,
                                           const Tensor& weights, const OptionalTensor& joint_dirs, const Tensor& v_shaped,
                                           const Tensor& joints, const Tensor& rot_mats, const Tensor& transforms,
                                           const Tensor& v_posed, TensorList prepared, int64_t arrived, int64_t needs) {
  size_t next = 0;
  const auto grad = [&](int64_t i) { return (arrived >> i & 1) != 0 ? &grads[next++] : nullptr; };
  const Tensor* given_grads[7];
  for (int64_t i = 0; i < 7; ++i) given_grads[i] = grad(i);
  const auto made = [&](Prepared::Position i) { return prepared.empty() ? nullptr : lend(prepared[i]); };
  auto out = enter<kInputs>(avatorch_forward_backward,
                            {given_grads[0], given_grads[1], given_grads[2], given_grads[3], given_grads[4], given_grads[5],
                             given_grads[6], &shape, &pose, &shapedirs, lend(posedirs), lend(regressor), &parents, &weights,
                             lend(joint_dirs), &v_shaped, &joints, &rot_mats, &transforms, &v_posed,
                             made(Prepared::kJointDirs), made(Prepared::kWeights), made(Prepared::kWeightJoints),
                             made(Prepared::kOrder), made(Prepared::kStart)},
                            {needs});
  std::vector<Tensor> asked;
  for (int64_t i = 0; i < kInputs; ++i) {
    if ((needs >> i & 1) != 0) asked.push_back(std::move(out[i]));
  }
  return asked;
}

// Shapes.

static Results forward_meta(const Tensor& shape, const Tensor& pose, const OptionalTensor& transl, const Tensor& v_template,
                            const Tensor& shapedirs, const OptionalTensor& posedirs, const OptionalTensor& regressor,
                            const Tensor& parents, const Tensor& weights, const OptionalTensor& joint_template,
                            const OptionalTensor& joint_dirs, const OptionalTensor& vertex_offsets,
                            const OptionalTensor& joint_offsets, TensorList, bool intermediates) {
  const Arguments a{shape, pose, transl, v_template, shapedirs, posedirs, regressor, parents, weights, joint_template, joint_dirs, vertex_offsets, joint_offsets};
  const auto bodies = a.bodies(), vertices = a.vertices(), joints = a.joints();
  const auto make = [&](std::vector<c10::SymInt> sizes, bool wanted) {
    return at::empty_symint(wanted ? sizes : std::vector<c10::SymInt>{0}, v_template.options());
  };
  return {make({bodies, vertices, 3}, true),          make({bodies, joints, 3}, true),
          make({bodies, vertices, 3}, intermediates), make({bodies, joints, 3}, intermediates),
          make({bodies, joints, 3, 3}, intermediates), make({bodies, joints, 4, 4}, intermediates),
          make({bodies, vertices, 3}, intermediates)};
}

static std::vector<Tensor> backward_meta(TensorList, const Tensor& shape, const Tensor& pose, const Tensor& shapedirs,
                                         const OptionalTensor& posedirs, const OptionalTensor& regressor, const Tensor&,
                                         const Tensor& weights, const OptionalTensor& joint_dirs, const Tensor&, const Tensor& joints,
                                         const Tensor&, const Tensor&, const Tensor& v_posed, TensorList, int64_t, int64_t needs) {
  const auto bodies = joints.sym_size(0);
  const auto batched = [&](const Tensor& tensor) {
    auto sizes = tensor.sym_sizes().vec();
    sizes[0] = bodies;
    return sizes;
  };
  std::vector<Tensor> made;
  const auto make = [&](Input input, const auto& sizes) {
    if ((needs >> input & 1) != 0) made.push_back(at::empty_symint(sizes(), joints.options()));
  };
  make(kShape, [&] { return batched(shape); });
  make(kPose, [&] { return batched(pose); });
  make(kTransl, [&] { return std::vector<c10::SymInt>{bodies, 3}; });
  make(kTemplate, [&] { return v_posed.sym_sizes().vec(); });
  make(kShapedirs, [&] { return shapedirs.sym_sizes().vec(); });
  make(kPosedirs, [&] { return posedirs->sym_sizes().vec(); });
  make(kRegressor, [&] { return regressor->sym_sizes().vec(); });
  make(kWeights, [&] { return weights.sym_sizes().vec(); });
  make(kJointTemplate, [&] { return joints.sym_sizes().vec(); });
  make(kJointDirs, [&] { return joint_dirs->sym_sizes().vec(); });
  make(kVertexOffsets, [&] { return v_posed.sym_sizes().vec(); });
  make(kJointOffsets, [&] { return joints.sym_sizes().vec(); });
  return made;
}

// The formulas, in differentiable operators: docs/gradients.md, forward.

static bool is_matrices(const Tensor& pose) { return pose.dim() == 4; }
static Tensor rotvecs(const Tensor& pose) { return pose.dim() == 3 ? pose : pose.unflatten(-1, {-1, 3}); }  // [B, J, 3]
static Tensor blend(const Tensor& dirs, const Tensor& coefficients) {                                       // [N, 3, C], [B, C] -> [B, N, 3]
  return at::matmul(coefficients, dirs.flatten(0, 1).mT()).unflatten_symint(-1, {dirs.sym_size(0), 3});
}
static Tensor pose_features(const Tensor& rot_mats) {  // [B, 9 (J - 1)]
  return (rot_mats.narrow_symint(1, 1, rot_mats.sym_size(1) - 1) - at::eye(3, rot_mats.options())).flatten(1);
}

static Results forward_formula(const Arguments& a) {
  const auto bodies = a.bodies();
  const Tensor v_shaped = all_bodies(blend(a.shapedirs, a.shape) + a.v_template, bodies);
  Tensor joints = given(a.regressor) ? at::matmul(*a.regressor, v_shaped) : blend(*a.joint_dirs, a.shape) + *a.joint_template;
  if (given(a.joint_offsets)) joints = joints + *a.joint_offsets;
  joints = all_bodies(joints, bodies);
  const Tensor rot_mats = all_bodies(is_matrices(a.pose) ? a.pose : rodrigues(rotvecs(a.pose)), bodies);
  const auto [posed, transforms] = kinematic_chain(rot_mats, joints, a.parents);
  Tensor v_posed = v_shaped;
  if (given(a.vertex_offsets)) v_posed = v_posed + *a.vertex_offsets;
  if (given(a.posedirs)) v_posed = v_posed + at::matmul(pose_features(rot_mats), *a.posedirs).unflatten(-1, {-1, 3});
  const Tensor vertices = skinning(v_posed, transforms, a.weights, std::nullopt);
  if (!given(a.transl)) return {vertices, posed, v_shaped.clone(), joints.clone(), rot_mats.clone(), transforms, v_posed.clone()};
  const Tensor shift = a.transl->unsqueeze(1);
  return {vertices + shift, posed + shift, v_shaped.clone(), joints.clone(), rot_mats.clone(), transforms, v_posed.clone()};
}

// The gradients of what the results were made of, for the inputs whose bit is set in `needs`; each for all bodies.
static std::vector<Tensor> backward_formula(const variable_list& grads, const Tensor& shape, const Tensor& pose,
                                            const Tensor& shapedirs, const OptionalTensor& posedirs, const OptionalTensor& regressor,
                                            const Tensor& parents, const Tensor& weights, const OptionalTensor& joint_dirs,
                                            const Tensor& v_shaped, const Tensor& joints, const Tensor& rot_mats,
                                            const Tensor& transforms, const Tensor& v_posed, int64_t needs) {
  const Tensor &g_vertices = grads[0], &g_joints = grads[1];
  Tensor g_v_shaped = grads[2], g_J = grads[3], g_rot = grads[4], g_transforms = grads[5], g_v_posed = grads[6];
  const auto bodies = joints.sym_size(0);
  if (g_vertices.defined()) {
    g_v_posed = plus(g_v_posed, skinning(g_vertices, transposed_linear_part(transforms), weights, std::nullopt));
    g_transforms = plus(g_transforms, skinning_transforms(g_vertices, v_posed, weights, std::nullopt, joints.sym_size(1)));
  }
  if (g_joints.defined() || g_transforms.defined()) {
    const auto [to_rot, to_joints] = kinematic_chain_backward(optional(g_joints), optional(g_transforms), rot_mats, joints, parents);
    g_rot = plus(g_rot, to_rot);
    g_J = plus(g_J, to_joints);
  }
  g_v_shaped = plus(g_v_shaped, g_v_posed);
  if (given(posedirs) && g_v_posed.defined()) {
    const Tensor g_features = at::matmul(g_v_posed.flatten(1), posedirs->mT()).unflatten(-1, {-1, 3, 3});
    g_rot = plus(g_rot, at::constant_pad_nd(g_features, {0, 0, 0, 0, 1, 0}));
  }
  if (given(regressor) && g_J.defined()) g_v_shaped = plus(g_v_shaped, at::matmul(regressor->mT(), g_J));
  const auto or_zeros = [](const Tensor& grad, const Tensor& like) { return grad.defined() ? grad : at::zeros_like(like); };
  g_v_posed = or_zeros(g_v_posed, v_posed);
  g_v_shaped = or_zeros(g_v_shaped, v_posed);
  g_J = or_zeros(g_J, joints);
  g_rot = or_zeros(g_rot, rot_mats);
  const Tensor coefficients = all_bodies(shape, bodies);

  std::vector<Tensor> made;
  const auto make = [&](Input input, const auto& gradient) {
    if ((needs >> input & 1) != 0) made.push_back(gradient());
  };
  make(kShape, [&] {
    const Tensor through_vertices = at::matmul(g_v_shaped.flatten(1), shapedirs.flatten(0, 1));
    return given(regressor) ? through_vertices : through_vertices + at::matmul(g_J.flatten(1), joint_dirs->flatten(0, 1));
  });
  make(kPose, [&] {
    if (is_matrices(pose)) return g_rot;
    const Tensor vectors = all_bodies(rotvecs(pose), bodies);
    const Tensor gradient = find_operator<Tensor(const Tensor&, const Tensor&)>("smplx::rodrigues_backward").call(g_rot, vectors);
    return pose.dim() == 3 ? gradient : gradient.flatten(1);
  });
  make(kTransl, [&] {
    const Tensor sums = plus(g_vertices.defined() ? g_vertices.sum(1) : Tensor(), g_joints.defined() ? g_joints.sum(1) : Tensor());
    return sums.defined() ? sums : at::zeros_symint({bodies, 3}, joints.options());
  });
  make(kTemplate, [&] { return g_v_shaped; });
  make(kShapedirs, [&] { return at::matmul(g_v_shaped.flatten(1).mT(), coefficients).unflatten(0, {-1, 3}); });
  make(kPosedirs, [&] { return at::matmul(pose_features(rot_mats).mT(), g_v_posed.flatten(1)); });
  make(kRegressor, [&] { return at::matmul(g_J.movedim(1, 0).flatten(1), v_shaped.movedim(1, 0).flatten(1).mT()); });
  make(kWeights, [&] { return g_vertices.defined() ? skinning_weights(g_vertices, v_posed, transforms, std::nullopt) : at::zeros_like(weights); });
  make(kJointTemplate, [&] { return g_J.clone(); });
  make(kJointDirs, [&] { return at::matmul(g_J.flatten(1).mT(), coefficients).unflatten(0, {-1, 3}); });
  make(kVertexOffsets, [&] { return g_v_posed.clone(); });
  make(kJointOffsets, [&] { return g_J.clone(); });
  return made;
}

// Saved: the twelve tensor arguments in Node order, parents, the results v_shaped, J_shaped, rot_mats, A_global, v_posed
// (or nothing of them, to be recomputed), and what was prepared.
struct ForwardFormula {
  static constexpr const char* name = "SmplxForwardBackward";
  static constexpr size_t kParents = kInputs, kIntermediates = kParents + 1, kPreparation = kIntermediates + 5;

  static variable_list backward(const variable_list& grads, const Saved& saved, const Needs& needs) {
    const auto& t = saved.tensors;
    const bool kept = saved.numbers[0] != 0;
    const std::vector<Tensor> prepared(t.begin() + kPreparation, t.end());
    variable_list made(t.begin() + kIntermediates, t.begin() + kPreparation);
    if (!kept) {
      const auto again = forward_operator().call(t[kShape], t[kPose], optional(t[kTransl]), t[kTemplate], t[kShapedirs], optional(t[kPosedirs]),
                                                 optional(t[kRegressor]), t[kParents], t[kWeights], optional(t[kJointTemplate]), optional(t[kJointDirs]),
                                                 optional(t[kVertexOffsets]), optional(t[kJointOffsets]), prepared, true);
      made = {std::get<2>(again), std::get<3>(again), std::get<4>(again), std::get<5>(again), std::get<6>(again)};
    }
    if (!made[0].defined()) made[0] = made[4];  // not looked at
    int64_t asked = 0, arrived = 0;
    for (size_t i = 0; i < kInputs; ++i) asked |= static_cast<int64_t>(needs[i]) << i;
    // Without intermediates the results past the second are empty, and so are their gradients.
    variable_list present;
    for (size_t i = 0; i < (kept ? 7 : 2); ++i) {
      if (!grads[i].defined()) continue;
      present.push_back(grads[i]);
      arrived |= int64_t{1} << i;
    }
    const auto gradients = backward_operator().call(present, t[kShape], t[kPose], t[kShapedirs], optional(t[kPosedirs]), optional(t[kRegressor]),
                                                    t[kParents], t[kWeights], optional(t[kJointDirs]), made[0], made[1], made[2], made[3], made[4],
                                                    prepared, arrived, asked);
    variable_list result(kInputs);
    size_t next = 0;
    for (size_t i = 0; i < kInputs; ++i) {
      if (needs[i]) result[i] = reduced_to(gradients[next++], t[i]);
    }
    return result;
  }
};

static Results forward_autograd(c10::DispatchKeySet keys, const Tensor& shape, const Tensor& pose, const OptionalTensor& transl,
                                const Tensor& v_template, const Tensor& shapedirs, const OptionalTensor& posedirs,
                                const OptionalTensor& regressor, const Tensor& parents, const Tensor& weights,
                                const OptionalTensor& joint_template, const OptionalTensor& joint_dirs,
                                const OptionalTensor& vertex_offsets, const OptionalTensor& joint_offsets, TensorList prepared,
                                bool intermediates) {
  if (any_tangent(shape, pose, transl, v_template, shapedirs, posedirs, regressor, weights, joint_template, joint_dirs, vertex_offsets, joint_offsets)) {
    return forward_formula({shape, pose, transl, v_template, shapedirs, posedirs, regressor, parents, weights, joint_template, joint_dirs, vertex_offsets, joint_offsets});
  }
  const auto node = node_for<ForwardFormula>(shape, pose, transl, v_template, shapedirs, posedirs, regressor, weights, joint_template,
                                             joint_dirs, vertex_offsets, joint_offsets);
  Results out;
  {
    at::AutoDispatchBelowADInplaceOrView below;
    out = forward_operator().redispatch(keys & c10::after_autograd_keyset, shape, pose, transl, v_template, shapedirs, posedirs, regressor,
                                        parents, weights, joint_template, joint_dirs, vertex_offsets, joint_offsets, prepared, intermediates);
  }
  if (node) {
    auto& [vertices, posed, v_shaped, joints, rot_mats, transforms, v_posed] = out;
    set_history(variable_list{vertices, posed, v_shaped, joints, rot_mats, transforms, v_posed}, node);
    for (const OptionalTensor& tensor : {OptionalTensor(shape), OptionalTensor(pose), transl, OptionalTensor(v_template), OptionalTensor(shapedirs), posedirs, regressor,
                                         OptionalTensor(weights), joint_template, joint_dirs, vertex_offsets, joint_offsets, OptionalTensor(parents)}) {
      node->save(tensor.value_or(Tensor()));
    }
    for (const Tensor* result : {&v_shaped, &joints, &rot_mats, &transforms, &v_posed}) {
      // The shaped vertices serve the regressor's gradient alone.
      const bool wanted = intermediates && (result != &v_shaped || (given(regressor) && regressor->requires_grad()));
      if (wanted) node->save(*result, /*is_output=*/true);
      else node->save(Tensor());
    }
    for (const Tensor& tensor : prepared) node->save(tensor);
    node->save(static_cast<int64_t>(intermediates));
  }
  return out;
}

static std::vector<Tensor> backward_autograd(c10::DispatchKeySet keys, TensorList grads, const Tensor& shape, const Tensor& pose,
                                             const Tensor& shapedirs, const OptionalTensor& posedirs, const OptionalTensor& regressor,
                                             const Tensor& parents, const Tensor& weights, const OptionalTensor& joint_dirs,
                                             const Tensor& v_shaped, const Tensor& joints, const Tensor& rot_mats,
                                             const Tensor& transforms, const Tensor& v_posed, TensorList prepared, int64_t arrived,
                                             int64_t needs) {
  bool differentiate = any_tangent(shape, pose, shapedirs, posedirs, regressor, weights, joint_dirs, v_shaped, joints, rot_mats, transforms, v_posed) ||
                       torch::autograd::compute_requires_grad(grads, shape, pose, shapedirs, posedirs, regressor, weights, joint_dirs, v_shaped,
                                                              joints, rot_mats, transforms, v_posed);
  for (const Tensor& grad : grads) differentiate = differentiate || any_tangent(grad);
  if (differentiate) {
    variable_list all(7);
    size_t next = 0;
    for (int64_t i = 0; i < 7; ++i) {
      if ((arrived >> i & 1) != 0) all[i] = grads[next++];
    }
    return backward_formula(all, shape, pose, shapedirs, posedirs, regressor, parents, weights, joint_dirs, v_shaped, joints, rot_mats,
                            transforms, v_posed, needs);
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return backward_operator().redispatch(keys & c10::after_autograd_keyset, grads, shape, pose, shapedirs, posedirs, regressor, parents,
                                        weights, joint_dirs, v_shaped, joints, rot_mats, transforms, v_posed, prepared, arrived, needs);
}

static Results forward_public(const Tensor& shape, const Tensor& pose, const OptionalTensor& transl, const Tensor& v_template,
                              const Tensor& shapedirs, const OptionalTensor& posedirs, const OptionalTensor& regressor,
                              const Tensor& parents, const Tensor& weights, const OptionalTensor& joint_template,
                              const OptionalTensor& joint_dirs, const OptionalTensor& vertex_offsets,
                              const OptionalTensor& joint_offsets, TensorList prepared, bool intermediates) {
  return forward_operator().call(shape, pose, transl, v_template, shapedirs, posedirs, regressor, parents, weights, joint_template,
                                 joint_dirs, vertex_offsets, joint_offsets, prepared, intermediates);
}

TORCH_LIBRARY_FRAGMENT(smplx, library) {
  const std::vector<at::Tag> tags{at::Tag::pt2_compliant_tag};
  library.def(
      "forward(Tensor shape_coefficients, Tensor pose, Tensor? transl, Tensor v_template, Tensor shapedirs, Tensor? posedirs, "
      "Tensor? J_regressor, Tensor parents, Tensor lbs_weights, Tensor? J_template=None, Tensor? J_shapedirs=None, "
      "Tensor? vertex_offsets=None, Tensor? joint_offsets=None, Tensor[] prepared=[], bool intermediates=True) -> "
      "(Tensor vertices, Tensor joints, Tensor v_shaped, Tensor J_shaped, Tensor rot_mats, Tensor A_global, Tensor v_posed)",
      tags);
  library.def(
      "forward_backward(Tensor[] grads, Tensor shape_coefficients, Tensor pose, Tensor shapedirs, Tensor? posedirs, "
      "Tensor? J_regressor, Tensor parents, Tensor lbs_weights, Tensor? J_shapedirs, Tensor v_shaped, Tensor J_shaped, "
      "Tensor rot_mats, Tensor A_global, Tensor v_posed, Tensor[] prepared, int arrived, int needs) -> Tensor[]",
      tags);
  for (const auto key : {c10::DispatchKey::CPU, c10::DispatchKey::CUDA}) {
    library.impl("forward", key, forward_kernel);
    library.impl("forward_backward", key, backward_kernel);
  }
  library.impl("forward", c10::DispatchKey::Meta, forward_meta);
  library.impl("forward_backward", c10::DispatchKey::Meta, backward_meta);
  library.impl("forward", c10::DispatchKey::Autograd, forward_autograd);
  library.impl("forward_backward", c10::DispatchKey::Autograd, backward_autograd);
  in_float32_under_autocast<Forward, forward_public>(library, "forward");
}

}  // namespace avatorch
