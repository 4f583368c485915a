// Which joints move a vertex, and how much: weights [V, K] with joints [V, K], or dense [V, J] without.
#pragma once

// The joint of influence k of a vertex, or -1. P has `joints`, `influences`, `joint_count`.
template <class P>
__device__ __forceinline__ int joint_of(const P& p, long long vertex, int k) {
  const int joint = p.joints ? __ldg(p.joints + vertex * p.influences + k) : k;
  return joint < p.joint_count ? joint : -1;
}

// m = sum_j w_vj A_j, the upper three rows; transforms [J, 4, 4] of one body.
template <class T, class P>
__device__ __forceinline__ void blend_transforms(const P& p, const T* transforms, long long vertex, T (&m)[12]) {
  const T* weights = static_cast<const T*>(p.weights) + vertex * p.influences;
#pragma unroll
  for (int i = 0; i < 12; ++i) m[i] = T(0);
  for (int k = 0; k < p.influences; ++k) {
    const int joint = joint_of(p, vertex, k);
    if (joint < 0) continue;
    const T weight = __ldg(weights + k);
    const T* a = transforms + 16 * joint;
#pragma unroll
    for (int i = 0; i < 12; ++i) m[i] += weight * __ldg(a + i);
  }
}
