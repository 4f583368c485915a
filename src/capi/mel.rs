//! Plans, workspaces, and clips through them.

use std::ffi::{c_char, c_void};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::audio::{Level, Plan, Workspace};

use super::arguments::{Samples, check_apart, check_room, put, put_if_wanted, samples, slice_mut, with_samples};
use super::array::Array;
use super::config::{self, AvatorchMelConfig};
use super::failure::{AvatorchStatus, Failure, border};
use super::handle::Handles;

/// A configuration made ready. Never changes; any number of threads may use it at once.
pub struct AvatorchMelPlan {
    _opaque: [u8; 0],
}

/// The memory that one thread needs to compute. Two threads that use the same one at once get `AVATORCH_BUSY`.
pub struct AvatorchMelWorkspace {
    _opaque: [u8; 0],
}

/// A result in the library's memory.
pub struct AvatorchMelArray {
    _opaque: [u8; 0],
}

pub(super) static PLANS: Handles<Arc<Plan>> = Handles::new(9, "plan");
pub(super) static WORKSPACES: Handles<Mutex<Workspace>> = Handles::new(10, "workspace");
pub(super) static ARRAYS: Handles<Array> = Handles::new(11, "array");

/// Takes what another thread may be using.
pub(super) fn exclusive<'a, T>(name: &str, object: &'a Mutex<T>) -> Result<MutexGuard<'a, T>, Failure> {
    match object.try_lock() {
        Ok(guard) => Ok(guard),
        Err(std::sync::TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
        Err(std::sync::TryLockError::WouldBlock) => {
            Err(Failure::new(AvatorchStatus::AVATORCH_BUSY, format!("the {name} is in use by another thread")))
        }
    }
}

/// Makes a plan. Free it with `avatorch_mel_plan_free`.
///
/// # Safety
/// `config` is NULL or as large as its `size` says; `out_plan` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn avatorch_mel_plan_new(
    config: *const AvatorchMelConfig,
    out_plan: *mut *mut AvatorchMelPlan,
) -> AvatorchStatus {
    border(|| {
        // SAFETY: the caller's promise.
        unsafe {
            put("out_plan", out_plan, std::ptr::null_mut())?;
            let (options, level) = config::read(config)?;
            put("out_plan", out_plan, PLANS.insert(Arc::new(Plan::with_level(options, level)?))?)
        }
    })
}

/// Frees a plan; streams that were made of it go on. NULL is fine; a stale handle gives `AVATORCH_INVALID_HANDLE`.
#[unsafe(no_mangle)]
pub extern "C" fn avatorch_mel_plan_free(plan: *mut AvatorchMelPlan) -> AvatorchStatus {
    border(|| PLANS.remove(plan))
}

/// The instructions that a plan uses: "baseline", "neon", "avx2" or "avx512"; "" for a handle that is not alive.
#[unsafe(no_mangle)]
pub extern "C" fn avatorch_mel_plan_simd(plan: *const AvatorchMelPlan) -> *const c_char {
    let mut name = c"";
    border(|| {
        name = match PLANS.get(plan)?.level() {
            Level::Baseline => c"baseline",
            Level::Neon => c"neon",
            Level::Avx2 => c"avx2",
            Level::Avx512 => c"avx512",
        };
        Ok(())
    });
    name.as_ptr()
}

/// The result's size for a clip of `n_samples`: values per frame (bands, and the energy), and frames.
///
/// # Safety
/// Each pointer to a size is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn avatorch_mel_plan_shape(
    plan: *const AvatorchMelPlan,
    n_samples: usize,
    out_n_features: *mut usize,
    out_n_frames: *mut usize,
) -> AvatorchStatus {
    border(|| {
        let (n_features, n_frames) = PLANS.get(plan)?.shape(n_samples)?;
        // SAFETY: the caller's promise.
        unsafe {
            put_if_wanted("out_n_features", out_n_features, n_features)?;
            put_if_wanted("out_n_frames", out_n_frames, n_frames)
        }
    })
}

/// Makes a workspace for a plan. Free it with `avatorch_mel_workspace_free`.
///
/// # Safety
/// `out_workspace` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn avatorch_mel_workspace_new(
    plan: *const AvatorchMelPlan,
    out_workspace: *mut *mut AvatorchMelWorkspace,
) -> AvatorchStatus {
    border(|| {
        // SAFETY: the caller's promise.
        unsafe {
            put("out_workspace", out_workspace, std::ptr::null_mut())?;
            let workspace = PLANS.get(plan)?.workspace();
            put("out_workspace", out_workspace, WORKSPACES.insert(Mutex::new(workspace))?)
        }
    })
}

