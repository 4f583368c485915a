//! A body from shape coefficients and pose: the flow of the whole part.
//!
//! ```text
//! shape ------> v_shaped -----------------------------+
//!   |                                                 v
//!   +--> rest joints --+--> chain --> transforms --> posed_skinning --> vertices
//! pose --> rotations --+--> pose correctives ---------^
//! ```

use smallvec::smallvec;
use tch::Tensor;

use super::kinematic_chain::parents_of;
use super::skinning::{Skin, batched, common_batch};
use super::{pose, posed_skinning};
use crate::torch::{Argument, Arguments, Outputs, entry};
use crate::{Error, Result};

entry!(avatorch_forward, "smplx::forward", forward);
fn forward(args: &Arguments) -> Result<Outputs> {
    let model = Model::read(args)?;
    let (shape, pose) =
        (args.tensor(0, "shape_coefficients")?.like(model.template)?, args.tensor(1, "pose")?.like(model.template)?);
    let per_body =
        [args.optional(2, "transl"), args.optional(11, "vertex_offsets"), args.optional(12, "joint_offsets")];
    let mut batches = vec![shape, pose];
    batches.extend((model.template.tensor.dim() == 3).then_some(model.template));
    batches.extend(per_body.into_iter().flatten());
    let bodies = common_batch(&batches);

    let shape = batched(shape, bodies, &[model.shapes])?.contiguous()?;
    let pose = read_pose(pose, bodies, model.joints)?.contiguous()?;
    let read = |argument: Option<Argument<'_>>, rest: &[i64]| match argument {
        Some(argument) => batched(argument.like(model.template)?, bodies, rest)?.contiguous().map(Some),
        None => Ok(None),
    };
    let transl = read(per_body[0], &[3])?;
    let vertex_offsets = read(per_body[1], &[model.vertices, 3])?;
    let joint_offsets = read(per_body[2], &[model.joints, 3])?;

    let v_shaped = model.shaped(&shape, bodies)?;
    let (joint_base, joint_dirs) = model.rest_joints(args, &v_shaped)?;
    let posed = pose::forward(
        &pose::Inputs {
            bodies,
            pose: &pose,
            shape: &shape,
            joint_base: &joint_base,
            joint_dirs: joint_dirs.as_ref(),
            joint_offsets: joint_offsets.as_ref(),
            transl: transl.as_ref(),
            parents: &model.parents,
            wants_features: model.posedirs.is_some(),
        },
        args,
    )?;
    let correctives = match (&posed.features, &model.posedirs) {
        (Some(features), Some(posedirs)) => Some(features.f_mm(posedirs)?.f_view([bodies, model.vertices, 3])?),
        _ => None,
    };
    let rest = posed_skinning::Rest {
        v_shaped: &v_shaped,
        correctives,
        vertex_offsets: vertex_offsets.as_ref(),
        transl: transl.as_ref(),
    };
    let (v_posed, vertices) = posed_skinning::forward(rest, &posed.transforms, &model.skin, args)?;
    let intermediates = [v_shaped, posed.joints, posed.rot_mats, posed.transforms, v_posed];
    let mut outputs: Outputs = smallvec![Some(vertices), Some(posed.posed)];
    for tensor in intermediates {
        // A result that is not wanted is empty, not absent: an operator returns tensors.
        outputs.push(Some(if args.number(0) == 0 {
            tensor.f_new_empty([0], (tensor.kind(), tensor.device()))?
        } else {
            tensor
        }));
    }
    Ok(outputs)
}

/// The tensors of the model, checked against one another.
struct Model<'a> {
    template: Argument<'a>,   // [V, 3] or [B | 1, V, 3]
    shapedirs: Tensor,        // [V, 3, C]
    posedirs: Option<Tensor>, // [9 (J - 1), 3 V]
    parents: Tensor,          // [J]
    skin: Skin,
    vertices: i64,
    joints: i64,
    shapes: i64, // C
}

