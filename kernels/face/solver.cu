// Weights of blend shapes: min |A x - b|^2 with 0 <= x <= u by block pivoting, a block of threads a track, whose frames
// follow one another. The steps are those of src/face/solver.rs, which says why they end. All of it in float64.

struct SolveParams {
  const double* normal;    // [P or 1, K, K], A
  const double* squared;   // [P or 1, K, K], A^T A
  const void* rhs;         // [P, F, K]
  const void* previous;    // [P, K]
  const void* temporal;    // [P]
  const void* upper;       // [K]
  const long long* pairs;  // [pairs, 2]
  void* weights;           // [P, F, K]
  double* workspace;       // [P, K (K + 1) / 2], or null: shared memory
  long long frames;
  long long size;
  long long pair_count;
  long long one_normal;
  double rounding_unit;  // of a gradient, relative to the sum of its magnitudes
};
static_assert(sizeof(SolveParams) == 14 * 8, "the twin in solver.rs has the same fields");

constexpr int kPatience = 3;
constexpr int kMostRefinements = 4;
constexpr double kOutside = 1e-11;
constexpr int kMostSteps = 10000;
constexpr double kCancelled = 1e-10;
constexpr double kLeast = 1e-290;  // what has a reciprocal
constexpr double kEpsilon = 2.220446049250313e-16;

enum At { kLower = -1, kFree = 0, kUpper = 1 };

// What the threads of a block share about one problem.
struct Problem {
  const double* a;        // [K, K]
  const double* squared;  // [K, K]
  double* b;              // [K]
  double* upper;          // [K]
  double* x;              // [K]
  double* gradient;       // [K]
  double* residual;       // [K]
  double* rounding;       // [K], a bound of the gradient's rounding error
  double* step;           // [free], then magnitudes [K]
  double* factor;         // rows of a lower triangle, packed
  double* point;          // [K], within the bounds
  int* at;                // [K]
  int* barred;            // [K], entered without effect
  int* free;              // [free]
  int size;
  int count;      // of free variables
  bool factored;  // whether the factor is that of the free variables
  double rounding_unit;
};

// 1 / x and 1 / sqrt(x) of positive x, to the last bit but one. The compiler's own are calls, around which registers
// would be spilled.
__device__ __forceinline__ double reciprocal(double x) {
  double r;
  asm("rcp.approx.ftz.f64 %0, %1;" : "=d"(r) : "d"(x));
#pragma unroll
  for (int i = 0; i < 3; ++i) r = fma(r, fma(-x, r, 1.0), r);
  return r;
}
__device__ __forceinline__ double reciprocal_root(double x) {
  double r;
  asm("rsqrt.approx.ftz.f64 %0, %1;" : "=d"(r) : "d"(x));
#pragma unroll
  for (int i = 0; i < 3; ++i) r = fma(0.5 * r, fma(-x * r, r, 1.0), r);
  return r;
}
__device__ __forceinline__ double not_a_number() { return __longlong_as_double(0x7ff8000000000000ll); }

__device__ __forceinline__ int row_start(int row) { return row * (row + 1) / 2; }

// The largest of |values[i]| or |values[index[i]]|, in every thread.
__device__ __forceinline__ double largest(const double* values, const int* index, int count) {
  __shared__ double of_warp[32];
  double most = 0.0;
  for (int i = threadIdx.x; i < count; i += blockDim.x) most = fmax(most, fabs(values[index ? index[i] : i]));
  for (int offset = 16; offset > 0; offset /= 2) most = fmax(most, __shfl_xor_sync(0xffffffffu, most, offset));
  __syncthreads();
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = most;
  __syncthreads();
  for (int warp = 0; warp < int(blockDim.x / 32); ++warp) most = fmax(most, of_warp[warp]);
  return most;
}

// The sum over all threads, in every thread.
__device__ __forceinline__ int block_total(int value) {
  __shared__ int of_warp[32];
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
  __syncthreads();
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
  __syncthreads();
  int total = 0;
  for (int warp = 0; warp < int(blockDim.x / 32); ++warp) total += of_warp[warp];
  return total;
}

