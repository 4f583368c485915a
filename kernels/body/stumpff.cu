// The Stumpff functions c_k(x), elementwise, for the derivatives of rotations of any order.
#include "common/rotation.cuh"

struct StumpffParams {
  const void* x;  // [count]
  void* out;      // [count]
  long long count;
  long long order;
};

// Terms of the series; enough below `recurrence_from`.
constexpr int kTerms = 20;

// Above this the recurrence c_k = (1/(k-2)! - c_{k-2}) / x loses little; below, the series converges quickly.
__device__ __forceinline__ double recurrence_from(int order) {
  return order < 2 ? 1.0 : fmax(double(order) * order, 10.0);
}

template <class T>
__global__ void stumpff(const StumpffParams p) {
  const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  if (i >= p.count) return;
  const T x = static_cast<const T*>(p.x)[i];
  const int order = int(p.order);
  T value;
  if (x < T(recurrence_from(order))) {
    value = stumpff_series(x, order, kTerms);
  } else {
    const T angle = sqrt(x);
    value = order % 2 == 0 ? cos(angle) : sin(angle) / angle;
    double factorial = 1.0;
    for (int k = order % 2 + 2; k <= order; k += 2) {
      value = (T(1.0 / factorial) - value) / x;
      factorial *= double(k) * (k - 1);
    }
  }
  static_cast<T*>(p.out)[i] = value;
}
