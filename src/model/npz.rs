//! `.npz`: a zip archive of `.npy` members.

use std::borrow::Cow;

use super::npy;
use super::source::Source;
use super::stored::Header;
use super::zip::Archive;
use crate::{Error, Result};

/// An open `.npz`. Members of Python objects are listed and never read.
#[derive(Debug)]
pub struct Npz<'a> {
    archive: Archive<'a>,
}

impl<'a> Npz<'a> {
    pub fn open(bytes: &'a [u8]) -> Result<Self> {
        Ok(Self { archive: Archive::open(bytes)? })
    }

    /// The header of a member and where its data starts.
    fn parse(&self, member: &str) -> Result<(Header, usize)> {
        npy::parse(&self.archive.beginning(member, npy::HEADER_BYTES)?)
    }
}

fn member_of(key: &str) -> String {
    format!("{key}.npy")
}

impl Source for Npz<'_> {
    fn keys(&self) -> Vec<String> {
        self.archive.names().filter_map(|name| name.strip_suffix(".npy")).map(str::to_owned).collect()
    }

    fn header(&self, key: &str) -> Result<Option<Header>> {
        let member = member_of(key);
        let Some(size) = self.archive.size(&member) else { return Ok(None) };
        let (header, start) = self.parse(&member)?;
        let length = size.checked_sub(start).ok_or_else(|| Error::Value("is cut off within its npy header".into()))?;
        if !matches!(header.kind, super::stored::Kind::Other(_)) {
            header.check_length(length)?;
        }
        Ok(Some(header))
    }

    fn data(&self, key: &str) -> Result<Cow<'_, [u8]>> {
        let member = member_of(key);
        let (_, start) = self.parse(&member)?;
        Ok(match self.archive.read(&member)? {
            Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[start..]),
            Cow::Owned(mut bytes) => {
                bytes.drain(..start);
                Cow::Owned(bytes)
            }
        })
    }
}
