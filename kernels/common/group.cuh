// A group: 16 bodies. Of 64 vertices at a time, the sums of transforms over joints are products of the weights with
// them: all joints count, up to 64, most with weight zero. Both factors are pairs of halves (half_pair.cuh).
#pragma once
#include "common/copy_later.cuh"
#include "common/group_products.cuh"
#include "common/half_pair.cuh"
#include "common/slab.cuh"

constexpr int kBodies = 16, kVertices = 64, kJoints = 64, kThreads = 128;
constexpr int kCoordinates = 3 * kVertices;  // of a tile
constexpr int kStaged = kCoordinates + 2;    // floats from one body's coordinates to the next, for different banks

// The thread's place among the bodies of a group, such that those of four neighbouring bodies lie in different banks.
__device__ __forceinline__ int place_of_body(int body) { return body % 4 * 4 + body / 4; }

// Of every eight columns of products a thread has 2 t and 2 t + 1; they are dealt such that it has neighbouring bodies,
// from 4 t on.
__device__ __forceinline__ int column_of_body(int body) { return body / 2 % 2 * 8 + body / 4 * 2 + body % 2; }

// Rows of products are dealt to the vertices of a tile such that in a quarter or half of a warp, which reads at once,
// three coordinates' directions of its vertices lie in different banks; and coefficients of columns likewise.
__device__ __forceinline__ int vertex_of_row(int row) { return row / 8 * 8 + row % 4 * 2 + row % 8 / 4; }
__device__ __forceinline__ int row_of_vertex(int vertex) { return vertex / 8 * 8 + vertex % 2 * 4 + vertex % 8 / 2; }

// Where a thread is: its group of bodies, its block's share of the tiles, and what is its own of each. It has two
// vertices, 8 apart, and four neighbouring bodies.
struct GroupPlace {
  long long group;  // its first body in this launch
  int share, first, last;
  int joint_count, size;  // joints, and coordinates, of a body
  int warp, g, t;         // g = lane / 4, t = lane % 4
  int vertex, body;       // the first of its own

  template <class P>
  __device__ __forceinline__ explicit GroupPlace(const P& p) {
    group = blockIdx.x / p.splits * kBodies;
    share = int(blockIdx.x % p.splits);
    const long long tiles = (int(p.vertex_count) + kVertices - 1) / kVertices;
    first = int(tiles * share / p.splits);
    last = int(tiles * (share + 1) / p.splits);
    joint_count = int(p.joint_count);
    size = 3 * int(p.vertex_count);
    const int lane = threadIdx.x % kLanes;
    warp = threadIdx.x / kLanes;
    g = lane / 4;
    t = lane % 4;
    vertex = 16 * warp + vertex_of_row(g);
    body = 4 * t;
  }
  // A body of the group in the batch; beyond the last one that is repeated.
  template <class P>
  __device__ __forceinline__ long long in_batch(const P& p, int body) const {
    return p.first_body + min(group + body, p.bodies - 1);
  }
  // Where one of the thread's six coordinates lies behind the first one.
  __device__ __forceinline__ static constexpr int behind(int i) { return i / 3 * 24 + i % 3; }
  // Where its coordinates lie among staged ones, for its first body.
  __device__ __forceinline__ int staged() const { return body * kStaged + 3 * vertex; }
};

// Reads before what follows, as far as the assembler leaves it there.
__device__ __forceinline__ float4 read_now(const float* from) {
  float4 four;
  asm volatile("ld.global.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(four.x), "=f"(four.y), "=f"(four.z), "=f"(four.w)
               : "l"(from));
  return four;
}

