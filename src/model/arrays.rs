//! Every array of an `.npz`, numbers and text, for files that are no body model.

use std::path::Path;
use std::sync::Arc;

use super::array::Array;
use super::npz::Npz;
use super::source::Source;
use super::stored::{self, Header, Kind};
use super::{in_file, map, map_bytes};
use crate::{Error, Result};

/// What deflate may add to a file before it is taken for an attack: so many bytes, and so many times its size.
const MAX_ADDED: usize = 64 << 20;
const MAX_TIMES: usize = 16;
/// A text in memory is larger than in its file; no archive has so many names.
const MAX_TEXTS: usize = 1 << 16;

/// One member of an archive.
pub enum Content {
    /// Floats as f32 or f64, integers as i64, and numpy's code of what the file holds, such as "f4".
    Numbers(&'static str, Array),
    /// Text in C order, without the padding, and its shape.
    Text(Vec<usize>, Vec<String>),
    /// Objects, records, complex numbers: in words, never read.
    Unread(String),
}

/// Reads an `.npz` file: its members by name, in the archive's order.
pub fn read_npz(path: &Path) -> Result<Vec<(String, Content)>> {
    let map = map(path)?;
    read(map_bytes(&Arc::clone(&map))).map_err(|cause| in_file(path, cause))
}

/// Reads an `.npz` from its bytes.
pub fn read(bytes: &[u8]) -> Result<Vec<(String, Content)>> {
    let archive = Npz::open(bytes)?;
    let mut headers = Vec::new();
    let mut total = 0_usize;
    for key in archive.keys() {
        let header = archive.header(&key).map_err(|cause| in_key(&key, cause))?;
        let header = header.ok_or_else(|| Error::Value(format!("lost its key '{key}'")))?;
        total = header.byte_len().and_then(|length| total.checked_add(length)).unwrap_or(usize::MAX);
        headers.push((key, header));
    }
    if total > MAX_ADDED + bytes.len().saturating_mul(MAX_TIMES) {
        return Err(Error::Value(format!(
            "declares {total} bytes of arrays, expected at most {MAX_TIMES} times its {} bytes and {MAX_ADDED} more",
            bytes.len()
        )));
    }
    let content = |key: &str, header: &Header| match &header.kind {
        Kind::Other(what) => Ok(Content::Unread(what.clone())),
        Kind::Text { characters, wide } => {
            text(&archive.data(key)?, *characters, *wide, header).map(|text| Content::Text(header.shape.clone(), text))
        }
        kind => {
            let data = archive.data(key)?;
            let whole = kind.is_integer();
            let array = if whole { stored::indices(header, &data)? } else { stored::floats(header, &data)? };
            Ok(Content::Numbers(kind.code(), array))
        }
    };
    headers
        .into_iter()
        .map(|(key, header)| {
            let content = content(&key, &header).map_err(|cause| in_key(&key, cause))?;
            Ok((key, content))
        })
        .collect()
}

fn in_key(key: &str, cause: Error) -> Error {
    match cause {
        Error::Value(text) => Error::Value(format!("key '{key}' {text}")),
        other => other,
    }
}

fn text(data: &[u8], characters: usize, wide: bool, header: &Header) -> Result<Vec<String>> {
    header.check_length(data.len())?;
    let count = header.count().unwrap_or(usize::MAX);
    if count > MAX_TEXTS {
        return Err(Error::Value(format!("holds {count} texts, expected at most {MAX_TEXTS}")));
    }
    let size = header.kind.size();
    if size == 0 {
        return Ok(vec![String::new(); count]);
    }
    debug_assert_eq!(size, characters * if wide { 4 } else { 1 });
    data.chunks_exact(size)
        .map(|cell| {
            if wide {
                let units =
                    cell.as_chunks::<4>().0.iter().map(|&unit| {
                        if header.big_endian { u32::from_be_bytes(unit) } else { u32::from_le_bytes(unit) }
                    });
                let letters: Option<String> = units.map(char::from_u32).collect();
                letters
                    .map(|letters| letters.trim_end_matches('\0').to_owned())
                    .ok_or_else(|| Error::Value("holds text that is not UTF-32".into()))
            } else {
                let used = cell.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
                String::from_utf8(cell[..used].to_vec())
                    .map_err(|_| Error::Value("holds text that is not UTF-8".into()))
            }
        })
        .collect()
}
