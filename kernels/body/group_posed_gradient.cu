// The gradient of v_posed of many bodies at once on Hopper, a group of 16 to a block: `slab_posed_gradient` with the
// sums over joints on tensor cores. float32 only.
#include "common/float_products.cuh"
#include "common/group.cuh"
#include "common/slab_posed_gradient.cuh"

template <int ShapeFours>
struct GroupMemory {
  static constexpr int kColumns = 4 * ShapeFours;
  unsigned short rotations[2 * GroupTransforms<9>::kHalves];
  unsigned short weights[2][2 * GroupWeights::kHalves];  // of two tiles
  float gradient[2][kBodies * kStaged];                  // [body][coordinate], of two tiles; last the warps' sums
  float directions[kCoordinates * kColumns + 4];         // [coordinate][C padded], of a tile
  float weight_unit[2][kVertices];
  float scale[kBodies];  // what brings the results into the halves' range
  float unit[kBodies];   // what brings a body's sums there from the units of its rotations
  int largest[kBodies];  // the bits of the largest absolute number of the rotations
};
static_assert(sizeof(GroupMemory<0>) == 95184 && sizeof(GroupMemory<3>) == 104400 && sizeof(GroupMemory<5>) == 110544,
              "`GROUP_GRADIENT_SHARED` in slab/mod.rs has the same numbers");

// M^T grad_vertices as `Halves` halves, 2 or 1 of each, and what of it reaches the shape coefficients.
template <int ShapeFours, int Halves>
__global__ void __launch_bounds__(kThreads, 2) group_posed_gradient(const SlabPosedGradientParams p) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  using Memory = GroupMemory<ShapeFours>;
  constexpr int kColumns = Memory::kColumns, kShapeEights = (kColumns + 7) / 8;
  extern __shared__ uint4 shared[];
  Memory& memory = *reinterpret_cast<Memory*>(shared);
  const GroupPlace at(p);
  const int thread = threadIdx.x, columns = int(p.shape_count), first = at.first, last = at.last;
  const auto weights = [&](int tile) { return GroupWeights{memory.weights[tile % 2], memory.weight_unit[tile % 2]}; };
  const GroupTransforms<9> rotations{memory.rotations};

  const auto fetch_gradient = [&](int tile) {
    const auto copy = [](float* staged, const float* row) { copy_later(staged, row); };
    if (tile < last) copy_coordinates(memory.gradient[tile % 2], p.grad_vertices, p, at, tile, copy);
    copies_together();
  };
  const auto fetch_directions = [&](int tile) {
    if (p.shapedirs && tile < last) fetch_shapedirs<kColumns>(p, tile, memory.directions);
    copies_together();
  };
  for (int i = thread; i < kCoordinates * kColumns; i += kThreads) memory.directions[i] = 0.f;
  for (int i = thread; i < int(sizeof(memory.rotations) / sizeof(uint4)); i += kThreads)
    reinterpret_cast<uint4*>(memory.rotations)[i] = make_uint4(0, 0, 0, 0);
  for (int i = thread; i < 2 * kBodies * kStaged; i += kThreads) memory.gradient[0][i] = 0.f;  // beyond the last vertex
  if (thread < kBodies) memory.largest[thread] = 0;
  __syncthreads();
  fetch_gradient(first);
  fetch_directions(first);
  if (first < last) weights(first).fill({p, first});
  {
    const int own = thread % kBodies;
    const GroupRows read(p.transforms + at.in_batch(p, own) * at.joint_count * 16, at.joint_count);
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
      largest = fmaxf(largest, __ldg(p.largest + part * p.batch + at.in_batch(p, thread)));
    const float scale = scale_for(3.f * rotation * largest * __ldg(p.weight_sum));
    memory.scale[thread] = scale;
    memory.unit[place_of_body(thread)] = scale / scale_for(rotation);
    if (at.share == 0 && at.group + thread < p.bodies) p.unit[at.in_batch(p, thread)] = one_over(scale);
  }

  const int width = int(p.width);
  const float* own_units = memory.unit + place_of_body(at.body);  // four to the next body
  // For the coefficients its warp's coordinates are terms, bodies rows: in this order for different banks.
  const auto body_of_row = [&](int more) { return at.g % 4 * 4 + at.g / 4 + 2 * more; };
  float grad_shape[kShapeEights + 1][4] = {};  // of columns 8 i + 2 t and 1 more, of two rows
  // The products of a tile begin as soon as those of the one before are used up.
  float blended[72];
  show_to_products();
  __syncthreads();
  if (first < last) rotations.blend(blended, weights(first), at.joint_count);
  for (int tile = first; tile < last; ++tile) {
    arrived(1);  // the gradient; the directions may be on their way
    __syncthreads();
    float* staged = memory.gradient[tile % 2];
    float* own_staged = staged + at.staged();
    float gradient[6][4];
#pragma unroll
    for (int i = 0; i < 24; ++i) gradient[i / 4][i % 4] = own_staged[i % 4 * kStaged + at.behind(i / 4)];
    const GroupWeights::Row next(p, tile + 1);
    fetch_gradient(tile + 1);
    if (tile + 1 < last) weights(tile + 1).fill(next);
    show_to_products();
    float unit[2][4];  // zero beyond the last vertex, whose staged numbers are old
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int vertex = at.vertex + i / 4 * 8;
      const bool exists = 3 * (kVertices * tile + vertex) < at.size;
      unit[i / 4][i % 4] = exists ? memory.weight_unit[tile % 2][vertex] * own_units[i % 4 * 4] : 0.f;
    }
    products_ended(blended);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int more = i / 4, b = i % 4;
      const auto number = [&](int n) { return GroupTransforms<9>::number(blended, n, more, b); };
      const float x = unit[more][b] * gradient[3 * more][b], y = unit[more][b] * gradient[3 * more + 1][b],
                  z = unit[more][b] * gradient[3 * more + 2][b];
