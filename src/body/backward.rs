//! The gradients of a body: the flow of `forward.rs` from right to left. Only what is asked for is computed.

use smallvec::smallvec;
use tch::Tensor;

use super::forward::read_pose;
use super::kinematic_chain::parents_of;
use super::skinning::{self, Skin, batched};
use super::{pose, pose_blend, posed_skinning, slab};
use crate::Result;
use crate::torch::{Arguments, Outputs, Sizes, entry};

/// The inputs that a gradient can reach, by their bit in `needs`; `Input` in `forward.cpp` is the twin.
#[derive(Clone, Copy, PartialEq)]
enum Input {
    Shape,
    Pose,
    Transl,
    Template,
    Shapedirs,
    Posedirs,
    Regressor,
    Weights,
    JointTemplate,
    JointDirs,
    VertexOffsets,
    JointOffsets,
}
const INPUTS: usize = 12;

entry!(avatorch_forward_backward, "smplx::forward_backward", backward);
fn backward(args: &Arguments) -> Result<Outputs> {
    let joints = args.tensor(16, "J_shaped")?.real()?.shape(&[-1, -1, 3])?;
    let (bodies, joint_count) = (joints.tensor.sizes()[0], joints.tensor.sizes()[1]);
    let weights = args.tensor(13, "lbs_weights")?.like(joints)?.shape(&[-1, joint_count])?;
    let vertices = weights.tensor.sizes()[0];
    let tensor = |position, name, shape: &[i64]| args.tensor(position, name)?.like(joints)?.shape(shape)?.contiguous();
    let optional = |position, name, shape: &[i64]| match args.optional(position, name) {
        Some(found) => found.like(joints)?.shape(shape)?.contiguous().map(Some),
        None => Ok(None),
    };
    let (of_vertices, of_joints) = ([bodies, vertices, 3], [bodies, joint_count, 3]);
    let g_vertices = optional(0, "grad_vertices", &of_vertices)?;
    let g_posed = optional(1, "grad_joints", &of_joints)?;
    let arrived_v_shaped = optional(2, "grad_v_shaped", &of_vertices)?;
    let arrived_joints = optional(3, "grad_J_shaped", &of_joints)?;
    let arrived_rot = optional(4, "grad_rot_mats", &[bodies, joint_count, 3, 3])?;
    let arrived_transforms = optional(5, "grad_A_global", &[bodies, joint_count, 4, 4])?;
    let arrived_v_posed = optional(6, "grad_v_posed", &of_vertices)?;

    let shape = args.tensor(7, "shape_coefficients")?.like(joints)?.rank(2)?;
    let shapes = shape.tensor.sizes()[1];
    let shapedirs = tensor(9, "shapedirs", &[vertices, 3, shapes])?;
    let shape = batched(shape, bodies, &[shapes])?.contiguous()?;
    let pose = read_pose(args.tensor(8, "pose")?.like(joints)?, bodies, joint_count)?.contiguous()?;
    let posedirs = optional(10, "posedirs", &[9 * (joint_count - 1), 3 * vertices])?;
    let regressor = optional(11, "J_regressor", &[joint_count, vertices])?;
    let parents = parents_of(args.tensor(12, "parents")?.same_device(joints)?, joint_count)?;
    let joint_dirs = optional(14, "J_shapedirs", &[joint_count, 3, shapes])?;
    let rot_mats = tensor(17, "rot_mats", &[bodies, joint_count, 3, 3])?;
    let transforms = tensor(18, "A_global", &[bodies, joint_count, 4, 4])?;
    let v_posed = tensor(19, "v_posed", &of_vertices)?;
    let prepared_dirs = optional(20, "prepared J_shapedirs", &[joint_count, 3, shapes])?;
    let mut skin = match (args.optional(21, "prepared weights"), args.optional(22, "prepared joints")) {
        (Some(values), Some(of)) => Skin::read(values.like(joints)?.shape(&[vertices, -1])?, Some(of), joint_count)?,
        _ => Skin::read(weights, None, joint_count)?,
    };
    skin.check_joints("smplx::forward_backward")?;
    let entries = skin.weights.numel() as i64;
    let positions = |position, name, length| match args.optional(position, name) {
        Some(found) => found.int64()?.same_device(joints)?.shape(&[length])?.contiguous().map(Some),
        None => Ok(None),
    };
    let by_joint = positions(23, "prepared order", entries)?.zip(positions(24, "prepared start", joint_count + 1)?);
    let lists = [(24, "prepared start"), (27, "prepared moved"), (28, "prepared moved weights")];
    let lists = slab::ByJoint::read(lists.map(|(position, name)| args.optional(position, name)), joints, &skin)?;
    let joints = joints.contiguous()?;

    let needs = |input: Input| args.number(0) >> input as i64 & 1 != 0;
    let any = |inputs: &[Input]| inputs.iter().any(|&input| needs(input));
    use Input::{
        JointDirs, JointOffsets, JointTemplate, Posedirs, Regressor, Shape, Shapedirs, Template, Transl, VertexOffsets,
        Weights,
    };

    // Vertices to posed vertices.
    let through_posed = any(&[Shape, Input::Pose, Template, Shapedirs, Posedirs, VertexOffsets]);
    let fold = prepared_dirs.as_ref().filter(|_| regressor.is_some() && !any(&[Template, Shapedirs]));
    let in_slabs = if bodies < slab::BACKWARD_WORTH
        || any(&[Template, Shapedirs, Posedirs, Regressor, Weights, VertexOffsets])
        || arrived_v_shaped.is_some()
        || arrived_v_posed.is_some()
        || (regressor.is_some() && fold.is_none())
    {
        None // too few, or the gradient of v_posed is itself asked for
    } else {
        let pair = slab::Pair::read(
            args.optional(25, "prepared posedirs"),
            args.optional(26, "prepared units"),
            (vertices, joint_count),
        )?;
        let features = needs(Input::Pose) && posedirs.is_some();
        let directions = pair.as_ref().filter(|_| features || needs(Shape));
        let serves = directions.is_some() == (features || needs(Shape)) && slab::serves(shapes, &skin)?;
        match (&g_vertices, &lists) {
            (Some(grad_vertices), Some(by_joint)) if serves => Some(slab::backward(
                &slab::Asked {
                    grad_vertices,
                    v_posed: &v_posed,
                    transforms: &transforms,
                    by_joint,
                    directions,
                    features,
                    shapedirs: needs(Shape).then_some(&shapedirs),
                },
                &skin,
                args,
            )?),
            _ => None,
        }
    };
    let g_v_posed = match (&g_vertices, arrived_v_posed) {
        (Some(g), arrived) if through_posed && in_slabs.is_none() => {
            Some(posed_skinning::backward(g, arrived.as_ref(), &transforms, &skin, args)?)
        }
        (_, arrived) => arrived,
    };

    // Posed vertices to the shaped ones, and those to the coefficients.
    let mut g_v_shaped = match (&g_v_posed, arrived_v_shaped) {
        (Some(g), Some(arrived)) => Some(g.f_add(&arrived)?),
        (None, arrived) => arrived,
        (Some(g), None) => Some(g.shallow_clone()),
    };
    let flat = |tensor: &Tensor| tensor.f_reshape([bodies, tensor.sizes()[1..].iter().product()]);
    let through_vertices = |g_v_shaped: &Option<Tensor>| -> Result<Option<Tensor>> {
        Ok(match (in_slabs.as_ref().and_then(|gradients| gradients.shape.as_ref()), g_v_shaped) {
            (Some(sum), _) => Some(sum.shallow_clone()),
            (None, Some(g)) => Some(flat(g)?.f_mm(&shapedirs.f_view([3 * vertices, shapes])?)?),
            (None, None) => None,
        })
    };

    // Vertices to transforms, and with the joints down the chain to rotations and rest joints.
    let through_joints = any(&[Shape, Template, Shapedirs, Regressor, JointTemplate, JointDirs, JointOffsets]);
    let dirs = if regressor.is_some() { fold } else { joint_dirs.as_ref() };
    let (g_pose, g_joints, g_shape) = if through_joints || needs(Input::Pose) {
        let moved = match (&in_slabs, &g_vertices) {
            (Some(gradients), _) => Some(gradients.transforms.shallow_clone()),
            (None, Some(g)) => Some(skinning::run_transforms(g, &v_posed, &skin, bodies, by_joint.as_ref(), args)?),
            (None, None) => None,
        };
        let g_transforms = match (arrived_transforms, moved) {
            (Some(arrived), Some(moved)) => Some(arrived.f_add(&moved)?),
            (arrived, moved) => moved.or(arrived),
        };
        let g_features = match (&posedirs, &g_v_posed, &in_slabs) {
            (_, _, Some(gradients)) => gradients.features.as_ref().map(Tensor::shallow_clone),
            (Some(posedirs), Some(g), None) if needs(Input::Pose) => {
                Some(pose_blend::backward(&g.f_view([bodies, 3 * vertices])?, posedirs)?)
            }
            _ => None,
        };
        let arriving = pose::Arriving {
            posed: g_posed.as_ref(),
            transforms: g_transforms.as_ref(),
            features: g_features.as_ref(),
            rot_mats: arrived_rot.as_ref(),
            joints: arrived_joints.as_ref(),
        };
        let shaping = dirs.filter(|_| needs(Shape));
        let partial = shaping.map(|_| through_vertices(&g_v_shaped)).transpose()?.flatten();
        let shape = shaping.map(|joint_dirs| pose::Shape { partial: partial.as_ref(), joint_dirs });
        let found = pose::backward(&arriving, shape.as_ref(), &pose, &rot_mats, &joints, &parents, args)?;
        (Some(found.pose), found.joints, found.shape)
    } else {
        (None, joints.f_zeros_like()?, None)
    };

    // Rest joints to the shaped vertices. For the coefficients alone, folded directions are shorter.
    if let (Some(regressor), None, true) = (&regressor, fold, any(&[Shape, Template, Shapedirs])) {
        let back = regressor.f_tr()?.f_matmul(&g_joints)?;
        g_v_shaped = Some(match g_v_shaped {
            Some(g) => g.f_add(&back)?,
            None => back,
        });
    }
    let coefficients = || shape.f_expand([bodies, shapes], false);
    let mut grads: Outputs = smallvec![];
    grads.resize_with(INPUTS, || None);
    let mut give = |input: Input, gradient: &dyn Fn() -> Result<Tensor>| -> Result<()> {
        if needs(input) {
            grads[input as usize] = Some(gradient()?);
        }
        Ok(())
    };
    give(Shape, &|| {
        if let Some(whole) = &g_shape {
            return Ok(whole.shallow_clone());
        }
        match through_vertices(&g_v_shaped)? {
            Some(sum) => Ok(sum),
            None => Ok(Tensor::f_zeros([bodies, shapes], (joints.kind(), joints.device()))?),
        }
    })?;
    give(Input::Pose, &|| {
        let mut size = pose.size();
        size[0] = bodies;
        Ok(match &g_pose {
            Some(whole) => whole.shallow_clone(),
            None => Tensor::f_zeros(&size, (pose.kind(), pose.device()))?,
        })
    })?;
    give(Transl, &|| {
        let sum =
            |g: &Option<Tensor>| g.as_ref().map(|g| g.f_sum_dim_intlist([1i64].as_slice(), false, None)).transpose();
        let of_vertices = match &in_slabs {
            Some(gradients) => Some(gradients.sums.shallow_clone()),
            None => sum(&g_vertices)?,
        };
        Ok(match (of_vertices, sum(&g_posed)?) {
            (Some(a), Some(b)) => a.f_add(&b)?,
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => Tensor::f_zeros([bodies, 3], (joints.kind(), joints.device()))?,
        })
    })?;
    let or_zeros = |grad: &Option<Tensor>| match grad {
        Some(grad) => Ok(grad.f_alias_copy()?),
        None => Ok(v_posed.f_zeros_like()?),
    };
    give(Template, &|| or_zeros(&g_v_shaped))?;
    give(Shapedirs, &|| match &g_v_shaped {
        Some(g) => Ok(flat(g)?.f_tr()?.f_mm(&coefficients()?)?.f_view([vertices, 3, shapes])?),
        None => Ok(shapedirs.f_zeros_like()?),
    })?;
    give(Posedirs, &|| {
        let eye = Tensor::f_eye(3, (rot_mats.kind(), rot_mats.device()))?;
        let features =
            rot_mats.f_narrow(1, 1, joint_count - 1)?.f_sub(&eye)?.f_reshape([bodies, 9 * (joint_count - 1)])?;
        match &g_v_posed {
            Some(g) => Ok(features.f_tr()?.f_mm(&flat(g)?)?),
            None => Ok(Tensor::f_zeros([9 * (joint_count - 1), 3 * vertices], (joints.kind(), joints.device()))?),
        }
    })?;
    give(Regressor, &|| {
        let v_shaped = tensor(15, "v_shaped", &of_vertices)?.f_movedim_int(1, 0)?.f_reshape([vertices, 3 * bodies])?;
        Ok(g_joints.f_movedim_int(1, 0)?.f_reshape([joint_count, 3 * bodies])?.f_mm(&v_shaped.f_tr()?)?)
    })?;
    give(JointTemplate, &|| Ok(g_joints.f_alias_copy()?))?;
    give(JointDirs, &|| Ok(flat(&g_joints)?.f_tr()?.f_mm(&coefficients()?)?.f_view([joint_count, 3, shapes])?))?;
    give(VertexOffsets, &|| or_zeros(&g_v_posed))?;
    give(JointOffsets, &|| Ok(g_joints.f_alias_copy()?))?;
    if needs(Weights) {
        skin = Skin { weights: weights.tensor.f_empty_like()?.f_zero_()?, joints: None, joint_count };
        if let Some(g) = &g_vertices {
            skinning::run_weights(g, &v_posed, &transforms, &mut skin, bodies, args)?;
        }
        grads[Weights as usize] = Some(skin.weights);
    }
    Ok(grads)
}
