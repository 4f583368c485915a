// Products of a group of four warps on Hopper's tensor cores, of matrices that lie in shared memory: 64 rows times some
// columns, sixteen terms of each at a time, added up in registers. Nothing of it exists on other architectures.
#pragma once

// Where halves of a matrix [rows][terms] lie, for rows and columns alike: tiles of eight rows of eight terms, of one
// row after the other; tiles along `kTermEights` eights of terms, then along the rows.
constexpr int kTermEights = 8, kTileHalves = 64;
__device__ __forceinline__ int place_of(int row, int term) {
  return (row / 8 * kTermEights + term / 8) * kTileHalves + row % 8 * 8 + term % 8;
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// Describes such a matrix, from a multiple of sixteen terms on: the lower word of what products are told, whose upper
// word is the same for all. A step further are the next sixteen terms.
constexpr unsigned kDescribedStep = 2 * 2 * kTileHalves >> 4;
__device__ __forceinline__ unsigned described(const unsigned short* matrix) {
  constexpr unsigned kAlongTerms = 2 * kTileHalves;  // bytes from one tile to the next
  return (static_cast<unsigned>(__cvta_generic_to_shared(matrix)) & 0x3ffff) >> 4 | kAlongTerms >> 4 << 16;
}
constexpr unsigned kAlongRows = 2 * kTileHalves * kTermEights >> 4;

// What threads wrote to shared memory is there for products; all call this before they meet.
__device__ __forceinline__ void show_to_products() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
// Before the first product of some, whose sums other instructions had.
__device__ __forceinline__ void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
// Behind the last one; they go on meanwhile.
__device__ __forceinline__ void end_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// clang-format off
#define AVATORCH_EIGHT(d, i) \
  "+f"(d[i]), "+f"(d[(i) + 1]), "+f"(d[(i) + 2]), "+f"(d[(i) + 3]), "+f"(d[(i) + 4]), "+f"(d[(i) + 5]), \
      "+f"(d[(i) + 6]), "+f"(d[(i) + 7])
#define AVATORCH_48(d, i) \
  AVATORCH_EIGHT(d, i), AVATORCH_EIGHT(d, (i) + 8), AVATORCH_EIGHT(d, (i) + 16), AVATORCH_EIGHT(d, (i) + 24), \
      AVATORCH_EIGHT(d, (i) + 32), AVATORCH_EIGHT(d, (i) + 40)
// clang-format on

// d (+)= a b for 64 rows and 192 columns. With w the warp in its group, g = lane / 4 and t = lane % 4, a lane has rows
// 16 w + g and 8 more and, of every eight columns, 2 t and 2 t + 1: d[4 eight + 2 (row is 8 more) + column % 2].
__device__ __forceinline__ void multiply_add(float (&d)[96], unsigned a, unsigned b, bool adds) {
  asm volatile(
      "{\n.reg .pred adds;\n.reg .b64 a, b;\nsetp.ne.b32 adds, %98, 0;\n"
      "mov.b64 a, {%96, %99};\nmov.b64 b, {%97, %99};\n"
      "wgmma.mma_async.sync.aligned.m64n192k16.f32.f16.f16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
      "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
      "}, a, b, adds, 1, 1, 0, 0;\n}"
      : AVATORCH_48(d, 0), AVATORCH_48(d, 48)
      : "r"(a), "r"(b), "r"(int(adds)), "n"(kAlongRows));
}

// The same for 144 columns.
__device__ __forceinline__ void multiply_add(float (&d)[72], unsigned a, unsigned b, bool adds) {
  asm volatile(
      "{\n.reg .pred adds;\n.reg .b64 a, b;\nsetp.ne.b32 adds, %74, 0;\n"
      "mov.b64 a, {%72, %75};\nmov.b64 b, {%73, %75};\n"
      "wgmma.mma_async.sync.aligned.m64n144k16.f32.f16.f16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
      "%64, %65, %66, %67, %68, %69, %70, %71"
      "}, a, b, adds, 1, 1, 0, 0;\n}"
      : AVATORCH_48(d, 0), AVATORCH_EIGHT(d, 48), AVATORCH_EIGHT(d, 56), AVATORCH_EIGHT(d, 64)
      : "r"(a), "r"(b), "r"(int(adds)), "n"(kAlongRows));
}

// All products have ended, and their sums may be used.
template <int N>
__device__ __forceinline__ void products_ended(float (&d)[N]) {
  asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
#pragma unroll
  for (int i = 0; i < N; ++i) asm volatile("" : "+f"(d[i])::"memory");  // no use of them moves in front of this
}

#undef AVATORCH_EIGHT
#undef AVATORCH_48
#endif
