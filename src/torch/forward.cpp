// smplx::forward, a body from shape coefficients and pose: schema, shapes, derivatives. The stages are operators too;
// this one runs them fused and differentiates through their formulas.
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
using Preparation = std::optional<std::vector<Tensor>>;  // what smplx::prepare returned
using Results = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;
using Gradients =
    std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// The parameters of the two operators, in the order of their schemas, and the same as arguments.
#define FORWARD_PARAMETERS                                                                                             \
  const Tensor &shape, const Tensor &pose, const OptionalTensor &transl, const Tensor &v_template,                     \
      const Tensor &shapedirs, const OptionalTensor &posedirs, const OptionalTensor &regressor, const Tensor &parents, \
      const Tensor &weights, const OptionalTensor &joint_template, const OptionalTensor &joint_dirs,                   \
      const OptionalTensor &vertex_offsets, const OptionalTensor &joint_offsets, const Preparation &preparation,       \
      bool intermediates
#define FORWARD_TENSORS                                                                                          \
  shape, pose, transl, v_template, shapedirs, posedirs, regressor, parents, weights, joint_template, joint_dirs, \
      vertex_offsets, joint_offsets
#define FORWARD_ARGUMENTS FORWARD_TENSORS, preparation, intermediates

#define BACKWARD_PARAMETERS                                                                                          \
  const OptionalTensor &g_vertices, const OptionalTensor &g_posed, const OptionalTensor &g_v_shaped,                 \
      const OptionalTensor &g_joints, const OptionalTensor &g_rot_mats, const OptionalTensor &g_transforms,          \
      const OptionalTensor &g_v_posed, const Tensor &shape, const Tensor &pose, const Tensor &shapedirs,             \
      const OptionalTensor &posedirs, const OptionalTensor &regressor, const Tensor &parents, const Tensor &weights, \
      const OptionalTensor &joint_dirs, const Tensor &v_shaped, const Tensor &joints, const Tensor &rot_mats,        \
      const Tensor &transforms, const Tensor &v_posed, const OptionalTensor &folded_dirs,                            \
      const OptionalTensor &packed_weights, const OptionalTensor &packed_joints, const OptionalTensor &order,        \
      const OptionalTensor &start, const OptionalTensor &pose_pair, const OptionalTensor &pose_units,                \
      const OptionalTensor &moved, const OptionalTensor &moved_weights, int64_t needs
#define BACKWARD_DIFFERENTIABLE                                                                                     \
  g_vertices, g_posed, g_v_shaped, g_joints, g_rot_mats, g_transforms, g_v_posed, shape, pose, shapedirs, posedirs, \
      regressor, weights, joint_dirs, v_shaped, joints, rot_mats, transforms, v_posed
#define BACKWARD_ARGUMENTS                                                                                          \
  g_vertices, g_posed, g_v_shaped, g_joints, g_rot_mats, g_transforms, g_v_posed, shape, pose, shapedirs, posedirs, \
      regressor, parents, weights, joint_dirs, v_shaped, joints, rot_mats, transforms, v_posed, folded_dirs,        \
      packed_weights, packed_joints, order, start, pose_pair, pose_units, moved, moved_weights, needs

using Forward = Results(FORWARD_PARAMETERS);
using Backward = Gradients(BACKWARD_PARAMETERS);
AVATORCH_OPERATOR(forward_operator, Forward, "smplx::forward")
AVATORCH_OPERATOR(backward_operator, Backward, "smplx::forward_backward")

// The arguments of smplx::forward that a gradient can reach, in the order of the Node's edges; the bit of each in
// `needs`.
enum Input {
  kShape,
  kPose,
  kTransl,
  kTemplate,
  kShapedirs,
  kPosedirs,
  kRegressor,
  kWeights,
  kJointTemplate,
  kJointDirs,
  kVertexOffsets,
  kJointOffsets,
  kInputs
};

// Everything smplx::forward takes, named once.
struct Arguments {
  Tensor shape;                   // [B|1, C]
  Tensor pose;                    // [B|1, 3 J], [B|1, J, 3] or [B|1, J, 3, 3]
  OptionalTensor transl;          // [B|1, 3]
  Tensor v_template;              // [V, 3] or [B|1, V, 3]
  Tensor shapedirs;               // [V, 3, C]
  OptionalTensor posedirs;        // [9 (J - 1), 3 V]
  OptionalTensor regressor;       // [J, V], or the two below
  Tensor parents;                 // [J]
  Tensor weights;                 // [V, J]
  OptionalTensor joint_template;  // [J, 3]
  OptionalTensor joint_dirs;      // [J, 3, C]
  OptionalTensor vertex_offsets;  // [B|1, V, 3]
  OptionalTensor joint_offsets;   // [B|1, J, 3]

