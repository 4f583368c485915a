// A slab: 32 bodies, one in each lane of a warp. Coordinates lie [body, coordinate] in global memory and are staged
// [coordinate][body] in shared memory, where each lane finds its own in a bank of its own.
#pragma once

constexpr int kLanes = 32;
constexpr int kStride = kLanes + 1;  // of a staged coordinate, so that copying across falls into different banks too

// Copies of four bytes to shared memory that nobody waits for before `copied`.
__device__ __forceinline__ void copy_later(void* to_shared, const void* from) {
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to_shared));
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(address), "l"(from) : "memory");
}
// This thread's copies have arrived.
__device__ __forceinline__ void copied() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// Calls `each(i)` for the numbers of `row` from 0 to `count`, at most `Most`, such that a warp meets whole lines of
// memory: a body's coordinates begin anywhere in them, and parts of lines cost twice.
template <int Most, class Each>
__device__ __forceinline__ void in_lines(const float* row, int lane, int count, const Each& each) {
  const int before = int(reinterpret_cast<unsigned long long>(row) / sizeof(float) % kLanes);
#pragma unroll
  for (int line = 0; line < (Most + 2 * kLanes - 2) / kLanes; ++line) {
    const int i = line * kLanes + lane - before;
    if (0 <= i && i < count) each(i);
  }
}
