// Tiles of frames across lanes for n_fft = 400 in float32: 16 and 25 have no common divisor, so that a sample's place
// (25 part + 16 point) % 400 leaves no turns between transforms of 25 points and of 16. The first are of real numbers,
// so that 13 of their bins are enough, and the second give the bins of the frame as they are.
#pragma once
#include "audio/mel_store.cuh"
#include "common/copy_later.cuh"
#include "common/real25.cuh"

template <int Frames>
struct Coprime {
  static constexpr int kFrames = Frames;  // of a tile
  static constexpr int kParts = 16, kPoints = 25, kSize = kParts * kPoints, kBins = kSize / 2 + 1;
  static constexpr int kColumns = kPoints / 2 + 1;   // bins of a part
  static constexpr int kGroups = kParts;             // threads that share a frame
  static constexpr int kBlock = kGroups * kFrames;   // threads
  static constexpr int kTaps = kPoints + 1;          // of a part, even
  static constexpr int kAtOnce = 4;                  // weights of a filter; the last ones of each are zeros
  static constexpr int kRows = kBins + kAtOnce - 1;  // the bins, and zeros

  // A filter's fours of weights, and the place of its first bin in `magnitudes`.
  struct alignas(16) Band {
    int begin, end, first, unused;
  };

  const MelParams& p;
  float2* points;        // [column, part, frame]
  float* magnitudes;     // [bin, frame], the same memory, when the points have been read
  float* by_thread;      // behind them
  float* samples;        // rows of hop_length, `row_stride` apart, not yet times the input's scale
  float2* taps;          // [part, kTaps], the window times that scale, and where in `samples` for the first frame
  unsigned short* bins;  // [column, part], where in `magnitudes` each bin goes, in bytes
  Range* range;
  Band* bands;     // [n_mels]
  float* weights;  // [room], the filters' one after another, if they fit
  int frame, group;

  __device__ Coprime(const MelParams& params, float* shared) : p(params) {
    points = reinterpret_cast<float2*>(shared);
    magnitudes = shared;
    by_thread = magnitudes + kRows * kFrames;
    static_assert(kRows * kFrames + kBlock <= 2 * kColumns * kParts * kFrames, "within the points' memory");
    taps = points + kColumns * kParts * kFrames;
    bins = reinterpret_cast<unsigned short*>(taps + kParts * kTaps);
    range = reinterpret_cast<Range*>(bins + kColumns * kParts);
    samples = reinterpret_cast<float*>(range) + 8;
    bands = reinterpret_cast<Band*>(samples + (rows() * p.row_stride + 3) / 4 * 4);
    weights = reinterpret_cast<float*>(bands + p.n_mels);
    frame = threadIdx.x % kFrames;
    group = threadIdx.x / kFrames;
  }

  __device__ int rows() const { return kFrames - 1 + (kSize + p.hop_length - 1) / p.hop_length; }
  // Twice the bins are enough for triangles that meet their neighbours' middles.
  __device__ int room() const { return 2 * kBins + 2 + kAtOnce * p.n_mels; }

  // Once for a block.
  __device__ void make_tables() const {
    if (threadIdx.x == 0) *range = Range(p);
    for (int i = threadIdx.x; i < kParts * kTaps; i += kBlock) {
      const int part = i / kTaps, point = i % kTaps, sample = (kPoints * part + kParts * point) % kSize;
      const int at = sample - p.first_weight;
      const bool has_weight = point < kPoints && sample < p.frame_length && 0 <= at && at < p.win_length;
      const int own = sample % p.frame_length;  // beyond its end a frame has no weight: one of its samples stands there
      const int place = own / p.hop_length * p.row_stride + own % p.hop_length;
      taps[i] = {has_weight ? float(p.window[at] * p.input_scale) : 0.0f, __int_as_float(place)};
    }
    for (int i = threadIdx.x; i < kColumns * kParts; i += kBlock) {
      // 176 leaves 1 and 0 when divided by 25 and 16, and 225 leaves 0 and 1.
      const int bin = (176 * (i / kParts) + 225 * (i % kParts)) % kSize;
      bins[i] = sizeof(float) * kFrames * min(bin, kSize - bin);
    }
    for (int mel = threadIdx.x; mel < p.n_mels; mel += kBlock) {
      const int first = band(mel, 0), count = band(mel, 1) - first;
      // An empty band has weights of zero from bin 0 on: behind its own place there may be no more bins.
      bands[mel] = {0, (max(count, 1) + kAtOnce - 1) / kAtOnce, count > 0 ? first * kFrames : 0, 0};
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      for (int mel = 1; mel < p.n_mels; ++mel) bands[mel].end += bands[mel].begin = bands[mel - 1].end;
    }
    __syncthreads();
    for (int mel = threadIdx.x; fits() && mel < p.n_mels; mel += kBlock) {
      const int first = band(mel, 0), end = band(mel, 1), begin = kAtOnce * bands[mel].begin;
      for (int i = begin; i < kAtOnce * bands[mel].end; ++i) {
        const int bin = first + i - begin;
        weights[i] = bin < end ? float(p.filters[mel * kBins + bin]) : 0.0f;
      }
    }
    __syncthreads();
  }

