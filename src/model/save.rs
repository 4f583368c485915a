//! Writing a model in our own layout, `docs/model-format.md`: the same bytes for the same model, every time.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Map, Value, json};

use super::array::{Array, DType};
use super::safetensors::{FORMAT, VERSION};
use super::{Family, Gender, Model, Side};
use crate::{Error, Result};

/// The header is padded to this, so that every tensor can be used where the map puts it.
const ALIGNMENT: usize = 64;

/// One tensor as it will stand in the file.
struct Tensor<'a> {
    name: &'static str,
    dtype: &'static str,
    shape: &'a [usize],
    element: usize,
    size: usize,
    array: &'a Array,
}

impl Model {
    /// Writes the model as `.safetensors`, replacing the file only once all is written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        static SAVED: AtomicUsize = AtomicUsize::new(0);
        let path = path.as_ref();
        // Through a symbolic link the file that it leads to is replaced, not the link.
        let target = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if target.exists() && !target.is_file() {
            let kind = io::Error::new(io::ErrorKind::AlreadyExists, "is not a regular file, and is left alone");
            return Err(Error::File(path.to_owned(), kind));
        }
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let place = (std::process::id(), SAVED.fetch_add(1, Ordering::Relaxed)); // no other thread's, no other process's
        let unfinished = target.with_file_name(format!(".{name}.{}.{}.unfinished", place.0, place.1));
        let written = self.write(&unfinished).and_then(|()| fs::rename(&unfinished, target));
        written.map_err(|cause| {
            // The first failure is the one to report.
            let _ = fs::remove_file(&unfinished);
            Error::File(path.to_owned(), cause)
        })
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let mut tensors: Vec<_> =
            self.arrays().into_iter().filter(|(name, array)| !is_absent(name, array)).map(Tensor::new).collect();
        // The widest elements first, so that all are aligned.
        tensors.sort_by_key(|tensor| (Reverse(tensor.element), tensor.name));
        let header = self.header(&tensors);

        let mut file = BufWriter::new(File::create(path)?);
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        for tensor in &tensors {
            tensor.write(&mut file)?;
        }
        file.into_inner()?.sync_all()
    }

    fn header(&self, tensors: &[Tensor]) -> String {
        let mut header = Map::new();
        header.insert("__metadata__".into(), json!(self.metadata()));
        let mut start = 0;
        for tensor in tensors {
            let end = start + tensor.size;
            let entry = json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [start, end]});
            header.insert(tensor.name.into(), entry);
            start = end;
        }
        let mut text = Value::Object(header).to_string();
        // The length field of 8 bytes counts, too.
        let padded = (text.len() + 8).next_multiple_of(ALIGNMENT) - 8;
        text.extend(std::iter::repeat_n(' ', padded - text.len()));
        text
    }

    fn metadata(&self) -> BTreeMap<&'static str, String> {
        let names = |names: &[String]| (!names.is_empty()).then(|| json!(names).to_string());
        let entries = [
            ("format", Some(FORMAT.to_owned())),
            ("version", Some(VERSION.to_owned())),
            ("family", Some(Family::name(self.family).to_owned())),
            ("num_betas", Some(self.num_betas.to_string())),
            ("num_expressions", Some(self.num_expressions.to_string())),
            ("gender", self.gender.map(|gender| Gender::name(gender).to_owned())),
            ("hand", self.hand.map(|side| Side::name(side).to_owned())),
            ("joint_names", names(&self.joint_names)),
            ("shape_names", names(&self.shape_names)),
            ("expression_names", names(&self.expression_names)),
            ("licence", self.licence.clone()),
            ("attribution", self.attribution.clone()),
        ];
        entries.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }
}

/// Shape directions without columns are left out, as the layout says.
fn is_absent(name: &str, array: &Array) -> bool {
    matches!(name, "shapedirs" | "J_shapedirs") && array.is_empty()
}

impl<'a> Tensor<'a> {
    fn new((name, array): (&'static str, &'a Array)) -> Self {
        let (dtype, element) = match array.dtype() {
            DType::F32 => ("F32", 4),
            DType::F64 => ("F64", 8),
            // Every index was checked to fit.
            DType::I64 => ("I32", 4),
        };
        Self { name, dtype, shape: array.shape(), element, size: array.len() * element, array }
    }

    fn write(&self, file: &mut impl Write) -> io::Result<()> {
        match self.array.as_slice::<i64>() {
            None => file.write_all(self.array.bytes()),
            Some(indices) => indices.iter().try_for_each(|&index| {
                let narrow = i32::try_from(index).map_err(|_| io::Error::other("an index beyond 32 bits"))?;
                file.write_all(&narrow.to_le_bytes())
            }),
        }
    }
}
