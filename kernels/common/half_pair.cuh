// A float as the sum of two halves, for products on tensor cores: 22 bits of it, more than enough where a product adds
// millimetres to metres. Powers of two bring values into the range of a half.
#pragma once

struct HalfPair {
  unsigned short high, low;  // the bits of halves
};

__device__ __forceinline__ unsigned short half_of(float x) {
  unsigned short bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
}

__device__ __forceinline__ float float_of(unsigned short half) {
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(half));
  return x;
}

__device__ __forceinline__ HalfPair split(float x) {
  const unsigned short high = half_of(x);
  return {high, half_of(x - float_of(high))};
}

// Of two floats, the first one in the lower half of each word.
struct HalfPairs {
  unsigned high, low;
};

__device__ __forceinline__ unsigned halves_of(float first, float second) {
  unsigned bits;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(second), "f"(first));
  return bits;
}

__device__ __forceinline__ HalfPairs split(float first, float second) {
  const unsigned high = halves_of(first, second);
  const float rest = first - float_of(static_cast<unsigned short>(high));
  return {high, halves_of(rest, second - float_of(static_cast<unsigned short>(high >> 16)))};
}

// The power of two that brings `largest` into [2^12, 2^13); 1 for zero and for what is not finite.
__device__ __forceinline__ float scale_for(float largest) {
  if (!(largest > 0.f && largest < __int_as_float(0x7f800000))) return 1.f;
  const int exponent = min(max(((__float_as_int(largest) >> 23) & 255) - 127, -100), 127);
  return __int_as_float((127 + 12 - exponent) << 23);
}

// What undoes such a power of two.
__device__ __forceinline__ float one_over(float power_of_two) {
  return __int_as_float((2 * 127 << 23) - __float_as_int(power_of_two));
}
