// Many bodies at once, a slab of 32 to a block, which shares the vertices with others where there are few slabs: what a
// vertex is made of is read once for all bodies. The bodies' transforms lie in shared memory, each word of a lane in a
// bank of its own. float32 only.
#include "common/early.cuh"
#include "common/slab_skinning.cuh"
#include "common/slab_tiles.cuh"

// Starts to copy the template's coordinates of a tile.
__device__ __forceinline__ void fetch_template(const SlabSkinningParams& p, const Place& at, int tile, float* to) {
  const int first = kRows * tile;
  if (at.lane < min(kRows, 3 * int(p.vertex_count) - first)) copy_later(to + at.lane, p.v_template + first + at.lane);
}

// Starts to copy the correctives of a tile, one column to each lane.
__device__ __forceinline__ void fetch_correctives(const SlabSkinningParams& p, const Place& at, int tile,
                                                  float* posed) {
  const int first = kRows * tile;
  const int count = p.correctives ? min(kRows, 3 * int(p.vertex_count) - first) : 0;
  const float* from = p.correctives + first * p.width + at.local;
#pragma unroll 8
  for (int i = 0; i < count; ++i, from += p.width, posed += kStride) copy_later(posed, from);
}

// v_shaped = v_template + shapedirs . shape; v_posed = v_shaped + offsets + correctives; and its skinning.
template <int ShapeFours>
__global__ void __launch_bounds__(512, 1) slab_skinning(const SlabSkinningParams p) {
  extern __shared__ float4 shared[];
  const Place at(p);
  const int joint_count = int(p.joint_count), columns = int(p.shape_count);
  float4* transforms = shared;  // [J, 3][lane]
  float* staged = reinterpret_cast<float*>(shared + 3 * kLanes * joint_count);
  // Rows of a run [row][lane], later its vertices: where v_posed is not kept, they take turns.
  float* shaped = staged + 2 * at.team * at.run_rows() * kStride;
  float* posed = shaped + at.run_rows() * kStride;
  const int own = at.own * kRows * kStride + at.lane;  // where this thread's first row is
  using Directions = ShapeDirections<ShapeFours>;
  const int of_tile = Influences::floats(p.influences), of_model = Directions::kFloats + 2 * of_tile + kRows;
  float* model = staged + 2 * at.warps * kRows * kStride + at.warp * of_model;
  clear(model, of_model, at.lane);
  const Directions directions(columns, model);
  float* weights = model + Directions::kFloats;  // of two tiles
  float* base = model + of_model - kRows;        // of the tile's template

  if (at.first_run < at.runs) {
    const int tile = at.tile(at.first_run);
    directions.fetch(p, tile, at.lane);
    fetch_template(p, at, tile, base);
    Influences(p.influences, weights).fetch(p, tile, at.lane);
  }
  wait_for_former();
  if (at.first_run < at.runs) fetch_correctives(p, at, at.tile(at.first_run), posed + own);
  const auto* from = reinterpret_cast<const float4*>(p.transforms) + at.body * joint_count * 4;
  for (int row = at.warp; row < 3 * joint_count; row += at.warps)
    transforms[row * kLanes + at.lane] = from[row / 3 * 4 + row % 3];
#if __CUDA_ARCH__ >= 1000
  constexpr int kAtOnce = 2;  // rows, as far as the registers go
#else
  constexpr int kAtOnce = 4;
#endif
  constexpr int kColumns = Directions::kColumns;
  float shape[kColumns + 1];
#pragma unroll
  for (int c = 0; c < kColumns; ++c) shape[c] = c < columns ? __ldg(p.shape + at.body * p.shape_step + c) : 0.f;
  float transl[3] = {};
  if (p.transl) {
#pragma unroll
    for (int i = 0; i < 3; ++i) transl[i] = __ldg(p.transl + at.body * p.transl_step + i);
  }
  const float unit = p.correctives ? __ldg(p.direction_unit) * p.feature_unit[at.body] : 0.f;
  const bool keep = p.v_posed;
  int buffer = 0;
  __syncthreads();

  for (int run = at.first_run; run < at.runs; run += at.run_step, buffer = 1 - buffer) {
    const int next = at.tile(run + at.run_step);
    const Influences influences(p.influences, weights + buffer * of_tile);
    copied();
    __syncwarp();
#pragma unroll kAtOnce
    for (int i = 0; i < kRows; ++i) {
      float sum = 0.f;
#pragma unroll
      for (int c = 0; c < kColumns; c += 4) {
        const float4 four = *reinterpret_cast<const float4*>(directions.of(i) + c);
        sum = fmaf(four.x, shape[c], sum);
        sum = fmaf(four.y, shape[c + 1], sum);
        sum = fmaf(four.z, shape[c + 2], sum);
        sum = fmaf(four.w, shape[c + 3], sum);
      }
      sum += base[i];
      if (keep) shaped[own + i * kStride] = sum;
      float& corrective = posed[own + i * kStride];
      corrective = p.correctives ? sum + unit * corrective : sum;
    }
    if (p.vertex_offsets) {
      const float* offsets = p.vertex_offsets + at.body * p.offset_step;
      const int first = kRows * at.tile(run), last = 3 * int(p.vertex_count) - 1;
      for (int i = 0; i < kRows; ++i) posed[own + i * kStride] += __ldg(offsets + min(first + i, last));
    }
    __syncwarp();
    directions.fetch(p, next, at.lane);
    fetch_template(p, at, next, base);
    Influences(p.influences, weights + (1 - buffer) * of_tile).fetch(p, next, at.lane);
    at.meet();
    float* skinned = posed;
    if (keep) {
      at.store_run(p, run, p.v_shaped, shaped);
      at.store_run(p, run, p.v_posed, posed);
      skinned = shaped;
      at.meet();
    } else {
      fetch_correctives(p, at, next, shaped + own);  // where the vertices before were, which all have written
    }
    const auto skin = [&](auto is_one_four) {
      constexpr int kVertices = decltype(is_one_four)::value ? kAtOnce / 2 : 1;  // at once
#pragma unroll kVertices
      for (int u = 0; u < kTile; ++u) {
        float m[12] = {};
        influences.each<decltype(is_one_four)::value>(u, joint_count - 1, [&](float weight, int joint) {
#pragma unroll
          for (int row = 0; row < 3; ++row) {
            const float4 a = transforms[(3 * joint + row) * kLanes + at.lane];
            m[4 * row] += weight * a.x;
            m[4 * row + 1] += weight * a.y;
            m[4 * row + 2] += weight * a.z;
            m[4 * row + 3] += weight * a.w;
          }
        });
        const float* v = posed + own + 3 * u * kStride;
        const float x = v[0], y = v[kStride], z = v[2 * kStride];
#pragma unroll
        for (int row = 0; row < 3; ++row)
          skinned[own + (3 * u + row) * kStride] =
              m[4 * row] * x + m[4 * row + 1] * y + m[4 * row + 2] * z + m[4 * row + 3] + transl[row];
      }
    };
    influences.fours == 1 ? skin(Bool<true>()) : skin(Bool<false>());
    if (keep) fetch_correctives(p, at, next, posed + own);
    at.meet();
    at.store_run(p, run, p.vertices, skinned);
    if (keep) {
      at.meet();
    } else {
      posed = shaped;
      shaped = skinned;
    }
  }
  copied();
}
