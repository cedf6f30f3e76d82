//! What `#[backend]` emits, run against a stand-in for msgproc.
//!
//! Warnings are errors here: emitted code must not bring any, whatever the user forbids.
#![deny(warnings, missing_docs, unreachable_pub, clippy::pedantic)]
#![allow(clippy::float_cmp, clippy::unused_self, clippy::needless_pass_by_value)]

// Without options the emitted paths begin at `::msgproc`, which is this crate here.
extern crate self as msgproc;

#[allow(dead_code, missing_docs, unreachable_pub, clippy::pedantic)]
mod facade;

use std::borrow::Cow;
use std::fmt::Display;

use msgproc_macros::backend;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use facade::__private;
use facade::{Backend, Context, Error, MessageProcess, Result};

struct Pinger {
    pings: u64,
    log: Vec<String>,
}

#[backend]
impl Pinger {
    const LIMIT: usize = 4;

    fn pre_run(&mut self, ctx: &mut Context) -> Result<()> {
        let Context { events } = ctx;
        assert!(events.is_empty());
        self.note("pre_run");
        if self.pings == 99 {
            return Err(Error::Failed { message: "no pings left".to_owned() });
        }
        Ok(())
    }

    /// Counts, and greets `parameter`.
    fn c__ping(&mut self, parameter: String) -> u64 {
        self.note(&parameter);
        self.pings += 1;
        self.pings
    }

    fn c__nothing(&mut self) {
        self.note("nothing");
    }

    pub(crate) fn c__read(&self) -> u64 {
        self.pings
    }

    fn c__divide(&mut self, a: f64, mut b: f64) -> std::result::Result<f64, String> {
        b += 0.0;
        if b == 0.0 {
            return Err(format!("{a} cannot be divided"));
        }
        Ok(a / b)
    }

    fn c__own_error(&mut self) -> Result<()> {
        self.note("own_error");
        Err(Error::BadArguments { reason: "for the sake of it".to_owned() })
    }

