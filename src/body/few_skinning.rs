//! Few bodies on a GPU: the shape blend, the pose blend and the skinning, in one kernel behind `pose`.

use tch::{Device, Tensor};

use super::skinning::{Skin, step};
use super::{Real, for_real};
use crate::Result;
use crate::cuda::{Kernel, Program, has_copies_on_the_side};
use crate::torch::Memory::Own;
use crate::torch::{Arguments, Sizes, empty, empty_one};

pub(super) static PROGRAM: Program = Program::new(
    "body/few_skinning.cu",
    &["few_skinning<float, 1>", "few_skinning<float, 4>", "few_skinning<double, 1>", "few_skinning<double, 4>"],
);
/// Bodies of a block in each of these, of either type.
const BODIES: [i64; 2] = [1, 4];
/// More bodies than this are a matter for products of matrices.
const MOST: i64 = 16;

/// Coordinates of a block and groups of its threads, `kColumns` and `kGroups` in the kernel.
const COLUMNS: i64 = 3 * 32;
const GROUPS: i64 = 4;
/// Blocks that a multiprocessor should have, `kBlocks` there, and the bytes of its shared memory that each takes beside
/// its own.
const BLOCKS: i64 = 3;
const RESERVED: i64 = 1024;
/// Positions in a model's tensors are 32-bit, but for the pose directions.
const ENTRIES: usize = 1 << 30;

/// The twin of `FewSkinningParams` in `kernels/body/few_skinning.cu`.
#[repr(C)]
struct Params {
    v_template: u64,     // [V, 3] or [B, V, 3]
    shapedirs: u64,      // [V, 3, C]
    shape: u64,          // [B | 1, C]
    posedirs: u64,       // [F, V, 3]
    features: u64,       // [B, F]
    vertex_offsets: u64, // [B | 1, V, 3] or null
    transl: u64,         // [B | 1, 3] or null
    transforms: u64,     // [B, J, 4, 4]
    weights: u64,        // [V, K]
    joints: u64,         // [V, K] int32, or null: K = J
    v_shaped: u64,       // [B, V, 3] or null
    v_posed: u64,        // [B, V, 3] or null
    vertices: u64,       // [B, V, 3]
    template_step: i64,  // elements from one body to the next; 0 where all bodies share
    shape_step: i64,
    offset_step: i64,
    transl_step: i64,
    bodies: i64,
    vertex_count: i64,
    joint_count: i64,
    influences: i64,    // K
    shape_count: i64,   // C
    feature_count: i64, // F, 0 without pose correctives
    staged: i64,        // elements of shared memory in front of the directions that are read ahead
    ahead: i64,         // of how many features
}

/// What is skinned, all contiguous.
pub(super) struct Rest<'a> {
    pub(super) v_template: &'a Tensor,               // [V, 3] or [B | 1, V, 3]
    pub(super) shapedirs: &'a Tensor,                // [V, 3, C]
    pub(super) shape: &'a Tensor,                    // [B | 1, C]
    pub(super) correctives: Option<[&'a Tensor; 2]>, // features [B, F] and posedirs [F, 3 V]
    pub(super) vertex_offsets: Option<&'a Tensor>,   // [B | 1, V, 3]
    pub(super) transl: Option<&'a Tensor>,           // [B | 1, 3]
}

/// How some bodies are taken.
pub(super) struct Launch {
    kernel: Kernel,
    of_block: i64, // bodies
    staged: i64,   // elements of shared memory in front of
    ahead: i64,    // features' directions, which are read while `pose` runs
    shared: u32,   // bytes
}

