//! The directory of a zip archive held in memory: stored and deflated members, with zip64.
//!
//! Nothing is copied to find a member, and a stored one is returned as a slice of the archive. All declared sizes are
//! checked against the archive before anything is allocated.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use flate2::{Decompress, FlushDecompress, Status};

use crate::{Error, Result};

const END: [u8; 4] = *b"PK\x05\x06";
const END_SIZE: usize = 22;
const END64_LOCATOR: [u8; 4] = *b"PK\x06\x07";
const END64_LOCATOR_SIZE: usize = 20;
const END64: [u8; 4] = *b"PK\x06\x06";
const ENTRY: [u8; 4] = *b"PK\x01\x02";
const ENTRY_SIZE: usize = 46;
const LOCAL: [u8; 4] = *b"PK\x03\x04";
const LOCAL_SIZE: usize = 30;
const MAX_COMMENT: usize = 0xFFFF;
const ZIP64_EXTRA: u16 = 1;
/// Deflate cannot do better than 1032 to 1; a declared size beyond it is a lie.
const MAX_DEFLATE_RATIO: usize = 1032;

/// The members of an archive by name.
#[derive(Debug)]
pub struct Archive<'a> {
    bytes: &'a [u8],
    members: BTreeMap<String, Member>,
}

#[derive(Debug)]
struct Member {
    method: Method,
    data: Range<usize>,
    size: usize,
    crc: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Stored,
    Deflated,
    Other(u16),
    Encrypted,
}

/// Little-endian fields at fixed places of the archive; each read is checked.
#[derive(Clone, Copy)]
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn get<const N: usize>(self, at: usize) -> Result<[u8; N]> {
        let end = at.checked_add(N).ok_or_else(cut_off)?;
        self.0.get(at..end).and_then(|field| field.try_into().ok()).ok_or_else(cut_off)
    }

    fn u16(self, at: usize) -> Result<u16> {
        Ok(u16::from_le_bytes(self.get(at)?))
    }

    fn u32(self, at: usize) -> Result<u32> {
        Ok(u32::from_le_bytes(self.get(at)?))
    }

    /// A 64-bit size or offset.
    fn size(self, at: usize) -> Result<usize> {
        usize::try_from(u64::from_le_bytes(self.get(at)?)).map_err(|_| cut_off())
    }
}

fn cut_off() -> Error {
    Error::Value("is a zip archive that is cut off or whose directory points outside the file".into())
}

impl<'a> Archive<'a> {
    pub fn open(bytes: &'a [u8]) -> Result<Self> {
        let (mut at, end, count) = central_directory(bytes)?;
        let mut members = BTreeMap::new();
        for _ in 0..count {
            if at >= end {
                return Err(cut_off());
            }
            let (name, member, next) = member(bytes, at)?;
            if members.insert(name.clone(), member).is_some() {
                return Err(Error::Value(format!("is a zip archive with two members named {name:?}")));
            }
            at = next;
        }
        check_overlaps(&members)?;
        Ok(Self { bytes, members })
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    /// The declared size of a member, or `None` where there is none.
    pub fn size(&self, name: &str) -> Option<usize> {
        self.members.get(name).map(|member| member.size)
    }

    /// The whole member, its checksum verified.
    pub fn read(&self, name: &str) -> Result<Cow<'a, [u8]>> {
        let member = &self.members[name];
        let data = self.beginning(name, member.size)?;
        // A fuzzer cannot guess checksums.
        if !cfg!(fuzzing) && crc32fast::hash(&data) != member.crc {
            return Err(Error::Value("does not match its checksum: the archive is damaged".into()));
        }
        Ok(data)
    }

    /// At most the first `length` bytes of a member.
    pub fn beginning(&self, name: &str, length: usize) -> Result<Cow<'a, [u8]>> {
        let member = &self.members[name];
        let data = &self.bytes[member.data.clone()];
        let length = length.min(member.size);
        match member.method {
            Method::Stored => Ok(Cow::Borrowed(&data[..length])),
            Method::Deflated => inflate(data, length).map(Cow::Owned),
            Method::Encrypted => Err(Error::Value("is encrypted".into())),
            Method::Other(method) => {
                Err(Error::Value(format!("uses zip compression method {method}, expected stored (0) or deflated (8)")))
            }
        }
    }
}

fn inflate(data: &[u8], length: usize) -> Result<Vec<u8>> {
    let mut inflated = vec![0; length];
    let mut inflater = Decompress::new(false);
    while (inflater.total_out() as usize) < length {
        let (read, written) = (inflater.total_in() as usize, inflater.total_out() as usize);
        let status = inflater
            .decompress(&data[read..], &mut inflated[written..], FlushDecompress::Finish)
            .map_err(|cause| Error::Value(format!("holds damaged deflate data: {cause}")))?;
        let progress = inflater.total_in() as usize > read || inflater.total_out() as usize > written;
        if status == Status::StreamEnd || !progress {
            break;
        }
    }
    let found = inflater.total_out();
    if found as usize == length {
        Ok(inflated)
    } else {
        Err(Error::Value(format!("inflates to {found} bytes, expected {length}")))
    }
}

