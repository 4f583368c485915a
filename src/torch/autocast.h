// Under autocast every operator computes in float32: bodies are metres long and micrometres matter.
#pragma once
#include <ATen/autocast_mode.h>
#include <torch/library.h>

namespace avatorch {

// `Function` is the C++ function that calls the operator; floating arguments narrower than float32 are widened.
template <class Signature, Signature* Function>
void in_float32_under_autocast(torch::Library& library, const char* name) {
  using at::autocast::CastPolicy;
  using at::autocast::WrapFunction;
  using OnCpu = WrapFunction<CastPolicy::fp32, c10::DeviceType::CPU, Signature, Signature, Function>;
  using OnCuda = WrapFunction<CastPolicy::fp32, c10::DeviceType::CUDA, Signature, Signature, Function>;
  library.impl(name, c10::DispatchKey::AutocastCPU, &OnCpu::type::call);
  library.impl(name, c10::DispatchKey::AutocastCUDA, &OnCuda::type::call);
}

}  // namespace avatorch
