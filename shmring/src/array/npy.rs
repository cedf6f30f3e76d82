//! The header of a `.npy` file: a pure reader and writer of numpy's format 1.0, 2.0 and 3.0.
//!
//! A file is the magic, the version, the length of the header, and the header itself: a Python
//! dictionary in text, padded with spaces so that the data behind it begin at a multiple of 64
//! bytes. The format is `numpy.lib.format`'s.

use std::fmt;

use super::Dtype;

const MAGIC: &[u8] = b"\x93NUMPY";

/// The most dimensions an array can have, as in numpy.
pub const MAX_RANK: usize = 64;

/// The longest header that is read. One of 64 dimensions has less than two thousand bytes.
pub const MAX_HEADER: usize = 1 << 16;

/// The data begin at a multiple of this.
const ALIGN: usize = 64;

/// Which index is the one that changes fastest in memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Order {
    /// The last one: rows lie together.
    #[default]
    C,
    /// The first one: columns lie together.
    Fortran,
}

/// What the header of a `.npy` file says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// The type of the elements, in the byte order of this machine.
    pub dtype: Dtype,
    /// How they lie in memory.
    pub order: Order,
    /// The length of each dimension.
    pub shape: Vec<usize>,
}

/// Why bytes are not the header of an array that can be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NpyError {
    /// There are fewer bytes than the header says it has.
    #[error("its header is not complete")]
    Incomplete,
    /// It does not begin as a `.npy` file.
    #[error("it does not begin as a .npy file")]
    NotNpy,
    /// A version of the format that is not known.
    #[error("it has format version {0}.{1}, and 1.0 to 3.0 can be read")]
    Version(u8, u8),
    /// The header is longer than any that can be meant.
    #[error("its header of {0} bytes is too long")]
    TooLong(usize),
    /// The text is not the dictionary that it must be.
    #[error("its header is wrong at byte {at}: {expected} expected")]
    Syntax {
        /// Position in the text.
        at: usize,
        /// What should stand there.
        expected: &'static str,
    },
    /// Elements of a kind that cannot be shared, or in another machine's byte order.
    #[error("elements of type {0:?} cannot be shared")]
    Dtype(String),
    /// More dimensions than numpy has.
    #[error("it has more than 64 dimensions")]
    Rank,
    /// A size that does not fit into an address space.
    #[error("its size cannot be addressed")]
    Size,
}

impl Header {
    /// The number of elements. An array without dimensions has one.
    ///
    /// # Errors
    ///
    /// [`NpyError::Size`] when the bytes are more than `isize::MAX`, also when a dimension of
    /// length 0 hides that, and [`NpyError::Rank`].
    pub fn elements(&self) -> Result<usize, NpyError> {
        elements(self.dtype, &self.shape)
    }

    /// The length of the data in bytes.
    ///
    /// # Errors
    ///
    /// As [`Header::elements`].
    pub fn bytes(&self) -> Result<usize, NpyError> {
        Ok(self.elements()? * self.dtype.size())
    }

    /// Writes the header as numpy does. The data follow directly.
    pub fn write(&self) -> Vec<u8> {
        let order = match self.order {
            Order::C => "False",
            Order::Fortran => "True",
        };
        let mut text = format!(
            "{{'descr': '{}', 'fortran_order': {order}, 'shape': {}, }}",
            self.dtype.descr(),
            Shape(&self.shape),
        );
        // numpy leaves room for the dimension that grows when one appends to the file.
        const LONGEST_LENGTH: usize = 21;
        let grows = match self.order {
            Order::C => self.shape.first(),
            Order::Fortran => self.shape.last(),
        };
        if let Some(length) = grows {
            let digits = length.to_string().len();
            text.extend(std::iter::repeat_n(' ', LONGEST_LENGTH.saturating_sub(digits)));
        }
        let before = MAGIC.len() + 2 + 2;
        let padded = (before + text.len() + 1).next_multiple_of(ALIGN) - before;
        match u16::try_from(padded) {
            Ok(length) => assemble(1, &length.to_le_bytes(), &text, padded),
            // Unreachable for what `elements` admits, and correct all the same.
            Err(_) => {
                let before = before + 2;
                let padded = (before + text.len() + 1).next_multiple_of(ALIGN) - before;
                assemble(2, &(padded as u32).to_le_bytes(), &text, padded)
            }
        }
    }

