// The steps of a mel spectrogram, forward and backward, in differentiable operators: what second derivatives and
// forward mode are made of. Frames come before bands here: [clip, frame, band].
#include "mel.h"

#include <limits>

#include "border.h"

extern "C" int32_t avatorch_mel_convention(const char* text, size_t length, avatorch::Convention* convention,
                                           char** message);

namespace avatorch {

using c10::SymInt;

constexpr double kDeviationGuard = 1e-5;

Convention convention_of(std::string_view text) {
  Convention convention;
  char* message = nullptr;
  const int32_t kind = avatorch_mel_convention(text.data(), text.size(), &convention, &message);
  if (kind != 0) raise(kind, message);
  return convention;
}

SymInt frame_count(const Convention& c, SymInt samples) {
  if (c.padding == 1) samples = c.padding_length;
  if (c.padding == 2) samples = samples + c.padding_length;
  const int64_t reach = std::max<int64_t>(-c.origin, 0), hop = c.hop_length;
  SymInt frames = c.beyond == kMirror ? (samples + hop / 2) / hop
                                      : (samples + 2 * reach - c.frame_length + hop).max(SymInt(0)) / hop;
  return c.drop_last ? (frames - 1).max(SymInt(0)) : frames;
}

std::vector<SymInt> log_mel_sizes(const Convention& c, const Tensor& waveform) {
  TORCH_CHECK_VALUE(waveform.dim() > 0, "mel::log_mel: waveform has shape [], expected [..., samples]");
  auto sizes = waveform.sym_sizes().vec();
  const SymInt frames = frame_count(c, sizes.back());
  sizes.back() = c.frame_major ? frames : SymInt(c.n_features());
  sizes.push_back(c.frame_major ? SymInt(c.n_features()) : frames);
  return sizes;
}

namespace {

// Every step of one call, kept for the way back.
struct Steps {
  Convention c;
  SymInt clips, samples, frames;
  Tensor used;       // [1|clip, sample], the samples that count; undefined where all do
  Tensor index;      // [1|clip, frame, frame sample], the conditioned sample that stands there
  Tensor inside;     // the same: whether one does
  Tensor own;        // [1|clip, frame, 1], the frames that a clip has; undefined where it has all
  Tensor counts;     // [1|clip, 1, 1], how many these are
  Tensor bank;       // [band, bin], filters within their bands
  Tensor in_band;    // [band, bin]
  Tensor measured;   // [clip, frame, frame sample], the samples under the energy
  Tensor energy;     // [clip, frame, 1]; undefined without one
  Tensor prepared;   // [clip, frame, frame sample], before the window
  Tensor weights;    // [frame sample]
  Tensor windowed;   // [clip, frame, frame sample]
  Tensor spectrum;   // [clip, frame, bin], complex
  Tensor magnitude;  // [clip, frame, bin], or power
  Tensor mel;        // [clip, frame, band]
  Tensor logs;       // [clip, frame, band]
  Tensor peaks;      // what the floors hang on: [clip, 1, 1], or [clip, frame, 1] so far; undefined for none, constant
  Tensor latest;     // [clip, frame], so far: the frame that has the peak
  Tensor floors;     // [clip|1, frame|1, 1]; undefined without a range

  Steps(const MelInputs& inputs, const Convention& convention) : c(convention) {
    const Tensor& waveform = inputs.waveform;
    samples = waveform.sym_size(-1);
    clips = 1;
    for (int64_t i = 0; i + 1 < waveform.dim(); ++i) clips = clips * waveform.sym_size(i);
    frames = frame_count(c, samples);
    places(inputs);
    frame(inputs);
    if (c.n_mels > 0) {
      filter(inputs);
      range();
    }
  }

  void places(const MelInputs& inputs) {
    const auto integers = inputs.bands.options();
    const Tensor given = inputs.lengths.has_value() ? inputs.lengths->reshape_symint({clips, 1, 1})
                                                    : at::full_symint({1, 1, 1}, samples, integers);
    Tensor length = given;
    if (c.padding == 1) length = at::full_like(given, c.padding_length);
    if (c.padding == 2) length = given + c.padding_length;
    const Tensor starts = at::arange(frames, integers) * c.hop_length + c.origin;
    const Tensor place = starts.unsqueeze(-1) + at::arange(c.frame_length, integers);  // [frame, frame sample]
    Tensor source = place.unsqueeze(0);
    if (c.beyond == kReflect) {
      source = source.abs();
      source = at::where(source.ge(length), 2 * (length - 1) - source, source);
    } else if (c.beyond == kMirror) {
      const Tensor period = 2 * length.clamp_min(1);
      source = at::remainder(source, period);
      source = at::where(source.lt(length), source, period - 1 - source);
    }
    // One place past the samples holds the echo of pre-emphasis in appended zeros.
    inside = source.ge(0).logical_and(source.lt(length)).logical_and(source.le(samples));
    index = source.clamp(0, samples);
    if (!inputs.lengths.has_value()) {
      counts = at::full_symint({1, 1, 1}, frames, integers);
      return;
    }
    used = at::arange(samples, integers).unsqueeze(0).lt(given.squeeze(-1));
    const int64_t reach = std::max<int64_t>(-c.origin, 0), hop = c.hop_length;
    counts = c.beyond == kMirror ? at::floor_divide(length + hop / 2, hop)
                                 : at::floor_divide((length + 2 * reach - c.frame_length + hop).clamp_min(0), hop);
    if (c.drop_last) counts = (counts - 1).clamp_min(0);
    counts = at::where(given.gt(0), counts.clamp_max(frames), 0);
    own = at::arange(frames, integers).view_symint({1, frames, 1}).lt(counts);
  }

