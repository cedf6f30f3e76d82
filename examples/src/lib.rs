//! Parts that the example programs share: splitting Motion JPEG, decoding
//! pictures to luma, statistics of luma planes, and vital signs from a pulse wave.

#![deny(unsafe_code)]

pub mod biosignal;
pub mod mjpeg;
pub mod picture;
pub mod stats;
