// The gradient of v_posed of many bodies at once, a slab of 32 to a block, as halves for products on tensor cores; and
// the sums of those products. float32 only.
#include "common/half_pair.cuh"
#include "common/parts.cuh"
#include "common/slab_posed_gradient.cuh"
#include "common/slab_tiles.cuh"

// M^T grad_vertices, with M the blended rotation of the vertex, split into two halves, or rounded to one; and what of
// it reaches the shape coefficients.
template <int ShapeFours, int Halves>
__global__ void __launch_bounds__(512, 1) slab_posed_gradient(const SlabPosedGradientParams p) {
  extern __shared__ float4 shared[];
  const Place at(p);
  const int joint_count = int(p.joint_count), columns = int(p.shape_count), rows = at.run_rows();
  float* rotations = reinterpret_cast<float*>(shared);  // [J, 3, 3][lane], times what brings results into halves' range
  float* all = rotations + 9 * kLanes * joint_count;    // [teams][2][rows of a run][lane]
  float* staged = all + 2 * at.team * rows * kStride;
  using Directions = ShapeDirections<ShapeFours>;
  const int of_tile = Influences::floats(p.influences), of_model = Directions::kFloats + 2 * of_tile;
  float* model = all + 2 * at.warps * kRows * kStride + at.warp * of_model;
  clear(model, of_model, at.lane);
  const Directions directions(columns, model);
  model += Directions::kFloats;

  const float* from = p.transforms + at.body * joint_count * 16;
  float size = 0.f;
  for (int row = at.warp; row < 9 * joint_count; row += at.warps) {
    const float a = __ldg(from + row / 9 * 16 + row % 9 / 3 * 4 + row % 3);
    rotations[row * kLanes + at.lane] = a;
    size = fmaxf(size, fabsf(a));
  }
  all[at.warp * kLanes + at.lane] = size;
  __syncthreads();
  float largest = 0.f;
  for (int warp = 0; warp < at.warps; ++warp) size = fmaxf(size, all[warp * kLanes + at.lane]);
  for (int part = 0; part < p.parts; ++part) largest = fmaxf(largest, __ldg(p.largest + part * p.batch + at.body));
  const float scale = scale_for(3.f * size * largest * __ldg(p.weight_sum));
  if (blockIdx.x % p.splits == 0 && at.warp == 0 && at.local < p.bodies) p.unit[at.body] = one_over(scale);
  for (int row = at.warp; row < 9 * joint_count; row += at.warps) rotations[row * kLanes + at.lane] *= scale;
  __syncthreads();

  const auto fetch = [&](int run, int buffer) {
    at.fetch_run(p, run, p.grad_vertices, staged + buffer * rows * kStride);
    Influences(p.influences, model + buffer * of_tile).fetch(p, at.tile(run), at.lane);
  };
  constexpr int kColumns = Directions::kColumns;
  float grad_shape[kColumns + 1] = {};
  if (at.first_run < at.runs) fetch(at.first_run, 0), directions.fetch(p, at.tile(at.first_run), at.lane);
  int buffer = 0;
  for (int run = at.first_run; run < at.runs; run += at.run_step, buffer = 1 - buffer) {
    copied();
    at.meet();  // this run has arrived, and the one before is done with
    if (run + at.run_step < at.runs) fetch(run + at.run_step, 1 - buffer);
    const Influences influences(p.influences, model + buffer * of_tile);
    const int first = kTile * (run * at.team_warps + at.own), count = min(kTile, int(p.vertex_count) - first);
    const float* g = staged + (buffer * rows + at.own * kRows) * kStride + at.lane;
    unsigned short* high = p.pair + 3ll * Halves * first * p.width + at.local;
    const auto gradient = [&](auto is_one_four) {
      constexpr int kVertices = decltype(is_one_four)::value && ShapeFours < 6 ? 2 : 1;  // at once
#pragma unroll kVertices
      for (int u = 0; u < count; ++u, g += 3 * kStride) {
        float m[9] = {};
        influences.each<decltype(is_one_four)::value>(u, joint_count - 1, [&](float weight, int joint) {
#pragma unroll
          for (int i = 0; i < 9; ++i) m[i] += weight * rotations[(9 * joint + i) * kLanes + at.lane];
        });
        const float x = g[0], y = g[kStride], z = g[2 * kStride];
#pragma unroll
        for (int i = 0; i < 3; ++i, high += Halves * p.width) {
          const float out = m[i] * x + m[3 + i] * y + m[6 + i] * z;
          const HalfPair halves = split(out);
          high[0] = halves.high;
          if (Halves == 2) high[p.width] = halves.low;
#pragma unroll
          for (int c = 0; c < kColumns; c += 4) {
            const float4 four = *reinterpret_cast<const float4*>(directions.of(3 * u + i) + c);
            grad_shape[c] += four.x * out;
            grad_shape[c + 1] += four.y * out;
            grad_shape[c + 2] += four.z * out;
            grad_shape[c + 3] += four.w * out;
          }
        }
      }
    };
    influences.fours == 1 ? gradient(Bool<true>()) : gradient(Bool<false>());
    __syncwarp();
    directions.fetch(p, at.tile(run + at.run_step), at.lane);
  }
  copied();
  if (blockIdx.x % p.splits == 0) {  // what pads the rows is zero
    for (long long row = 3 * p.vertex_count + at.warp; row < p.rows; row += at.warps) {
#pragma unroll
      for (int half = 0; half < Halves; ++half) p.pair[(Halves * row + half) * p.width + at.local] = 0;
    }
  }
  if (!p.grad_shape) return;
  // The warps' sums, four columns at a time: that much memory every block has for its tiles.
  constexpr int kRound = 4;
#pragma unroll
  for (int first = 0; first < kColumns; first += kRound) {
    __syncthreads();
#pragma unroll
    for (int c = 0; c < kRound; ++c) all[(at.warp * kRound + c) * kLanes + at.lane] = grad_shape[first + c];
    __syncthreads();
    for (int c = at.warp; c < kRound && first + c < columns; c += at.warps) {
      float sum = 0.f;
      for (int warp = 0; warp < at.warps; ++warp) sum += all[(warp * kRound + c) * kLanes + at.lane];
      if (at.local < p.bodies)
        p.grad_shape[(blockIdx.x % p.splits * p.batch + at.body) * columns + first + c] = sum / scale;
    }
  }
}

