// Operators made of torch's own differentiable ones: every transform, export and derivative follows from theirs.
#pragma once
#include <ATen/ATen.h>
#include <torch/library.h>

#include "autocast.h"

namespace avatorch {

using at::Tensor;

// One tensor argument and the checks of arguments.rs, in the same sentences, on symbolic sizes.
struct Argument {
  const char* op;
  const char* name;
  const Tensor& tensor;

  void present() const;
  void real() const;
  // Also float16 and bfloat16.
  void floating() const;
  void int64() const;
  // At least 0 and below `limit`; looked at where that costs no wait, on the CPU.
  void below(const c10::SymInt& limit) const;
  void on_device_of(const Argument& other) const;
  // The same device and dtype.
  void like(const Argument& other) const;
  void rank(int64_t least, int64_t most) const;
  // -1 stands for any size.
  void shape(c10::SymIntArrayRef expected) const;
  // Any leading dimensions, then exactly these.
  void ends_with(c10::SymIntArrayRef expected) const;
  // A batch of `bodies`, or 1 to be shared by all, then exactly these.
  void batched(const c10::SymInt& bodies, c10::SymIntArrayRef expected) const;
};

// The batch of tensors each of which may have batch 1.
c10::SymInt common_batch(const c10::SymInt& a, const c10::SymInt& b);

// Registers `Function` under the name that `schema` begins with.
template <class Signature, Signature* Function>
void composite(torch::Library& library, const std::string& schema) {
  const std::string name = schema.substr(0, schema.find('('));
  library.def(schema.c_str(), {at::Tag::pt2_compliant_tag});
  library.impl(name.c_str(), torch::dispatch(c10::DispatchKey::CompositeImplicitAutograd, TORCH_FN(Function)));
  library.impl(name.c_str(), c10::DispatchKey::FuncTorchBatchedDecomposition, &PastAutocast<Signature, Function>::call);
  in_float32_under_autocast<Signature, Function>(library, name.c_str());
}

}  // namespace avatorch