  // The batch: the first size other than 1 among the arguments that have one.
  c10::SymInt bodies() const {
    c10::SymInt found = 1;
    const auto look = [&](const OptionalTensor& tensor, int64_t batched_rank) {
      if (!tensor.has_value() || !tensor->defined() || tensor->dim() < batched_rank) return;
      if (TORCH_GUARD_OR_FALSE(found.sym_eq(1))) found = tensor->sym_size(0);
    };
    look(shape, 2), look(pose, 2), look(transl, 2), look(v_template, 3), look(vertex_offsets, 3),
        look(joint_offsets, 3);
    return found;
  }
};

static Tensor all_bodies(const Tensor& tensor, const c10::SymInt& bodies) {
  auto sizes = tensor.sym_sizes().vec();
  sizes[0] = bodies;
  return tensor.expand_symint(sizes);
}

static bool given(const OptionalTensor& tensor) { return tensor.has_value() && tensor->defined(); }
static OptionalTensor optional(const Tensor& tensor) {
  return tensor.defined() ? OptionalTensor(tensor) : std::nullopt;
}
static TensorList listed(const Preparation& preparation) {
  return preparation.has_value() ? TensorList(*preparation) : TensorList();
}

static const Tensor& made(TensorList prepared, Prepared::Position position) {
  static const Tensor none;
  return prepared.empty() ? none : prepared[position];
}

template <class... Tensors>
static std::array<Tensor, sizeof...(Tensors)> listed(const std::tuple<Tensors...>& tuple) {
  return std::apply([](const auto&... tensors) { return std::array<Tensor, sizeof...(Tensors)>{tensors...}; }, tuple);
}
template <class Tuple, size_t N>
static Tuple tupled(std::array<Tensor, N>& array) {
  return std::apply([](auto&... tensors) { return Tuple{std::move(tensors)...}; }, array);
}

// Kernels.

static Results forward_kernel(FORWARD_PARAMETERS) {
  const TensorList prepared = listed(preparation);
  check_prepared("smplx::forward", prepared, v_template, shapedirs, regressor, parents, weights, joint_template,
                 joint_dirs, posedirs);
  auto out = enter<7>(avatorch_forward,
                      {&shape, &pose, lend(transl), &v_template, &shapedirs, lend(posedirs), lend(regressor), &parents,
                       &weights, lend(joint_template), lend(joint_dirs), lend(vertex_offsets), lend(joint_offsets),
                       lend(made(prepared, Prepared::kJointTemplate)), lend(made(prepared, Prepared::kJointDirs)),
                       lend(made(prepared, Prepared::kWeights)), lend(made(prepared, Prepared::kWeightJoints)),
                       lend(made(prepared, Prepared::kPosePair)), lend(made(prepared, Prepared::kPoseUnits))},
                      {intermediates});
  for (Tensor& result : out) {
    if (!result.defined()) result = nothing(v_template);
  }
  return tupled<Results>(out);
}

static Gradients backward_kernel(BACKWARD_PARAMETERS) {
  auto out = enter<kInputs>(avatorch_forward_backward,
                            {lend(g_vertices),
                             lend(g_posed),
                             lend(g_v_shaped),
                             lend(g_joints),
                             lend(g_rot_mats),
                             lend(g_transforms),
                             lend(g_v_posed),
                             &shape,
                             &pose,
                             &shapedirs,
                             lend(posedirs),
                             lend(regressor),
                             &parents,
                             &weights,
                             lend(joint_dirs),
                             &v_shaped,
                             &joints,
                             &rot_mats,
                             &transforms,
                             &v_posed,
                             lend(folded_dirs),
                             lend(packed_weights),
                             lend(packed_joints),
                             lend(order),
                             lend(start),
                             lend(pose_pair),
                             lend(pose_units),
                             lend(moved),
                             lend(moved_weights)},
                            {needs});
  for (Tensor& gradient : out) {
    if (!gradient.defined()) gradient = nothing(joints);
  }
  return tupled<Gradients>(out);
}

// Shapes.

