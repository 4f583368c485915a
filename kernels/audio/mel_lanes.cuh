// The same way for the common sizes in float32, with a frame for each lane: points that a pass needs together are in
// one thread's registers, twiddles are the same for all lanes, and shared memory is met without conflicts.
#pragma once
#include "audio/mel_store.cuh"

// Transforms of n_fft = 2 A B samples, as A B complex points: first A transforms of B points, then B of A.
template <int A, int B>
struct Lanes {
  static constexpr int kFrames = 16;                  // of a tile
  static constexpr int kGroups = kThreads / kFrames;  // threads that share a frame
  static constexpr int kPoints = A * B;
  static constexpr int kFirst = 4;  // points of the butterfly's own first step
  static constexpr int kBins = kPoints + 1;
  static constexpr int kRow = 2 * kFrames;   // floats: a point of every frame, later its magnitude in the first half
  static constexpr int kRows = kPoints + 2;  // the points, the last bin, and zeros
  static constexpr int kAtOnce = 4;          // weights of a filter; the last ones of each are zeros
  static_assert(B % 2 == 0, "two columns are their own partners");

  const MelParams& p;
  float4* pairs;    // [point], half the window of its two samples, and where in `samples` they are
  float2* turns;    // [part, point], exp(-2 pi i part point / points)
  float2* roots;    // [points], exp(-2 pi i k / n_fft)
  float* points;    // [row, kRow]
  float* samples;   // rows of hop_length, `stride` apart
  float2* weights;  // [room], the filters' one after another, each with its bin's place in `points`, if they fit
  float* by_thread;
  Range* range;
  int* starts;  // [n_mels + 1], where each filter's weights begin
  int* firsts;  // [n_mels], its first bin
  int stride;   // of the rows of samples
  int frame, group;

  __device__ Lanes(const MelParams& params, float* shared) : p(params) {
    stride = p.row_stride;
    pairs = reinterpret_cast<float4*>(shared);
    turns = reinterpret_cast<float2*>(pairs + kPoints);
    roots = turns + kPoints;
    by_thread = reinterpret_cast<float*>(roots + kPoints);
    range = reinterpret_cast<Range*>(by_thread + kThreads);
    points = by_thread + kThreads + 8;
    samples = points + kRow * kRows;
    weights = reinterpret_cast<float2*>(samples + (rows() * stride + 3) / 4 * 4);
    starts = reinterpret_cast<int*>(weights + room());
    firsts = starts + p.n_mels + 1;
    frame = threadIdx.x % kFrames;
    group = threadIdx.x / kFrames;
  }

  __device__ int rows() const { return kFrames - 1 + (2 * kPoints + p.hop_length - 1) / p.hop_length; }
  // A frame's last pair is then half its own: its last sample, and a zero, stand behind the first of its rows.
  __device__ bool is_odd() const { return p.frame_length % 2 != 0; }
  // For the first frame.
  __device__ int place_of_sample(int i) const { return i / p.hop_length * stride + i % p.hop_length; }
  // Twice the bins are enough for triangles that meet their neighbours' middles.
  __device__ int room() const { return 2 * kBins + kAtOnce * p.n_mels; }
  __device__ static int place_of_bin(int bin) { return kRow * (bin == kPoints ? kPoints : bin % B * A + bin / B); }

