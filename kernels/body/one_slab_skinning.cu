// A slab of up to 32 bodies from the template to vertices: shape blend, pose blend and skinning in one kernel. A block
// has some vertices, whose pose directions are read once: the features, in shared memory, are multiplied by them on
// tensor cores. As a sum may take its terms in any order, a lane takes eight neighbouring ones of a row. float32 only.
#include "common/early.cuh"
#include "common/half_products.cuh"
#include "common/slab.cuh"
#include "common/slab_skinning.cuh"

constexpr int kWarps = 15, kThreads = kWarps * kLanes, kRows = 16 * kWarps, kVertices = kRows / 3;  // of a block
constexpr int kTerms = 32;  // of a step of the product

struct OneSlabSkinningParams {
  SlabSkinningParams skinning;       // without correctives
  const unsigned short* directions;  // [N', Products, F'] halves: high, low, high; or high alone
  const unsigned short* features;    // [B.., Products, F'] halves: low, high, high; or high alone
  long long rows;                    // N'
  long long features_padded;         // F'
};
static_assert(sizeof(OneSlabSkinningParams) == 29 * 8, "the twin in slab/forward.rs has the same fields");

// The place of a thread and of its block.
struct Own {
  int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  int first_vertex, vertices;  // of the block
  long long slab, first_body;
  int bodies;
  __device__ __forceinline__ explicit Own(const SlabSkinningParams& p) {
    // Blocks of the same vertices are neighbours, so that most find the directions in the cache.
    const long long slabs = (p.bodies + kLanes - 1) / kLanes;
    first_vertex = int(blockIdx.x / slabs) * kVertices;
    vertices = min(kVertices, int(p.vertex_count) - first_vertex);
    slab = blockIdx.x % slabs;
    first_body = p.first_body + slab * kLanes;
    bodies = min(kLanes, int(p.bodies - slab * kLanes));
  }
};

// Asks for the first terms of a tile's rows, which then arrive while the features are made and copied.
template <int Products>
__device__ __forceinline__ void ask_for_directions(const unsigned short* rows, int count, int lane) {
  constexpr int kHalves = halves_for(Products), kLine = 64, kLines = 8 / kHalves;  // halves of a line; lines of each
  for (int i = lane; i < 16 * kHalves * kLines; i += kLanes) {
    const int row = i / (kHalves * kLines), is_low = i / kLines % kHalves, place = i % kLines * kLine;
    const unsigned short* line = rows + (Products * row + is_low) * count + place;
    if (place < count) asm volatile("prefetch.global.L2 [%0];" ::"l"(line));
  }
}

// Starts to copy `count` numbers to shared memory.
template <class T>
__device__ __forceinline__ void fetch(const T* from, long long count, T* to) {
#pragma unroll 4
  for (int i = threadIdx.x; i < count; i += kThreads) copy_later(to + i, from + i);
}

// v_shaped = v_template + shapedirs . shape, staged.
__device__ __forceinline__ void blend_shape(const SlabSkinningParams& p, const Own& own, float* scratch,
                                            float* shaped) {
  const int count = int(p.shape_count), padded = (count + 3) / 4 * 4;
  const long long first = 3ll * own.first_vertex;
  float* directions = scratch;                 // [kRows, C padded]
  float* shape = directions + kRows * padded;  // [C padded][lane]
  float* base = shape + padded * kLanes;       // [kRows]
  for (int row = own.warp; row < 3 * own.vertices; row += kWarps) {
    if (own.lane < count)
      copy_later(directions + row * padded + own.lane, p.shapedirs + (first + row) * count + own.lane);
    else if (own.lane < padded)
      directions[row * padded + own.lane] = 0.f;
  }
  for (int c = own.warp; c < padded; c += kWarps) {
    const float* coefficients = p.shape + (own.first_body + min(own.lane, own.bodies - 1)) * p.shape_step;
    shape[c * kLanes + own.lane] = c < count ? __ldg(coefficients + c) : 0.f;
  }
  fetch(p.v_template + first, 3 * own.vertices, base);
  copied();
  __syncthreads();
  for (int u = own.warp; u < own.vertices; u += kWarps) {
    float sum[3] = {};
#pragma unroll 2
    for (int c = 0; c < padded; c += 4) {
      const float* of_four = shape + c * kLanes + own.lane;
      const float x = of_four[0], y = of_four[kLanes], z = of_four[2 * kLanes], w = of_four[3 * kLanes];
#pragma unroll
      for (int i = 0; i < 3; ++i) {
        const float4 four = *reinterpret_cast<const float4*>(directions + (3 * u + i) * padded + c);
        sum[i] = fmaf(four.x, x, sum[i]);
        sum[i] = fmaf(four.y, y, sum[i]);
        sum[i] = fmaf(four.z, z, sum[i]);
        sum[i] = fmaf(four.w, w, sum[i]);
      }
    }
#pragma unroll
    for (int i = 0; i < 3; ++i) shaped[(3 * u + i) * kStride + own.lane] = sum[i] + base[3 * u + i];
  }
}