static Results forward_meta(FORWARD_PARAMETERS) {
  std::apply([](const auto&... tensors) { check_all_meta("smplx::forward", tensors...); }, std::tie(FORWARD_TENSORS));
  for (const Tensor& tensor : listed(preparation)) check_all_meta("smplx::forward", tensor);
  const auto bodies = Arguments{FORWARD_TENSORS}.bodies(), vertices = weights.sym_size(0), count = weights.sym_size(1);
  const auto make = [&](std::vector<c10::SymInt> sizes, bool wanted) {
    return at::empty_symint(wanted ? sizes : std::vector<c10::SymInt>{0}, v_template.options());
  };
  return {make({bodies, vertices, 3}, true),          make({bodies, count, 3}, true),
          make({bodies, vertices, 3}, intermediates), make({bodies, count, 3}, intermediates),
          make({bodies, count, 3, 3}, intermediates), make({bodies, count, 4, 4}, intermediates),
          make({bodies, vertices, 3}, intermediates)};
}

static Gradients backward_meta(BACKWARD_PARAMETERS) {
  const char* name = "smplx::forward_backward";
  check_all_meta(name, BACKWARD_DIFFERENTIABLE);
  check_all_meta(name, parents, folded_dirs, packed_weights, packed_joints, order, start, pose_pair, pose_units, moved,
                 moved_weights);
  const auto asked = [&](Input input, const OptionalTensor& tensor, const char* argument) {
    TORCH_CHECK_VALUE((needs >> input & 1) == 0 || given(tensor), name, ": needs asks for the gradient of ", argument,
                      ", which is absent");
  };
  asked(kPosedirs, posedirs, "posedirs"), asked(kRegressor, regressor, "J_regressor"),
      asked(kJointDirs, joint_dirs, "J_shapedirs");
  const auto bodies = joints.sym_size(0);
  const auto of_all_bodies = [&](const Tensor& tensor) {
    auto sizes = tensor.sym_sizes().vec();
    sizes[0] = bodies;
    return sizes;
  };
  const auto make = [&](Input input, const auto& sizes) {
    const bool wanted = (needs >> input & 1) != 0;
    return at::empty_symint(wanted ? std::vector<c10::SymInt>(sizes()) : std::vector<c10::SymInt>{0}, joints.options());
  };
  const auto sizes_of = [](const Tensor& tensor) { return [&] { return tensor.sym_sizes().vec(); }; };
  return {make(kShape, [&] { return of_all_bodies(shape); }),
          make(kPose, [&] { return of_all_bodies(pose); }),
          make(kTransl, [&] { return std::vector<c10::SymInt>{bodies, 3}; }),
          make(kTemplate, sizes_of(v_posed)),
          make(kShapedirs, sizes_of(shapedirs)),
          make(kPosedirs, [&] { return posedirs->sym_sizes().vec(); }),
          make(kRegressor, [&] { return regressor->sym_sizes().vec(); }),
          make(kWeights, sizes_of(weights)),
          make(kJointTemplate, sizes_of(joints)),
          make(kJointDirs, [&] { return joint_dirs->sym_sizes().vec(); }),
          make(kVertexOffsets, sizes_of(v_posed)),
          make(kJointOffsets, sizes_of(joints))};
}

// The formulas, in differentiable operators: docs/gradients.md, forward.

static bool is_matrices(const Tensor& pose) { return pose.dim() == 4; }
static Tensor rotvecs(const Tensor& pose) { return pose.dim() == 3 ? pose : pose.unflatten(-1, {-1, 3}); }  // [B, J, 3]
static Tensor blend(const Tensor& dirs, const Tensor& coefficients) {  // [N, 3, C], [B, C] -> [B, N, 3]
  return at::matmul(coefficients, dirs.flatten(0, 1).mT()).unflatten_symint(-1, {dirs.sym_size(0), 3});
}
static Tensor pose_features(const Tensor& rot_mats) {  // [B, 9 (J - 1)]
  return (rot_mats.narrow_symint(1, 1, rot_mats.sym_size(1) - 1) - at::eye(3, rot_mats.options())).flatten(1);
}