  void frame(const MelInputs& inputs) {
    Tensor x = inputs.waveform.reshape_symint({clips, samples}) * c.input_scale;
    if (used.defined()) x = at::where(used, x, 0.0);
    Tensor conditioned = at::constant_pad_nd(x, {0, 1});
    if (c.preemphasis == 2) conditioned = conditioned - c.preemphasis_coefficient * at::constant_pad_nd(x, {1, 0});
    const Tensor gathered = conditioned.gather(1, flat(index)).view_symint({clips, frames, c.frame_length});
    prepared = at::where(inside, gathered, 0.0);
    if (c.remove_dc) prepared = prepared - prepared.mean(-1, true);
    const Tensor raw = prepared;
    if (c.preemphasis == 1) {
      const Tensor before = at::cat({prepared.slice(-1, 0, 1), prepared.slice(-1, 0, -1)}, -1);
      prepared = prepared - c.preemphasis_coefficient * before;
    }
    const int64_t after = c.frame_length - c.first_weight - c.win_length;
    weights = at::constant_pad_nd(inputs.window.to(x.scalar_type()), {c.first_weight, after});
    windowed = prepared * weights;
    if (c.energy != 0) {
      measured = c.energy == 1 ? raw : windowed;
      energy = measured.square().sum(-1, true);
    }
  }

  void filter(const MelInputs& inputs) {
    spectrum = at::fft_rfft(windowed, c.n_fft);
    magnitude = at::view_as_real(spectrum).square().sum(-1);
    if (c.magnitude_epsilon >= 0) {
      magnitude = root(magnitude + c.magnitude_epsilon);
    }
    const Tensor bins = at::arange(c.n_fft / 2 + 1, inputs.bands.options());
    in_band = bins.ge(inputs.bands.slice(1, 0, 1)).logical_and(bins.lt(inputs.bands.slice(1, 1, 2)));
    bank = at::where(in_band, inputs.filters.to(magnitude.scalar_type()), 0.0);
    mel = at::matmul(magnitude, bank.t());
    if (c.log == 0) {
      logs = mel;
      return;
    }
    const Tensor guarded = c.guard == 0 ? mel.clamp_min(c.guard_value) : mel + c.guard_value;
    logs = c.log == 1 ? guarded.log() : guarded.log10();
  }

  void range() {
    if (c.loudest == kNoRange) return;
    if (c.loudest == kConstant) {
      floors = at::full({1, 1, 1}, c.range_constant - c.range_below, logs.options());
      return;
    }
    const Tensor counted = own.defined() ? at::where(own, logs, -std::numeric_limits<double>::infinity()) : logs;
    if (c.loudest == kSoFar) {
      const auto [values, places] = at::cummax(counted.amax(-1), 1);
      peaks = values.unsqueeze(-1);
      latest = places;
    } else {
      peaks = counted.amax({1, 2}, true);
      if (c.loudest == kOfBatch) {
        // A clip that is not a number does not count, and stays one.
        const Tensor bad = peaks.isnan();
        const Tensor whole = at::where(bad, -std::numeric_limits<double>::infinity(), peaks).amax(0, true);
        peaks = at::where(bad, peaks, whole);
      }
    }
    floors = peaks - c.range_below;
  }

  // [1|clip, frame, frame sample] to [clip, frame * frame sample].
  Tensor flat(const Tensor& tensor) const {
    return tensor.expand_symint({clips, frames, c.frame_length}).reshape_symint({clips, frames * c.frame_length});
  }

  // Logarithms of energy and bands, [clip, frame, feature]. No convention has a range beside an energy.
  Tensor features() const {
    if (c.energy == 0) return floors.defined() ? at::maximum(logs, floors) : logs;
    const Tensor log_energy = energy.clamp_min(c.energy_floor).log();
    return c.n_mels > 0 ? at::cat({log_energy, logs}, -1) : log_energy;
  }