// The list of free variables, and x with the others at their bounds. Where they are those of before, so is the factor.
__device__ __forceinline__ void collect_free(Problem& p) {
  __shared__ int total, same;
  for (int i = threadIdx.x; i < p.size; i += blockDim.x) p.x[i] = p.at[i] == kUpper ? p.upper[i] : 0.0;
  if (threadIdx.x == 0) {
    int count = 0;
    bool equal = true;
    for (int i = 0; i < p.size; ++i) {
      if (p.at[i] != kFree) continue;
      equal = equal && count < p.count && p.free[count] == i;
      p.free[count++] = i;
    }
    total = count;
    same = equal && count == p.count;
  }
  __syncthreads();
  p.factored = p.factored && same;
  p.count = total;
}

// The Cholesky factor of the free rows and columns of the square, column by column, with the reciprocals of its
// diagonal. A pivot that rounding made negative is floored.
__device__ __forceinline__ void factorize(Problem& p) {
  double floor = 0.0;
  for (int i = 0; i < p.count; ++i) floor = fmax(floor, p.squared[(long long)p.free[i] * p.size + p.free[i]]);
  floor = fmax(floor * kEpsilon * p.count, kLeast);
  for (int j = 0; j < p.count; ++j) {
    const double* pivot_row = p.factor + row_start(j);
    for (int i = j + int(threadIdx.x); i < p.count; i += blockDim.x) {
      double* row = p.factor + row_start(i);
      double sum = p.squared[(long long)p.free[i] * p.size + p.free[j]];
      for (int m = 0; m < j; ++m) sum -= row[m] * pivot_row[m];
      row[j] = sum;
    }
    __syncthreads();
    const double root = reciprocal_root(fmax(pivot_row[j], floor));
    __syncthreads();
    for (int i = j + int(threadIdx.x); i < p.count; i += blockDim.x) {
      double* row = p.factor + row_start(i);
      row[j] = i == j ? root : row[j] * root;
    }
    __syncthreads();
  }
}

// Solves L L^T step = step. What is solved for goes elsewhere than what is left: one barrier a row.
__device__ __forceinline__ void substitute(Problem& p) {
  double* half = p.residual;  // [free], L half = step
  for (int j = 0; j < p.count; ++j) {
    const double value = p.step[j] * p.factor[row_start(j) + j];
    for (int i = j + int(threadIdx.x); i < p.count; i += blockDim.x) {
      if (i == j) {
        half[j] = value;
      } else {
        p.step[i] -= p.factor[row_start(i) + j] * value;
      }
    }
    __syncthreads();
  }
  for (int j = p.count - 1; j >= 0; --j) {
    const double* row = p.factor + row_start(j);
    const double value = half[j] * row[j];
    for (int i = threadIdx.x; i <= j; i += blockDim.x) {
      if (i == j) {
        p.step[j] = value;
      } else {
        half[i] -= row[i] * value;
      }
    }
    __syncthreads();
  }
}

// A^T (A x - b), and what rounding may have added to it.
__device__ __forceinline__ void compute_gradient(Problem& p) {
  for (int i = threadIdx.x; i < p.size; i += blockDim.x) {
    const double* row = p.a + (long long)i * p.size;
    double residual = -p.b[i], magnitude = fabs(p.b[i]);
    for (int j = 0; j < p.size; ++j) {
      const double term = row[j] * p.x[j];
      residual += term;
      magnitude += fabs(term);
    }
    p.residual[i] = residual;
    p.step[i] = magnitude;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < p.size; i += blockDim.x) {
    double sum = 0.0, bound = 0.0;
    for (int j = 0; j < p.size; ++j) {
      const double a = p.a[(long long)j * p.size + i];
      sum += a * p.residual[j];
      bound += fabs(a) * p.step[j];
    }
    p.gradient[i] = sum;
    p.rounding[i] = bound * p.rounding_unit;
  }
  __syncthreads();
}

// The free variables that minimise with the others at their bounds, and the gradient there.
__device__ __forceinline__ void solve_free(Problem& p) {
  collect_free(p);
  if (!p.factored) factorize(p);
  p.factored = true;
  compute_gradient(p);
  double before = 1e300;
  for (int refinement = 0; refinement <= kMostRefinements; ++refinement) {
    for (int i = threadIdx.x; i < p.count; i += blockDim.x) p.step[i] = -p.gradient[p.free[i]];
    __syncthreads();
    substitute(p);
    const double size_of_step = largest(p.step, nullptr, p.count);
    if (size_of_step >= 0.5 * before) break;
    before = size_of_step;
    for (int i = threadIdx.x; i < p.count; i += blockDim.x) p.x[p.free[i]] += p.step[i];
    __syncthreads();
    compute_gradient(p);
    if (size_of_step <= 1e-15 * largest(p.x, p.free, p.count)) break;
  }
}

