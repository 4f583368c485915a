//! A body from shape coefficients and pose: the flow of the whole part.
//!
//! ```text
//! shape ------> v_shaped -----------------------------+
//!   |                                                 v
//!   +--> rest joints --+--> chain --> transforms --> posed_skinning --> vertices
//! pose --> rotations --+--> pose correctives ---------^
//! ```

use smallvec::{SmallVec, smallvec};
use tch::Tensor;

use super::kinematic_chain::parents_of;
use super::skinning::{Skin, batched, common_batch};
use super::{few_skinning, pose, pose_blend, posed_skinning, slab};
use crate::torch::{Argument, Arguments, Outputs, Sizes, entry};
use crate::{Error, Result};

entry!(avatorch_forward, "smplx::forward", forward);
fn forward(args: &Arguments) -> Result<Outputs> {
    let model = Model::read(args)?;
    let inputs = Inputs::read(args, &model)?;
    let pair = slab::Pair::read(
        args.optional(17, "prepared posedirs"),
        args.optional(18, "prepared units"),
        (model.vertices, model.joints),
    )?;
    let has_pair = pair.is_some() == model.posedirs.is_some();
    let body = match model.folded_joints(args)? {
        Some(joints)
            if has_pair
                && model.template.tensor.dim() == 2
                && slab::is_worth(inputs.bodies, pair.as_ref(), model.shapes, &model.skin)?
                && slab::serves(model.shapes, &model.skin)? =>
        {
            in_slabs(&model, &inputs, &joints, pair.as_ref(), args)?
        }
        Some(joints) => match model.few(inputs.bodies, args)? {
            Some(launch) => few(&model, &inputs, &joints, &launch, args)?,
            None => body_by_body(&model, &inputs, Some(joints), args)?,
        },
        None => body_by_body(&model, &inputs, None, args)?,
    };
    let (vertices, [v_shaped, v_posed]) = body.skinned;
    let pose::Skeleton { joints, rot_mats, transforms, posed, .. } = body.skeleton;
    let mut outputs: Outputs = smallvec![Some(vertices), Some(posed)];
    let kept = [v_shaped, Some(joints), Some(rot_mats), Some(transforms), v_posed];
    outputs.extend(kept.map(|tensor| tensor.filter(|_| inputs.keep)));
    Ok(outputs)
}

/// A body computed: the vertices, with v_shaped and v_posed where they were kept.
struct Posed {
    skeleton: pose::Skeleton,
    skinned: (Tensor, [Option<Tensor>; 2]),
}

/// Whatever the model, whatever the batch.
fn body_by_body(
    model: &Model<'_>,
    inputs: &Inputs,
    folded: Option<(Tensor, Tensor)>,
    args: &Arguments,
) -> Result<Posed> {
    let v_shaped = model.shaped(&inputs.shape, inputs.bodies)?;
    let (joint_base, joint_dirs) = match folded {
        Some((base, dirs)) => (base, Some(dirs)),
        None => (model.regressed_joints(args, &v_shaped)?, None),
    };
    let skeleton =
        pose::forward(&inputs.skeleton(&joint_base, joint_dirs.as_ref(), model, model.posedirs.is_some(), None), args)?;
    let correctives = match (&skeleton.features, &model.posedirs) {
        (Some(features), Some(posedirs)) => {
            Some(pose_blend::forward(features, posedirs)?.f_view([inputs.bodies, model.vertices, 3])?)
        }
        _ => None,
    };
    let rest = posed_skinning::Rest {
        v_shaped: &v_shaped,
        correctives,
        vertex_offsets: inputs.vertex_offsets.as_ref(),
        transl: inputs.transl.as_ref(),
    };
    let (v_posed, vertices) = posed_skinning::forward(rest, &skeleton.transforms, &model.skin, args)?;
    Ok(Posed { skeleton, skinned: (vertices, [Some(v_shaped), Some(v_posed)]) })
}