static Results forward_formula(const Arguments& a) {
  const auto bodies = a.bodies();
  const Tensor v_shaped = all_bodies(blend(a.shapedirs, a.shape) + a.v_template, bodies);
  Tensor joints =
      given(a.regressor) ? at::matmul(*a.regressor, v_shaped) : blend(*a.joint_dirs, a.shape) + *a.joint_template;
  if (given(a.joint_offsets)) joints = joints + *a.joint_offsets;
  joints = all_bodies(joints, bodies);
  const Tensor rot_mats = all_bodies(is_matrices(a.pose) ? a.pose : rodrigues(rotvecs(a.pose)), bodies);
  const auto [posed, transforms] = kinematic_chain(rot_mats, joints, a.parents);
  Tensor v_posed = v_shaped;
  if (given(a.vertex_offsets)) v_posed = v_posed + *a.vertex_offsets;
  if (given(a.posedirs)) v_posed = v_posed + at::matmul(pose_features(rot_mats), *a.posedirs).unflatten(-1, {-1, 3});
  const Tensor vertices = skinning(v_posed, transforms, a.weights, std::nullopt);
  if (!given(a.transl))
    return {vertices, posed, v_shaped.clone(), joints.clone(), rot_mats.clone(), transforms, v_posed.clone()};
  const Tensor shift = a.transl->unsqueeze(1);
  return {vertices + shift, posed + shift, v_shaped.clone(), joints.clone(),
          rot_mats.clone(), transforms,    v_posed.clone()};
}

static Tensor or_none(const OptionalTensor& tensor) { return tensor.value_or(Tensor()); }

// The gradients of the inputs whose bit is set in `needs`, each for all bodies.
static Gradients backward_formula(BACKWARD_PARAMETERS) {
  const auto bodies = joints.sym_size(0);
  Tensor to_rot = or_none(g_rot_mats), to_joints = or_none(g_joints), to_transforms = or_none(g_transforms),
         to_v_posed = or_none(g_v_posed);
  if (given(g_vertices)) {
    to_v_posed = plus(to_v_posed, skinning(*g_vertices, transposed_linear_part(transforms), weights, std::nullopt));
    to_transforms =
        plus(to_transforms, skinning_transforms(*g_vertices, v_posed, weights, std::nullopt, joints.sym_size(1)));
  }
  if (given(g_posed) || to_transforms.defined()) {
    const auto [rot, rest] = kinematic_chain_backward(g_posed, optional(to_transforms), rot_mats, joints, parents);
    to_rot = plus(to_rot, rot);
    to_joints = plus(to_joints, rest);
  }
  Tensor to_v_shaped = plus(or_none(g_v_shaped), to_v_posed);
  if (given(posedirs) && to_v_posed.defined()) {
    const Tensor features = at::matmul(to_v_posed.flatten(1), posedirs->mT()).unflatten(-1, {-1, 3, 3});
    to_rot = plus(to_rot, at::constant_pad_nd(features, {0, 0, 0, 0, 1, 0}));
  }
  if (given(regressor) && to_joints.defined()) to_v_shaped = plus(to_v_shaped, at::matmul(regressor->mT(), to_joints));
  const auto or_zeros = [](Tensor& grad, const Tensor& like) {
    if (!grad.defined()) grad = at::zeros_like(like);
  };
  or_zeros(to_v_posed, v_posed), or_zeros(to_v_shaped, v_posed), or_zeros(to_joints, joints),
      or_zeros(to_rot, rot_mats);
  const Tensor coefficients = all_bodies(shape, bodies);

  const auto make = [&](Input input, const auto& gradient) {
    return (needs >> input & 1) != 0 ? Tensor(gradient()) : at::empty({0}, joints.options());
  };
  return {make(kShape,
               [&] {
                 const Tensor through_vertices = at::matmul(to_v_shaped.flatten(1), shapedirs.flatten(0, 1));
                 return given(regressor)
                            ? through_vertices
                            : through_vertices + at::matmul(to_joints.flatten(1), joint_dirs->flatten(0, 1));
               }),
          make(kPose,
               [&] {
                 if (is_matrices(pose)) return to_rot;
                 const Tensor gradient = rodrigues_backward(to_rot, all_bodies(rotvecs(pose), bodies));
                 return pose.dim() == 3 ? gradient : gradient.flatten(1);
               }),
          make(kTransl,
               [&] {
                 const Tensor sums = plus(given(g_vertices) ? g_vertices->sum(1) : Tensor(),
                                          given(g_posed) ? g_posed->sum(1) : Tensor());
                 return sums.defined() ? sums : at::zeros_symint({bodies, 3}, joints.options());
               }),
          make(kTemplate, [&] { return to_v_shaped.clone(); }),
          make(kShapedirs, [&] { return at::matmul(to_v_shaped.flatten(1).mT(), coefficients).unflatten(0, {-1, 3}); }),
          make(kPosedirs, [&] { return at::matmul(pose_features(rot_mats).mT(), to_v_posed.flatten(1)); }),
          make(kRegressor,
               [&] { return at::matmul(to_joints.movedim(1, 0).flatten(1), v_shaped.movedim(1, 0).flatten(1).mT()); }),
          make(kWeights,
               [&] {
                 return given(g_vertices) ? skinning_weights(*g_vertices, v_posed, transforms, std::nullopt)
                                          : at::zeros_like(weights);
               }),
          make(kJointTemplate, [&] { return to_joints.clone(); }),
          make(kJointDirs, [&] { return at::matmul(to_joints.flatten(1).mT(), coefficients).unflatten(0, {-1, 3}); }),
          make(kVertexOffsets, [&] { return to_v_posed.clone(); }),
          make(kJointOffsets, [&] { return to_joints.clone(); })};
}

