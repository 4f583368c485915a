// One hand-written autograd Node for every operator.
//
// An operator differentiates in three ways, always the same three:
//   first order     OperatorNode calls Formula::backward, which calls the backward operator (a fused kernel);
//   second order    the backward operator, asked for a derivative, evaluates its formula in differentiable operators;
//   forward mode    the operator, given a tangent, evaluates its formula in differentiable operators.
// So a kernel is never differentiated itself, and derivatives of any order exist.
#pragma once
#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/csrc/dynamo/compiled_autograd.h>

#include <map>
#include <string>

namespace avatorch {

using at::Tensor;
using torch::autograd::variable_list;
using Needs = std::vector<bool>;  // for each input of the operator: is its gradient asked for?

// What a call kept for its derivative.
struct Saved {
  variable_list tensors;
  std::vector<int64_t> numbers;
  std::string text;
};

template <class Signature>
c10::TypedOperatorHandle<Signature> find_operator(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").template typed<Signature>();
}

// Defines `function()`, the typed handle of an operator, looked up once.
#define AVATORCH_OPERATOR(function, Signature, name)                       \
  static const c10::TypedOperatorHandle<Signature>& function() {           \
    static const auto handle = ::avatorch::find_operator<Signature>(name); \
    return handle;                                                         \
  }

inline bool has_tangent(const Tensor& tensor) { return torch::autograd::isFwGradDefined(tensor); }
inline bool has_tangent(const std::optional<Tensor>& tensor) { return torch::autograd::isFwGradDefined(tensor); }
template <class... Tensors>
bool any_tangent(const Tensors&... tensors) {
  return (has_tangent(tensors) || ...);
}

// The sum of two terms either of which may be undefined, which stands for zero.
inline Tensor plus(const Tensor& a, const Tensor& b) { return !a.defined() ? b : !b.defined() ? a : a + b; }

// The gradient of an argument that was broadcast to the gradient's shape.
inline Tensor reduced_to(const Tensor& grad, const Tensor& argument) { return at::sum_to(grad, argument.sym_sizes()); }

// Formula has `name` and `backward(grads, saved, needs)`: gradients of the outputs (undefined where none arrived) and
// what was saved to gradients of the inputs.
template <class Formula>
class OperatorNode final : public torch::autograd::Node {
 public:
  void save(const Tensor& tensor, bool is_output = false) {
    saved_.emplace_back(tensor, is_output);
    is_output_.push_back(is_output);
  }
  void save(int64_t number) { numbers_.push_back(number); }
  void save(std::string_view text) { text_ = text; }

  std::string name() const override { return Formula::name; }

  void release_variables() override {
    std::lock_guard<std::mutex> lock(mutex_);
    for (auto& tensor : saved_) tensor.reset_data();
  }

  void compiled_args(torch::dynamo::autograd::CompiledNodeArgs& args) const override {
    for (size_t i = 0; i < saved_.size(); ++i) args.collect(saved_[i], is_output_[i]);
    for (const int64_t number : numbers_) args.collect(number);
    args.collect(text_);
    for (const bool need : needs()) args.collect(need);
  }

  variable_list apply_with_saved(const variable_list& grads,
                                 torch::dynamo::autograd::SwapSavedVariables& swap) override {
    using namespace torch::dynamo::autograd;
    for (auto& tensor : saved_) swap.before(tensor);
    PackedArgs packed;
    packed.pack(needs());
    packed.pack(numbers_);
    packed.pack(text_);
    std::vector<at::TypePtr> schema{IValuePacker<Needs>::packed_type(),
                                    IValuePacker<std::vector<int64_t>>::packed_type(),
                                    IValuePacker<std::string>::packed_type()};
    for (const Tensor& tensor : unpack().tensors) {
      packed.pack(tensor);
      schema.push_back(at::TensorType::get());
    }
    const auto inputs = IValuePacker<std::vector<std::optional<torch::autograd::InputMetadata>>>::pack(
        torch::dynamo::autograd::get_input_metadata(next_edges()));
    const auto& compiler = getPyCompilerInterface();
    // Dynamo keeps a function under its name for the life of the process, so each is bound once, under the lock that
    // the compiler holds. Two calls of an operator may save different numbers of tensors.
    static std::map<size_t, std::string> bound;
    std::string& function = bound[schema.size()];
    if (function.empty()) {
      function = compiler->bind_function(swap.get_py_compiler(), name() + std::to_string(schema.size()), functional,
                                         schema, /*is_custom_function=*/false, /*is_traceable=*/true);
    }
    auto result =
        compiler->call_function(swap.get_py_compiler(), "apply_functional", function, grads, packed.vec(), inputs);
    for (auto& tensor : saved_) swap.after(tensor);
    return result;
  }

 private:
  variable_list apply(variable_list&& grads) override {
    std::lock_guard<std::mutex> lock(mutex_);
    return backward(grads, unpack(), needs());
  }

  static variable_list backward(const variable_list& grads, const Saved& saved, const Needs& needs) {
    // A formula in torch's own operators is no work for autocast either.
    c10::impl::ExcludeDispatchKeyGuard outside(c10::autocast_dispatch_keyset);
    const bool any = std::any_of(grads.begin(), grads.end(), [](const Tensor& grad) { return grad.defined(); });
    return any ? Formula::backward(grads, saved, needs) : variable_list(needs.size());
  }

  static variable_list functional(const variable_list& grads, const std::vector<c10::IValue>& values) {
    torch::dynamo::autograd::PackedArgs packed(values);
    const auto needs = packed.unpack<Needs>();
    Saved saved{{}, packed.unpack<std::vector<int64_t>>(), packed.unpack<std::string>()};
    while (saved.tensors.size() + 3 < values.size()) saved.tensors.push_back(packed.unpack<Tensor>());
    return backward(grads, saved, needs);
  }

  Saved unpack() {
    Saved saved{{}, numbers_, text_};
    for (size_t i = 0; i < saved_.size(); ++i) {
      saved.tensors.push_back(is_output_[i] ? saved_[i].unpack(shared_from_this()) : saved_[i].unpack());
    }
    return saved;
  }

  Needs needs() const {
    Needs result(num_outputs());
    for (size_t i = 0; i < result.size(); ++i) result[i] = task_should_compute_output(i);
    return result;
  }

  std::vector<torch::autograd::SavedVariable> saved_;
  std::vector<bool> is_output_;
  std::vector<int64_t> numbers_;
  std::string text_;
};

// The Node for a call on these inputs, or null when none of them needs a gradient.
template <class Formula, class... Inputs>
std::shared_ptr<OperatorNode<Formula>> node_for(const Inputs&... inputs) {
  if (!torch::autograd::compute_requires_grad(inputs...)) return nullptr;
  std::shared_ptr<OperatorNode<Formula>> node(new OperatorNode<Formula>(), torch::autograd::deleteNode);
  node->set_next_edges(torch::autograd::collect_next_edges(inputs...));
  return node;
}

}  // namespace avatorch