/// Few bodies on a GPU.
fn few(
    model: &Model<'_>,
    inputs: &Inputs,
    (joint_base, joint_dirs): &(Tensor, Tensor),
    launch: &few_skinning::Launch,
    args: &Arguments,
) -> Result<Posed> {
    // In front of `pose`: the skinning reads it while the kernel before it may still run.
    let v_template = model.template_of(inputs.bodies)?;
    let skeleton =
        pose::forward(&inputs.skeleton(joint_base, Some(joint_dirs), model, model.posedirs.is_some(), None), args)?;
    let rest = few_skinning::Rest {
        v_template: &v_template,
        shapedirs: &model.shapedirs,
        shape: &inputs.shape,
        correctives: skeleton.features.as_ref().zip(model.posedirs.as_ref()).map(<[&Tensor; 2]>::from),
        vertex_offsets: inputs.vertex_offsets.as_ref(),
        transl: inputs.transl.as_ref(),
    };
    let (vertices, kept) = launch.skinning(&rest, &skeleton.transforms, &model.skin, inputs.keep, args)?;
    let (v_shaped, v_posed) = kept.unzip();
    Ok(Posed { skeleton, skinned: (vertices, [v_shaped, v_posed]) })
}

/// Many bodies on a GPU.
fn in_slabs(
    model: &Model<'_>,
    inputs: &Inputs,
    (joint_base, joint_dirs): &(Tensor, Tensor),
    pair: Option<&slab::Pair>,
    args: &Arguments,
) -> Result<Posed> {
    let features = pair.map(|pair| slab::Features::empty(inputs.bodies, pair)).transpose()?;
    // In front of `pose`: the skinning reads it while the kernel before it may still run.
    let v_template = model.template.contiguous()?;
    let skeleton =
        pose::forward(&inputs.skeleton(joint_base, Some(joint_dirs), model, false, features.as_ref()), args)?;
    let rest = slab::Rest {
        bodies: inputs.bodies,
        v_template: &v_template,
        shapedirs: &model.shapedirs,
        shape: &inputs.shape,
        vertex_offsets: inputs.vertex_offsets.as_ref(),
        transl: inputs.transl.as_ref(),
    };
    let correctives = pair.zip(features.as_ref());
    let (vertices, kept) = slab::skinning(&rest, correctives, &skeleton.transforms, &model.skin, inputs.keep, args)?;
    let (v_shaped, v_posed) = kept.unzip();
    Ok(Posed { skeleton, skinned: (vertices, [v_shaped, v_posed]) })
}

/// What differs from body to body, contiguous; a batch of 1 is shared.
struct Inputs {
    bodies: i64,
    shape: Tensor,                  // [B | 1, C]
    pose: Tensor,                   // [B | 1, 3 J], [B | 1, J, 3] or [B | 1, J, 3, 3]
    transl: Option<Tensor>,         // [B | 1, 3]
    vertex_offsets: Option<Tensor>, // [B | 1, V, 3]
    joint_offsets: Option<Tensor>,  // [B | 1, J, 3]
    keep: bool,                     // the intermediates
}

