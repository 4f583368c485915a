// smplx::prepare: what is derived from a model's tensors once, and how a stale derivation is noticed.
//
// A preparation carries a stamp: a fingerprint of the values of each tensor it was made from, and of each it consists
// of. The fingerprint of a tensor is computed once for each storage and version of it, and remembered as long as that
// storage lives: so a tensor changed in place is refused, another tensor too, and a copy (moved to a device, exported,
// deep-copied) is accepted. So is the stamp itself, which lies on the model's device, read only once.
#include <torch/library.h>

#include <array>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "border.h"
#include "composite.h"
#include "model.h"

extern "C" int32_t avatorch_refuse_capture(avatorch::Call*);

namespace avatorch {

using Fingerprint = std::array<double, 3>;
constexpr int64_t kFields = std::tuple_size_v<Fingerprint>;

struct Source {
  const char* name;
  const Tensor* tensor;  // null where the model has none
};
constexpr size_t kSources = 17;
using Sources = std::array<Source, kSources>;

// What a stamp vouches for, in the order of its rows: the model's tensors, then what was made of them.
static Sources sources(const Tensor& v_template, const Tensor& shapedirs, const OptionalTensor& J_regressor,
                       const Tensor& parents, const Tensor& lbs_weights, const OptionalTensor& J_template,
                       const OptionalTensor& J_shapedirs, const OptionalTensor& posedirs, at::TensorList made) {
  const bool split = made[Prepared::kPosePair].numel() > 0;  // else the pose directions serve as they are
  return {{{"v_template", lend(v_template)},
           {"shapedirs", lend(shapedirs)},
           {"J_regressor", lend(J_regressor)},
           {"parents", lend(parents)},
           {"lbs_weights", lend(lbs_weights)},
           {"J_template", lend(J_template)},
           {"J_shapedirs", lend(J_shapedirs)},
           {"posedirs", split ? lend(posedirs) : nullptr},
           {"prepared[1]", lend(made[Prepared::kJointTemplate])},
           {"prepared[2]", lend(made[Prepared::kJointDirs])},
           {"prepared[3]", lend(made[Prepared::kWeights])},
           {"prepared[4]", lend(made[Prepared::kWeightJoints])},
           {"prepared[5]", lend(made[Prepared::kOrder])},
           {"prepared[6]", lend(made[Prepared::kStart])},
           // Not the pair: it has more bytes than the pose directions, whose row is above.
           {"prepared[8]", lend(made[Prepared::kPoseUnits])},
           {"prepared[9]", lend(made[Prepared::kMoved])},
           {"prepared[10]", lend(made[Prepared::kMovedWeights])}}};
}

static int64_t version_of(const Tensor& tensor) {
  return tensor.is_inference() ? 0 : static_cast<int64_t>(tensor._version());
}

// Sums that change when a value changes or moves; nearly the same on every device. What is no number counts as one:
// in a sum it would hide all others.
static Fingerprint fingerprint(const Tensor& tensor) {
  enter<0>(avatorch_refuse_capture, {&tensor});
  const Tensor values = tensor.detach().flatten().to(at::kDouble).nan_to_num(0.1234, 2.3456, -3.4567);
  const Tensor places = at::arange(values.numel(), values.options()).mul_(0.6180339887498949).frac_().add_(0.5);
  const Tensor sums = at::stack({values.sum(), values.abs().sum(), (values * places).sum()}).cpu();
  const auto* sum = sums.const_data_ptr<double>();
  return {sum[0], sum[1], sum[2]};
}

static bool alike(const Fingerprint& a, const Fingerprint& b) {
  const double rounding = std::isfinite(a[1]) ? 1e-12 * a[1] : 0;  // a millimetre of one vertex is 1e-7 of them all
  for (size_t i = 0; i < a.size(); ++i) {
    const bool same = a[i] == b[i] || std::abs(a[i] - b[i]) <= rounding || (std::isnan(a[i]) && std::isnan(b[i]));
    if (!same) return false;
  }
  return true;
}

// What is known of tensors, each a view of a storage, for as long as their storage lives.
template <class Fact>
class Known {
 public:
  struct Found {
    Fact fact;
    bool unchanged;  // since it was remembered
  };

