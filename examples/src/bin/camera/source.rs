//! The input, taken apart into frames.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind, IsTerminal, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use examples::mjpeg::{Ending, MAX_RECORD, Records};
use examples::picture::Broken;

use crate::cli::Args;
use crate::failure::Failure;
use crate::wait;

/// One frame as it was found.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    /// Position in the order of the input, from 0, going on over all passes.
    pub(crate) number: u64,
    /// When it had been found.
    pub(crate) split: Instant,
    /// Its length, also if it is broken.
    pub(crate) bytes: usize,
    /// The whole picture, still coded.
    pub(crate) picture: Result<&'a [u8], Broken>,
}

/// What the input has to offer.
#[derive(Debug)]
pub(crate) enum Next<'a> {
    Frame(Frame<'a>),
    /// More may come; [`Source::descriptor`] becomes readable then.
    NotYet,
    End,
}

/// How far one is in the input.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Amount {
    Bytes(u64),
    Pictures(u64),
}

/// Where the frames come from.
#[derive(Debug)]
pub(crate) struct Source {
    name: String,
    input: Input,
    passes_left: u32,
    total: Option<Amount>,
    next: u64,
    /// Bytes read and skipped in the passes before this one.
    read_before: u64,
    skipped_before: u64,
}

#[derive(Debug)]
enum Input {
    Stream { file: File, records: Records<Hasty> },
    Pictures { files: Vec<PathBuf>, at: usize, bytes: Vec<u8> },
}

/// A step through the input: a frame, whole or broken, or none.
enum Step {
    Frame(Result<(), Broken>),
    NotYet,
    End,
}

impl Source {
    /// Opens what the command line names.
    pub(crate) fn open(args: &Args) -> Result<Self, Failure> {
        let path = &args.input;
        let passes = args.passes.get();
        if path == Path::new("-") {
            let stdin = io::stdin();
            if stdin.is_terminal() {
                return Err(Failure::Usage(
                    "standard input is the terminal: give it a Motion-JPEG stream".into(),
                ));
            }
            let file = stdin.as_fd().try_clone_to_owned();
            let file = file.map_err(|error| Failure::io("read standard input", &error))?;
            return Self::stream("standard input".into(), file.into(), passes);
        }
        let name = path.display().to_string();
        let cannot = |error: &io::Error| Failure::io(format_args!("open {name}"), error);
        if fs::metadata(path).map_err(|error| cannot(&error))?.is_dir() {
            let files = pictures_in(path)?;
            return Ok(Self::pictures(name, files, passes));
        }
        let file = File::open(path).map_err(|error| cannot(&error))?;
        if has_extension(path, &["png"]) {
            return Ok(Self::pictures(name, vec![path.clone()], passes));
        }
        Self::stream(name, file, passes)
    }

    fn stream(name: String, file: File, passes: u32) -> Result<Self, Failure> {
        let cannot = |error: &io::Error| Failure::io(format_args!("read {name}"), error);
        let metadata = file.metadata().map_err(|error| cannot(&error))?;
        if passes > 1 && (!metadata.is_file() || name == "standard input") {
            return Err(Failure::Usage(format!(
                "cannot go through {name} {passes} times: it can be read only once; \
                 save it to a file, or leave out --loop"
            )));
        }
        let total = metadata.is_file().then(|| metadata.len() * u64::from(passes));
        let records = Hasty::records(&file).map_err(|error| cannot(&error))?;
        Ok(Self {
            name,
            input: Input::Stream { file, records },
            passes_left: passes - 1,
            total: total.map(Amount::Bytes),
            next: 0,
            read_before: 0,
            skipped_before: 0,
        })
    }

    fn pictures(name: String, files: Vec<PathBuf>, passes: u32) -> Self {
        let total = files.len() as u64 * u64::from(passes);
        Self {
            name,
            input: Input::Pictures { files, at: 0, bytes: Vec::new() },
            passes_left: passes - 1,
            total: Some(Amount::Pictures(total)),
            next: 0,
            read_before: 0,
            skipped_before: 0,
        }
    }

