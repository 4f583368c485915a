// The border between torch's dispatcher and Rust: tensors are lent, results are given, a failure is a sentence.
#pragma once
#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/SmallVector.h>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <string_view>
#include <vector>

namespace avatorch {

// The Rust twin is `RawCall` in border.rs.
struct Call {
  const at::Tensor* const* inputs;  // [input_count], null where an optional tensor is absent
  size_t input_count;
  const int64_t* numbers;  // [number_count]
  size_t number_count;
  const char* text;  // [text_length], UTF-8
  size_t text_length;
  at::Tensor** outputs;  // [output_count], written by Rust and then owned here; null where nothing was asked for
  size_t output_count;
  void* stream;   // torch's current CUDA stream of the device, null on the CPU
  char* message;  // written by Rust when the call fails, freed by avatorch_free_message
};

using Entry = int32_t (*)(Call*);

extern "C" void avatorch_free_message(char* message);

// Throws the exception that `kind`, a value of Rust's error table, stands for.
[[noreturn]] void raise(int32_t kind, char* message);

inline const at::Tensor* lend(const at::Tensor& tensor) { return tensor.defined() ? &tensor : nullptr; }
inline const at::Tensor* lend(const std::optional<at::Tensor>& tensor) {
  return tensor.has_value() && tensor->defined() ? &*tensor : nullptr;
}

// A tensor of no elements beside another, for a result that nobody asked for: an operator returns tensors. Made here,
// it costs a tenth of `at::empty`, and a backward pass has nine.
inline at::Tensor nothing(const at::Tensor& beside) {
  auto storage = c10::make_intrusive<c10::StorageImpl>(c10::StorageImpl::use_byte_size_t(), 0,
                                                       at::DataPtr(nullptr, beside.device()),
                                                       c10::GetAllocator(beside.device().type()), /*resizable=*/true);
  return at::detail::make_tensor<c10::TensorImpl>(
      c10::Storage(std::move(storage)), c10::DispatchKeySet(beside.options().computeDispatchKey()), beside.dtype());
}

// Shapes alone are computed where every tensor is one of shapes alone: beside another, the result would be memory that
// nobody wrote.
template <class... Arguments>
void check_all_meta(const char* name, const Arguments&... arguments) {
  const auto check = [&](const std::optional<at::Tensor>& tensor) {
    if (!tensor.has_value() || !tensor->defined()) return;
    TORCH_CHECK_VALUE(tensor->device().is_meta(), name, ": a tensor is on ", tensor->device(),
                      ", expected meta as others are");
  };
  (check(arguments), ...);
}

// Calls Rust on the device of the first tensor present, or the CPU, on torch's current stream, and takes the outputs
// over.
template <size_t Outputs>
std::array<at::Tensor, Outputs> enter(Entry entry, std::initializer_list<const at::Tensor*> inputs,
                                      std::initializer_list<int64_t> numbers = {}, std::string_view text = {}) {
  c10::SmallVector<const at::Tensor*, 32> lent;
  for (const at::Tensor* input : inputs) lent.push_back(input != nullptr ? lend(*input) : nullptr);
  const auto present = std::find_if(lent.begin(), lent.end(), [](const at::Tensor* input) { return input != nullptr; });
  const c10::Device device = present != lent.end() ? (*present)->device() : c10::Device(c10::kCPU);
  c10::OptionalDeviceGuard guard;
  void* stream = nullptr;
  if (device.is_cuda()) {
    guard.reset_device(device);
    stream = c10::impl::VirtualGuardImpl(device.type()).getStream(device).native_handle();
  }
  std::array<at::Tensor*, Outputs> given{};
  Call call{lent.data(), lent.size(),  numbers.begin(), numbers.size(), text.data(),
            text.size(), given.data(), Outputs,         stream,         nullptr};
  const int32_t kind = entry(&call);
  std::array<at::Tensor, Outputs> outputs;
  for (size_t i = 0; i < Outputs; ++i) {
    if (std::unique_ptr<at::Tensor> tensor{given[i]}) outputs[i] = std::move(*tensor);
  }
  if (kind != 0) raise(kind, call.message);
  return outputs;
}

}  // namespace avatorch
