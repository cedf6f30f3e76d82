//! Parts that the example programs share: splitting Motion JPEG, decoding
//! pictures to luma, and statistics of luma planes.

#![deny(unsafe_code)]

pub mod mjpeg;
pub mod picture;
pub mod stats;
