//! A rig of 3 vertices and 2 joints, and writers for every format, independent of the readers.
//!
//! Every float array holds `0.5 * i - 1` at place i of its reading order, except the joint regressor and the weights.

use std::io::Write;

use avatorch::Error;
use avatorch::model::{Array, Joints, Model};
use flate2::Compression;
use flate2::write::DeflateEncoder;

/// An array as a file has it.
#[derive(Clone)]
pub(crate) struct Field {
    pub(crate) key: String,
    pub(crate) descr: String,
    pub(crate) fortran: bool,
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Vec<u8>,
}

impl Field {
    pub(crate) fn new(key: &str, descr: &str, shape: &[usize], values: &[f64]) -> Self {
        let data = values.iter().flat_map(|&value| encode(descr, value)).collect();
        Self { key: key.into(), descr: descr.into(), fortran: false, shape: shape.into(), data }
    }

    /// The `.npy` of this array.
    pub(crate) fn npy(&self, version: u8) -> Vec<u8> {
        let order = if self.fortran { "True" } else { "False" };
        let sizes: Vec<_> = self.shape.iter().map(|size| format!("{size},")).collect();
        let header =
            format!("{{'descr': '{}', 'fortran_order': {order}, 'shape': ({}), }}\n", self.descr, sizes.join(" "));
        let mut npy = b"\x93NUMPY".to_vec();
        npy.extend([version, 0]);
        match version {
            1 => npy.extend((header.len() as u16).to_le_bytes()),
            _ => npy.extend((header.len() as u32).to_le_bytes()),
        }
        npy.extend(header.as_bytes());
        npy.extend(&self.data);
        npy
    }
}

/// One number in numpy's `descr`.
fn encode(descr: &str, value: f64) -> Vec<u8> {
    let mut bytes = match &descr[1..] {
        "f2" => half::f16::from_f64(value).to_le_bytes().to_vec(),
        "f4" => (value as f32).to_le_bytes().to_vec(),
        "f8" => value.to_le_bytes().to_vec(),
        "i1" | "u1" => vec![value as i64 as u8],
        "i2" | "u2" => (value as i64 as u16).to_le_bytes().to_vec(),
        "i4" | "u4" => (value as i64 as u32).to_le_bytes().to_vec(),
        "i8" | "u8" => (value as i64).to_le_bytes().to_vec(),
        _ => panic!("no encoding for {descr}"),
    };
    if descr.starts_with('>') {
        bytes.reverse();
    }
    bytes
}

pub(crate) fn ramp(count: usize) -> Vec<f64> {
    (0..count).map(|place| 0.5 * place as f64 - 1.0).collect()
}

/// The rig under the keys of official files.
pub(crate) fn fields() -> Vec<Field> {
    vec![
        Field::new("v_template", "<f8", &[3, 3], &ramp(9)),
        Field::new("shapedirs", "<f8", &[3, 3, 2], &ramp(18)),
        Field::new("posedirs", "<f8", &[3, 3, 9], &ramp(81)),
        Field::new("J_regressor", "<f8", &[2, 3], &[-1.0, 0.0, 1.0, 0.0, 0.5, 1.0]),
        Field::new("weights", "<f4", &[3, 2], &[1.0, 0.0, 0.25, 0.75, 0.5, 0.5]),
        Field::new("kintree_table", "<u4", &[2, 2], &[4_294_967_295.0, 0.0, 0.0, 1.0]),
        Field::new("f", "<u4", &[1, 3], &[0.0, 1.0, 2.0]),
    ]
}

/// The rig with one array replaced or added.
pub(crate) fn with(field: Field) -> Vec<Field> {
    let mut fields = without(&field.key.clone());
    fields.push(field);
    fields
}

/// The rig without one array.
pub(crate) fn without(key: &str) -> Vec<Field> {
    fields().into_iter().filter(|field| field.key != key).collect()
}

/// Whatever the format, the model must be this.
pub(crate) fn assert_rig(model: &Model) {
    assert_floats(&model.v_template, &[3, 3], &ramp(9));
    assert_floats(&model.shapedirs, &[3, 3, 2], &ramp(18));
    let transposed: Vec<_> = (0..81).map(|place| 0.5 * f64::from(place % 9 * 9 + place / 9) - 1.0).collect();
    assert_floats(model.posedirs.as_ref().expect("posedirs"), &[9, 9], &transposed);
    match &model.joints {
        Joints::Regressor { j_regressor } => assert_floats(j_regressor, &[2, 3], &[-1.0, 0.0, 1.0, 0.0, 0.5, 1.0]),
        Joints::Directions { .. } => panic!("the rig has a regressor"),
    }
    assert_floats(&model.lbs_weights, &[3, 2], &[1.0, 0.0, 0.25, 0.75, 0.5, 0.5]);
    assert_eq!((model.parents.shape(), model.parents.as_slice::<i64>()), (&[2][..], Some(&[-1, 0][..])));
    assert_eq!((model.faces.shape(), model.faces.as_slice::<i64>()), (&[1, 3][..], Some(&[0, 1, 2][..])));
    assert_eq!((model.num_betas, model.num_expressions), (2, 0));
    assert_eq!(model.warnings, Vec::<String>::new());
}