  std::optional<Found> look(const Tensor& tensor) {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto found = find(tensor);
    if (found == entries_.end()) return std::nullopt;
    return Found{found->second.fact, found->second.version == version_of(tensor)};
  }

  // In the place of what was known of an earlier version. The version is the one before the tensor was read: a write
  // meanwhile makes it unknown again.
  void remember(const Tensor& tensor, int64_t version, Fact fact) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (const auto found = find(tensor); found != entries_.end()) entries_.erase(found);
    for (auto entry = entries_.begin(); entry != entries_.end();) {
      entry = entry->second.storage.expired() ? entries_.erase(entry) : std::next(entry);
    }
    entries_.emplace(tensor.const_data_ptr(),
                     Entry{tensor.storage().getWeakStorageImpl(), tensor.sizes().vec(), tensor.strides().vec(),
                           tensor.scalar_type(), version, std::move(fact)});
  }

 private:
  struct Entry {
    c10::weak_intrusive_ptr<c10::StorageImpl> storage;
    std::vector<int64_t> sizes, strides;
    c10::ScalarType dtype;
    int64_t version;
    Fact fact;
  };
  using Entries = std::unordered_multimap<const void*, Entry>;

  typename Entries::iterator find(const Tensor& tensor) {
    for (auto [entry, end] = entries_.equal_range(tensor.const_data_ptr()); entry != end; ++entry) {
      const Entry& known = entry->second;
      // The weak pointer keeps the storage's identity from being given to another storage.
      if (!known.storage.expired() && known.storage._unsafe_get_target() == tensor.storage().unsafeGetStorageImpl() &&
          known.sizes == tensor.sizes() && known.strides == tensor.strides() && known.dtype == tensor.scalar_type())
        return entry;
    }
    return entries_.end();
  }

  std::mutex mutex_;
  Entries entries_;
};

static Known<Fingerprint>& fingerprints() {
  static Known<Fingerprint> all;
  return all;
}
using Rows = std::shared_ptr<const std::vector<double>>;
static Known<Rows>& stamps() {
  static Known<Rows> all;
  return all;
}

static Tensor stamp_of(const Sources& vouched, const c10::Device& device) {
  std::vector<double> rows;
  for (const auto& [name, tensor] : vouched) {
    Fingerprint sums{};
    if (tensor != nullptr) {
      const auto version = version_of(*tensor);
      const auto known = fingerprints().look(*tensor);
      sums = known && known->unchanged ? known->fact : fingerprint(*tensor);
      fingerprints().remember(*tensor, version, sums);
    }
    rows.insert(rows.end(), sums.begin(), sums.end());
  }
  // As the bits of integers, which stay what they are when a module changes its dtype.
  const Tensor stamp =
      at::tensor(rows, at::kDouble).view({static_cast<int64_t>(vouched.size()), kFields}).view(at::kLong).to(device);
  stamps().remember(stamp, version_of(stamp), std::make_shared<const std::vector<double>>(std::move(rows)));
  return stamp;
}

static Rows rows_of(const Tensor& stamp) {
  if (const auto known = stamps().look(stamp); known && known->unchanged) return known->fact;
  enter<0>(avatorch_refuse_capture, {&stamp});
  const auto version = version_of(stamp);
  const Tensor values = stamp.cpu().contiguous().view(at::kDouble);
  const auto* first = values.const_data_ptr<double>();
  const auto rows = std::make_shared<const std::vector<double>>(first, first + values.numel());
  stamps().remember(stamp, version, rows);
  return rows;
}

