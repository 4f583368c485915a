// The gradient of the pose features of up to 32 bodies: that of v_posed, in halves, times the directions, read once, on
// tensor cores; a block takes some of the rows, and `slab_features_gradient` adds the blocks' sums. float32 only.
#include "common/copy_later.cuh"
#include "common/half_products.cuh"

constexpr int kLanes = 32, kWarps = 16, kBodies = 32;
constexpr int kTerms = 16;              // rows of a step
constexpr int kGradient = kBodies + 8;  // halves of a staged row of the gradient, so that eight rows meet all banks

struct SlabFeaturesParams {
  const unsigned short* directions;  // [N', Products, F'] halves: high, low, high; or high alone
  const unsigned short* gradient;    // [N', 2, 32] halves: high, low; or [N', 1, 32], high alone
  float* parts;                      // [blocks, 32, F']
  long long rows;                    // N'
  long long features_padded;         // F'
  long long stages;                  // steps that shared memory has room for, two at least
};
static_assert(sizeof(SlabFeaturesParams) == 6 * 8, "the twin in slab/backward.rs has the same fields");

// Four tiles of 8 x 8 halves at the lanes' addresses, transposed: lane 8 i + k points at row k of tile i.
__device__ __forceinline__ uint4 transposed(const unsigned short* row) {
  uint4 tiles;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(tiles.x), "=r"(tiles.y), "=r"(tiles.z), "=r"(tiles.w)
               : "r"(static_cast<unsigned>(__cvta_generic_to_shared(row)))
               : "memory");
  return tiles;
}

// A warp has `Tiles` times sixteen features, of all bodies.
template <int Tiles, int Products>
__global__ void __launch_bounds__(kWarps* kLanes, 1) slab_features(const SlabFeaturesParams p) {
  extern __shared__ uint4 shared[];
  constexpr int kHalves = halves_for(Products);
  // [stage][row], of each row high and low halves of the directions, high and low ones of the gradient; between the
  // two so much room that eight rows meet all banks.
  auto* staged = reinterpret_cast<unsigned short*>(shared);
  const int count = int(p.features_padded), stages = int(p.stages), of_directions = kHalves * count + 8 * (kHalves - 1);
  const int of_row = of_directions + kHalves * kGradient, of_stage = kTerms * of_row;
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  const int steps = int(p.rows / kTerms), blocks = int(gridDim.x), block = int(blockIdx.x);
  const int first = int((long long)steps * block / blocks), last = int((long long)steps * (block + 1) / blocks);

  const auto fetch = [&](int step) {
    if (step < last) {
      unsigned short* to = staged + step % stages * of_stage;
      const int eights = kHalves * count / 8;  // of a row of directions
      for (int i = threadIdx.x; i < kTerms * eights; i += kWarps * kLanes) {
        const int row = i / eights, place = i % eights * 8;
        copy_later(
            reinterpret_cast<uint4*>(to + row * of_row + place),
            reinterpret_cast<const uint4*>(p.directions + ((long long)step * kTerms + row) * Products * count + place));
      }
      for (int i = threadIdx.x; i < kTerms * kHalves * kBodies / 8; i += kWarps * kLanes) {
        const int row = i / (4 * kHalves), is_low = i / 4 % kHalves, place = i % 4 * 8;
        copy_later(reinterpret_cast<uint4*>(to + row * of_row + of_directions + is_low * kGradient + place),
                   reinterpret_cast<const uint4*>(
                       p.gradient + (((long long)step * kTerms + row) * kHalves + is_low) * kBodies + place));
      }
    }
    copies_together();
  };
  for (int step = first; step < first + stages - 1; ++step) fetch(step);
  float sum[Tiles][4][4] = {};  // [features][bodies][of the product]
  // Where a lane points: rows k and k + 8; the first factor's rows, the second one's columns, are 8 apart.
  const int row_a = lane % 8 + lane / 16 * 8, column_a = lane / 8 % 2 * 8;
  const int row_b = lane % 16, column_b = lane / 16 * 8;
  for (int step = first; step < last; ++step) {
    arrived(stages - 2);
    __syncthreads();  // this step has arrived, and the one before is done with
    fetch(step + stages - 1);
    const unsigned short* at = staged + step % stages * of_stage;
    const unsigned short* gradient = at + row_b * of_row + of_directions + column_b;
    const uint4 b[2] = {transposed(gradient), transposed(gradient + 16)};
    uint4 b_low[2];
    if (Products == 3) b_low[0] = transposed(gradient + kGradient), b_low[1] = transposed(gradient + kGradient + 16);
#pragma unroll
    for (int m = 0; m < Tiles; ++m) {
      const int feature = 16 * (warp + m * kWarps);
      if (feature >= count) break;
      const unsigned short* directions = at + row_a * of_row + feature + column_a;
      const uint4 high = transposed(directions);
      if (Products == 3) {
        const uint4 low = transposed(directions + count);
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          multiply_add(sum[m][2 * n], high, b_low[n].x, b_low[n].y);
          multiply_add(sum[m][2 * n + 1], high, b_low[n].z, b_low[n].w);
        }
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          multiply_add(sum[m][2 * n], low, b[n].x, b[n].y);
          multiply_add(sum[m][2 * n + 1], low, b[n].z, b[n].w);
        }
      }
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        multiply_add(sum[m][2 * n], high, b[n].x, b[n].y);
        multiply_add(sum[m][2 * n + 1], high, b[n].z, b[n].w);
      }
    }
  }
  const int g = lane / 4, t = lane % 4;
#pragma unroll
  for (int m = 0; m < Tiles; ++m) {
    const int feature = 16 * (warp + m * kWarps);
    if (feature >= count) break;
#pragma unroll
    for (int i = 0; i < 16; ++i)
      p.parts[((long long)block * kBodies + i / 4 * 8 + 2 * t + i % 2) * count + feature + g + i / 2 % 2 * 8] =
          sum[m][i / 4][i % 4];
  }
}
