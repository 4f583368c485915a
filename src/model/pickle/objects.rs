//! numpy arrays, scipy matrices and chumpy terms, read from the records that the machine left.

use std::borrow::Cow;

use super::{Global, Object, Pickled, Value};
use crate::model::npy;
use crate::model::source::Source;
use crate::model::stored::{self, Header, Kind};
use crate::{Error, Result};

/// Terms within terms; official files have at most two.
const MAX_DEPTH: usize = 8;
/// Bytes of the longest key that is listed.
const MAX_KEY: usize = 64;

/// A pickled dict of arrays.
#[derive(Debug)]
pub struct PickleFile<'a> {
    pickled: Pickled<'a>,
}

/// An array in one of the forms in which files hold it.
enum Form {
    Dense {
        header: Header,
        data: Value,
    },
    /// Columns of a sparse matrix: values, their rows, and where each column starts.
    Csc {
        header: Header,
        values: Value,
        rows: Value,
        starts: Value,
    },
    /// Entries of another array, in reading order.
    Select {
        header: Header,
        from: Value,
        picked: Vec<i64>,
    },
}

impl Form {
    fn header(&self) -> &Header {
        match self {
            Self::Dense { header, .. } | Self::Csc { header, .. } | Self::Select { header, .. } => header,
        }
    }
}

fn unreadable(what: &str) -> Error {
    Error::Value(format!("cannot be read: {what}"))
}

impl<'a> PickleFile<'a> {
    pub fn open(bytes: &'a [u8]) -> Result<Self> {
        let pickled = Pickled::parse(bytes)?;
        if pickled.dict(pickled.root).is_none() {
            return Err(Error::Value("is a pickle that does not hold a dict".into()));
        }
        Ok(Self { pickled })
    }

    /// A `.npy` whose single Python object is a dict.
    pub fn open_npy(bytes: &'a [u8]) -> Result<Self> {
        let (header, start) = npy::parse(bytes)?;
        if header.kind != Kind::from_numpy("O") || !header.shape.is_empty() {
            return Err(Error::Value(format!(
                "is an npy array of shape {:?}, expected a single pickled dict of arrays",
                header.shape
            )));
        }
        // numpy pickles the array itself: a 0-d object array is a list of one item.
        let pickled = Pickled::parse(&bytes[start..])?;
        let list = pickled.ndarray_state(pickled.root).and_then(|state| pickled.sequence(state.data));
        let Some(&[root]) = list else {
            return Err(Error::Value("is an npy file that does not hold one pickled object".into()));
        };
        if pickled.dict(root).is_none() {
            return Err(Error::Value("is an npy file whose object is not a dict".into()));
        }
        Ok(Self { pickled: Pickled { root, ..pickled } })
    }

    fn entries(&self) -> &[(Value, Value)] {
        self.pickled.dict(self.pickled.root).unwrap_or_default()
    }
}

impl Source for PickleFile<'_> {
    fn keys(&self) -> Vec<String> {
        let names = self.entries().iter().filter_map(|&(key, _)| self.pickled.text(key));
        // A million keys may all be one long text.
        names.filter(|name| name.len() <= MAX_KEY).map(str::to_owned).collect()
    }

    fn header(&self, key: &str) -> Result<Option<Header>> {
        let value = self.pickled.entry(self.pickled.root, key);
        value.map(|value| self.pickled.form(value, 0).map(|form| form.header().clone())).transpose()
    }

    fn data(&self, key: &str) -> Result<Cow<'_, [u8]>> {
        let value = self.pickled.entry(self.pickled.root, key).unwrap_or(Value::None);
        self.pickled.data(&self.pickled.form(value, 0)?, 0)
    }
}

/// The parts of a pickled `ndarray`.
struct NdArrayState {
    shape: Value,
    dtype: Value,
    fortran: bool,
    data: Value,
}

