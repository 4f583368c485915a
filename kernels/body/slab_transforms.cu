// The gradient of the transforms of many bodies at once: sum_v w_vj g_v [v; 1]^T, a slab of 32 bodies to a block, one
// in each lane. A warp owns some joints and keeps their sums in registers while steps of vertices pass through
// shared memory, one being copied while the other is used. float32 only.

#include "common/slab.cuh"

constexpr int kWarps = 16;  // of a block
constexpr int kSlots = 4;   // joints of a warp, whose sums it keeps in registers
constexpr int kAtOnce = 4;  // entries of a list

struct SlabTransformsParams {
  const float* vectors;    // [B, V, 3], the gradient g
  const float* vertices;   // [B, V, 3]
  const int* moved;        // [V K], the vertices that each joint moves, joint after joint, ascending
  const float* weights;    // [V K], and how much
  const long long* start;  // [J + 1], where each joint's begin
  float* out;              // [splits, B, J, 4, 4], the last row of each is zero
  float* sums;             // [splits, B, 3], of the gradient
  float* largest;          // [splits, B], of its absolute values
  long long bodies;        // B
  long long vertex_count;
  long long joint_count;
  long long first_joint;  // of this launch
  long long splits;       // blocks that share the vertices of a slab
};
static_assert(sizeof(SlabTransformsParams) == 13 * 8, "the twin in slab/backward.rs has the same fields");

// Joints from `first_joint` on are dealt to warps in turn, kSlots of them to each.
// More vertices a step leave fewer of them idle.
template <int kStep>
__global__ void __launch_bounds__(kLanes* kWarps, 1) slab_transforms(const SlabTransformsParams p) {
  constexpr int kRows = 3 * kStep, kStaged = kRows * kStride;
  extern __shared__ float4 shared[];
  float* staged = reinterpret_cast<float*>(shared);  // [2 buffers][vectors, vertices][coordinate][lane]
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  const int split = int(blockIdx.x % p.splits);
  const long long slab = blockIdx.x / p.splits * kLanes, body = slab + lane;
  const long long all = (p.vertex_count + kStep - 1) / kStep;
  const int first = int(all * split / p.splits), last = int(all * (split + 1) / p.splits);

  // Of each joint: its list's part not yet added, and the next 32 of that, one in each lane.
  float sum[kSlots][12] = {}, weight[kSlots];
  int next[kSlots] = {}, end[kSlots] = {}, vertex[kSlots];
  const auto look_ahead = [&](int s) {
    const int at = next[s] + lane;
    vertex[s] = at < end[s] ? __ldg(p.moved + at) : 0x7fffffff;
    weight[s] = at < end[s] ? __ldg(p.weights + at) : 0.f;
  };
#pragma unroll
  for (int s = 0; s < kSlots; ++s) {
    const long long joint = p.first_joint + warp + s * kWarps;
    const bool exists = joint < p.joint_count;
    next[s] = exists ? int(p.start[joint]) : 0, end[s] = exists ? int(p.start[joint + 1]) : 0;
    for (int high = end[s]; next[s] < high;) {  // to the first at or beyond this block's first vertex
      const int middle = (next[s] + high) / 2;
      if (p.moved[middle] < kStep * first)
        next[s] = middle + 1;
      else
        high = middle;
    }
    look_ahead(s);
  }
  float total[3] = {}, largest = 0.f;

  // A warp reads some bodies; beyond the last one that is repeated, and what it gives is not written.
  const auto fetch = [&](int step) {
    const int count = min(kRows, 3 * (int(p.vertex_count) - kStep * step));
#pragma unroll 1
    for (int other = warp; other < kLanes; other += kWarps) {
      const long long own = min(slab + other, p.bodies - 1) * 3 * p.vertex_count + kRows * step;
#pragma unroll
      for (int array = 0; array < 2; ++array) {
        const float* from = (array ? p.vertices : p.vectors) + own;
        float* to = staged + ((step - first) % 2 * 2 + array) * kStaged + other;
        in_lines<kRows>(from, lane, count, [&](int i) { copy_later(to + i * kStride, from + i); });
      }
    }
  };
  if (first < last) fetch(first);
  for (int step = first; step < last; ++step) {
    const float* g = staged + (step - first) % 2 * 2 * kStaged;
    const float* v = g + kStaged;
    copied();
    __syncthreads();  // this step has arrived, and the one before is done with
    if (step + 1 < last) fetch(step + 1);
    const int begin = kStep * step, count = min(kStep, int(p.vertex_count) - begin);
    for (int u = warp; u < count; u += kWarps) {
#pragma unroll
      for (int i = 0; i < 3; ++i) {
        const float x = g[(3 * u + i) * kStride + lane];
        total[i] += x;
        largest = fmaxf(largest, fabsf(x));
      }
    }
#pragma unroll
    for (int s = 0; s < kSlots; ++s) {
      for (int found = kLanes; found == kLanes;) {
        const bool within = vertex[s] < begin + kStep;
        const int row = within ? 3 * (vertex[s] - begin) * kStride : 0;
        found = __popc(__ballot_sync(0xffffffffu, within));
#pragma unroll kAtOnce
        for (int i = 0; i < found; ++i) {
          const float w = __shfl_sync(0xffffffffu, weight[s], i);
          const int at = __shfl_sync(0xffffffffu, row, i) + lane;
          const float x = v[at], y = v[at + kStride], z = v[at + 2 * kStride];
#pragma unroll
          for (int r = 0; r < 3; ++r) {
            const float weighted = w * g[at + r * kStride];
            sum[s][4 * r] += weighted * x;
            sum[s][4 * r + 1] += weighted * y;
            sum[s][4 * r + 2] += weighted * z;
            sum[s][4 * r + 3] += weighted;
          }
        }
        if (found == 0) break;
        next[s] += found;
        look_ahead(s);
      }
    }
  }
  if (body < p.bodies) {
#pragma unroll
    for (int s = 0; s < kSlots; ++s) {
      const long long joint = p.first_joint + warp + s * kWarps;
      if (joint >= p.joint_count) continue;
      float* out = p.out + ((split * p.bodies + body) * p.joint_count + joint) * 16;
#pragma unroll
      for (int r = 0; r < 3; ++r)
        reinterpret_cast<float4*>(out)[r] =
            make_float4(sum[s][4 * r], sum[s][4 * r + 1], sum[s][4 * r + 2], sum[s][4 * r + 3]);
      reinterpret_cast<float4*>(out)[3] = make_float4(0.f, 0.f, 0.f, 0.f);
    }
  }
  __syncthreads();
  float* of_warps = staged;  // [warp][4][lane]
#pragma unroll
  for (int i = 0; i < 4; ++i) of_warps[(warp * 4 + i) * kLanes + lane] = i < 3 ? total[i] : largest;
  __syncthreads();
  if (warp >= 4 || body >= p.bodies) return;
  float result = 0.f;
  for (int other = 0; other < kWarps; ++other) {
    const float x = of_warps[(other * 4 + warp) * kLanes + lane];
    result = warp < 3 ? result + x : fmaxf(result, x);
  }
  if (warp < 3)
    p.sums[(split * p.bodies + body) * 3 + warp] = result;
  else
    p.largest[split * p.bodies + body] = result;
}
