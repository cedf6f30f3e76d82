//! What a user sees of the program, with as many workers as it chooses.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::*;

const HEADER: &str = "frame,width,height,mean_luma,edge_mean,motion";

/// The first frames of the bundled clip, checked against numpy: the decoder's
/// rounding and libjpeg's differ by less than 0.01 in every column.
const GOLDEN: &str = "\
frame,width,height,mean_luma,edge_mean,motion
0,1280,720,116.3901,46.1881,0.0000
1,1280,720,116.4166,46.1825,0.8516
2,1280,720,116.3611,46.1754,1.5536
";

/// The bundled pictures. Those that are PNG agree with numpy to the last digit.
const GOLDEN_PICTURES: &str = "\
frame,width,height,mean_luma,edge_mean,motion
0,512,512,115.4047,62.5840,0.0000
1,512,512,129.0607,49.4673,81.9494
2,550,660,67.9607,8.4606,0.0000
3,451,300,119.4827,48.0269,0.0000
4,600,400,103.6511,54.8708,0.0000
5,1000,872,19.3590,45.3628,0.0000
6,1411,1411,90.2604,10.5679,0.0000
7,640,427,60.9759,28.5007,0.0000
";

#[test]
fn without_arguments_it_measures_the_bundled_clip() {
    let output = run::<&str>([]);
    assert!(output.status.success());
    assert_eq!(stderr(&output), "", "no progress bar in a pipe");
    let summary = stdout(&output);
    assert!(summary.contains("132, of which 0 broken"), "{summary}");
    for name in ["frames/s", "MB/s in", "MB/s out", "p50", "p99", "0 in use", "restarts   0"] {
        assert!(summary.contains(name), "no {name} in\n{summary}");
    }
}

#[test]
fn the_first_frames_are_as_they_should_be() {
    let frames = frames(3);
    let (_directory, path) = stream(&[&frames.concat()]);
    assert_eq!(csv_of(&path, &[]).0, GOLDEN);
}

#[test]
fn pictures_come_in_the_order_of_their_names() {
    let (csv, messages) = csv_of(&data("images"), &[]);
    assert_eq!(csv, GOLDEN_PICTURES);
    assert!(messages.contains("8, of which 0 broken"), "{messages}");
}

#[test]
fn one_png_is_an_input_too() {
    let (csv, _) = csv_of(&data("images/cell.png"), &[]);
    assert_eq!(csv, format!("{HEADER}\n0,550,660,67.9607,8.4606,0.0000\n"));
}

