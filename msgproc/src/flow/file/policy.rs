use std::fmt;
use std::str::FromStr;

/// What is done when a node fails on an item.
///
/// In a file it is a text: `fail`, `skip`, `retry 3` or `quarantine 2`. A process that is killed is
/// replaced if all nodes in it say `retry` or `quarantine`.
///
/// # Examples
///
/// ```
/// use msgproc::flow::file::OnError;
///
/// assert_eq!("retry 3".parse(), Ok(OnError::Retry(3)));
/// assert!("retry".parse::<OnError>().is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnError {
    /// The run ends with the error.
    #[default]
    Fail,
    /// The item is left out and counted.
    Skip,
    /// It is tried again, at most so many times; then the run ends with the error.
    Retry(u32),
    /// An item at which a process died so many times, or the node failed, is put aside, and the run
    /// goes on.
    Quarantine(u32),
}

/// Why a text is not an [`OnError`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} says not what to do on an error: write \"fail\", \"skip\", \"retry 3\" or \"quarantine 2\", with a number from 1 on"
)]
pub struct OnErrorError {
    text: String,
}

impl FromStr for OnError {
    type Err = OnErrorError;

    fn from_str(text: &str) -> Result<Self, OnErrorError> {
        let words: Vec<_> = text.split_whitespace().collect();
        let times = |number: &str| number.parse().ok().filter(|&times| times > 0);
        let policy = match words[..] {
            ["fail"] => Some(OnError::Fail),
            ["skip"] => Some(OnError::Skip),
            ["retry", number] => times(number).map(OnError::Retry),
            ["quarantine", number] => times(number).map(OnError::Quarantine),
            _ => None,
        };
        policy.ok_or_else(|| OnErrorError { text: text.to_owned() })
    }
}

impl fmt::Display for OnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OnError::Fail => f.write_str("fail"),
            OnError::Skip => f.write_str("skip"),
            OnError::Retry(times) => write!(f, "retry {times}"),
            OnError::Quarantine(times) => write!(f, "quarantine {times}"),
        }
    }
}