  // Once for a block.
  __device__ void make_tables() const {
    if (threadIdx.x == 0) *range = Range(p);
    for (int k = threadIdx.x; k < kPoints; k += kThreads) {
      double sine, cosine;
      sincospi(double(k) / kPoints, &sine, &cosine);
      roots[k] = {float(cosine), float(-sine)};
      sincospi(2.0 * (k / B * (k % B)) / kPoints, &sine, &cosine);
      turns[k] = {float(cosine), float(-sine)};
    }
    const auto half_weight = [this](int i) {
      const int at = i - p.first_weight;
      return 0 <= at && at < p.win_length ? float(0.5 * p.window[at]) : 0.0f;
    };
    for (int i = threadIdx.x; i < kPoints; i += kThreads) {
      // What lies behind the frame has no weight, but must not be met: it may be no number.
      const bool is_own = 2 * i + 1 < p.frame_length;
      const int place = is_own ? place_of_sample(2 * i) : is_odd() ? p.hop_length : 0;
      pairs[i] = {half_weight(2 * i), half_weight(2 * i + 1), __int_as_float(place), 0.0f};
    }
    for (int mel = threadIdx.x; mel < p.n_mels; mel += kThreads) {
      firsts[mel] = band(mel, 0);
      starts[mel + 1] = (max(band(mel, 1) - band(mel, 0), 0) + kAtOnce - 1) / kAtOnce * kAtOnce;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      starts[0] = 0;
      for (int mel = 0; mel < p.n_mels; ++mel) starts[mel + 1] += starts[mel];
    }
    __syncthreads();
    for (int mel = threadIdx.x; fits() && mel < p.n_mels; mel += kThreads) {
      const int end = band(mel, 1);
      for (int i = starts[mel], bin = firsts[mel]; i < starts[mel + 1]; ++i, ++bin) {
        weights[i] = bin < end ? stored_weight(mel, bin) : float2{0.0f, __int_as_float(kRow * (kRows - 1))};
      }
    }
  }

  // Whether the weights have room; filters that overlap more than triangles do are read where they lie.
  __device__ bool fits() const { return starts[p.n_mels] <= room(); }
  __device__ float2 stored_weight(int mel, int bin) const {
    return {float(p.filters[mel * kBins + bin]), __int_as_float(place_of_bin(bin))};
  }
  __device__ int band(int mel, int end) const {
    const long long bin = p.bands[2 * mel + end];
    return bin < 0 ? 0 : bin > kBins ? kBins : int(bin);
  }

  // 1) The samples under the tile's frames.
  __device__ void load(const Clip<float>& clip, long long first_frame) const {
    const long long start = first_frame * p.hop_length + p.origin;
    const bool inside = start >= 0 && start + rows() * p.hop_length <= clip.count && p.preemphasis != 2;
    for (int row = threadIdx.x / 32; row < rows(); row += kThreads / 32) {
      float* to = samples + row * stride;
      const long long begin = start + row * p.hop_length;
      if (inside) {
        const float* __restrict__ from = clip.waveform + begin;
        for (int i = threadIdx.x % 32; i < p.hop_length; i += 32) to[i] = from[i] * float(p.input_scale);
      } else {
        for (int i = threadIdx.x % 32; i < p.hop_length; i += 32) to[i] = clip.at(p, begin + i);
      }
    }
    __syncthreads();
    if (!is_odd()) return;
    if (threadIdx.x < kFrames) {
      float* from = samples + threadIdx.x * stride;
      from[p.hop_length] = from[place_of_sample(p.frame_length - 1)];
      from[p.hop_length + 1] = 0.0f;
    }
    __syncthreads();
  }

  // 2) Windowed frames, two neighbouring samples a complex number, and 3) the transforms of every A-th of them.
  __device__ void transform_parts() const {
    for (int j = group; j < A; j += kGroups) {
      Complex<float> x[B];
      const float* from = samples + threadIdx.x % kFrames * stride;
#pragma unroll
      for (int i = 0; i < B; ++i) {
        const int r = i / kFirst + i % kFirst * (B / kFirst);  // as the butterfly takes them
        const float4 pair = pairs[j + A * r];
        const float2 sample = *reinterpret_cast<const float2*>(from + __float_as_int(pair.z));
        x[r] = {sample.x * pair.x, sample.y * pair.y};
        if (i % kFirst == kFirst - 1) asm volatile("" ::: "memory");  // registers do not hold more that is on its way
      }
      Butterfly<B>::run(x);
      const float2* turn = turns + B * j;
      float2* to = reinterpret_cast<float2*>(points + kRow * j) + frame;
#pragma unroll
      for (int k = 0; k < B; ++k) {
        if (k > 0) x[k] = x[k] * Complex<float>{turn[k].x, turn[k].y};
        to[kFrames * A * k] = {x[k].re, x[k].im};
      }
    }
    if (threadIdx.x < kRow) points[kRow * (kRows - 1) + threadIdx.x] = 0.0f;
    __syncthreads();
  }

