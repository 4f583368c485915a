// smplx::blend_shapes, a template and the sum of its directions, and smplx::pose_correctives, the directions of the pose.
// Joints of models without a regressor are blend_shapes too: of J_template along J_shapedirs.
#include "composite.h"

namespace avatorch {

// template [V, 3] or [B|1, V, 3], dirs [V, 3, C], coefficients [B|1, C] -> [B, V, 3].
static Tensor blend_shapes(const Tensor& base, const Tensor& dirs, const Tensor& coefficients) {
  const char* op = "smplx::blend_shapes";
  const Argument checked_base{op, "template", base}, checked_dirs{op, "dirs", dirs}, checked_coefficients{op, "coefficients", coefficients};
  checked_base.real();
  checked_base.rank(2, 3);
  checked_dirs.like(checked_base);
  checked_dirs.shape({-1, 3, -1});
  const auto vertices = dirs.sym_size(0), count = dirs.sym_size(2);
  checked_coefficients.like(checked_base);
  checked_coefficients.shape({-1, count});
  if (base.dim() == 2) {
    checked_base.shape({vertices, 3});
  } else {
    checked_base.batched(common_batch(coefficients.sym_size(0), base.sym_size(0)), {vertices, 3});
  }
  const Tensor flat = dirs.reshape_symint({3 * vertices, count});  // [3 V, C]
  return base + at::matmul(coefficients, flat.t()).view_symint({coefficients.sym_size(0), vertices, 3});
}

// rot_mats [B, J, 3, 3], posedirs [9 (J - 1), 3 V] -> [B, V, 3]: v_posed - v_shaped. The root, joint 0, corrects nothing.
static Tensor pose_correctives(const Tensor& rot_mats, const Tensor& posedirs) {
  const char* op = "smplx::pose_correctives";
  const Argument checked_rot_mats{op, "rot_mats", rot_mats}, checked_posedirs{op, "posedirs", posedirs};
  checked_rot_mats.real();
  checked_rot_mats.shape({-1, -1, 3, 3});
  checked_posedirs.like(checked_rot_mats);
  checked_posedirs.shape({9 * (rot_mats.sym_size(1) - 1), -1});
  const auto bodies = rot_mats.sym_size(0), vertices = posedirs.sym_size(1) / 3;
  checked_posedirs.shape({-1, 3 * vertices});
  const Tensor feature = rot_mats.slice(1, 1) - at::eye(3, rot_mats.options());  // [B, J - 1, 3, 3]
  return at::matmul(feature.reshape_symint({bodies, posedirs.sym_size(0)}), posedirs).view_symint({bodies, vertices, 3});
}

TORCH_LIBRARY_FRAGMENT(smplx, library) {
  using Blend = Tensor(const Tensor&, const Tensor&, const Tensor&);
  using Correct = Tensor(const Tensor&, const Tensor&);
  composite<Blend, blend_shapes>(library, "blend_shapes(Tensor template, Tensor dirs, Tensor coefficients) -> Tensor");
  composite<Correct, pose_correctives>(library, "pose_correctives(Tensor rot_mats, Tensor posedirs) -> Tensor");
}

}  // namespace avatorch