impl<'a> Model<'a> {
    fn read(args: &'a Arguments<'_>) -> Result<Self> {
        let template = args.tensor(3, "v_template")?.real()?;
        let weights = args.tensor(8, "lbs_weights")?.like(template)?.rank(2)?;
        let (vertices, joints) = (weights.tensor.size()[0], weights.tensor.size()[1]);
        if joints == 0 {
            return Err(Error::Value(
                "smplx::forward: lbs_weights has no joints, expected [V, J] with at least one".into(),
            ));
        }
        let template = if template.tensor.dim() == 3 { template } else { template.shape(&[vertices, 3])? };
        let shapedirs = args.tensor(4, "shapedirs")?.like(template)?.shape(&[vertices, 3, -1])?;
        let posedirs = match args.optional(5, "posedirs") {
            Some(posedirs) => Some(posedirs.like(template)?.shape(&[9 * (joints - 1), 3 * vertices])?.contiguous()?),
            None => None,
        };
        let parents = parents_of(args.tensor(7, "parents")?.same_device(template)?, joints)?;
        let skin = match (args.optional(15, "prepared weights"), args.optional(16, "prepared joints")) {
            (Some(values), Some(of)) => Skin::read(values.like(template)?.shape(&[vertices, -1])?, Some(of), joints)?,
            _ => Skin::read(weights, None, joints)?,
        };
        let shapes = shapedirs.tensor.size()[2];
        Ok(Self { template, shapedirs: shapedirs.contiguous()?, posedirs, parents, skin, vertices, joints, shapes })
    }

    /// `v_template + shapedirs . shape`, `[B, V, 3]`.
    fn shaped(&self, shape: &Tensor, bodies: i64) -> Result<Tensor> {
        let dirs = self.shapedirs.f_view([3 * self.vertices, self.shapes])?.f_tr()?;
        let size = [bodies, self.vertices, 3];
        if self.template.tensor.dim() == 2 {
            let template = self.template.tensor.f_reshape([1, 3 * self.vertices])?;
            let shaped = template.f_addmm(shape, &dirs)?.f_view([-1, self.vertices, 3])?;
            return Ok(shaped.f_expand(size, false)?.f_contiguous()?);
        }
        let template = batched(self.template, bodies, &[self.vertices, 3])?.tensor;
        let blend = shape.f_mm(&dirs)?.f_view([-1, self.vertices, 3])?;
        Ok(blend.f_add(template)?.f_expand(size, false)?.f_contiguous()?)
    }

    /// Rest joints `[1 | B, J, 3]`, and directions `[J, 3, C]` still to be added.
    fn rest_joints(&self, args: &Arguments, v_shaped: &Tensor) -> Result<(Tensor, Option<Tensor>)> {
        let folded = |template: Argument<'_>, dirs: Argument<'_>| -> Result<_> {
            let base = template.like(self.template)?.shape(&[self.joints, 3])?.contiguous()?.f_unsqueeze(0)?;
            let dirs = dirs.like(self.template)?.shape(&[self.joints, 3, self.shapes])?.contiguous()?;
            Ok((base, Some(dirs)))
        };
        let regressor = args.optional(6, "J_regressor");
        let given = (args.optional(9, "J_template"), args.optional(10, "J_shapedirs"));
        // A template of each body's own moves the joints too; then the folded joints do not hold.
        let shared_template = self.template.tensor.dim() == 2;
        match (regressor, given, args.optional(13, "prepared J_template"), args.optional(14, "prepared J_shapedirs")) {
            (Some(_), (None, None), Some(template), Some(dirs)) if shared_template => folded(template, dirs),
            (Some(regressor), (None, None), ..) => {
                let regressor = regressor.like(self.template)?.shape(&[self.joints, self.vertices])?;
                Ok((regressor.tensor.f_matmul(v_shaped)?.f_contiguous()?, None))
            }
            (None, (Some(template), Some(dirs)), ..) => folded(template, dirs),
            _ => Err(Error::Value(
                "smplx::forward: expected either J_regressor or both J_template and J_shapedirs, to say where the joints are".into(),
            )),
        }
    }
}

/// Axis-angle `[B, 3 J]` or `[B, J, 3]`, or matrices `[B, J, 3, 3]`.
fn read_pose(pose: Argument<'_>, bodies: i64, joints: i64) -> Result<Argument<'_>> {
    match pose.tensor.dim() {
        2 => batched(pose, bodies, &[3 * joints]),
        3 => batched(pose, bodies, &[joints, 3]),
        _ => batched(pose, bodies, &[joints, 3, 3]),
    }
}