// Throws unless these are the tensors of one model.
static void check_model(const char* name, const Tensor& v_template, const Tensor& shapedirs,
                        const OptionalTensor& J_regressor, const Tensor& parents, const Tensor& lbs_weights,
                        const OptionalTensor& J_template, const OptionalTensor& J_shapedirs,
                        const OptionalTensor& posedirs) {
  const Argument vertices{name, "v_template", v_template}, weights{name, "lbs_weights", lbs_weights},
      tree{name, "parents", parents};
  vertices.floating();
  vertices.shape({-1, 3});
  weights.like(vertices);
  weights.shape({v_template.size(0), -1});
  tree.int64();
  tree.on_device_of(vertices);
  const int64_t count = v_template.size(0), joints = lbs_weights.size(1);
  tree.shape({joints});
  const auto check = [&](const char* argument, const OptionalTensor& tensor, c10::SymIntArrayRef sizes) {
    if (!tensor.has_value() || !tensor->defined()) return;
    const Argument checked{name, argument, *tensor};
    checked.like(vertices);
    checked.shape(sizes);
  };
  Argument{name, "shapedirs", shapedirs}.present();
  check("shapedirs", shapedirs, {count, 3, -1});
  TORCH_CHECK_VALUE(J_regressor.has_value() != (J_template.has_value() && J_shapedirs.has_value()), name,
                    ": expected either J_regressor or both J_template and J_shapedirs");
  check("J_regressor", J_regressor, {joints, count});
  check("J_template", J_template, {joints, 3});
  check("J_shapedirs", J_shapedirs, {joints, 3, shapedirs.size(2)});
  check("posedirs", posedirs, {9 * std::max<int64_t>(joints - 1, 0), 3 * count});
}

// Whether a tensor that was looked at before had this fingerprint then; nothing where it was never looked at.
enum class Before { kUnknown, kOther, kAlike, kUnchanged };
static Before before(const Tensor& tensor, const Fingerprint& expected) {
  const auto known = fingerprints().look(tensor);
  if (!known) return Before::kUnknown;
  if (!alike(known->fact, expected)) return Before::kOther;
  return known->unchanged ? Before::kUnchanged : Before::kAlike;
}

void check_prepared(const char* name, at::TensorList prepared, const Tensor& v_template, const Tensor& shapedirs,
                    const OptionalTensor& J_regressor, const Tensor& parents, const Tensor& lbs_weights,
                    const OptionalTensor& J_template, const OptionalTensor& J_shapedirs,
                    const OptionalTensor& posedirs) {
  if (prepared.empty()) return;
  TORCH_CHECK_VALUE(prepared.size() == Prepared::kCount, name, ": prepared holds ", prepared.size(),
                    " tensors, expected the ", static_cast<int>(Prepared::kCount),
                    " that smplx::prepare returns, or none");
  Argument{name, "v_template", v_template}.present();
  for (size_t i = 0; i < prepared.size(); ++i) {
    TORCH_CHECK_VALUE(prepared[i].defined() && prepared[i].has_storage() && prepared[i].device() == v_template.device(),
                      name, ": prepared[", i, "] is not on ", v_template.device(), " as v_template");
    // The dispatcher does not look into the list, so nobody has made memory of these.
    TORCH_CHECK_VALUE(!prepared[i]._is_zerotensor() && !prepared[i].is_neg(), name, ": prepared[", i,
                      "] stands for numbers that are not in memory, expected what smplx::prepare returned");
  }
  const Tensor& stamp = prepared[Prepared::kStamp];
  const auto vouched =
      sources(v_template, shapedirs, J_regressor, parents, lbs_weights, J_template, J_shapedirs, posedirs, prepared);
  TORCH_CHECK_VALUE(stamp.scalar_type() == at::kLong && stamp.numel() == static_cast<int64_t>(vouched.size()) * kFields,
                    name, ": prepared[0] is not the stamp that smplx::prepare made");
  const Rows rows = rows_of(stamp);
  for (size_t i = 0; i < vouched.size(); ++i) {
    // A template for each body of the batch is an input like the pose; nothing of it was prepared.
    if (vouched[i].tensor == nullptr || (vouched[i].tensor->is_same(v_template) && v_template.dim() == 3)) continue;
    const Tensor& tensor = *vouched[i].tensor;
    Fingerprint expected;
    std::copy_n(rows->begin() + static_cast<int64_t>(i) * kFields, kFields, expected.begin());
    const Before known = before(tensor, expected);
    if (known == Before::kUnchanged) continue;
    // Its shape first: a value seen as many would be summed as many.
    if (v_template.dim() == 2) {
      check_model(name, v_template, shapedirs, J_regressor, parents, lbs_weights, J_template, J_shapedirs, posedirs);
      const Tensor& dirs = prepared[Prepared::kJointDirs];
      if (dirs.dim() == 3) Argument{name, "shapedirs", shapedirs}.shape({-1, 3, dirs.size(2)});
    }
    const auto version = version_of(tensor);
    const Fingerprint found = fingerprint(tensor);
    TORCH_CHECK_VALUE(alike(expected, found), name, ": ", vouched[i].name,
                      known == Before::kAlike
                          ? " was changed in place after smplx::prepare looked at it; prepare again"
                          : " is not the tensor that smplx::prepare looked at, nor a copy of it; prepare again");
    fingerprints().remember(tensor, version, found);
  }
}

