// Waveforms to log-mel spectrograms. `log_mel` goes from samples to logarithms in shared memory, a tile of frames at a
// time; what waits for the whole clip follows in `loudest`, `finish` and `normalize`.
#include "audio/mel.cuh"
#include "audio/mel_coprime.cuh"
#include "audio/mel_lanes.cuh"

extern __shared__ double shared_memory[];

template <class T>
__device__ T not_a_number() {
  return T(__longlong_as_double(0x7ff8000000000000ll));
}

template <class T>
__device__ T lowest() {
  return T(__longlong_as_double(0xfff0000000000000ll));
}

// A value that is not a number stays.
template <class T>
__device__ T raised(T value, T floor) {
  return value < floor ? floor : value;
}

// The larger of two, or what is not a number.
template <class T>
__device__ T louder(T one, T other) {
  return one == one && !(other <= one) ? other : one;
}

// The largest of each frame from what the threads have seen; not a number where one of them is not.
template <class T>
__device__ void store_peaks(const MelParams& p, T* by_thread, int frames, long long clip, long long first, T peak) {
  by_thread[threadIdx.x] = peak;
  __syncthreads();
  const int frame = threadIdx.x;
  if (frame >= frames || first + frame >= p.n_frames) return;
  for (int other = frame + frames; other < blockDim.x; other += frames) {
    peak = louder(peak, by_thread[other]);
  }
  static_cast<T*>(p.peaks)[clip * p.n_frames + first + frame] = peak;
}

// 5) Magnitudes to logarithms of bands. Each thread keeps to one frame of the tile, since a block's threads are a
// multiple of its frames.
template <class T>
__device__ void store_bands(const Tile<T>& tile, const T* magnitudes, long long clip, long long first,
                            const Clip<T>& own) {
  const MelParams& p = tile.p;
  T* values = static_cast<T*>(p.values) + clip * p.n_mels * p.n_frames;
  const T floor = p.loudest_of == 4 ? T(p.range_constant - p.range_below) : lowest<T>();
  T peak = lowest<T>(), poison = 0;
  for (int item = threadIdx.x; item < p.n_mels << p.frames_log2; item += blockDim.x) {
    const int frame = item & (tile.frames - 1), mel = item >> p.frames_log2;
    if (first + frame >= p.n_frames) break;
    T value = 0;
    if (first + frame < own.frames) {
      value = own.is_bad ? not_a_number<T>() : tile.logarithm(tile.filtered(magnitudes, mel, frame));
      peak = raised(value, peak);
      poison += value * T(0);
      if (p.is_scaled) value = raised(value, floor) * T(p.scale) + T(p.offset);
    }
    values[value_place(p, mel, first + frame)] = value;
  }
  if (p.peaks) store_peaks(p, tile.by_thread, tile.frames, clip, first, peak + poison);
}

template <class T>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 4 ? 4 : 1) log_mel(const MelParams p) {
  const Tile<T> tile(p, reinterpret_cast<T*>(shared_memory));
  tile.make_tables();
  for (long long at = blockIdx.x; at < p.clips * p.tiles; at += gridDim.x) {
    const long long clip = unsigned(at) / unsigned(p.tiles), first = (at - clip * p.tiles) << p.frames_log2;
    const Clip<T> own(p, clip);
    const T* magnitudes = nullptr;
    __syncthreads();
    if (first < own.frames && !own.is_bad) {
      tile.load(own, first);
      magnitudes = tile.magnitudes(tile.spectra());
    }
    store_bands(tile, magnitudes, clip, first, own);
  }
}

// Blocks that a multiprocessor runs at once, as many as registers leave room for.
#if __CUDA_ARCH__ == 900
constexpr int kLanesBlocks = 4;
#else
constexpr int kLanesBlocks = 3;
#endif

// The same for the sizes of `Lanes`, without what a frame has of its own: its mean, and pre-emphasis within it.
template <int A, int B>
__global__ void __launch_bounds__(kThreads, kLanesBlocks) log_mel_lanes(const MelParams p) {
  const Lanes<A, B> tile(p, reinterpret_cast<float*>(shared_memory));
  tile.make_tables();
  const unsigned tiles = p.clips * p.tiles;
  for (unsigned at = blockIdx.x; at < tiles; at += gridDim.x) {
    unsigned clip = at / unsigned(p.tiles);
    int first = int(at - clip * unsigned(p.tiles)) * tile.kFrames;
    const Clip<float> own(p, clip);
    const int frames = own.is_bad ? -1 : int(own.frames);
    __syncthreads();
    if (first < frames) {
      tile.load(own, first);
      tile.transform_parts();
      tile.magnitudes();
    }
    unsigned same = at;
    asm volatile("" : "+r"(same));  // divided again: registers are scarce until here
    clip = same / unsigned(p.tiles), first = int(same - clip * unsigned(p.tiles)) * tile.kFrames;
    const float peak = store_tile(tile, clip, first, frames);
    if (p.peaks) store_peaks(p, tile.by_thread, tile.kFrames, clip, first, peak);
  }
}

