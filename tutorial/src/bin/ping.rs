//! One process, and one command that nobody waits for.

use msgproc::prelude::*;

struct Pinger;

#[backend]
impl Pinger {
    // Runs in the backend.
    fn c__ping(&mut self, parameter: String) {
        println!("Regards from other side of the fork!  Got parameter {parameter}");
    }
}

fn main() -> Result<()> {
    let mut pinger = MessageProcess::fork("my-process", |_| Pinger)?;
    pinger.ping("gotcha!".into()).tell()?;
    pinger.stop()
}
