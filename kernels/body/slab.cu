// Many bodies at once: a slab is 32 of them, one in each lane of a warp, so that what a vertex is made of is read once
// for all. The bodies' transforms lie in shared memory, each word of a lane in a bank of its own. A block takes a slab
// and a share of the vertices; its warps take tiles of eight vertices. float32 only.
#include "common/half_pair.cuh"
#include "common/slab.cuh"

constexpr int kTile = 8;                   // vertices of a warp's tile
constexpr int kRows = 3 * kTile;           // its coordinates
constexpr int kColumnStride = kLanes + 4;  // of a tile copied 16 bytes at a time
constexpr int kShapes = 32;                // most shape coefficients

// Where a thread is: its slab's bodies, its lane's own, its warp's tiles.
struct Place {
  int lane, warp, warps;
  long long slab, local, body;  // first body of the slab in this launch; this lane's there; this lane's in the batch
  long long first_tile, tile_step, tiles;
  template <class P>
  __device__ __forceinline__ explicit Place(const P& p) {
    lane = threadIdx.x % kLanes;
    warp = threadIdx.x / kLanes;
    warps = blockDim.x / kLanes;
    slab = blockIdx.x / p.splits * kLanes;
    local = slab + lane;
    // A lane beyond the last body repeats it, and writes nothing that counts.
    body = p.first_body + (local < p.bodies ? local : p.bodies - 1);
    first_tile = blockIdx.x % p.splits * warps + warp;
    tile_step = p.splits * warps;
    tiles = (p.vertex_count + kTile - 1) / kTile;
  }
};

// What a warp keeps of the model for its tile of vertices; `model_tile` in slab.rs counts the same. Kernels are
// compiled for a few numbers of shape coefficients, in fours.
template <int ShapeFours>
struct ModelTile {
  static constexpr int kColumns = 4 * ShapeFours;
  float* directions;  // [3 vertices][C padded]
  float4* weights;    // [vertices][K padded to four]
  uint4* joints;      // [vertices][K padded to four]
  float* base;        // [3 vertices], of the template
  int columns, influences, fours;

  template <class P>
  __device__ __forceinline__ ModelTile(const P& p, float* memory, int lane) {
    columns = int(p.shape_count);
    influences = int(p.influences);
    fours = (influences + 3) / 4;
    directions = memory;
    weights = reinterpret_cast<float4*>(directions + kRows * kColumns);
    joints = reinterpret_cast<uint4*>(weights + kTile * fours);
    base = reinterpret_cast<float*>(joints + kTile * fours);
    for (int i = lane; i < floats(fours); i += kLanes) memory[i] = 0.f;  // the padding stays zero
    __syncwarp();
  }
  __device__ static constexpr int floats(int fours) { return kRows * kColumns + 8 * kTile * fours + kRows; }

  // Starts to copy what there is of a tile.
  template <class P>
  __device__ __forceinline__ void fetch_directions(const P& p, long long tile, int lane) const {
    if (lane >= columns) return;
    const int count = int(min((long long)kRows, 3 * p.vertex_count - kRows * tile));
    const float* from = p.shapedirs + kRows * tile * columns + lane;
    float* to = directions + lane;
#pragma unroll 8
    for (int i = 0; i < count; ++i, from += columns, to += kColumns) copy_later<4>(to, from);
  }
  template <class P>
  __device__ __forceinline__ void fetch_weights(const P& p, long long tile, int lane) const {
    const int count = int(min((long long)kTile, p.vertex_count - kTile * tile)) * influences;
    const long long first = kTile * influences * tile;
    for (int i = lane; i < count; i += kLanes) {
      const int at = i / influences * 4 * fours + i % influences;
      copy_later<4>(reinterpret_cast<float*>(weights) + at, p.weights + first + i);
      copy_later<4>(reinterpret_cast<int*>(joints) + at, p.joints + first + i);
    }
  }

  // Calls `add(weight, joint)` for the influences of a vertex. What pads them has no weight, and any joint.
  template <class Add>
  __device__ __forceinline__ void each_influence(int vertex, unsigned last_joint, const Add& add) const {
    for (int i = vertex * fours; i < (vertex + 1) * fours; ++i) {
      const float4 w = weights[i];
      const uint4 j = joints[i];
      add(w.x, int(min(j.x, last_joint)));
      add(w.y, int(min(j.y, last_joint)));
      add(w.z, int(min(j.z, last_joint)));
      add(w.w, int(min(j.w, last_joint)));
    }
  }
};