    fn c__two(&mut self, r#type: Cow<'_, str>, pair: (u8, Option<i64>)) -> (String, Option<i64>) {
        (format!("{}{}", r#type, pair.0), pair.1)
    }

    fn c__limit(self: &mut Pinger, values: [u8; Self::LIMIT]) -> [u8; Self::LIMIT] {
        values.map(|value| value + 1)
    }

    fn note(&mut self, text: &str) {
        self.log.push(text.to_owned());
    }

    fn post_run(&mut self, _: &mut Context) {
        self.note("post_run");
    }
}

fn pinger() -> MessageProcess<Pinger> {
    MessageProcess::start(Pinger { pings: 0, log: Vec::new() }).expect("pre_run works")
}

#[test]
fn smoke() {
    let process = pinger();
    assert_eq!(process.ping("a".into()).wait(), Ok(1));
    assert_eq!(process.ping("b".into()).wait(), Ok(2));
    assert_eq!(process.nothing().wait(), Ok(()));
    assert_eq!(process.read().wait(), Ok(2));
    assert_eq!(process.two("x".into(), (7, Some(-1))).wait(), Ok(("x7".to_owned(), Some(-1))));
    assert_eq!(process.limit([1, 2, 3, 4]).wait(), Ok([2, 3, 4, 5]));
    let (pinger, _) = process.stop();
    assert_eq!(pinger.log, ["pre_run", "a", "b", "nothing", "post_run"]);
}

#[test]
fn commands_stand_in_the_order_of_the_source() {
    assert_eq!(
        Pinger::COMMANDS,
        ["ping", "nothing", "read", "divide", "own_error", "two", "limit"]
    );
}

#[test]
fn an_error_reaches_the_caller_as_text() {
    let process = pinger();
    assert_eq!(process.divide(1.0, 4.0).wait(), Ok(0.25));
    let error = process.divide(1.0, 0.0).wait().unwrap_err();
    let message = "1 cannot be divided".to_owned();
    assert_eq!(error, Error::Failed { message });
    let error: Result<()> = process.own_error().wait();
    assert!(matches!(error, Err(Error::Failed { message }) if message.contains("for the sake")));
}

#[test]
fn an_unknown_command_is_answered() {
    let unknown = pinger().call::<_, ()>("c__ping", ()).wait().unwrap_err();
    let command = "c__ping".to_owned();
    assert_eq!(unknown, Error::Unknown { command });
}

#[test]
fn malformed_arguments_do_not_reach_the_handler() {
    let process = pinger();
    for bytes in [&[][..], &[200], &[1, b'a', b'!']] {
        let refused = process.call_bytes::<u64>("ping", bytes).wait();
        assert!(matches!(refused, Err(Error::BadArguments { .. })), "{bytes:?}");
    }
    assert_eq!(process.stop().0.pings, 0);
}

#[test]
fn pre_run_may_refuse() {
    let log = Vec::new();
    assert!(MessageProcess::start(Pinger { pings: 99, log }).is_err());
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
enum Progress {
    At(u32),
}

struct Counter;

// Arguments named like the locals of the emitted code, and a context at any place.
#[backend(event = Progress, calls = Count, crate = crate::facade)]
impl Counter {
    fn pre_run(&mut self, ctx: &mut Context<Progress>) -> Result<()> {
        ctx.emit(Progress::At(0));
        Ok(())
    }

    fn c__first(&mut self, ctx: &mut Context<Progress>, context: u32, command: u32) -> u32 {
        ctx.emit(Progress::At(context));
        context + command
    }

    fn c__middle(&self, incoming: u32, lent: &mut facade::Context<Progress>, unknown: u32) -> u32 {
        lent.emit(Progress::At(unknown));
        incoming * unknown
    }

    fn c__last(&mut self, argument_0: u32, ctx: &mut Context<Progress>) {
        ctx.emit(Progress::At(argument_0));
    }
}

#[test]
fn the_context_is_lent_and_does_not_travel() {
    let process = MessageProcess::start(Counter).expect("starts");
    assert_eq!(Count::first(&process, 1, 10).wait(), Ok(11));
    assert_eq!(process.middle(2, 3).wait(), Ok(6));
    assert_eq!(process.last(4).wait(), Ok(()));
    let (_, events) = process.stop();
    assert_eq!(events, [0, 1, 3, 4].map(Progress::At));
}

struct Wide;

#[backend]
#[allow(clippy::too_many_arguments, clippy::many_single_char_names)]
impl Wide {
    fn c__sixteen(
        &mut self,
        a: u8,
        b: u16,
        c: u32,
        d: u64,
        e: i8,
        f: i16,
        g: i32,
        h: i64,
        i: f32,
        j: f64,
        k: bool,
        l: char,
        m: String,
        n: Vec<u8>,
        o: Option<u8>,
        p: (),
    ) -> String {
        format!("{a}{b}{c}{d}{e}{f}{g}{h}{i}{j}{k}{l}{m}{n:?}{o:?}{p:?}")
    }
}

#[test]
fn sixteen_arguments_travel() {
    let text = MessageProcess::start(Wide)
        .expect("starts")
        .sixteen(1, 2, 3, 4, 5, 6, 7, 8, 9.5, 10.5, true, 'x', "y".into(), vec![1], None, ())
        .wait();
    assert_eq!(text.as_deref(), Ok("123456789.510.5truexy[1]None()"));
}

#[derive(Serialize, Deserialize, Clone)]
struct Stack<T, const N: usize> {
    items: Vec<T>,
}

trait Labelled {
    type Label: Serialize + DeserializeOwned + Display + 'static;
    fn label(&self) -> Self::Label;
}

impl Labelled for u32 {
    type Label = String;
    fn label(&self) -> String {
        format!("#{self}")
    }
}

#[backend]
impl<T: Serialize + DeserializeOwned + Clone + 'static, const N: usize> Stack<T, N>
where
    T: Labelled,
    Self: Sized,
{
    fn c__push(&mut self, item: T) -> std::result::Result<usize, String> {
        if self.items.len() == N {
            return Err("full".to_owned());
        }
        self.items.push(item);
        Ok(self.items.len())
    }

    fn c__labels(&self) -> Vec<<T as Labelled>::Label> {
        self.items.iter().map(Labelled::label).collect()
    }

    fn c__snapshot(&self) -> Self {
        self.clone()
    }

    fn c__swap(&mut self, other: Option<Self>) -> Option<Self> {
        other.map(|other| std::mem::replace(self, other))
    }
}

#[test]
fn generic_backends() {
    let process = MessageProcess::start(Stack::<u32, 2> { items: vec![1] }).expect("starts");
    assert_eq!(process.push(2).wait(), Ok(2));
    let message = "full".to_owned();
    assert_eq!(process.push(3).wait(), Err(Error::Failed { message }));
    assert_eq!(process.labels().wait(), Ok(vec!["#1".into(), "#2".into()]));
    let snapshot = process.snapshot().wait().expect("replies");
    assert_eq!(snapshot.items, [1, 2]);
    let before = process.swap(Some(Stack { items: vec![] })).wait();
    assert_eq!(before.expect("replies").map(|stack| stack.items), Some(vec![1, 2]));
}

struct Optional;

#[backend]
impl Optional {
    #[cfg(unix)]
    fn c__either(&self) -> u8 {
        1
    }

    #[cfg(not(unix))]
    fn c__either(&self, other: Missing) -> u8 {
        2
    }

    #[cfg_attr(unix, cfg(windows))]
    fn c__never(&self, other: Missing) -> Missing {
        other
    }

    #[deprecated = "says little"]
    fn c__old(&self) -> u8 {
        3
    }
}

#[test]
fn handlers_that_are_configured_out_leave_nothing_behind() {
    let process = MessageProcess::start(Optional).expect("starts");
    assert_eq!(Optional::COMMANDS, ["either", "old"]);
    assert_eq!(process.either().wait(), Ok(1));
    #[expect(deprecated)]
    let old = process.old();
    assert_eq!(old.wait(), Ok(3));
}

mod inner {
    //! A backend whose types nobody outside can name; its calls are not even used.

    use super::{Context, Result, backend};

    #[derive(serde::Serialize, serde::Deserialize)]
    pub(super) struct Hidden(u8);

    pub(super) struct Unused;

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Private(u8);

    #[backend]
    #[cfg(unix)]
    #[allow(unused_variables)]
    impl Unused {
        fn pre_run(&mut self, ctx: &mut Context) -> Result<()> {
            Ok(())
        }

        fn c__hidden(&mut self, hidden: Hidden) -> Private {
            Private(hidden.0)
        }
    }

    #[backend(calls = pub Nobody)]
    impl super::Idle {}
}

struct Idle;

#[test]
fn a_backend_without_commands() {
    assert_eq!(Idle::COMMANDS, [""; 0]);
    assert_eq!(inner::Unused::COMMANDS, ["hidden"]);
    MessageProcess::start(inner::Unused).expect("starts").stop();
}

/// Stands in for the macros of users that make backends.
macro_rules! backend_of {
    ($name:ident, $argument:ty => $reply:ty) => {
        struct $name;

        #[backend]
        impl $name {
            fn c__turn(&mut self, argument: $argument) -> $reply {
                argument.checked_add(1).ok_or("too large")
            }
        }
    };
}

backend_of!(Turner, u8 => std::result::Result<u8, &'static str>);

#[test]
fn inside_the_macro_of_a_user() {
    let process = MessageProcess::start(Turner).expect("starts");
    assert_eq!(process.turn(1).wait(), Ok(2));
    let message = "too large".to_owned();
    assert_eq!(process.turn(255).wait(), Err(Error::Failed { message }));
}
