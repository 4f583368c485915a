// Complex Fourier transforms of many rows in shared memory, by Stockham's method: each pass reads one buffer and writes
// the other, so nothing is reordered. A pass of radix R is R points in registers.
#pragma once

// exp(-2 pi i k / N) for k below N, as constants.
template <int N>
struct Roots {
  double re[N] = {};
  double im[N] = {};

  constexpr Roots() {
    for (int k = 0; k < N; ++k) {
      // Within an eighth of a turn of the nearest quarter, where the series is short.
      const int quarter = (8 * k + N) / (2 * N);
      const double angle = 6.283185307179586476925286766559 * (k - quarter * N / 4.0) / N;
      double c = 1, s = angle, term_c = 1, term_s = angle;
      for (int i = 1; i < 12; ++i) {
        term_c *= -angle * angle / ((2 * i - 1) * (2 * i));
        term_s *= -angle * angle / ((2 * i) * (2 * i + 1));
        c += term_c;
        s += term_s;
      }
      const int q = quarter % 4;
      re[k] = q == 0 ? c : q == 1 ? -s : q == 2 ? -c : s;
      im[k] = q == 0 ? -s : q == 1 ? -c : q == 2 ? s : c;
    }
  }
};

template <int N>
struct Root {
  static constexpr Roots<N> table{};
};

template <class T>
struct Complex {
  T re, im;
};

