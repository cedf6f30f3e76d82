//! How an array travels in a message: as a descriptor, and its name if it has one. The receiver
//! reads the rest from the file itself, and gets a lock of its own.

use ndarray::Dimension;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use super::{DynArray, Element, SharedArray, file::ArrayFile};
use crate::{
    error::{Error, Result},
    os, transfer,
};

use std::os::fd::AsFd;

const WHAT: &str = "an array";

fn put(file: &ArrayFile) -> Result<(u32, Option<&str>)> {
    // A description of its own: were it ours, a message on its way would keep our lock after we
    // were killed.
    let fd = file.lock.description().map_err(Error::io(format!("open {} again", file.what())))?;
    let id = os::file_info(fd.as_fd()).map_err(Error::io(format!("look at {}", file.what())))?.id;
    let number = transfer::put_fd(WHAT, fd.as_fd(), Some(id))?;
    Ok((number, file.name()))
}

fn take(number: u32, name: Option<String>) -> Result<ArrayFile> {
    ArrayFile::received(transfer::take_fd(WHAT, number, true)?, name)
}

impl<T: Element, D: Dimension> Serialize for SharedArray<T, D> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        put(&self.file).map_err(transfer::refuse(ser::Error::custom))?.serialize(serializer)
    }
}

impl<'de, T: Element, D: Dimension> Deserialize<'de> for SharedArray<T, D> {
    fn deserialize<R: Deserializer<'de>>(deserializer: R) -> Result<Self, R::Error> {
        let (number, name) = Deserialize::deserialize(deserializer)?;
        take(number, name).and_then(SharedArray::typed).map_err(transfer::refuse(de::Error::custom))
    }
}

impl Serialize for DynArray {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        put(&self.file).map_err(transfer::refuse(ser::Error::custom))?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for DynArray {
    fn deserialize<R: Deserializer<'de>>(deserializer: R) -> Result<Self, R::Error> {
        let (number, name) = Deserialize::deserialize(deserializer)?;
        take(number, name).map(DynArray::new).map_err(transfer::refuse(de::Error::custom))
    }
}
