//! What a process is doing: the handler, by its control page, and where in the kernel, by /proc.

use std::{fmt, fs, time::Duration};

use serde::{Deserialize, Serialize};

/// What a backend is doing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Busy {
    /// The command whose handler runs, or `pre_run`, `post_run`, `a descriptor`, `a timer`.
    pub with: String,
    /// For how long.
    pub since: Duration,
    /// Where it is in the kernel, where that was looked at: it is in errors that tell of a wait in
    /// vain, and in what [`Manager::stuck`](crate::Manager::stuck) gives.
    pub kernel: Option<InKernel>,
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "in {} for {:.1?}", self.with, self.since)?;
        match &self.kernel {
            Some(kernel) => write!(f, " ({kernel})"),
            None => Ok(()),
        }
    }
}

/// Where a process is in the kernel, as far as /proc shows it to this program.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InKernel {
    /// The letter of `ps`: `R` it runs or could run, `S` it sleeps, `D` it sleeps and cannot be
    /// woken by a signal, `T` it is stopped, `t` a debugger holds it, `Z` it has ended.
    pub state: Option<char>,
    /// The function of the kernel in which it sleeps.
    pub waits_in: Option<String>,
    /// The number of the system call in which it is.
    pub syscall: Option<i64>,
    /// The functions of the kernel, the innermost first; only root may see them.
    pub stack: Vec<String>,
}

impl InKernel {
    /// Looks at the main thread of a process, which runs the handlers of a backend.
    pub(crate) fn of(pid: u32) -> Option<InKernel> {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}"));
        let state = state_of(&read("stat").ok()?);
        let words = |file| read(file).unwrap_or_default();
        Some(InKernel {
            state,
            waits_in: function_of(&words("wchan")),
            syscall: number_of(&words("syscall")),
            stack: functions_of(&words("stack")),
        })
    }
}

/// The letter after the name, which may itself have parentheses and spaces in it.
fn state_of(stat: &str) -> Option<char> {
    stat.rsplit_once(") ")?.1.chars().next()
}

/// `0` where it runs, or where that is not for us to see.
fn function_of(wchan: &str) -> Option<String> {
    let name = wchan.trim();
    (!name.is_empty() && name != "0").then(|| name.into())
}

/// `running`, `-1` where it is in no call, or the number and the arguments.
fn number_of(syscall: &str) -> Option<i64> {
    let number = syscall.split_whitespace().next()?.parse().ok()?;
    (number >= 0).then_some(number)
}

/// Lines such as `[<0>] hrtimer_nanosleep+0x8f/0x110`.
fn functions_of(stack: &str) -> Vec<String> {
    let functions = stack.lines().filter_map(|line| line.split_whitespace().nth(1));
    functions.map(|function| function.split('+').next().unwrap_or(function).into()).collect()
}

impl fmt::Display for InKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.state {
            Some('R') => "running",
            Some('S' | 'I') => "sleeping",
            Some('D') => "in uninterruptible sleep",
            Some('T') => "stopped by a signal",
            Some('t') => "held by a debugger",
            Some('Z' | 'X') => "ended",
            _ => "in a state unknown",
        })?;
        match (&self.waits_in, self.syscall) {
            (Some(function), _) => write!(f, ", in {function}"),
            (None, Some(number)) => write!(f, ", in system call {number}"),
            (None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        assert_eq!(state_of("12 (a) b (c)) S 1 12 12 0"), Some('S'));
        assert_eq!((state_of("12 (x"), state_of("")), (None, None));
        assert_eq!(function_of("futex_do_wait").as_deref(), Some("futex_do_wait"));
        assert_eq!((function_of("0"), function_of("")), (None, None));
        assert_eq!(number_of("230 0x0 0x0 0x7ff 0x0\n"), Some(230));
        assert_eq!(
            (number_of("running\n"), number_of("-1 0x7ff"), number_of("")),
            (None, None, None)
        );
        let stack = "[<0>] hrtimer_nanosleep+0x8f/0x110\n[<0>] do_syscall_64+0x5b/0x80\n";
        assert_eq!(functions_of(stack), ["hrtimer_nanosleep", "do_syscall_64"]);
    }

    #[test]
    fn looks_at_this_process() {
        let here = InKernel::of(std::process::id()).unwrap();
        assert!(here.state.is_some());
        assert_eq!(InKernel::of(u32::MAX), None);
    }

    #[test]
    fn reads_as_a_part_of_a_sentence() {
        let sleeps = InKernel { state: Some('S'), ..InKernel::default() };
        assert_eq!(sleeps.to_string(), "sleeping");
        let waits = InKernel { waits_in: Some("do_wait".into()), ..sleeps.clone() };
        assert_eq!(waits.to_string(), "sleeping, in do_wait");
        let calls = InKernel { state: Some('D'), syscall: Some(0), ..sleeps };
        assert_eq!(calls.to_string(), "in uninterruptible sleep, in system call 0");
    }
}
