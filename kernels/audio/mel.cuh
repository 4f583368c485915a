// What the forward and the backward kernel of a spectrogram share: parameters, samples, and the way from a tile of
// neighbouring frames to its spectra, all in shared memory.
#pragma once
#include "common/fourier.cuh"

constexpr int kThreads = 128;

struct MelParams {
  const void* waveform;      // [clip, sample]
  const double* window;      // [win_length]
  const double* filters;     // [n_mels, bin]
  const long long* bands;    // [n_mels, 2], the bins that each filter touches, first and end
  const long long* lengths;  // [clip], the samples that count; null where all do
  const void* grad;          // backward: of the values, in their layout; null in the forward pass
  void* values;              // [clip, n_mels, frame], or [clip, frame, n_mels]; backward: grad_logs, so laid out
  void* logs;                // backward: the logarithms, so laid out
  void* peaks;               // [clip, frame], each frame's largest logarithm; null where nobody asks
  void* loudest;             // [clip + 1], the last of all clips; or so far, [clip, frame]
  double* totals;            // backward: [clip, 2], what reached the floors, and how many values share it
  double* of_frames;         // backward, so far: [clip, frame], what reached each frame's floor
  void* grad_frames;         // backward: [clip, frame, frame sample]
  void* grad_waveform;       // backward: [clip, sample]
  long long clips;
  long long samples;   // of a clip
  long long n_frames;  // of a clip
  long long tiles;     // of a clip
  long long padding_length;
  double input_scale;
  double preemphasis_coefficient;
  double magnitude_epsilon;  // below zero for power
  double guard_value;
  double range_below;
  double range_constant;
  double scale;
  double offset;
  int n_fft;
  int frame_length;
  int first_weight;  // the sample of a frame at which the window begins
  int win_length;
  int n_mels;
  int hop_length;
  int origin;  // first sample of frame 0
  int beyond;  // past the ends: 0 nothing, 1 zeros, 2 reflected, 3 mirrored
  int drop_last;
  int padding;  // 0 none, 1 to, 2 append padding_length
  int remove_dc;
  int preemphasis;  // 0 none, 1 in each frame, 2 over the clip
  int log;          // 0 none, 1 natural, 2 decimal
  int guard;        // 0 at least, 1 plus guard_value
  int loudest_of;   // 0 nothing, 1 clip, 2 batch, 3 so far, 4 constant
  int normalize_bands;
  int frame_major;
  int is_scaled;    // the forward kernel applies scale and offset, and a floor that is known
  int frames_log2;  // of a tile
  int points;       // of the complex transform: n_fft / 2, or n_fft where that is odd
  int row_stride;   // places of a frame, or in `Lanes` of the samples of one hop, in shared memory
  int radix_count;
  int radices[16];
};
static_assert(sizeof(MelParams) == 19 * 8 + 8 * 8 + 38 * 4, "the twin in cuda.rs has the same fields");

// One clip and its own length.
template <class T>
struct Clip {
  const T* waveform;
  long long count;   // samples that count
  long long length;  // after padding
  long long frames;
  bool is_bad;  // too short for its edges, or a length out of range: its values are not numbers

  __device__ Clip(const MelParams& p, long long clip) {
    waveform = static_cast<const T*>(p.waveform) + clip * p.samples;
    count = p.lengths ? p.lengths[clip] : p.samples;
    const bool in_range = 0 <= count && count <= p.samples;
    if (!in_range) count = 0;
    length = p.padding == 1 ? p.padding_length : p.padding == 2 ? count + p.padding_length : count;
    const long long reach = p.origin < 0 && p.beyond != 3 ? -p.origin : 0;
    const long long room =
        p.beyond == 3 ? length + p.hop_length / 2 : length + 2 * reach - p.frame_length + p.hop_length;
    // A clip has less than 2^30 samples: 32 bits hold every quotient.
    frames = room > 0 ? unsigned(room) / unsigned(p.hop_length) : 0;
    if (p.drop_last) frames -= frames > 0;
    if (frames > p.n_frames) frames = p.n_frames;
    const long long least = p.beyond == 2 ? reach + 1 : p.beyond == 0 ? 0 : 1;
    is_bad = !in_range || (count > 0 && length < least);
    if (count == 0 && p.lengths) frames = 0;
    if (is_bad) frames = p.n_frames;
    if (count > length) count = length;  // padding cuts the others off: nothing may read them
  }

