use super::*;

fn read(text: impl AsRef<[u8]>) -> Result<Recording> {
    Recording::read("test.csv", text.as_ref())
}

#[track_caller]
fn fails(text: impl AsRef<[u8]>, with: &str) {
    let error = read(text).unwrap_err().to_string();
    assert!(error.contains("test.csv") && error.contains(with), "{error}");
}

#[test]
fn smoke() {
    let recording = read("timer,hr\n0,1\n10,2\n20,4.5\n").unwrap();
    assert_eq!(recording.samples(), [1.0, 2.0, 4.5]);
    assert_eq!(recording.rate(), 100.0);
    assert!((recording.duration() - 0.03).abs() < 1e-12);
}

#[test]
fn columns_are_found_by_name() {
    let text = "\u{feff}hr , place,timer\r\n\r\n7,wrist,0\r\n8,wrist,20\r\n \r\n9,wrist,40,more";
    let recording = read(text).unwrap();
    assert_eq!(recording.samples(), [7.0, 8.0, 9.0]);
    assert_eq!(recording.rate(), 50.0);
}

#[test]
fn bad_lines_are_told_by_number() {
    fails("0,1\n10,2\n", "line 1: a header with the columns timer and hr");
    fails("timer,pulse\n0,1\n", "hr is missing");
    fails("timer,hr\n0,1\n\n10\n", "line 4: hr is missing");
    fails("timer,hr\n0,1\n10,x\n", "line 3: hr is \"x\"");
    fails("timer,hr\n0,1\n10,\n", "line 3: hr is \"\"");
    fails("timer,hr\n0,NaN\n", "line 2: hr is \"NaN\"");
    fails("timer,hr\n0,1\n1e999,2\n", "line 3: timer is \"1e999\"");
    fails(b"timer,hr\n0,1\n10,\xFF\n", "line 3: invalid utf-8");
    fails("timer,hr\n0,1\n10,2\n10,3\n", "line 4: time 0.01 s does not lie after 0.01 s");
    fails("timer,hr\n0,1\n10,2\n5,3\n", "line 4: time 0.005 s");
    let long = "timer,hr\n0,1\n".to_owned() + &"0".repeat(1 << 20);
    fails(&long, "line 3: longer than 65536 bytes");
    let endless = std::io::BufReader::new(std::io::repeat(0));
    assert!(Recording::read("zeros", endless).unwrap_err().to_string().contains("line 1: longer"));
}

#[test]
fn recordings_that_are_none() {
    fails("", "0 samples");
    fails("timer,hr\n", "0 samples");
    fails("timer,hr\n0,1\n", "1 samples");
    fails("timer,hr\n0,1\n0.01,2\n0.02,3\n", "is timer in milliseconds?");
    fails("timer,hr\n0,1\n10000,2\n20000,3\n", "is timer in milliseconds?");
    let error = Recording::open("/does/not/exist.csv").unwrap_err().to_string();
    assert!(error.starts_with("cannot read /does/not/exist.csv: "), "{error}");
    assert!(Recording::new(f64::NAN, vec![]).is_err());
    assert!(Recording::new(100.0, vec![0.0, f64::INFINITY]).is_err());
}

#[test]
fn a_long_gap_is_told_and_a_short_one_bridged() {
    let line = |n: u32| format!("{},{n}\n", 10 * n);
    let with_gap = |missing: std::ops::Range<u32>| {
        let lines = (0..100).filter(|n| !missing.contains(n)).map(line);
        format!("timer,hr\n{}", lines.collect::<String>())
    };
    fails(with_gap(50..60), "line 52: 0.110 s since the sample before");
    let bridged = read(with_gap(50..59)).unwrap();
    assert!((99..=100).contains(&bridged.samples().len()));
    for (n, sample) in bridged.samples().iter().enumerate() {
        assert!((sample - n as f64).abs() < 1e-9, "sample {n} is {sample}");
    }
}

/// A straight line stays one, whatever rounding did to the times: the value at
/// each sample is its time.
#[test]
fn rounded_times_do_not_shift_the_samples() {
    let lines = (0..1000).map(|n| {
        let time = (f64::from(n) * 8.547).round();
        format!("{time},{time}\n")
    });
    let recording = read(format!("timer,hr\n{}", lines.collect::<String>())).unwrap();
    assert!((recording.rate() - 1000.0 / 9.0).abs() < 1e-9);
    assert!((recording.duration() - 8.547).abs() < 0.02, "{}", recording.duration());
    for (n, sample) in recording.samples().iter().enumerate() {
        assert!((sample - n as f64 * 9.0).abs() < 1e-6, "sample {n} is {sample}");
    }
}

#[test]
fn chunks_are_the_recording() {
    let recording = Recording::new(10.0, (0..25).map(f64::from).collect()).unwrap();
    for length in [1, 7, 25, 100] {
        let mut together = Vec::new();
        for chunk in recording.chunks(length) {
            assert_eq!(chunk.first, together.len() as u64);
            assert_eq!(chunk.rate, 10.0);
            assert!(!chunk.samples.is_empty() && chunk.samples.len() <= length);
            together.extend(chunk.samples);
        }
        assert_eq!(together, recording.samples());
    }
}
