// Linear blend skinning and its partial contractions: with x = [v; 1], L = sum of w g . A x over bodies, vertices and
// joints; each kernel is the gradient of L with respect to one argument. No atomics: sums have one fixed order.
#include "common/influences.cuh"
#include "common/reduce.cuh"

struct SkinningParams {
  const void* vectors;     // [B, V, 3], the gradient g; null in `skinning`
  const void* vertices;    // [B | 1, V, 3]
  const void* transforms;  // [B | 1, J, 4, 4]
  const void* weights;     // [V, K]
  const int* joints;       // [V, K], -1: none; or null: K = J
  const long long* order;  // [V K], positions in `weights` sorted by joint, or null
  const long long* start;  // [J + 1], where each joint's positions begin in `order`, or null
  void* out;               // [B, V, 3], [B, J, 4, 4] or [V, K]
  long long vector_step;   // elements from one body to the next; 0 where all bodies share
  long long vertex_step;
  long long transform_step;
  long long bodies;
  long long vertex_count;
  long long joint_count;
  long long influences;  // K
};
static_assert(sizeof(SkinningParams) == 15 * 8, "the twin in skinning.rs has the same fields");

// out_v = sum_j w_vj A_j [v; 1]; a block of vertices of one body, a thread each.
template <class T>
__global__ void skinning(const SkinningParams p) {
  const long long blocks_a_body = (p.vertex_count + blockDim.x - 1) / blockDim.x;
  const long long body = blockIdx.x / blocks_a_body;
  const long long vertex = (blockIdx.x % blocks_a_body) * blockDim.x + threadIdx.x;
  if (vertex >= p.vertex_count) return;
  T m[12];
  blend_transforms(p, static_cast<const T*>(p.transforms) + body * p.transform_step, vertex, m);
  const T* v = static_cast<const T*>(p.vertices) + body * p.vertex_step + 3 * vertex;
  T* out = static_cast<T*>(p.out) + (body * p.vertex_count + vertex) * 3;
#pragma unroll
  for (int row = 0; row < 3; ++row)
    out[row] = m[4 * row] * v[0] + m[4 * row + 1] * v[1] + m[4 * row + 2] * v[2] + m[4 * row + 3];
}

// out_j = sum_v w_vj g_v [v; 1]^T, its last row zero; a block for each body and joint.
template <class T>
__global__ void skinning_transforms(const SkinningParams p) {
  const long long body = blockIdx.x / p.joint_count;
  const int joint = int(blockIdx.x % p.joint_count);
  const T* vectors = static_cast<const T*>(p.vectors) + body * p.vector_step;
  const T* vertices = static_cast<const T*>(p.vertices) + body * p.vertex_step;
  const T* weights = static_cast<const T*>(p.weights);
  const long long first = p.start ? p.start[joint] : 0;
  const long long last = p.start ? p.start[joint + 1] : p.vertex_count;
  T sum[12] = {};
  for (long long i = first + threadIdx.x; i < last; i += blockDim.x) {
    const long long position = p.order ? p.order[i] : i * p.influences + joint;
    const long long vertex = position / p.influences;
    const T weight = weights[position];
    const T* g = vectors + 3 * vertex;
    const T* v = vertices + 3 * vertex;
#pragma unroll
    for (int row = 0; row < 3; ++row) {
      const T weighted = weight * g[row];
      sum[4 * row] += weighted * v[0];
      sum[4 * row + 1] += weighted * v[1];
      sum[4 * row + 2] += weighted * v[2];
      sum[4 * row + 3] += weighted;
    }
  }
  block_sum(sum);
  if (threadIdx.x == 0) {
    T* out = static_cast<T*>(p.out) + (body * p.joint_count + joint) * 16;
#pragma unroll
    for (int i = 0; i < 16; ++i) out[i] = i < 12 ? sum[i] : T(0);
  }
}

// Bodies summed before they join the total: short sums of short sums round less than one long one.
constexpr int kBodiesASum = 16;

// out_vk = sum over bodies of g_v . A_j [v; 1]; a thread for each weight.
template <class T>
__global__ void skinning_weights(const SkinningParams p) {
  const long long position = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  if (position >= p.vertex_count * p.influences) return;
  const long long vertex = position / p.influences;
  const int joint = joint_of(p, vertex, int(position % p.influences));
  T total = T(0), sum = T(0);
  for (long long body = 0; joint >= 0 && body < p.bodies; ++body) {
    if (body % kBodiesASum == 0) {
      total += sum;
      sum = T(0);
    }
    const T* g = static_cast<const T*>(p.vectors) + body * p.vector_step + 3 * vertex;
    const T* v = static_cast<const T*>(p.vertices) + body * p.vertex_step + 3 * vertex;
    const T* a = static_cast<const T*>(p.transforms) + body * p.transform_step + 16 * joint;
#pragma unroll
    for (int row = 0; row < 3; ++row)
      sum += g[row] * (a[4 * row] * v[0] + a[4 * row + 1] * v[1] + a[4 * row + 2] * v[2] + a[4 * row + 3]);
  }
  static_cast<T*>(p.out)[position] = total + sum;
}
