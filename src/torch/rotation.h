// Differentiable pieces of the rotation formulas, on plain tensors.
#pragma once
#include <ATen/ATen.h>

namespace avatorch {

// smplx::rodrigues on torch's dispatcher: [..., 3] -> [..., 3, 3].
at::Tensor rodrigues(const at::Tensor& rotvec);

// smplx::rodrigues_backward: the gradient of the matrices [..., 3, 3] to that of the vectors [..., 3].
at::Tensor rodrigues_backward(const at::Tensor& grad, const at::Tensor& rotvec);

// smplx::stumpff: c_k(x) = sum over i of (-x)^i / (2i + k)!, elementwise. c_1 = sin(sqrt x) / sqrt x,
// c_2 = (1 - cos(sqrt x)) / x, and dc_k/dx = (k c_{k+2} - c_{k+1}) / 2: smooth at zero to every order.
at::Tensor stumpff(const at::Tensor& x, int64_t order);

// The matrix [r] with [r] v = r x v: [..., 3] -> [..., 3, 3].
at::Tensor cross_matrix(const at::Tensor& vector);

// (M32 - M23, M13 - M31, M21 - M12): [..., 3, 3] -> [..., 3].
at::Tensor skew_part(const at::Tensor& matrix);

}  // namespace avatorch
