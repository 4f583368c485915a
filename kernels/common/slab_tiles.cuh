// Vertices of a slab: a warp takes tiles of eight, and a team of warps takes a run of neighbouring tiles, whose
// coordinates it exchanges with global memory in whole lines.
#pragma once
#include "common/slab.cuh"

constexpr int kTile = 8;          // vertices
constexpr int kRows = 3 * kTile;  // coordinates of a tile
constexpr int kTeam = 8;          // warps at most; `TEAM` in slab/mod.rs is the same
constexpr int kRunRows = kTeam * kRows;

// Where a thread is: its slab's bodies, its lane's own, its team's runs, its warp's tile of each.
struct Place {
  int lane, warp, warps, teams, team, team_warps, own;  // this warp in its team
  long long slab, local, body;  // first body of the slab in this launch; this lane's there; this lane's in the batch
  int first_run, run_step, runs, tiles;

  template <class P>
  __device__ __forceinline__ explicit Place(const P& p) {
    lane = threadIdx.x % kLanes;
    warp = threadIdx.x / kLanes;
    warps = blockDim.x / kLanes;
    team_warps = min(warps, kTeam);
    teams = warps / team_warps;
    team = warp / team_warps;
    own = warp % team_warps;
    slab = blockIdx.x / p.splits * kLanes;
    local = slab + lane;
    // A lane beyond the last body repeats it, and writes nothing that counts.
    body = p.first_body + min(local, p.bodies - 1);
    first_run = int(blockIdx.x % p.splits) * teams + team;
    run_step = int(p.splits) * teams;
    tiles = int((p.vertex_count + kTile - 1) / kTile);
    runs = (tiles + team_warps - 1) / team_warps;
  }
  // Beyond the last tile it is repeated, and nothing of it is written.
  __device__ __forceinline__ int tile(int run) const { return min(run * team_warps + own, tiles - 1); }
  __device__ __forceinline__ int run_rows() const { return team_warps * kRows; }
  // The warps of the team wait for one another. There are two teams at most.
  __device__ __forceinline__ void meet() const {
    const int threads = kLanes * team_warps;
    if (team == 0) {
      asm volatile("bar.sync 1, %0;" ::"r"(threads) : "memory");
    } else {
      asm volatile("bar.sync 2, %0;" ::"r"(threads) : "memory");
    }
  }

  // For each body of the slab that is this warp's in its team: `found(row, body of the slab, coordinates)` of a run.
  template <class P, class T, class Found>
  __device__ __forceinline__ void each_body(const P& p, int run, T* coordinates, const Found& found) const {
    const long long size = 3 * p.vertex_count, first = (long long)run * run_rows();
    const int count = int(min((long long)run_rows(), size - first));
#pragma unroll 1
    for (int other = own; other < kLanes; other += team_warps) {
      if (slab + other >= p.bodies) break;
      found(coordinates + (p.first_body + slab + other) * size + first, other, count);
    }
  }
  // Writes a run from `staged` [row][lane] to the bodies' coordinates [B, 3 V].
  template <class P>
  __device__ __forceinline__ void store_run(const P& p, int run, float* out, const float* staged) const {
    each_body(p, run, out, [&](float* row, int other, int count) {
      in_lines<kRunRows>(row, lane, count, [&](int i) { row[i] = staged[i * kStride + other]; });
    });
  }
  // Starts to read one.
  template <class P>
  __device__ __forceinline__ void fetch_run(const P& p, int run, const float* from, float* staged) const {
    each_body(p, run, from, [&](const float* row, int other, int count) {
      in_lines<kRunRows>(row, lane, count, [&](int i) { copy_later(staged + i * kStride + other, row + i); });
    });
  }
};

// A warp clears memory of its own.
__device__ __forceinline__ void clear(float* memory, int floats, int lane) {
  for (int i = lane; i < floats; i += kLanes) memory[i] = 0.f;
  __syncwarp();
}

template <bool Value>
struct Bool {
  static constexpr bool value = Value;
};

// The weights of a warp's tile, in memory that was zero: what pads them stays so. slab/mod.rs counts `floats` too.
struct Influences {
  float4* weights;  // [vertices][K padded to four]
  uint4* joints;    // [vertices][K padded to four]
  int count, fours;

  __device__ __forceinline__ Influences(long long influences, float* memory) {
    count = int(influences);
    fours = max((count + 3) / 4, 1);
    weights = reinterpret_cast<float4*>(memory);
    joints = reinterpret_cast<uint4*>(weights + kTile * fours);
  }
  __device__ __forceinline__ static int floats(long long influences) {
    return 8 * kTile * max((int(influences) + 3) / 4, 1);
  }

  // Starts to copy what there is of a tile.
  template <class P>
  __device__ __forceinline__ void fetch(const P& p, int tile, int lane) const {
    const int entries = int(min((long long)kTile, p.vertex_count - kTile * tile)) * count;
    const long long first = (long long)kTile * count * tile;
    for (int i = lane; i < entries; i += kLanes) {
      const int at = i / count * 4 * fours + i % count;
      copy_later(reinterpret_cast<float*>(weights) + at, p.weights + first + i);
      copy_later(reinterpret_cast<int*>(joints) + at, p.joints + first + i);
    }
  }

  // Calls `add(weight, joint)` for the influences of a vertex. What pads them has no weight, and any joint.
  template <bool IsOneFour, class Add>
  __device__ __forceinline__ void each(int vertex, unsigned last_joint, const Add& add) const {
    const auto add_four = [&](int i) {
      const float4 w = weights[i];
      const uint4 j = joints[i];
      add(w.x, int(min(j.x, last_joint)));
      add(w.y, int(min(j.y, last_joint)));
      add(w.z, int(min(j.z, last_joint)));
      add(w.w, int(min(j.w, last_joint)));
    };
    if (IsOneFour) return add_four(vertex);
#pragma unroll 1
    for (int i = vertex * fours; i < (vertex + 1) * fours; ++i) add_four(i);
  }
};

// The shape directions of a warp's tile, in memory that was zero. Kernels are compiled for a few numbers of
// coefficients, in fours.
template <int ShapeFours>
struct ShapeDirections {
  static constexpr int kColumns = 4 * ShapeFours, kFloats = kRows * kColumns;
  float* memory;  // [3 vertices][C padded]
  int columns;

  __device__ __forceinline__ ShapeDirections(int shape_count, float* own) : memory(own), columns(shape_count) {}
  __device__ __forceinline__ const float* of(int row) const { return memory + row * kColumns; }

  // Starts to copy what there is of a tile.
  template <class P>
  __device__ __forceinline__ void fetch(const P& p, int tile, int lane) const {
    if (lane >= columns || !p.shapedirs) return;
    const int count = int(min((long long)kRows, 3 * p.vertex_count - kRows * tile));
    const float* from = p.shapedirs + (long long)kRows * tile * columns + lane;
    float* to = memory + lane;
#pragma unroll 8
    for (int i = 0; i < count; ++i, from += columns, to += kColumns) copy_later(to, from);
  }
};