#[test]
fn standard_input_gives_the_same_as_a_file() {
    let stream = frames(12).concat();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("stream.mjpeg");
    fs::write(&path, &stream).unwrap();
    let (expected, _) = csv_of(&path, &[]);

    let mut child = camera()
        .args(["--input", "-", "--csv", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = thread::spawn(move || {
        for chunk in stream.chunks(10_007) {
            stdin.write_all(chunk).unwrap();
        }
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    assert_eq!(stdout(&output), expected);

    let redirected = camera()
        .args(["--input", "-", "--csv", "-"])
        .stdin(File::open(&path).unwrap())
        .output()
        .unwrap();
    assert_eq!(stdout(&redirected), expected);
}

#[test]
fn a_broken_frame_is_reported_and_skipped() {
    let frames = frames(6);
    let whole: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    let mut parts = whole.clone();
    parts[3] = &frames[3][..frames[3].len() / 2];
    let (_directory, path) = stream(&parts);
    let (csv, messages) = csv_of(&path, &[]);
    assert!(messages.contains("frame 3 is broken: cut off before its end; skipped"), "{messages}");
    assert!(messages.contains("6, of which 1 broken"), "{messages}");

    // Motion refers to the last frame that was decoded, as if there were no other.
    let (_directory, path) = stream(&[&whole[..3], &whole[4..]].concat());
    let (expected, _) = csv_of(&path, &[]);
    let without_number = |csv: &str| -> Vec<String> {
        csv.lines().map(|line| line.split_once(',').unwrap().1.to_owned()).collect()
    };
    assert_eq!(without_number(&csv), without_number(&expected));
    let numbers: Vec<_> = csv.lines().skip(1).map(|l| l.split(',').next().unwrap()).collect();
    assert_eq!(numbers, ["0", "1", "2", "4", "5"]);
}

#[test]
fn a_frame_that_lost_its_middle_is_broken() {
    let frames = frames(3);
    let half = frames[1].len() / 2;
    let lossy = [&frames[1][..half], &frames[1][half + 4000..]].concat();
    let ended = [&frames[1][..half], &[0x11, 0xFF, 0xD9]].concat();
    let (_directory, path) = stream(&[&frames[0], &lossy, &ended, &frames[2]]);
    let (csv, messages) = csv_of(&path, &[]);
    assert!(messages.contains("frame 2 is broken: JPEG: "), "{messages}");
    assert!(messages.contains("frame 1 is broken: JPEG: "), "{messages}");
    let numbers: Vec<_> = csv.lines().skip(1).map(|l| l.split(',').next().unwrap()).collect();
    assert_eq!(numbers, ["0", "3"]);
}

#[test]
fn garbage_is_skipped_and_counted() {
    let frames = frames(2);
    let (_directory, path) = stream(&[b"--boundary\r\n", &frames[0], b"\r\n\r\n", &frames[1]]);
    let (csv, messages) = csv_of(&path, &[]);
    assert_eq!(csv.lines().collect::<Vec<_>>(), GOLDEN.lines().take(3).collect::<Vec<_>>());
    assert!(messages.contains("16 bytes between the frames"), "{messages}");
}

#[test]
fn other_files_of_a_directory_are_ignored_and_broken_ones_counted() {
    let directory = tempfile::tempdir().unwrap();
    let put = |from: &str, to: &str| {
        fs::copy(data("images").join(from), directory.path().join(to)).unwrap();
    };
    put("cell.png", "c.PNG");
    put("chelsea.png", "B.png");
    put("rocket.jpg", "a.JPEG");
    fs::write(directory.path().join("README.md"), "not a picture").unwrap();
    fs::write(directory.path().join("b.jpg"), "not a picture either").unwrap();
    fs::write(directory.path().join("d.png"), "").unwrap();
    fs::create_dir(directory.path().join("e.png")).unwrap();
    let (csv, messages) = csv_of(directory.path(), &[]);
    // Capitals come before small letters.
    assert_eq!(
        csv,
        format!(
            "{HEADER}\n0,451,300,119.4827,48.0269,0.0000\n\
             1,640,427,60.9759,28.5007,0.0000\n3,550,660,67.9607,8.4606,0.0000\n"
        )
    );
    assert!(messages.contains("frame 2 is broken: neither a JPEG nor a PNG"), "{messages}");
    assert!(messages.contains("frame 4 is broken"), "{messages}");
    assert!(messages.contains("5, of which 2 broken"), "{messages}");
}

#[test]
fn loops_go_on_counting() {
    let frames = frames(2);
    let (_directory, path) = stream(&[&frames.concat()]);
    let (csv, _) = csv_of(&path, &["--loop", "3"]);
    let rows: Vec<Vec<&str>> = csv.lines().skip(1).map(|l| l.split(',').collect()).collect();
    let column = |i: usize| rows.iter().map(|row| row[i]).collect::<Vec<_>>();
    assert_eq!(column(0), ["0", "1", "2", "3", "4", "5"]);
    assert_eq!(column(5), ["0.0000", "0.8516", "0.8516", "0.8516", "0.8516", "0.8516"]);

    let (csv, _) = csv_of(&data("images"), &["--loop", "2"]);
    assert_eq!(csv.lines().count(), 17);
    assert!(csv.lines().last().unwrap().starts_with("15,640,427,"));
}

#[test]
fn csv_plot_and_edges_are_written() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let frames = frames(12);
    let (_stream, path) = stream(&[&frames.concat()]);
    let output = camera()
        .arg("--input")
        .arg(&path)
        .arg("--csv")
        .arg(at("out.csv"))
        .arg("--plot")
        .arg(at("out.svg"))
        .arg("--edges")
        .arg(at("made/here"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("12, of which 0 broken"));
    assert_eq!(fs::read_to_string(at("out.csv")).unwrap(), csv_of(&path, &[]).0);

    let svg = fs::read_to_string(at("out.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.matches("<polyline").count() > 2, "{svg}");

    let mut names: Vec<_> = fs::read_dir(at("made/here"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["edges-000000.png", "edges-000010.png"]);
    let picture = fs::read(at("made/here/edges-000010.png")).unwrap();
    let mut decoder = examples::picture::Decoder::new();
    let opened = decoder.open(&picture).unwrap();
    let size = opened.size();
    assert_eq!((size.width, size.height), (1280, 720));
    let mut plane = vec![0; size.pixels()];
    opened.luma_into(&mut plane).unwrap();
    assert!(plane[..1280].iter().all(|&y| y == 0), "the border is black");
    // Cut off at 255, the mean is somewhat below the one of the CSV.
    let mean = examples::stats::mean_luma(&plane);
    assert!((35.0..46.0).contains(&mean), "{mean}");
}

#[test]
fn mistakes_are_explained() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).into_os_string().into_string().unwrap();
    fs::write(at("empty"), "").unwrap();
    fs::write(at("text"), "no picture at all").unwrap();
    fs::create_dir(at("nothing")).unwrap();
    fs::write(at("nothing/notes.txt"), "text").unwrap();
    fs::write(at("broken.mjpeg"), &frames(1)[0][..5000]).unwrap();

    for (args, code, message) in [
        (vec!["--input", &at("empty")], 1, "is empty"),
        (vec!["--input", &at("empty"), "--loop", "1000000"], 1, "is empty"),
        (vec!["--input", "-"], 1, "standard input is empty"),
        (vec!["--input", &at("text")], 1, "no JPEG image in the 17 bytes of"),
        (vec!["--input", &at("missing")], 1, "No such file or directory"),
        (vec!["--input", &at("nothing")], 1, "no picture (.jpg, .jpeg or .png) in directory"),
        (vec!["--input", &at("broken.mjpeg")], 1, "none of the 1 frames"),
        (vec!["--csv", &at("missing/out.csv")], 1, "cannot create"),
        (vec!["--edges", &at("text")], 1, "cannot create directory"),
        (vec!["--workers", "1000000"], 2, "at most 64"),
        (vec!["--workers", "99999999999999999999999"], 2, "not a number of processes"),
        (vec!["--workers", "-1"], 2, "not a number of processes"),
        (vec!["--input", &at("text"), "--csv", &at("text")], 2, "--csv would overwrite"),
        (vec!["--input", &at("text"), "--plot", &at("text")], 2, "--plot would overwrite"),
        (vec!["--csv", &at("a.csv"), "--plot", &at("a.csv")], 2, "--plot would overwrite"),
        (vec!["--input", &at("nothing"), "--edges", &at("nothing")], 2, "--edges would put"),
        (vec!["--loop", "0"], 2, "--loop"),
        (vec!["--input", "-", "--loop", "2"], 2, "can be read only once"),
        (vec!["--inptu", "x"], 2, "--input"),
    ] {
        let output = run(&args);
        let messages = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {messages}");
        assert!(messages.contains(message), "{args:?}: {messages}");
        assert!(!messages.contains("panicked"), "{args:?}: {messages}");
    }
    assert_eq!(fs::read(at("text")).unwrap(), b"no picture at all");
}

#[test]
fn help_says_what_the_columns_are() {
    let output = run(["--help"]);
    assert!(output.status.success());
    for word in ["--input", "--workers", "--csv", "--plot", "--edges", "--loop", "mean_luma"] {
        assert!(stdout(&output).contains(word), "{word}");
    }
}

#[test]
fn a_reader_that_has_had_enough_is_no_error() {
    let mut camera = Running::start(
        camera()
            .args(["--csv", "-", "--loop", "1000"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    );
    let mut lines = BufReader::new(camera.0.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), HEADER);
    assert!(lines.next().unwrap().unwrap().starts_with("0,1280,720,"));
    drop(lines);
    assert_eq!(camera.exit_code(), Some(0));
    let mut messages = String::new();
    camera.0.stderr.take().unwrap().read_to_string(&mut messages).unwrap();
    assert_eq!(messages, "");
}

#[test]
fn an_interrupt_is_seen_in_what_is_no_video() {
    let mut camera = Running::start(
        camera().args(["--input", "/dev/zero"]).stdout(Stdio::piped()).stderr(Stdio::piped()),
    );
    thread::sleep(Duration::from_millis(300));
    camera.signal(Signal::SIGINT);
    let since = Instant::now();
    assert_eq!(camera.exit_code(), Some(130));
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
}

#[test]
fn an_interrupt_ends_it_in_order() {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let directory = tempfile::tempdir().unwrap();
        let (csv, plot) = (directory.path().join("out.csv"), directory.path().join("out.svg"));
        let mut camera = Running::start(
            camera()
                .args(["--loop", "100000", "--csv"])
                .arg(&csv)
                .arg("--plot")
                .arg(&plot)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped()),
        );
        wait_for("the tenth frame", || {
            fs::read_to_string(&csv).is_ok_and(|text| text.lines().count() > 10)
        });
        assert_eq!(camera.threads(), 1, "it forks, so it must not have threads");
        camera.signal(signal);
        assert_eq!(camera.exit_code(), Some(code));
        let mut summary = String::new();
        camera.0.stdout.take().unwrap().read_to_string(&mut summary).unwrap();
        assert!(summary.starts_with("interrupted"), "{summary}");
        let text = fs::read_to_string(&csv).unwrap();
        assert!(text.ends_with('\n'));
        assert!(text.lines().all(|line| line.split(',').count() == 6), "{text}");
        let lines = text.lines().count() - 1;
        assert!(summary.contains(&format!("{lines}, of which 0 broken")), "{summary}");
        assert!(fs::read_to_string(&plot).unwrap().starts_with("<svg"));
    }
}

/// A worker that is not missed any more, or that does not go on, has no part in it.
#[test]
fn an_interrupt_is_seen_without_a_worker_while_the_input_is_silent() {
    for signal in [Signal::SIGKILL, Signal::SIGSTOP] {
        let mut camera = Running::start(
            camera()
                .args(["--input", "-", "--workers", "2"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped()),
        );
        let mut workers = Vec::new();
        wait_for("the workers", || {
            workers = testkit::children_of(camera.0.id());
            workers.len() == 2
        });
        kill(Pid::from_raw(workers[1] as i32), signal).unwrap();
        camera.signal(Signal::SIGINT);
        assert_eq!(camera.exit_code(), Some(130), "{signal}");
    }
}

#[test]
fn an_interrupt_is_seen_while_the_input_is_silent() {
    let directory = tempfile::tempdir().unwrap();
    let csv = directory.path().join("out.csv");
    let mut camera = Running::start(
        camera()
            .args(["--input", "-", "--csv"])
            .arg(&csv)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped()),
    );
    let frames = frames(3);
    let mut stdin = camera.0.stdin.take().unwrap();
    stdin.write_all(&frames[0]).unwrap();
    stdin.write_all(&frames[1]).unwrap();
    stdin.write_all(&frames[2][..1000]).unwrap();
    wait_for("the second frame", || {
        fs::read_to_string(&csv).is_ok_and(|text| text.lines().count() == 3)
    });
    camera.signal(Signal::SIGINT);
    assert_eq!(camera.exit_code(), Some(130));
    let expected: Vec<_> = GOLDEN.lines().take(3).collect();
    assert_eq!(fs::read_to_string(&csv).unwrap().lines().collect::<Vec<_>>(), expected);
    drop(stdin);
}
