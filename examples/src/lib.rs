//! Parts that the example programs share: splitting Motion JPEG, decoding
//! pictures to luma, statistics of luma planes, vital signs from a pulse wave, and a
//! look at the files that are to be written.

#![deny(unsafe_code)]

pub mod biosignal;
pub mod mjpeg;
pub mod outputs;
pub mod picture;
pub mod stats;
