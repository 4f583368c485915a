//! An array as a file holds it: any element type, either byte order, C or Fortran order.
//!
//! A [`Header`] is known and checked before any data is read; [`floats`], [`indices`] and [`transposed_floats`] then
//! turn the data into an [`Array`].

use std::thread;

use half::f16;

use super::array::{Array, DType, Element};
use crate::{Error, Result};

/// Far beyond any name.
const MAX_CHARACTERS: usize = 1 << 16;

/// The element types found in files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    F16,
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    /// Text of so many characters, padded with zeros: a byte each, or four (UTF-32).
    Text {
        characters: usize,
        wide: bool,
    },
    /// Anything a body model has no use for, in words: objects, structures, complex numbers.
    Other(String),
}

impl Kind {
    /// From numpy's letter and item size, such as `f4`, without the byte order.
    pub(crate) fn from_numpy(code: &str) -> Self {
        match code {
            "f2" => Self::F16,
            "f4" => Self::F32,
            "f8" => Self::F64,
            "i1" => Self::I8,
            "i2" => Self::I16,
            "i4" => Self::I32,
            "i8" => Self::I64,
            "u1" | "b1" => Self::U8,
            "u2" => Self::U16,
            "u4" => Self::U32,
            "u8" => Self::U64,
            _ if code.starts_with('O') => Self::Other("python objects".into()),
            _ if code.starts_with(['S', 'U']) => match code[1..].parse() {
                Ok(characters) if characters < MAX_CHARACTERS => Self::Text { characters, wide: code.starts_with('U') },
                _ => Self::Other(format!("elements of type {code:?}")),
            },
            _ => Self::Other(format!("elements of type {code:?}")),
        }
    }

    /// Bytes of one element; zero for kinds that are never read.
    pub fn size(&self) -> usize {
        match self {
            Self::Text { characters, wide } => characters * if *wide { 4 } else { 1 },
            Self::I8 | Self::U8 => 1,
            Self::F16 | Self::I16 | Self::U16 => 2,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::Other(_) => 0,
        }
    }

    /// What is there instead of numbers, in words.
    pub(crate) fn not_numbers(&self) -> Option<String> {
        match self {
            Self::Text { characters, wide } => {
                Some(format!("elements of type \"{}{characters}\"", if *wide { 'U' } else { 'S' }))
            }
            Self::Other(what) => Some(what.clone()),
            _ => None,
        }
    }

    pub(crate) fn is_integer(&self) -> bool {
        self.not_numbers().is_none() && !self.is_float()
    }

    /// Numpy's letter and item size.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::F16 => "f2",
            Self::F32 => "f4",
            Self::F64 => "f8",
            Self::I8 => "i1",
            Self::I16 => "i2",
            Self::I32 => "i4",
            Self::I64 => "i8",
            Self::U8 => "u1",
            Self::U16 => "u2",
            Self::U32 => "u4",
            Self::U64 => "u8",
            Self::Text { .. } | Self::Other(_) => "",
        }
    }

    fn is_float(&self) -> bool {
        matches!(self, Self::F16 | Self::F32 | Self::F64)
    }

    /// The floating-point dtype this becomes: wide enough for every value of a model.
    pub(crate) fn float_dtype(&self) -> DType {
        match self {
            Self::F16 | Self::F32 => DType::F32,
            _ => DType::F64,
        }
    }
}

/// What a file says about one array.
#[derive(Clone, Debug)]
pub struct Header {
    pub kind: Kind,
    pub big_endian: bool,
    pub fortran: bool,
    pub shape: Vec<usize>,
}

impl Header {
    /// A little-endian array in C order.
    pub(crate) fn plain(kind: Kind, shape: Vec<usize>) -> Self {
        Self { kind, big_endian: false, fortran: false, shape }
    }

    /// The number of elements, or `None` when it does not fit the machine.
    pub fn count(&self) -> Option<usize> {
        let product = self.shape.iter().try_fold(1_usize, |count, &size| count.checked_mul(size));
        // An array with an empty axis is empty, however large its other axes claim to be.
        if self.shape.contains(&0) { Some(0) } else { product }
    }

    /// The number of bytes, or `None` when it does not fit the machine.
    pub fn byte_len(&self) -> Option<usize> {
        self.count()?.checked_mul(self.kind.size())
    }

