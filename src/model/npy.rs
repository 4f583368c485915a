//! The `.npy` header, versions 1 to 3: a Python dict literal in front of the data.

use super::stored::{Header, Kind};
use crate::{Error, Result};

const MAGIC: &[u8] = b"\x93NUMPY";
/// Far beyond any header of an array without named fields.
const MAX_HEADER: usize = 1 << 16;
/// Magic, version, and the widest length field.
const PREFIX: usize = 12;
/// Numpy's own limit on axes.
const MAX_AXES: usize = 64;

/// The most bytes of a file that [`parse`] looks at.
pub(crate) const HEADER_BYTES: usize = PREFIX + MAX_HEADER;

/// Whether a file starts like a `.npy`.
pub(crate) fn is_npy(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// The header and where the data starts. `bytes` may be only the beginning of the file.
pub fn parse(bytes: &[u8]) -> Result<(Header, usize)> {
    let truncated = || Error::Value("is cut off within its npy header".into());
    if !is_npy(bytes) {
        return Err(Error::Value("does not start with the npy magic bytes".into()));
    }
    let major = *bytes.get(6).ok_or_else(truncated)?;
    let minor = *bytes.get(7).ok_or_else(truncated)?;
    let (length, start) = match (major, minor) {
        (1, 0) => {
            let length = bytes.get(8..10).and_then(|field| field.try_into().ok()).ok_or_else(truncated)?;
            (usize::from(u16::from_le_bytes(length)), 10)
        }
        (2 | 3, 0) => {
            let length = bytes.get(8..12).and_then(|field| field.try_into().ok()).ok_or_else(truncated)?;
            (u32::from_le_bytes(length) as usize, 12)
        }
        _ => return Err(Error::Value(format!("is npy version {major}.{minor}, expected 1.0, 2.0 or 3.0"))),
    };
    if length > MAX_HEADER {
        return Err(Error::Value(format!("declares an npy header of {length} bytes, expected at most {MAX_HEADER}")));
    }
    let text = bytes.get(start..start + length).ok_or_else(truncated)?;
    // Version 3 differs from 2 in that field names may be UTF-8; arrays with fields are not read.
    let text = String::from_utf8_lossy(text);
    let header = Literal { rest: text.trim_end() }.header().map_err(|what| {
        Error::Value(format!("has an npy header {:?}: {what}", text.trim_end().chars().take(200).collect::<String>()))
    })?;
    Ok((header, start + length))
}

/// Reads the Python literal `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }` from left to right.
struct Literal<'a> {
    rest: &'a str,
}

impl<'a> Literal<'a> {
    fn header(mut self) -> std::result::Result<Header, String> {
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        self.expect('{')?;
        while !self.accept('}') {
            let key = self.string()?;
            self.expect(':')?;
            match key {
                "descr" => descr = Some(self.descr()?),
                "fortran_order" => fortran = Some(self.boolean()?),
                "shape" => shape = Some(self.shape()?),
                _ => return Err(format!("unknown key {key:?}")),
            }
            if !self.accept(',') {
                self.expect('}')?;
                break;
            }
        }
        if !self.rest.trim_start().is_empty() {
            return Err("something follows the dict".into());
        }
        let (kind, big_endian) = descr.ok_or("no descr")?;
        let fortran = fortran.ok_or("no fortran_order")?;
        Ok(Header { kind, big_endian, fortran, shape: shape.ok_or("no shape")? })
    }

    fn accept(&mut self, wanted: char) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, wanted: char) -> std::result::Result<(), String> {
        if self.accept(wanted) { Ok(()) } else { Err(format!("expected {wanted:?}")) }
    }

    fn string(&mut self) -> std::result::Result<&'a str, String> {
        self.rest = self.rest.trim_start();
        let quote = self.rest.chars().next().filter(|quote| matches!(quote, '\'' | '"')).ok_or("expected a string")?;
        let (text, rest) = self.rest[1..].split_once(quote).ok_or("unterminated string")?;
        self.rest = rest;
        Ok(text)
    }

    fn boolean(&mut self) -> std::result::Result<bool, String> {
        self.rest = self.rest.trim_start();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = self.rest.strip_prefix(word) {
                self.rest = rest;
                return Ok(value);
            }
        }
        Err("expected True or False".into())
    }

    /// `'<f4'`, or the list of fields of a structured array, which is skipped.
    fn descr(&mut self) -> std::result::Result<(Kind, bool), String> {
        if !self.accept('[') {
            return Ok(kind_of(self.string()?));
        }
        let mut depth = 1_usize;
        while depth > 0 {
            let next = self.rest.find(['[', ']', '\'', '"']).ok_or("unterminated list")?;
            match self.rest.as_bytes()[next] {
                b'[' => depth += 1,
                b']' => depth -= 1,
                _ => {
                    self.rest = &self.rest[next..];
                    self.string()?;
                    continue;
                }
            }
            self.rest = &self.rest[next + 1..];
        }
        Ok((Kind::Other("records with named fields".into()), false))
    }

    /// `(3, 4)`, `(3,)` or `()`; Python 2 wrote `(3L, 4L)`.
    fn shape(&mut self) -> std::result::Result<Vec<usize>, String> {
        let mut shape = Vec::new();
        self.expect('(')?;
        while !self.accept(')') {
            self.rest = self.rest.trim_start();
            let digits = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
            let (number, rest) = self.rest.split_at(digits);
            self.rest = rest;
            shape.push(number.parse().map_err(|_| "expected a tuple of sizes".to_owned())?);
            if shape.len() > MAX_AXES {
                return Err(format!("more than {MAX_AXES} axes"));
            }
            self.accept('L');
            if !self.accept(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(shape)
    }
}

/// The kind and byte order of a description such as `<f4` or `|u1`.
pub(crate) fn kind_of(descr: &str) -> (Kind, bool) {
    match descr.strip_prefix('>') {
        Some(code) => (Kind::from_numpy(code), true),
        None => (Kind::from_numpy(descr.trim_start_matches(['<', '|', '='])), false),
    }
}
