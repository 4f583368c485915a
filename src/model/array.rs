//! A dense array over memory of its own or that of a mapped file.

use std::sync::Arc;

use bytemuck::Pod;
#[cfg(target_os = "linux")]
use memmap2::Advice;
use memmap2::{MmapMut, MmapRaw};

use crate::{Error, Result};

/// Arrays of at least this many bytes get huge pages.
#[cfg(target_os = "linux")]
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

/// The element types of an [`Array`].
pub trait Element: Pod + Default + Send + Sync {
    const DTYPE: DType;
}

impl Element for f32 {
    const DTYPE: DType = DType::F32;
}

impl Element for f64 {
    const DTYPE: DType = DType::F64;
}

impl Element for i64 {
    const DTYPE: DType = DType::I64;
}

/// A C-contiguous, native-endian array. A clone shares the memory.
#[derive(Clone, Debug)]
pub struct Array {
    dtype: DType,
    shape: Vec<usize>,
    /// A private (copy-on-write) map of a file, or anonymous memory. Large enough for the shape behind `offset`, which
    /// is aligned for the dtype.
    memory: Arc<MmapRaw>,
    offset: usize,
    of_file: bool,
}

impl Array {
    /// An array of memory that `fill` writes, given zeros.
    pub fn filled<T: Element>(shape: &[usize], fill: impl FnOnce(&mut [T]) -> Result<()>) -> Result<Self> {
        let length = shape.iter().product::<usize>() * size_of::<T>();
        let failed = |cause| Error::Runtime(format!("no memory for an array of {length} bytes: {cause}"));
        // There are no empty maps.
        let mut map = MmapMut::map_anon(length.max(1)).map_err(failed)?;
        #[cfg(target_os = "linux")]
        if length >= HUGE {
            // Faulting in small pages would take longer than reading the file. A kernel without huge pages refuses the
            // hint, and nothing is lost.
            let _ = map.advise(Advice::HugePage);
        }
        fill(bytemuck::cast_slice_mut(&mut map[..length]))?;
        let memory = Arc::new(map.into());
        Ok(Self { dtype: T::DTYPE, shape: shape.to_vec(), memory, offset: 0, of_file: false })
    }

    /// An array of these values, which must be as many as the shape says.
    pub fn new<T: Element>(shape: &[usize], values: &[T]) -> Result<Self> {
        Self::filled(shape, |memory| {
            memory.copy_from_slice(values);
            Ok(())
        })
    }

    /// An array whose memory is the file's, or `None` where the bytes are outside the map or misaligned.
    pub(crate) fn mapped(dtype: DType, shape: &[usize], map: &Arc<MmapRaw>, offset: usize) -> Option<Self> {
        let length = shape.iter().try_fold(dtype.size(), |length, &size| length.checked_mul(size))?;
        let inside = offset.checked_add(length)? <= map.len();
        let aligned = (map.as_ptr() as usize + offset).is_multiple_of(dtype.size());
        (inside && aligned).then(|| Self {
            dtype,
            shape: shape.to_vec(),
            memory: Arc::clone(map),
            offset,
            of_file: true,
        })
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
        self.of_file
    }

    /// The first element. Whoever writes through this must know that nobody reads a clone meanwhile.
    pub fn as_mut_ptr(&self) -> *mut u8 {
        self.memory.as_mut_ptr().wrapping_add(self.offset)
    }

    /// The elements as native-endian bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `filled` and `mapped` made sure that these bytes lie inside the memory, which `self` keeps alive and
        // which only writes through `as_mut_ptr` can change.
        unsafe { std::slice::from_raw_parts(self.as_mut_ptr(), self.len() * self.dtype.size()) }
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