// Copies the group's coordinates of a tile between `all` [B, 3 V] and shared memory by `copy(shared, memory)`. A warp
// meets whole lines of memory, as `in_lines` does, here with addresses that differ by constants.
template <class T, class P, class Copy>
__device__ __forceinline__ void copy_coordinates(float* shared, T* all, const P& p, const GroupPlace& at, int tile,
                                                 const Copy& copy) {
  const int lane = threadIdx.x % kLanes, bodies = int(p.bodies - at.group);
  const int count = min(kCoordinates, at.size - kCoordinates * tile);
  constexpr int kWarps = kThreads / kLanes;
  T* rows = all + (p.first_body + at.group) * at.size + kCoordinates * tile;
  const auto first_of = [&](const T* row) {
    return lane - int(static_cast<unsigned>(reinterpret_cast<unsigned long long>(row)) / sizeof(float) % kLanes);
  };
  if (count == kCoordinates && bodies >= kBodies) {
    T* row = rows + (long long)at.warp * at.size;
    const long long apart = (long long)kWarps * at.size;
#pragma unroll
    for (int i = 0; i < kBodies; i += kWarps, row += apart) {
      const int first = first_of(row), wrapped = first < 0 ? kCoordinates : 0;
      T* from = row + first;
      float* own = shared + (i + at.warp) * kStaged + first;
      copy(own + wrapped, from + wrapped);
#pragma unroll
      for (int k = kLanes; k < kCoordinates; k += kLanes) copy(own + k, from + k);
    }
  } else {
#pragma unroll 1
    for (int body = at.warp; body < min(bodies, kBodies); body += kWarps) {
      T* row = rows + (long long)body * at.size;
#pragma unroll 1
      for (int i = (first_of(row) + kLanes) % kLanes; i < count; i += kLanes)
        copy(shared + body * kStaged + i, row + i);
    }
  }
}

// Starts to copy the shape directions of a tile to [coordinate][kColumns], in shared memory that was zero.
template <int kColumns, class P>
__device__ __forceinline__ void fetch_shapedirs(const P& p, int tile, float* to) {
  const int columns = int(p.shape_count), rows = min(kCoordinates, 3 * int(p.vertex_count) - kCoordinates * tile);
  const float* from = p.shapedirs + (long long)kCoordinates * tile * columns;
  if (columns == kColumns && reinterpret_cast<unsigned long long>(from) % 16 == 0) {
    constexpr int kFours = kCoordinates * kColumns / 4;
#pragma unroll
    for (int i = 0; i < kFours; i += kThreads) {
      const int four = i + int(threadIdx.x);
      if (four < rows * (kColumns / 4))
        copy_later(reinterpret_cast<float4*>(to) + four, reinterpret_cast<const float4*>(from) + four);
    }
  } else {
    for (int i = threadIdx.x; i < rows * columns; i += kThreads)
      copy_later(to + i / columns * kColumns + i % columns, from + i);
  }
}

// The weights of a tile's vertices as halves in shared memory, each row in a unit of its own.
struct GroupWeights {
  static constexpr int kHalves = kVertices * kJoints;
  unsigned short* pair;  // [high, low] of a matrix [row of a vertex][joint]
  float* unit;           // [vertex]

  // What a thread reads of its vertex ahead of `fill`: the first weights, mostly all. Beyond the last vertex there are
  // none.
  struct Row {
    static constexpr int kFour = 4;
    const float* weights;
    const int* joints;
    int count;
    float weight[kFour];
    unsigned joint[kFour];

    template <class P>
    __device__ __forceinline__ Row(const P& p, int tile) {
      const int vertex = kVertices * tile + int(threadIdx.x) % kVertices, influences = int(p.influences);
      count = vertex < int(p.vertex_count) ? influences : 0;
      weights = p.weights + vertex * influences;
      joints = p.joints + vertex * influences;
      read(0);
    }
    __device__ __forceinline__ void read(int k) {
#pragma unroll
      for (int i = 0; i < kFour; ++i) {
        weight[i] = k + i < count ? __ldg(weights + k + i) : 0.f;
        joint[i] = k + i < count ? unsigned(__ldg(joints + k + i)) : kJoints;
      }
    }
  };

