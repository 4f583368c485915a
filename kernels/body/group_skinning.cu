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

// Eight columns of shape as products take them: of a thread's two vertices, and of columns 8 h + g of the bodies.
template <int kColumns>
struct ShapeTerms {
  float2 directions[3][2];  // [coordinate][vertex]
  Tf32Column coefficients[2];

  // From column `c` on, where the thread's own begin.
  __device__ __forceinline__ ShapeTerms(const float* own_directions, const unsigned* own_coefficients, int c) {
    const bool is_there = c + 2 * (int(threadIdx.x) % 4) < kColumns;
    constexpr int kLow = kBodies * kColumns + 2, kNextVertex = 8 * 3 * kColumns, kNextColumns = 8 * kColumns;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const auto two = [&](int part) {
        const unsigned* from = own_coefficients + part * kLow + h * kNextColumns + c;
        return is_there ? *reinterpret_cast<const uint2*>(from) : make_uint2(0, 0);
      };
      coefficients[h] = {two(0), two(1)};
    }
#pragma unroll
    for (int i = 0; i < 6; ++i) {
      const float* from = own_directions + i % 3 * kColumns + i / 3 * kNextVertex + c;
      directions[i % 3][i / 3] = is_there ? *reinterpret_cast<const float2*>(from) : make_float2(0.f, 0.f);
    }
  }
};