    /// Reads the header at the beginning of `bytes`, which may go on behind it. Gives where the
    /// data begin, too.
    ///
    /// # Errors
    ///
    /// Says what is wrong; no bytes make it panic.
    pub fn parse(bytes: &[u8]) -> Result<(Header, usize), NpyError> {
        let compare = bytes.len().min(MAGIC.len());
        if bytes[..compare] != MAGIC[..compare] {
            return Err(NpyError::NotNpy);
        }
        let (&[major, minor], rest) = bytes
            .get(MAGIC.len()..)
            .and_then(|rest| rest.split_first_chunk::<2>())
            .ok_or(NpyError::Incomplete)?;
        let length = match (major, minor) {
            (1, 0) => rest.first_chunk().map(|length| (2, u16::from_le_bytes(*length).into())),
            (2 | 3, 0) => {
                rest.first_chunk().map(|length| (4, u32::from_le_bytes(*length) as usize))
            }
            _ => return Err(NpyError::Version(major, minor)),
        };
        let (width, length) = length.ok_or(NpyError::Incomplete)?;
        if length > MAX_HEADER {
            return Err(NpyError::TooLong(length));
        }
        let text = rest[width..].get(..length).ok_or(NpyError::Incomplete)?;
        let header = Parser { text, at: 0 }.header()?;
        header.elements()?;
        Ok((header, MAGIC.len() + 2 + width + length))
    }
}

/// As [`Header::elements`], of a header that is none.
pub(crate) fn elements(dtype: Dtype, shape: &[usize]) -> Result<usize, NpyError> {
    if shape.len() > MAX_RANK {
        return Err(NpyError::Rank);
    }
    let bytes = shape
        .iter()
        .filter(|&&length| length != 0)
        .try_fold(dtype.size(), |product, &length| product.checked_mul(length))
        // Whoever adds the header to it shall not overflow either.
        .filter(|&bytes| bytes <= isize::MAX as usize - 2 * MAX_HEADER)
        .ok_or(NpyError::Size)?;
    Ok(if shape.contains(&0) { 0 } else { bytes / dtype.size() })
}

/// "float32 of shape (3, 4)".
impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of shape {}", self.dtype, Shape(&self.shape))
    }
}

/// A shape as Python writes a tuple.
pub(crate) struct Shape<'a>(pub(crate) &'a [usize]);

impl fmt::Display for Shape<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("()"),
            [one] => write!(f, "({one},)"),
            [first, rest @ ..] => {
                write!(f, "({first}")?;
                for length in rest {
                    write!(f, ", {length}")?;
                }
                f.write_str(")")
            }
        }
    }
}

fn assemble(major: u8, length: &[u8], text: &str, padded: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(padded + 12);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[major, 0]);
    bytes.extend_from_slice(length);
    bytes.extend_from_slice(text.as_bytes());
    bytes.resize(bytes.len() + padded - text.len() - 1, b' ');
    bytes.push(b'\n');
    bytes
}