// The lowest power of two above a positive number, or 1 for what has no such.
static double power_of_two_above(double x) { return std::isnormal(x) ? std::exp2(std::ilogb(x) + 1) : 1; }

// Pose directions [9 (J - 1), 3 V] for products on tensor cores, a row for each coordinate, padded to whole chunks:
// split into two halves, high, low and high again, [chunks, N, 3, F], or the high ones alone, [chunks, N, 1, F]. And
// what an entry is worth, with the largest sum of a vertex's absolute weights.
static std::pair<Tensor, Tensor> split_directions(const Tensor& posedirs, const Tensor& lbs_weights, bool fast) {
  constexpr int64_t kAlignment = 64;  // of both sizes: what fast products ask for
  constexpr int64_t kChunk = 2560;    // at most, of coordinates: longer sums on tensor cores lose digits
  const auto up = [](int64_t x, int64_t unit) { return (x + unit - 1) / unit * unit; };
  const int64_t features = up(posedirs.size(0), kAlignment), chunks = (posedirs.size(1) + kChunk - 1) / kChunk;
  const int64_t rows = up((posedirs.size(1) + chunks - 1) / chunks, kAlignment), products = fast ? 1 : 3;
  const double unit = std::ldexp(power_of_two_above(posedirs.abs().max().item<double>()), -13);
  Tensor pair = at::zeros({chunks * rows, products, features}, posedirs.options().dtype(at::kHalf));
  const Tensor scaled = (posedirs / unit).t();
  const Tensor high = scaled.to(at::kHalf);
  const auto part = [&](int64_t place) {
    return pair.select(1, place).narrow(0, 0, posedirs.size(1)).narrow(1, 0, posedirs.size(0));
  };
  part(0).copy_(high);
  if (!fast) {
    part(1).copy_(scaled - high);
    part(2).copy_(high);
  }
  const double weight_sum = lbs_weights.abs().sum(1).max().item<double>();
  return {pair.view({chunks, rows, products, features}), at::tensor({unit, weight_sum}, posedirs.options())};
}

