//! What can be a latest value.

use std::any::type_name;

use bytemuck::Pod;

/// What a [`Latest`](super::Latest) can hold: any plain data, or `[u8]`, bytes of a length that
/// changes.
///
/// Implemented for every [`Pod`] type and for `[u8]`, and for nothing else.
pub trait Value: sealed::Sealed {
    /// What a reader gets: a `T`, or a `&[u8]`.
    type Read<'a>;

    /// Its size, where that is always the same.
    #[doc(hidden)]
    const SIZE: Option<usize>;

    #[doc(hidden)]
    fn what() -> String;

    #[doc(hidden)]
    fn bytes(&self) -> &[u8];

    /// `bytes` has the length `SIZE`, where there is one.
    #[doc(hidden)]
    fn read(bytes: &[u8]) -> Self::Read<'_>;
}

impl<T: Pod> Value for T {
    type Read<'a> = T;

    const SIZE: Option<usize> = Some(size_of::<T>());

    fn what() -> String {
        format!("values of {} bytes ({})", size_of::<T>(), type_name::<T>())
    }

    fn bytes(&self) -> &[u8] {
        bytemuck::bytes_of(self)
    }

    #[inline]
    fn read(bytes: &[u8]) -> T {
        bytemuck::pod_read_unaligned(bytes)
    }
}

impl Value for [u8] {
    type Read<'a> = &'a [u8];

    const SIZE: Option<usize> = None;

    fn what() -> String {
        "bytes of any length".into()
    }

    fn bytes(&self) -> &[u8] {
        self
    }

    #[inline]
    fn read(bytes: &[u8]) -> &[u8] {
        bytes
    }
}

mod sealed {
    pub trait Sealed {}
    impl<T: bytemuck::Pod> Sealed for T {}
    impl Sealed for [u8] {}
}