template <int ShapeFours>
__global__ void __launch_bounds__(kThreads, 2) group_skinning(const SlabSkinningParams p) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  using Memory = GroupMemory<ShapeFours>;
  constexpr int kColumns = Memory::kColumns;
  extern __shared__ uint4 shared[];
  Memory& memory = *reinterpret_cast<Memory*>(shared);
  const GroupPlace at(p);
  const int thread = threadIdx.x, columns = int(p.shape_count), first = at.first, last = at.last;
  const auto weights = [&](int tile) { return GroupWeights{memory.weights[tile % 2], memory.weight_unit[tile % 2]}; };
  const GroupTransforms<12> transforms{memory.transforms};
  const auto of_body = [&](int body) -> GroupBody& { return memory.bodies[place_of_body(body)]; };

  const auto fetch = [&](int tile) {  // what shapes the vertices
    fetch_shapedirs<kColumns>(p, tile, memory.directions);
    const int count = min(kCoordinates, at.size - kCoordinates * tile);
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
    const Tf32Pair pair = tf32_pair(c < columns ? __ldg(p.shape + at.in_batch(p, body) * p.shape_step + c) : 0.f);
    const int place = vertex_of_row(column_of_body(body)) * kColumns + c;
    memory.coefficients[0][place] = pair.high;
    memory.coefficients[1][place] = pair.low;
  }
  wait_for_former();
  {
    const int own = thread % kBodies;
    const GroupRows read(p.transforms + at.in_batch(p, own) * at.joint_count * 16, at.joint_count);
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
    body.corrective_unit = p.correctives ? __ldg(p.direction_unit) * p.feature_unit[at.in_batch(p, thread)] : 0.f;
#pragma unroll
    for (int i = 0; i < 3; ++i)
      body.transl[i] = p.transl ? __ldg(p.transl + at.in_batch(p, thread) * p.transl_step + i) : 0.f;
  }

  // Where the thread's own numbers begin; all else is added by constants.
  const float* own_base = memory.base + 3 * at.vertex;
  const float* own_directions = memory.directions + 3 * at.vertex * kColumns + 2 * at.t;
  const unsigned* own_coefficients = memory.coefficients[0] + vertex_of_row(at.g) * kColumns + 2 * at.t;
  const GroupBody* own_bodies = memory.bodies + place_of_body(at.body);  // four to the next one
  float* own_staged = memory.staged + at.staged();
  const auto stage = [&](const float (&coordinates)[6][4]) {
#pragma unroll
    for (int i = 0; i < 24; ++i) own_staged[i % 4 * kStaged + at.behind(i / 4)] = coordinates[i / 4][i % 4];
  };
  const auto store = [&](float* out, int tile) {
    copy_coordinates(memory.staged, out, p, at, tile, [](const float* staged, float* row) { *row = *staged; });
  };
  const auto row_in_all = [&](int tile, int i) {
    return 3 * min(kVertices * tile + at.vertex + i / 3 * 8, int(p.vertex_count) - 1) + i % 3;
  };
  float4 corrective[6];
  const auto read_correctives = [&](int tile) {
#pragma unroll
    for (int more = 0; more < 2; ++more) {
      const float* from = p.correctives + row_in_all(tile, 3 * more) * p.width + at.group + at.body;
#pragma unroll
      for (int i = 0; i < 3; ++i, from += p.width)
        corrective[3 * more + i] = p.correctives ? read_now(from) : make_float4(0.f, 0.f, 0.f, 0.f);
    }
  };

  // The products of a tile begin as soon as those of the one before are used up, with its correctives on their way.
  float blended[96];
  show_to_products();
  __syncthreads();
  if (first < last) read_correctives(first), transforms.blend(blended, weights(first), at.joint_count);
  for (int tile = first; tile < last; ++tile) {
    copied();
    __syncthreads();  // what shapes this tile is there, and what was staged is written
    const GroupWeights::Row next(p, tile + 1);
    float sums[3][2][4] = {};  // [coordinate][bodies][vertex, body]: as products give them
#pragma unroll
    for (int c = 0; c < kColumns; c += 8) {
      const ShapeTerms<kColumns> terms(own_directions, own_coefficients, c);
#pragma unroll
      for (int i = 0; i < 3; ++i) {
        Tf32Rows directions;
#pragma unroll
        for (int more = 0; more < 2; ++more) {
          directions.set(0, more, terms.directions[i][more].x);
          directions.set(1, more, terms.directions[i][more].y);
        }
#pragma unroll
        for (int h = 0; h < 2; ++h) multiply_add(sums[i][h], directions, terms.coefficients[h]);
      }
    }
    float posed[6][4];
#pragma unroll
    for (int i = 0; i < 24; ++i) posed[i / 4][i % 4] = sums[i / 4 % 3][i % 4 / 2][i / 12 * 2 + i % 2];
#pragma unroll
    for (int i = 0; i < 24; ++i) posed[i / 4][i % 4] += own_base[at.behind(i / 4)];
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
        posed[i / 4][i % 4] +=
            __ldg(p.vertex_offsets + at.in_batch(p, at.body + i % 4) * p.offset_step + row_in_all(tile, i / 4));
    }
    __syncthreads();  // the directions are done with, and what was staged
    if (tile + 1 < last) fetch(tile + 1), weights(tile + 1).fill(next);
    show_to_products();
    if (p.v_posed) {
      stage(posed);
      __syncthreads();
      store(p.v_posed, tile);
      __syncthreads();
    }
    float rotation_unit[2][4], shift_unit[2][4], transl[4][3];  // read while products go on
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const float unit = memory.weight_unit[tile % 2][at.vertex + i / 4 * 8];
      rotation_unit[i / 4][i % 4] = unit * own_bodies[i % 4 * 4].rotation_unit;
      shift_unit[i / 4][i % 4] = unit * own_bodies[i % 4 * 4].shift_unit;
    }
#pragma unroll
    for (int i = 0; i < 12; ++i) transl[i / 3][i % 3] = own_bodies[i / 3 * 4].transl[i % 3];
    products_ended(blended);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int more = i / 4, b = i % 4;
      const float rotation = rotation_unit[more][b], shift = shift_unit[more][b];
      const auto number = [&](int n) { return GroupTransforms<12>::number(blended, n, more, b); };
      const float x = rotation * posed[3 * more][b], y = rotation * posed[3 * more + 1][b],
                  z = rotation * posed[3 * more + 2][b];
#pragma unroll
      for (int r = 0; r < 3; ++r)
        posed[3 * more + r][b] = number(4 * r) * x + number(4 * r + 1) * y + number(4 * r + 2) * z +
                                 (shift * number(4 * r + 3) + transl[b][r]);
    }
    stage(posed);
    __syncthreads();
    if (tile + 1 < last) read_correctives(tile + 1), transforms.blend(blended, weights(tile + 1), at.joint_count);
    store(p.vertices, tile);
  }
  copied();
#endif
}