  // A thread writes the high or the low halves of a row.
  __device__ __forceinline__ void fill(Row read) const {
    const int vertex = threadIdx.x % kVertices;
    const bool is_low = threadIdx.x >= kVertices;
    unsigned short* own = pair + (is_low ? kHalves : 0) + place_of(row_of_vertex(vertex), 0);
#pragma unroll
    for (int eight = 0; eight < kTermEights; ++eight)
      *reinterpret_cast<uint4*>(own + eight * kTileHalves) = make_uint4(0, 0, 0, 0);
    float largest = 0.f;
#pragma unroll
    for (int i = 0; i < Row::kFour; ++i) largest = fmaxf(largest, fabsf(read.weight[i]));
#pragma unroll 1
    for (int k = Row::kFour; k < read.count; ++k) largest = fmaxf(largest, fabsf(__ldg(read.weights + k)));
    const float scale = scale_for(largest);
    const auto write = [&] {
#pragma unroll
      for (int i = 0; i < Row::kFour; ++i) {
        const HalfPair halves = split(scale * read.weight[i]);
        if (read.joint[i] < kJoints) own[place_of(0, int(read.joint[i]))] = is_low ? halves.low : halves.high;
      }
    };
    write();
#pragma unroll 1
    for (int k = Row::kFour; k < read.count; k += Row::kFour) {
      read.read(k);
      write();
    }
    if (!is_low) unit[vertex] = one_over(scale);
  }
};

// What a thread reads of a group's transforms: the rows of one body and every eighth joint, all at once.
struct GroupRows {
  static constexpr int kApart = kThreads / kBodies, kOwn = kJoints / kApart;
  int count;  // of its joints
  float4 rows[kOwn][3];

  __device__ __forceinline__ GroupRows(const float* transforms, int joint_count) {
    const int first = threadIdx.x / kBodies;
    count = (joint_count - first + kApart - 1) / kApart;
    const auto* from = reinterpret_cast<const float4*>(transforms) + 4 * first;
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
#pragma unroll
      for (int r = 0; r < 3; ++r) rows[i][r] = i < count ? from[4 * kApart * i + r] : make_float4(0.f, 0.f, 0.f, 0.f);
    }
  }
  // Calls `found(joint, row of the matrix, numbers)`.
  template <class Found>
  __device__ __forceinline__ void each(const Found& found) const {
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
#pragma unroll
      for (int r = 0; r < 3; ++r) {
        if (i < count) found(int(threadIdx.x) / kBodies + kApart * i, r, rows[i][r]);
      }
    }
  }
};

// Transforms, or parts of them, of a group's bodies as halves in shared memory: `Numbers` of each, a matrix
// [number][body][joint].
template <int Numbers>
struct GroupTransforms {
  static constexpr int kHalves = Numbers * kBodies * kJoints;
  unsigned short* pair;  // [high, low]
  // Begins d = weights . transforms, in their units; whoever uses d calls `products_ended` first.
  __device__ __forceinline__ void blend(float (&d)[8 * Numbers], const GroupWeights& weights, int joint_count) const {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    __syncwarp();
    begin_products();
    if (joint_count > 48) {
      add_products<4>(d, weights);
    } else if (joint_count > 32) {
      add_products<3>(d, weights);
    } else if (joint_count > 16) {
      add_products<2>(d, weights);
    } else {
      add_products<1>(d, weights);
    }
    end_products();
#endif
  }
  // A number of a thread's blended transforms: of its first vertex, or the one 8 `more`, and its first body or further.
  __device__ __forceinline__ static float number(const float (&d)[8 * Numbers], int number, int more, int body) {
    return d[4 * (2 * number + body / 2) + 2 * more + body % 2];
  }
  __device__ __forceinline__ void set(int number, int body, int joint, float value) const {
    const HalfPair halves = split(value);
    const int place = place_of(number * kBodies + column_of_body(body), joint);
    pair[place] = halves.high;
    pair[kHalves + place] = halves.low;
  }

 private:
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  // Over 16 joints a step. Small products first, since tensor cores round down.
  template <int Steps>
  __device__ __forceinline__ void add_products(float (&d)[8 * Numbers], const GroupWeights& weights) const {
    const unsigned a = described(weights.pair), b = described(pair);
    constexpr unsigned kLowA = 2 * GroupWeights::kHalves >> 4, kLowB = 2 * kHalves >> 4;
#pragma unroll
    for (int i = 0; i < 3 * Steps; ++i) {
      const unsigned step = kDescribedStep * (i % Steps);
      multiply_add(d, a + step + (i / Steps == 0 ? kLowA : 0), b + step + (i / Steps == 1 ? kLowB : 0), i > 0);
    }
  }
#endif
};
