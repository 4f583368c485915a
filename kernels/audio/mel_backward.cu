// Gradients of log-mel spectrograms to those of waveforms, the steps of mel.cu transposed, last to first. Sums have one
// fixed order: a frame's gradient is stored, and every sample gathers from the frames over it.
#include "audio/mel.cuh"

extern __shared__ double shared_memory[];

constexpr double kLog10OfE = 0.43429448190325182765;

// What a frame's values are raised to.
template <class T>
__device__ double floor_of(const MelParams& p, long long clip, long long frame) {
  const T* loudest = static_cast<const T*>(p.loudest);
  switch (p.loudest_of) {
    case 1:
      return loudest[clip] - T(p.range_below);
    case 2:
      return (loudest[clip] != loudest[clip] ? loudest[clip] : loudest[p.clips]) - T(p.range_below);
    case 3:
      return loudest[clip * p.n_frames + frame] - T(p.range_below);
    case 4:
      return T(p.range_constant - p.range_below);
    default:
      return __longlong_as_double(0xfff0000000000000ll);
  }
}

// How much of a value's gradient stays with it: half where it ties with its floor.
__device__ double share_above(double value, double floor) { return value > floor ? 1.0 : value < floor ? 0.0 : 0.5; }

__device__ double sum_over_block(double value, double* partial) {
  partial[threadIdx.x] = value;
  __syncthreads();
  double sum = 0;
  for (int other = 0; other < kThreads; ++other) sum += partial[other];
  __syncthreads();
  return sum;
}

// Gradients of normalised bands to those of bands that were only raised and scaled. A block for a band of a clip.
template <class T>
__global__ void __launch_bounds__(kThreads) normalize_backward(const MelParams p) {
  __shared__ double partial[kThreads];
  const long long clip = blockIdx.x / unsigned(p.n_mels), frames = Clip<T>(p, clip).frames;
  const int mel = blockIdx.x % unsigned(p.n_mels);
  const long long row = clip * p.n_mels * p.n_frames;
  const T* logs = static_cast<const T*>(p.logs) + row;
  const T* grad = static_cast<const T*>(p.grad) + row;
  T* to = static_cast<T*>(p.values) + row;
  const auto value = [&](long long frame) {
    const double log = logs[value_place(p, mel, frame)], floor = floor_of<T>(p, clip, frame);
    return p.scale * (log < floor ? floor : log);
  };
  double sum = 0, of_grad = 0;
  for (long long frame = threadIdx.x; frame < frames; frame += blockDim.x) {
    sum += value(frame);
    of_grad += grad[value_place(p, mel, frame)];
  }
  const double mean = sum_over_block(sum, partial) / frames, mean_grad = sum_over_block(of_grad, partial) / frames;
  double squares = 0, along = 0;
  for (long long frame = threadIdx.x; frame < frames; frame += blockDim.x) {
    const double centred = value(frame) - mean;
    squares += centred * centred;
    along += grad[value_place(p, mel, frame)] * centred;
  }
  squares = sum_over_block(squares, partial);
  along = sum_over_block(along, partial);
  const double deviation = frames > 1 ? sqrt(squares / (frames - 1)) : 0.0, divisor = deviation + 1e-5;
  const double scale = 1 / divisor;
  const double slope = deviation > 0 ? along / ((frames - 1) * deviation * divisor) : 0.0;
  for (long long frame = threadIdx.x; frame < frames; frame += blockDim.x) {
    const long long at = value_place(p, mel, frame);
    to[at] = T((grad[at] - mean_grad - slope * (value(frame) - mean)) * scale);
  }
}

// Gradients of raised and scaled values to those of logarithms, but for what the loudest ones receive. A block for a
// clip.
template <class T>
__global__ void __launch_bounds__(kThreads) range_backward(const MelParams p) {
  __shared__ double partial[kThreads];
  const long long clip = blockIdx.x, frames = Clip<T>(p, clip).frames, row = clip * p.n_mels * p.n_frames;
  const T* logs = static_cast<const T*>(p.logs) + row;
  const T* grad = static_cast<const T*>(p.normalize_bands ? p.values : p.grad) + row;
  T* to = static_cast<T*>(p.values) + row;
  const T* loudest = static_cast<const T*>(p.loudest);
  const double whole = p.loudest_of == 1 ? loudest[clip] : p.loudest_of == 2 ? loudest[p.clips] : T(0);
  double of_floors = 0, loudest_ones = 0;
  for (long long frame = threadIdx.x; frame < p.n_frames; frame += blockDim.x) {
    const double floor = frame < frames ? floor_of<T>(p, clip, frame) : 0.0;
    double of_frame = 0;
    for (int mel = 0; mel < p.n_mels; ++mel) {
      const long long at = value_place(p, mel, frame);
      if (frame >= frames) {
        to[at] = 0;
        continue;
      }
      const double scaled = p.scale * grad[at], log = logs[at], share = share_above(log, floor);
      to[at] = T(scaled * share);
      of_frame += scaled * (1 - share);
      loudest_ones += log >= whole;
    }
    of_floors += of_frame;
    if (p.of_frames) p.of_frames[clip * p.n_frames + frame] = of_frame;
  }
  of_floors = sum_over_block(of_floors, partial);
  loudest_ones = sum_over_block(loudest_ones, partial);
  if (threadIdx.x == 0 && p.totals) {
    p.totals[2 * clip] = of_floors;
    p.totals[2 * clip + 1] = loudest_ones;
  }
}

