// From the filters of a tile with a frame for each lane to its values.
#pragma once
#include "audio/mel.cuh"

// What comes before and after the filters, without branches.
struct Range {
  float guard_sum, least, of_log2, floor, scale, offset;
  float epsilon;  // of magnitudes, below zero for powers
  int of_band;    // places from a band to the next

  explicit __device__ Range(const MelParams& p) {
    const float infinity = __int_as_float(0x7f800000), guard = float(p.guard_value);
    guard_sum = p.log != 0 && p.guard == 1 ? guard : 0.0f;
    least = p.log != 0 && p.guard != 1 ? guard : -infinity;
    of_log2 = p.log == 0 ? 0.0f : p.log == 1 ? 0.693147180559945309f : 0.301029995663981195f;
    floor = p.is_scaled && p.loudest_of == 4 ? float(p.range_constant - p.range_below) : -infinity;
    scale = p.is_scaled ? float(p.scale) : 1.0f;
    offset = p.is_scaled ? float(p.offset) : 0.0f;
    epsilon = float(p.magnitude_epsilon);
    of_band = p.frame_major ? 1 : int(p.n_frames);
  }

  // The device's own is within 2^-22 near one, and better elsewhere.
  __device__ float logarithm(float value) const {
    value += guard_sum;
    value = value < least ? least : value;
    return of_log2 == 0 ? value : __log2f(value) * of_log2;
  }
  __device__ float scaled(float value) const { return (value < floor ? floor : value) * scale + offset; }
};

// Writes the values of a `Lanes` or a `Coprime`, and gives this thread's largest logarithm, not a number if one of them
// is not.
template <class LanesTile>
__device__ float store_tile(const LanesTile& tile, unsigned clip, int first_frame, int frames) {
  const MelParams& p = tile.p;
  const float infinity = __int_as_float(0x7f800000);
  const int at = first_frame + tile.frame;
  if (at >= p.n_frames) return -infinity;
  const Range range = *tile.range;
  const int step = LanesTile::kGroups * range.of_band;
  float* to = static_cast<float*>(p.values) + (long long)clip * p.n_mels * p.n_frames;
  to += tile.group * range.of_band + at * (p.frame_major ? p.n_mels : 1);
  if (at >= frames) {  // beyond the clip, or a clip that is bad
    const float fill = frames < 0 ? __int_as_float(0x7fc00000) : 0.0f;
    for (int mel = tile.group; mel < p.n_mels; mel += LanesTile::kGroups, to += step) *to = fill;
    return frames < 0 ? fill : -infinity;
  }
  float peak = -infinity, poison = 0;
  const auto store_bands = [&](bool is_fitting) {
    for (int mel = tile.group; mel < p.n_mels; mel += LanesTile::kGroups, to += step) {
      const float value = range.logarithm(tile.filtered(mel, is_fitting));
      peak = fmaxf(peak, value);
      poison += value * 0.0f;
      *to = range.scaled(value);
    }
  };
  if (tile.fits()) {
    store_bands(true);
  } else {
    store_bands(false);
  }
  return peak + poison;
}
