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