  // The conditioned sample that stands at a place of the endless axis, or -1 for none.
  __device__ long long source(const MelParams& p, long long i) const {
    if (p.beyond == 2) {
      i = i < 0 ? -i : i;
      if (i >= length) i = 2 * (length - 1) - i;
    } else if (p.beyond == 3) {
      const int period = length > 0 ? 2 * int(length) : 2;
      i = int(i) % period;
      if (i < 0) i += period;
      if (i >= length) i = period - 1 - i;
    }
    // One place past the samples holds the echo of pre-emphasis in appended zeros.
    return 0 <= i && i < length && i <= count ? i : -1;
  }

  __device__ T at(const MelParams& p, long long place) const { return at(p, place, T(p.input_scale)); }
  __device__ T at(const MelParams& p, long long place, T scale) const {
    const long long i = source(p, place);
    if (i < 0) return 0;
    T value = i < count ? waveform[i] * scale : T(0);
    if (p.preemphasis == 2 && i > 0) value -= T(p.preemphasis_coefficient) * (waveform[i - 1] * scale);
    return value;
  }
};

// A value's place in its clip.
__device__ __forceinline__ long long value_place(const MelParams& p, int mel, long long frame) {
  return p.frame_major ? frame * p.n_mels + mel : mel * p.n_frames + frame;
}

// The shared memory of a block, and the tables in it.
template <class T>
struct Tile {
  const MelParams& p;
  int frames;         // 1 << p.frames_log2
  int bins;           // n_fft / 2 + 1
  Complex<T>* roots;  // [n_fft], exp(-2 pi i k / n_fft)
  T* window;          // [frame_length]
  T* window_rest;     // [frame_length], what rounding took from it
  T* weights;         // [2 bins], the filters' one after another, if they fit
  T* samples;         // [span]
  Rows<T> a, b;       // [frames, points]
  T* means;           // [frames]
  T* by_thread;       // [thread]
  T* of_mel;          // [mel, frame], backward
  int* starts;        // [n_mels + 1], where each filter's weights begin
  int* firsts;        // [n_mels], its first bin
  int* touching;      // [bin, 2], backward: the filters that touch a bin lie from the one to the other

  __device__ Tile(const MelParams& params, T* shared) : p(params) {
    frames = 1 << p.frames_log2;
    bins = p.n_fft / 2 + 1;
    roots = reinterpret_cast<Complex<T>*>(shared);
    window = shared + 2 * p.n_fft;
    window_rest = window + p.frame_length;
    weights = window_rest + p.frame_length;
    samples = weights + 2 * bins;
    T* rows = samples + span();
    const int room = frames * p.row_stride;
    a = {rows, rows + room, p.row_stride};
    b = {rows + 2 * room, rows + 3 * room, p.row_stride};
    means = rows + 4 * room;
    by_thread = means + frames;
    of_mel = by_thread + kThreads;
    starts = reinterpret_cast<int*>(of_mel + (p.grad_frames ? p.n_mels * frames : 0));
    firsts = starts + p.n_mels + 1;
    touching = firsts + p.n_mels;
  }

  __device__ int span() const { return (frames - 1) * p.hop_length + p.frame_length; }

  __device__ int band(int mel, int end) const {
    const long long bin = p.bands[2 * mel + end];
    return bin < 0 ? 0 : bin > bins ? bins : int(bin);
  }

  // Once for a block.
  __device__ void make_tables() const {
    for (int k = threadIdx.x; k < p.n_fft; k += blockDim.x) {
      double sine, cosine;
      sincospi(2.0 * k / p.n_fft, &sine, &cosine);
      roots[k] = {T(cosine), T(-sine)};
    }
    for (int i = threadIdx.x; i < p.frame_length; i += blockDim.x) {
      const int at = i - p.first_weight;
      const double weight = 0 <= at && at < p.win_length ? p.window[at] : 0.0;
      window[i] = T(weight);
      window_rest[i] = T(weight - double(T(weight)));
    }
    for (int mel = threadIdx.x; mel <= p.n_mels; mel += blockDim.x) {
      int start = 0;
      for (int i = 0; i < mel; ++i) start += max(band(i, 1) - band(i, 0), 0);
      starts[mel] = start;
      if (mel < p.n_mels) firsts[mel] = band(mel, 0);
    }
    __syncthreads();
    for (int mel = threadIdx.x; fits() && mel < p.n_mels; mel += blockDim.x) {
      for (int i = starts[mel]; i < starts[mel + 1]; ++i) weights[i] = stored_weight(mel, i);
    }
    __syncthreads();
  }

  // Whether the weights have room; filters that overlap more than triangles do are read where they lie.
  __device__ bool fits() const { return starts[p.n_mels] <= 2 * bins; }
  __device__ T stored_weight(int mel, int i) const {
    return T(p.filters[(long long)mel * bins + firsts[mel] + i - starts[mel]]);
  }
  __device__ T weight(int mel, int i) const { return fits() ? weights[i] : stored_weight(mel, i); }

