//! Arrays for Python: torch and numpy take them over without a copy.

use std::ffi::{CStr, c_void};
use std::path::PathBuf;

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};

use super::array::{Array, DType};
use super::arrays::{Content, read_npz as read_npz_file};
use super::{Family, Gender, Model, Side};
use crate::{Error, Result};

/// The name of a capsule that nobody has taken the tensor from; takers rename it.
const UNTAKEN: &CStr = c"dltensor";
const CPU: i32 = 1;
/// The kinds of element, as `dlpack.h` numbers them.
const SIGNED: u8 = 0;
const FLOAT: u8 = 2;

/// `DLTensor` of `dlpack.h`.
#[repr(C)]
struct DlTensor {
    data: *mut c_void,
    device_type: i32,
    device_id: i32,
    ndim: i32,
    code: u8,
    bits: u8,
    lanes: u16,
    shape: *mut i64,
    strides: *mut i64, // null: C order
    byte_offset: u64,
}

/// `DLManagedTensor` of `dlpack.h`.
#[repr(C)]
struct DlManagedTensor {
    tensor: DlTensor,
    manager: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut DlManagedTensor)>,
}

const _: () = assert!(size_of::<DlManagedTensor>() == 64, "dlpack.h of a 64-bit machine");

/// A tensor handed out, and what keeps it alive. Takers see only the first field.
#[repr(C)]
struct Handed {
    managed: DlManagedTensor,
    shape: Vec<i64>,
    _array: Array,
}

/// An array of a model file. `torch.from_dlpack` and `numpy.from_dlpack` share its memory.
#[pyclass(name = "Array", module = "avatorch._native", frozen)]
pub(crate) struct PyArray(pub(crate) Array);

#[pymethods]
impl PyArray {
    #[getter]
    fn shape(&self) -> Vec<usize> {
        self.0.shape().to_vec()
    }

    #[getter]
    fn dtype(&self) -> &'static str {
        match self.0.dtype() {
            DType::F32 => "float32",
            DType::F64 => "float64",
            DType::I64 => "int64",
        }
    }

    /// Whether the memory is a private map of the file.
    #[getter]
    fn is_mapped(&self) -> bool {
        self.0.is_mapped()
    }

    fn __repr__(&self) -> String {
        format!("Array({}, {:?})", self.dtype(), self.0.shape())
    }

    #[staticmethod]
    fn __dlpack_device__() -> (i32, i32) {
        (CPU, 0)
    }

    /// A capsule as the array API standard describes it.
    #[pyo3(signature = (*, stream=None, max_version=None, dl_device=None, copy=None))]
    fn __dlpack__<'py>(
        &self,
        py: Python<'py>,
        stream: Option<&Bound<'py, PyAny>>,
        max_version: Option<(u32, u32)>,
        dl_device: Option<(i32, i32)>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        // Every consumer of any version accepts the capsule without one.
        let _ = max_version;
        if stream.is_some() || dl_device.is_some_and(|device| device != (CPU, 0)) {
            return Err(PyBufferError::new_err("a model array is on the CPU and has no stream"));
        }
        if copy == Some(true) {
            return Err(PyBufferError::new_err("a model array is handed over without a copy; clone the result"));
        }
        let handed = Box::into_raw(hand_over(&self.0));
        // SAFETY: `handed` starts with a DLManagedTensor; the name is static; `drop_untaken` frees it if no one takes it.
        let capsule = unsafe { ffi::PyCapsule_New(handed.cast(), UNTAKEN.as_ptr(), Some(drop_untaken)) };
        if capsule.is_null() {
            // SAFETY: no capsule exists that could free it, too.
            drop(unsafe { Box::from_raw(handed) });
            return Err(PyErr::fetch(py));
        }
        // SAFETY: a new reference to an object, checked to be there.
        Ok(unsafe { Bound::from_owned_ptr(py, capsule) })
    }
}

/// The tensor and its owner. Writing to it is allowed: memory of a file is copy-on-write.
fn hand_over(array: &Array) -> Box<Handed> {
    let tensor = DlTensor {
        data: array.as_mut_ptr().cast(),
        device_type: CPU,
        device_id: 0,
        ndim: array.shape().len() as i32,
        code: if array.dtype() == DType::I64 { SIGNED } else { FLOAT },
        bits: 8 * array.dtype().size() as u8,
        lanes: 1,
        shape: std::ptr::null_mut(),
        strides: std::ptr::null_mut(),
        byte_offset: 0,
    };
    let managed = DlManagedTensor { tensor, manager: std::ptr::null_mut(), deleter: Some(delete) };
    let shape = array.shape().iter().map(|&size| size as i64).collect();
    let mut handed = Box::new(Handed { managed, shape, _array: array.clone() });
    handed.managed.tensor.shape = handed.shape.as_mut_ptr();
    handed
}

