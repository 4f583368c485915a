// Products of floats on tensor cores: each float is the sum of two TF32 numbers, 22 bits of it at any magnitude, and
// three products make up for one.
#pragma once

struct Tf32Pair {
  unsigned high, low;  // products read the first bits of `low` alone
};

// `cvt.rna.tf32.f32` is twice as many instructions here. What is not finite is so in one of both numbers.
__device__ __forceinline__ Tf32Pair tf32_pair(float x) {
  const unsigned high = (__float_as_uint(x) + 0x1000) & 0xffffe000;
  return {high, __float_as_uint(x - __uint_as_float(high))};
}

// What a lane has of 16 rows of 8 terms, and of 8 columns. With g = lane / 4 and t = lane % 4: terms t and 4 more of
// rows g and 8 more, [term, row], and of column g. Which term is which is free, as long as rows and columns agree.
struct Tf32Rows {
  unsigned high[4], low[4];
  __device__ __forceinline__ void set(int term, int row, float x) {
    const Tf32Pair pair = tf32_pair(x);
    high[2 * term + row] = pair.high;
    low[2 * term + row] = pair.low;
  }
};
struct Tf32Column {
  uint2 high, low;
};

// d += a b for 16 rows and 8 columns, of which a lane has rows g and 8 more and columns 2 t and 2 t + 1: d[2 (row is 8
// more) + column % 2]. Small products first, since tensor cores round down.
__device__ __forceinline__ void multiply_add(float (&d)[4], const Tf32Rows& a, const Tf32Column& b) {
  const auto add = [&](const unsigned (&a)[4], uint2 b) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b.x), "r"(b.y));
  };
  add(a.low, b.high);
  add(a.high, b.low);
  add(a.high, b.high);
}