struct SlabFeaturesGradientParams {
  const float* parts;           // [P, W, F'], sums over parts of the vertices
  const float* direction_unit;  // [1]
  const float* unit;            // [B], of the gradient that was multiplied
  float* out;                   // [B, F]
  long long part_count;         // P
  long long first_body;         // of this launch
  long long bodies;             // of this launch
  long long width;              // W
  long long padded;             // F'
  long long features;           // F
};
static_assert(sizeof(SlabFeaturesGradientParams) == 10 * 8, "the twin in slab/backward.rs has the same fields");

// The parts' sum, in units of one.
__global__ void __launch_bounds__(kPartThreads) slab_features_gradient(const SlabFeaturesGradientParams p) {
  const PartShape shape(int(p.part_count));
  const long long place = (long long)blockIdx.x * shape.columns + int(threadIdx.x) % shape.columns;  // [W, F']
  const long long size = p.width * p.padded, local = place / unsigned(p.padded), feature = place % unsigned(p.padded);
  const int count = place < size ? int(p.part_count) : 0;
  const float sum = sum_of_parts(shape, count, [&](int part) { return p.parts[part * size + place]; });
  const long long body = p.first_body + local;
  if (threadIdx.x < shape.columns && local < p.bodies && feature < p.features)
    p.out[body * p.features + feature] = sum * (__ldg(p.direction_unit) * __ldg(p.unit + body));
}