    /// Returns the next frame, if it is there.
    pub(crate) fn next_frame(&mut self) -> Result<Next<'_>, Failure> {
        let picture = match self.advance()? {
            Step::Frame(picture) => picture,
            Step::NotYet => return Ok(Next::NotYet),
            Step::End => return Ok(Next::End),
        };
        let number = self.next;
        self.next += 1;
        let bytes = match &self.input {
            Input::Stream { records, .. } => records.record(),
            Input::Pictures { bytes, .. } => bytes,
        };
        let picture = picture.map(|()| bytes);
        Ok(Next::Frame(Frame { number, split: Instant::now(), bytes: bytes.len(), picture }))
    }

    /// Returns what to wait for after [`Next::NotYet`].
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match &self.input {
            Input::Stream { file, .. } => Some(file.as_fd()),
            Input::Pictures { .. } => None,
        }
    }

    fn advance(&mut self) -> Result<Step, Failure> {
        loop {
            match &mut self.input {
                Input::Stream { records, .. } => match records.advance() {
                    Ok(Some(ending)) => return Ok(Step::Frame(whole(ending))),
                    // A pass without a frame would be followed by others.
                    Ok(None) if self.passes_left == 0 || self.next == 0 => return Ok(Step::End),
                    Ok(None) => self.rewind()?,
                    Err(error) => match error.kind() {
                        ErrorKind::WouldBlock => return Ok(Step::NotYet),
                        ErrorKind::Interrupted => {}
                        _ => {
                            return Err(Failure::io(format_args!("read {}", self.name), &error));
                        }
                    },
                },
                Input::Pictures { files, at, bytes } => match files.get(*at) {
                    Some(file) => {
                        *at += 1;
                        return Ok(Step::Frame(read_picture(file, bytes)));
                    }
                    None if self.passes_left == 0 => return Ok(Step::End),
                    None => self.rewind()?,
                },
            }
        }
    }

    /// Begins the next pass.
    fn rewind(&mut self) -> Result<(), Failure> {
        self.passes_left -= 1;
        match &mut self.input {
            Input::Stream { file, records } => {
                self.read_before += records.bytes_read();
                self.skipped_before += records.skipped();
                *records = file
                    .rewind()
                    .and_then(|()| Hasty::records(file))
                    .map_err(|error| Failure::io(format_args!("rewind {}", self.name), &error))?;
            }
            Input::Pictures { at, .. } => *at = 0,
        }
        Ok(())
    }

    /// Returns the name of the input, for messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns how much there is, where that can be known.
    pub(crate) fn total(&self) -> Option<Amount> {
        self.total
    }

    /// Counts the bytes of a stream that belonged to no image.
    pub(crate) fn bytes_skipped(&self) -> u64 {
        match &self.input {
            Input::Stream { records, .. } => self.skipped_before + records.skipped(),
            Input::Pictures { .. } => 0,
        }
    }

    /// Says why there was not a single frame.
    pub(crate) fn nothing_found(&self) -> Failure {
        let name = &self.name;
        let read = match &self.input {
            Input::Stream { records, .. } => self.read_before + records.bytes_read(),
            Input::Pictures { .. } => 0,
        };
        Failure::Run(match read {
            0 => format!("{name} is empty"),
            read => format!("no JPEG image in the {read} bytes of {name}"),
        })
    }
}

/// Turns the end of a record into what is wrong with it.
fn whole(ending: Ending) -> Result<(), Broken> {
    match ending {
        Ending::Complete => Ok(()),
        Ending::Truncated => Err(Broken::new("cut off before its end")),
        Ending::Malformed => Err(Broken::new("its headers are damaged")),
        Ending::TooLong => {
            Err(Broken::new(format!("longer than {} MiB without an end", MAX_RECORD >> 20)))
        }
    }
}

fn read_picture(path: &Path, bytes: &mut Vec<u8>) -> Result<(), Broken> {
    bytes.clear();
    let read =
        File::open(path).and_then(|file| file.take(MAX_RECORD as u64 + 1).read_to_end(bytes));
    match read {
        Ok(0) => Err(Broken::new(format!("{} is empty", path.display()))),
        Ok(read) if read > MAX_RECORD => whole(Ending::TooLong),
        Ok(_) => Ok(()),
        Err(error) => Err(Broken::new(format!("cannot read {}: {error}", path.display()))),
    }
}

/// Lists the JPEG and PNG files of a directory, in the bytewise order of their names.
fn pictures_in(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let name = directory.display();
    let cannot = |error: io::Error| Failure::io(format_args!("list {name}"), &error);
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        if is_picture(&path) && path.is_file() {
            files.push(path);
        }
    }
    files.sort_unstable_by(|a, b| a.file_name().cmp(&b.file_name()));
    if files.is_empty() {
        return Err(Failure::Run(format!("no picture (.jpg, .jpeg or .png) in directory {name}")));
    }
    Ok(files)
}

fn is_picture(path: &Path) -> bool {
    has_extension(path, &["jpg", "jpeg", "png"])
}

fn has_extension(path: &Path, among: &[&str]) -> bool {
    path.extension()
        .and_then(OsStr::to_str)
        .is_some_and(|extension| among.iter().any(|e| e.eq_ignore_ascii_case(extension)))
}

/// A file that is only read where that does not wait, and not for long at a time: whoever
/// reads has others to look after.
#[derive(Debug)]
struct Hasty {
    file: File,
    /// How often it was read without a break.
    reads: u32,
}

impl Hasty {
    /// Some megabytes.
    const MOST_READS: u32 = 64;

    fn records(file: &File) -> io::Result<Records<Self>> {
        Ok(Records::new(Self { file: file.try_clone()?, reads: 0 }, MAX_RECORD))
    }
}

impl Read for Hasty {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // O_NONBLOCK would be set for all who have the file, so we ask before.
        if self.reads == Self::MOST_READS || !wait::is_readable(&self.file)? {
            self.reads = 0;
            return Err(ErrorKind::WouldBlock.into());
        }
        self.reads += 1;
        self.file.read(buffer)
    }
}
