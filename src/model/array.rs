//! A dense array that owns its memory or borrows a memory-mapped file.

use std::sync::Arc;

use bytemuck::Pod;
#[cfg(target_os = "linux")]
use memmap2::Advice;
use memmap2::{MmapMut, MmapRaw};

use crate::{Error, Result};

/// Arrays of at least this many bytes get huge pages.
const HUGE: usize = 4 << 20;

/// What an [`Array`] holds. Files may hold more kinds; readers widen them to these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DType {
    F32,
    F64,
    I64,
}

impl DType {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }
}

/// A C-contiguous, native-endian array.
#[derive(Debug)]
pub struct Array {
    dtype: DType,
    shape: Vec<usize>,
    storage: Storage,
}

#[derive(Debug)]
enum Storage {
    F32(Vec<f32>),
    F64(Vec<f64>),
    I64(Vec<i64>),
    /// Bytes of a map that only arrays use, aligned for the dtype, inside the map for the whole shape. The map is a
    /// file's, private (copy-on-write), or memory of huge pages.
    Mapped {
        map: Arc<MmapRaw>,
        offset: usize,
        of_file: bool,
    },
}

/// The element types of an [`Array`].
pub trait Element: Pod + Default {
    const DTYPE: DType;
    #[doc(hidden)]
    fn into_storage(values: Vec<Self>) -> OwnedStorage;
}

/// Keeps [`Storage`] private while [`Element`] is public.
#[derive(Debug)]
pub struct OwnedStorage(Storage);

impl Element for f32 {
    const DTYPE: DType = DType::F32;
    fn into_storage(values: Vec<Self>) -> OwnedStorage {
        OwnedStorage(Storage::F32(values))
    }
}

impl Element for f64 {
    const DTYPE: DType = DType::F64;
    fn into_storage(values: Vec<Self>) -> OwnedStorage {
        OwnedStorage(Storage::F64(values))
    }
}

impl Element for i64 {
    const DTYPE: DType = DType::I64;
    fn into_storage(values: Vec<Self>) -> OwnedStorage {
        OwnedStorage(Storage::I64(values))
    }
}

impl Array {
    /// An array over `values`, which must be as many as the shape says.
    pub fn new<T: Element>(shape: &[usize], values: Vec<T>) -> Self {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "shape {shape:?} against the number of values");
        Self { dtype: T::DTYPE, shape: shape.to_vec(), storage: T::into_storage(values).0 }
    }

    /// An array whose memory is the file's, or `None` where the bytes are outside the map or misaligned.
    pub(crate) fn mapped(dtype: DType, shape: &[usize], map: &Arc<MmapRaw>, offset: usize) -> Option<Self> {
        let length = shape.iter().try_fold(dtype.size(), |length, &size| length.checked_mul(size))?;
        let inside = offset.checked_add(length)? <= map.len();
        let aligned = (map.as_mut_ptr() as usize + offset).is_multiple_of(dtype.size());
        (inside && aligned).then(|| Self {
            dtype,
            shape: shape.to_vec(),
            storage: Storage::Mapped { map: Arc::clone(map), offset, of_file: true },
        })
    }

    /// An array that `fill` writes, given zeros. Large ones live in huge pages: faulting in small pages would take
    /// longer than reading the file.
    pub(crate) fn filled<T: Element>(shape: &[usize], fill: impl FnOnce(&mut [T]) -> Result<()>) -> Result<Self> {
        let count = shape.iter().product();
        let bytes = count * size_of::<T>();
        if bytes < HUGE {
            let mut values = vec![T::default(); count];
            fill(&mut values)?;
            return Ok(Self::new(shape, values));
        }
        let failed = |cause| Error::Runtime(format!("{bytes} bytes of memory: {cause}"));
        let mut map = MmapMut::map_anon(bytes).map_err(failed)?;
        #[cfg(target_os = "linux")]
        {
            // Only a hint: a kernel without huge pages refuses it, and nothing is lost.
            let _ = map.advise(Advice::HugePage);
        }
        fill(bytemuck::cast_slice_mut(&mut map))?;
        let storage = Storage::Mapped { map: Arc::new(map.into()), offset: 0, of_file: false };
        Ok(Self { dtype: T::DTYPE, shape: shape.to_vec(), storage })
    }

    pub fn dtype(&self) -> DType {
        self.dtype
    }

    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the memory is that of a mapped file.
    pub fn is_mapped(&self) -> bool {
        matches!(self.storage, Storage::Mapped { of_file: true, .. })
    }

    /// The elements as native-endian bytes.
    pub fn bytes(&self) -> &[u8] {
        match &self.storage {
            Storage::F32(values) => bytemuck::cast_slice(values),
            Storage::F64(values) => bytemuck::cast_slice(values),
            Storage::I64(values) => bytemuck::cast_slice(values),
            Storage::Mapped { map, offset, .. } => {
                // SAFETY: `mapped` checked that these bytes lie inside the map, or `filled` made a map of this size;
                // `self` keeps it alive, and nothing hands out a mutable view while `self` is borrowed.
                unsafe { std::slice::from_raw_parts(map.as_ptr().add(*offset), self.len() * self.dtype.size()) }
            }
        }
    }

    /// The elements, or `None` when the dtype is another.
    pub fn as_slice<T: Element>(&self) -> Option<&[T]> {
        (self.dtype == T::DTYPE).then(|| bytemuck::cast_slice(self.bytes()))
    }

    /// The elements as float64, whatever the dtype.
    pub fn to_f64(&self) -> Vec<f64> {
        match self.dtype {
            DType::F32 => self.as_slice::<f32>().into_iter().flatten().map(|&value| f64::from(value)).collect(),
            DType::F64 => self.as_slice::<f64>().into_iter().flatten().copied().collect(),
            DType::I64 => self.as_slice::<i64>().into_iter().flatten().map(|&value| value as f64).collect(),
        }
    }
}
