//! Where the functions of this program are, so that a process that runs the same file finds them.
//!
//! An address means nothing in another process, for each is loaded somewhere else; the distance
//! from the head of the program's own file does, as long as it is the same file.

#![allow(unsafe_code)] // The program's own headers, and a function from its place.

use std::{any::type_name, fs, mem, os::unix::fs::MetadataExt, ptr, slice, sync::OnceLock};

#[cfg(target_pointer_width = "32")]
use libc::{Elf32_Ehdr as Head, Elf32_Phdr as Segment};
#[cfg(target_pointer_width = "64")]
use libc::{Elf64_Ehdr as Head, Elf64_Phdr as Segment};
use serde::{Deserialize, Serialize};

/// The note in which a linker writes what tells one build from another.
const NT_GNU_BUILD_ID: u32 = 3;

unsafe extern "C" {
    /// The head of the file that this code was linked into; linkers define it.
    static __ehdr_start: Head;
}

/// What tells one build of a program from all others.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Build {
    /// What the linker wrote.
    Id(Vec<u8>),
    /// The file: device and inode.
    File(u64, u64),
}

/// A function of this program, in a form that travels to another process of the same file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Place {
    build: Build,
    distance: u64,
    /// What it takes and gives, by the names of the types.
    signature: String,
    /// The name of the type that the function was made for.
    pub(crate) of: String,
}

/// Why a function has no place that another process would find.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NotMainProgram;

/// A program as it lies in memory.
struct Image {
    start: usize,
    segments: &'static [Segment],
    build: Build,
}

fn image() -> Result<&'static Image, NotMainProgram> {
    static IMAGE: OnceLock<Option<Image>> = OnceLock::new();
    IMAGE.get_or_init(load).as_ref().ok_or(NotMainProgram)
}

/// `None` where this code is part of a shared library: then the program is another file.
fn load() -> Option<Image> {
    let head = &raw const __ehdr_start;
    // SAFETY: asks for a number that the kernel gave to this process.
    let of_program = unsafe { libc::getauxval(libc::AT_PHDR) } as usize;
    // SAFETY: the linker has put the symbol at the head of a file that is mapped while its code
    // runs.
    let (first, count) = unsafe { ((*head).e_phoff as usize, (*head).e_phnum as usize) };
    let start = head.addr();
    if start + first != of_program {
        return None;
    }
    // SAFETY: the table of segments stands there, as the kernel has just said; it is part of the
    // program, which stays mapped.
    let segments = unsafe {
        slice::from_raw_parts(ptr::with_exposed_provenance::<Segment>(of_program), count)
    };
    let build = build_id(start, segments).map(Build::Id).or_else(file)?;
    Some(Image { start, segments, build })
}

fn file() -> Option<Build> {
    let info = fs::metadata("/proc/self/exe").ok()?;
    Some(Build::File(info.dev(), info.ino()))
}

/// The address that the file's first byte is meant for.
fn base(segments: &[Segment]) -> usize {
    let loaded = segments.iter().filter(|segment| segment.p_type == libc::PT_LOAD);
    loaded.map(|segment| segment.p_vaddr as usize - segment.p_offset as usize).min().unwrap_or(0)
}

fn build_id(start: usize, segments: &[Segment]) -> Option<Vec<u8>> {
    let base = base(segments);
    segments.iter().filter(|segment| segment.p_type == libc::PT_NOTE).find_map(|segment| {
        let at = start + (segment.p_vaddr as usize - base);
        // SAFETY: notes are part of what is loaded of the program, where the table says.
        let notes = unsafe {
            slice::from_raw_parts(ptr::with_exposed_provenance::<u8>(at), segment.p_memsz as usize)
        };
        find_build_id(notes)
    })
}

/// A note is three words (length of its name, of its text, its kind), the name and the text, each
/// filled up to whole words.
fn find_build_id(mut notes: &[u8]) -> Option<Vec<u8>> {
    loop {
        let word = |at: usize| {
            let bytes = notes.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_ne_bytes(bytes))
        };
        let (name_len, text_len, kind) = (word(0)? as usize, word(4)? as usize, word(8)?);
        let text_at = 12 + name_len.next_multiple_of(4);
        let name = notes.get(12..12 + name_len)?;
        let text = notes.get(text_at..text_at + text_len)?;
        if kind == NT_GNU_BUILD_ID && name == b"GNU\0" && !text.is_empty() {
            return Some(text.to_vec());
        }
        notes = notes.get(text_at + text_len.next_multiple_of(4)..)?;
    }
}

