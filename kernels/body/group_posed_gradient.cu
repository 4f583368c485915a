// The gradient of v_posed of many bodies at once on Hopper, a group of 16 to a block: `slab_posed_gradient` with the
// sums over joints on tensor cores. float32 only.
#include "common/group.cuh"
#include "common/slab_posed_gradient.cuh"

template <int ShapeFours>
struct GroupMemory {
  static constexpr int kColumns = 4 * ShapeFours;
  unsigned short rotations[2 * GroupTransforms<9>::kHalves];
  unsigned short weights[2][2 * GroupWeights::kHalves];  // of two tiles
  float gradient[kBodies * kStaged];                     // [body][coordinate], of a tile; last the warps' sums
  float directions[kCoordinates * kColumns + 4];         // [coordinate][C padded], of a tile
  float weight_unit[2][kVertices];
  float scale[kBodies];  // what brings the results into the halves' range
  float unit[kBodies];   // what brings a body's sums there from the units of its rotations
  int largest[kBodies];  // the bits of the largest absolute number of the rotations
};
static_assert(sizeof(GroupMemory<0>) == 82768 && sizeof(GroupMemory<3>) == 91984 && sizeof(GroupMemory<5>) == 98128,
              "`GROUP_GRADIENT_SHARED` in slab/mod.rs has the same numbers");

// M^T grad_vertices as `Halves` halves, 2 or 1 of each, and what of it reaches the shape coefficients.
template <int ShapeFours, int Halves>
__global__ void __launch_bounds__(kThreads, 2) group_posed_gradient(const SlabPosedGradientParams p) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  using Memory = GroupMemory<ShapeFours>;
  constexpr int kColumns = Memory::kColumns;
  extern __shared__ uint4 shared[];
  Memory& memory = *reinterpret_cast<Memory*>(shared);
  const int thread = threadIdx.x, lane = thread % kLanes, warp = thread / kLanes, g = lane / 4, t = lane % 4;
  const int joint_count = int(p.joint_count), columns = int(p.shape_count), size = 3 * int(p.vertex_count);
  const long long group = blockIdx.x / p.splits * kBodies;  // its first body in this launch
  const auto body_of = [&](int body) { return p.first_body + min(group + body, p.bodies - 1); };
  const int share = int(blockIdx.x % p.splits), tiles = (int(p.vertex_count) + kVertices - 1) / kVertices;
  const int first = int((long long)tiles * share / p.splits), last = int((long long)tiles * (share + 1) / p.splits);
  const auto weights = [&](int tile) { return GroupWeights{memory.weights[tile % 2], memory.weight_unit[tile % 2]}; };
  const GroupTransforms<9> rotations{memory.rotations};

  const auto fetch_gradient = [&](int tile) {
    const float* rows = p.grad_vertices + (p.first_body + group) * size + kCoordinates * tile;
    copy_coordinates(memory.gradient, rows, size, min(kCoordinates, size - kCoordinates * tile), int(p.bodies - group),
                     [](float* staged, const float* row) { copy_later(staged, row); });
  };
  const auto fetch_directions = [&](int tile) {
    if (p.shapedirs) fetch_shapedirs<kColumns>(p, tile, memory.directions);
  };
  for (int i = thread; i < kCoordinates * kColumns; i += kThreads) memory.directions[i] = 0.f;
  for (int i = thread; i < int(sizeof(memory.rotations) / sizeof(uint4)); i += kThreads)
    reinterpret_cast<uint4*>(memory.rotations)[i] = make_uint4(0, 0, 0, 0);
  for (int i = thread; i < kBodies * kStaged; i += kThreads) memory.gradient[i] = 0.f;  // beyond the last vertex too
  if (thread < kBodies) memory.largest[thread] = 0;
  __syncthreads();
  if (first < last) fetch_gradient(first), fetch_directions(first), weights(first).fill({p, first});
  {
    const int own = thread % kBodies;
    const GroupRows read(p.transforms + body_of(own) * joint_count * 16, joint_count);
    float largest = 0.f;
    read.each([&](int, int, const float4& row) {
      largest = fmaxf(fmaxf(largest, fabsf(row.x)), fmaxf(fabsf(row.y), fabsf(row.z)));
    });
    atomicMax(&memory.largest[own], __float_as_int(largest));
    __syncthreads();
    const float scale = scale_for(__int_as_float(memory.largest[own]));
    read.each([&](int joint, int r, const float4& row) {
      rotations.set(3 * r, own, joint, scale * row.x);
      rotations.set(3 * r + 1, own, joint, scale * row.y);
      rotations.set(3 * r + 2, own, joint, scale * row.z);
    });
  }
  if (thread < kBodies) {
    const float rotation = __int_as_float(memory.largest[thread]);
    float largest = 0.f;
    for (int part = 0; part < p.parts; ++part)
      largest = fmaxf(largest, __ldg(p.largest + part * p.batch + body_of(thread)));
    const float scale = scale_for(3.f * rotation * largest * __ldg(p.weight_sum));
    memory.scale[thread] = scale;
    memory.unit[place_of_body(thread)] = scale / scale_for(rotation);
    if (share == 0 && group + thread < p.bodies) p.unit[body_of(thread)] = one_over(scale);
  }

  // Each thread has the six coordinates of two vertices of a tile, 8 apart, and four neighbouring bodies.
  const int own = 16 * warp + g;
  const auto row_of = [&](int i) { return 3 * (own + i / 3 * 8) + i % 3; };
  float grad_shape[4][kColumns + 1] = {};
  for (int tile = first; tile < last; ++tile) {
    copied();
    show_to_products();
    __syncthreads();  // all of this tile is there
    const GroupWeights::Row next(p, tile + 1);
    float blended[72];
    rotations.blend(blended, weights(tile), joint_count);
    float gradient[6][4];
#pragma unroll
    for (int i = 0; i < 24; ++i) gradient[i / 4][i % 4] = memory.gradient[(4 * t + i % 4) * kStaged + row_of(i / 4)];
    __syncthreads();
    if (tile + 1 < last) fetch_gradient(tile + 1), weights(tile + 1).fill(next);
    products_ended(blended);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int more = i / 4, b = i % 4;
      const float unit = memory.weight_unit[tile % 2][own + 8 * more] * memory.unit[place_of_body(4 * t + b)];
      const auto number = [&](int n) { return GroupTransforms<9>::number(blended, n, more, b); };
      const float x = unit * gradient[3 * more][b], y = unit * gradient[3 * more + 1][b],
                  z = unit * gradient[3 * more + 2][b];
#pragma unroll
      for (int r = 0; r < 3; ++r) gradient[3 * more + r][b] = number(r) * x + number(3 + r) * y + number(6 + r) * z;
    }
    unsigned short* pairs = p.pair + (long long)Halves * (kCoordinates * tile + row_of(0)) * p.width + group + 4 * t;
