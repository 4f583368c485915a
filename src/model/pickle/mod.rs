//! A pickle machine that builds inert objects and executes nothing.
//!
//! The opcodes of all protocols (0 to 5) are understood as far as they describe data. A class or function may be named
//! only if it stands in [`Global`]; calling it makes a record of the call, which `objects` later interprets.
//! Objects live in one arena and refer to each other by number, so cycles and deep nesting are harmless, and their
//! number is limited, so a small file cannot become a large heap.

mod escapes;
mod machine;
mod objects;

use std::borrow::Cow;

pub use objects::PickleFile;

use crate::{Error, Result};

/// A value on the stack.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// An object of the arena.
    Object(u32),
}

/// What the arena holds.
#[derive(Debug)]
pub enum Object<'a> {
    Bytes(Cow<'a, [u8]>),
    Text(Cow<'a, str>),
    /// Tuples, lists and sets: the difference does not matter to a reader.
    Sequence(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    Global(Global),
    /// `callable(*arguments)`, and the state that was set on the result.
    Call {
        callable: Global,
        arguments: Value,
        state: Value,
    },
}

/// The only names a pickle may mention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Global {
    /// `numpy.core.multiarray._reconstruct`
    Reconstruct,
    NdArray,
    Dtype,
    /// `numpy.core.multiarray.scalar`
    Scalar,
    /// `numpy.core.numeric._frombuffer`, protocol 5.
    FromBuffer,
    /// `_codecs.encode`: how Python 3 writes bytes below protocol 3.
    Encode,
    /// `copyreg._reconstructor`: how protocols 0 and 1 make an instance.
    CopyReconstructor,
    ObjectClass,
    Dict,
    Set,
    Bytes,
    CscMatrix,
    /// `chumpy.ch.Ch`: an array in `x`.
    Ch,
    /// `chumpy.reordering.Select`: entries `idxs` of the array `a`.
    Select,
}

impl Global {
    fn from_name(module: &str, name: &str) -> Result<Self> {
        Ok(match (module, name) {
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => Self::Reconstruct,
            ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Self::Scalar,
            ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => Self::FromBuffer,
            ("numpy", "ndarray") => Self::NdArray,
            ("numpy", "dtype") => Self::Dtype,
            ("_codecs", "encode") => Self::Encode,
            ("copy_reg" | "copyreg", "_reconstructor") => Self::CopyReconstructor,
            ("__builtin__" | "builtins", "object") => Self::ObjectClass,
            ("__builtin__" | "builtins", "dict") | ("collections", "OrderedDict") => Self::Dict,
            ("__builtin__" | "builtins", "set" | "frozenset") => Self::Set,
            ("__builtin__" | "builtins", "bytes" | "bytearray") => Self::Bytes,
            ("scipy.sparse.csc" | "scipy.sparse._csc", "csc_matrix" | "csc_array") => Self::CscMatrix,
            ("chumpy.ch", "Ch") => Self::Ch,
            ("chumpy.reordering", "Select") => Self::Select,
            _ => {
                return Err(Error::Value(format!(
                    "is a pickle that mentions {module}.{name}, which is refused: \
                 expected only dicts, lists, numpy arrays, scipy csc matrices, chumpy Ch and Select"
                )));
            }
        })
    }
}

/// A finished pickle: every object, and the one that the pickle is.
#[derive(Debug)]
pub struct Pickled<'a> {
    objects: Vec<Object<'a>>,
    pub root: Value,
}

impl<'a> Pickled<'a> {
    /// Runs the machine over the bytes up to STOP; what follows is ignored, as Python does.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let (objects, root) = machine::run(bytes)?;
        Ok(Self { objects, root })
    }

    /// The object a value refers to.
    pub fn object(&self, value: Value) -> Option<&Object<'a>> {
        match value {
            Value::Object(index) => self.objects.get(index as usize),
            _ => None,
        }
    }

    /// The text of a str, or of Python 2 bytes.
    pub fn text(&self, value: Value) -> Option<&str> {
        match self.object(value)? {
            Object::Text(text) => Some(text),
            Object::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    pub fn sequence(&self, value: Value) -> Option<&[Value]> {
        match self.object(value)? {
            Object::Sequence(items) => Some(items),
            _ => None,
        }
    }

    pub fn dict(&self, value: Value) -> Option<&[(Value, Value)]> {
        match self.object(value)? {
            Object::Dict(items) => Some(items),
            _ => None,
        }
    }
}
