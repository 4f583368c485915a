// Transforms of 25 real and of 16 complex points for one thread. Turns between two steps are half done, as 1 - i tan;
// the cosine that is left is part of the next step's constants, so that nearly everything is a multiplication with an
// addition.
#pragma once
#include "common/fourier.cuh"

// exp(-2 pi i k / N) without its cosine.
template <int N>
__device__ Complex<float> half_turned(Complex<float> x, int k) {
  const float tangent = float(-Root<N>::table.im[k] / Root<N>::table.re[k]);
  return {x.re + tangent * x.im, x.im - tangent * x.re};
}

// cos and sin of 2 pi / 5 and 4 pi / 5.
constexpr double kCosine1 = 0.30901699437494742410, kCosine2 = -0.80901699437494742410;
constexpr double kSine1 = 0.95105651629515357212, kSine2 = 0.58778525229247312917;

// Bins 0, 1 and 2 of five real points; the others mirror them.
__device__ inline void transform_real5(const float* x, float& zero, Complex<float>& one, Complex<float>& two) {
  const float a = x[1] + x[4], b = x[1] - x[4], c = x[2] + x[3], d = x[2] - x[3];
  zero = x[0] + (a + c);
  one = {x[0] + float(kCosine1) * a + float(kCosine2) * c, -(float(kSine1) * b + float(kSine2) * d)};
  two = {x[0] + float(kCosine2) * a + float(kCosine1) * c, float(kSine1) * d - float(kSine2) * b};
}

// The transform of five points, the b-th turned by b K / 25 first.
template <int K>
__device__ void transform_turned5(const Complex<float>* from, Complex<float>* x) {
  constexpr double c1 = Root<25>::table.re[K], c2 = Root<25>::table.re[2 * K], c3 = Root<25>::table.re[3 * K],
                   c4 = Root<25>::table.re[4 * K];
  const float ratio1 = float(c4 / c1), ratio2 = float(c3 / c2);
  const Complex<float> y0 = from[0], y1 = half_turned<25>(from[1], K), y2 = half_turned<25>(from[2], 2 * K),
                       y3 = half_turned<25>(from[3], 3 * K), y4 = half_turned<25>(from[4], 4 * K);
  // Sums and differences without their factors c1 and c2.
  const Complex<float> a = {y1.re + ratio1 * y4.re, y1.im + ratio1 * y4.im};
  const Complex<float> b = {y1.re - ratio1 * y4.re, y1.im - ratio1 * y4.im};
  const Complex<float> c = {y2.re + ratio2 * y3.re, y2.im + ratio2 * y3.im};
  const Complex<float> d = {y2.re - ratio2 * y3.re, y2.im - ratio2 * y3.im};
  const auto sum = [&](double of_a, double of_c) -> Complex<float> {
    const float f = float(of_a * c1), g = float(of_c * c2);
    return {y0.re + f * a.re + g * c.re, y0.im + f * a.im + g * c.im};
  };
  const Complex<float> u = sum(kCosine1, kCosine2), v = sum(kCosine2, kCosine1);
  const float of_d1 = float(kSine2 * c2 / (kSine1 * c1)), of_d2 = float(kSine1 * c2 / (kSine2 * c1));
  const Complex<float> p = {b.re + of_d1 * d.re, b.im + of_d1 * d.im};
  const Complex<float> q = {b.re - of_d2 * d.re, b.im - of_d2 * d.im};
  const float s1 = float(kSine1 * c1), s2 = float(kSine2 * c1);
  x[0] = sum(1, 1);
  x[1] = {u.re + s1 * p.im, u.im - s1 * p.re};
  x[2] = {v.re + s2 * q.im, v.im - s2 * q.re};
  x[3] = {v.re - s2 * q.im, v.im + s2 * q.re};
  x[4] = {u.re - s1 * p.im, u.im + s1 * p.re};
}

// Bins 0 to 12 of 25 real points, which `point(i)` gives.
template <class Point>
__device__ void transform_real25(const Point& point, Complex<float>* bins) {
  float zeros[5];
  Complex<float> ones[5], twos[5], x[5];
#pragma unroll
  for (int b = 0; b < 5; ++b) {
    const float row[5] = {point(b), point(5 + b), point(10 + b), point(15 + b), point(20 + b)};
    transform_real5(row, zeros[b], ones[b], twos[b]);
  }
  bins[0].im = 0;
  transform_real5(zeros, bins[0].re, bins[5], bins[10]);
  const auto mirrored = [](Complex<float> of) -> Complex<float> { return {of.re, -of.im}; };
  transform_turned5<1>(ones, x);
  bins[1] = x[0], bins[6] = x[1], bins[11] = x[2], bins[9] = mirrored(x[3]), bins[4] = mirrored(x[4]);
  transform_turned5<2>(twos, x);
  bins[2] = x[0], bins[7] = x[1], bins[12] = x[2], bins[8] = mirrored(x[3]), bins[3] = mirrored(x[4]);
}

// The transform of four points, the b-th turned by b K / 16 first.
template <int K>
__device__ void transform_turned4(const Complex<float>* from, Complex<float>* x) {
  constexpr double c1 = Root<16>::table.re[K], c2 = K == 2 ? 1 : Root<16>::table.re[2 * K],
                   c3 = Root<16>::table.re[3 * K];
  const Complex<float> y0 = from[0], y1 = half_turned<16>(from[1], K), y3 = half_turned<16>(from[3], 3 * K);
  const Complex<float> y2 = K == 2 ? Complex<float>{from[2].im, -from[2].re} : half_turned<16>(from[2], 2 * K);
  const float half = float(c2), ratio = float(c3 / c1), first = float(c1);
  const Complex<float> a = {y0.re + half * y2.re, y0.im + half * y2.im};
  const Complex<float> b = {y0.re - half * y2.re, y0.im - half * y2.im};
  const Complex<float> c = {y1.re + ratio * y3.re, y1.im + ratio * y3.im};
  const Complex<float> d = {y1.re - ratio * y3.re, y1.im - ratio * y3.im};
  x[0] = {a.re + first * c.re, a.im + first * c.im};
  x[1] = {b.re + first * d.im, b.im - first * d.re};
  x[2] = {a.re - first * c.re, a.im - first * c.im};
  x[3] = {b.re - first * d.im, b.im + first * d.re};
}

// Sixteen points in place; bin k + 4 l is left in x[4 k + l].
__device__ inline void transform16(Complex<float>* x) {
  Complex<float> columns[4][4];
#pragma unroll
  for (int b = 0; b < 4; ++b) {
    Complex<float> row[4] = {x[b], x[4 + b], x[8 + b], x[12 + b]};
    Butterfly<4>::run(row);
#pragma unroll
    for (int k = 0; k < 4; ++k) columns[k][b] = row[k];
  }
  Butterfly<4>::run(columns[0]);
#pragma unroll
  for (int l = 0; l < 4; ++l) x[l] = columns[0][l];
  transform_turned4<1>(columns[1], x + 4);
  transform_turned4<2>(columns[2], x + 8);
  transform_turned4<3>(columns[3], x + 12);
}