  // Whether the weights have room; filters that overlap more than triangles do are read where they lie.
  __device__ bool fits() const { return kAtOnce * bands[p.n_mels - 1].end <= room(); }
  __device__ int band(int mel, int end) const {
    const long long bin = p.bands[2 * mel + end];
    return bin < 0 ? 0 : bin > kBins ? kBins : int(bin);
  }

  // 1) Starts to copy the samples under a tile's frames, if all of them are the clip's own; `count` of those are there.
  __device__ bool fetch(unsigned clip, int first_frame, int count) const {
    const int start = first_frame * p.hop_length + p.origin, all = rows();
    if (start < 0 || start + all * p.hop_length > count || p.preemphasis == 2) return false;
    const float* from = static_cast<const float*>(p.waveform) + (long long)clip * p.samples + start;
    if (reinterpret_cast<unsigned long long>(from) % sizeof(float2) == 0 && p.hop_length % 2 == 0) {
      fetch_rows(reinterpret_cast<const float2*>(from), all, p.hop_length / 2);
    } else {
      fetch_rows(from, all, p.hop_length);
    }
    return true;
  }
  template <class T>
  __device__ void fetch_rows(const T* from, int all, int length) const {
    const int stride = p.row_stride * sizeof(float) / sizeof(T);
    for (int row = threadIdx.x / 32; row < all; row += kBlock / 32) {
      const T* own = from + row * length;
      T* to = reinterpret_cast<T*>(samples) + row * stride;
      for (int i = threadIdx.x % 32; i < length; i += 32) copy_later(to + i, own + i);
    }
  }
  // The same at a clip's edges, one by one.
  __device__ void load(unsigned clip, int first_frame) const {
    const Clip<float> own(p, clip);
    const int start = first_frame * p.hop_length + p.origin;
    for (int row = threadIdx.x / 32; row < rows(); row += kBlock / 32) {
      for (int i = threadIdx.x % 32; i < p.hop_length; i += 32) {
        samples[row * p.row_stride + i] = own.at(p, start + row * p.hop_length + i, 1.0f);
      }
    }
  }

  // 2) Windowed frames, and 3) the transforms of their parts, one for each group.
  __device__ void transform_parts() const {
    const float4* pairs = reinterpret_cast<const float4*>(taps + kTaps * group);
    const float* from = samples + frame * p.row_stride;
    Complex<float> x[kColumns];
    transform_real25(
        [&](int i) {
          const float4 pair = pairs[i / 2];
          return i % 2 ? from[__float_as_int(pair.w)] * pair.z : from[__float_as_int(pair.y)] * pair.x;
        },
        x);
    float2* to = points + threadIdx.x;
#pragma unroll
    for (int column = 0; column < kColumns; ++column) to[column * kBlock] = {x[column].re, x[column].im};
  }

  // The transforms across the parts, one for each column, and 4) the magnitudes of their bins.
  __device__ void find_magnitudes() const {
    const float2* from = points + min(group, kColumns - 1) * kBlock + frame;
    Complex<float> x[kParts];
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      const float2 value = from[kFrames * part];
      x[part] = {value.x, value.y};
    }
    __syncthreads();
    if (group >= kColumns) {  // as many groups as rows of zeros
      magnitudes[kFrames * (kBins + group - kColumns) + frame] = 0.0f;
      return;
    }
    transform16(x);
    float powers[kParts];
#pragma unroll
    for (int i = 0; i < kParts; ++i) powers[i] = x[i].re * x[i].re + x[i].im * x[i].im;
    const float epsilon = range->epsilon;
    if (epsilon >= 0) {
#pragma unroll
      for (int i = 0; i < kParts; ++i) powers[i] = sqrtf(powers[i] + epsilon);
    }
    char* to = reinterpret_cast<char*>(magnitudes + frame);
    const uint4* eight = reinterpret_cast<const uint4*>(bins + kParts * group);
    const uint4 low = eight[0], high = eight[1];
    const unsigned places[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
    for (int i = 0; i < kParts; ++i) {
      const int bin = i / 4 + i % 4 * 4;
      const unsigned place = bin % 2 ? places[bin / 2] >> 16 : places[bin / 2] & 0xffffu;
      *reinterpret_cast<float*>(to + place) = powers[i];
    }
  }

  // 5) A band of a frame. Weights behind its last bin are zeros.
  __device__ float filtered(int mel, bool is_fitting) const {
    float sum = 0;
    const Band of = bands[mel];
    const float* from = magnitudes + frame + of.first;
    if (is_fitting) {
      int i = of.begin;
#pragma unroll 1
      do {  // a band has four weights at least
        const float4 four = reinterpret_cast<const float4*>(weights)[i];
        sum += from[0] * four.x;
        sum += from[kFrames] * four.y;
        sum += from[2 * kFrames] * four.z;
        sum += from[3 * kFrames] * four.w;
        from += kAtOnce * kFrames;
      } while (++i < of.end);
    } else {
      const double* weight = p.filters + mel * kBins;
#pragma unroll 1
      for (int bin = band(mel, 0); bin < band(mel, 1); ++bin, from += kFrames) sum += *from * float(weight[bin]);
    }
    return sum;
  }
};