/// Frees a workspace. NULL is fine; a stale handle gives `AVATORCH_INVALID_HANDLE`.
#[unsafe(no_mangle)]
pub extern "C" fn avatorch_mel_workspace_free(workspace: *mut AvatorchMelWorkspace) -> AvatorchStatus {
    border(|| WORKSPACES.remove(workspace))
}

/// Computes one clip into `values`, which has room for exactly the `length` that `avatorch_mel_plan_shape` gives. Nothing
/// is allocated, unless `workspace` is NULL.
///
/// A sample that is NaN or infinite makes the frames over it NaN or infinite, and the whole clip NaN where the
/// configuration has a range below the clip's loudest; other clips never.
///
/// # Safety
/// `samples_` is NULL or holds `n_samples` of `format`; `values` is NULL or has room for `length` floats.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn avatorch_mel_compute(
    plan: *const AvatorchMelPlan,
    workspace: *mut AvatorchMelWorkspace,
    samples_: *const c_void,
    format: i32,
    n_samples: usize,
    values: *mut f32,
    length: usize,
) -> AvatorchStatus {
    border(|| {
        let plan = PLANS.get(plan)?;
        // SAFETY: the caller's promise.
        let samples = unsafe { samples(samples_, format, n_samples)? };
        let (n_features, n_frames) = plan.shape(n_samples)?;
        check_room(length, n_features * n_frames)?;
        check_apart(samples.memory(), (values, length))?;
        // SAFETY: the caller's promise.
        compute(&plan, workspace, samples, unsafe { slice_mut("values", values, length)? })
    })
}

fn compute(
    plan: &Plan,
    workspace: *mut AvatorchMelWorkspace,
    samples: Samples<'_>,
    values: &mut [f32],
) -> Result<(), Failure> {
    if workspace.is_null() {
        return Ok(with_samples!(samples, samples => plan.compute(samples, values, &mut plan.workspace()))?);
    }
    let workspace = WORKSPACES.get(workspace)?;
    let mut workspace = exclusive("workspace", &workspace)?;
    Ok(with_samples!(samples, samples => plan.compute(samples, values, &mut workspace))?)
}

/// Computes one clip into memory of the library, to be read in place. Free it with `avatorch_mel_array_free`.
///
/// # Safety
/// `samples_` is NULL or holds `n_samples` of `format`; `out_array` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn avatorch_mel_compute_array(
    plan: *const AvatorchMelPlan,
    workspace: *mut AvatorchMelWorkspace,
    samples_: *const c_void,
    format: i32,
    n_samples: usize,
    out_array: *mut *mut AvatorchMelArray,
) -> AvatorchStatus {
    border(|| {
        // SAFETY: the caller's promise.
        unsafe {
            put("out_array", out_array, std::ptr::null_mut())?;
            let plan = PLANS.get(plan)?;
            let samples = samples(samples_, format, n_samples)?;
            let (n_features, n_frames) = plan.shape(n_samples)?;
            let mut array = Array::zeros(n_features, n_frames)?;
            compute(&plan, workspace, samples, array.values_mut())?;
            put("out_array", out_array, ARRAYS.insert(array)?)
        }
    })
}

/// A result in place, in the layout of its configuration: read only, aligned to 64 bytes, valid until
/// `avatorch_mel_array_free`.
///
/// # Safety
/// Each out pointer is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn avatorch_mel_array_data(
    array: *const AvatorchMelArray,
    out_values: *mut *const f32,
    out_n_features: *mut usize,
    out_n_frames: *mut usize,
) -> AvatorchStatus {
    border(|| {
        let array = ARRAYS.get(array)?;
        // SAFETY: the caller's promise.
        unsafe {
            put_if_wanted("out_values", out_values, array.values().as_ptr())?;
            put_if_wanted("out_n_features", out_n_features, array.rows)?;
            put_if_wanted("out_n_frames", out_n_frames, array.columns)
        }
    })
}

/// Frees a result. NULL is fine; a stale handle gives `AVATORCH_INVALID_HANDLE`.
#[unsafe(no_mangle)]
pub extern "C" fn avatorch_mel_array_free(array: *mut AvatorchMelArray) -> AvatorchStatus {
    border(|| ARRAYS.remove(array))
}