// What reached the floors, to the values that they hang on. A block for a clip.
template <class T>
__global__ void __launch_bounds__(kThreads) loudest_backward(const MelParams p) {
  __shared__ double partial[kThreads];
  const long long clip = blockIdx.x, frames = Clip<T>(p, clip).frames, row = clip * p.n_mels * p.n_frames;
  const T* logs = static_cast<const T*>(p.logs) + row;
  const T* peaks = static_cast<const T*>(p.peaks) + clip * p.n_frames;
  const T* loudest = static_cast<const T*>(p.loudest);
  T* to = static_cast<T*>(p.values) + row;
  if (p.loudest_of == 3) {
    const T* so_far = loudest + clip * p.n_frames;
    double* of_frames = p.of_frames + clip * p.n_frames;
    // A frame that is the loudest so far receives for itself and the quieter ones after it.
    if (threadIdx.x == 0) {
      double sum = 0;
      for (long long frame = frames - 1; frame >= 0; --frame) {
        sum += of_frames[frame];
        const bool receives = peaks[frame] == so_far[frame];
        of_frames[frame] = receives ? sum : 0.0;
        if (receives) sum = 0;
      }
    }
    __syncthreads();
    for (long long frame = threadIdx.x; frame < frames; frame += blockDim.x) {
      int equal = 0;
      for (int mel = 0; mel < p.n_mels; ++mel) equal += logs[value_place(p, mel, frame)] == peaks[frame];
      if (of_frames[frame] == 0 || equal == 0) continue;
      const T share = T(of_frames[frame]) / T(equal);
      for (int mel = 0; mel < p.n_mels; ++mel) {
        const long long at = value_place(p, mel, frame);
        if (logs[at] == peaks[frame]) to[at] += share;
      }
    }
    return;
  }
  double total = 0, count = 0;
  const long long begin = p.loudest_of == 2 ? 0 : clip, end = p.loudest_of == 2 ? p.clips : clip + 1;
  for (long long other = begin + threadIdx.x; other < end; other += blockDim.x) {
    total += p.totals[2 * other];
    count += p.totals[2 * other + 1];
  }
  total = sum_over_block(total, partial);
  count = sum_over_block(count, partial);
  if (total == 0) return;
  const T share = T(total / count);
  const T whole = loudest[p.loudest_of == 2 ? p.clips : clip];
  for (long long frame = threadIdx.x; frame < frames; frame += blockDim.x) {
    if (peaks[frame] < whole) continue;
    for (int mel = 0; mel < p.n_mels; ++mel) {
      const long long at = value_place(p, mel, frame);
      if (logs[at] >= whole) to[at] += share;
    }
  }
}

template <class T>
__device__ void find_filters(const Tile<T>& tile) {
  for (int k = threadIdx.x; k < tile.bins; k += blockDim.x) {
    int first = tile.p.n_mels, end = 0;
    for (int mel = 0; mel < tile.p.n_mels; ++mel) {
      const int at = k - tile.firsts[mel];
      if (at < 0 || at >= tile.starts[mel + 1] - tile.starts[mel]) continue;
      first = min(first, mel);
      end = mel + 1;
    }
    tile.touching[2 * k] = first;
    tile.touching[2 * k + 1] = end;
  }
}

// Gradients of logarithms to those of the filters' values, [mel, frame].
template <class T>
__device__ void back_through_log(const Tile<T>& tile, const T* magnitudes, long long clip, long long first,
                                 long long frames) {
  const MelParams& p = tile.p;
  const T* grad = static_cast<const T*>(p.values) + clip * p.n_mels * p.n_frames;
  for (int item = threadIdx.x; item < p.n_mels << p.frames_log2; item += blockDim.x) {
    const int frame = item & (tile.frames - 1), mel = item >> p.frames_log2;
    T g = first + frame < frames ? grad[value_place(p, mel, first + frame)] : T(0);
    if (g != 0 && p.log != 0) {
      const T value = tile.filtered(magnitudes, mel, frame), guard = T(p.guard_value);
      const T slope = p.guard == 1 ? 1 / (value + guard) : value < guard ? T(0) : 1 / value;
      g *= p.log == 1 ? slope : T(kLog10OfE) * slope;
    }
    tile.of_mel[item] = g;
  }
  __syncthreads();
}

