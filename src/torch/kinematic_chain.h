// Local rotations and rest joints to posed joints and skinning transforms, on torch's dispatcher.
#pragma once
#include <ATen/ATen.h>

namespace avatorch {

using TensorPair = std::tuple<at::Tensor, at::Tensor>;

// rot_mats [B, J, 3, 3], joints [B, J, 3], parents [J] -> posed joints [B, J, 3], transforms [B, J, 4, 4].
TensorPair kinematic_chain(const at::Tensor& rot_mats, const at::Tensor& joints, const at::Tensor& parents);

// Gradients of the results, either of which may be absent -> gradients of rot_mats and joints.
TensorPair kinematic_chain_backward(const std::optional<at::Tensor>& grad_posed,
                                    const std::optional<at::Tensor>& grad_transforms, const at::Tensor& rot_mats,
                                    const at::Tensor& joints, const at::Tensor& parents);

}  // namespace avatorch
