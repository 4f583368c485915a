// The tensors of a body model as the operators take them, and what is derived from them once.
#pragma once
#include <ATen/ATen.h>

namespace avatorch {

using OptionalTensor = std::optional<at::Tensor>;

// What `smplx::prepare` made, by position in its list.
struct Prepared {
  enum Position {
    kStamp,
    kJointTemplate,
    kJointDirs,
    kWeights,
    kWeightJoints,
    kOrder,
    kStart,
    kPosePair,
    kPoseUnits,
    kMoved,
    kMovedWeights,
    kCount
  };
};

// Throws unless `prepared` is empty or was made from these very tensors, unchanged since.
void check_prepared(const char* name, at::TensorList prepared, const at::Tensor& v_template,
                    const at::Tensor& shapedirs, const OptionalTensor& J_regressor, const at::Tensor& parents,
                    const at::Tensor& lbs_weights, const OptionalTensor& J_template, const OptionalTensor& J_shapedirs,
                    const OptionalTensor& posedirs);

}  // namespace avatorch
