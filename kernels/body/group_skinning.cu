// Many bodies at once on Hopper, a group of 16 to a block, which shares the vertices with others: `slab_skinning` with
// the sums over joints on tensor cores. float32 only.
#include "common/early.cuh"
#include "common/float_products.cuh"
#include "common/group.cuh"
#include "common/slab_skinning.cuh"

// What differs from body to body, of a group.
struct GroupBody {
  float rotation_unit, shift_unit;  // of its transforms as halves
  float corrective_unit;
  float transl[3];
  int largest_rotation, largest_shift;  // the bits of the largest absolute numbers of its transforms
};

template <int ShapeFours>
struct GroupMemory {
  static constexpr int kColumns = 4 * ShapeFours;
  unsigned short transforms[2 * GroupTransforms<12>::kHalves];
  unsigned short weights[2][2 * GroupWeights::kHalves];  // of two tiles
  float staged[kBodies * kStaged];                       // [body][coordinate]
  float directions[kCoordinates * kColumns + 4];         // [coordinate][C padded], of a tile
  unsigned coefficients[2][kBodies * kColumns + 2];      // [high, low][body][C padded], as TF32
  float base[kCoordinates];                              // of the template, of a tile
  float weight_unit[2][kVertices];
  GroupBody bodies[kBodies];
};

static_assert(sizeof(GroupMemory<0>) == 96160 && sizeof(GroupMemory<3>) == 106912 && sizeof(GroupMemory<5>) == 114080,
              "`GROUP_SKINNING_SHARED` in slab/mod.rs has the same numbers");