// Starts to copy the upper rows of the bodies' transforms, [J][lane][3].
__device__ __forceinline__ void fetch_transforms(const SlabSkinningParams& p, const Own& own, float4* transforms) {
  const int rows = 3 * int(p.joint_count);
  for (int body = own.warp; body < own.bodies; body += kWarps) {
    const auto* from = reinterpret_cast<const float4*>(p.transforms) + (own.first_body + body) * p.joint_count * 4;
#pragma unroll 2
    for (int row = own.lane; row < rows; row += kLanes)
      copy_later(transforms + (row / 3 * kLanes + body) * 3 + row % 3, from + row / 3 * 4 + row % 3);
  }
}

// Where the first factors of a step lie in shared memory: those of sixteen bodies and sixteen terms, four words a lane.
__device__ __forceinline__ int factor_at(int halves, int step, int is_low, int sixteen, int half) {
  return (((step * halves + is_low) * 2 + sixteen) * 2 + half) * kLanes * 4;
}

// The bodies' features as first factors: with g = lane / 4 and t = lane % 4, a lane has of bodies g and g + 8 of a
// sixteen the terms 8 t to 8 t + 7 of a step, four in each half of it.
template <int Products>
__device__ __forceinline__ void stage_features(const unsigned short* features, int count, unsigned* factors) {
  constexpr int kHalves = halves_for(Products);
#pragma unroll 5
  for (int i = threadIdx.x / kLanes; i < kHalves * 4 * count / kTerms; i += kWarps) {
    const int lane = threadIdx.x % kLanes, eight = i % 4, is_low = i / 4 % kHalves, step = i / (4 * kHalves);
    const long long row = Products * (8ll * eight + lane / 4) + kHalves - 1 - is_low;
    const uint4 terms = *reinterpret_cast<const uint4*>(features + row * count + kTerms * step + lane % 4 * 8);
    unsigned* to = factors + factor_at(kHalves, step, is_low, eight / 2, 0) + 4 * lane + eight % 2;
    to[0] = terms.x, to[2] = terms.y, to[4 * kLanes] = terms.z, to[4 * kLanes + 2] = terms.w;
  }
}

// The correctives of sixteen coordinates by a warp, in units: a lane has, of coordinates 8 n + 2 t and 8 n + 2 t + 1,
// bodies 16 m + g and 16 m + g + 8: sum[m][n].
template <int Products>
__device__ __forceinline__ void blend_pose(const unsigned short* directions, const unsigned* factors, int count,
                                           int lane, float (&sum)[2][2][4]) {
  constexpr int kHalves = halves_for(Products);
  const unsigned short* own = directions + Products * (lane / 4) * count + lane % 4 * 8;
  const uint4* first = reinterpret_cast<const uint4*>(factors) + lane;
  float small[2][2][4] = {};  // tensor cores round down: small products by themselves
  constexpr int kUnroll = Products == 3 ? 2 : 4;
#pragma unroll kUnroll
  for (int term = 0; term < count; term += kTerms) {
    uint4 b[kHalves][2];  // second factors of the step: high and low halves of two eights of coordinates
#pragma unroll
    for (int i = 0; i < 2 * kHalves; ++i)
      b[i / 2][i % 2] = __ldg(reinterpret_cast<const uint4*>(own + (8 * Products * (i % 2) + i / 2) * count + term));
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const auto second = [&](int is_low, int n, float (&to)[4], const uint4& a) {
        const uint4& of = b[is_low][n];
        half ? multiply_add(to, a, of.z, of.w) : multiply_add(to, a, of.x, of.y);
      };
      uint4 a[2];
#pragma unroll
      for (int m = 0; m < 2; ++m) a[m] = first[factor_at(kHalves, term / kTerms, 0, m, half) / 4];
      if (Products == 3) {
#pragma unroll
        for (int m = 0; m < 2; ++m) {
          const uint4 low = first[factor_at(kHalves, term / kTerms, 1, m, half) / 4];
#pragma unroll
          for (int n = 0; n < 2; ++n) second(0, n, small[m][n], low), second(kHalves - 1, n, small[m][n], a[m]);
        }
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) second(0, i % 2, sum[i / 2][i % 2], a[i / 2]);
    }
  }
#pragma unroll
  for (int i = 0; i < 16; ++i) sum[i / 8][i / 4 % 2][i % 4] += small[i / 8][i / 4 % 2][i % 4];
}

