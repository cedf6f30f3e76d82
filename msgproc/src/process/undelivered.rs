//! What becomes of commands that a dead process has left undone.

/// What becomes of the commands that a process had not handled when it ended, once it is started
/// again; chosen by [`Options::undelivered`](crate::Options::undelivered).
///
/// None is dropped in silence. One that is not sent again fails: whoever waits for its result gets
/// [`Error::PeerDied`](crate::Error::PeerDied), and a [`tell`](crate::Call::tell) comes up as
/// [`Event::Failed`](crate::Event::Failed) with
/// [`Error::Undelivered`](crate::Error::Undelivered), which has its name, and says whether it had
/// begun.
///
/// To send a command again, its arguments are kept until it is known to be done: as many as
/// [`Options::queue`](crate::Options::queue) says, 256 MiB of them; beyond that, a sender waits.
/// That includes what they refer to: a block in them is held until then. That a command is done is
/// noticed at the next use of the process, for its acknowledgement is a counter in shared memory
/// and no message. A command that carries an end of a ring cannot be sent twice, since the end went
/// with it: it fails, with that reason.
///
/// The results of what is sent again come to the handles of before: a
/// [`Reply`](crate::Reply) can be [asked](crate::Reply::try_take) and waited for
/// [with a limit](crate::Reply::wait_timeout) all the time, and awaited. A wait without a limit ends with the
/// process, since nobody but the waiting thread may be there to start the next one; its command is
/// not sent again. Where there will be no next one, since the process is given up or stopped, the
/// commands that were kept fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Undelivered {
    /// They fail.
    #[default]
    Fail,
    /// Those that had not begun are sent to the replacement, in their order. One that was being
    /// handled fails, for it may have done a part of its work.
    Redeliver,
    /// The one that was being handled is sent again too, before the others of its lane. So a
    /// command may run more than once: its handler sees that by
    /// [`Context::attempt`](crate::Context::attempt).
    AtLeastOnce {
        /// How often a command may begin in all. One that has ended so many processes fails.
        attempts: u32,
    },
}

impl Undelivered {
    /// Whether commands are kept until they are done.
    pub(super) fn keeps(self) -> bool {
        self != Undelivered::Fail
    }

    /// Whether a command that has begun so many times, perhaps just now, is sent again.
    pub(super) fn sends_again(self, began_now: bool, attempts: u32) -> bool {
        match self {
            Undelivered::Fail => false,
            Undelivered::Redeliver => !began_now,
            Undelivered::AtLeastOnce { attempts: most } => !began_now || attempts < most,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_policy_has_its_commands() {
        let twice = Undelivered::AtLeastOnce { attempts: 2 };
        for (policy, waiting, first, second) in [
            (Undelivered::Fail, false, false, false),
            (Undelivered::Redeliver, true, false, false),
            (twice, true, true, false),
        ] {
            assert_eq!(policy.sends_again(false, 1), waiting, "{policy:?}");
            assert_eq!(policy.sends_again(true, 1), first, "{policy:?}");
            assert_eq!(policy.sends_again(true, 2), second, "{policy:?}");
            assert_eq!(policy.keeps(), waiting);
        }
    }
}