impl Pickled<'_> {
    fn call(&self, value: Value) -> Option<(Global, Value, Value)> {
        match self.object(value)? {
            Object::Call { callable, arguments, state } => Some((*callable, *arguments, *state)),
            _ => None,
        }
    }

    /// The value of a key. As in Python, the last entry with that key is the one that counts.
    fn entry(&self, dict: Value, key: &str) -> Option<Value> {
        let is_key = |name: Value| match self.object(name) {
            Some(Object::Text(text)) => text == key,
            Some(Object::Bytes(bytes)) => **bytes == *key.as_bytes(),
            _ => false,
        };
        self.dict(dict)?.iter().rev().find(|&&(name, _)| is_key(name)).map(|&(_, value)| value)
    }

    fn form(&self, value: Value, depth: usize) -> Result<Form> {
        if depth > MAX_DEPTH {
            return Err(unreadable("terms are nested too deeply"));
        }
        let Some((callable, _, state)) = self.call(value) else {
            return Err(Error::Value(format!("is {}, expected an array", self.describe(value))));
        };
        match callable {
            Global::Reconstruct | Global::FromBuffer => {
                let array = self.ndarray_state(value).ok_or_else(|| unreadable("a numpy array without its parts"))?;
                let (kind, big_endian) =
                    self.dtype(array.dtype).ok_or_else(|| unreadable("a numpy array without a dtype"))?;
                let shape = self.shape(array.shape).ok_or_else(|| unreadable("a numpy array without a shape"))?;
                Ok(Form::Dense { header: Header { kind, big_endian, fortran: array.fortran, shape }, data: array.data })
            }
            Global::CscMatrix => self.csc(state),
            Global::Ch => {
                let x = self.entry(state, "x").ok_or_else(|| unreadable("a chumpy Ch without x"))?;
                self.chumpy_term(x, depth)
            }
            Global::Select => self.select(state, depth),
            _ => Err(Error::Value(format!("is {}, expected an array", self.describe(value)))),
        }
    }

    /// The operand of a chumpy term: an array or another term.
    fn chumpy_term(&self, value: Value, depth: usize) -> Result<Form> {
        match self.form(value, depth + 1)? {
            // Expanding one is for the caller to allow, who cannot see inside a term.
            Form::Csc { .. } => Err(unreadable("a sparse matrix within a chumpy term")),
            form => Ok(form),
        }
    }

    fn describe(&self, value: Value) -> &'static str {
        match (value, self.object(value)) {
            (Value::None, _) => "None",
            (Value::Bool(_) | Value::Int(_) | Value::Float(_), _) => "a plain number",
            (_, Some(Object::Bytes(_) | Object::Text(_))) => "text",
            (_, Some(Object::Sequence(_))) => "a list",
            (_, Some(Object::Dict(_))) => "a dict",
            _ => "an object of another kind",
        }
    }

    /// `_reconstruct(..)` with a state, or protocol 5's `_frombuffer(data, dtype, shape, order)`.
    fn ndarray_state(&self, value: Value) -> Option<NdArrayState> {
        match self.call(value)? {
            (Global::Reconstruct, _, state) => match self.sequence(state)? {
                // A version stands in front, except in files of the oldest numpy.
                &[_, shape, dtype, Value::Bool(fortran), data] | &[shape, dtype, Value::Bool(fortran), data] => {
                    Some(NdArrayState { shape, dtype, fortran, data })
                }
                &[_, shape, dtype, Value::Int(fortran), data] => {
                    Some(NdArrayState { shape, dtype, fortran: fortran != 0, data })
                }
                _ => None,
            },
            (Global::FromBuffer, arguments, _) => match self.sequence(arguments)? {
                &[data, dtype, shape, order] => {
                    Some(NdArrayState { shape, dtype, fortran: self.text(order)? == "F", data })
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// `dtype('f8', ..)`, and the byte order from its state `(3, '<', ..)`.
    fn dtype(&self, value: Value) -> Option<(Kind, bool)> {
        let (Global::Dtype, arguments, state) = self.call(value)? else { return None };
        let (kind, _) = npy::kind_of(self.text(*self.sequence(arguments)?.first()?)?);
        let order = self.sequence(state).and_then(|state| self.text(*state.get(1)?));
        Some((kind, order == Some(">")))
    }

    fn shape(&self, value: Value) -> Option<Vec<usize>> {
        let size = |value: &Value| match value {
            Value::Int(size) => usize::try_from(*size).ok(),
            _ => None,
        };
        self.sequence(value)?.iter().map(size).collect()
    }

    fn csc(&self, state: Value) -> Result<Form> {
        let part = |keys: [&str; 2]| keys.iter().find_map(|key| self.entry(state, key));
        let parts = (part(["_shape", "shape"]), part(["data", "data"]), part(["indices", "indices"]));
        let ((Some(shape), Some(values), Some(rows)), Some(starts)) = (parts, self.entry(state, "indptr")) else {
            return Err(unreadable("a scipy csc matrix without _shape, data, indices and indptr"));
        };
        let shape = self.shape(shape).filter(|shape| shape.len() == 2);
        let shape = shape.ok_or_else(|| unreadable("a scipy csc matrix without two sizes"))?;
        let values_header = self.form(values, 1)?.header().clone();
        // Dense values stay as they are; only their places change.
        let header = Header { shape, fortran: false, ..values_header };
        Ok(Form::Csc { header, values, rows, starts })
    }

    fn select(&self, state: Value, depth: usize) -> Result<Form> {
        let (Some(from), Some(idxs)) = (self.entry(state, "a"), self.entry(state, "idxs")) else {
            return Err(unreadable("a chumpy Select without a and idxs"));
        };
        let source = self.chumpy_term(from, depth)?;
        let (picked, own_shape) = self.integers(idxs)?;
        let shape = match self.entry(state, "preferred_shape") {
            Some(preferred) if preferred != Value::None => {
                let sizes = self.integers(preferred)?.0;
                resolve_shape(&sizes, picked.len())
                    .ok_or_else(|| unreadable(&format!("a chumpy Select of {} entries as {sizes:?}", picked.len())))?
            }
            _ => own_shape,
        };
        // Reading order is C order, whatever the source's memory looks like.
        let header = Header { shape, fortran: false, ..source.header().clone() };
        Ok(Form::Select { header, from, picked })
    }

    /// Integers given as an array, a list of numbers, or one number; and their shape.
    fn integers(&self, value: Value) -> Result<(Vec<i64>, Vec<usize>)> {
        if let Value::Int(one) = value {
            return Ok((vec![one], vec![1]));
        }
        if let Some(items) = self.sequence(value) {
            let integer = |item: &Value| match item {
                Value::Int(value) => Ok(*value),
                _ => Err(unreadable("a list of other things than integers")),
            };
            return Ok((items.iter().map(integer).collect::<Result<_>>()?, vec![items.len()]));
        }
        match self.form(value, MAX_DEPTH)? {
            // Narrower integers would grow more than twofold, and numpy's own index types are not narrower.
            Form::Dense { header, data } if header.kind.size() >= 4 => {
                let array = stored::indices(&header, &self.bytes(data)?)?;
                Ok((array.as_slice().unwrap_or_default().to_vec(), header.shape))
            }
            _ => Err(unreadable("indices other than 32- or 64-bit integers")),
        }
    }

    /// The bytes of a str or bytes object, decoding what Python 3 wrote as Latin-1 text below protocol 3.
    fn bytes(&self, value: Value) -> Result<Cow<'_, [u8]>> {
        if let Some(Object::Bytes(bytes)) = self.object(value) {
            return Ok(Cow::Borrowed(bytes));
        }
        let latin1 =
            |text: &str| -> Option<Vec<u8>> { text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect() };
        match self.call(value).map(|(callable, arguments, _)| (callable, self.sequence(arguments).unwrap_or_default()))
        {
            Some((Global::Bytes, [])) => Ok(Cow::Borrowed(&[])),
            Some((Global::Bytes, &[inner])) if matches!(self.object(inner), Some(Object::Bytes(_))) => {
                self.bytes(inner)
            }
            Some((Global::Encode | Global::Bytes, &[text, encoding]))
                if matches!(self.text(encoding), Some("latin1" | "latin-1")) =>
            {
                match self.object(text) {
                    Some(Object::Text(text)) => latin1(text)
                        .map(Cow::Owned)
                        .ok_or_else(|| unreadable("bytes written as text that is not Latin-1")),
                    _ => Err(unreadable("bytes written as something other than text")),
                }
            }
            _ => Err(Error::Value(format!("has data that is {}, expected bytes", self.describe(value)))),
        }
    }

    fn data(&self, form: &Form, depth: usize) -> Result<Cow<'_, [u8]>> {
        match form {
            Form::Dense { header, data } => {
                let bytes = self.bytes(*data);
                // Objects are in a list; the header says so better than the missing bytes would.
                header.check_data(bytes.as_ref().map_or(0, |bytes| bytes.len()))?;
                bytes
            }
            Form::Csc { header, values, rows, starts } => {
                let values = self.form(*values, depth + 1)?;
                let data = self.data(&values, depth + 1)?;
                expand_csc(header, &data, &self.integers(*rows)?.0, &self.integers(*starts)?.0).map(Cow::Owned)
            }
            Form::Select { from, picked, .. } => {
                let source = self.form(*from, depth + 1)?;
                let data = self.data(&source, depth + 1)?;
                select_entries(source.header(), &data, picked).map(Cow::Owned)
            }
        }
    }
}

/// A shape of `count` entries, where one size may be -1.
fn resolve_shape(sizes: &[i64], count: usize) -> Option<Vec<usize>> {
    let known: Vec<usize> =
        sizes.iter().filter(|&&size| size != -1).map(|&size| usize::try_from(size).ok()).collect::<Option<_>>()?;
    let product = known.iter().try_fold(1_usize, |product, &size| product.checked_mul(size))?;
    let rest = match sizes.len() - known.len() {
        0 if product == count => 1,
        1 if product > 0 && count.is_multiple_of(product) => count / product,
        _ => return None,
    };
    Some(sizes.iter().map(|&size| usize::try_from(size).unwrap_or(rest)).collect())
}

/// A sparse matrix in full. Two entries at one place, which scipy would add, are refused.
fn expand_csc(header: &Header, values: &[u8], rows: &[i64], starts: &[i64]) -> Result<Vec<u8>> {
    let size = header.kind.size();
    let (height, width) = (header.shape[0], header.shape[1]);
    let length = header.byte_len().ok_or_else(|| unreadable("a sparse matrix of impossible size"))?;
    let wrong = || {
        Error::Value(format!(
            "is a scipy csc matrix of shape {:?} whose data, indices and indptr do not belong together",
            header.shape
        ))
    };
    let bounds_fit = starts.len() == width + 1
        && starts.first() == Some(&0)
        && starts.is_sorted()
        && starts.last().and_then(|&end| usize::try_from(end).ok()) == Some(rows.len());
    if !bounds_fit || values.len() != rows.len() * size {
        return Err(wrong());
    }
    if length == 0 {
        return Ok(Vec::new());
    }
    let mut dense = vec![0; length];
    let mut last_column = vec![usize::MAX; height];
    for column in 0..width {
        for entry in starts[column] as usize..starts[column + 1] as usize {
            let row = usize::try_from(rows[entry]).ok().filter(|&row| row < height).ok_or_else(wrong)?;
            if std::mem::replace(&mut last_column[row], column) == column {
                return Err(wrong());
            }
            let place = (row * width + column) * size;
            dense[place..place + size].copy_from_slice(&values[entry * size..(entry + 1) * size]);
        }
    }
    Ok(dense)
}

/// The picked entries of an array in reading (C) order; negative places count from the end.
fn select_entries(header: &Header, data: &[u8], picked: &[i64]) -> Result<Vec<u8>> {
    let size = header.kind.size();
    let count = data.len() / size.max(1);
    let mut entries = Vec::with_capacity(picked.len() * size);
    for &index in picked {
        let index_from_start = if index < 0 { index.saturating_add(count as i64) } else { index };
        let place = usize::try_from(index_from_start)
            .ok()
            .filter(|&place| place < count)
            .ok_or_else(|| Error::Value(format!("is a chumpy Select of entry {index} in an array of {count}")))?;
        let place = if header.fortran { fortran_place(&header.shape, place) } else { place };
        entries.extend_from_slice(&data[place * size..(place + 1) * size]);
    }
    Ok(entries)
}

/// Where Fortran order keeps what C order keeps at `index`.
fn fortran_place(shape: &[usize], mut index: usize) -> usize {
    let mut stride = shape.iter().product::<usize>();
    let mut place = 0;
    for &size in shape.iter().rev() {
        stride /= size;
        place += index % size * stride;
        index /= size;
    }
    place
}