// A staged array's numbers of the block, to where they belong.
__device__ __forceinline__ void store(const SlabSkinningParams& p, const Own& own, const float* staged, float* out) {
  for (int body = own.warp; body < own.bodies; body += kWarps) {
    float* row = out + 3 * ((own.first_body + body) * p.vertex_count + own.first_vertex);
#pragma unroll
    for (int i = 0; i < kRows; i += kLanes) {
      if (i + own.lane < 3 * own.vertices) row[i + own.lane] = staged[(i + own.lane) * kStride + body];
    }
  }
}

template <int Products>
__global__ void __launch_bounds__(kThreads, 1) one_slab_skinning(const OneSlabSkinningParams q) {
  extern __shared__ float4 shared[];
  const SlabSkinningParams& p = q.skinning;
  const Own own(p);
  const int joint_count = int(p.joint_count), count = int(q.features_padded), lane = own.lane;
  const int influences = int(p.influences);
  float4* transforms = shared;                                                  // [J][lane][3]
  float* shaped = reinterpret_cast<float*>(shared + 3 * kLanes * joint_count);  // [kRows][lane]
  float* weights = shaped + kRows * kStride;                                    // [kVertices, K]
  int* joints = reinterpret_cast<int*>(weights + kVertices * influences);
  float* posed = weights + 2 * kVertices * influences;  // [kRows][lane]
  float* moved = posed + kRows * kStride;               // [kRows][lane]
  auto* factors = reinterpret_cast<unsigned*>(posed);   // before those two; and before it what the shape needs

  // What `pose` has no part in, while it runs.
  const long long row = 3ll * own.first_vertex + 16 * own.warp;
  const bool has_rows = row < q.rows;  // which are padded to whole sixteens
  const unsigned short* directions = q.directions + Products * row * count;
  if (has_rows) ask_for_directions<Products>(directions, count, lane);
  fetch(p.weights + own.first_vertex * p.influences, own.vertices * p.influences, weights);
  fetch(p.joints + own.first_vertex * p.influences, own.vertices * p.influences, joints);
  blend_shape(p, own, posed, shaped);

  wait_for_former();
  __syncthreads();
  fetch_transforms(p, own, transforms);
  stage_features<Products>(q.features + own.slab * kLanes * Products * count, count, factors);
  __syncthreads();
  float sum[2][2][4] = {};
  if (has_rows) blend_pose<Products>(directions, factors, count, lane, sum);
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 16; ++i)
    posed[(16 * own.warp + i / 4 % 2 * 8 + lane % 4 * 2 + i % 2) * kStride + i / 8 * 16 + i / 2 % 2 * 8 + lane / 4] =
        sum[i / 8][i / 4 % 2][i % 4];
  copied();
  __syncthreads();

  const long long body = own.first_body + min(lane, own.bodies - 1);
  const float unit = __ldg(p.direction_unit) * p.feature_unit[body];
  float transl[3] = {};
#pragma unroll
  for (int i = 0; i < 3; ++i) transl[i] = p.transl ? __ldg(p.transl + body * p.transl_step + i) : 0.f;
  for (int u = own.warp; u < own.vertices; u += kWarps) {
    const long long vertex = own.first_vertex + u;
    float v[3];
#pragma unroll
    for (int i = 0; i < 3; ++i) {
      const int at = (3 * u + i) * kStride + lane;
      v[i] = shaped[at] + unit * posed[at];
      if (p.vertex_offsets) v[i] += __ldg(p.vertex_offsets + body * p.offset_step + 3 * vertex + i);
      posed[at] = v[i];
    }
    float4 m[3] = {};  // the blended transform
#pragma unroll 4
    for (int k = 0; k < influences; ++k) {
      const float weight = weights[u * influences + k];
      const int joint = joints[u * influences + k];
      if (joint < 0 || joint >= joint_count) continue;
      const float4* a = transforms + (joint * kLanes + lane) * 3;
#pragma unroll
      for (int i = 0; i < 3; ++i) {
        m[i].x = fmaf(weight, a[i].x, m[i].x);
        m[i].y = fmaf(weight, a[i].y, m[i].y);
        m[i].z = fmaf(weight, a[i].z, m[i].z);
        m[i].w = fmaf(weight, a[i].w, m[i].w);
      }
    }
#pragma unroll
    for (int i = 0; i < 3; ++i)
      moved[(3 * u + i) * kStride + lane] = m[i].x * v[0] + m[i].y * v[1] + m[i].z * v[2] + m[i].w + transl[i];
  }
  __syncthreads();
  store(p, own, moved, p.vertices);
  if (p.v_posed) store(p, own, posed, p.v_posed);
  if (p.v_shaped) store(p, own, shaped, p.v_shaped);
}
