//! [`DynArray`]: an array of whatever type and rank, for tools.

use std::{fmt, path::Path, time::Duration};

use half::f16;
use ndarray::{ArrayD, Dimension, IxDyn, ShapeError};
use num_complex::Complex;

use super::{Dtype, Element, Order, SharedArray, file::ArrayFile, payload::layout};
use crate::{
    error::{Error, Result},
    os::LockKind,
};

use super::guard::Lease;

/// A shared array whose element type and shape are what its file says.
///
/// ```
/// use shmring::array::{DynArray, Dtype, SharedArray1};
/// # let name = format!("doc-dyn-array-{}", std::process::id());
/// # let name = name.as_str();
/// let mut made = SharedArray1::<i16>::create(name, 3)?;
/// made.write()?[1] = -7;
///
/// let array = DynArray::open(name)?;
/// assert_eq!((array.dtype(), array.shape()), (Dtype::I16, &[3][..]));
/// assert_eq!(array.values()?.to_string(), "[0, -7, 0]");
/// # Ok::<(), shmring::Error>(())
/// ```
#[derive(Debug)]
pub struct DynArray {
    pub(super) file: ArrayFile,
}

impl DynArray {
    pub(super) fn new(file: ArrayFile) -> DynArray {
        DynArray { file }
    }

    /// Opens a named array that exists.
    ///
    /// # Errors
    ///
    /// As [`SharedArray::open`], but for `WrongType`.
    pub fn open(name: &str) -> Result<DynArray> {
        ArrayFile::open(name).map(DynArray::new)
    }

    /// Opens a named array as soon as somebody has made it.
    ///
    /// # Errors
    ///
    /// As [`SharedArray::open_or_wait`], but for `WrongType`.
    pub fn open_or_wait(name: &str, timeout: Duration) -> Result<DynArray> {
        ArrayFile::open_or_wait(name, timeout).map(DynArray::new)
    }

    /// Takes it as an array of `T` with dimensions `D`.
    ///
    /// # Errors
    ///
    /// [`Error::WrongType`].
    pub fn typed<T: Element, D: Dimension>(self) -> Result<SharedArray<T, D>> {
        SharedArray::typed(self.file)
    }

    /// The element type.
    pub fn dtype(&self) -> Dtype {
        self.file.header.dtype
    }

    /// The length of each dimension.
    pub fn shape(&self) -> &[usize] {
        &self.file.header.shape
    }

    /// The number of dimensions.
    pub fn ndim(&self) -> usize {
        self.shape().len()
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.shape().iter().product()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The length of all elements, in bytes.
    pub fn nbytes(&self) -> usize {
        self.file.data_len()
    }

    /// How the elements lie in memory.
    pub fn order(&self) -> Order {
        self.file.header.order
    }

    /// Its name; an anonymous array has none.
    pub fn name(&self) -> Option<&str> {
        self.file.name()
    }

    /// Its file; an anonymous array has none.
    pub fn path(&self) -> Option<&Path> {
        self.file.path()
    }

    /// Copies all elements out as they lie in memory, under the read lock; `timeout` bounds the
    /// wait for a writer.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], [`Error::Io`].
    pub fn read_bytes(&self, timeout: Option<Duration>) -> Result<Vec<u8>> {
        let held = self.file.lock.acquire(LockKind::Read, timeout, || self.file.what())?;
        let _lease = Lease::new(&self.file.lock, held);
        self.read_bytes_unlocked()
    }

    /// Copies all elements out without waiting for a writer: old and new may be mixed.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn read_bytes_unlocked(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.nbytes()];
        self.file
            .copy_bytes(&mut bytes)
            .map_err(Error::io(format!("copy {}", self.file.what())))?;
        Ok(bytes)
    }

    /// Copies all elements out as values that can be printed, under the read lock.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn values(&self) -> Result<ArrayD<Scalar>> {
        let bytes = self.read_bytes(None)?;
        scalars(self.dtype(), self.shape(), self.order(), &bytes)
            .map_err(|error| Error::Corrupt { what: self.file.what(), reason: error.to_string() })
    }

    /// Copies all elements out as `f64`, under the read lock, as [`Scalar::to_f64`] does.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn to_f64(&self) -> Result<ArrayD<f64>> {
        Ok(self.values()?.mapv(Scalar::to_f64))
    }
}

/// The elements of an array, of whose bytes there are exactly as many.
pub(crate) fn scalars(
    dtype: Dtype,
    shape: &[usize],
    order: Order,
    bytes: &[u8],
) -> Result<ArrayD<Scalar>, ShapeError> {
    let elements = bytes.chunks_exact(dtype.size());
    let values = elements.map(|element| Scalar::read(dtype, element)).collect();
    ArrayD::from_shape_vec(layout(&IxDyn(shape), order), values)
}

/// One element of any type.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum Scalar {
    /// Of a bool array.
    Bool(bool),
    /// Of an array of signed integers.
    Int(i64),
    /// Of an array of unsigned integers.
    Uint(u64),
    /// Of a float16 array.
    F16(f16),
    /// Of a float32 array.
    F32(f32),
    /// Of a float64 array.
    F64(f64),
    /// Of a complex64 array.
    C64(Complex<f32>),
    /// Of a complex128 array.
    C128(Complex<f64>),
}

impl Scalar {
    /// Reads an element of exactly its type's size.
    fn read(dtype: Dtype, bytes: &[u8]) -> Scalar {
        fn pod<T: Element>(bytes: &[u8]) -> T {
            bytemuck::pod_read_unaligned(bytes)
        }
        match dtype {
            Dtype::Bool => Scalar::Bool(pod::<super::Bool>(bytes).get()),
            Dtype::I8 => Scalar::Int(pod::<i8>(bytes).into()),
            Dtype::I16 => Scalar::Int(pod::<i16>(bytes).into()),
            Dtype::I32 => Scalar::Int(pod::<i32>(bytes).into()),
            Dtype::I64 => Scalar::Int(pod(bytes)),
            Dtype::U8 => Scalar::Uint(pod::<u8>(bytes).into()),
            Dtype::U16 => Scalar::Uint(pod::<u16>(bytes).into()),
            Dtype::U32 => Scalar::Uint(pod::<u32>(bytes).into()),
            Dtype::U64 => Scalar::Uint(pod(bytes)),
            Dtype::F16 => Scalar::F16(pod(bytes)),
            Dtype::F32 => Scalar::F32(pod(bytes)),
            Dtype::F64 => Scalar::F64(pod(bytes)),
            Dtype::C64 => Scalar::C64(pod(bytes)),
            Dtype::C128 => Scalar::C128(pod(bytes)),
        }
    }

    /// The nearest `f64`: 1 for true, the modulus of a complex number.
    pub fn to_f64(self) -> f64 {
        match self {
            Scalar::Bool(value) => value.into(),
            Scalar::Int(value) => value as f64,
            Scalar::Uint(value) => value as f64,
            Scalar::F16(value) => value.into(),
            Scalar::F32(value) => value.into(),
            Scalar::F64(value) => value,
            Scalar::C64(value) => f64::from(value.re).hypot(value.im.into()),
            Scalar::C128(value) => value.re.hypot(value.im),
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Bool(value) => value.fmt(f),
            Scalar::Int(value) => value.fmt(f),
            Scalar::Uint(value) => value.fmt(f),
            Scalar::F16(value) => value.fmt(f),
            Scalar::F32(value) => value.fmt(f),
            Scalar::F64(value) => value.fmt(f),
            Scalar::C64(value) => value.fmt(f),
            Scalar::C128(value) => value.fmt(f),
        }
    }
}
