//! What a constructor is told when it runs again.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::exit::Exit;

/// Why a backend is started again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RestartCause {
    /// Which restart this is: 1 is the first. Tries that failed count too.
    pub number: u32,
    /// How the one before ended: what the kernel says, the text of its last panic, who stopped
    /// it, its last lines. Where that one could not even be started, the one before it.
    pub exit: Exit,
    /// Who wishes it.
    pub by: RestartBy,
}

/// Who wishes that a backend is started again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RestartBy {
    /// Its policy, since it ended by itself.
    Policy,
    /// The strategy of its group, since another member ended.
    Group {
        /// The name of that member.
        because_of: String,
    },
    /// The program, by [`MessageProcess::restart`](crate::MessageProcess::restart) and the like.
    Caller,
}

impl fmt::Display for RestartCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.by {
            RestartBy::Policy => write!(f, "the one before: {}", self.exit),
            RestartBy::Group { because_of } => {
                write!(f, "{because_of:?} of its group ended; the one before: {}", self.exit)
            }
            RestartBy::Caller => write!(f, "by wish; the one before: {}", self.exit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::{How, StopStep};

    fn cause(by: RestartBy) -> RestartCause {
        let exit = Exit {
            pid: 7,
            how: How::Signal { number: 9, core: false },
            panic: Some("no film".into()),
            stopped_by: Some(StopStep::Kill),
            stdout: vec![],
            stderr: vec!["last line".into()],
        };
        RestartCause { number: 3, exit, by }
    }

    #[test]
    fn all_of_it_travels() {
        for by in
            [RestartBy::Policy, RestartBy::Group { because_of: "camera".into() }, RestartBy::Caller]
        {
            let cause = cause(by);
            let bytes = postcard::to_stdvec(&cause).unwrap();
            assert_eq!(postcard::from_bytes::<RestartCause>(&bytes).unwrap(), cause);
        }
    }

    #[test]
    fn reads_as_a_sentence() {
        let text = cause(RestartBy::Group { because_of: "camera".into() }).to_string();
        assert!(text.starts_with("\"camera\" of its group ended; the one before: killed by"));
        assert!(cause(RestartBy::Policy).to_string().contains("it panicked: no film"));
    }
}
