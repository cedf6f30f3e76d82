//! The input, taken apart into frames.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Seek};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use examples::mjpeg::{Ending, MAX_RECORD, Records};
use examples::picture::Broken;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};

use crate::cli::Args;
use crate::failure::Failure;
use crate::stop::Stop;

/// How long a signal may stay unseen that comes just before we begin to wait.
const LOOK_UP: u8 = 200; // milliseconds

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
    Stream { file: File, stop: Stop, records: Records<Patient> },
    Pictures { files: Vec<PathBuf>, at: usize, bytes: Vec<u8> },
}

impl Source {
    /// Opens what the command line names.
    pub(crate) fn open(args: &Args, stop: &Stop) -> Result<Self, Failure> {
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
            return Self::stream("standard input".into(), file.into(), passes, stop);
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
        Self::stream(name, file, passes, stop)
    }

    fn stream(name: String, file: File, passes: u32, stop: &Stop) -> Result<Self, Failure> {
        let cannot = |error: &io::Error| Failure::io(format_args!("read {name}"), error);
        let metadata = file.metadata().map_err(|error| cannot(&error))?;
        if passes > 1 && (!metadata.is_file() || name == "standard input") {
            return Err(Failure::Usage(format!(
                "cannot go through {name} {passes} times: it can be read only once; \
                 save it to a file, or leave out --loop"
            )));
        }
        let total = metadata.is_file().then(|| metadata.len() * u64::from(passes));
        let records = Patient::records(&file, stop).map_err(|error| cannot(&error))?;
        Ok(Self {
            name,
            input: Input::Stream { file, stop: stop.clone(), records },
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

    /// Returns the next frame, or `None` at the end and after a signal.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame<'_>>, Failure> {
        let Some(picture) = self.advance()? else {
            return Ok(None);
        };
        let number = self.next;
        self.next += 1;
        let bytes = match &self.input {
            Input::Stream { records, .. } => records.record(),
            Input::Pictures { bytes, .. } => bytes,
        };
        let picture = picture.map(|()| bytes);
        Ok(Some(Frame { number, split: Instant::now(), bytes: bytes.len(), picture }))
    }

    /// Goes on to the next frame: whole, broken, or none.
    fn advance(&mut self) -> Result<Option<Result<(), Broken>>, Failure> {
        loop {
            match &mut self.input {
                Input::Stream { records, stop, .. } => match records.advance() {
                    Ok(Some(ending)) => return Ok(Some(whole(ending))),
                    // A pass without a frame would be followed by others.
                    Ok(None) if self.passes_left == 0 || self.next == 0 => return Ok(None),
                    Ok(None) => self.rewind()?,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                        if stop.requested() {
                            return Ok(None);
                        }
                    }
                    Err(error) => {
                        return Err(Failure::io(format_args!("read {}", self.name), &error));
                    }
                },
                Input::Pictures { files, at, bytes } => match files.get(*at) {
                    Some(file) => {
                        *at += 1;
                        return Ok(Some(read_picture(file, bytes)));
                    }
                    None if self.passes_left == 0 => return Ok(None),
                    None => self.rewind()?,
                },
            }
        }
    }

    /// Begins the next pass.
    fn rewind(&mut self) -> Result<(), Failure> {
        self.passes_left -= 1;
        match &mut self.input {
            Input::Stream { file, stop, records } => {
                self.read_before += records.bytes_read();
                self.skipped_before += records.skipped();
                *records = file
                    .rewind()
                    .and_then(|()| Patient::records(file, stop))
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

/// A file that is waited for with an eye on signals: reading alone would not
/// notice one, for it is begun again by the kernel.
#[derive(Debug)]
struct Patient {
    file: File,
    stop: Stop,
}

impl Patient {
    fn records(file: &File, stop: &Stop) -> io::Result<Records<Self>> {
        let patient = Self { file: file.try_clone()?, stop: stop.clone() };
        Ok(Records::new(patient, MAX_RECORD))
    }
}

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
            let ready = poll(&mut fds, LOOK_UP);
            if self.stop.requested() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            match ready {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return self.file.read(buffer),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