impl Inputs {
    fn read(args: &Arguments, model: &Model<'_>) -> Result<Self> {
        let (shape, pose) = (
            args.tensor(0, "shape_coefficients")?.like(model.template)?,
            args.tensor(1, "pose")?.like(model.template)?,
        );
        let per_body =
            [args.optional(2, "transl"), args.optional(11, "vertex_offsets"), args.optional(12, "joint_offsets")];
        let mut batches: SmallVec<[_; 6]> = smallvec![shape, pose];
        batches.extend((model.template.tensor.dim() == 3).then_some(model.template));
        batches.extend(per_body.into_iter().flatten());
        let bodies = common_batch(&batches);
        let read = |argument: Option<Argument<'_>>, rest: &[i64]| match argument {
            Some(argument) => batched(argument.like(model.template)?, bodies, rest)?.contiguous().map(Some),
            None => Ok(None),
        };
        Ok(Self {
            bodies,
            shape: batched(shape, bodies, &[model.shapes])?.contiguous()?,
            pose: read_pose(pose, bodies, model.joints)?.contiguous()?,
            transl: read(per_body[0], &[3])?,
            vertex_offsets: read(per_body[1], &[model.vertices, 3])?,
            joint_offsets: read(per_body[2], &[model.joints, 3])?,
            keep: args.number(0) != 0,
        })
    }

    /// What the skeleton is made of.
    fn skeleton<'a>(
        &'a self,
        joint_base: &'a Tensor,
        joint_dirs: Option<&'a Tensor>,
        model: &'a Model<'_>,
        wants_features: bool,
        halves: Option<&'a slab::Features>,
    ) -> pose::Inputs<'a> {
        pose::Inputs {
            bodies: self.bodies,
            pose: &self.pose,
            shape: &self.shape,
            joint_base,
            joint_dirs,
            joint_offsets: self.joint_offsets.as_ref(),
            transl: self.transl.as_ref(),
            parents: &model.parents,
            wants_features,
            keep: self.keep,
            halves,
        }
    }
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
        let (vertices, joints) = (weights.tensor.sizes()[0], weights.tensor.sizes()[1]);
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
        let shapes = shapedirs.tensor.sizes()[2];
        Ok(Self { template, shapedirs: shapedirs.contiguous()?, posedirs, parents, skin, vertices, joints, shapes })
    }

    /// `v_template + shapedirs . shape`, `[B, V, 3]`.
    fn shaped(&self, shape: &Tensor, bodies: i64) -> Result<Tensor> {
        let dirs = self.shapedirs.f_view([3 * self.vertices, self.shapes])?.f_tr()?;
        let size = [bodies, self.vertices, 3];
        if self.template.tensor.dim() == 2 {
            let template = self.template.tensor.f_reshape([1, 3 * self.vertices])?;
            let shaped = template.f_addmm(shape, &dirs)?.f_view([shape.sizes()[0], self.vertices, 3])?;
            let of_all = if shaped.sizes() == size { shaped } else { shaped.f_expand(size, false)? };
            return Ok(of_all.f_contiguous()?);
        }
        let blend = shape.f_mm(&dirs)?.f_view([shape.sizes()[0], self.vertices, 3])?;
        Ok(blend.f_add(&self.template_of(bodies)?)?.f_expand(size, false)?.f_contiguous()?)
    }

    /// The template, contiguous; where bodies have their own, checked to be theirs.
    fn template_of(&self, bodies: i64) -> Result<Tensor> {
        let is_shared = self.template.tensor.dim() == 2;
        if is_shared { self.template } else { batched(self.template, bodies, &[self.vertices, 3])? }.contiguous()
    }

    /// How few bodies are taken, if these are.
    fn few(&self, bodies: i64, args: &Arguments) -> Result<Option<few_skinning::Launch>> {
        let features = self.posedirs.as_ref().map_or(0, |posedirs| posedirs.sizes()[0]);
        few_skinning::Launch::of(bodies, features, &self.shapedirs, &self.skin, args)
    }

    /// Rest joints `[J, 3]` of the template and their directions `[J, 3, C]`, where they are known; then the shaped
    /// vertices are not needed for them.
    fn folded_joints(&self, args: &Arguments) -> Result<Option<(Tensor, Tensor)>> {
        let given = (args.optional(9, "J_template"), args.optional(10, "J_shapedirs"));
        // A template of each body's own moves the joints too; then the prepared ones do not hold.
        let shared_template = self.template.tensor.dim() == 2;
        let prepared = (args.optional(13, "prepared J_template"), args.optional(14, "prepared J_shapedirs"));
        let (template, dirs) = match (args.optional(6, "J_regressor"), given, prepared) {
            (Some(_), (None, None), (Some(template), Some(dirs))) if shared_template => (template, dirs),
            (Some(_), (None, None), _) => return Ok(None),
            (None, (Some(template), Some(dirs)), _) => (template, dirs),
            _ => {
                return Err(Error::Value(
                    "smplx::forward: expected either J_regressor or both J_template and J_shapedirs, to say where the joints are".into(),
                ));
            }
        };
        let base = template.like(self.template)?.shape(&[self.joints, 3])?.contiguous()?;
        Ok(Some((base, dirs.like(self.template)?.shape(&[self.joints, 3, self.shapes])?.contiguous()?)))
    }

    /// Rest joints `[B, J, 3]` from the shaped vertices.
    fn regressed_joints(&self, args: &Arguments, v_shaped: &Tensor) -> Result<Tensor> {
        let regressor = args.tensor(6, "J_regressor")?.like(self.template)?.shape(&[self.joints, self.vertices])?;
        Ok(regressor.tensor.f_matmul(v_shaped)?.f_contiguous()?)
    }
}

/// Axis-angle `[B, 3 J]` or `[B, J, 3]`, or matrices `[B, J, 3, 3]`.
pub(super) fn read_pose(pose: Argument<'_>, bodies: i64, joints: i64) -> Result<Argument<'_>> {
    match pose.tensor.dim() {
        2 => batched(pose, bodies, &[3 * joints]),
        3 => batched(pose, bodies, &[joints, 3]),
        _ => batched(pose, bodies, &[joints, 3, 3]),
    }
}
