// Failures from Rust as torch's exceptions, tensors for Rust, and the dispatcher as Rust programs call it.
#include "border.h"

#include <ATen/Context.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/util/Exception.h>
#include <c10/util/safe_numerics.h>

#include <string>

namespace avatorch {

void raise(int32_t kind, char* message) {
  std::string text = message != nullptr ? message : "avatorch: failed without a message";
  if (message != nullptr) avatorch_free_message(message);
  switch (kind) {
    case 1:
      C10_THROW_ERROR(ValueError, text);
    case 2:
      C10_THROW_ERROR(TypeError, text);
    case 3:
      C10_THROW_ERROR(IndexError, text);
    case 4:
      C10_THROW_ERROR(NotImplementedError, text);
    default:
      C10_THROW_ERROR(Error, text);
  }
}

// Runs what Rust asked for. Returns 0, or 1 with a copy of the error's text in `message`.
template <class Work>
static int32_t attempt(char* message, size_t message_size, const Work& work) noexcept {
  try {
    work();
    return 0;
  } catch (const c10::Error& error) {
    snprintf(message, message_size, "%s", error.what_without_backtrace());
  } catch (const std::exception& error) {
    snprintf(message, message_size, "%s", error.what());
  } catch (...) {
    snprintf(message, message_size, "an unknown exception");
  }
  return 1;
}

// A tensor that Rust asks for; the twin is in tensor.rs.
struct Wanted {
  const int64_t* size;  // [rank]
  size_t rank;
  int32_t dtype;  // at::ScalarType
  int32_t is_own;

  at::IntArrayRef sizes() const { return {size, rank}; }
  c10::ScalarType type() const { return static_cast<c10::ScalarType>(dtype); }
  size_t bytes() const {
    at::detail::check_size_nonnegative(sizes());
    return at::detail::computeStorageNbytesContiguous(sizes(), c10::elementSize(type()));
  }
};

// From the allocator that torch uses: for CUDA a program may have put another in the place of torch's own.
static c10::Storage allocated(size_t bytes, c10::Device device) {
  c10::Allocator* allocator =
      device.is_cuda() ? at::detail::getCUDAHooks().getCUDADeviceAllocator() : c10::GetAllocator(device.type());
  c10::Storage storage(c10::Storage::use_byte_size_t(), static_cast<int64_t>(bytes), allocator, /*resizable=*/true);
  TORCH_CHECK(!device.is_cuda() || storage.device() == device, "the current device is ", storage.device(),
              ", expected ", device);
  return storage;
}

}  // namespace avatorch

// Makes contiguous tensors of memory that nobody has written, on the device of another; those that are not their own
// share one allocation. `outputs` are written if all were made.
extern "C" int32_t avatorch_empty(const at::Tensor* beside, const avatorch::Wanted* wanted, size_t count,
                                  at::Tensor** outputs, char* message, size_t message_size) noexcept {
  return avatorch::attempt(message, message_size, [&] {
    constexpr uint64_t kAlignment = 256;  // bytes: no kernel reads more at once
    const c10::Device device = beside->device();
    c10::SmallVector<size_t, 8> starts;
    uint64_t end = 0;
    for (size_t i = 0; i < count; ++i) {
      starts.push_back(end);
      if (wanted[i].is_own) continue;
      const bool overflows = c10::add_overflows(end, wanted[i].bytes(), &end) ||
                             c10::add_overflows(end, kAlignment - 1, &end) || end > INT64_MAX;
      TORCH_CHECK(!overflows, "Storage size calculation overflowed with sizes=", wanted[i].sizes());
      end = end / kAlignment * kAlignment;
    }
    const c10::Storage shared = end > 0 ? avatorch::allocated(end, device) : c10::Storage();
    c10::SmallVector<at::Tensor, 8> made;
    for (size_t i = 0; i < count; ++i) {
      const bool is_apart = wanted[i].is_own || end == 0;
      made.push_back(at::detail::make_tensor<c10::TensorImpl>(
          is_apart ? avatorch::allocated(wanted[i].bytes(), device) : c10::Storage(shared),
          c10::DispatchKeySet(c10::computeDispatchKey(wanted[i].type(), c10::kStrided, device)),
          c10::scalarTypeToTypeMeta(wanted[i].type())));
      c10::TensorImpl* tensor = made.back().unsafeGetTensorImpl();
      tensor->set_sizes_contiguous(wanted[i].sizes());
      if (!is_apart) tensor->set_storage_offset(static_cast<int64_t>(starts[i] / c10::elementSize(wanted[i].type())));
    }
    for (size_t i = 0; i < count; ++i) outputs[i] = new at::Tensor(std::move(made[i]));
  });
}

// The sizes of a tensor, for as long as it lives and is not resized; null if it has none.
extern "C" const int64_t* avatorch_sizes(const at::Tensor* tensor, size_t* rank) noexcept {
  try {
    const at::IntArrayRef sizes = tensor->sizes();
    *rank = sizes.size();
    return sizes.data();
  } catch (...) {
    return nullptr;
  }
}

// Whether torch may add products of halves in halves; whether it might before.
extern "C" int32_t avatorch_allow_half_sums(int32_t allow) noexcept {
  at::Context& context = at::globalContext();
  const bool before = context.allowFP16AccumulationCuBLAS();
  context.setAllowFP16AccumulationCuBLAS(allow != 0);
  return before;
}

// Calls the operator `name` (all arguments tensors, null for an absent one) with everything the dispatcher does:
// autograd, autocast, forward mode. Returns 0, or 1 with a copy of the error's text in `message`.
extern "C" int32_t avatorch_dispatch(const char* name, const at::Tensor* const* inputs, size_t input_count,
                                     at::Tensor** outputs, size_t output_count, char* message,
                                     size_t message_size) noexcept {
  return avatorch::attempt(message, message_size, [&] {
    const auto op = c10::Dispatcher::singleton().findSchemaOrThrow(name, "");
    torch::jit::Stack stack;
    for (size_t i = 0; i < input_count; ++i) {
      stack.push_back(inputs[i] != nullptr ? c10::IValue(*inputs[i]) : c10::IValue());
    }
    const auto& arguments = op.schema().arguments();
    for (size_t i = input_count; i < arguments.size(); ++i) {
      const auto& value = arguments[i].default_value();
      TORCH_CHECK_TYPE(value.has_value(), name, ": argument ", arguments[i].name(), " is missing");
      stack.push_back(*value);
    }
    op.callBoxed(stack);
    TORCH_CHECK_VALUE(stack.size() == output_count, name, " returns ", stack.size(), " values, expected ",
                      output_count);
    for (size_t i = 0; i < output_count; ++i) outputs[i] = new at::Tensor(std::move(stack[i]).toTensor());
  });
}
