// Pose correctives of up to 32 bodies: the directions, read once, times the features, on tensor cores. Both lie row by
// row in memory; as a sum may take its terms in any order, a lane takes eight neighbouring ones of a row. float32 only.
#include "common/copy_later.cuh"
#include "common/early.cuh"
#include "common/half_products.cuh"

constexpr int kLanes = 32, kThreads = 512, kBodies = 32, kEights = kBodies / 8;
constexpr int kTerms = 32;  // of a step
constexpr int kApart = 32;  // halves between two bodies' features in shared memory, so that lanes meet all banks

struct SlabCorrectivesParams {
  const unsigned short* directions;  // [N', Products, F'] halves: high, low, high; or high alone
  const unsigned short* features;    // [32, Products, F'] halves: low, high, high; or high alone
  float* correctives;                // [N', 32]
  long long rows;                    // N'
  long long features_padded;         // F'
};
static_assert(sizeof(SlabCorrectivesParams) == 5 * 8, "the twin in slab/forward.rs has the same fields");

// Asks for the first terms of a tile's rows, which then arrive while the features are made and copied.
template <int Products>
__device__ __forceinline__ void ask_for(const unsigned short* rows, int count, int lane) {
  constexpr int kHalves = halves_for(Products), kLine = 64, kLines = 8 / kHalves;  // halves of a line; lines of each
  for (int i = lane; i < 16 * kHalves * kLines; i += kLanes) {
    const int row = i / (kHalves * kLines), is_low = i / kLines % kHalves, place = i % kLines * kLine;
    const unsigned short* line = rows + ((long long)Products * row + is_low) * count + place;
    if (place < count) asm volatile("prefetch.global.L2 [%0];" ::"l"(line));
  }
}

// A warp takes tiles of sixteen rows.
template <int Products>
__global__ void __launch_bounds__(kThreads, 1) slab_correctives(const SlabCorrectivesParams p) {
  extern __shared__ uint4 shared[];
  constexpr int kHalves = halves_for(Products);
  const int count = int(p.features_padded), stride = count + kApart;
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes, g = lane / 4, t = lane % 4;
  const int tiles = int(p.rows / 16), warps = int(gridDim.x) * (kThreads / kLanes);
  const int own = warp * int(gridDim.x) + int(blockIdx.x);
  let_next_begin();
  if (own < tiles) ask_for<Products>(p.directions + 16ll * Products * own * count, count, lane);
  wait_for_former();
  auto* features = reinterpret_cast<unsigned short*>(shared);  // [high, low][body][F' + kApart]
  for (int i = threadIdx.x; i < kHalves * kBodies * count / 8; i += kThreads) {
    const int row = i / (count / 8), place = i % (count / 8) * 8, body = row % kBodies, is_low = row / kBodies;
    copy_later(reinterpret_cast<uint4*>(features + row * stride + place),
               reinterpret_cast<const uint4*>(p.features + (Products * (long long)body + kHalves - 1 - is_low) * count +
                                              place));
  }
  copied();
  __syncthreads();
  const auto second = [&](int row, int term) {  // eight terms of a body: two second factors
    return *reinterpret_cast<const uint4*>(features + row * stride + term + 8 * t);
  };
  for (int tile = own; tile < tiles; tile += warps) {
    const auto first = [&](int row, int is_low, int term) {  // and of a row: half of two first ones
      const unsigned short* at = p.directions + (Products * (16ll * tile + row) + is_low) * count + term + 8 * t;
      return __ldg(reinterpret_cast<const uint4*>(at));
    };
    float sum[kEights][4] = {}, small[kEights][4] = {};  // tensor cores round down: small products by themselves
    constexpr int kUnroll = Products == 3 ? 2 : 4;
#pragma unroll kUnroll
    for (int term = 0; term < count; term += kTerms) {
      const uint4 upper = first(g, 0, term), lower = first(g + 8, 0, term);
      const uint4 high[2] = {{upper.x, lower.x, upper.y, lower.y}, {upper.z, lower.z, upper.w, lower.w}};
      uint4 low[2];
      if (Products == 3) {
        const uint4 upper_low = first(g, 1, term), lower_low = first(g + 8, 1, term);
        low[0] = {upper_low.x, lower_low.x, upper_low.y, lower_low.y};
        low[1] = {upper_low.z, lower_low.z, upper_low.w, lower_low.w};
#pragma unroll
        for (int n = 0; n < kEights; ++n) {
          const uint4 b_low = second(kBodies + 8 * n + g, term);
          multiply_add(small[n], high[0], b_low.x, b_low.y);
          multiply_add(small[n], high[1], b_low.z, b_low.w);
        }
      }
      uint4 b[kEights];
#pragma unroll
      for (int n = 0; n < kEights; ++n) {
        b[n] = second(8 * n + g, term);
        if (Products == 1) continue;
        multiply_add(small[n], low[0], b[n].x, b[n].y);
        multiply_add(small[n], low[1], b[n].z, b[n].w);
      }
#pragma unroll
      for (int n = 0; n < kEights; ++n) {
        multiply_add(sum[n], high[0], b[n].x, b[n].y);
        multiply_add(sum[n], high[1], b[n].z, b[n].w);
      }
    }
    float* out = p.correctives + (16ll * tile + g) * kBodies + 2 * t;
#pragma unroll
    for (int n = 0; n < kEights; ++n) {
      *reinterpret_cast<float2*>(out + 8 * n) = make_float2(sum[n][0] + small[n][0], sum[n][1] + small[n][1]);
      *reinterpret_cast<float2*>(out + 8 * kBodies + 8 * n) =
          make_float2(sum[n][2] + small[n][2], sum[n][3] + small[n][3]);
    }
  }
}