// Where a variable belongs, by its value if it is free, by its gradient if it is not.
__device__ __forceinline__ int moved(const Problem& p, double outside, int i) {
  const int at = p.at[i];
  if (at == kFree) return p.x[i] < -outside ? kLower : p.x[i] > p.upper[i] + outside ? kUpper : kFree;
  if (at == kLower) return p.gradient[i] < -p.rounding[i] ? kFree : kLower;
  return p.gradient[i] > p.rounding[i] ? kFree : kUpper;
}

// Where the search begins: what was at a bound in the frame before mostly still is. Without a frame before all are
// free.
template <class T>
__device__ __forceinline__ void begin_at(Problem& p, const T* last) {
  int inside = 0;
  for (int i = threadIdx.x; i < p.size; i += blockDim.x) {
    const double x = double(last[i]);
    p.at[i] = x <= 0.0 ? kLower : x >= p.upper[i] ? kUpper : kFree;
    inside |= p.at[i] == kFree;
  }
  if (!__syncthreads_or(inside)) {
    for (int i = threadIdx.x; i < p.size; i += blockDim.x) p.at[i] = kFree;
    __syncthreads();
  }
}

// Block pivoting; whether it arrived.
__device__ __forceinline__ bool pivot(Problem& p) {
  int fewest = p.size + 1, patience = kPatience;
  while (true) {
    solve_free(p);
    const double outside = kOutside * largest(p.x, p.free, p.count);
    int mine = 0;
    for (int i = threadIdx.x; i < p.size; i += blockDim.x) mine += moved(p, outside, i) != p.at[i];
    const int wrong = block_total(mine);
    if (wrong == 0) return true;
    if (wrong < fewest) {
      fewest = wrong, patience = kPatience;
    } else if (patience > 0) {
      --patience;
    } else {
      return false;
    }
    for (int i = threadIdx.x; i < p.size; i += blockDim.x) p.at[i] = moved(p, outside, i);
    __syncthreads();
  }
}

// The step that the walk takes next, chosen by one thread.
struct Step {
  int entering;  // a variable that was freed, or -1
  int from;      // its bound before
  int done;
};

// One step of the walk, by one thread: it is rare, and the products around it are shared by all.
__device__ __forceinline__ void take_step(Problem& p, Step& step) {
  const int entered = step.entering;
  step.entering = -1;
  if (entered >= 0) {
    const bool inward = step.from == kLower ? p.x[entered] > 0.0 : p.x[entered] < p.upper[entered];
    if (!inward) {
      p.at[entered] = step.from;
      p.barred[entered] = 1;
      return;
    }
  }
  double reach = 1.0;
  int hit = -1, side = kLower;
  for (int f = 0; f < p.count; ++f) {
    const int i = p.free[f];
    const double from = p.point[i], to = p.x[i];
    if (to >= 0.0 && to <= p.upper[i]) continue;
    const double way = to < 0.0 ? from : p.upper[i] - from;
    const double ratio = way * reciprocal(fmax(fabs(to - from), kLeast));
    if (hit < 0 || ratio < reach) reach = ratio, hit = i, side = to < 0.0 ? kLower : kUpper;
  }
  for (int f = 0; f < p.count; ++f) {
    const int i = p.free[f];
    p.point[i] += reach * (p.x[i] - p.point[i]);
  }
  if (hit >= 0) {
    p.at[hit] = side;
    p.point[hit] = side == kLower ? 0.0 : p.upper[hit];
    for (int i = 0; reach > 0.0 && i < p.size; ++i) p.barred[i] = 0;
    return;
  }
  double steepest = 0.0;
  for (int i = 0; i < p.size; ++i) {
    if (p.at[i] == kFree || p.barred[i] || moved(p, 0.0, i) != kFree) continue;
    if (fabs(p.gradient[i]) > steepest) steepest = fabs(p.gradient[i]), step.entering = i, step.from = p.at[i];
  }
  if (step.entering >= 0) {
    p.at[step.entering] = kFree;
  } else {
    step.done = 1;
  }
}