impl Launch {
    /// For bodies of so many pose features, if this kernel serves them.
    pub(super) fn of(
        bodies: i64,
        features: i64,
        shapedirs: &Tensor,
        skin: &Skin,
        args: &Arguments,
    ) -> Result<Option<Self>> {
        let Device::Cuda(device) = shapedirs.device() else { return Ok(None) };
        let coordinates = 3 * skin.vertex_count() as usize;
        if !has_copies_on_the_side(device)?
            || bodies > MOST
            || coordinates.max(shapedirs.numel()).max(skin.weights.numel()) > ENTRIES
        {
            return Ok(None);
        }
        let instance = BODIES.iter().position(|&most| bodies <= most).unwrap_or(BODIES.len() - 1);
        let of_block = BODIES[instance];
        let (real, bytes) = for_real!(shapedirs, T => (T::INDEX, size_of::<T>() as i64));
        let kernel = PROGRAM.kernel(device, BODIES.len() * real + instance, args.stream())?;
        let shapes = shapedirs.sizes()[2];
        // Coefficients of all bodies of a block, and at another time the sums of its groups; whole sixteens of bytes.
        let staged = of_block * ((features.max(shapes).max(GROUPS * COLUMNS) + 3) / 4 * 4);
        let (limit, taken) = (i64::from(kernel.shared_limit()), bytes * staged);
        if taken > limit {
            return Ok(None);
        }
        let room = if kernel.knows_early() { limit / BLOCKS - RESERVED - taken } else { 0 };
        let ahead = (room.max(0) / (bytes * COLUMNS) / GROUPS * GROUPS).min(features);
        let shared = (taken + bytes * ahead * COLUMNS) as u32;
        Ok(Some(Self { kernel, of_block, staged, ahead, shared }))
    }

    /// Vertices `[B, V, 3]`, and if they are kept v_shaped and v_posed.
    pub(super) fn skinning(
        &self,
        rest: &Rest<'_>,
        transforms: &Tensor,
        skin: &Skin,
        keep: bool,
        args: &Arguments,
    ) -> Result<(Tensor, Option<(Tensor, Tensor)>)> {
        let (bodies, vertex_count) = (transforms.sizes()[0], skin.vertex_count());
        let (size, kind) = ([bodies, vertex_count, 3], transforms.kind());
        let (vertices, kept) = if keep {
            let [vertices, v_shaped, v_posed] = empty(transforms, [(Own, &size, kind); 3])?;
            (vertices, Some((v_shaped, v_posed)))
        } else {
            (empty_one(transforms, &size, kind)?, None)
        };
        let params = Params {
            v_template: rest.v_template.data_ptr() as u64,
            shapedirs: rest.shapedirs.data_ptr() as u64,
            shape: rest.shape.data_ptr() as u64,
            posedirs: address(rest.correctives.map(|[_, posedirs]| posedirs)),
            features: address(rest.correctives.map(|[features, _]| features)),
            vertex_offsets: address(rest.vertex_offsets),
            transl: address(rest.transl),
            transforms: transforms.data_ptr() as u64,
            weights: skin.weights.data_ptr() as u64,
            joints: address(skin.joints.as_ref()),
            v_shaped: address(kept.as_ref().map(|(v_shaped, _)| v_shaped)),
            v_posed: address(kept.as_ref().map(|(_, v_posed)| v_posed)),
            vertices: vertices.data_ptr() as u64,
            template_step: if rest.v_template.dim() == 2 { 0 } else { step(rest.v_template) },
            shape_step: step(rest.shape),
            offset_step: rest.vertex_offsets.map_or(0, step),
            transl_step: rest.transl.map_or(0, step),
            bodies,
            vertex_count,
            joint_count: skin.joint_count,
            influences: skin.weights.sizes()[1],
            shape_count: rest.shape.sizes()[1],
            feature_count: rest.correctives.map_or(0, |[features, _]| features.sizes()[1]),
            staged: self.staged,
            ahead: self.ahead,
        };
        let parts = |count: i64, of_part: i64| (count + of_part - 1) / of_part;
        let blocks = (parts(3 * vertex_count, COLUMNS) * parts(bodies, self.of_block)) as u32;
        let threads = (GROUPS * COLUMNS) as u32;
        self.kernel.early().launch_if_any(blocks, threads, self.shared, &params, args.stream())?;
        Ok((vertices, kept))
    }
}

fn address(tensor: Option<&Tensor>) -> u64 {
    tensor.map_or(0, |tensor| tensor.data_ptr() as u64)
}
