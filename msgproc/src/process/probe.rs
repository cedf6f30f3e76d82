//! Asking a backend for a sign of life.

use std::time::{Duration, Instant};

use shmring::transfer::Parcel;

use super::{
    backend::Backend,
    frontend::MessageProcess,
    link::{Link, Wait},
};
use crate::{
    deadline,
    error::{Error, Result},
    message::Down,
};

impl<B: Backend> MessageProcess<B> {
    /// Asks the backend for a sign of life, and gives how long that took. It answers between two
    /// handlers, before all calls that wait: so this is how long its present handler still runs,
    /// and the way there and back.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], which says what it is doing; [`Error::PeerDied`], [`Error::Stopped`].
    pub fn round_trip(&self, timeout: Duration) -> Result<Duration> {
        let link = self.link();
        link.check_ours()?;
        let since = Instant::now();
        let until = deadline::after(since, timeout);
        let call = link.number_call(true);
        let answered = link.probe(call, until).and_then(|()| {
            let answer = link.wait(until, Wait::Message, |state| Link::take_reply(state, call));
            answer.map_err(|unmet| link.explain(unmet, "give a sign of life", since))?
        });
        match answered {
            Ok(_) => Ok(since.elapsed()),
            Err(error) => {
                link.forget(call);
                Err(error)
            }
        }
    }
}

impl Link {
    fn probe(&self, call: u64, until: Option<Instant>) -> Result<()> {
        let header = postcard::to_stdvec(&Down::Probe { call }).map_err(Error::other)?;
        self.page.announce_urgent();
        let sent = self.send(&header, &[], &Parcel::default(), until, "give a sign of life");
        sent.inspect_err(|_| self.page.denounce_urgent())
    }
}