    /// The bytes must be as many as the shape says, of a kind that can be read.
    pub(crate) fn check_data(&self, length: usize) -> Result<()> {
        if let Some(what) = self.kind.not_numbers() {
            return Err(Error::Value(format!("holds {what}, expected numbers")));
        }
        self.check_length(length)
    }

    /// As many bytes as the shape says.
    pub(crate) fn check_length(&self, length: usize) -> Result<()> {
        if self.byte_len() == Some(length) {
            return Ok(());
        }
        Err(Error::Value(format!(
            "has {length} bytes of data, expected shape {:?} of {}-byte elements",
            self.shape,
            self.kind.size()
        )))
    }
}

/// Floats as f32 or f64, in C order. Half precision becomes f32, integers become f64.
pub(crate) fn floats(header: &Header, data: &[u8]) -> Result<Array> {
    header.check_data(data.len())?;
    match header.kind.float_dtype() {
        DType::F32 => ordered(header, |values| {
            float32_values(header, data, values);
            Ok(())
        }),
        _ => ordered(header, |values| {
            float64_values(header, data, values);
            Ok(())
        }),
    }
}

/// The transpose `[columns, rows]` of floats stored as `[..rows.., columns]`.
pub(crate) fn transposed_floats(header: &Header, data: &[u8]) -> Result<Array> {
    header.check_data(data.len())?;
    let columns = header.shape.last().copied().unwrap_or(1);
    let rows = header.shape.iter().rev().skip(1).product();
    let plain = !header.big_endian && !header.fortran;
    match header.kind {
        Kind::F32 if plain => transpose::<f32>(data, rows, columns),
        Kind::F64 if plain => transpose::<f64>(data, rows, columns),
        _ => {
            let array = floats(header, data)?;
            match array.dtype() {
                DType::F32 => transpose::<f32>(array.bytes(), rows, columns),
                _ => transpose::<f64>(array.bytes(), rows, columns),
            }
        }
    }
}

/// Integers as i64, in C order. Floats are accepted when every value is a whole number.
pub(crate) fn indices(header: &Header, data: &[u8]) -> Result<Array> {
    header.check_data(data.len())?;
    ordered(header, |values| index_values(header, data, values))
}

fn index_values(header: &Header, data: &[u8], values: &mut [i64]) -> Result<()> {
    let big = header.big_endian;
    match header.kind {
        Kind::I8 => decode(data, big, values, |b| i64::from(i8::from_le_bytes(b))),
        Kind::U8 => decode(data, big, values, |b| i64::from(u8::from_le_bytes(b))),
        Kind::I16 => decode(data, big, values, |b| i64::from(i16::from_le_bytes(b))),
        Kind::U16 => decode(data, big, values, |b| i64::from(u16::from_le_bytes(b))),
        Kind::I32 => decode(data, big, values, |b| i64::from(i32::from_le_bytes(b))),
        Kind::U32 => decode(data, big, values, |b| i64::from(u32::from_le_bytes(b))),
        // Values above i64::MAX turn negative and fail every range check.
        Kind::I64 | Kind::U64 => decode(data, big, values, i64::from_le_bytes),
        Kind::F16 => decode(data, big, values, |b| whole(f16::from_le_bytes(b).to_f64())),
        Kind::F32 => decode(data, big, values, |b| whole(f64::from(f32::from_le_bytes(b)))),
        Kind::F64 => decode(data, big, values, |b| whole(f64::from_le_bytes(b))),
        Kind::Text { .. } | Kind::Other(_) => {}
    }
    if header.kind.is_float() && values.contains(&NOT_WHOLE) {
        return Err(Error::Value("holds numbers with fractions, expected whole ones".into()));
    }
    Ok(())
}

/// What a float that is no whole number becomes on its way to an index.
const NOT_WHOLE: i64 = i64::MIN;

fn whole(value: f64) -> i64 {
    if value.fract() == 0.0 && value.abs() < 9.0e15 { value as i64 } else { NOT_WHOLE }
}

fn float32_values(header: &Header, data: &[u8], values: &mut [f32]) {
    match header.kind {
        Kind::F16 => decode(data, header.big_endian, values, |b| f16::from_le_bytes(b).to_f32()),
        _ => decode(data, header.big_endian, values, f32::from_le_bytes),
    }
}