  // 1) The samples under the tile's frames.
  __device__ void load(const Clip<T>& clip, long long first_frame) const {
    const long long start = first_frame * p.hop_length + p.origin;
    if (start >= 0 && start + span() <= clip.count && p.preemphasis != 2) {
      const T* __restrict__ from = clip.waveform + start;
      for (int i = threadIdx.x; i < span(); i += kThreads) samples[i] = from[i] * T(p.input_scale);
    } else {
      for (int i = threadIdx.x; i < span(); i += kThreads) samples[i] = clip.at(p, start + i);
    }
    __syncthreads();
    if (!p.remove_dc) return;
    for (int frame = threadIdx.x; frame < frames; frame += blockDim.x) {
      double sum = 0;
      for (int i = 0; i < p.frame_length; ++i) sum += samples[frame * p.hop_length + i];
      means[frame] = T(sum / p.frame_length);
    }
    __syncthreads();
  }

  __device__ T centred(int frame, int i) const {
    return samples[frame * p.hop_length + i] - (p.remove_dc ? means[frame] : T(0));
  }

  // A sample of a frame, prepared and windowed; zero after the frame's end.
  __device__ T windowed(int frame, int i) const {
    if (i >= p.frame_length) return 0;
    T x = centred(frame, i);
    if (p.preemphasis == 1) x -= T(p.preemphasis_coefficient) * centred(frame, i > 0 ? i - 1 : 0);
    return x * window[i] + x * window_rest[i];
  }

  __device__ bool is_even() const { return p.points < p.n_fft; }
  __device__ Transform<T> transform() const { return {frames, p.points, roots, is_even() ? 2 : 1}; }

  // 2) Windowed frames, two neighbouring samples a complex number, and 3) their transforms.
  __device__ Rows<T> spectra() const {
    const auto pairs = [this](int frame, int i) -> Complex<T> {
      if (is_even()) return {windowed(frame, 2 * i), windowed(frame, 2 * i + 1)};
      return {windowed(frame, i), T(0)};
    };
    return transform().run(pairs, a, b, p.radices, p.radix_count);
  }

  // The bin k of a frame, and the conjugate of its bin points - k, from the transform of pairs; else bin k alone.
  __device__ void bins_of(const Rows<T>& z, int frame, int k, Complex<T>& low, Complex<T>& high) const {
    const Complex<T> one = z(frame, k);
    if (!is_even()) {
      low = high = one;
      return;
    }
    const Complex<T> other = z(frame, k == 0 ? 0 : p.points - k);
    const Complex<T> even = {T(0.5) * (one.re + other.re), T(0.5) * (one.im - other.im)};
    const Complex<T> odd = {T(0.5) * (one.im + other.im), T(0.5) * (other.re - one.re)};
    const Complex<T> turned = roots[k] * odd;
    low = even + turned;
    high = even - turned;
  }

  // Bins that stand for themselves and their partner.
  __device__ int bin_pairs() const { return is_even() ? p.points / 2 + 1 : bins; }

  __device__ T magnitude(Complex<T> x) const {
    const T power = x.re * x.re + x.im * x.im;
    return p.magnitude_epsilon < 0 ? power : sqrt(power + T(p.magnitude_epsilon));
  }

  // 4) Spectra to magnitudes, [bin, frame], in the buffer that the spectra left free.
  __device__ T* magnitudes(const Rows<T>& z) const {
    T* to = z.re == a.re ? b.re : a.re;
    for (int item = threadIdx.x; item < frames * bin_pairs(); item += blockDim.x) {
      const int frame = item & (frames - 1), k = item >> p.frames_log2;
      Complex<T> low, high;
      bins_of(z, frame, k, low, high);
      to[k * frames + frame] = magnitude(low);
      if (is_even()) to[(p.points - k) * frames + frame] = magnitude(high);
    }
    __syncthreads();
    return to;
  }

  // A band of a frame.
  __device__ T filtered(const T* magnitudes, int mel, int frame) const {
    T sum = 0;
    for (int i = starts[mel], k = firsts[mel]; i < starts[mel + 1]; ++i, ++k) {
      sum += magnitudes[k * frames + frame] * weight(mel, i);
    }
    return sum;
  }

  __device__ T logarithm(T value) const {
    if (p.log == 0) return value;
    const T guard = T(p.guard_value);
    value = p.guard == 1 ? value + guard : value < guard ? guard : value;
    return p.log == 1 ? log(value) : log10(value);
  }
};
