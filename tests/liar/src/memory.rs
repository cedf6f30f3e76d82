//! The memory of a segment from outside: by reads and writes of its file.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::FileExt,
    },
};

use shmring::{Segment, os};

use crate::Random;

/// The file of a segment.
///
/// # Errors
///
/// When no descriptor is left.
pub fn file_of(segment: &Segment) -> io::Result<File> {
    Ok(segment.as_fd().try_clone_to_owned()?.into())
}

/// All that is in a file.
///
/// # Errors
///
/// When it cannot be read.
pub fn image(memory: &File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; memory.metadata()?.len() as usize];
    memory.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// A memory of its own with these bytes, whose size is sealed.
///
/// # Errors
///
/// When the kernel refuses.
pub fn anonymous(image: &[u8]) -> io::Result<OwnedFd> {
    let fd = os::memfd("liar")?;
    os::resize(fd.as_fd(), image.len() as u64)?;
    let file = File::from(fd);
    file.write_all_at(image, 0)?;
    let fd = OwnedFd::from(file);
    os::seal(fd.as_fd())?;
    Ok(fd)
}

/// Overwrites one word, mostly one that is in use: those that are zero mostly are not.
///
/// # Panics
///
/// Panics when the file cannot be read or written, or has no word.
pub fn overwrite(memory: &File, random: &mut Random) {
    let words = memory.metadata().expect("the file is open").len() as usize / 8;
    let any_word = |random: &mut Random| {
        let tries: Vec<u64> = (0..64).map(|_| random.below(words) as u64 * 8).collect();
        *tries.iter().find(|at| read(memory, **at) != 0).unwrap_or(&tries[0])
    };
    let at = any_word(random);
    let (old, any) = (read(memory, at), random.any());
    let new = match random.below(7) {
        0 => 0,
        1 => u64::MAX,
        2 => any,
        3 => old ^ 1 << (any % 64),
        4 => any % 300,
        5 => read(memory, any_word(random)),
        _ => old.wrapping_add(any % 9).wrapping_sub(4),
    };
    let bytes = new.to_le_bytes();
    match random.below(4) {
        0 => memory.write_all_at(&bytes[..1], at + any % 8),
        1 => memory.write_all_at(&bytes[..4], at + 4 * (any % 2)),
        _ => memory.write_all_at(&bytes, at),
    }
    .expect("the file is open for writing");
}

fn read(memory: &File, at: u64) -> u64 {
    let mut bytes = [0; 8];
    memory.read_exact_at(&mut bytes, at).expect("the file is that long");
    u64::from_le_bytes(bytes)
}

/// Overwrites pieces of an image, or of a message, as chosen bytes say.
pub fn patch(image: &mut [u8], random: &mut Random) {
    if image.is_empty() {
        return;
    }
    for _ in 0..random.below(8) {
        let at = random.below(image.len());
        let len = [1, 2, 4, 8][random.below(4)].min(image.len() - at);
        let at = at - at % len;
        let bytes = random.any().to_le_bytes();
        image[at..at + len].copy_from_slice(&bytes[..len]);
    }
}
