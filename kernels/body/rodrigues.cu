// Axis-angle vectors to rotation matrices, one thread each.
#include "common/rotation.cuh"

struct RodriguesParams {
  const void* grad;    // [count, 3, 3], backward only
  const void* rotvec;  // [count, 3]
  void* out;           // [count, 3, 3] forward, [count, 3] backward
  long long count;
};

template <class T>
__global__ void rodrigues(const RodriguesParams p) {
  const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  if (i >= p.count) return;
  rodrigues_matrix(static_cast<const T*>(p.rotvec) + 3 * i, static_cast<T*>(p.out) + 9 * i);
}

// grad_r = a s + b ((G + G^T) r - 2 tr(G) r) + (a' s.r + b' (r.G r - |r|^2 tr G)) r, with s the skew part of G.
template <class T>
__global__ void rodrigues_backward(const RodriguesParams p) {
  const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  if (i >= p.count) return;
  rodrigues_gradient(static_cast<const T*>(p.grad) + 9 * i, static_cast<const T*>(p.rotvec) + 3 * i,
                     static_cast<T*>(p.out) + 3 * i);
}
