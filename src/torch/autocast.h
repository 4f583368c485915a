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

// `Function` is the C++ function that calls the operator.
template <class Signature, Signature* Function, size_t Kept = kNoArgument>
void in_float32_under_autocast(torch::Library& library, const char* name) {
  library.impl(name, c10::DispatchKey::AutocastCPU, &InFloat32<c10::DeviceType::CPU, Kept, Signature, Function>::call);
  library.impl(name, c10::DispatchKey::AutocastCUDA,
               &InFloat32<c10::DeviceType::CUDA, Kept, Signature, Function>::call);
}

}  // namespace avatorch