/// Called once, by whoever took the tensor, from any thread.
unsafe extern "C" fn delete(managed: *mut DlManagedTensor) {
    // SAFETY: the tensor is the first field of a boxed `Handed`, and this is its only deletion.
    drop(unsafe { Box::from_raw(managed.cast::<Handed>()) });
}

/// Frees the tensor of a capsule that nobody took it from.
unsafe extern "C" fn drop_untaken(capsule: *mut ffi::PyObject) {
    // SAFETY: Python passes the capsule that is being destroyed; one that was taken has another name.
    unsafe {
        if ffi::PyCapsule_IsValid(capsule, UNTAKEN.as_ptr()) == 1 {
            delete(ffi::PyCapsule_GetPointer(capsule, UNTAKEN.as_ptr()).cast());
        }
    }
}

/// Reads a model file or finds one in a folder: its arrays by name, and what is known about it.
#[pyfunction]
#[pyo3(signature = (path, family=None, gender=None))]
pub(crate) fn load_model<'py>(
    py: Python<'py>,
    path: PathBuf,
    family: Option<&str>,
    gender: Option<&str>,
) -> PyResult<Bound<'py, PyDict>> {
    let (family, gender) = wanted(family, gender)?;
    let model = py.detach(|| Model::load_from(path, family, gender))?;
    let content = PyDict::new(py);
    for (name, array) in model.arrays() {
        content.set_item(name, Py::new(py, PyArray(array.clone()))?)?;
    }
    content.set_item("family", model.family.name())?;
    content.set_item("gender", model.gender.map(Gender::name))?;
    content.set_item("hand", model.hand.map(Side::name))?;
    content.set_item("num_betas", model.num_betas)?;
    content.set_item("num_expressions", model.num_expressions)?;
    content.set_item("joint_names", model.joint_names)?;
    content.set_item("shape_names", model.shape_names)?;
    content.set_item("expression_names", model.expression_names)?;
    content.set_item("licence", model.licence)?;
    content.set_item("attribution", model.attribution)?;
    content.set_item("warnings", model.warnings)?;
    Ok(content)
}

/// Reads a model file, or one of a folder, and writes it as `.safetensors`. Returns the reader's warnings.
#[pyfunction]
#[pyo3(signature = (input, output, family=None, gender=None))]
pub(crate) fn convert_model(
    py: Python<'_>,
    input: PathBuf,
    output: PathBuf,
    family: Option<&str>,
    gender: Option<&str>,
) -> PyResult<Vec<String>> {
    let (family, gender) = wanted(family, gender)?;
    py.detach(|| {
        let model = Model::load_from(input, family, gender)?;
        model.save(output)?;
        Ok(model.warnings)
    })
}

/// Reads every member of an `.npz`: its name, numpy's code of its elements ("S" for text, empty for what is not read),
/// its shape, and its content: an array, a list of text, or what it is in words.
#[pyfunction]
pub(crate) fn read_npz(py: Python<'_>, path: PathBuf) -> PyResult<Vec<Member>> {
    py.detach(|| read_npz_file(&path))?
        .into_iter()
        .map(|(name, content)| {
            Ok(match content {
                Content::Numbers(code, array) => {
                    let shape = array.shape().to_vec();
                    (name, code, shape, Py::new(py, PyArray(array))?.into_any())
                }
                Content::Text(shape, text) => (name, "S", shape, PyList::new(py, text)?.into_any().unbind()),
                Content::Unread(what) => (name, "", Vec::new(), PyString::new(py, &what).into_any().unbind()),
            })
        })
        .collect()
}

/// Name, code, shape, content.
type Member = (String, &'static str, Vec<usize>, Py<PyAny>);

/// The family and gender to look for in a folder, by name.
fn wanted(family: Option<&str>, gender: Option<&str>) -> Result<(Option<Family>, Option<Gender>)> {
    let unknown =
        |what, name, known: &[&str]| Error::Value(format!("{what} is {name:?}, expected one of {}", known.join(", ")));
    let family = family
        .map(|name| Family::from_name(name).ok_or_else(|| unknown("family", name, &Family::ALL.map(Family::name))));
    let gender = gender
        .map(|name| Gender::from_name(name).ok_or_else(|| unknown("gender", name, &Gender::ALL.map(Gender::name))));
    Ok((family.transpose()?, gender.transpose()?))
}
