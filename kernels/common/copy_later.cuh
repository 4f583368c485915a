#pragma once

// Copies a number to shared memory, of four, eight or sixteen bytes, for which nobody waits before `copied`.
template <class T>
__device__ __forceinline__ void copy_later(T* to_shared, const T* from) {
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to_shared));
  asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(address), "l"(from), "n"(sizeof(T)) : "memory");
}
// This thread's copies have arrived.
__device__ __forceinline__ void copied() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// This thread's copies since the last call are one group.
__device__ __forceinline__ void copies_together() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// All groups but the last `pending` have arrived, which are two at most.
__device__ __forceinline__ void arrived(int pending) {
  if (pending >= 2) {
    asm volatile("cp.async.wait_group 2;" ::: "memory");
  } else if (pending == 1) {
    asm volatile("cp.async.wait_group 1;" ::: "memory");
  } else {
    asm volatile("cp.async.wait_group 0;" ::: "memory");
  }
}
