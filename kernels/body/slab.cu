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

// What a warp keeps of the model for its tile of vertices; `model_tile` in slab.rs counts the same.
struct ModelTile {
  float* directions;  // [3 vertices][C padded to four]; the padding is zero
  float* base;        // [3 vertices], of the template
  float* weights;     // [vertices][K]
  int* joints;        // [vertices][K]
  int columns, padded, influences;

  template <class P>
  __device__ __forceinline__ ModelTile(const P& p, float* memory, int lane) {
    columns = int(p.shape_count);
    padded = (columns + 3) / 4 * 4;
    influences = int(p.influences);
    directions = memory;
    base = directions + kRows * padded;
    weights = base + kRows;
    joints = reinterpret_cast<int*>(weights + kTile * influences);
    for (int i = lane; i < kRows * padded; i += kLanes) directions[i] = 0.f;
    __syncwarp();
  }
  __host__ __device__ static constexpr int floats(int padded, int influences) {
    return kRows * padded + kRows + 2 * kTile * influences;
  }

  // Starts to copy what the tile holds; beyond the last vertex the last one is repeated.
  template <class P>
  __device__ __forceinline__ void fetch_directions(const P& p, long long tile, int lane) const {
    if (lane >= columns || !p.shapedirs) return;
#pragma unroll 4
    for (int i = 0; i < kRows; ++i) {
      const long long row = min(kRows * tile + i, 3 * p.vertex_count - 1);
      copy_later<4>(directions + i * padded + lane, p.shapedirs + row * columns + lane);
    }
  }
  template <class P>
  __device__ __forceinline__ void fetch_weights(const P& p, long long tile, int lane) const {
    for (int i = lane; i < kTile * influences; i += kLanes) {
      const long long at = min(kTile * influences * tile + i, p.vertex_count * influences - 1);
      copy_later<4>(weights + i, p.weights + at);
      copy_later<4>(joints + i, p.joints + at);
    }
  }

  // sum_k w_k f(joint of k), four influences at a time: `add(weights of four, joints of four)`.
  template <class Add>
  __device__ __forceinline__ void each_four(int vertex, int joint_count, const Add& add) const {
    const float* w = weights + vertex * influences;
    const int* j = joints + vertex * influences;
    for (int k = 0; k < influences; k += 4) {
      float four_weights[4];
      int four_joints[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int joint = k + i < influences ? j[k + i] : -1;
        const bool counts = joint >= 0 && joint < joint_count;
        four_weights[i] = counts ? w[k + i] : 0.f;
        // What has no weight looks where another influence looks anyway.
        four_joints[i] = counts ? joint : i > 0 ? four_joints[0] : 0;
      }
      add(four_weights, four_joints);
    }
  }
};