// The same for `Coprime`.
template <int Frames>
__global__ void __launch_bounds__(Coprime<Frames>::kBlock, 1024 / Coprime<Frames>::kBlock)
    log_mel_coprime(const MelParams p) {
  const Coprime<Frames> tile(p, reinterpret_cast<float*>(shared_memory));
  tile.make_tables();
  const Clip<float> any(p, 0);
  int frames = any.is_bad ? -1 : int(any.frames), count = int(any.count);
  const unsigned tiles = p.clips * p.tiles;
  bool is_here = false;  // the samples, or on their way
  for (unsigned at = blockIdx.x; at < tiles; at += gridDim.x) {
    const unsigned clip = at / unsigned(p.tiles);
    const int first = int(at - clip * unsigned(p.tiles)) * tile.kFrames;
    if (p.lengths) {
      const Clip<float> own(p, clip);
      frames = own.is_bad ? -1 : int(own.frames), count = int(own.count);
      is_here = false;
    }
    if (first >= frames) {
      is_here = false;
    } else {
      if (!is_here && !tile.fetch(clip, first, count)) tile.load(clip, first);
      copied();
      __syncthreads();
      tile.transform_parts();
      __syncthreads();
      const unsigned next = at + gridDim.x, next_clip = next / unsigned(p.tiles);
      const int next_first = int(next - next_clip * unsigned(p.tiles)) * tile.kFrames;
      is_here = next < tiles && !p.lengths && tile.fetch(next_clip, next_first, count);
      tile.find_magnitudes();
    }
    __syncthreads();
    const float peak = store_tile(tile, clip, first, frames);
    if (p.peaks) {
      store_peaks(p, tile.by_thread, tile.kFrames, clip, first, peak);
    } else {
      __syncthreads();
    }
  }
}

// The largest of each clip, or up to each frame; not a number where a frame is not, except so far. A block for a clip.
template <class T>
__global__ void __launch_bounds__(kThreads) loudest(const MelParams p) {
  __shared__ T partial[kThreads];
  const long long clip = blockIdx.x, frames = Clip<T>(p, clip).frames;
  const T* peaks = static_cast<const T*>(p.peaks) + clip * p.n_frames;
  T largest = lowest<T>();
  if (p.loudest_of != 3) {
    for (long long frame = threadIdx.x; frame < frames; frame += blockDim.x) {
      largest = louder(largest, peaks[frame]);
    }
    partial[threadIdx.x] = largest;
    for (int half = kThreads / 2; half > 0; half /= 2) {
      __syncthreads();
      if (threadIdx.x < half) partial[threadIdx.x] = louder(partial[threadIdx.x], partial[threadIdx.x + half]);
    }
    if (threadIdx.x == 0) static_cast<T*>(p.loudest)[clip] = partial[0];
    return;
  }
  // A stretch of frames for each thread: its own largest, then those of the stretches before it.
  const long long stretch = unsigned(frames + kThreads - 1) / kThreads;
  const long long begin = threadIdx.x * stretch, end = begin + stretch < frames ? begin + stretch : frames;
  for (long long frame = begin; frame < end; ++frame) {
    if (peaks[frame] > largest) largest = peaks[frame];
  }
  partial[threadIdx.x] = largest;
  __syncthreads();
  largest = lowest<T>();
  for (int other = 0; other < threadIdx.x; ++other) {
    if (partial[other] > largest) largest = partial[other];
  }
  T* so_far = static_cast<T*>(p.loudest) + clip * p.n_frames;
  for (long long frame = begin; frame < end; ++frame) {
    if (peaks[frame] > largest) largest = peaks[frame];
    so_far[frame] = largest;
  }
}

// The largest of all clips that are numbers, behind those of the clips. One block.
template <class T>
__global__ void __launch_bounds__(kThreads) loudest_of_batch(const MelParams p) {
  __shared__ T partial[kThreads];
  T* of_clips = static_cast<T*>(p.loudest);
  T largest = lowest<T>();
  for (long long clip = threadIdx.x; clip < p.clips; clip += blockDim.x) {
    if (of_clips[clip] > largest) largest = of_clips[clip];
  }
  partial[threadIdx.x] = largest;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int other = 1; other < kThreads; ++other) largest = raised(largest, partial[other]);
  of_clips[p.clips] = largest;
}

