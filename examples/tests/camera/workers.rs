//! What workers must not change: the CSV, however many there are and however they die; and what
//! they must not leave behind.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use jpeg_encoder::{ColorType, Encoder};
use nix::sys::signal::Signal;
use tempfile::TempDir;
use testkit::{Process, children_of, kill9, wait_until};

use crate::common::*;

const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the program on an input and returns what it said; it must have succeeded.
fn measured(input: &Path, workers: &str, more: &[&str]) -> Output {
    let output = camera()
        .args(["--csv", "-", "--workers", workers, "--input"])
        .arg(input)
        .args(more)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{workers} workers: {}", stderr(&output));
    output
}

/// The number after a name in a summary.
fn number(summary: &str, name: &str) -> u64 {
    let line = summary.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| {
        panic!("no {name} in\n{summary}");
    });
    line.split_whitespace().nth(1).unwrap().trim_end_matches(',').parse().unwrap()
}

fn picture(width: u16, height: u16, quality: u8) -> Vec<u8> {
    let mut state = 7_u32;
    let pixels: Vec<u8> = (0..usize::from(width) * usize::from(height))
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 25) as u8 + 60
        })
        .collect();
    let mut jpeg = Vec::new();
    Encoder::new(&mut jpeg, quality).encode(&pixels, width, height, ColorType::Luma).unwrap();
    jpeg
}

/// A clip of the first frames, in a directory of its own.
fn clip(n: usize) -> (TempDir, PathBuf) {
    stream(&[&frames(n).concat()])
}

/// The program at work on a clip for ever, with its workers, its CSV and its standard error.
struct AtWork {
    camera: Running,
    csv: PathBuf,
    _directory: TempDir,
}