// Gradients of the filters' values to those of powers, [bin, frame], in place of the magnitudes.
template <class T>
__device__ void back_through_filters(const Tile<T>& tile, T* magnitudes) {
  for (int item = threadIdx.x; item < tile.bins << tile.p.frames_log2; item += blockDim.x) {
    const int frame = item & (tile.frames - 1), k = item >> tile.p.frames_log2;
    T sum = 0;
    for (int mel = tile.touching[2 * k]; mel < tile.touching[2 * k + 1]; ++mel) {
      const int at = k - tile.firsts[mel];
      if (at < 0 || at >= tile.starts[mel + 1] - tile.starts[mel]) continue;
      sum += tile.of_mel[mel * tile.frames + frame] * tile.weight(mel, tile.starts[mel] + at);
    }
    if (tile.p.magnitude_epsilon >= 0) {
      const T root = magnitudes[item];
      sum = root > 0 ? sum / (2 * root) : T(0);
    }
    magnitudes[item] = sum;
  }
  __syncthreads();
}

template <class T>
__device__ Complex<T> conjugate(Complex<T> x) {
  return {x.re, -x.im};
}

// Gradients of powers to the conjugates of those of the transform, in place: a bin's is 2 X g, and the transform of
// pairs gave X[k] = E + W^k O, X[points - k]* = E - W^k O with E = (Z[k] + Z[-k]*) / 2, O = -i (Z[k] - Z[-k]*) / 2.
template <class T>
__device__ void back_through_bins(const Tile<T>& tile, const Rows<T>& z, const T* of_power) {
  const MelParams& p = tile.p;
  if (!tile.is_even()) {
    for (int item = threadIdx.x; item < p.points << p.frames_log2; item += blockDim.x) {
      const int frame = item & (tile.frames - 1), k = item >> p.frames_log2;
      const T g = k < tile.bins ? 2 * of_power[k * tile.frames + frame] : T(0);
      const Complex<T> x = z(frame, k);
      z.put(frame, k, {g * x.re, -g * x.im});
    }
    __syncthreads();
    return;
  }
  for (int item = threadIdx.x; item < tile.bin_pairs() << p.frames_log2; item += blockDim.x) {
    const int frame = item & (tile.frames - 1), k = item >> p.frames_log2, partner = k == 0 ? 0 : p.points - k;
    Complex<T> low, high;
    tile.bins_of(z, frame, k, low, high);
    // Bins 0 and points meet in Z[0]; a bin in the middle is its own partner and counts once.
    const T g_low = 2 * of_power[k * tile.frames + frame];
    const T g_high = partner == k && k != 0 ? T(0) : 2 * of_power[(p.points - k) * tile.frames + frame];
    const Complex<T> x = {g_low * low.re, g_low * low.im}, y = {g_high * high.re, g_high * high.im};
    const Complex<T> even = x + y, turned = conjugate(tile.roots[k]) * (x - y);
    // O to Z: the adjoint of -i / 2 is i / 2.
    const Complex<T> odd = {-turned.im, turned.re};
    const Complex<T> one = even + odd, other = conjugate(even - odd);
    if (partner == k) {
      const Complex<T> both = one + other;
      z.put(frame, k, {T(0.5) * both.re, T(-0.5) * both.im});
    } else {
      z.put(frame, k, {T(0.5) * one.re, T(-0.5) * one.im});
      z.put(frame, partner, {T(0.5) * other.re, T(-0.5) * other.im});
    }
  }
  __syncthreads();
}

// A windowed frame's gradient at sample i, times the window, from the transform of conjugates.
template <class T>
__device__ T windowed_gradient(const Tile<T>& tile, const Rows<T>& z, int frame, int i) {
  if (i >= tile.p.frame_length) return 0;
  const Complex<T> value = z(frame, tile.is_even() ? i / 2 : i);
  const T g = tile.is_even() && i % 2 == 1 ? -value.im : value.re;
  return g * tile.window[i] + g * tile.window_rest[i];
}

// The same before pre-emphasis.
template <class T>
__device__ T emphasized_gradient(const Tile<T>& tile, const Rows<T>& z, int frame, int i) {
  T g = windowed_gradient(tile, z, frame, i);
  if (tile.p.preemphasis == 1) {
    const T next = windowed_gradient(tile, z, frame, i + 1) + (i == 0 ? g : T(0));
    g -= T(tile.p.preemphasis_coefficient) * next;
  }
  return g;
}

