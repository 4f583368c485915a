// Checks of the arguments of composite operators.
#include "composite.h"

#include <ATen/TensorSubclassLikeUtils.h>
#include <c10/core/ScalarType.h>

namespace avatorch {

static std::string name_of(c10::ScalarType dtype) { return c10::getDtypeNames(dtype).first; }

static std::string text_of(c10::SymIntArrayRef sizes) {
  std::ostringstream text;
  text << '[';
  for (size_t i = 0; i < sizes.size(); ++i) {
    text << (i == 0 ? "" : ", ");
    if (sizes[i].maybe_as_int() == -1) {
      text << '*';
    } else {
      text << sizes[i];
    }
  }
  text << ']';
  return text.str();
}

// Whether the sizes are these; a size that is only known later is checked then.
static bool are(c10::SymIntArrayRef found, c10::SymIntArrayRef expected) {
  if (found.size() != expected.size()) return false;
  for (size_t i = 0; i < found.size(); ++i) {
    if (expected[i].maybe_as_int() != -1 && !found[i].sym_eq(expected[i]).expect_true(__FILE__, __LINE__)) return false;
  }
  return true;
}

void Argument::present() const { TORCH_CHECK_TYPE(tensor.defined(), op, ": ", name, " is missing, expected a tensor"); }

void Argument::real() const {
  present();
  const auto dtype = tensor.scalar_type();
  TORCH_CHECK_TYPE(dtype == at::kFloat || dtype == at::kDouble, op, ": ", name, " is ", name_of(dtype),
                   ", expected float32 or float64 (under autocast, float16 and bfloat16 are computed in float32)");
}

void Argument::floating() const {
  present();
  const auto dtype = tensor.scalar_type();
  TORCH_CHECK_TYPE(dtype == at::kFloat || dtype == at::kDouble || dtype == at::kHalf || dtype == at::kBFloat16, op,
                   ": ", name, " is ", name_of(dtype), ", expected float32 or float64");
}

void Argument::int64() const {
  present();
  TORCH_CHECK_TYPE(tensor.scalar_type() == at::kLong, op, ": ", name, " is ", name_of(tensor.scalar_type()),
                   ", expected int64");
}

void Argument::below(const c10::SymInt& limit) const {
  if (!tensor.device().is_cpu() || at::isTensorSubclassLike(tensor) || tensor.numel() == 0) return;
  const Tensor flat = tensor.detach().contiguous();
  const auto* values = flat.const_data_ptr<int64_t>();
  const int64_t end = limit.guard_int(__FILE__, __LINE__);
  for (int64_t i = 0; i < flat.numel(); ++i) {
    TORCH_CHECK_INDEX(0 <= values[i] && values[i] < end, op, ": ", name, " holds ", values[i], ", expected 0 to ",
                      end - 1);
  }
}

void Argument::on_device_of(const Argument& other) const {
  present();
  TORCH_CHECK_VALUE(tensor.device() == other.tensor.device(), op, ": ", name, " is on ", tensor.device(), ", expected ",
                    other.tensor.device(), " as ", other.name);
}

void Argument::like(const Argument& other) const {
  on_device_of(other);
  const auto dtype = tensor.scalar_type(), expected = other.tensor.scalar_type();
  TORCH_CHECK_TYPE(dtype == expected, op, ": ", name, " is ", name_of(dtype), ", expected ", name_of(expected), " as ",
                   other.name);
}

void Argument::rank(int64_t least, int64_t most) const {
  const auto found = tensor.dim();
  TORCH_CHECK_VALUE(least <= found && found <= most, op, ": ", name, " has shape ", text_of(tensor.sym_sizes()),
                    ", expected ", least, least == most ? "" : " or " + std::to_string(most), " dimensions");
}

void Argument::shape(c10::SymIntArrayRef expected) const {
  TORCH_CHECK_VALUE(are(tensor.sym_sizes(), expected), op, ": ", name, " has shape ", text_of(tensor.sym_sizes()),
                    ", expected ", text_of(expected));
}

void Argument::ends_with(c10::SymIntArrayRef expected) const {
  const auto found = tensor.sym_sizes();
  TORCH_CHECK_VALUE(found.size() >= expected.size() && are(found.slice(found.size() - expected.size()), expected), op,
                    ": ", name, " has shape ", text_of(found), ", expected [..., ", text_of(expected).substr(1));
}

void Argument::batched(const c10::SymInt& bodies, c10::SymIntArrayRef expected) const {
  std::vector<c10::SymInt> sizes{TORCH_GUARD_OR_FALSE(tensor.sym_size(0).sym_eq(1)) ? c10::SymInt(1) : bodies};
  sizes.insert(sizes.end(), expected.begin(), expected.end());
  shape(sizes);
}

c10::SymInt common_batch(const c10::SymInt& a, const c10::SymInt& b) {
  return TORCH_GUARD_OR_FALSE(a.sym_eq(1)) ? b : a;
}

}  // namespace avatorch