template <int ShapeFours>
__global__ void __launch_bounds__(kThreads, 2) group_skinning(const SlabSkinningParams p) {
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
  const GroupTransforms<12> transforms{memory.transforms};
  const auto of_body = [&](int body) -> GroupBody& { return memory.bodies[place_of_body(body)]; };

  const auto fetch = [&](int tile) {  // what shapes the vertices
    fetch_shapedirs<kColumns>(p, tile, memory.directions);
    const int count = min(kCoordinates, size - kCoordinates * tile);
    for (int i = thread; i < count; i += kThreads) copy_later(memory.base + i, p.v_template + kCoordinates * tile + i);
  };
  for (int i = thread; i < kCoordinates * kColumns; i += kThreads) memory.directions[i] = 0.f;
  for (int i = thread; i < int(sizeof(memory.transforms) / sizeof(uint4)); i += kThreads)
    reinterpret_cast<uint4*>(memory.transforms)[i] = make_uint4(0, 0, 0, 0);
  if (thread < kBodies) memory.bodies[thread].largest_rotation = memory.bodies[thread].largest_shift = 0;
  __syncthreads();
  if (first < last) fetch(first), weights(first).fill({p, first});
  for (int c = thread / kBodies; c < kColumns; c += kThreads / kBodies) {
    const int body = thread % kBodies;
    const Tf32Pair pair = tf32_pair(c < columns ? __ldg(p.shape + body_of(body) * p.shape_step + c) : 0.f);
    memory.coefficients[0][place_of_body(body) * kColumns + c] = pair.high;
    memory.coefficients[1][place_of_body(body) * kColumns + c] = pair.low;
  }
  wait_for_former();
  {
    const int own = thread % kBodies;
    const GroupRows read(p.transforms + body_of(own) * joint_count * 16, joint_count);
    float rotation = 0.f, shift = 0.f;
    read.each([&](int, int, const float4& row) {
      rotation = fmaxf(fmaxf(rotation, fabsf(row.x)), fmaxf(fabsf(row.y), fabsf(row.z)));
      shift = fmaxf(shift, fabsf(row.w));
    });
    atomicMax(&of_body(own).largest_rotation, __float_as_int(rotation));
    atomicMax(&of_body(own).largest_shift, __float_as_int(shift));
    __syncthreads();
    rotation = scale_for(__int_as_float(of_body(own).largest_rotation));
    shift = scale_for(__int_as_float(of_body(own).largest_shift));
    read.each([&](int joint, int r, const float4& row) {
      transforms.set(4 * r, own, joint, rotation * row.x);
      transforms.set(4 * r + 1, own, joint, rotation * row.y);
      transforms.set(4 * r + 2, own, joint, rotation * row.z);
      transforms.set(4 * r + 3, own, joint, shift * row.w);
    });
  }
  if (thread < kBodies) {
    GroupBody& body = of_body(thread);
    body.rotation_unit = one_over(scale_for(__int_as_float(body.largest_rotation)));
    body.shift_unit = one_over(scale_for(__int_as_float(body.largest_shift)));
    body.corrective_unit = p.correctives ? __ldg(p.direction_unit) * p.feature_unit[body_of(thread)] : 0.f;
#pragma unroll
    for (int i = 0; i < 3; ++i) body.transl[i] = p.transl ? __ldg(p.transl + body_of(thread) * p.transl_step + i) : 0.f;
  }

  // Each thread has the six coordinates of two vertices of a tile, 8 apart, and four neighbouring bodies. Where its own
  // are, so that all else is added by constants:
  const int own = 16 * warp + g;
  const auto row_of = [](int i) { return i / 3 * 24 + i % 3; };  // behind the first one's
  const float* own_base = memory.base + 3 * own;
  const float* own_directions = memory.directions + 3 * own * kColumns + 2 * t;
  const unsigned* own_coefficients = memory.coefficients[0] + place_of_body(body_of_column(g)) * kColumns + 2 * t;
  const GroupBody* own_bodies = memory.bodies + place_of_body(4 * t);  // four to the next one
  float* own_staged = memory.staged + 4 * t * kStaged + 3 * own;
  const auto stage = [&](const float (&coordinates)[6][4]) {
#pragma unroll
    for (int i = 0; i < 24; ++i) own_staged[i % 4 * kStaged + row_of(i / 4)] = coordinates[i / 4][i % 4];
  };
  const auto store = [&](float* out, int tile) {
    float* rows = out + (p.first_body + group) * size + kCoordinates * tile;
    copy_coordinates(memory.staged, rows, size, min(kCoordinates, size - kCoordinates * tile), int(p.bodies - group),
                     [](const float* staged, float* row) { *row = *staged; });
  };
  for (int tile = first; tile < last; ++tile) {
    copied();
    show_to_products();
    __syncthreads();  // all of this tile is there, and what was staged is written
    const auto row_in_all = [&](int i) {
      return 3 * min(kVertices * tile + own + i / 3 * 8, int(p.vertex_count) - 1) + i % 3;
    };
    float4 corrective[6];
#pragma unroll
    for (int more = 0; more < 2; ++more) {
      const float* from = p.correctives + row_in_all(3 * more) * p.width + group + 4 * t;
#pragma unroll
      for (int i = 0; i < 3; ++i, from += p.width)
        corrective[3 * more + i] = p.correctives ? read_now(from) : make_float4(0.f, 0.f, 0.f, 0.f);
    }
    const GroupWeights::Row next(p, tile + 1);
    float blended[96];
    transforms.blend(blended, weights(tile), joint_count);
    float sums[3][2][4] = {};  // [coordinate][bodies][vertex, body]: as products give them
#pragma unroll
    for (int c = 0; c < kColumns; c += 8) {
      const bool is_there = c + 2 * t < kColumns;
      Tf32Column coefficients[2];
#pragma unroll
      for (int h = 0; h < 2; ++h) {  // bodies 2 further are 8 places further
        const auto two = [&](int part) {
          const unsigned* from = own_coefficients + part * (kBodies * kColumns + 2) + 8 * h * kColumns + c;
          return is_there ? *reinterpret_cast<const uint2*>(from) : make_uint2(0, 0);
        };
        coefficients[h] = {two(0), two(1)};
      }
#pragma unroll
      for (int i = 0; i < 3; ++i) {
        Tf32Rows directions;
#pragma unroll
        for (int more = 0; more < 2; ++more) {
          const float* from = own_directions + row_of(3 * more + i) * kColumns + c;
          const float2 two = is_there ? *reinterpret_cast<const float2*>(from) : make_float2(0.f, 0.f);
          directions.set(0, more, two.x);
          directions.set(1, more, two.y);
        }
#pragma unroll
        for (int h = 0; h < 2; ++h) multiply_add(sums[i][h], directions, coefficients[h]);
      }
    }
    float posed[6][4];
#pragma unroll
    for (int i = 0; i < 24; ++i) posed[i / 4][i % 4] = sums[i / 4 % 3][i % 4 / 2][i / 12 * 2 + i % 2];
#pragma unroll
    for (int i = 0; i < 24; ++i) posed[i / 4][i % 4] += own_base[row_of(i / 4)];
    if (p.v_shaped) {
      stage(posed);
      __syncthreads();
      store(p.v_shaped, tile);
    }
#pragma unroll
    for (int i = 0; i < 6; ++i) {
      const float four[4] = {corrective[i].x, corrective[i].y, corrective[i].z, corrective[i].w};
#pragma unroll
      for (int b = 0; b < 4; ++b) posed[i][b] += own_bodies[4 * b].corrective_unit * four[b];
    }
    if (p.vertex_offsets) {
#pragma unroll
      for (int i = 0; i < 24; ++i)
        posed[i / 4][i % 4] += __ldg(p.vertex_offsets + body_of(4 * t + i % 4) * p.offset_step + row_in_all(i / 4));
    }
    __syncthreads();  // the directions are done with, and what was staged
    if (tile + 1 < last) fetch(tile + 1), weights(tile + 1).fill(next);
    if (p.v_posed) {
      stage(posed);
      __syncthreads();
      store(p.v_posed, tile);
      __syncthreads();
    }
    products_ended(blended);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int more = i / 4, b = i % 4;
      const GroupBody& body = own_bodies[4 * b];
      const float unit = memory.weight_unit[tile % 2][own + 8 * more];
      const float rotation = unit * body.rotation_unit, shift = unit * body.shift_unit;
      const auto number = [&](int n) { return GroupTransforms<12>::number(blended, n, more, b); };
      const float x = rotation * posed[3 * more][b], y = rotation * posed[3 * more + 1][b],
                  z = rotation * posed[3 * more + 2][b];
#pragma unroll
      for (int r = 0; r < 3; ++r)
        posed[3 * more + r][b] = number(4 * r) * x + number(4 * r + 1) * y + number(4 * r + 2) * z +
                                 (shift * number(4 * r + 3) + body.transl[r]);
    }
    stage(posed);
    __syncthreads();
    store(p.vertices, tile);
  }
  copied();
#endif
}