static std::vector<Tensor> prepare(const Tensor& v_template, const Tensor& shapedirs, const OptionalTensor& J_regressor,
                                   const Tensor& parents, const Tensor& lbs_weights, const OptionalTensor& J_template,
                                   const OptionalTensor& J_shapedirs, const OptionalTensor& posedirs, bool fast) {
  at::NoGradGuard no_grad;
  const char* name = "smplx::prepare";
  check_model(name, v_template, shapedirs, J_regressor, parents, lbs_weights, J_template, J_shapedirs, posedirs);
  const int64_t joints = lbs_weights.size(1);
  const Tensor tree = parents.cpu().contiguous();
  for (int64_t joint = 0; joint < joints; ++joint) {
    const int64_t parent = tree.const_data_ptr<int64_t>()[joint];
    TORCH_CHECK_INDEX(parent >= -1 && parent < joint, name, ": parents[", joint, "] is ", parent,
                      ", expected -1 for a root or an earlier joint");
  }
  // Tensor cores are for float32 on a GPU; elsewhere the directions serve as they are.
  const bool split = posedirs.has_value() && posedirs->is_cuda() && posedirs->scalar_type() == at::kFloat &&
                     posedirs->numel() > 0 && lbs_weights.numel() > 0;
  std::vector<Tensor> made(Prepared::kCount);
  // In float64, so that folding adds no error of its own; a model of 16 bits is for autocast, which computes in
  // float32.
  const auto folded = [&](const Tensor& tensor) {
    const Tensor exact = at::matmul(J_regressor->to(at::kDouble), tensor.to(at::kDouble));
    return exact.to(tensor.element_size() < 4 ? at::kFloat : tensor.scalar_type());
  };
  made[Prepared::kJointTemplate] = J_template.has_value() ? J_template->clone() : folded(v_template);
  made[Prepared::kJointDirs] = J_shapedirs.has_value()
                                   ? J_shapedirs->clone()
                                   : folded(shapedirs.flatten(1)).unflatten(-1, {3, shapedirs.size(2)});
  // The non-zero weights of each vertex first, joints ascending; -1 where a vertex has fewer.
  const Tensor used = lbs_weights.ne(0);
  const int64_t influences = lbs_weights.numel() == 0 ? 0 : used.sum(1).max().item<int64_t>();
  const Tensor first =
      std::get<1>(used.to(at::kByte).sort(/*stable=*/true, /*dim=*/1, /*descending=*/true)).narrow(1, 0, influences);
  made[Prepared::kWeights] = lbs_weights.gather(1, first).contiguous();
  made[Prepared::kWeightJoints] =
      at::where(used.gather(1, first), first, at::full_like(first, -1)).to(at::kInt).contiguous();
  const auto [sorted, order] =
      made[Prepared::kWeightJoints].flatten().sort(/*stable=*/true, /*dim=*/0, /*descending=*/false);
  made[Prepared::kOrder] = order;
  made[Prepared::kStart] = at::searchsorted(sorted, at::arange(joints + 1, sorted.options()));
  // The vertices that each joint moves, and how much.
  made[Prepared::kMoved] = order.floor_divide(std::max<int64_t>(influences, 1)).to(at::kInt);
  made[Prepared::kMovedWeights] = made[Prepared::kWeights].flatten().take(order);
  made[Prepared::kPosePair] = at::empty({0}, v_template.options().dtype(at::kHalf));
  made[Prepared::kPoseUnits] = at::empty({0}, v_template.options());
  if (split)
    std::tie(made[Prepared::kPosePair], made[Prepared::kPoseUnits]) = split_directions(*posedirs, lbs_weights, fast);
  made[Prepared::kStamp] = stamp_of(
      sources(v_template, shapedirs, J_regressor, parents, lbs_weights, J_template, J_shapedirs, posedirs, made),
      v_template.device());
  return made;
}

TORCH_LIBRARY_FRAGMENT(smplx, library) {
  library.def(
      "prepare(Tensor v_template, Tensor shapedirs, Tensor? J_regressor, Tensor parents, Tensor lbs_weights, "
      "Tensor? J_template=None, Tensor? J_shapedirs=None, Tensor? posedirs=None, bool fast=False) -> Tensor[]");
  library.impl("prepare", c10::DispatchKey::CompositeExplicitAutograd, prepare);
}

}  // namespace avatorch
