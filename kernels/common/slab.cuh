// A slab: 32 bodies, one in each lane of a warp. Coordinates lie [body, coordinate] in global memory and are staged
// [coordinate][body] in shared memory, where each lane finds its own in a bank of its own.
#pragma once

constexpr int kLanes = 32;
constexpr int kStride = kLanes + 1;  // of a staged coordinate, so that copying across falls into different banks too

// Copies of 4 or 16 bytes to shared memory that nobody waits for before `copied`.
template <int Bytes>
__device__ __forceinline__ void copy_later(void* to_shared, const void* from) {
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to_shared));
  asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(address), "l"(from), "n"(Bytes) : "memory");
}
// This thread's copies have arrived.
__device__ __forceinline__ void copied() { asm volatile("cp.async.wait_all;" ::: "memory"); }
