//! `scripts/cleanup-shm` removes what nobody has attached, and nothing else.

#![allow(clippy::disallowed_methods)] // starts the script and holders of locks

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

/// A segment of this test in /dev/shm, removed with the value.
struct Segment(PathBuf);

impl Segment {
    fn file(tag: &str) -> Segment {
        let segment = Segment::path(tag);
        fs::write(&segment.0, [0; 4096]).unwrap();
        segment
    }

    fn fifo(tag: &str) -> Segment {
        let segment = Segment::path(tag);
        mkfifo(&segment.0, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        segment
    }

    fn path(tag: &str) -> Segment {
        Segment(Path::new("/dev/shm").join(format!("shmring.{}", testkit::name(tag))))
    }

    fn exists(&self) -> bool {
        fs::symlink_metadata(&self.0).is_ok()
    }

    fn name(&self) -> &str {
        self.0.file_name().unwrap().to_str().unwrap()
    }

    /// Attaches as a process does that reads or writes the segment.
    fn attach(&self) -> File {
        let file = File::options().read(true).write(true).open(&self.0).unwrap();
        file.try_lock_shared().unwrap();
        file
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Runs the script on the segments of this test; gives its status and output.
fn cleanup(options: &[&str]) -> (i32, String) {
    let output = Command::new(tests::script("cleanup-shm"))
        .args(["--prefix", &testkit::prefix()])
        .args(options)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap(), text + &String::from_utf8(output.stderr).unwrap())
}

/// Starts a process that holds a shared lock on the file until it is killed.
fn holder(segment: &Segment) -> Child {
    let mut child = Command::new("flock")
        .args(["--shared", "--no-fork"])
        .arg(&segment.0)
        .args(["sh", "-c", "echo held; exec sleep 1000"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    child
}

fn lists_without_removing() {
    let segments = [Segment::file("a.npy"), Segment::file("b.ring"), Segment::fifo("b.bell.3")];
    let (status, text) = cleanup(&[]);
    assert_eq!(status, 0);
    assert_eq!(text.lines().count(), 3);
    for segment in &segments {
        assert!(text.contains(segment.name()), "{text}");
        assert!(segment.exists());
    }
    let array = text.lines().find(|line| line.ends_with("a.npy")).unwrap();
    assert!(array.trim_start().starts_with("4.0K "), "{text}");
}

fn removes_what_is_stale() {
    let segments = [Segment::file("a.npy"), Segment::file("b.ring"), Segment::fifo("b.bell.3")];
    assert_eq!(cleanup(&["--yes"]).0, 0);
    assert!(segments.iter().all(|segment| !segment.exists()));
    assert_eq!(cleanup(&["--yes"]), (0, String::new()));
}

fn what_cannot_be_listed_stays() {
    let segment = Segment::file("a.npy");
    let full = File::options().write(true).open("/dev/full").unwrap();
    let status = Command::new(tests::script("cleanup-shm"))
        .args(["--yes", "--prefix", &testkit::prefix()])
        .stdout(full)
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(segment.exists());
}

fn keeps_what_this_process_has_attached() {
    let segments = [Segment::file("a.npy"), Segment::fifo("b.bell.3")];
    let attached = segments.each_ref().map(Segment::attach);
    assert_eq!(cleanup(&["--yes"]), (0, String::new()));
    assert!(segments.iter().all(Segment::exists));
    drop(attached);
    cleanup(&["--yes"]);
    assert!(segments.iter().all(|segment| !segment.exists()));
}

fn keeps_what_another_process_has_attached() {
    let segment = Segment::file("a.npy");
    let mut child = holder(&segment);
    assert_eq!(cleanup(&["--yes"]), (0, String::new()));
    assert!(segment.exists());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(cleanup(&["--yes"]).1.contains(segment.name()));
    assert!(!segment.exists());
}

/// The lock belongs to the open file, so it outlives who took it. Inside a pid
/// namespace /proc/locks no longer shows it then.
fn keeps_what_a_child_of_the_dead_has_attached() {
    let segment = Segment::file("a.npy");
    let script = "flock --shared --nonblock 9 && { sleep 1000 >/dev/null 2>&1 & echo $!; }";
    let output = Command::new("sh")
        .args(["-c", &format!("exec 9<\"$1\"; {script}"), "sh"])
        .arg(&segment.0)
        .output()
        .unwrap();
    let child: u32 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    assert_eq!(cleanup(&["--yes"]), (0, String::new()));
    assert!(segment.exists());

    testkit::kill9(child);
    testkit::wait_until(testkit::DEFAULT_TIMEOUT, || !testkit::alive(child));
    cleanup(&["--yes"]);
    assert!(!segment.exists());
}

fn keeps_what_a_mapping_holds() {
    // A lock is kept by a mapping after the descriptor is closed: the script
    // itself maps nothing, so another program is asked to.
    let segment = Segment::file("a.npy");
    let program = "import fcntl, mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
fcntl.flock(fd, fcntl.LOCK_SH)
kept = mmap.mmap(fd, 4096)
os.close(fd)
print('held', flush=True)
sys.stdin.read()";
    let mut python = Command::new("python3");
    python.args(["-c", program]).arg(&segment.0).stdin(Stdio::piped());
    let mut child = match python_child(&mut python) {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            testkit::ignore("python3 is not installed")
        }
        Err(error) => panic!("{error}"),
    };
    assert_eq!(cleanup(&["--yes"]), (0, String::new()));
    assert!(segment.exists());
    drop(child.stdin.take());
    child.wait().unwrap();
    cleanup(&["--yes"]);
    assert!(!segment.exists());
}

fn python_child(command: &mut Command) -> io::Result<Child> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line)?;
    assert_eq!(line, "held\n");
    Ok(child)
}

fn leaves_other_files_alone() {
    let target = Segment::path("target");
    fs::write(&target.0, "precious").unwrap();
    let link = Segment::path("link.npy");
    std::os::unix::fs::symlink(&target.0, &link.0).unwrap();
    let directory = Segment::path("dir.npy");
    fs::create_dir(&directory.0).unwrap();
    let others = [
        Segment::file("a.npy.bak"),
        Segment::file("a.npx"),
        Segment::file("a.bell."),
        Segment::file("a.bell.x"),
        Segment::file("a.bell.01"),
        Segment::file("a.bell.4294967296"),
        Segment::file(&format!("{}.npy", "a".repeat(200))),
        target,
        link,
    ];
    assert_eq!(cleanup(&["--yes"]), (0, String::new()));
    assert!(others.iter().all(Segment::exists) && directory.exists());
    fs::remove_dir(&directory.0).unwrap();
}

fn leaves_segments_of_others_alone() {
    if !nix::unistd::geteuid().is_root() {
        testkit::ignore("only root can give a file away");
    }
    let segment = Segment::file("a.npy");
    nix::unistd::chown(&segment.0, Some(65534.into()), None).unwrap();
    assert_eq!(cleanup(&["--yes"]), (0, String::new()));
    assert!(segment.exists());
}

fn prefix_limits() {
    let inside = Segment::file("a.npy");
    let outside = Segment::file("b.npy");
    let prefix = testkit::name("a");
    // The later option is the one that counts.
    assert_eq!(cleanup(&["--prefix", &prefix, "--yes"]).0, 0);
    assert!(!inside.exists() && outside.exists());
}

fn dir_is_another_directory() {
    let directory = Segment::path("elsewhere");
    fs::create_dir(&directory.0).unwrap();
    let stale = directory.0.join("shmring.x.npy");
    fs::write(&stale, "").unwrap();
    let here = Segment::file("a.npy");

    let output = Command::new(tests::script("cleanup-shm"))
        .args(["--yes", "--dir"])
        .arg(&directory.0)
        .output()
        .unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().ends_with("  shmring.x.npy\n"));
    assert!(!stale.exists() && here.exists());
    fs::remove_dir(&directory.0).unwrap();
}

fn refuses_a_wrong_command_line() {
    for options in [&["--no"][..], &["frames"], &["--dir"], &["--dir", "/nonexistent"]] {
        let (status, text) = cleanup(options);
        assert_eq!(status, 2, "{options:?}");
        assert!(text.contains("--help"), "{text}");
    }
}

fn main() -> ExitCode {
    testkit::run([
        testkit::test!(lists_without_removing),
        testkit::test!(removes_what_is_stale),
        testkit::test!(what_cannot_be_listed_stays),
        testkit::test!(keeps_what_this_process_has_attached),
        testkit::test!(keeps_what_another_process_has_attached),
        testkit::test!(keeps_what_a_child_of_the_dead_has_attached),
        testkit::test!(keeps_what_a_mapping_holds),
        testkit::test!(leaves_other_files_alone),
        testkit::test!(leaves_segments_of_others_alone),
        testkit::test!(prefix_limits),
        testkit::test!(dir_is_another_directory),
        testkit::test!(refuses_a_wrong_command_line),
    ])
}