fn float64_values(header: &Header, data: &[u8], values: &mut [f64]) {
    let big = header.big_endian;
    match header.kind {
        Kind::F16 => decode(data, big, values, |b| f16::from_le_bytes(b).to_f64()),
        Kind::F32 => decode(data, big, values, |b| f64::from(f32::from_le_bytes(b))),
        Kind::F64 => decode(data, big, values, f64::from_le_bytes),
        Kind::I8 => decode(data, big, values, |b| f64::from(i8::from_le_bytes(b))),
        Kind::U8 => decode(data, big, values, |b| f64::from(u8::from_le_bytes(b))),
        Kind::I16 => decode(data, big, values, |b| f64::from(i16::from_le_bytes(b))),
        Kind::U16 => decode(data, big, values, |b| f64::from(u16::from_le_bytes(b))),
        Kind::I32 => decode(data, big, values, |b| f64::from(i32::from_le_bytes(b))),
        Kind::U32 => decode(data, big, values, |b| f64::from(u32::from_le_bytes(b))),
        Kind::I64 => decode(data, big, values, |b| i64::from_le_bytes(b) as f64),
        Kind::U64 => decode(data, big, values, |b| u64::from_le_bytes(b) as f64),
        Kind::Text { .. } | Kind::Other(_) => {}
    }
}

/// One value per `N` bytes.
fn decode<T, const N: usize>(data: &[u8], big_endian: bool, values: &mut [T], convert: impl Fn([u8; N]) -> T) {
    let (elements, _) = data.as_chunks::<N>();
    for (value, &element) in values.iter_mut().zip(elements) {
        *value = if big_endian { convert(reversed(element)) } else { convert(element) };
    }
}

fn reversed<const N: usize>(mut element: [u8; N]) -> [u8; N] {
    element.reverse();
    element
}

/// What `decode` gives, as C order: the values of a Fortran array are moved.
fn ordered<T: Element>(header: &Header, decode: impl FnOnce(&mut [T]) -> Result<()>) -> Result<Array> {
    if !header.fortran || header.shape.len() < 2 || header.shape.contains(&0) {
        return Array::filled(&header.shape, decode);
    }
    let mut values = vec![T::default(); header.shape.iter().product()];
    decode(&mut values)?;
    Array::filled(&header.shape, |moved| {
        match header.shape[..] {
            // The file holds [columns, rows] in C order.
            [rows, columns] => {
                blocks(columns, rows, |column, row| moved[row * columns + column] = values[column * rows + row]);
            }
            // The file holds [c, b, a] in C order.
            [a, b, c] => {
                for middle in 0..b {
                    blocks(c, a, |last, first| {
                        moved[(first * b + middle) * c + last] = values[(last * b + middle) * a + first];
                    });
                }
            }
            _ => {
                let shape = &header.shape;
                let text = format!("is a Fortran-ordered array of shape {shape:?}, expected at most three axes");
                return Err(Error::Value(text));
            }
        }
        Ok(())
    })
}

/// `[rows, columns]`, unaligned in a file's bytes, to `[columns, rows]`; two threads move half of the columns each.
fn transpose<T: Element>(data: &[u8], rows: usize, columns: usize) -> Result<Array> {
    Array::filled(&[columns, rows], |moved: &mut [T]| {
        let half = (columns / 2).next_multiple_of(COLUMNS).min(columns);
        let (first, second) = moved.split_at_mut(half * rows);
        thread::scope(|scope| {
            scope.spawn(|| transpose_columns(data, rows, columns, half, second));
            transpose_columns(data, rows, columns, 0, first);
        });
        Ok(())
    })
}

/// As many columns, from the `first` on, as `moved` has rows.
fn transpose_columns<T: Element>(data: &[u8], rows: usize, columns: usize, first: usize, moved: &mut [T]) {
    blocks(rows, moved.len() / rows.max(1), |row, column| {
        let start = (row * columns + first + column) * size_of::<T>();
        moved[column * rows + row] = bytemuck::pod_read_unaligned(&data[start..start + size_of::<T>()]);
    });
}

/// The block of a matrix that stays within the cache while it is transposed: as many columns as fill a cache line, and
/// enough rows that whole lines are written.
const ROWS: usize = 256;
const COLUMNS: usize = 16;

/// Visits every (row, column) of a matrix block by block.
#[inline]
fn blocks(rows: usize, columns: usize, mut visit: impl FnMut(usize, usize)) {
    for first_row in (0..rows).step_by(ROWS) {
        for first_column in (0..columns).step_by(COLUMNS) {
            for column in first_column..columns.min(first_column + COLUMNS) {
                for row in first_row..rows.min(first_row + ROWS) {
                    visit(row, column);
                }
            }
        }
    }
}