/// Whether code stands this far from the head of the program.
fn is_code(image: &Image, distance: usize) -> bool {
    let base = base(image.segments);
    image.segments.iter().any(|segment| {
        let from = segment.p_vaddr as usize - base;
        segment.p_type == libc::PT_LOAD
            && segment.p_flags & libc::PF_X != 0
            && (from..from + segment.p_memsz as usize).contains(&distance)
    })
}

impl Place {
    /// The place of a function that was made for the type `of`.
    pub(crate) fn of<A, R>(function: fn(A) -> R, of: &str) -> Result<Place, NotMainProgram> {
        let image = image()?;
        let distance = (function as usize).wrapping_sub(image.start);
        if !is_code(image, distance) {
            return Err(NotMainProgram);
        }
        Ok(Place {
            build: image.build.clone(),
            distance: distance as u64,
            signature: type_name::<fn(A) -> R>().into(),
            of: of.into(),
        })
    }

    /// The function that stands there.
    ///
    /// A place is only ever read from the channel of the process that started this one. It can do
    /// with this process what it likes, so it is believed that it made the place by [`Place::of`].
    ///
    /// # Errors
    ///
    /// A sentence, where this is another program than the one that made the place, or the function
    /// is of another type.
    pub(crate) fn find<A, R>(&self) -> Result<fn(A) -> R, String> {
        let image = image().map_err(|NotMainProgram| "this is a shared library".to_owned())?;
        if self.build != image.build {
            return Err("it runs another build of the program".into());
        }
        if self.signature != type_name::<fn(A) -> R>() {
            return Err(format!(
                "it is told to run a function of another kind: {}",
                self.signature
            ));
        }
        let distance = self.distance as usize;
        if !is_code(image, distance) {
            return Err(format!("there is no code at {distance:#x} of the program"));
        }
        let address = ptr::with_exposed_provenance::<()>(image.start + distance);
        // SAFETY: in this very build, `of` has found a function of this type there.
        Ok(unsafe { mem::transmute::<*const (), fn(A) -> R>(address) })
    }
}

/// A value of a type that has no bytes, out of nothing.
///
/// This is how a closure that captures nothing comes to a process that was not there when it was
/// made.
///
/// It does not compile for a type that has bytes: a closure that captures something.
pub(crate) fn conjure<C: Copy>() -> C {
    const {
        assert!(
            size_of::<C>() == 0,
            "the constructor of a backend that is spawned, or forked by a fork server, must capture nothing: pass what it needs as its state, as in `spawn(name, state, |state, start| ..)`"
        );
    }
    // SAFETY: a value of this type existed in the process that named its function (the only way to
    // name one is to have it), it may be copied, and it has no bytes to copy.
    unsafe { ptr::NonNull::<C>::dangling().read() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn double(number: u32) -> u32 {
        number * 2
    }

    fn generic<T: Default + std::fmt::Display>(_: ()) -> String {
        T::default().to_string()
    }

    #[test]
    fn a_function_is_found_again_also_a_generic_one() {
        let place = Place::of(double, "double").unwrap();
        let found = place.find::<u32, u32>().unwrap();
        assert_eq!(found(21), 42);
        let place = Place::of(generic::<f32>, "f32").unwrap();
        let found = place.find::<(), String>().unwrap();
        assert_eq!(found(()), "0");
    }

    #[test]
    fn another_build_and_a_place_without_code_are_refused() {
        let place = Place::of(double, "double").unwrap();
        let other = Place { build: Build::File(1, 2), ..place.clone() };
        assert!(other.find::<u32, u32>().unwrap_err().contains("another build"));
        assert!(place.find::<u64, u32>().unwrap_err().contains("another kind"));
        for distance in [0, u64::MAX, 1 << 40] {
            let nowhere = Place { distance, ..place.clone() };
            assert!(nowhere.find::<u32, u32>().unwrap_err().contains("no code"));
        }
    }

    #[test]
    fn any_notes_are_read_without_a_panic() {
        let mut notes = vec![];
        for word in [4u32, 3, NT_GNU_BUILD_ID] {
            notes.extend(word.to_ne_bytes());
        }
        notes.extend(b"GNU\0abc\0");
        assert_eq!(find_build_id(&notes).unwrap(), b"abc");
        for end in 0..notes.len() - 1 {
            assert_eq!(find_build_id(&notes[..end]), None, "{end}");
        }
        notes[0..4].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(find_build_id(&notes), None);
    }

    #[test]
    fn a_closure_that_captures_nothing_comes_out_of_nothing() {
        fn again<C: Fn(u8) -> u8 + Copy>(_: C) -> C {
            conjure()
        }
        assert_eq!(again(|number| number + 1)(4), 5);
    }
}