// Saved: the twelve tensor arguments in Node order, parents, the results v_shaped, J_shaped, rot_mats, A_global,
// v_posed (or nothing of them, to be recomputed), and what was prepared.
struct ForwardFormula {
  static constexpr const char* name = "SmplxForwardBackward";
  static constexpr size_t kParents = kInputs, kIntermediates = kParents + 1, kPreparation = kIntermediates + 5;

  static variable_list backward(const variable_list& grads, const Saved& saved, const Needs& needs) {
    const auto& t = saved.tensors;
    const bool kept = saved.numbers[0] != 0;
    const std::vector<Tensor> prepared(t.begin() + kPreparation, t.end());
    variable_list results(t.begin() + kIntermediates, t.begin() + kPreparation);
    if (!kept) {
      const auto again = forward_operator().call(
          t[kShape], t[kPose], optional(t[kTransl]), t[kTemplate], t[kShapedirs], optional(t[kPosedirs]),
          optional(t[kRegressor]), t[kParents], t[kWeights], optional(t[kJointTemplate]), optional(t[kJointDirs]),
          optional(t[kVertexOffsets]), optional(t[kJointOffsets]), Preparation(prepared), true);
      results = {std::get<2>(again), std::get<3>(again), std::get<4>(again), std::get<5>(again), std::get<6>(again)};
    }
    if (!results[0].defined()) results[0] = results[4];  // not looked at
    int64_t asked = 0;
    for (size_t i = 0; i < kInputs; ++i) asked |= static_cast<int64_t>(needs[i]) << i;
    // Without intermediates the results past the second are empty, and so are their gradients.
    const auto grad = [&](size_t i) { return kept || i < 2 ? optional(grads[i]) : std::nullopt; };
    const auto prep = [&](Prepared::Position position) { return optional(avatorch::made(prepared, position)); };
    const auto gradients = listed(backward_operator().call(
        grad(0), grad(1), grad(2), grad(3), grad(4), grad(5), grad(6), t[kShape], t[kPose], t[kShapedirs],
        optional(t[kPosedirs]), optional(t[kRegressor]), t[kParents], t[kWeights], optional(t[kJointDirs]), results[0],
        results[1], results[2], results[3], results[4], prep(Prepared::kJointDirs), prep(Prepared::kWeights),
        prep(Prepared::kWeightJoints), prep(Prepared::kOrder), prep(Prepared::kStart), prep(Prepared::kPosePair),
        prep(Prepared::kPoseUnits), prep(Prepared::kMoved), prep(Prepared::kMovedWeights), asked));
    variable_list result(kInputs);
    for (size_t i = 0; i < kInputs; ++i) {
      if (needs[i]) result[i] = reduced_to(gradients[i], t[i]);
    }
    return result;
  }
};

