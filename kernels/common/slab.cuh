// A slab: 32 bodies, one in each lane of a warp. Coordinates lie [body, coordinate] in global memory and are staged
// [coordinate][body] in shared memory, where each lane finds its own in a bank of its own.
#pragma once
#include "common/copy_later.cuh"

constexpr int kLanes = 32;
constexpr int kStride = kLanes + 1;  // of a staged coordinate, so that copying across falls into different banks too

// Calls `each(i)` for the numbers of `row` from 0 to `count`, mostly `Whole`, such that a warp meets whole lines of
// memory: a body's coordinates begin anywhere in them, and parts of lines cost twice.
template <int Whole, class Each>
__device__ __forceinline__ void in_lines(const float* row, int lane, int count, const Each& each) {
  static_assert(Whole % kLanes == 0, "then the first line and the last one have a lane for each number together");
  const int first = lane - int(reinterpret_cast<unsigned long long>(row) / sizeof(float) % kLanes);
  if (count == Whole) {
    each(first < 0 ? first + Whole : first);
#pragma unroll
    for (int i = kLanes; i < Whole; i += kLanes) each(first + i);
  } else {
#pragma unroll 1
    for (int i = first; i < count; i += kLanes) {
      if (i >= 0) each(i);
    }
  }
}