/// Where the directory starts and ends, and how many entries it has.
fn central_directory(bytes: &[u8]) -> Result<(usize, usize, usize)> {
    let fields = Fields(bytes);
    let last = bytes.len().checked_sub(END_SIZE).ok_or_else(cut_off)?;
    let first = last.saturating_sub(MAX_COMMENT);
    let at = (first..=last)
        .rev()
        .find(|&at| {
            let comment = fields.u16(at + 20).map_or(usize::MAX, usize::from);
            bytes[at..].starts_with(&END) && at + END_SIZE + comment == bytes.len()
        })
        .ok_or_else(cut_off)?;

    let count = usize::from(fields.u16(at + 10)?);
    let size = fields.u32(at + 12)? as usize;
    let start = fields.u32(at + 16)? as usize;
    let needs_64 = count == 0xFFFF || size == 0xFFFF_FFFF || start == 0xFFFF_FFFF;
    let locator = at.checked_sub(END64_LOCATOR_SIZE).filter(|&locator| bytes[locator..].starts_with(&END64_LOCATOR));
    let (start, size, count) = match locator {
        Some(locator) if needs_64 => {
            let end64 = fields.size(locator + 8)?;
            if !bytes.get(end64..).is_some_and(|record| record.starts_with(&END64)) {
                return Err(cut_off());
            }
            (fields.size(end64 + 48)?, fields.size(end64 + 40)?, fields.size(end64 + 32)?)
        }
        _ => (start, size, count),
    };
    let end = start.checked_add(size).filter(|&end| end <= at).ok_or_else(cut_off)?;
    if count > size / ENTRY_SIZE {
        return Err(cut_off());
    }
    Ok((start, end, count))
}

/// The member whose directory entry is at `at`, its name, and where the next entry is.
fn member(bytes: &[u8], at: usize) -> Result<(String, Member, usize)> {
    let fields = Fields(bytes);
    if fields.get(at)? != ENTRY {
        return Err(cut_off());
    }
    let encrypted = fields.u16(at + 8)? & 1 == 1;
    let method = match fields.u16(at + 10)? {
        _ if encrypted => Method::Encrypted,
        0 => Method::Stored,
        8 => Method::Deflated,
        other => Method::Other(other),
    };
    let crc = fields.u32(at + 16)?;
    let mut compressed = fields.u32(at + 20)? as usize;
    let mut size = fields.u32(at + 24)? as usize;
    let name_end = at + ENTRY_SIZE + usize::from(fields.u16(at + 28)?);
    let extra_end = name_end + usize::from(fields.u16(at + 30)?);
    let next = extra_end + usize::from(fields.u16(at + 32)?);
    let mut local = fields.u32(at + 42)? as usize;
    let name = bytes.get(at + ENTRY_SIZE..name_end).ok_or_else(cut_off)?;
    let name = String::from_utf8_lossy(name).into_owned();
    let extra = bytes.get(name_end..extra_end).ok_or_else(cut_off)?;
    // The 64-bit values stand in this order, each only where its 32-bit field is full.
    let mut wide = zip64_extra(extra)?;
    for value in [&mut size, &mut compressed, &mut local] {
        if *value == 0xFFFF_FFFF {
            *value = wide.size(0)?;
            wide = Fields(&wide.0[8..]);
        }
    }

    if fields.get(local)? != LOCAL {
        return Err(cut_off());
    }
    let names = usize::from(fields.u16(local + 26)?) + usize::from(fields.u16(local + 28)?);
    let start = local + LOCAL_SIZE + names;
    let end = start.checked_add(compressed).filter(|&end| end <= bytes.len()).ok_or_else(cut_off)?;
    let possible = match method {
        Method::Stored => size == compressed,
        Method::Deflated => size / MAX_DEFLATE_RATIO <= compressed,
        _ => true,
    };
    if !possible {
        return Err(Error::Value(format!(
            "is a zip archive whose member {name:?} claims {size} bytes, which its {compressed} packed bytes cannot hold"
        )));
    }
    Ok((name, Member { method, data: start..end, size, crc }, next))
}

fn zip64_extra(extra: &[u8]) -> Result<Fields<'_>> {
    let fields = Fields(extra);
    let mut at = 0;
    while at + 4 <= extra.len() {
        let start = at + 4;
        let end = start + usize::from(fields.u16(at + 2)?);
        if fields.u16(at)? == ZIP64_EXTRA {
            return extra.get(start..end).map(Fields).ok_or_else(cut_off);
        }
        at = end;
    }
    Ok(Fields(&[]))
}

/// Members that share bytes are how a small archive claims to hold a large one.
fn check_overlaps(members: &BTreeMap<String, Member>) -> Result<()> {
    let mut members: Vec<_> = members.iter().filter(|(_, member)| !member.data.is_empty()).collect();
    members.sort_by_key(|(_, member)| member.data.start);
    for pair in members.windows(2) {
        let ((first, a), (second, b)) = (pair[0], pair[1]);
        if a.data.end > b.data.start {
            return Err(Error::Value(format!("is a zip archive whose members {first:?} and {second:?} overlap")));
        }
    }
    Ok(())
}