impl AtWork {
    fn start(workers: usize, frames: usize, passes: &str) -> Self {
        let (directory, input) = clip(frames);
        let csv = directory.path().join("out.csv");
        let mut command = camera();
        command.arg("--input").arg(&input).arg("--csv").arg(&csv);
        command.args(["--loop", passes, "--workers", &workers.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let at_work = Self { camera: Running::start(&mut command), csv, _directory: directory };
        wait_for("the first frames", || at_work.frames() > 3);
        at_work
    }

    fn frames(&self) -> usize {
        fs::read_to_string(&self.csv).map_or(0, |text| text.lines().count().saturating_sub(1))
    }

    fn workers(&self) -> Vec<Process> {
        children_of(self.camera.0.id()).into_iter().filter_map(Process::observe).collect()
    }

    fn summary(&mut self) -> String {
        let mut summary = String::new();
        self.camera.0.stdout.take().unwrap().read_to_string(&mut summary).unwrap();
        summary
    }
}

fn assert_gone(workers: &[Process], within: Duration) {
    let gone = wait_until(within, || !workers.iter().any(Process::alive));
    assert!(gone, "workers are left after {within:?}: {workers:?}");
}

#[test]
fn the_csv_is_the_same_for_every_number_of_workers() {
    let (_directory, path) = clip(40);
    let expected = measured(&path, "0", &[]);
    for workers in ["1", "2", "3", "5", "17"] {
        let output = measured(&path, workers, &[]);
        assert_eq!(stdout(&output), stdout(&expected), "{workers} workers");
        let summary = stderr(&output);
        let line = summary.lines().find(|line| line.starts_with("workers")).unwrap();
        let shares = line.split_once("frames ").unwrap().1.split(' ');
        let shares: Vec<u64> = shares.map(|share| share.parse().unwrap()).collect();
        assert_eq!(shares.len(), workers.parse().unwrap(), "{line}");
        assert_eq!(shares.iter().sum::<u64>(), 40, "{line}");
        assert_eq!((number(&summary, "blocks"), number(&summary, "restarts")), (0, 0));
    }
}

#[test]
fn pictures_of_all_sizes_go_through_workers() {
    let directory = tempfile::tempdir().unwrap();
    // Larger and smaller, as planes and as files; the noisy ones are larger as files.
    let sizes = [(8, 8), (640, 480), (16, 1), (1024, 768), (1000, 1000), (64, 64), (3000, 2000)];
    for (at, (width, height)) in sizes.into_iter().enumerate() {
        for quality in [20, 95] {
            let name = directory.path().join(format!("{at}-{quality}.jpg"));
            fs::write(name, picture(width, height, quality)).unwrap();
        }
    }
    for name in ["cell.png", "rocket.jpg", "chelsea.png"] {
        fs::copy(data("images").join(name), directory.path().join(name)).unwrap();
    }
    fs::write(directory.path().join("3.jpg"), "not a picture").unwrap();
    let expected = measured(directory.path(), "0", &["--loop", "2"]);
    for workers in ["1", "2", "5"] {
        let output = measured(directory.path(), workers, &["--loop", "2"]);
        assert_eq!(stdout(&output), stdout(&expected), "{workers} workers");
        assert_eq!(number(&stderr(&output), "blocks"), 0);
        assert_eq!(number(&stderr(&output), "frames"), 36);
    }
}

#[test]
fn broken_frames_are_reported_alike() {
    let frames = frames(8);
    let half = frames[1].len() / 2;
    let lossy = [&frames[1][..half], &frames[1][half + 4000..]].concat();
    let cut = &frames[2][..half];
    let (_directory, path) =
        stream(&[&frames[0], &lossy, &frames[3], cut, &frames[4], &lossy, cut, &frames[5]]);
    let reports = |output: &Output| -> Vec<String> {
        let reports = stderr(output);
        reports.lines().filter(|line| line.contains("broken: ")).map(str::to_owned).collect()
    };
    let expected = measured(&path, "0", &[]);
    assert_eq!(reports(&expected).len(), 4);
    for workers in ["1", "3"] {
        let output = measured(&path, workers, &[]);
        assert_eq!(stdout(&output), stdout(&expected));
        assert_eq!(reports(&output), reports(&expected), "in order as well");
    }
}

#[test]
fn a_killed_worker_is_replaced_and_changes_nothing() {
    let mut at_work = AtWork::start(2, 40, "6");
    let mut pause = 30;
    let mut killed = 0;
    while at_work.camera.0.try_wait().unwrap().is_none() {
        // Another worker at another moment each time.
        pause = (pause * 7 + 11) % 61;
        thread::sleep(Duration::from_millis(40 + pause));
        let workers = at_work.workers();
        if workers.len() == 2 && killed < 6 {
            killed += u64::from(kill9(workers[killed as usize % 2].pid()));
        }
        assert_eq!(at_work.camera.threads(), 1);
    }
    assert_eq!(at_work.camera.exit_code(), Some(0));
    let summary = at_work.summary();
    assert!(killed > 1, "the clip was over too soon");
    let restarts = number(&summary, "restarts");
    assert!((1..=killed).contains(&restarts), "{killed} killed\n{summary}");
    assert_eq!((number(&summary, "frames"), number(&summary, "blocks")), (240, 0), "{summary}");

    let (_directory, path) = clip(40);
    let expected = stdout(&measured(&path, "0", &["--loop", "6"]));
    assert_eq!(fs::read_to_string(&at_work.csv).unwrap(), expected);
}

#[test]
fn a_frame_that_its_workers_die_of_is_broken() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("0.jpg"), picture(8000, 8000, 95)).unwrap();
    fs::write(directory.path().join("1.jpg"), picture(64, 64, 95)).unwrap();
    let mut camera = Running::start(
        camera()
            .args(["--csv", "-", "--workers", "1", "--input"])
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    );
    let mut killed = Vec::new();
    while killed.len() < 3 {
        wait_for("a worker that is at work", || {
            let workers = children_of(camera.0.id());
            let busy = workers
                .into_iter()
                .filter_map(Process::observe)
                .find(|worker| !killed.contains(&worker.pid()) && has_worked(worker.pid()));
            busy.is_some_and(|worker| {
                killed.push(worker.pid());
                kill9(worker.pid())
            })
        });
    }
    assert_eq!(camera.exit_code(), Some(0));
    let mut messages = String::new();
    camera.0.stderr.take().unwrap().read_to_string(&mut messages).unwrap();
    assert!(messages.contains("frame 0 is broken: 3 workers died of it"), "{messages}");
    assert_eq!((number(&messages, "restarts"), number(&messages, "blocks")), (3, 0));
    let mut csv = String::new();
    camera.0.stdout.take().unwrap().read_to_string(&mut csv).unwrap();
    assert_eq!(csv.lines().count(), 2, "{csv}");
    assert!(csv.lines().nth(1).unwrap().starts_with("1,64,64,"), "{csv}");
}