constexpr int kValuesAThread = 16;

// Values that lie together, read at once.
template <class T>
struct alignas(16) Quad {
  T of[16 / sizeof(T)];
};

// A value that is below the limit, or meets none, takes it.
template <class T>
__device__ bool gives_way(T value, T limit, bool is_falling) {
  return limit != limit || (is_falling ? value > limit : value < limit);
}

// Raises scaled values to their floors.
template <class T>
__global__ void __launch_bounds__(kThreads) finish(const MelParams p) {
  // A clip has less than 2^31 values.
  const unsigned row = p.n_mels * p.n_frames, part = kValuesAThread * kThreads, parts = (row + part - 1) / part;
  const long long clip = blockIdx.x / parts;
  const unsigned begin = blockIdx.x % parts * part, end = min(begin + part, row);
  const T* loudest = static_cast<const T*>(p.loudest);
  T* values = static_cast<T*>(p.values) + clip * row;
  const T scale = T(p.scale), offset = T(p.offset);
  const bool is_falling = scale < 0;
  T floor = p.loudest_of == 4 ? T(p.range_constant - p.range_below) : lowest<T>();
  if (p.loudest_of == 1 || p.loudest_of == 2) {
    const T of_clip = loudest[clip];
    floor = (p.loudest_of == 1 || of_clip != of_clip ? of_clip : loudest[p.clips]) - T(p.range_below);
  }
  constexpr unsigned kTogether = 16 / sizeof(T);
  if (!p.lengths && p.loudest_of != 3 && row % kTogether == 0) {
    const T limit = floor * scale + offset;
    Quad<T>* quads = reinterpret_cast<Quad<T>*>(values);
    Quad<T> mine[kValuesAThread / kTogether];  // on their way together
#pragma unroll
    for (unsigned n = 0; n < kValuesAThread / kTogether; ++n) {
      const unsigned i = begin / kTogether + n * kThreads + threadIdx.x;
      if (i < end / kTogether) mine[n] = quads[i];
    }
#pragma unroll
    for (unsigned n = 0; n < kValuesAThread / kTogether; ++n) {
      const unsigned i = begin / kTogether + n * kThreads + threadIdx.x;
#pragma unroll
      for (unsigned k = 0; k < kTogether; ++k) {
        if (i < end / kTogether && gives_way(mine[n].of[k], limit, is_falling)) quads[i].of[k] = limit;
      }
    }
    return;
  }
  const long long own = Clip<T>(p, clip).frames;
  for (unsigned i = begin + threadIdx.x; i < end; i += kThreads) {
    const unsigned frame = p.frame_major ? i / unsigned(p.n_mels) : i % unsigned(p.n_frames);
    if (frame >= own) continue;
    if (p.loudest_of == 3) floor = loudest[clip * p.n_frames + frame] - T(p.range_below);
    const T limit = floor * scale + offset;
    if (gives_way(values[i], limit, is_falling)) values[i] = limit;
  }
}

// Zero mean and unit deviation for a band of a clip. A block for each.
template <class T>
__global__ void __launch_bounds__(kThreads) normalize(const MelParams p) {
  __shared__ double partial[kThreads];
  const long long clip = blockIdx.x / unsigned(p.n_mels), frames = Clip<T>(p, clip).frames;
  const int mel = blockIdx.x % unsigned(p.n_mels);
  T* values = static_cast<T*>(p.values) + clip * p.n_mels * p.n_frames;
  const double a_frame = 1.0 / int(frames);
  double mean = 0, squares = 0;
#pragma unroll 1
  for (int moment = 1; moment <= 2; ++moment) {
    double sum = 0;
    for (long long frame = threadIdx.x; frame < frames; frame += blockDim.x) {
      const double value = values[value_place(p, mel, frame)] - mean;
      sum += moment == 1 ? value : value * value;
    }
    partial[threadIdx.x] = sum;
    __syncthreads();
    sum = 0;
    for (int other = 0; other < kThreads; ++other) sum += partial[other];
    __syncthreads();
    if (moment == 1) mean = sum * a_frame;
    if (moment == 2) squares = sum;
  }
  const double deviation = frames > 1 ? sqrt(squares / int(frames - 1)) : 0.0, scale = 1 / (deviation + 1e-5);
  for (long long frame = threadIdx.x; frame < frames; frame += blockDim.x) {
    T& value = values[value_place(p, mel, frame)];
    value = T((value - mean) * scale);
  }
}
