//! Arrays against real numpy, in both directions.
//!
//! The interpreter is `SHMRING_TEST_PYTHON`, or `python3`. Where that has no numpy the tests are
//! ignored; with `SHMRING_REQUIRE_NUMPY=1` they fail instead.

#![allow(clippy::disallowed_methods)] // Starts python.

use std::{
    env,
    fmt::Debug,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio},
    time::Duration,
};

use half::f16;
use ndarray::{Array2, ArrayD, Dimension};
use num_complex::Complex;
use shmring::{
    Error, Segment, SharedArray,
    array::{Bool, Dtype, DynArray, Element, Order, SharedArray0, SharedArray1, SharedArray2},
    block::BlockPool,
    cleanup, named,
};

const LATE: Duration = Duration::from_secs(20);

fn interpreter() -> String {
    env::var("SHMRING_TEST_PYTHON")
        .ok()
        .filter(|python| !python.is_empty())
        .unwrap_or_else(|| "python3".into())
}

/// Why there is no numpy to test against.
fn numpy_is_missing() -> Option<String> {
    if env::var_os("SHMRING_REQUIRE_NUMPY").is_some_and(|value| value != "0") {
        return None;
    }
    let python = interpreter();
    let found = Command::new(&python)
        .args(["-c", "import numpy"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match found {
        Ok(status) if status.success() => None,
        Ok(_) => Some(format!("{python} has no numpy (set SHMRING_TEST_PYTHON)")),
        Err(error) => Some(format!("{python} cannot be started: {error}")),
    }
}

/// A python that runs lines it is given, each answered by what it prints.
struct Python {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

const PRELUDE: &str = r#"
import sys, os, fcntl, struct
import numpy as np
def path(name): return f"/dev/shm/shmring.{name}.npy"
def load(name): return np.load(path(name), mmap_mode="r+")
def ofd(file, kind):
    try:
        fcntl.fcntl(file, 37, struct.pack("hhqqi4x", kind, 0, 0, 0, 0))
        return True
    except BlockingIOError:
        return False
for line in sys.stdin:
    exec(line.replace("\x1f", "\n"))
    print("\x1e", flush=True)
"#;

impl Python {
    fn start() -> Python {
        let mut process = Command::new(interpreter())
            .args(["-c", PRELUDE])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python starts");
        let input = process.stdin.take();
        let output = BufReader::new(process.stdout.take().expect("its output is a pipe"));
        Python { process, input, output }
    }

    /// Runs statements; gives what they print.
    fn run(&mut self, code: &str) -> String {
        let input = self.input.as_mut().expect("python runs");
        writeln!(input, "{}", code.replace('\n', "\u{1f}")).expect("python reads");
        let mut printed = String::new();
        loop {
            let mut line = String::new();
            let got = self.output.read_line(&mut line).expect("python prints text");
            assert!(got > 0, "python ended in: {code}");
            if line == "\u{1e}\n" {
                return printed.trim_end().to_owned();
            }
            printed.push_str(&line);
        }
    }

    fn check(&mut self, expression: &str) {
        assert_eq!(self.run(&format!("print(bool({expression}))")), "True", "{expression}");
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // Its loop ends with its input.
        drop(self.input.take());
        let _ = self.process.wait();
    }
}

/// Both directions for one type and order: `make` gives the value with this number, which numpy
/// calls `expression` of `i`.
fn both_ways<T: Element + PartialEq + Debug>(
    python: &mut Python,
    order: Order,
    make: fn(u8) -> T,
    expression: &str,
) {
    let dtype = T::DTYPE.name();
    let letter = if order == Order::C { "C" } else { "F" };
    let shape = (3, 4);
    let wanted = |from: usize| {
        Array2::from_shape_fn(shape, |(row, column)| make((from + row * 4 + column) as u8))
    };
    let numpy = |from: usize| {
        format!(
            "np.array([{expression} for i in range({from}, {from}+12)], dtype=np.{dtype})\
             .reshape(3, 4)"
        )
    };

    // Ours, seen and changed by numpy.
    let name = testkit::name("ours");
    let mut ours = SharedArray2::<T>::options().order(order).create(&name, shape).unwrap();
    ours.write().unwrap().assign(&wanted(0));
    python.run(&format!("a = load('{name}')"));
    python.check(&format!("a.dtype == np.dtype(np.{dtype}) and a.shape == (3, 4)"));
    python.check(&format!("a.flags['{letter}_CONTIGUOUS']"));
    python.check(&format!("(a == {}).all()", numpy(0)));
    python.run(&format!("a[...] = {}", numpy(5)));
    assert_eq!(*ours.read().unwrap(), *wanted(5));
    assert_eq!(ours.copy_out().unwrap(), wanted(5));
    ours.write().unwrap()[[2, 3]] = make(1);
    python.check(&format!("a[2, 3] == {}[0, 1]", numpy(0)));

    // numpy's, made by np.save and by open_memmap, opened and changed by us.
    let saved = testkit::name("saved");
    let mapped = testkit::name("mapped");
    python.run(&format!(
        "np.save(path('{saved}'), np.array({}, order='{letter}'))\n\
         b = np.lib.format.open_memmap(path('{mapped}'), mode='w+', dtype=np.{dtype}, \
         shape=(3, 4), fortran_order={})\n\
         b[...] = {}",
        numpy(7),
        if order == Order::C { "False" } else { "True" },
        numpy(7),
    ));
    for name in [&saved, &mapped] {
        let mut theirs = SharedArray2::<T>::open(name).unwrap();
        assert_eq!(theirs.order(), order, "{dtype}");
        assert_eq!(*theirs.read().unwrap(), *wanted(7), "{dtype}");
        theirs.write().unwrap().assign(&wanted(2));
        python.check(&format!("(np.load(path('{name}')) == {}).all()", numpy(2)));
        assert!(theirs.unlink().unwrap());
    }
    python.check(&format!("(b == {}).all()", numpy(2)));
}

fn every_type_and_order() {
    let mut python = Python::start();
    python.run("_ = os.umask(0o077)");
    for order in [Order::C, Order::Fortran] {
        let python = &mut python;
        both_ways(python, order, |n| Bool::from(n % 3 == 0), "i % 3 == 0");
        both_ways(python, order, |n| n as i8 - 9, "i - 9");
        both_ways(python, order, |n| i16::from(n) - 9, "i - 9");
        both_ways(python, order, |n| i32::from(n) - 9, "i - 9");
        both_ways(python, order, |n| i64::from(n) - 9, "i - 9");
        both_ways(python, order, |n| n, "i");
        both_ways(python, order, |n| u16::from(n) * 999, "i * 999");
        both_ways(python, order, |n| u32::from(n) * 99_999, "i * 99999");
        both_ways(python, order, |n| u64::from(n) << 50, "i << 50");
        both_ways(python, order, |n| f16::from_f32(f32::from(n) / 8.0), "i / 8");
        both_ways(python, order, |n| f32::from(n) / 8.0, "i / 8");
        both_ways(python, order, |n| f64::from(n) / 8.0, "i / 8");
        both_ways(python, order, |n| Complex::new(f32::from(n), -1.5), "complex(i, -1.5)");
        both_ways(python, order, |n| Complex::new(f64::from(n), -1.5), "complex(i, -1.5)");
    }
}

fn shapes_of_every_rank() {
    let mut python = Python::start();
    python.run("_ = os.umask(0o077)");
    for shape in [&[][..], &[1], &[0], &[5, 0, 2], &[2, 3, 4], &[1; 20], &[2, 1, 2, 1, 2, 1, 2]] {
        let tuple =
            format!("({})", shape.iter().map(|length| format!("{length},")).collect::<String>());
        for order in [Order::C, Order::Fortran] {
            let name = testkit::name("shape");
            let ours =
                SharedArray::<i32>::options().order(order).fill(3).create(&name, shape).unwrap();
            // numpy cannot map an array without elements, and reads it all the same.
            python.run(&format!("a = np.load(path('{name}'))"));
            python.check(&format!("a.shape == {tuple} and (a == 3).all()"));
            if !ours.is_empty() {
                python.check(&format!("load('{name}').shape == {tuple}"));
            }
            drop(ours);

            let letter = if order == Order::C { 'C' } else { 'F' };
            python.run(&format!(
                "np.save(path('{name}'), np.full({tuple}, 4, dtype='i4', order='{letter}'))"
            ));
            let theirs = DynArray::open(&name).unwrap();
            assert_eq!((theirs.dtype(), theirs.shape()), (Dtype::I32, shape));
            assert_eq!(theirs.to_f64().unwrap(), ArrayD::from_elem(shape, 4.0));
            let theirs: SharedArray<i32> = theirs.typed().unwrap();
            assert_eq!(theirs.raw_dim().slice(), shape);
            assert!(theirs.unlink().unwrap());
        }
    }
}

fn headers_are_the_same_bytes() {
    let mut python = Python::start();
    for (shape, tuple) in [(&[3, 4][..], "(3, 4)"), (&[7], "(7,)"), (&[], "()")] {
        let header = shmring::array::npy::Header {
            dtype: Dtype::F64,
            order: Order::C,
            shape: shape.to_vec(),
        };
        python.run("import io");
        python.run(&format!(
            "f = io.BytesIO(); np.save(f, np.zeros({tuple})); s = f.getvalue(); \
             n = 10 + int.from_bytes(s[8:10], 'little')"
        ));
        let ours: String = header.write().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(python.run("print(s[:n].hex())"), ours);
    }
}

/// The program that the documentation gives reads what we write.
fn frames_are_read_as_their_page_says() {
    let page = include_str!("../src/block/FRAME.md");
    let (_, rest) = page.split_once("```python\n").expect("it has a program");
    let (program, _) = rest.split_once("```").expect("which ends");
    let mut python = Python::start();
    python.run(program);

    let name = testkit::name("frames");
    let segment = Segment::options().len(1 << 20).create(&name).unwrap();
    let pool = BlockPool::options().blocks(2).block_len(4096).create_in(&segment).unwrap();
    // Where blocks lie is written in the segment; here the letters will do.
    python.run(&format!(
        "import mmap\n\
         file = open('/dev/shm/shmring.{name}.ring', 'rb')\n\
         memory = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)\n\
         def read(): return frame(memory, memory.find(b'SHMFRAME'))"
    ));
    for order in [Order::C, Order::Fortran] {
        let python = &mut python;
        frame_to_numpy(python, &pool, order, |n| Bool::from(n % 3 == 0), "i % 3 == 0");
        frame_to_numpy(python, &pool, order, |n| n as i8 - 9, "i - 9");
        frame_to_numpy(python, &pool, order, |n| i16::from(n) - 9, "i - 9");
        frame_to_numpy(python, &pool, order, |n| i32::from(n) - 9, "i - 9");
        frame_to_numpy(python, &pool, order, |n| i64::from(n) - 9, "i - 9");
        frame_to_numpy(python, &pool, order, |n| n, "i");
        frame_to_numpy(python, &pool, order, |n| u16::from(n) * 999, "i * 999");
        frame_to_numpy(python, &pool, order, |n| u32::from(n) * 99_999, "i * 99999");
        frame_to_numpy(python, &pool, order, |n| u64::from(n) << 50, "i << 50");
        frame_to_numpy(python, &pool, order, |n| f16::from_f32(f32::from(n) / 8.0), "i / 8");
        frame_to_numpy(python, &pool, order, |n| f32::from(n) / 8.0, "i / 8");
        frame_to_numpy(python, &pool, order, |n| f64::from(n) / 8.0, "i / 8");
        frame_to_numpy(
            python,
            &pool,
            order,
            |n| Complex::new(f32::from(n), -1.5),
            "complex(i, -1.5)",
        );
        frame_to_numpy(
            python,
            &pool,
            order,
            |n| Complex::new(f64::from(n), -1.5),
            "complex(i, -1.5)",
        );
    }
    for shape in [&[][..], &[7], &[5, 0, 2], &[2, 1, 2, 1, 2, 1, 2, 1]] {
        let mut loan = pool.try_loan_frame::<i32, _>(shape).unwrap();
        loan.array_mut().fill(6);
        let frame = loan.freeze();
        let tuple: String = shape.iter().map(|length| format!("{length},")).collect();
        python.check(&format!("read()[0].shape == ({tuple}) and (read()[0] == 6).all()"));
        drop(frame);
    }
}

fn frame_to_numpy<T: Element>(
    python: &mut Python,
    pool: &BlockPool,
    order: Order,
    make: fn(u8) -> T,
    expression: &str,
) {
    let dtype = T::DTYPE.name();
    let mut loan = pool.try_loan_frame::<T, _>((3, 4)).unwrap().with_order(order);
    loan.array_mut()
        .assign(&Array2::from_shape_fn((3, 4), |(row, column)| make((row * 4 + column) as u8)));
    loan.set_sequence(u64::MAX - 1);
    loan.set_time_ns(1_700_000_000_123_456_789);
    let frame = loan.freeze();
    python.run("array, number, time = read()");
    let letter = if order == Order::C { "C" } else { "F" };
    python.check(&format!(
        "array.dtype == np.dtype(np.{dtype}) and array.flags['{letter}_CONTIGUOUS']"
    ));
    python.check(&format!(
        "(array == np.array([{expression} for i in range(12)], dtype=np.{dtype}).reshape(3, 4)).all()"
    ));
    python.check("number == 2**64 - 2 and time == np.datetime64('2023-11-14T22:13:20.123456789')");
    python.run("del array");
    drop(frame);
}

fn what_cannot_be_shared_is_refused() {
    let mut python = Python::start();
    python.run("_ = os.umask(0o077)");
    for value in [
        "np.array([None])",
        "np.array(['text'])",
        "np.zeros(3, dtype='>f8')",
        "np.zeros(3, dtype=[('x', 'f4'), ('y', 'i2')])",
        "np.zeros(3, dtype='M8[s]')",
    ] {
        let name = testkit::name("refused");
        python.run(&format!("np.save(path('{name}'), {value}, allow_pickle=True)"));
        let error = DynArray::open(&name).unwrap_err();
        assert!(matches!(error, Error::NotASegment { .. }), "{value}: {error}");
        assert!(error.to_string().contains("cannot be shared"), "{value}: {error}");
        python.run(&format!("os.remove(path('{name}'))"));
    }
    // The mode is the user's own promise that nobody else writes.
    let name = testkit::name("mode");
    python.run(&format!("_ = os.umask(0o022); np.save(path('{name}'), np.zeros(3))"));
    let error = SharedArray1::<f64>::open(&name).unwrap_err();
    assert!(error.to_string().contains("its mode is 0644"), "{error}");
    python.run(&format!("os.chmod(path('{name}'), 0o600)"));
    let theirs = SharedArray1::<f64>::open(&name).unwrap();
    assert!(theirs.unlink().unwrap());
}

fn locks_of_python_exclude_our_guards() {
    let mut python = Python::start();
    let name = testkit::name("locks");
    let mut array = SharedArray2::<f32>::create(&name, (10, 10)).unwrap();
    python.run(&format!("f = open(path('{name}'), 'r+b')"));

    python.check("ofd(f, fcntl.F_WRLCK)");
    assert!(array.try_read().unwrap().is_none());
    assert!(array.try_write().unwrap().is_none());
    python.check("ofd(f, fcntl.F_RDLCK)");
    assert!(array.try_read().unwrap().is_some());
    assert!(array.try_write().unwrap().is_none());
    python.check("ofd(f, fcntl.F_UNLCK)");

    let reading = array.read().unwrap();
    python.check("not ofd(f, fcntl.F_WRLCK)");
    python.check("ofd(f, fcntl.F_RDLCK)");
    python.check("ofd(f, fcntl.F_UNLCK)");
    drop(reading);
    let writing = array.write().unwrap();
    python.check("not ofd(f, fcntl.F_RDLCK)");
    drop(writing);
    python.check("ofd(f, fcntl.F_WRLCK)");

    // A python that dies inside its lock frees it.
    python.process.kill().unwrap();
    array.write_timeout(LATE).unwrap().fill(1.0);
}

fn a_flock_of_python_says_in_use() {
    let mut python = Python::start();
    let name = testkit::name("flock");
    python.run("_ = os.umask(0o077)");
    python.run(&format!("np.save(path('{name}'), np.zeros(3)); f = open(path('{name}'), 'r+b')"));
    let path = SharedArray1::<f64>::open(&name).unwrap().path().unwrap().to_owned();
    let is_stale = || cleanup::stale().unwrap().iter().any(|stale| stale.path == path);
    assert!(is_stale());
    python.run("fcntl.flock(f, fcntl.LOCK_SH)");
    assert!(!is_stale());
    assert!(!named::remove_if_stale(&path).unwrap());
    drop(python);
    assert!(named::remove_if_stale(&path).unwrap());
}

fn python_waits_for_us_and_we_for_python() {
    let mut python = Python::start();
    let name = testkit::name("first");
    python.run("_ = os.umask(0o077)");
    // Made under another name, so that it is complete when it appears.
    python.run(&format!(
        "import threading, time\n\
         def late():\n\
         \x20   time.sleep(0.1)\n\
         \x20   np.save(path('{name}') + '.tmp.npy', np.float64(2.5))\n\
         \x20   os.rename(path('{name}') + '.tmp.npy', path('{name}'))\n\
         threading.Thread(target=late).start()"
    ));
    let theirs = SharedArray0::<f64>::open_or_wait(&name, LATE).unwrap();
    assert_eq!(theirs.read().unwrap()[()], 2.5);
    assert!(theirs.unlink().unwrap());
}

fn main() -> ExitCode {
    let missing = numpy_is_missing();
    let test = |name: &str, body: fn()| testkit::Test::new(name, body).ignore_if(missing.clone());
    testkit::run([
        test("every_type_and_order", every_type_and_order),
        test("shapes_of_every_rank", shapes_of_every_rank),
        test("headers_are_the_same_bytes", headers_are_the_same_bytes),
        test("frames_are_read_as_their_page_says", frames_are_read_as_their_page_says),
        test("what_cannot_be_shared_is_refused", what_cannot_be_shared_is_refused),
        test("locks_of_python_exclude_our_guards", locks_of_python_exclude_our_guards),
        test("a_flock_of_python_says_in_use", a_flock_of_python_says_in_use),
        test("we_wait_for_what_python_makes", python_waits_for_us_and_we_for_python),
    ])
}