// The coordinates of a tile that exist, body after body: `found(address in global memory, body of the slab)` for the
// lane of each row.
template <class P, class Found>
__device__ __forceinline__ void each_body(const P& p, const Place& at, long long tile, const Found& found) {
  const int bodies = int(min((long long)kLanes, p.bodies - at.slab));
  if (at.lane >= min((long long)kRows, 3 * p.vertex_count - kRows * tile)) return;
  const long long size = 3 * p.vertex_count;
  long long address = (p.first_body + at.slab) * size + kRows * tile + at.lane;
#pragma unroll 8
  for (int body = 0; body < bodies; ++body, address += size) found(address, body);
}

struct SlabSkinningParams {
  const float* correctives;     // [3 V.., W], a column for each body of this launch, in units below; or null
  const float* direction_unit;  // [1]
  const float* feature_unit;    // [B]
  const float* v_template;      // [V, 3]
  const float* shapedirs;       // [V, 3, C]
  const float* shape;           // [B | 1, C]
  const float* vertex_offsets;  // [B | 1, V, 3] or null
  const float* transl;          // [B | 1, 3] or null
  const float* transforms;      // [B, J, 4, 4]
  const float* weights;         // [V, K]
  const int* joints;            // [V, K], -1: none
  float* vertices;              // [B, V, 3]
  float* v_posed;               // [B, V, 3] or null
  float* v_shaped;              // [B, V, 3] or null
  long long shape_step;         // elements from one body to the next; 0 where all bodies share
  long long offset_step;
  long long transl_step;
  long long first_body;  // of this launch
  long long bodies;      // of this launch
  long long width;       // W
  long long vertex_count;
  long long joint_count;
  long long influences;   // K
  long long shape_count;  // C
  long long splits;       // blocks that share the vertices of a slab
};
static_assert(sizeof(SlabSkinningParams) == 25 * 8, "the twin in slab.rs has the same fields");

// v_shaped = v_template + shapedirs . shape; v_posed = v_shaped + offsets + correctives; and its skinning.
template <int ShapeFours>
__global__ void __launch_bounds__(512, 1) slab_skinning(const SlabSkinningParams p) {
  extern __shared__ float4 shared[];
  const Place at(p);
  const int joint_count = int(p.joint_count), columns = int(p.shape_count);
  float4* transforms = shared;  // [J, 3][lane]
  const int tile_floats =
      kRows * (kStride + kColumnStride) + ModelTile<ShapeFours>::floats((int(p.influences) + 3) / 4);
  float* posed = reinterpret_cast<float*>(shared + 3 * kLanes * joint_count) + at.warp * tile_floats;
  float* staged = posed + kRows * kColumnStride;
  const ModelTile<ShapeFours> model(p, staged + kRows * kStride, at.lane);
  const auto* from = reinterpret_cast<const float4*>(p.transforms) + at.body * joint_count * 4;
  for (int row = at.warp; row < 3 * joint_count; row += at.warps)
    transforms[row * kLanes + at.lane] = __ldg(from + row / 3 * 4 + row % 3);
  constexpr int kAtOnce = ShapeFours > 5 ? 2 : 4;  // rows, as far as the registers go
  constexpr int kColumns = 4 * ShapeFours;
  float shape[kColumns + 1];
#pragma unroll
  for (int c = 0; c < kColumns; ++c) shape[c] = c < columns ? __ldg(p.shape + at.body * p.shape_step + c) : 0.f;
  float transl[3] = {};
  if (p.transl) {
#pragma unroll
    for (int i = 0; i < 3; ++i) transl[i] = __ldg(p.transl + at.body * p.transl_step + i);
  }
  const float unit = p.correctives ? __ldg(p.direction_unit) * __ldg(p.feature_unit + at.body) : 0.f;
  const auto fetch_rest = [&](long long tile) {
    model.fetch_weights(p, tile, at.lane);
    const long long first = kRows * tile, rows = 3 * p.vertex_count - first;
    if (at.lane < min((long long)kRows, rows)) copy_later<4>(model.base + at.lane, p.v_template + first + at.lane);
    if (!p.correctives) return;
    const int row = at.lane / 8, column = at.lane % 8 * 4;
    const float* from = p.correctives + (first + row) * p.width + at.slab + column;
    float* to = posed + row * kColumnStride + column;
#pragma unroll
    for (int i = 0; i < kRows; i += 4, from += 4 * p.width) {  // four rows of eight times four columns
      if (i + row < rows) copy_later<16>(to + i * kColumnStride, from);
    }
  };
  __syncthreads();
  if (at.first_tile < at.tiles) model.fetch_directions(p, at.first_tile, at.lane), fetch_rest(at.first_tile);

  for (long long tile = at.first_tile; tile < at.tiles; tile += at.tile_step) {
    const long long next = min(tile + at.tile_step, at.tiles - 1);
    copied();
    __syncwarp();
#pragma unroll kAtOnce
    for (int i = 0; i < kRows; ++i) {
      float sum = 0.f;
#pragma unroll
      for (int c = 0; c < kColumns; c += 4) {
        const float4 four = *reinterpret_cast<const float4*>(model.directions + i * kColumns + c);
        sum = fmaf(four.x, shape[c], sum);
        sum = fmaf(four.y, shape[c + 1], sum);
        sum = fmaf(four.z, shape[c + 2], sum);
        sum = fmaf(four.w, shape[c + 3], sum);
      }
      const float shaped = model.base[i] + sum;
      float* corrective = posed + i * kColumnStride + at.lane;
      *corrective = p.correctives ? shaped + unit * *corrective : shaped;
      if (p.v_shaped) staged[i * kStride + at.lane] = shaped;
    }
    if (p.vertex_offsets) {
      const float* offsets = p.vertex_offsets + at.body * p.offset_step;
      for (int i = 0; i < kRows; ++i)
        posed[i * kColumnStride + at.lane] += __ldg(offsets + min(kRows * tile + i, 3 * p.vertex_count - 1));
    }
    __syncwarp();
    model.fetch_directions(p, next, at.lane);
    if (p.v_posed) {
      each_body(p, at, tile, [&](long long address, int body) {
        p.v_shaped[address] = staged[at.lane * kStride + body];
        p.v_posed[address] = posed[at.lane * kColumnStride + body];
      });
      __syncwarp();
    }
#pragma unroll 2
    for (int u = 0; u < kTile; ++u) {
      float m[12] = {};
      model.each_influence(u, joint_count - 1, [&](float weight, int joint) {
#pragma unroll
        for (int row = 0; row < 3; ++row) {
          const float4 a = transforms[(3 * joint + row) * kLanes + at.lane];
          m[4 * row] += weight * a.x;
          m[4 * row + 1] += weight * a.y;
          m[4 * row + 2] += weight * a.z;
          m[4 * row + 3] += weight * a.w;
        }
      });
      const float* v = posed + 3 * u * kColumnStride + at.lane;
      const float x = v[0], y = v[kColumnStride], z = v[2 * kColumnStride];
#pragma unroll
      for (int row = 0; row < 3; ++row)
        staged[(3 * u + row) * kStride + at.lane] =
            m[4 * row] * x + m[4 * row + 1] * y + m[4 * row + 2] * z + m[4 * row + 3] + transl[row];
    }
    __syncwarp();
    fetch_rest(next);
    each_body(p, at, tile,
              [&](long long address, int body) { p.vertices[address] = staged[at.lane * kStride + body]; });
    __syncwarp();
  }
  copied();
}