template <class T>
__device__ Complex<T> operator+(Complex<T> a, Complex<T> b) {
  return {a.re + b.re, a.im + b.im};
}
template <class T>
__device__ Complex<T> operator-(Complex<T> a, Complex<T> b) {
  return {a.re - b.re, a.im - b.im};
}
template <class T>
__device__ Complex<T> operator*(Complex<T> a, Complex<T> b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

// The transform of R numbers in place. Primes are summed; composite sizes are split A * B.
template <int R>
struct Butterfly;

template <>
struct Butterfly<2> {
  template <class T>
  static __device__ void run(Complex<T>* x) {
    const Complex<T> a = x[0], b = x[1];
    x[0] = a + b;
    x[1] = a - b;
  }
};

template <>
struct Butterfly<3> {
  template <class T>
  static __device__ void run(Complex<T>* x) {
    const T sine = T(0.86602540378443864676);
    const Complex<T> sum = x[1] + x[2], difference = x[1] - x[2];
    const Complex<T> middle = {x[0].re - T(0.5) * sum.re, x[0].im - T(0.5) * sum.im};
    x[0] = x[0] + sum;
    x[1] = {middle.re + sine * difference.im, middle.im - sine * difference.re};
    x[2] = {middle.re - sine * difference.im, middle.im + sine * difference.re};
  }
};

template <>
struct Butterfly<4> {
  template <class T>
  static __device__ void run(Complex<T>* x) {
    const Complex<T> a = x[0] + x[2], b = x[0] - x[2], c = x[1] + x[3], d = x[1] - x[3];
    x[0] = a + c;
    x[1] = {b.re + d.im, b.im - d.re};
    x[2] = a - c;
    x[3] = {b.re - d.im, b.im + d.re};
  }
};

template <>
struct Butterfly<5> {
  template <class T>
  static __device__ void run(Complex<T>* x) {
    // cos and sin of 2 pi / 5 and 4 pi / 5; the cosines are -1/4 plus and minus sqrt(5) / 4.
    const T root = T(0.55901699437494742410), s1 = T(0.95105651629515357212), s2 = T(0.58778525229247312917);
    const Complex<T> a = x[1] + x[4], b = x[1] - x[4], c = x[2] + x[3], d = x[2] - x[3], sum = a + c;
    const Complex<T> base = {x[0].re - T(0.25) * sum.re, x[0].im - T(0.25) * sum.im};
    const Complex<T> swing = {root * (a.re - c.re), root * (a.im - c.im)};
    const Complex<T> u = base + swing, v = base - swing;
    const Complex<T> p = {s1 * b.re + s2 * d.re, s1 * b.im + s2 * d.im};
    const Complex<T> q = {s2 * b.re - s1 * d.re, s2 * b.im - s1 * d.im};
    x[0] = x[0] + sum;
    x[1] = {u.re + p.im, u.im - p.re};
    x[2] = {v.re + q.im, v.im - q.re};
    x[3] = {v.re - q.im, v.im + q.re};
    x[4] = {u.re - p.im, u.im + p.re};
  }
};

// X[k + A l] = sum over b of W_N^(b k) W_B^(b l) sum over a of W_A^(a k) x[B a + b].
template <int A, int B>
struct Split {
  template <class T>
  static __device__ void run(Complex<T>* x) {
    Complex<T> rows[B][A];
#pragma unroll
    for (int b = 0; b < B; ++b) {
#pragma unroll
      for (int a = 0; a < A; ++a) rows[b][a] = x[B * a + b];
      Butterfly<A>::run(rows[b]);
    }
#pragma unroll
    for (int k = 0; k < A; ++k) {
      Complex<T> column[B];
#pragma unroll
      for (int b = 0; b < B; ++b) {
        const Complex<T> turn = {T(Root<A * B>::table.re[b * k]), T(Root<A * B>::table.im[b * k])};
        column[b] = b * k == 0 ? rows[b][k] : rows[b][k] * turn;
      }
      Butterfly<B>::run(column);
#pragma unroll
      for (int l = 0; l < B; ++l) x[k + A * l] = column[l];
    }
  }
};

template <>
struct Butterfly<8> : Split<2, 4> {};
template <>
struct Butterfly<16> : Split<4, 4> {};
template <>
struct Butterfly<25> : Split<5, 5> {};

// Division by a number that is known only now: one multiplication, exact while n * d stays below 2^32.
struct Divisor {
  unsigned d, magic;

  explicit __device__ Divisor(int divisor) : d(divisor), magic(0xffffffffu / d + 1) {}
  __device__ int quotient(int n) const { return d == 1 ? n : int(__umulhi(unsigned(n), magic)); }
};

// Rows of complex numbers, real and imaginary parts apart; one place in 33 is left out so that strides of a power of
// two meet different banks.
template <class T>
struct Rows {
  T* re;
  T* im;
  int stride;

  __device__ int place(int row, int i) const { return row * stride + i + (i >> 5); }
  __device__ Complex<T> operator()(int row, int i) const {
    const int at = place(row, i);
    return {re[at], im[at]};
  }
  __device__ void put(int row, int i, Complex<T> value) const {
    const int at = place(row, i);
    re[at] = value.re;
    im[at] = value.im;
  }
};

// One transform of `size` points for each row; `roots[k * root_step]` is exp(-2 pi i k / size).
template <class T>
struct Transform {
  int rows;
  int size;
  const Complex<T>* roots;
  int root_step;

  // `from(row, i)` is an input; `done` is the product of the radices of earlier passes.
  template <int R, class From>
  __device__ void pass(const From& from, const Rows<T>& to, int done) const {
    const int items = size / R, step = root_step * (items / done);
    const Divisor by_items(items), by_done(done);
    for (int item = threadIdx.x; item < rows * items; item += blockDim.x) {
      const int row = by_items.quotient(item), j = item - row * items, k = j - by_done.quotient(j) * done;
      Complex<T> x[R];
#pragma unroll
      for (int r = 0; r < R; ++r) {
        x[r] = from(row, j + r * items);
        if (r > 0 && done > 1) x[r] = x[r] * roots[r * k * step];
      }
      Butterfly<R>::run(x);
      const int first = (j - k) * R + k;
#pragma unroll
      for (int r = 0; r < R; ++r) to.put(row, first + r * done, x[r]);
    }
  }

  // As above for any radix, every result by itself.
  template <class From>
  __device__ void any_pass(const From& from, const Rows<T>& to, int done, int radix) const {
    const int items = size / radix;
    for (int item = threadIdx.x; item < rows * size; item += blockDim.x) {
      const int row = item / size, r = item % size / items, j = item % items, k = j % done;
      // The turn of one input, of `size`: k for the pass, r for the transform.
      const int turn = (k + r * done) * (items / done) % size;
      Complex<T> sum = {0, 0};
      int angle = 0;
      for (int i = 0; i < radix; ++i) {
        sum = sum + from(row, j + i * items) * roots[angle * root_step];
        angle += turn;
        if (angle >= size) angle -= size;
      }
      to.put(row, (j - k) * radix + k + r * done, sum);
    }
  }

  template <class From>
  __device__ void pass_of(int radix, const From& from, const Rows<T>& to, int done) const {
    switch (radix) {
      case 2:
        pass<2>(from, to, done);
        break;
      case 3:
        pass<3>(from, to, done);
        break;
      case 4:
        pass<4>(from, to, done);
        break;
      case 5:
        pass<5>(from, to, done);
        break;
      case 8:
        pass<8>(from, to, done);
        break;
      case 25:
        // 25 complex doubles do not fit into registers.
        if constexpr (sizeof(T) == 4) pass<25>(from, to, done);
        break;
      default:
        any_pass(from, to, done, radix);
    }
    __syncthreads();
  }

  // Every pass with a barrier behind it: `from` to `a` to `b` to `a` ...; gives the rows that hold the result.
  template <class From>
  __device__ Rows<T> run(const From& from, Rows<T> a, Rows<T> b, const int* radices, int radix_count) const {
    pass_of(radices[0], from, a, 1);
    for (int i = 1, done = radices[0]; i < radix_count; done *= radices[i], ++i) {
      pass_of(radices[i], a, b, done);
      const Rows<T> next = b;
      b = a;
      a = next;
    }
    return a;
  }
};
