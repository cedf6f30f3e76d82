//! Waiting until the backend has done what it was told.

use std::{thread::sleep, time::Duration};

use msgproc::prelude::*;

struct Pinger;

#[backend]
impl Pinger {
    fn c__ping(&mut self, parameter: String) {
        println!("c__ping: got parameter {parameter} - will do some");
        sleep(Duration::from_secs(1));
        println!("c__ping: ..did that!");
    }
}

fn main() -> Result<()> {
    let mut pinger = MessageProcess::fork("my-process", |_| Pinger)?;
    println!("ping: callin backend to do some stuff");
    pinger.ping("gotcha!".into()).wait()?;
    println!("ping: backend seems to be ready");
    pinger.stop()
}