/// Reads the one kind of Python dictionary that a header can be.
struct Parser<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Parser<'a> {
    fn header(mut self) -> Result<Header, NpyError> {
        let (mut dtype, mut order, mut shape) = (None, None, None);
        self.expect(b'{', "'{'")?;
        while !self.take(b'}') {
            let start = self.at;
            let key = self.string()?;
            self.expect(b':', "':'")?;
            let new = match key {
                b"descr" => dtype.replace(self.dtype()?).is_none(),
                b"fortran_order" => order.replace(self.order()?).is_none(),
                b"shape" => shape.replace(self.shape()?).is_none(),
                _ => false,
            };
            if !new {
                self.at = start;
                return self.wrong("each of the keys descr, fortran_order and shape once");
            }
            if !self.take(b',') {
                self.expect(b'}', "',' or '}'")?;
                break;
            }
        }
        self.skip_space();
        if self.at != self.text.len() {
            return self.wrong("nothing more");
        }
        match (dtype, order, shape) {
            (Some(dtype), Some(order), Some(shape)) => Ok(Header { dtype, order, shape }),
            _ => self.wrong("descr, fortran_order and shape"),
        }
    }

    fn dtype(&mut self) -> Result<Dtype, NpyError> {
        self.skip_space();
        let start = self.at;
        // A list is numpy's way to write a record.
        if self.peek() == Some(b'[') {
            return Err(NpyError::Dtype("record".into()));
        }
        let text = self.string()?;
        let unknown = || NpyError::Dtype(String::from_utf8_lossy(text).into_owned());
        let (&order, code) = text.split_first().ok_or_else(unknown)?;
        let dtype = Dtype::ALL
            .iter()
            .copied()
            .find(|dtype| dtype.code().as_bytes() == code)
            .ok_or_else(unknown)?;
        let native = if cfg!(target_endian = "little") { b'<' } else { b'>' };
        // The order of a single byte means nothing.
        let fits = match order {
            b'|' | b'<' | b'>' | b'=' if dtype.size() == 1 => true,
            b'=' => true,
            other => other == native,
        };
        if fits {
            Ok(dtype)
        } else {
            self.at = start;
            Err(unknown())
        }
    }

    fn order(&mut self) -> Result<Order, NpyError> {
        self.skip_space();
        let rest = &self.text[self.at..];
        let (order, length) = if rest.starts_with(b"False") {
            (Order::C, 5)
        } else if rest.starts_with(b"True") {
            (Order::Fortran, 4)
        } else {
            return self.wrong("True or False");
        };
        self.at += length;
        Ok(order)
    }

    fn shape(&mut self) -> Result<Vec<usize>, NpyError> {
        let mut shape = Vec::new();
        self.expect(b'(', "'('")?;
        while !self.take(b')') {
            if shape.len() == MAX_RANK {
                return Err(NpyError::Rank);
            }
            shape.push(self.number()?);
            let comma = self.take(b',');
            // Without a comma, one number in parentheses is no tuple.
            if !comma && shape.len() == 1 {
                return self.wrong("','");
            }
            if !comma {
                self.expect(b')', "',' or ')'")?;
                break;
            }
        }
        Ok(shape)
    }

    fn number(&mut self) -> Result<usize, NpyError> {
        self.skip_space();
        let digits = self.text[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return self.wrong("a number");
        }
        let mut value = 0usize;
        for &digit in &self.text[self.at..self.at + digits] {
            value = value
                .checked_mul(10)
                .and_then(|value| value.checked_add((digit - b'0').into()))
                .ok_or(NpyError::Size)?;
        }
        self.at += digits;
        // Python 2 wrote long integers so.
        if self.peek() == Some(b'L') {
            self.at += 1;
        }
        Ok(value)
    }

    /// A string in either kind of quotes, without escapes.
    fn string(&mut self) -> Result<&'a [u8], NpyError> {
        self.skip_space();
        let quote = match self.peek() {
            Some(quote @ (b'\'' | b'"')) => quote,
            _ => return self.wrong("a string"),
        };
        let inner = &self.text[self.at + 1..];
        match inner.iter().position(|&byte| byte == quote || byte == b'\\') {
            Some(end) if inner[end] == quote => {
                self.at += end + 2;
                Ok(&inner[..end])
            }
            _ => self.wrong("a string that ends"),
        }
    }

    fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), NpyError> {
        if self.take(byte) { Ok(()) } else { self.wrong(expected) }
    }

    fn take(&mut self, byte: u8) -> bool {
        self.skip_space();
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\t' | b'\r' | b'\x0c')) {
            self.at += 1;
        }
    }

    fn wrong<T>(&self, expected: &'static str) -> Result<T, NpyError> {
        Err(NpyError::Syntax { at: self.at, expected })
    }
}

#[cfg(test)]
mod tests;