/// Whether a process has used a noticeable amount of time: it does more than wait.
fn has_worked(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let user = stat.rsplit(')').next().unwrap_or_default().split(' ').nth(12);
    user.is_some_and(|ticks| ticks.parse::<u64>().is_ok_and(|ticks| ticks > 1))
}

#[test]
fn an_interrupt_stops_the_workers_and_keeps_what_is_done() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut at_work = AtWork::start(3, 10, "100000");
        let workers = at_work.workers();
        assert_eq!(workers.len(), 3);
        at_work.camera.signal(signal);
        assert_eq!(at_work.camera.exit_code(), Some(128 + signal as i32));
        assert_gone(&workers, Duration::ZERO);
        let summary = at_work.summary();
        assert!(summary.starts_with("interrupted"), "{summary}");
        assert_eq!(number(&summary, "frames") as usize, at_work.frames());
        assert_eq!((number(&summary, "blocks"), number(&summary, "restarts")), (0, 0));

        let (_directory, path) = clip(10);
        let csv = fs::read_to_string(&at_work.csv).unwrap();
        let passes = (at_work.frames() / 10 + 1).to_string();
        let expected = stdout(&measured(&path, "0", &["--loop", &passes]));
        assert!(expected.starts_with(&csv), "what was written is the beginning of the whole");
    }
}

#[test]
fn a_killed_frontend_leaves_nothing() {
    let mut at_work = AtWork::start(3, 10, "100000");
    let workers = at_work.workers();
    assert_eq!(workers.len(), 3);
    // The segment has no name: it goes with its last process.
    let mapped = |pid: u32| {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        (maps.contains("/memfd:shmring"), maps.contains("/dev/shm/"))
    };
    assert_eq!(mapped(at_work.camera.0.id()), (true, false));
    assert_eq!(mapped(workers[0].pid()), (true, false));
    at_work.camera.signal(Signal::SIGKILL);
    assert_eq!(at_work.camera.exit_code(), None);
    // One second, and some time to be scheduled on a machine that is busy.
    assert_gone(&workers, Duration::from_secs(3));
}

#[test]
fn a_stopped_worker_does_not_keep_the_program() {
    let mut at_work = AtWork::start(2, 10, "100000");
    let workers = at_work.workers();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(workers[0].pid() as i32), Signal::SIGSTOP)
        .unwrap();
    // The frames in front of it are missing, so all comes to rest.
    let mut before = usize::MAX;
    wait_for("rest", || {
        thread::sleep(Duration::from_millis(100));
        std::mem::replace(&mut before, at_work.frames()) == before
    });
    at_work.camera.signal(Signal::SIGINT);
    assert_eq!(at_work.camera.exit_code(), Some(130));
    assert_gone(&workers, Duration::ZERO);
    assert_eq!(number(&at_work.summary(), "blocks"), 0);
}

#[test]
fn frames_that_come_one_by_one_are_measured_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let csv = directory.path().join("out.csv");
    let mut camera = Running::start(
        camera()
            .args(["--workers", "2", "--input", "-", "--csv"])
            .arg(&csv)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped()),
    );
    let mut stdin = camera.0.stdin.take().unwrap();
    let frames = frames(6);
    for (at, frame) in frames.iter().enumerate() {
        // In two pieces, so that the program waits in the middle of a frame.
        let (one, two) = frame.split_at(frame.len() / 3);
        stdin.write_all(one).unwrap();
        thread::sleep(Duration::from_millis(20));
        stdin.write_all(two).unwrap();
        let done = || fs::read_to_string(&csv).is_ok_and(|text| text.lines().count() == at + 2);
        wait_for("the frame that was just written", done);
    }
    // Workers that die while there is nothing to do are replaced as well.
    let workers: Vec<_> =
        children_of(camera.0.id()).into_iter().filter_map(Process::observe).collect();
    assert_eq!(workers.len(), 2);
    assert!(workers.iter().all(|worker| kill9(worker.pid())));
    let replaced = wait_until(PATIENCE, || {
        let now = children_of(camera.0.id());
        now.len() == 2 && workers.iter().all(|worker| !now.contains(&worker.pid()))
    });
    assert!(replaced);
    stdin.write_all(&frames[0]).unwrap();
    drop(stdin);
    let began = Instant::now();
    assert_eq!(camera.exit_code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(fs::read_to_string(&csv).unwrap().lines().count(), 8);
}
