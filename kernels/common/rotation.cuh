// The scalar formulas of rotations. src/body/rotation.rs is the twin.
#pragma once

// Terms of a Stumpff series that reach the precision of T for arguments up to 1.
template <class T>
struct SeriesTerms;
template <>
struct SeriesTerms<float> {
  static constexpr int value = 6;
};
template <>
struct SeriesTerms<double> {
  static constexpr int value = 10;
};

template <class T>
struct Largest;
template <>
struct Largest<float> {
  static __device__ __forceinline__ float value() { return 3.402823466e38f; }
};
template <>
struct Largest<double> {
  static __device__ __forceinline__ double value() { return 1.7976931348623157e308; }
};

// The first `terms` terms of c_order(x), the sum over i of (-x)^i / (2i + order)!, summed from the smallest.
template <class T>
__device__ __forceinline__ T stumpff_series(T x, int order, int terms) {
  T sum = T(1);
#pragma unroll
  for (int i = terms - 1; i >= 1; --i) sum = T(1) - x * (T(1) / T((2 * i + order) * (2 * i + order - 1))) * sum;
  T factorial = T(1);
#pragma unroll
  for (int factor = 2; factor <= order; ++factor) factorial *= T(factor);
  return sum / factorial;
}

// A rotation vector seen as an angle about an axis, without overflow for any finite r. Near zero there is no axis.
template <class T>
struct AngleAxis {
  T angle, axis[3];
  __device__ __forceinline__ explicit AngleAxis(const T* r) {
    const T largest = fmax(fmax(fabs(r[0]), fabs(r[1])), fabs(r[2]));
    const T x = r[0] / largest, y = r[1] / largest, z = r[2] / largest;
    const T length = sqrt(x * x + y * y + z * z);
    angle = fmin(largest * length, Largest<T>::value());
    axis[0] = x / length;
    axis[1] = y / length;
    axis[2] = z / length;
  }
};

// matrix = I + a [v] + b [v]^2, row-major.
template <class T>
__device__ __forceinline__ void rotation_about(const T* v, T a, T b, T* matrix) {
  const T x = v[0], y = v[1], z = v[2];
  matrix[0] = T(1) - b * (y * y + z * z);
  matrix[1] = b * x * y - a * z;
  matrix[2] = b * x * z + a * y;
  matrix[3] = b * x * y + a * z;
  matrix[4] = T(1) - b * (x * x + z * z);
  matrix[5] = b * y * z - a * x;
  matrix[6] = b * x * z - a * y;
  matrix[7] = b * y * z + a * x;
  matrix[8] = T(1) - b * (x * x + y * y);
}

// The rotation of an axis-angle vector: a = sin(angle) / angle, b = (1 - cos(angle)) / angle^2.
template <class T>
__device__ __forceinline__ void rodrigues_matrix(const T* r, T* matrix) {
  const T squared = r[0] * r[0] + r[1] * r[1] + r[2] * r[2];
  if (squared < T(1)) {
    constexpr int terms = SeriesTerms<T>::value;
    rotation_about(r, stumpff_series(squared, 1, terms), stumpff_series(squared, 2, terms), matrix);
  } else {
    const AngleAxis<T> of(r);
    const T half = sin(T(0.5) * of.angle);
    rotation_about(of.axis, sin(of.angle), T(2) * half * half, matrix);
  }
}

// The gradient of r from g, the gradient of its matrix: docs/gradients.md, rodrigues. With s the skew part of g it is
// a s + b ((g + g^T) r - 2 tr(g) r) + (da s.r + db (r.g r - x tr(g))) r; away from zero the same in angle and axis.
template <class T>
__device__ __forceinline__ void rodrigues_gradient(const T* g, const T* r, T* grad_r) {
  const T skew[3] = {g[7] - g[5], g[2] - g[6], g[3] - g[1]};
  const T trace = g[0] + g[4] + g[8];
  const T squared = r[0] * r[0] + r[1] * r[1] + r[2] * r[2];
  const bool near_zero = squared < T(1);
  T v[3] = {r[0], r[1], r[2]}, angle = T(0);  // v: the vector near zero, its axis elsewhere
  if (!near_zero) {
    const AngleAxis<T> of(r);
    angle = of.angle;
    v[0] = of.axis[0];
    v[1] = of.axis[1];
    v[2] = of.axis[2];
  }
  const T symmetric[3] = {T(2) * g[0] * v[0] + (g[1] + g[3]) * v[1] + (g[2] + g[6]) * v[2],
                          (g[1] + g[3]) * v[0] + T(2) * g[4] * v[1] + (g[5] + g[7]) * v[2],
                          (g[2] + g[6]) * v[0] + (g[5] + g[7]) * v[1] + T(2) * g[8] * v[2]};
  const T skew_along = skew[0] * v[0] + skew[1] * v[1] + skew[2] * v[2];
  const T half_quadratic = T(0.5) * (symmetric[0] * v[0] + symmetric[1] * v[1] + symmetric[2] * v[2]);
  T a, b, along;
  if (near_zero) {
    constexpr int terms = SeriesTerms<T>::value;
    const T c3 = stumpff_series(squared, 3, terms), c4 = stumpff_series(squared, 4, terms);
    a = stumpff_series(squared, 1, terms);
    b = stumpff_series(squared, 2, terms);
    along = (c3 - b) * skew_along + (T(2) * c4 - c3) * (half_quadratic - squared * trace);
  } else {
    const T sine = sin(angle), half = sin(T(0.5) * angle);
    a = sine / angle;
    b = T(2) * half * half / angle;
    along = (cos(angle) - a) * skew_along + (sine - T(2) * b) * (half_quadratic - trace);
  }
#pragma unroll
  for (int i = 0; i < 3; ++i) grad_r[i] = a * skew[i] + b * (symmetric[i] - T(2) * trace * v[i]) + along * v[i];
}