struct SlabPosedGradientParams {
  const float* grad_vertices;  // [B, V, 3]
  const float* transforms;     // [B, J, 4, 4]
  const float* weights;        // [V, K]
  const int* joints;           // [V, K], -1: none
  const float* shapedirs;      // [V, 3, C], or null
  const float* largest;        // [parts, B], of the absolute values of grad_vertices
  const float* weight_sum;     // [1], the largest sum of a vertex's absolute weights; with `pair`
  unsigned short* pair;        // [3 V.., 2, W] halves: the gradient of v_posed in units below, high and low; or null
  float* unit;                 // [B]
  float* grad_shape;           // [splits, B, C], or null
  long long parts;
  long long batch;       // B
  long long first_body;  // of this launch
  long long bodies;      // of this launch
  long long width;       // W
  long long vertex_count;
  long long joint_count;
  long long influences;   // K
  long long shape_count;  // C
  long long splits;       // blocks that share the vertices of a slab
};
static_assert(sizeof(SlabPosedGradientParams) == 20 * 8, "the twin in slab.rs has the same fields");

// The gradient of v_posed, M^T grad_vertices with M the blended rotation of the vertex, split into halves; and what of
// it reaches the shape coefficients.
template <int ShapeFours>
__global__ void __launch_bounds__(512, 1) slab_posed_gradient(const SlabPosedGradientParams p) {
  extern __shared__ float4 shared[];
  const Place at(p);
  const int joint_count = int(p.joint_count), columns = int(p.shape_count);
  float* rotations = reinterpret_cast<float*>(shared);  // [J, 3, 3][lane]
  float* tiles = rotations + 9 * kLanes * joint_count;
  const int tile_floats = kRows * kColumnStride + ModelTile<ShapeFours>::floats((int(p.influences) + 3) / 4);
  const float* from = p.transforms + at.body * joint_count * 16;
  float size = 0.f;
  for (int row = at.warp; row < 9 * joint_count; row += at.warps) {
    const int joint = row / 9, entry = row % 9;
    const float a = __ldg(from + 16 * joint + entry / 3 * 4 + entry % 3);
    rotations[row * kLanes + at.lane] = a;
    size = fmaxf(size, fabsf(a));
  }
  tiles[at.warp * kLanes + at.lane] = size;
  __syncthreads();
  float scale = 1.f;
  if (p.pair) {
    float largest = 0.f;
    for (int warp = 0; warp < at.warps; ++warp) size = fmaxf(size, tiles[warp * kLanes + at.lane]);
    for (int part = 0; part < p.parts; ++part) largest = fmaxf(largest, __ldg(p.largest + part * p.batch + at.body));
    scale = scale_for(3.f * size * largest * __ldg(p.weight_sum));
    if (at.first_tile == 0 && at.local < p.bodies) p.unit[at.body] = 1.f / scale;
  }
  __syncthreads();

  float* staged = tiles + at.warp * tile_floats;
  const ModelTile<ShapeFours> model(p, staged + kRows * kColumnStride, at.lane);
  float ahead[kLanes];  // of the next tile: this lane's coordinate of every body
  const auto fetch = [&](long long tile) {
    model.fetch_directions(p, tile, at.lane);
    model.fetch_weights(p, tile, at.lane);
    const bool exists = at.lane < min((long long)kRows, 3 * p.vertex_count - kRows * tile);
    const float* g = p.grad_vertices + (p.first_body + at.slab) * 3 * p.vertex_count + kRows * tile + at.lane;
#pragma unroll
    for (int body = 0; body < kLanes; ++body, g += 3 * p.vertex_count)
      ahead[body] = exists && at.slab + body < p.bodies ? __ldg(g) : 0.f;
  };
  constexpr int kColumns = 4 * ShapeFours;
  float grad_shape[kColumns + 1] = {};
  if (at.first_tile < at.tiles) fetch(at.first_tile);
  for (long long tile = at.first_tile; tile < at.tiles; tile += at.tile_step) {
    copied();
    if (at.lane < kRows) {
#pragma unroll
      for (int body = 0; body < kLanes; ++body) staged[at.lane * kStride + body] = ahead[body];
    }
    __syncwarp();
    const int count = int(min((long long)kTile, p.vertex_count - kTile * tile));
#pragma unroll 2
    for (int u = 0; u < count; ++u) {
      float m[9] = {};
      model.each_influence(u, joint_count - 1, [&](float weight, int joint) {
#pragma unroll
        for (int i = 0; i < 9; ++i) m[i] += weight * rotations[(9 * joint + i) * kLanes + at.lane];
      });
      const float* g = staged + 3 * u * kStride + at.lane;
      const float x = g[0], y = g[kStride], z = g[2 * kStride];
#pragma unroll
      for (int i = 0; i < 3; ++i) {
        const float out = m[i] * x + m[3 + i] * y + m[6 + i] * z;
        if (p.pair) {
          const HalfPair halves = split(out * scale);
          unsigned short* row = p.pair + (3 * (kTile * tile + u) + i) * 2 * p.width + at.local;
          row[0] = halves.high;
          row[p.width] = halves.low;
        }
        if (p.grad_shape) {
#pragma unroll
          for (int c = 0; c < kColumns; c += 4) {
            const float4 four = *reinterpret_cast<const float4*>(model.directions + (3 * u + i) * kColumns + c);
            grad_shape[c] += four.x * out;
            grad_shape[c + 1] += four.y * out;
            grad_shape[c + 2] += four.z * out;
            grad_shape[c + 3] += four.w * out;
          }
        }
      }
    }
    __syncwarp();
    fetch(min(tile + at.tile_step, at.tiles - 1));
  }
  copied();
  if (!p.grad_shape) return;
  // The warps' sums, four columns at a time: that much memory every block has for its tiles.
  constexpr int kRound = 4;
#pragma unroll
  for (int first = 0; first < kColumns; first += kRound) {
    __syncthreads();
#pragma unroll
    for (int c = 0; c < kRound; ++c) tiles[(at.warp * kRound + c) * kLanes + at.lane] = grad_shape[first + c];
    __syncthreads();
    for (int c = at.warp; c < kRound && first + c < columns; c += at.warps) {
      float sum = 0.f;
      for (int warp = 0; warp < at.warps; ++warp) sum += tiles[(warp * kRound + c) * kLanes + at.lane];
      if (at.local < p.bodies) p.grad_shape[(blockIdx.x % p.splits * p.batch + at.body) * columns + first + c] = sum;
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
static_assert(sizeof(SlabFeaturesGradientParams) == 10 * 8, "the twin in slab.rs has the same fields");

// The parts' sum, in units of one.
__global__ void slab_features_gradient(const SlabFeaturesGradientParams p) {
  const long long index = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  if (index >= p.bodies * p.features) return;
  const long long local = index / p.features, feature = index % p.features, body = p.first_body + local;
  float sum = 0.f;
  for (long long part = 0; part < p.part_count; ++part) sum += p.parts[(part * p.width + local) * p.padded + feature];
  p.out[body * p.features + feature] = sum * (__ldg(p.direction_unit) * __ldg(p.unit + body));
}