// Every coordinate of a tile that exists: `found(address in global memory, its row, its body of the slab)`, consecutive
// lanes at consecutive addresses.
template <class P, class Found>
__device__ __forceinline__ void each_coordinate(const P& p, const Place& at, long long tile, const Found& found) {
  const int count = int(min((long long)kRows, 3 * p.vertex_count - kRows * tile));
  const int bodies = int(min((long long)kLanes, p.bodies - at.slab));
  const long long size = 3 * p.vertex_count;
  int row = at.lane % kRows, body = at.lane / kRows;
  long long address = (p.first_body + at.slab + body) * size + kRows * tile + row;
#pragma unroll 4
  for (int i = 0; i < kRows; ++i) {
    if (row < count && body < bodies) found(address, row, body);
    const bool wraps = row >= kRows - (kLanes - kRows);
    row += wraps ? kLanes - 2 * kRows : kLanes - kRows;
    body += wraps ? 2 : 1;
    address += wraps ? 2 * size + kLanes - 2 * kRows : size + kLanes - kRows;
  }
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
__global__ void __launch_bounds__(512, 1) slab_skinning(const SlabSkinningParams p) {
  extern __shared__ float4 shared[];
  const Place at(p);
  const int joint_count = int(p.joint_count), columns = int(p.shape_count);
  float4* transforms = shared;  // [J, 3][lane]
  const int tile_floats =
      kRows * (kStride + kColumnStride) + ModelTile::floats((columns + 3) / 4 * 4, int(p.influences));
  float* posed = reinterpret_cast<float*>(shared + 3 * kLanes * joint_count) + at.warp * tile_floats;
  float* staged = posed + kRows * kColumnStride;
  const ModelTile model(p, staged + kRows * kStride, at.lane);
  const auto* from = reinterpret_cast<const float4*>(p.transforms) + at.body * joint_count * 4;
  for (int row = at.warp; row < 3 * joint_count; row += at.warps)
    transforms[row * kLanes + at.lane] = __ldg(from + row / 3 * 4 + row % 3);
  float shape[kShapes];
#pragma unroll
  for (int c = 0; c < kShapes; ++c) shape[c] = c < columns ? __ldg(p.shape + at.body * p.shape_step + c) : 0.f;
  float transl[3] = {};
  if (p.transl) {
#pragma unroll
    for (int i = 0; i < 3; ++i) transl[i] = __ldg(p.transl + at.body * p.transl_step + i);
  }
  const float unit = p.correctives ? __ldg(p.direction_unit) * __ldg(p.feature_unit + at.body) : 0.f;
  const auto fetch_rest = [&](long long tile) {
    model.fetch_weights(p, tile, at.lane);
    if (at.lane < kRows) {
      const long long row = min(kRows * tile + at.lane, 3 * p.vertex_count - 1);
      copy_later<4>(model.base + at.lane, p.v_template + row);
    }
    if (!p.correctives) return;
#pragma unroll
    for (int i = 0; i < kRows / 4; ++i) {  // four rows of eight times four columns
      const int row = 4 * i + at.lane / 8, column = at.lane % 8 * 4;
      const long long coordinate = min(kRows * tile + row, 3 * p.vertex_count - 1);
      copy_later<16>(posed + row * kColumnStride + column, p.correctives + coordinate * p.width + at.slab + column);
    }
  };
  __syncthreads();
  if (at.first_tile < at.tiles) model.fetch_directions(p, at.first_tile, at.lane), fetch_rest(at.first_tile);

  for (long long tile = at.first_tile; tile < at.tiles; tile += at.tile_step) {
    const long long next = min(tile + at.tile_step, at.tiles - 1);
    copied();
    __syncwarp();
#pragma unroll 4
    for (int i = 0; i < kRows; ++i) {
      float sum = 0.f;
#pragma unroll
      for (int c = 0; c < kShapes; c += 4) {
        if (c >= columns) break;
        const float4 four = *reinterpret_cast<const float4*>(model.directions + i * model.padded + c);
        sum += four.x * shape[c] + four.y * shape[c + 1] + four.z * shape[c + 2] + four.w * shape[c + 3];
      }
      const float shaped = model.base[i] + sum;
      float* corrective = posed + i * kColumnStride + at.lane;
      *corrective = p.correctives ? shaped + unit * *corrective : shaped;
      staged[i * kStride + at.lane] = shaped;
    }
    if (p.vertex_offsets) {
      const float* offsets = p.vertex_offsets + at.body * p.offset_step;
      for (int i = 0; i < kRows; ++i)
        posed[i * kColumnStride + at.lane] += __ldg(offsets + min(kRows * tile + i, 3 * p.vertex_count - 1));
    }
    __syncwarp();
    model.fetch_directions(p, next, at.lane);
    if (p.v_posed) {
      each_coordinate(p, at, tile, [&](long long address, int row, int body) {
        p.v_shaped[address] = staged[row * kStride + body];
        p.v_posed[address] = posed[row * kColumnStride + body];
      });
      __syncwarp();
    }
#pragma unroll 2
    for (int u = 0; u < kTile; ++u) {
      float m[12] = {};
      model.each_four(u, joint_count, [&](const float (&weights)[4], const int (&joints)[4]) {
#pragma unroll
        for (int k = 0; k < 4; ++k) {
#pragma unroll
          for (int row = 0; row < 3; ++row) {
            const float4 a = transforms[(3 * joints[k] + row) * kLanes + at.lane];
            m[4 * row] += weights[k] * a.x;
            m[4 * row + 1] += weights[k] * a.y;
            m[4 * row + 2] += weights[k] * a.z;
            m[4 * row + 3] += weights[k] * a.w;
          }
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
    each_coordinate(p, at, tile,
                    [&](long long address, int row, int body) { p.vertices[address] = staged[row * kStride + body]; });
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
__global__ void __launch_bounds__(512, 1) slab_posed_gradient(const SlabPosedGradientParams p) {
  extern __shared__ float4 shared[];
  const Place at(p);
  const int joint_count = int(p.joint_count), columns = int(p.shape_count);
  float* rotations = reinterpret_cast<float*>(shared);  // [J, 3, 3][lane]
  float* tiles = rotations + 9 * kLanes * joint_count;
  const int tile_floats = kRows * kColumnStride + ModelTile::floats((columns + 3) / 4 * 4, int(p.influences));
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
  const ModelTile model(p, staged + kRows * kColumnStride, at.lane);
  const auto fetch = [&](long long tile) {
    model.fetch_directions(p, tile, at.lane);
    model.fetch_weights(p, tile, at.lane);
    each_coordinate(p, at, tile, [&](long long address, int row, int body) {
      copy_later<4>(staged + row * kStride + body, p.grad_vertices + address);
    });
  };
  float grad_shape[kShapes] = {};
  if (at.first_tile < at.tiles) fetch(at.first_tile);
  for (long long tile = at.first_tile; tile < at.tiles; tile += at.tile_step) {
    copied();
    __syncwarp();
    const int count = int(min((long long)kTile, p.vertex_count - kTile * tile));
#pragma unroll 2
    for (int u = 0; u < count; ++u) {
      float m[9] = {};
      model.each_four(u, joint_count, [&](const float (&weights)[4], const int (&joints)[4]) {
#pragma unroll
        for (int k = 0; k < 4; ++k) {
#pragma unroll
          for (int i = 0; i < 9; ++i) m[i] += weights[k] * rotations[(9 * joints[k] + i) * kLanes + at.lane];
        }
      });
      // Lanes beyond the last body find here what was there before; nothing of theirs counts.
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
          for (int c = 0; c < kShapes; c += 4) {
            if (c >= columns) break;
            const float4 four = *reinterpret_cast<const float4*>(model.directions + (3 * u + i) * model.padded + c);
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
  // The warps' sums, eight columns at a time: that much memory every block has for its tiles.
  constexpr int kRound = 8;
#pragma unroll
  for (int first = 0; first < kShapes; first += kRound) {
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
