//! The camera as a whole program: with workers, and beside programs of one process.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Instant,
};

use super::{pair::Result, stats};

const LOOPS: &str = "3";

pub(crate) fn measure(repetitions: u32) -> Result {
    println!("\nCamera, the clip {LOOPS} times, times of whole programs:");
    let camera = std::env::current_exe()?.with_file_name("camera");
    if !camera.exists() {
        println!("  not built: cargo build --release -p examples --bin camera");
        return Ok(());
    }
    let repetitions = repetitions.min(9);
    let (mut ones, mut singles, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    let (mut two_speed, mut one_cost) = (Vec::new(), Vec::new());
    for _ in 0..repetitions {
        let alone = time(&camera, &["0"])?;
        let one = time(&camera, &["1"])?;
        let two = time(&camera, &["2"])?;
        let pair = time(&camera, &["0", "0"])?;
        // Two programs side by side do twice the frames in `pair`.
        shares.push((pair / 2.0) / two);
        two_speed.push(alone / two);
        one_cost.push(one / alone);
        ones.push(alone);
        singles.push(two);
    }
    println!(
        "  --workers 0 {}, --workers 2 {} ({:.2} times as fast)",
        stats::time(stats::median(&mut ones)),
        stats::time(stats::median(&mut singles)),
        stats::median(&mut two_speed),
    );
    println!(
        "  --workers 2 reaches {:.2} of two programs side by side",
        stats::median(&mut shares)
    );
    println!(
        "  --workers 1 takes {:.2} times as long as --workers 0",
        stats::median(&mut one_cost)
    );
    Ok(())
}

/// Nanoseconds until programs that run side by side, one for each number of workers, have ended.
fn time(camera: &PathBuf, workers: &[&str]) -> Result<f64> {
    let began = Instant::now();
    let children: Vec<Child> = workers
        .iter()
        .map(|workers| {
            Command::new(camera)
                .args(["--workers", workers, "--loop", LOOPS])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
        })
        .collect::<std::io::Result<_>>()?;
    for mut child in children {
        let status = child.wait()?;
        if !status.success() {
            return Err(format!("camera ended with {status}").into());
        }
    }
    Ok(stats::nanoseconds(began.elapsed()))
}
