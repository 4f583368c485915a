//! Our own `.safetensors` layout: read without a copy. `docs/model-format.md` describes it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use memmap2::MmapRaw;
use safetensors::tensor::Metadata;
use safetensors::{Dtype, SafeTensors};

use super::source::Source;
use super::stored::{Header, Kind};
use crate::{Error, Result};

/// The `format` entry of the metadata.
pub(crate) const FORMAT: &str = "avatorch-body";
/// The `version` entry of the metadata.
pub(crate) const VERSION: &str = "1";
/// A body file has some twenty tensors; its header is a few kilobytes.
const MAX_HEADER: u64 = 1 << 20;

/// An open `.safetensors` file.
#[derive(Debug)]
pub struct Tensors<'a> {
    bytes: &'a [u8],
    start: usize,
    metadata: Metadata,
    map: Option<Arc<MmapRaw>>,
}

/// Whether a file starts like a `.safetensors`, even one that is cut off: the length of a header, which fills no more
/// than six of its eight bytes, and the header's brace.
pub(crate) fn is_safetensors(bytes: &[u8]) -> bool {
    bytes.get(6..9) == Some(b"\0\0{")
}

impl<'a> Tensors<'a> {
    /// `map`, when given, is the map that `bytes` are all of.
    pub fn open(bytes: &'a [u8], map: Option<Arc<MmapRaw>>) -> Result<Self> {
        let length = bytes.first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
        if length > MAX_HEADER {
            return Err(Error::Value(format!(
                "declares a safetensors header of {length} bytes, expected at most {MAX_HEADER}"
            )));
        }
        let (header, metadata) = SafeTensors::read_metadata(bytes)
            .map_err(|cause| Error::Value(format!("is not a valid safetensors file: {cause}")))?;
        // The length of the header stands in front of it.
        let tensors = Self { bytes, start: header + 8, metadata, map };
        let text = |key: &str| tensors.metadata()?.get(key).map(String::as_str);
        match (text("format"), text("version")) {
            (Some(FORMAT), Some(VERSION)) => Ok(tensors),
            (Some(FORMAT), version) => Err(Error::Value(format!(
                "has layout version {}, expected {VERSION}: a newer avatorch wrote it",
                version.unwrap_or("(none)")
            ))),
            (format, _) => Err(Error::Value(format!(
                "is a safetensors file of format {:?}, expected {FORMAT:?} in its metadata",
                format.unwrap_or("(none)")
            ))),
        }
    }
}

impl Source for Tensors<'_> {
    fn keys(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    fn header(&self, key: &str) -> Result<Option<Header>> {
        let Some(info) = self.metadata.info(key) else { return Ok(None) };
        let kind = match info.dtype {
            Dtype::F16 => Kind::F16,
            Dtype::F32 => Kind::F32,
            Dtype::F64 => Kind::F64,
            Dtype::I8 => Kind::I8,
            Dtype::I16 => Kind::I16,
            Dtype::I32 => Kind::I32,
            Dtype::I64 => Kind::I64,
            Dtype::U8 | Dtype::BOOL => Kind::U8,
            Dtype::U16 => Kind::U16,
            Dtype::U32 => Kind::U32,
            Dtype::U64 => Kind::U64,
            other => Kind::Other(format!("elements of type {other:?}")),
        };
        Ok(Some(Header::plain(kind, info.shape.clone())))
    }

    fn data(&self, key: &str) -> Result<Cow<'_, [u8]>> {
        let (start, end) = self.metadata.info(key).map_or((0, 0), |info| info.data_offsets);
        Ok(Cow::Borrowed(&self.bytes[self.start + start..self.start + end]))
    }

    fn mapped(&self, key: &str) -> Option<(&Arc<MmapRaw>, usize)> {
        Some((self.map.as_ref()?, self.start + self.metadata.info(key)?.data_offsets.0))
    }

    fn metadata(&self) -> Option<&HashMap<String, String>> {
        self.metadata.metadata().as_ref()
    }
}