#pragma unroll
      for (int r = 0; r < 3; ++r) gradient[3 * more + r][b] = number(r) * x + number(3 + r) * y + number(6 + r) * z;
    }
#pragma unroll
    for (int more = 0; more < 2; ++more) {
      const int vertex = kVertices * tile + at.vertex + 8 * more;
      unsigned short* pair = p.pair + 3ll * vertex * Halves * width + at.group + at.body;
#pragma unroll
      for (int i = 0; i < 3; ++i, pair += Halves * width) {
        const float (&four)[4] = gradient[3 * more + i];
        const HalfPairs first = split(four[0], four[1]), second = split(four[2], four[3]);
        if (3 * vertex < at.size) {
          *reinterpret_cast<uint2*>(pair) = make_uint2(first.high, second.high);
          if (Halves == 2) *reinterpret_cast<uint2*>(pair + width) = make_uint2(first.low, second.low);
        }
      }
    }
    if constexpr (kColumns > 0) {
      constexpr int kTerms = kCoordinates / (kThreads / kLanes);  // of a warp
#pragma unroll
      for (int i = 0; i < 24; ++i) own_staged[i % 4 * kStaged + at.behind(i / 4)] = gradient[i / 4][i % 4];
      arrived(1);  // the directions; the next gradient may be on its way
      __syncthreads();
      const float* rows = staged + body_of_row(0) * kStaged + kTerms * at.warp + 2 * at.t;
      const float* directions = memory.directions + (kTerms * at.warp + 2 * at.t) * kColumns + at.g;
      float sums[kShapeEights + 1][4] = {};  // of this tile alone, since tensor cores round down
#pragma unroll
      for (int term = 0; term < kTerms; term += 8) {
        Tf32Rows bodies;
#pragma unroll
        for (int more = 0; more < 2; ++more) {
          const float2 two = *reinterpret_cast<const float2*>(rows + 2 * more * kStaged + term);
          bodies.set(0, more, two.x);
          bodies.set(1, more, two.y);
        }
#pragma unroll
        for (int i = 0; i < kShapeEights; ++i) {
          const auto direction = [&](int term) {
            return tf32_pair(8 * i + at.g < kColumns ? directions[term * kColumns + 8 * i] : 0.f);
          };
          const Tf32Pair even = direction(term), odd = direction(term + 1);
          multiply_add(sums[i], bodies, {{even.high, odd.high}, {even.low, odd.low}});
        }
      }
#pragma unroll
      for (int i = 0; i < 4 * kShapeEights; ++i) grad_shape[i / 4][i % 4] += sums[i / 4][i % 4];
    }
    __syncthreads();  // the directions are done with, and the next tile's weights are there
    if (tile + 1 < last) rotations.blend(blended, weights(tile + 1), at.joint_count);
    fetch_directions(tile + 1);
  }
  copied();
  if (at.share == 0) {  // what pads the rows is zero
    for (long long i = at.size * (long long)Halves * kBodies + thread; i < p.rows * Halves * kBodies; i += kThreads)
      p.pair[i / kBodies * p.width + at.group + i % kBodies] = 0;
  }
  if (!p.grad_shape) return;
  __syncthreads();
  float* sums = memory.gradient[0];  // [warp][body][column]
  static_assert(kThreads / kLanes * kColumns <= kStaged, "the sums fit where the gradient was");
#pragma unroll
  for (int i = 0; i < 4 * kShapeEights; ++i) {
    const int column = i / 4 * 8 + 2 * at.t + i % 2;
    if (column < kColumns)
      sums[(at.warp * kBodies + body_of_row(i % 4 / 2)) * kColumns + column] = grad_shape[i / 4][i % 4];
  }
  __syncthreads();
  for (int i = thread; i < kBodies * columns; i += kThreads) {
    const int body = i / columns, c = i % columns;
    float sum = 0.f;
    for (int other = 0; other < kThreads / kLanes; ++other) sum += sums[(other * kBodies + body) * kColumns + c];
    if (at.group + body < p.bodies)
      p.grad_shape[(at.share * p.batch + at.in_batch(p, body)) * columns + c] = sum * one_over(memory.scale[body]);
  }
#endif
}
