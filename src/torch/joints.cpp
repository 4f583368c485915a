// smplx::joints, the joints of shaped bodies. Models without a regressor have directions instead: smplx::blend_shapes of
// J_template along J_shapedirs.
#include "composite.h"

namespace avatorch {

// v_shaped [B, V, 3], J_regressor [J, V] -> [B, J, 3].
static Tensor joints(const Tensor& v_shaped, const Tensor& regressor) {
  const char* op = "smplx::joints";
  const Argument checked_v_shaped{op, "v_shaped", v_shaped}, checked_regressor{op, "J_regressor", regressor};
  checked_v_shaped.real();
  checked_v_shaped.shape({-1, -1, 3});
  checked_regressor.like(checked_v_shaped);
  checked_regressor.shape({-1, v_shaped.sym_size(1)});
  const auto bodies = v_shaped.sym_size(0), vertices = v_shaped.sym_size(1), count = regressor.sym_size(0);
  // One wide product for all bodies instead of a thin one for each; its gradients are as wide.
  const Tensor columns = v_shaped.permute({1, 0, 2}).reshape_symint({vertices, 3 * bodies});  // [V, 3 B]
  return at::matmul(regressor, columns).view_symint({count, bodies, 3}).permute({1, 0, 2});
}

TORCH_LIBRARY_FRAGMENT(smplx, library) {
  using Joints = Tensor(const Tensor&, const Tensor&);
  composite<Joints, joints>(library, "joints(Tensor v_shaped, Tensor J_regressor) -> Tensor");
}

}  // namespace avatorch
