// Failures from Rust as torch's exceptions, and the dispatcher as Rust programs call it.
#include "border.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/util/Exception.h>

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

}  // namespace avatorch

// Calls the operator `name` (all arguments tensors, null for an absent one) with everything the dispatcher does:
// autograd, autocast, forward mode. Returns 0, or 1 with a copy of the error's text in `message`.
extern "C" int32_t avatorch_dispatch(const char* name, const at::Tensor* const* inputs, size_t input_count,
                                     at::Tensor** outputs, size_t output_count, char* message,
                                     size_t message_size) noexcept {
  try {
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
    return 0;
  } catch (const c10::Error& error) {
    snprintf(message, message_size, "%s", error.what_without_backtrace());
  } catch (const std::exception& error) {
    snprintf(message, message_size, "%s", error.what());
  } catch (...) {
    snprintf(message, message_size, "%s: an unknown exception", name);
  }
  return 1;
}