// From the nearest point within the bounds to the minimum, one variable entering or leaving at a time.
__device__ __forceinline__ void walk(Problem& p) {
  __shared__ Step step;
  for (int i = threadIdx.x; i < p.size; i += blockDim.x) {
    const double inside = fmin(fmax(p.x[i], 0.0), fmax(p.upper[i], 0.0));
    p.point[i] = inside;
    p.at[i] = inside <= 0.0 ? kLower : inside >= p.upper[i] ? kUpper : kFree;
    p.barred[i] = 0;
  }
  if (threadIdx.x == 0) step = {-1, kLower, 0};
  __syncthreads();
  for (int taken = 0; taken < kMostSteps && !step.done; ++taken) {
    solve_free(p);
    __syncthreads();
    if (threadIdx.x == 0) take_step(p, step);
    __syncthreads();
  }
}

__device__ __forceinline__ void solve_bounded(Problem& p) {
  if (!pivot(p)) walk(p);
  __syncthreads();
  for (int i = threadIdx.x; i < p.size; i += blockDim.x) {
    if (p.at[i] == kFree) p.x[i] = fmin(fmax(p.x[i], 0.0), fmax(p.upper[i], 0.0));
  }
  __syncthreads();
}

// Bounds the smaller of each cancel pair close to zero. A pair that is outside makes every weight NaN.
__device__ __forceinline__ void cancel(Problem& p, const long long* pairs, int count) {
  if (threadIdx.x == 0) {
    for (int pair = 0; pair < count; ++pair) {
      const long long i = pairs[2 * pair], j = pairs[2 * pair + 1];
      if (i < 0 || i >= p.size || j < 0 || j >= p.size) {
        p.b[0] = not_a_number();
        continue;
      }
      p.upper[p.x[i] >= p.x[j] ? j : i] = kCancelled;
    }
  }
  __syncthreads();
}

template <class T>
__global__ void solve(const SolveParams params) {
  extern __shared__ double memory[];
  const int size = int(params.size);
  const long long track = blockIdx.x;
  Problem p;
  p.size = size;
  p.count = 0;
  p.factored = false;
  p.rounding_unit = params.rounding_unit;
  const long long matrix = params.one_normal ? 0 : track * size * size;
  p.a = params.normal + matrix;
  p.squared = params.squared + matrix;
  p.b = memory;
  p.upper = p.b + size;
  p.x = p.upper + size;
  p.gradient = p.x + size;
  p.residual = p.gradient + size;
  p.rounding = p.residual + size;
  p.step = p.rounding + size;
  p.point = p.step + size;
  const long long triangle = row_start(size);
  p.factor = params.workspace ? params.workspace + track * triangle : p.point + size;
  p.at = reinterpret_cast<int*>(params.workspace ? p.point + size : p.factor + triangle);
  p.free = p.at + size;
  p.barred = p.free + size;

  const T* last = static_cast<const T*>(params.previous) + track * size;
  const double strength = double(static_cast<const T*>(params.temporal)[track]);
  int no_matrix = 0;
  for (int i = threadIdx.x; i < size * size; i += blockDim.x) no_matrix |= !isfinite(p.a[i]);
  for (long long frame = 0; frame < params.frames; ++frame) {
    const T* rhs = static_cast<const T*>(params.rhs) + (track * params.frames + frame) * size;
    T* weights = static_cast<T*>(params.weights) + (track * params.frames + frame) * size;
    int broken = no_matrix;
    for (int i = threadIdx.x; i < size; i += blockDim.x) {
      p.b[i] = double(rhs[i]) + strength * double(last[i]);
      p.upper[i] = double(static_cast<const T*>(params.upper)[i]);
      broken |= !isfinite(p.b[i]);
    }
    if (__syncthreads_or(broken)) {
      for (int i = threadIdx.x; i < size; i += blockDim.x) weights[i] = T(not_a_number());
    } else {
      begin_at(p, last);
      const int passes = params.pair_count ? 2 : 1;
      for (int pass = 0; pass < passes; ++pass) {
        if (pass == 1) cancel(p, params.pairs, int(params.pair_count));
        solve_bounded(p);
      }
      const bool failed = isnan(p.b[0]);
      for (int i = threadIdx.x; i < size; i += blockDim.x) weights[i] = failed ? T(not_a_number()) : T(p.x[i]);
    }
    __syncthreads();
    last = weights;
  }
}
