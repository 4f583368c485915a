//! What an operator was called with, and the checks that the dispatcher does not make.

use std::ffi::c_void;
use std::mem::ManuallyDrop;

use smallvec::SmallVec;
use tch::{Device, Kind, Tensor};

use super::Sizes;
use crate::{Error, Result};

type Borrowed = SmallVec<[Option<ManuallyDrop<Tensor>>; 32]>;

pub(crate) struct Arguments<'a> {
    operator: &'static str,
    tensors: Borrowed,
    numbers: &'a [i64],
    text: &'a str,
    stream: *mut c_void,
}

impl<'a> Arguments<'a> {
    pub(crate) fn new(
        operator: &'static str,
        tensors: Borrowed,
        numbers: &'a [i64],
        text: &'a str,
        stream: *mut c_void,
    ) -> Self {
        Self { operator, tensors, numbers, text, stream }
    }

    /// The tensor at `position` of the call, under the name the schema gives it.
    pub(crate) fn tensor(&self, position: usize, name: &'static str) -> Result<Argument<'_>> {
        self.optional(position, name)
            .ok_or_else(|| Error::Type(format!("{}: {name} is missing, expected a tensor", self.operator)))
    }

    pub(crate) fn optional(&self, position: usize, name: &'static str) -> Option<Argument<'_>> {
        let tensor = self.tensors[position].as_ref()?;
        Some(Argument { operator: self.operator, name, tensor })
    }

    pub(crate) fn number(&self, position: usize) -> i64 {
        self.numbers[position]
    }

    /// The call's text; empty where it has none.
    pub(crate) fn text(&self) -> &str {
        self.text
    }

    /// Torch's current stream of the device in use.
    pub(crate) fn stream(&self) -> *mut c_void {
        self.stream
    }
}

/// One tensor argument. A check returns it, so that checks chain; a failed check is a sentence that names it.
#[derive(Clone, Copy)]
pub(crate) struct Argument<'a> {
    operator: &'static str,
    name: &'static str,
    pub(crate) tensor: &'a Tensor,
}

impl Argument<'_> {
    pub(crate) fn real(self) -> Result<Self> {
        match self.tensor.f_kind()? {
            Kind::Float | Kind::Double => Ok(self),
            kind => Err(Error::Type(format!(
                "{}: {} is {}, expected float32 or float64 (under autocast, float16 and bfloat16 are computed in float32)",
                self.operator,
                self.name,
                kind_name(kind)
            ))),
        }
    }

    pub(crate) fn int32(self) -> Result<Self> {
        self.integers(Kind::Int)
    }

    pub(crate) fn int64(self) -> Result<Self> {
        self.integers(Kind::Int64)
    }

    fn integers(self, expected: Kind) -> Result<Self> {
        match self.tensor.f_kind()? {
            kind if kind == expected => Ok(self),
            kind => Err(Error::Type(format!(
                "{}: {} is {}, expected {}",
                self.operator,
                self.name,
                kind_name(kind),
                kind_name(expected)
            ))),
        }
    }

    pub(crate) fn rank(self, rank: usize) -> Result<Self> {
        if self.tensor.dim() == rank { Ok(self) } else { Err(self.wrong_shape(&format!("{rank} dimensions"))) }
    }

    /// `-1` stands for any size.
    pub(crate) fn shape(self, expected: &[i64]) -> Result<Self> {
        let found = self.tensor.sizes();
        let matches = found.len() == expected.len() && found.iter().zip(expected).all(|(f, e)| *e == -1 || f == e);
        if matches { Ok(self) } else { Err(self.wrong_shape(&shape_text(expected))) }
    }

    /// Any leading dimensions, then exactly these.
    pub(crate) fn ends_with(self, expected: &[i64]) -> Result<Self> {
        if self.tensor.sizes().ends_with(expected) {
            return Ok(self);
        }
        let sizes: Vec<String> = expected.iter().map(i64::to_string).collect();
        Err(self.wrong_shape(&format!("[..., {}]", sizes.join(", "))))
    }

    pub(crate) fn same_device(self, other: Self) -> Result<Self> {
        let (device, expected) = (self.tensor.device(), other.tensor.device());
        if device == expected {
            return Ok(self);
        }
        Err(Error::Value(format!(
            "{}: {} is on {}, expected {} as {}",
            self.operator,
            self.name,
            device_name(device),
            device_name(expected),
            other.name
        )))
    }

    /// The same device and dtype as another argument.
    pub(crate) fn like(self, other: Self) -> Result<Self> {
        self.same_device(other)?;
        let (kind, expected) = (self.tensor.f_kind()?, other.tensor.f_kind()?);
        if kind != expected {
            return Err(Error::Type(format!(
                "{}: {} is {}, expected {} as {}",
                self.operator,
                self.name,
                kind_name(kind),
                kind_name(expected),
                other.name
            )));
        }
        Ok(self)
    }

    /// Dense row-major memory: the tensor itself, or a copy.
    pub(crate) fn contiguous(self) -> Result<Tensor> {
        Ok(self.tensor.f_contiguous()?)
    }

    /// The error for an integer that must not be where it is.
    pub(crate) fn wrong_index(self, place: &[usize], found: i64, expected: &str) -> Error {
        Error::Index(format!("{}: {}{place:?} is {found}, expected {expected}", self.operator, self.name))
    }

    /// The error for a shape that the checks above cannot express.
    pub(crate) fn wrong_shape(self, expected: &str) -> Error {
        let found = shape_text(self.tensor.sizes());
        Error::Value(format!("{}: {} has shape {found}, expected {expected}", self.operator, self.name))
    }
}

fn shape_text(shape: &[i64]) -> String {
    let sizes: Vec<String> = shape.iter().map(|&size| if size == -1 { "*".into() } else { size.to_string() }).collect();
    format!("[{}]", sizes.join(", "))
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Float => "float32",
        Kind::Double => "float64",
        Kind::Half => "float16",
        Kind::BFloat16 => "bfloat16",
        Kind::Int => "int32",
        Kind::Int64 => "int64",
        Kind::Int16 => "int16",
        Kind::Int8 => "int8",
        Kind::Uint8 => "uint8",
        Kind::Bool => "bool",
        Kind::ComplexFloat => "complex64",
        Kind::ComplexDouble => "complex128",
        _ => "an unsupported dtype",
    }
}

fn device_name(device: Device) -> String {
    match device {
        Device::Cpu => "cpu".into(),
        Device::Cuda(index) => format!("cuda:{index}"),
        _ => "another device".into(),
    }
}
