#pragma once

// Copies a number to shared memory, of four or eight bytes, for which nobody waits before `copied`.
template <class T>
__device__ __forceinline__ void copy_later(T* to_shared, const T* from) {
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to_shared));
  asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(address), "l"(from), "n"(sizeof(T)) : "memory");
}
// This thread's copies have arrived.
__device__ __forceinline__ void copied() { asm volatile("cp.async.wait_all;" ::: "memory"); }
