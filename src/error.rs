//! Every way to fail, and the Python exception each becomes.

use std::fmt;
use std::path::PathBuf;

pub type Result<T> = std::result::Result<T, Error>;

/// A failure is a sentence: what was wrong, what it was, what was expected.
#[derive(Debug)]
pub enum Error {
    /// An argument or a file has the wrong value, shape or size. `ValueError`.
    Value(String),
    /// An argument has the wrong dtype or kind. `TypeError`.
    Type(String),
    /// An index points outside. `IndexError`.
    Index(String),
    /// The combination is understood and not supported. `NotImplementedError`.
    Unsupported(String),
    /// The system refused a file. `FileNotFoundError`, `PermissionError` or `OSError`.
    File(PathBuf, std::io::Error),
    /// Something outside the caller's hands failed: torch, CUDA, the compiler. `RuntimeError`.
    Runtime(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(text)
            | Self::Type(text)
            | Self::Index(text)
            | Self::Unsupported(text)
            | Self::Runtime(text) => f.write_str(text),
            Self::File(path, cause) => write!(f, "{}: {cause}", path.display()),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(feature = "torch")]
impl Error {
    pub(crate) const RUNTIME: i32 = 5;

    /// The number under which C++ (`border.cpp`) knows the exception this becomes.
    pub(crate) fn kind(&self) -> i32 {
        match self {
            Self::Value(_) => 1,
            Self::Type(_) => 2,
            Self::Index(_) => 3,
            Self::Unsupported(_) => 4,
            Self::File(..) | Self::Runtime(_) => Self::RUNTIME,
        }
    }
}

#[cfg(feature = "torch")]
impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        Self::Runtime(error.to_string())
    }
}

#[cfg(feature = "python")]
impl From<Error> for pyo3::PyErr {
    fn from(error: Error) -> Self {
        use pyo3::exceptions::{PyIndexError, PyNotImplementedError, PyRuntimeError, PyTypeError, PyValueError};
        let text = error.to_string();
        match error {
            Error::Value(_) => PyValueError::new_err(text),
            Error::Type(_) => PyTypeError::new_err(text),
            Error::Index(_) => PyIndexError::new_err(text),
            Error::Unsupported(_) => PyNotImplementedError::new_err(text),
            Error::Runtime(_) => PyRuntimeError::new_err(text),
            Error::File(_, cause) => std::io::Error::new(cause.kind(), text).into(),
        }
    }
}