  Tensor where_own(const Tensor& tensor) const { return own.defined() ? at::where(own, tensor, 0.0) : tensor; }

  // The square root, with a derivative of zero at zero.
  static Tensor root(const Tensor& x) {
    const Tensor positive = x.gt(0);
    return at::where(positive, at::where(positive, x, 1.0).sqrt(), x);
  }

  // A band's values less their mean over the clip, and the deviation, [clip, 1, band].
  std::array<Tensor, 2> centred(const Tensor& values) const {
    const Tensor mean = where_own(values).sum(1, true) / counts;
    const Tensor rest = where_own(values - mean);
    return {rest, root(rest.square().sum(1, true) / (counts - 1).clamp_min(1))};
  }

  // [clip, frame, band] to the operator's layout, and back.
  Tensor laid_out(const Tensor& values, const Tensor& waveform) const {
    const Tensor ordered = c.frame_major ? values : values.transpose(1, 2);
    return ordered.reshape_symint(log_mel_sizes(c, waveform));
  }
  Tensor by_frame(const Tensor& grad) const {
    if (c.frame_major) return grad.reshape_symint({clips, frames, c.n_features()});
    return grad.reshape_symint({clips, c.n_features(), frames}).transpose(1, 2);
  }
};

// Gradients of values to those of features.
Tensor back_through_scale(const Steps& s, Tensor grad) {
  const Convention& c = s.c;
  if (c.normalize_bands) {
    const auto [rest, deviation] = s.centred(c.scale * s.features());
    const Tensor divisor = deviation + kDeviationGuard, some = deviation.gt(0);
    const Tensor along = (grad * rest).sum(1, true) / (s.counts - 1).clamp_min(1);
    const Tensor slope = at::where(some, along / (at::where(some, deviation, 1.0) * divisor), 0.0);
    grad = s.where_own(grad - grad.sum(1, true) / s.counts - slope * rest) / divisor;
  }
  return c.scale * grad;
}

// Gradients of raised logarithms to those of the logarithms.
Tensor back_through_range(const Steps& s, Tensor grad) {
  const Convention& c = s.c;
  if (!s.floors.defined()) return grad;
  const auto dtype = grad.scalar_type();
  const Tensor above = s.logs.gt(s.floors).to(dtype) + 0.5 * s.logs.eq(s.floors).to(dtype);
  Tensor of_floors = grad * (1 - above);
  grad = grad * above;
  if (c.loudest == kConstant) return grad;
  if (c.loudest == kSoFar) {
    const Tensor of_frames = of_floors.sum(-1);
    of_floors = at::zeros_like(of_frames).scatter_add(1, s.latest, of_frames).unsqueeze(-1);
    const Tensor at_peak = s.logs.eq(s.logs.amax(-1, true)).to(dtype);
    return grad + at_peak * of_floors / at_peak.sum(-1, true);
  }
  Tensor at_peak = s.where_own(s.logs.eq(s.peaks).to(dtype));
  Tensor count = at_peak.sum({1, 2}, true), total = of_floors.sum({1, 2}, true);
  if (c.loudest == kOfBatch) {
    count = count.sum(0, true);
    total = total.sum(0, true);
  }
  return grad + at_peak * total / count.clamp_min(1);
}

// Gradients of logarithms to those of the filters' values.
Tensor back_through_log(const Steps& s, const Tensor& grad) {
  const Convention& c = s.c;
  if (c.log == 0) return grad;
  const double per_log = c.log == 1 ? 1.0 : M_LOG10E;
  if (c.guard == 1) return grad * (per_log / (s.mel + c.guard_value));
  const Tensor passes = s.mel.ge(c.guard_value);
  return at::where(passes, grad * (per_log / s.mel.clamp_min(c.guard_value)), 0.0);
}

// Gradients of magnitudes to those of windowed frames.
Tensor back_through_fourier(const Steps& s, Tensor grad) {
  const Convention& c = s.c;
  if (c.magnitude_epsilon >= 0) {
    const Tensor some = s.magnitude.gt(0);
    grad = at::where(some, grad / at::where(some, 2 * s.magnitude, 1.0), 0.0);
  }
  // The inverse transform counts the bins between the ends twice, as the conjugates they stand for.
  const int64_t bins = c.n_fft / 2 + 1, ends = c.n_fft % 2 == 0 ? 2 : 1;
  const Tensor once = at::constant_pad_nd(at::ones({bins - ends}, grad.options()), {1, ends - 1}, 2.0);
  return at::fft_irfft(s.spectrum * (grad * once), c.n_fft, -1, "forward").slice(-1, 0, c.frame_length);
}

// Gradients of log energies to those of the samples that they were measured on.
Tensor back_through_energy(const Steps& s, const Tensor& grad) {
  const Tensor passes = s.energy.ge(s.c.energy_floor);
  return s.measured * at::where(passes, 2 * grad / s.energy.clamp_min(s.c.energy_floor), 0.0);
}

// Adds what stands in frames up at the samples that they were cut from, [clip, sample + 1].
Tensor folded(const Steps& s, const Tensor& frames) {
  const Tensor values = frames.reshape_symint({s.clips, s.frames * s.c.frame_length}), index = s.flat(s.index);
  const Tensor zeros = at::zeros_symint({s.clips, s.samples + 1}, values.options());
  if (s.c.n_mels > 0) return zeros.scatter_add(1, index, values);
  // Energies alone stand in for a kernel: no atomics, so that they repeat bit for bit.
  return zeros.index_put({at::arange(s.clips, index.options()).unsqueeze(1), index}, values, true);
}

// Gradients of windowed frames, and of raw ones where their energy is measured, to those of the waveform.
Tensor back_through_frames(const Steps& s, Tensor grad, const Tensor& of_raw, const Tensor& waveform) {
  const Convention& c = s.c;
  grad = grad * s.weights;
  if (c.preemphasis == 1) {
    const Tensor from_next = at::constant_pad_nd(grad.slice(-1, 1), {0, 1});
    const Tensor from_first = at::constant_pad_nd(grad.slice(-1, 0, 1), {0, c.frame_length - 1});
    grad = grad - c.preemphasis_coefficient * (from_next + from_first);
  }
  if (of_raw.defined()) grad = grad + of_raw;
  if (c.remove_dc) grad = grad - grad.mean(-1, true);
  const Tensor conditioned = folded(s, at::where(s.inside, grad, 0.0));
  Tensor of_samples = conditioned.slice_symint(1, 0, s.samples);
  if (c.preemphasis == 2) of_samples = of_samples - c.preemphasis_coefficient * conditioned.slice(1, 1);
  if (s.used.defined()) of_samples = at::where(s.used, of_samples, 0.0);
  return (c.input_scale * of_samples).reshape_symint(waveform.sym_sizes());
}

bool is_empty(const Tensor& tensor) { return TORCH_GUARD_OR_FALSE(tensor.sym_numel().sym_eq(0)); }

}  // namespace

Tensor log_mel_formula(const MelInputs& inputs, const Convention& c) {
  const Tensor nothing = at::zeros_symint(log_mel_sizes(c, inputs.waveform), inputs.waveform.options());
  if (is_empty(nothing)) return nothing;
  const Steps s(inputs, c);
  Tensor values = c.scale * s.features() + c.offset;
  if (c.normalize_bands) {
    const auto [rest, deviation] = s.centred(values);
    values = rest / (deviation + kDeviationGuard);
  }
  return s.laid_out(s.where_own(values), inputs.waveform);
}

std::array<Tensor, 3> log_mel_backward_formula(const Tensor& grad, const MelInputs& inputs, const Convention& c) {
  const auto& [waveform, window, filters, bands, lengths] = inputs;
  if (is_empty(grad)) {
    const Tensor zero = 0 * grad.sum();
    return {at::zeros_like(waveform) + zero, at::zeros_like(window), at::zeros_like(filters)};
  }
  const Steps s(inputs, c);
  const Tensor of_features = back_through_scale(s, s.where_own(s.by_frame(grad)));
  Tensor of_frames, of_raw, of_bank;
  if (c.n_mels > 0) {
    const Tensor of_mel = back_through_log(s, back_through_range(s, of_features.slice(-1, c.energy != 0)));
    of_bank = at::where(s.in_band, at::matmul(of_mel.transpose(1, 2), s.magnitude).sum(0), 0.0);
    of_frames = back_through_fourier(s, at::matmul(of_mel, s.bank));
  } else {
    of_bank = at::zeros_like(filters);
    of_frames = at::zeros_like(s.windowed);
  }
  if (c.energy != 0) {
    const Tensor of_measured = back_through_energy(s, of_features.slice(-1, 0, 1));
    if (c.energy == 1) {
      of_raw = of_measured;
    } else {
      of_frames = of_frames + of_measured;
    }
  }
  const Tensor of_window =
      (of_frames * s.prepared).sum(0).sum(0).slice(0, c.first_weight, c.first_weight + c.win_length);
  return {back_through_frames(s, of_frames, of_raw, waveform), of_window.to(window.scalar_type()),
          of_bank.to(filters.scalar_type())};
}

Tensor energy_formula(const MelInputs& inputs, Convention convention) {
  convention.n_mels = 0;
  return log_mel_formula(inputs, convention);
}

Tensor energy_backward_formula(const Tensor& grad, const MelInputs& inputs, Convention convention) {
  convention.n_mels = 0;
  return log_mel_backward_formula(grad, inputs, convention)[0];
}

}  // namespace avatorch
