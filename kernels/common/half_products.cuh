// Products on tensor cores whose factors are pairs of halves: three of four products make up for one of floats. Both
// low halves together would add less than float32's last bit. In the faster mode the high halves alone are multiplied.
#pragma once

// The halves that stand for a number, where so many products stand for one.
constexpr int halves_for(int products) { return products == 3 ? 2 : 1; }

// d += a b for tiles of 16 x 16 and 16 x 8 halves, by a warp. With g = lane / 4 and t = lane % 4, a lane has rows g and
// g + 8 of a and d, column g of b, terms 2 t, 2 t + 1 (first halves of a and b) and 2 t + 8, 2 t + 9, and columns 2 t
// and 2 t + 1 of d. Tensor cores round sums down: small products should come first.
__device__ __forceinline__ void multiply_add(float (&d)[4], const uint4& a, unsigned b0, unsigned b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
}
