// Under autocast every operator computes in float32: bodies are metres long and micrometres matter.
#pragma once
#include <ATen/autocast_mode.h>
#include <torch/library.h>

namespace avatorch {

constexpr size_t kNoArgument = ~size_t{0};

// Calls `Function` outside of autocast, with floating arguments that are narrower than float32 widened; but for the one
// at position `Kept`, whose halves are meant.
template <c10::DeviceType Device, size_t Kept, class Signature, Signature* Function>
struct InFloat32;
template <c10::DeviceType Device, size_t Kept, class Result, class... Arguments, Result (*Function)(Arguments...)>
struct InFloat32<Device, Kept, Result(Arguments...), Function> {
  static Result call(Arguments... arguments) {
    c10::impl::ExcludeDispatchKeyGuard outside(at::autocast::get_autocast_dispatch_key_from_device_type(Device));
    return numbered(std::index_sequence_for<Arguments...>(), arguments...);
  }

 private:
  template <size_t... Position>
  static Result numbered(std::index_sequence<Position...>, const std::decay_t<Arguments>&... arguments) {
    return Function(widened<Position == Kept>(arguments)...);
  }
  template <bool IsKept, class Argument>
  static auto widened(const Argument& argument) {
    if constexpr (IsKept) {
      return argument;
    } else {
      return at::autocast::cached_cast(at::kFloat, argument, Device);
    }
  }
};

// For a function that vmap takes apart: what it calls is under autocast again, whatever is excluded here. Float64 is
// what autocast leaves alone, so it computes in that, and returns float32.
template <class Signature, Signature* Function>
struct PastAutocast;
template <class... Arguments, at::Tensor (*Function)(Arguments...)>
struct PastAutocast<at::Tensor(Arguments...), Function> {
  static at::Tensor call(Arguments... arguments) {
    if ((is_double(arguments) || ...) || !(is_under_autocast(arguments) || ...)) return Function(arguments...);
    return Function(widened(arguments)...).to(at::kFloat);
  }

 private:
  using Given = const std::optional<at::Tensor>&;
  static bool is_double(Given tensor) { return tensor.has_value() && tensor->scalar_type() == at::kDouble; }
  static bool is_under_autocast(Given tensor) {
    return tensor.has_value() && tensor->is_floating_point() &&
           ((tensor->is_cpu() && at::autocast::is_autocast_enabled(at::kCPU)) ||
            (tensor->is_cuda() && at::autocast::is_autocast_enabled(at::kCUDA)));
  }
  template <class Argument>
  static Argument widened(const Argument& tensor) {
    return is_under_autocast(tensor) ? Argument(as_tensor(tensor).to(at::kDouble)) : tensor;
  }
  static const at::Tensor& as_tensor(const at::Tensor& tensor) { return tensor; }
  static const at::Tensor& as_tensor(Given tensor) { return *tensor; }
};

// `Function` is the C++ function that calls the operator.
template <class Signature, Signature* Function, size_t Kept = kNoArgument>
void in_float32_under_autocast(torch::Library& library, const char* name) {
  library.impl(name, c10::DispatchKey::AutocastCPU, &InFloat32<c10::DeviceType::CPU, Kept, Signature, Function>::call);
  library.impl(name, c10::DispatchKey::AutocastCUDA,
               &InFloat32<c10::DeviceType::CUDA, Kept, Signature, Function>::call);
}

}  // namespace avatorch
