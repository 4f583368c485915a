// Linear blend skinning and its partial contractions, on torch's dispatcher.
#pragma once
#include <ATen/ATen.h>

namespace avatorch {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

// out_v = sum_j w_vj A_j [v; 1]: vertices [B|1, V, 3], transforms [B|1, J, 4, 4], weights [V, K], joints [V, K] or none
// for dense weights -> [B, V, 3].
Tensor skinning(const Tensor& vertices, const Tensor& transforms, const Tensor& weights, const OptionalTensor& joints);

// out_j = sum_v w_vj g_v [v; 1]^T, the gradient of the transforms -> [B, J, 4, 4], the last row zero.
Tensor skinning_transforms(const Tensor& vectors, const Tensor& vertices, const Tensor& weights,
                           const OptionalTensor& joints, c10::SymInt joint_count);

// out_vk = sum over bodies of g_v . A_j [v; 1], the gradient of the weights -> [V, K].
Tensor skinning_weights(const Tensor& vectors, const Tensor& vertices, const Tensor& transforms,
                        const OptionalTensor& joints);

// The transforms without their translation, and the transpose of that: what acts on directions.
Tensor linear_part(const Tensor& transforms);
Tensor transposed_linear_part(const Tensor& transforms);

}  // namespace avatorch