static Results forward_autograd(c10::DispatchKeySet keys, FORWARD_PARAMETERS) {
  if (any_tangent(FORWARD_TENSORS)) return forward_formula({FORWARD_TENSORS});
  const auto node = node_for<ForwardFormula>(shape, pose, transl, v_template, shapedirs, posedirs, regressor, weights,
                                             joint_template, joint_dirs, vertex_offsets, joint_offsets);
  Results out;
  {
    at::AutoDispatchBelowADInplaceOrView below;
    out = forward_operator().redispatch(keys & c10::after_autograd_keyset, FORWARD_ARGUMENTS);
  }
  if (node) {
    auto& [vertices, posed, v_shaped, joints, rot_mats, transforms, v_posed] = out;
    set_history(variable_list{vertices, posed, v_shaped, joints, rot_mats, transforms, v_posed}, node);
    for (const OptionalTensor& tensor :
         {OptionalTensor(shape), OptionalTensor(pose), transl, OptionalTensor(v_template), OptionalTensor(shapedirs),
          posedirs, regressor, OptionalTensor(weights), joint_template, joint_dirs, vertex_offsets, joint_offsets,
          OptionalTensor(parents)}) {
      node->save(tensor.value_or(Tensor()));
    }
    for (const Tensor* result : {&v_shaped, &joints, &rot_mats, &transforms, &v_posed}) {
      // The shaped vertices serve the regressor's gradient alone.
      const bool wanted = intermediates && (result != &v_shaped || (given(regressor) && regressor->requires_grad()));
      if (wanted)
        node->save(*result, /*is_output=*/true);
      else
        node->save(Tensor());
    }
    for (const Tensor& tensor : listed(preparation)) node->save(tensor);
    node->save(static_cast<int64_t>(intermediates));
  }
  return out;
}

static Gradients backward_autograd(c10::DispatchKeySet keys, BACKWARD_PARAMETERS) {
  if (any_tangent(BACKWARD_DIFFERENTIABLE) || torch::autograd::compute_requires_grad(BACKWARD_DIFFERENTIABLE)) {
    return backward_formula(BACKWARD_ARGUMENTS);
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return backward_operator().redispatch(keys & c10::after_autograd_keyset, BACKWARD_ARGUMENTS);
}

// Autocast does not look into a list of tensors.
static Preparation widened(const Preparation& narrow) {
  Preparation wide = narrow;
  for (size_t i = 0; wide.has_value() && i < wide->size(); ++i) {
    Tensor& tensor = (*wide)[i];
    if (i != Prepared::kPosePair && tensor.is_floating_point() && tensor.element_size() < 4)
      tensor = tensor.to(at::kFloat);
  }
  return wide;
}
static Results forward_public(FORWARD_PARAMETERS) {
  return forward_operator().call(FORWARD_TENSORS, widened(preparation), intermediates);
}
constexpr size_t kPosePairOfBackward = 25;  // its position there
static Gradients backward_public(BACKWARD_PARAMETERS) { return backward_operator().call(BACKWARD_ARGUMENTS); }

TORCH_LIBRARY_FRAGMENT(smplx, library) {
  const std::vector<at::Tag> tags{at::Tag::pt2_compliant_tag};
  library.def(
      "forward(Tensor shape_coefficients, Tensor pose, Tensor? transl, Tensor v_template, Tensor shapedirs, Tensor? "
      "posedirs, "
      "Tensor? J_regressor, Tensor parents, Tensor lbs_weights, Tensor? J_template=None, Tensor? J_shapedirs=None, "
      "Tensor? vertex_offsets=None, Tensor? joint_offsets=None, Tensor[]? prepared=None, bool intermediates=True) -> "
      "(Tensor vertices, Tensor joints, Tensor v_shaped, Tensor J_shaped, Tensor rot_mats, Tensor A_global, Tensor "
      "v_posed)",
      tags);
  library.def(
      "forward_backward(Tensor? grad_vertices, Tensor? grad_joints, Tensor? grad_v_shaped, Tensor? grad_J_shaped, "
      "Tensor? grad_rot_mats, Tensor? grad_A_global, Tensor? grad_v_posed, Tensor shape_coefficients, Tensor pose, "
      "Tensor shapedirs, "
      "Tensor? posedirs, Tensor? J_regressor, Tensor parents, Tensor lbs_weights, Tensor? J_shapedirs, Tensor "
      "v_shaped, "
      "Tensor J_shaped, Tensor rot_mats, Tensor A_global, Tensor v_posed, Tensor? folded_dirs, Tensor? packed_weights, "
      "Tensor? packed_joints, Tensor? order, Tensor? start, Tensor? pose_pair, Tensor? pose_units, Tensor? moved, "
      "Tensor? moved_weights, int needs) -> "
      "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
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
  in_float32_under_autocast<Backward, backward_public, kPosePairOfBackward>(library, "forward_backward");
}

}  // namespace avatorch
