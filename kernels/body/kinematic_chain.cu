// Local rotations and rest joints to posed joints and skinning transforms; a block for each body.
#include "common/chain.cuh"

struct ChainParams {
  const void* rotations;        // [B, J, 3, 3]
  const void* positions;        // [B, J, 3]
  const long long* parents;     // [J], -1 for a root
  const void* grad_posed;       // [B, J, 3], backward only, or null
  const void* grad_transforms;  // [B, J, 4, 4], backward only, or null
  void* first;                  // posed [B, J, 3]; backward: grad_rotations [B, J, 3, 3]
  void* second;                 // transforms [B, J, 4, 4]; backward: grad_positions [B, J, 3]
  long long joints;
};
static_assert(sizeof(ChainParams) == 8 * 8, "the twin in kinematic_chain.rs has the same fields");

template <class T>
__device__ __forceinline__ const T* row(const void* base, long long size) {
  return base ? static_cast<const T*>(base) + blockIdx.x * size : nullptr;
}
template <class T>
__device__ __forceinline__ T* row(void* base, long long size) {
  return static_cast<T*>(base) + blockIdx.x * size;
}

template <class T>
__global__ void kinematic_chain(const ChainParams p) {
  extern __shared__ double shared[];
  const int joints = int(p.joints);
  ChainMemory<T> memory(shared, joints);
  const T* positions = row<T>(p.positions, 3 * p.joints);
  load_rotations(memory, row<T>(p.rotations, 9 * p.joints), joints);
  chain_forward(memory, positions, p.parents, joints);
  chain_results(memory, positions, static_cast<const T*>(nullptr), row<T>(p.first, 3 * p.joints),
                row<T>(p.second, 16 * p.joints), joints);
}

template <class T>
__global__ void kinematic_chain_backward(const ChainParams p) {
  extern __shared__ double shared[];
  const int joints = int(p.joints);
  ChainMemory<T> memory(shared, joints);
  const T* positions = row<T>(p.positions, 3 * p.joints);
  load_rotations(memory, row<T>(p.rotations, 9 * p.joints), joints);
  chain_forward(memory, positions, p.parents, joints);
  chain_backward(memory, positions, row<T>(p.grad_posed, 3 * p.joints), row<T>(p.grad_transforms, 16 * p.joints),
                 row<T>(p.second, 3 * p.joints), joints);
  __syncthreads();
  T* grad_rotations = row<T>(p.first, 9 * p.joints);
  each_entry(memory, joints, [&](int i, T gradient) { grad_rotations[i] = gradient; });
}