pub(crate) fn assert_floats(array: &Array, shape: &[usize], values: &[f64]) {
    assert_eq!((array.shape(), array.to_f64()), (shape, values.to_vec()));
}

/// The sentence with which reading fails.
pub(crate) fn refusal(bytes: &[u8]) -> String {
    match Model::from_bytes(bytes) {
        Err(Error::Value(text)) => text,
        Err(other) => panic!("expected a value error, got {other:?}"),
        Ok(model) => panic!("expected a refusal, got {:?}", model.family),
    }
}

/// Every beginning of a file is refused, and no change of one byte does worse than that.
pub(crate) fn assert_robust(bytes: &[u8]) {
    for end in 0..bytes.len() {
        assert!(Model::from_bytes(&bytes[..end]).is_err(), "the first {end} of {} bytes were accepted", bytes.len());
    }
    let mut damaged = bytes.to_vec();
    for place in 0..bytes.len() {
        for change in [0x01, 0x80, 0xFF] {
            damaged[place] = bytes[place] ^ change;
            // Some changes are harmless; none may panic.
            let _ = Model::from_bytes(&damaged);
        }
        damaged[place] = bytes[place];
    }
}

/// How a zip member is written.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Packing {
    Stored,
    Deflated,
    /// Stored, with every size and offset in zip64 fields.
    Wide,
}

pub(crate) fn npz(fields: &[Field], packing: Packing) -> Vec<u8> {
    let members: Vec<_> = fields.iter().map(|field| (format!("{}.npy", field.key), field.npy(1))).collect();
    zip(&members, packing)
}

pub(crate) fn deflate(data: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).expect("memory does not fail");
    encoder.finish().expect("memory does not fail")
}

pub(crate) fn zip(members: &[(String, Vec<u8>)], packing: Packing) -> Vec<u8> {
    let entries = members.iter().map(|(name, data)| {
        let packed = if packing == Packing::Deflated { deflate(data) } else { data.clone() };
        ZipEntry { name: name.clone(), crc: crc32fast::hash(data), size: data.len() as u64, packed }
    });
    zip_entries(&entries.collect::<Vec<_>>(), packing)
}

/// A member as the archive declares it, true or not.
pub(crate) struct ZipEntry {
    pub(crate) name: String,
    pub(crate) crc: u32,
    pub(crate) size: u64,
    pub(crate) packed: Vec<u8>,
}

pub(crate) fn zip_entries(entries: &[ZipEntry], packing: Packing) -> Vec<u8> {
    let wide = packing == Packing::Wide;
    let method: u16 = if packing == Packing::Deflated { 8 } else { 0 };
    let narrow = |value: u64| if wide { u32::MAX } else { value as u32 };
    let mut archive = Vec::new();
    let mut directory = Vec::new();
    for entry in entries {
        let (offset, packed) = (archive.len() as u64, entry.packed.len() as u64);
        let mut extra = Vec::new();
        if wide {
            extra.extend([1, 0, 24, 0]);
            extra.extend([entry.size, packed, offset].map(u64::to_le_bytes).concat());
        }
        let sizes = [narrow(packed).to_le_bytes(), narrow(entry.size).to_le_bytes()].concat();
        let name_length = (entry.name.len() as u16).to_le_bytes();

        archive.extend(b"PK\x03\x04\x14\x00\x00\x00");
        archive.extend(method.to_le_bytes());
        archive.extend([0; 4]);
        archive.extend(entry.crc.to_le_bytes());
        archive.extend(&sizes);
        archive.extend(name_length);
        archive.extend([0; 2]);
        archive.extend(entry.name.as_bytes());
        archive.extend(&entry.packed);

        directory.extend(b"PK\x01\x02\x14\x00\x14\x00\x00\x00");
        directory.extend(method.to_le_bytes());
        directory.extend([0; 4]);
        directory.extend(entry.crc.to_le_bytes());
        directory.extend(&sizes);
        directory.extend(name_length);
        directory.extend((extra.len() as u16).to_le_bytes());
        directory.extend([0; 10]);
        directory.extend(narrow(offset).to_le_bytes());
        directory.extend(entry.name.as_bytes());
        directory.extend(extra);
    }
    let (start, size, count) = (archive.len() as u64, directory.len() as u64, entries.len() as u64);
    archive.extend(directory);
    if wide {
        let end64 = archive.len() as u64;
        archive.extend(b"PK\x06\x06");
        archive.extend(44_u64.to_le_bytes());
        archive.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        for value in [count, count, size, start] {
            archive.extend(value.to_le_bytes());
        }
        archive.extend(b"PK\x06\x07\x00\x00\x00\x00");
        archive.extend(end64.to_le_bytes());
        archive.extend(1_u32.to_le_bytes());
    }
    let count = if wide { u16::MAX } else { count as u16 };
    archive.extend(b"PK\x05\x06\x00\x00\x00\x00");
    archive.extend(count.to_le_bytes());
    archive.extend(count.to_le_bytes());
    archive.extend(narrow(size).to_le_bytes());
    archive.extend(narrow(start).to_le_bytes());
    archive.extend([0; 2]);
    archive
}
