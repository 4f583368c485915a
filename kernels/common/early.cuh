// A kernel that may begin before the one in front of it has ended: from Hopper on, where `Kernel::early` launched it.
#pragma once

// The kernel behind this one may begin, as soon as all blocks of this one have come here.
__device__ __forceinline__ void let_next_begin() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

// The kernel in front has ended. What it wrote must be read behind this, and not through `__ldg`, whose loads the
// compiler may move; nothing may be written before.
__device__ __forceinline__ void wait_for_former() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
