//! A shared library that starts processes, as a plug-in or an extension module does.
//!
//! Its code is not part of the program that has loaded it. A fork has it all the same; a process
//! that executes the program anew would not, so there it is refused, and said what to do instead.

#![allow(unsafe_code)] // Names that are found by dlsym.

use msgproc::{Error, ForkServer, prelude::*};

struct Worker;

#[backend]
impl Worker {
    fn c__answer(&mut self) -> u8 {
        7
    }
}

fn is_refused<T>(started: msgproc::Result<T>) -> bool {
    match started {
        Err(error @ Error::NotMainProgram { .. }) => {
            let said = error.to_string();
            said.contains("shared library") && said.contains("`fork`") && said.contains("`exec`")
        }
        _ => false,
    }
}

/// Whether a spawn is refused, with the reason.
// SAFETY: no other library here has this name.
#[unsafe(no_mangle)]
pub extern "C" fn spawn_is_refused() -> bool {
    is_refused(MessageProcess::spawn("plugin", (), |(), _| Worker))
}

/// Whether a fork server is refused, with the reason.
// SAFETY: as above.
#[unsafe(no_mangle)]
pub extern "C" fn fork_server_is_refused() -> bool {
    is_refused(ForkServer::start()) && is_refused(ForkServer::options().preload(|| ()).start())
}

/// Whether a backend that is a fork answers and stops in order.
// SAFETY: as above.
#[unsafe(no_mangle)]
pub extern "C" fn fork_works() -> bool {
    let live = || -> msgproc::Result<u8> {
        let mut process = MessageProcess::fork("plugin", |_| Worker)?;
        let answer = process.answer().wait()?;
        process.stop()?;
        Ok(answer)
    };
    live().is_ok_and(|answer| answer == 7)
}