// Gradients of logarithms to those of frames.
template <class T>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 4 ? 4 : 1) log_mel_backward(const MelParams p) {
  const Tile<T> tile(p, reinterpret_cast<T*>(shared_memory));
  tile.make_tables();
  find_filters(tile);
  for (long long at = blockIdx.x; at < p.clips * p.tiles; at += gridDim.x) {
    const long long clip = unsigned(at) / unsigned(p.tiles), first = (at - clip * p.tiles) << p.frames_log2;
    const Clip<T> own(p, clip);
    __syncthreads();
    if (first >= own.frames) continue;
    tile.load(own, first);
    Rows<T> z = tile.spectra();
    T* magnitudes = tile.magnitudes(z);
    back_through_log(tile, magnitudes, clip, first, own.frames);
    back_through_filters(tile, magnitudes);
    back_through_bins(tile, z, magnitudes);
    z = tile.transform().run(z, z.re == tile.a.re ? tile.b : tile.a, z, p.radices, p.radix_count);
    for (int frame = threadIdx.x; p.remove_dc && frame < tile.frames; frame += blockDim.x) {
      double sum = 0;
      for (int i = 0; i < p.frame_length; ++i) sum += emphasized_gradient(tile, z, frame, i);
      tile.means[frame] = T(sum / p.frame_length);
    }
    __syncthreads();
    T* to = static_cast<T*>(p.grad_frames) + (clip * p.n_frames + first) * p.frame_length;
    const Divisor by_length(p.frame_length);
    for (int item = threadIdx.x; item < tile.frames * p.frame_length; item += blockDim.x) {
      const int frame = by_length.quotient(item), i = item - frame * p.frame_length;
      if (first + frame >= own.frames) break;
      to[item] = emphasized_gradient(tile, z, frame, i) - (p.remove_dc ? tile.means[frame] : T(0));
    }
  }
}

// The gradient at a place of the endless axis: of every frame over it.
template <class T>
__device__ T gathered(const MelParams& p, const Clip<T>& clip, const T* grad_frames, long long place) {
  const long long from_origin = place - p.origin;
  if (from_origin < 0) return 0;
  long long frame = from_origin - p.frame_length + p.hop_length;
  frame = frame > 0 ? unsigned(frame) / unsigned(p.hop_length) : 0;
  T sum = 0;
  for (; frame < clip.frames && frame * p.hop_length <= from_origin; ++frame) {
    const long long i = from_origin - frame * p.hop_length;
    if (i < p.frame_length) sum += grad_frames[frame * p.frame_length + i];
  }
  return sum;
}

// The gradient of a conditioned sample: of its own place and of those where it stands beyond an end.
template <class T>
__device__ T conditioned_gradient(const MelParams& p, const Clip<T>& clip, const T* grad_frames, long long i) {
  if (i >= clip.length) return 0;
  T sum = gathered(p, clip, grad_frames, i);
  const long long last = p.origin + (clip.frames - 1) * p.hop_length + p.frame_length - 1;
  if (p.beyond == 2) {
    if (i > 0 && -i >= p.origin) sum += gathered(p, clip, grad_frames, -i);
    const long long mirrored = 2 * (clip.length - 1) - i;
    if (mirrored >= clip.length && mirrored <= last) sum += gathered(p, clip, grad_frames, mirrored);
  } else if (p.beyond == 3) {
    const long long period = 2 * clip.length;
    for (long long shift = 0; i - shift >= p.origin; shift += period) {
      if (shift > 0) sum += gathered(p, clip, grad_frames, i - shift);
      if (-1 - i - shift >= p.origin) sum += gathered(p, clip, grad_frames, -1 - i - shift);
    }
    for (long long shift = period; shift - 1 - i <= last; shift += period) {
      sum += gathered(p, clip, grad_frames, i + shift) + gathered(p, clip, grad_frames, shift - 1 - i);
    }
  }
  return sum;
}

// Gradients of frames to those of samples. A thread for a sample.
template <class T>
__global__ void __launch_bounds__(kThreads) fold(const MelParams p) {
  const unsigned parts = unsigned(p.samples + kThreads - 1) / kThreads;
  const long long clip = blockIdx.x / parts;
  const long long i = blockIdx.x % parts * kThreads + threadIdx.x;
  if (i >= p.samples) return;
  const Clip<T> own(p, clip);
  const T* grad_frames = static_cast<const T*>(p.grad_frames) + clip * p.n_frames * p.frame_length;
  T sum = 0;
  if (i < own.count && own.frames > 0) {
    sum = conditioned_gradient(p, own, grad_frames, i);
    if (p.preemphasis == 2) {
      sum -= T(p.preemphasis_coefficient) * conditioned_gradient(p, own, grad_frames, i + 1);
    }
  }
  static_cast<T*>(p.grad_waveform)[clip * p.samples + i] = sum * T(p.input_scale);
}
