// Sums over parts that several blocks left, in one fixed order.
#pragma once

constexpr int kPartThreads = 256;

// Many parts are shared by eight warps, for 32 columns of a block; of few, every thread adds its own column.
// `blocks_of_parts` in slab/backward.rs is the twin.
struct PartShape {
  int groups, columns;
  __device__ __forceinline__ explicit PartShape(int count)
      : groups(count > 64 ? 8 : 1), columns(kPartThreads / groups) {}
};

// The sum of `part(i)` of a thread's column for i below `count`; whole blocks call it, and the first `columns` threads
// end with the sums.
template <class Part>
__device__ __forceinline__ float sum_of_parts(const PartShape& shape, int count, const Part& part) {
  __shared__ float of_threads[kPartThreads];
  float sum = 0.f;
#pragma unroll 8
  for (int i = threadIdx.x / shape.columns; i < count; i += shape.groups) sum += part(i);
  if (shape.groups == 1) return sum;
  of_threads[threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.x < shape.columns) {
    for (int i = threadIdx.x + shape.columns; i < kPartThreads; i += shape.columns) sum += of_threads[i];
  }
  return sum;
}