  __device__ void read_column(int k, Complex<float>* x) const {
    const float2* from = reinterpret_cast<const float2*>(points + kRow * A * k) + frame;
#pragma unroll
    for (int j = 0; j < A; ++j) {
      const float2 value = from[kFrames * j];
      x[j] = {value.x, value.y};
    }
    Butterfly<A>::run(x);
  }

  // The powers of a bin and of its partner, points - bin, from their points of the transform of pairs.
  __device__ void put_powers(Complex<float> one, Complex<float> other, int bin, int row, int partner_row) const {
    const Complex<float> even = {one.re + other.re, one.im - other.im};
    const Complex<float> odd = {one.im + other.im, other.re - one.re};
    const Complex<float> turned = Complex<float>{roots[bin].x, roots[bin].y} * odd;
    points[kRow * row + frame] = power(even + turned);
    points[kRow * partner_row + frame] = power(even - turned);
  }

  __device__ static float power(Complex<float> x) { return x.re * x.re + x.im * x.im; }

  // 3) The transforms across the parts, a column and its partner at a time, and 4) their magnitudes in the same rows.
  __device__ void magnitudes() const {
    constexpr int kTasks = B / 2;
    for (int first = 0; first < kTasks; first += kGroups) {
      const int k = first + group, partner = k > 0 ? B - k : B / 2;
      Complex<float> u[A], v[A];
      if (k < kTasks) {
        read_column(k, u);
        read_column(partner, v);
      }
      __syncwarp();
      if (k == 0) {  // columns that are their own partners
#pragma unroll
        for (int l = 0; l <= A / 2; ++l) put_powers(u[l], u[(A - l) % A], B * l, l, l == 0 ? kPoints : A - l);
#pragma unroll
        for (int l = 0; l < A / 2; ++l) {
          put_powers(v[l], v[A - 1 - l], B / 2 + B * l, B / 2 * A + l, B / 2 * A + A - 1 - l);
        }
      } else if (k < kTasks) {
#pragma unroll
        for (int l = 0; l < A; ++l) {
          put_powers(u[l], v[A - 1 - l], k + B * l, k * A + l, partner * A + A - 1 - l);
        }
      }
    }
    __syncthreads();
    if (p.magnitude_epsilon < 0) return;
    for (int row = group; row <= kPoints; row += kGroups) {
      float& value = points[kRow * row + frame];
      value = sqrtf(value + float(p.magnitude_epsilon));
    }
    __syncthreads();
  }

  // 5) A band of a frame.
  __device__ float filtered(int mel, bool is_fitting) const {
    float sum = 0;
    const float* magnitudes = points + frame;
    const auto add = [&](float weight, float place) { sum += magnitudes[__float_as_int(place)] * weight; };
    if (is_fitting) {
      const int end = starts[mel + 1];
#pragma unroll 1
      for (int i = starts[mel]; i < end; i += kAtOnce) {
        const float4 one = *reinterpret_cast<const float4*>(weights + i);
        const float4 two = *reinterpret_cast<const float4*>(weights + i + 2);
        add(one.x, one.y), add(one.z, one.w), add(two.x, two.y), add(two.z, two.w);
      }
    } else {
      const int end = band(mel, 1);
      for (int bin = firsts[mel]; bin < end; ++bin) {
        const float2 weight = stored_weight(mel, bin);
        add(weight.x, weight.y);
      }
    }
    return sum;
  }
};
