// Sums over a block in one fixed order, so that results are the same bits from run to run.
#pragma once

// Adds `sum[i]` over the block's threads (at most 1024, whole warps); thread 0 ends with the totals.
template <class T, int N>
__device__ __forceinline__ void block_sum(T (&sum)[N]) {
  __shared__ T of_warp[32][N];
#pragma unroll
  for (int i = 0; i < N; ++i) {
    for (int offset = 16; offset > 0; offset /= 2) sum[i] += __shfl_down_sync(0xffffffffu, sum[i], offset);
  }
  const int warp = threadIdx.x / 32;
  if (threadIdx.x % 32 == 0) {
#pragma unroll
    for (int i = 0; i < N; ++i) of_warp[warp][i] = sum[i];
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int other = 1; other < int(blockDim.x / 32); ++other) {
#pragma unroll
      for (int i = 0; i < N; ++i) sum[i] += of_warp[other][i];
    }
  }
}
