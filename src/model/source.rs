//! What the readers have in common: named arrays whose headers are known before their data is read.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use memmap2::MmapRaw;

use super::stored::Header;
use crate::Result;

/// A file of named arrays. Errors say what is wrong with the array; the caller names file and key.
pub trait Source: Sync {
    /// Every key in the file, in a fixed order.
    fn keys(&self) -> Vec<String>;

    /// The header of an array, or `None` where there is no such key.
    fn header(&self, key: &str) -> Result<Option<Header>>;

    /// The data of an array that has a header, in the header's layout.
    fn data(&self, key: &str) -> Result<Cow<'_, [u8]>>;

    /// Where the data of an array lies in a memory map that arrays may keep.
    fn mapped(&self, _key: &str) -> Option<(&Arc<MmapRaw>, usize)> {
        None
    }

    /// Free-form text about the file.
    fn metadata(&self) -> Option<&HashMap<String, String>> {
        None
    }
}