#pragma unroll
    for (int i = 0; i < 6; ++i) {
      const int row = kCoordinates * tile + row_of(i);
      unsigned short* pair = pairs + Halves * (row_of(i) - row_of(0)) * p.width;
      const HalfPairs first = split(gradient[i][0], gradient[i][1]), second = split(gradient[i][2], gradient[i][3]);
      if (row < size) {
        *reinterpret_cast<uint2*>(pair) = make_uint2(first.high, second.high);
        if (Halves == 2) *reinterpret_cast<uint2*>(pair + p.width) = make_uint2(first.low, second.low);
      }
#pragma unroll
      for (int c = 0; c < kColumns; c += 4) {
        const float4 direction = *reinterpret_cast<const float4*>(memory.directions + row_of(i) * kColumns + c);
#pragma unroll
        for (int b = 0; b < 4; ++b) {
          const float x = row < size ? gradient[i][b] : 0.f;
          grad_shape[b][c] = fmaf(direction.x, x, grad_shape[b][c]);
          grad_shape[b][c + 1] = fmaf(direction.y, x, grad_shape[b][c + 1]);
          grad_shape[b][c + 2] = fmaf(direction.z, x, grad_shape[b][c + 2]);
          grad_shape[b][c + 3] = fmaf(direction.w, x, grad_shape[b][c + 3]);
        }
      }
    }
    if (kColumns > 0) {
      __syncthreads();  // the directions are done with
      if (tile + 1 < last) fetch_directions(tile + 1);
    }
  }
  copied();
  if (share == 0) {  // what pads the rows is zero
    for (long long i = size * (long long)Halves * kBodies + thread; i < p.rows * Halves * kBodies; i += kThreads)
      p.pair[i / kBodies * p.width + group + i % kBodies] = 0;
  }
  if (!p.grad_shape) return;
  __syncthreads();
  float* sums = memory.gradient;  // [warp][body][column]
  static_assert(kThreads / kLanes * kColumns <= kStaged, "the sums fit where the gradient was");
#pragma unroll
  for (int b = 0; b < 4; ++b) {
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      float sum = grad_shape[b][c];
      for (int more = 4; more < kLanes; more *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, more);
      if (g == 0) sums[(warp * kBodies + 4 * t + b) * kColumns + c] = sum;
    }
  }
  __syncthreads();
  for (int i = thread; i < kBodies * columns; i += kThreads) {
    const int body = i / columns, c = i % columns;
    float sum = 0.f;
    for (int other = 0; other < kThreads / kLanes; ++other) sum += sums[(other * kBodies + body) * kColumns + c];
    if (group + body < p.bodies)
      p.grad_shape[(share * p.batch + body_of(body)) * columns + c] = sum / memory.scale[body];
  }
#endif
}
