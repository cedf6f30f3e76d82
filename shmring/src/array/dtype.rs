//! What an array can hold.

use std::fmt;

use bytemuck::{Pod, Zeroable};
use half::f16;
use num_complex::Complex;

mod sealed {
    pub trait Sealed {}
}

/// A type that an array can hold: plain data of which every bit pattern is a value.
///
/// These are [`struct@f16`], `f32`, `f64`, `i8` to `i64`, `u8` to `u64`, [`Bool`], and
/// [`Complex`] of `f32` and `f64`.
pub trait Element: Pod + Send + Sync + sealed::Sealed {
    /// What numpy calls it.
    const DTYPE: Dtype;
}

macro_rules! elements {
    ($($variant:ident $ty:ty, $name:literal, $descr:literal, $size:literal;)*) => {
        /// The type of an array's elements, as numpy distinguishes them.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        pub enum Dtype {
            $(#[doc = concat!("numpy's `", $name, "`.")] $variant,)*
        }

        impl Dtype {
            /// All of them.
            pub const ALL: &[Dtype] = &[$(Dtype::$variant),*];

            /// Its kind and size as they stand in a `.npy` file after the byte order: `f8`.
            pub const fn code(self) -> &'static str {
                match self { $(Dtype::$variant => $descr,)* }
            }

            /// Its name in numpy: `float64`.
            pub fn name(self) -> &'static str {
                match self { $(Dtype::$variant => $name,)* }
            }

            /// The size of an element in bytes.
            pub const fn size(self) -> usize {
                match self { $(Dtype::$variant => $size,)* }
            }

            /// The alignment of an element in bytes.
            pub fn align(self) -> usize {
                match self { $(Dtype::$variant => align_of::<$ty>(),)* }
            }
        }

        $(
            const _: () = assert!(size_of::<$ty>() == $size);
            impl sealed::Sealed for $ty {}
            impl Element for $ty {
                const DTYPE: Dtype = Dtype::$variant;
            }
        )*
    };
}

elements! {
    Bool Bool, "bool", "b1", 1;
    I8 i8, "int8", "i1", 1;
    I16 i16, "int16", "i2", 2;
    I32 i32, "int32", "i4", 4;
    I64 i64, "int64", "i8", 8;
    U8 u8, "uint8", "u1", 1;
    U16 u16, "uint16", "u2", 2;
    U32 u32, "uint32", "u4", 4;
    U64 u64, "uint64", "u8", 8;
    F16 f16, "float16", "f2", 2;
    F32 f32, "float32", "f4", 4;
    F64 f64, "float64", "f8", 8;
    C64 Complex<f32>, "complex64", "c8", 8;
    C128 Complex<f64>, "complex128", "c16", 16;
}

impl Dtype {
    /// The byte order of this machine as numpy writes it for this type.
    pub(super) const fn byte_order(self) -> char {
        if self.size() == 1 {
            '|'
        } else if cfg!(target_endian = "little") {
            '<'
        } else {
            '>'
        }
    }

    /// How a `.npy` file names it on this machine: `<f8`.
    pub fn descr(self) -> String {
        format!("{}{}", self.byte_order(), self.code())
    }

    /// The same in four bytes, padded with zeros.
    pub(crate) const fn tag(self) -> [u8; 4] {
        let code = self.code().as_bytes();
        let order = self.byte_order() as u8;
        [order, code[0], code[1], if code.len() > 2 { code[2] } else { 0 }]
    }

    /// The type with that tag; `None` also when it is in another machine's byte order.
    pub(crate) fn from_tag(tag: [u8; 4]) -> Option<Dtype> {
        const TAGS: [[u8; 4]; Dtype::ALL.len()] = {
            let mut tags = [[0; 4]; Dtype::ALL.len()];
            let mut at = 0;
            while at < tags.len() {
                tags[at] = Dtype::ALL[at].tag();
                at += 1;
            }
            tags
        };
        TAGS.iter().position(|known| *known == tag).map(|at| Dtype::ALL[at])
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// numpy's bool: one byte, of which a peer may write any value; every one but 0 reads as true.
///
/// ```
/// use shmring::array::Bool;
/// assert!(Bool::from(true).get());
/// assert_eq!(bool::from(bytemuck::cast::<u8, Bool>(7)), true);
/// ```
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(transparent)]
pub struct Bool(u8);

impl Bool {
    /// False.
    pub const FALSE: Bool = Bool(0);
    /// True.
    pub const TRUE: Bool = Bool(1);

    /// Reads it.
    pub fn get(self) -> bool {
        self.0 != 0
    }
}

impl From<bool> for Bool {
    fn from(value: bool) -> Bool {
        Bool(value.into())
    }
}

impl From<Bool> for bool {
    fn from(value: Bool) -> bool {
        value.get()
    }
}

// Two bytes that both read as true are the same value.
impl PartialEq for Bool {
    fn eq(&self, other: &Bool) -> bool {
        self.get() == other.get()
    }
}

impl Eq for Bool {}

impl PartialEq<bool> for Bool {
    fn eq(&self, other: &bool) -> bool {
        self.get() == *other
    }
}

impl std::hash::Hash for Bool {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.get().hash(state);
    }
}

impl fmt::Debug for Bool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.get(), f)
    }
}

impl fmt::Display for Bool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.get(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_say_what_descriptions_do() {
        for dtype in Dtype::ALL.iter().copied() {
            let tag = dtype.tag();
            let text = std::str::from_utf8(&tag).unwrap().trim_end_matches('\0');
            assert_eq!(text, dtype.descr());
            assert_eq!(Dtype::from_tag(tag), Some(dtype));
        }
        for tag in [*b">f8\0", *b"<f8 ", [0; 4], *b"<u1\0"] {
            assert_eq!(Dtype::from_tag(tag), None);
        }
    }
}
