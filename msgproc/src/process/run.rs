//! The life of a backend: constructor, `pre_run`, loop, `post_run`.

use std::{error::Error as StdError, sync::Arc};

use shmring::{os::monotonic, transfer::Parcel};

use super::{
    backend::{Backend, Encode, Incoming, Outcome, failure_of},
    context::{Context, Core, Due},
    options::OnPanic,
};
use crate::{
    channel::Message,
    error::{Error, Result},
    message::{self, Down, Failure, FailureKind, Up, VERSION},
    start::{
        Caught, Doing, Lane, PANICKED, Page, StopLevel, catch, give_back_blocks, remove_owned_names,
    },
};

/// Exit code of a backend whose start failed.
pub(super) const FAILED: i32 = 1;

/// Why the loop was left.
enum Left {
    /// It was asked to, or wished to.
    InOrder,
    /// The frontend is gone.
    FrontendGone,
    /// A handler panicked.
    Panicked,
}

/// Lives the life of a backend; gives its exit code. It tells its commands where the frontend may
/// be another program.
pub(super) fn live<B: Backend>(
    core: Core,
    on_panic: OnPanic,
    tell_commands: bool,
    construct: impl FnOnce() -> Result<B, Box<dyn StdError + Send + Sync>>,
) -> i32 {
    let page = core.page.clone();
    let mut ctx = Context::<B::Event>::new(core);

    page.begin(Doing::Constructor, 0);
    let mut backend = match settle(catch(&page, construct)) {
        Ok(backend) => backend,
        Err(failure) => return fail_start(&mut ctx.core, failure.at("the constructor")),
    };

    page.begin(Doing::PreRun, 0);
    let before = settle(catch(&page, || {
        backend.pre_run(&mut ctx).map_err(Box::<dyn StdError + Send + Sync>::from)
    }));
    let mut orphaned = false;
    let code = match before {
        Ok(()) => {
            page.idle();
            let commands = if tell_commands {
                postcard::to_stdvec(B::COMMANDS).unwrap_or_default()
            } else {
                Vec::new()
            };
            let ready = Up::Ready { version: VERSION };
            // A frontend that is gone by now is seen by the loop.
            let _ = ctx.core.send(&ready, &commands, &Parcel::default(), None);
            if !ctx.core.has_more_than_commands() {
                ctx.core.look_for_first();
            }
            match work(&mut backend, &mut ctx, on_panic) {
                Left::InOrder => 0,
                Left::FrontendGone => {
                    orphaned = remove_owned_names();
                    0
                }
                Left::Panicked => PANICKED,
            }
        }
        Err(failure) => fail_start(&mut ctx.core, failure.at("pre_run")),
    };

    page.begin(Doing::PostRun, 0);
    let after = catch(&page, || {
        backend.post_run(&mut ctx);
        // What it owns is its own, and is given up here.
        drop(backend);
    });
    page.idle();
    let code = match after {
        Ok(()) => code,
        Err(caught) => {
            report(&mut ctx.core, failure_from(caught).at("post_run"));
            PANICKED
        }
    };
    ctx.core.close();
    if orphaned {
        give_back_blocks(ctx.core.frontend);
    }
    code
}

fn settle<T>(
    result: Result<Result<T, Box<dyn StdError + Send + Sync>>, Caught>,
) -> Result<T, Box<Failure>> {
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(failure_of(&*error)),
        Err(caught) => Err(failure_from(caught)),
    }
}

fn failure_from(caught: Caught) -> Box<Failure> {
    let mut failure = Failure::new(FailureKind::Panicked, caught.message);
    failure.location = caught.location;
    failure.backtrace = caught.backtrace;
    failure
}

fn fail_start(core: &mut Core, failure: Box<Failure>) -> i32 {
    let code = match failure.kind {
        FailureKind::Panicked => PANICKED,
        _ => FAILED,
    };
    if let Ok(body) = postcard::to_stdvec(&failure) {
        let _ = core.send(&Up::StartFailed, &body, &Parcel::default(), None);
    }
    code
}

/// Tells the frontend that there is captured text for it, so that it need not look now and then.
fn tell_of_text(core: &mut Core) {
    let mut grown = false;
    for text in &mut core.texts {
        grown |= text.has_grown();
    }
    if grown {
        let _ = core.send(&Up::Wrote, &[], &Parcel::default(), None);
    }
}

/// Tells the frontend of a failure that nobody waits for.
fn report(core: &mut Core, failure: Box<Failure>) {
    if let Ok(body) = postcard::to_stdvec(&failure) {
        let _ = core.send(&Up::Failed, &body, &Parcel::default(), None);
    }
}

fn work<B: Backend>(backend: &mut B, ctx: &mut Context<B::Event>, on_panic: OnPanic) -> Left {
    let page = ctx.core.page.clone();
    loop {
        if ctx.core.leaving || page.stop_level() == StopLevel::Urgent {
            return Left::InOrder;
        }
        if ctx.core.gone {
            return Left::FrontendGone;
        }
        let (message, due) = match ctx.core.next() {
            Ok(next) => next,
            Err(error) => {
                eprintln!("process {:?} gives up: {error}", ctx.core.name);
                return Left::FrontendGone;
            }
        };
        for reason in std::mem::take(&mut ctx.core.malformed) {
            let failure = Failure::new(FailureKind::BadArguments, reason).at("a message");
            report(&mut ctx.core, failure);
        }
        let mut panicked = false;
        match message.map(|message| handle(backend, ctx, &page, message)) {
            None => {}
            Some(Handled::Done) => {}
            Some(Handled::Stop) => return Left::InOrder,
            Some(Handled::Panicked) => panicked = true,
        }
        panicked |= serve(backend, ctx, &page, due);
        if panicked && on_panic == OnPanic::Stop {
            return Left::Panicked;
        }
        tell_of_text(&mut ctx.core);
    }
}

enum Handled {
    Done,
    Stop,
    Panicked,
}

fn handle<B: Backend>(
    backend: &mut B,
    ctx: &mut Context<B::Event>,
    page: &Arc<Page>,
    mut message: Message,
) -> Handled {
    let parcel = std::mem::take(&mut message.parcel);
    let (call, name, wants_reply, urgent, attempt, until) =
        match postcard::take_from_bytes::<Down<'_>>(message.header()) {
            Ok((Down::Stop, [])) => return Handled::Stop,
            Ok((Down::Probe { call }, [])) => {
                let _ = ctx.core.send(&Up::Reply { call }, &[], &Parcel::default(), None);
                return Handled::Done;
            }
            Ok((Down::Command { call, name, wants_reply, urgent, attempt, until }, [])) => {
                (call, name, wants_reply, urgent, attempt, until)
            }
            _ => {
                let failure = Failure::new(FailureKind::BadArguments, "a header that is none");
                report(&mut ctx.core, failure.at("a message"));
                return Handled::Done;
            }
        };
    let lane = Lane::of(urgent);
    let number = ctx.core.inbox.number(lane);
    let refused = if page.is_cancelled(call) {
        Some(FailureKind::Cancelled)
    } else if until != 0 && monotonic() >= until {
        Some(FailureKind::Late)
    } else {
        None
    };
    if let Some(kind) = refused {
        let failure = Failure::new(kind, "it did not begin");
        answer(&mut ctx.core, call, wants_reply, Err(failure.at(name)));
        page.note_finished(lane, number);
        return Handled::Done;
    }

    let index = B::COMMANDS.iter().position(|command| *command == name);
    let doing = index.map_or(Doing::Other, |index| Doing::Command(index as u32));
    page.note_begun(lane, number);
    page.begin(doing, call);
    (ctx.core.call, ctx.core.attempt, ctx.core.until) = (call, attempt, until);
    let frontend = ctx.core.frontend;
    let incoming = Incoming::new(message.body(), parcel);
    let mut panicked = false;
    let run = || {
        let Outcome(outcome) = backend.dispatch(name, incoming, ctx);
        // Whoever waits for no reply gets none, so its value need not become bytes.
        let value = outcome?;
        let encoded = wants_reply.then(|| value.encode(format_args!("the result"), frontend));
        let encoded = encoded.transpose().map_err(|error| {
            let mut failure = failure_of(&error);
            failure.kind = FailureKind::Unsendable;
            failure
        })?;
        Ok((value, encoded))
    };
    let outcome = catch(page, run).unwrap_or_else(|caught| {
        panicked = true;
        Err(failure_from(caught))
    });
    (ctx.core.call, ctx.core.attempt, ctx.core.until) = (0, 1, 0);
    page.idle();

    let outcome = outcome.map_err(|failure| failure.at(name));
    ctx.core.reuse(message);
    answer(&mut ctx.core, call, wants_reply, outcome);
    page.note_finished(lane, number);
    if panicked { Handled::Panicked } else { Handled::Done }
}

/// A value that is kept until its bytes are sent, and those bytes.
type Encoded = (Box<dyn Encode>, Option<(Vec<u8>, Parcel)>);

#[inline]
fn answer(core: &mut Core, call: u64, wants_reply: bool, outcome: Result<Encoded, Box<Failure>>) {
    let failure = match outcome {
        Ok((_value, Some((bytes, parcel)))) => {
            match core.send(&Up::Reply { call }, &bytes, &parcel, None) {
                Ok(()) => {
                    parcel.sent();
                    return message::sent(bytes);
                }
                Err(Error::FrontendGone { .. } | Error::Stopped { .. }) => return,
                Err(error) => Failure::new(FailureKind::Unsendable, error.to_string()),
            }
        }
        Ok((_value, None)) => return,
        Err(failure) => failure,
    };
    if !wants_reply {
        return report(core, failure);
    }
    if let Ok(body) = postcard::to_stdvec(&failure) {
        let _ = core.send(&Up::ReplyFailed { call }, &body, &Parcel::default(), None);
    }
}

/// Runs the handlers of descriptors and timers; tells whether one panicked.
fn serve<B: Backend>(
    backend: &mut B,
    ctx: &mut Context<B::Event>,
    page: &Arc<Page>,
    due: Due,
) -> bool {
    let mut panicked = false;
    let ran = !due.ready.is_empty() || !due.timers.is_empty();
    for token in due.ready {
        if ctx.core.is_watched(token) {
            page.begin(Doing::Descriptor, 0);
            let result = catch(page, || backend.on_ready(token, ctx));
            panicked |= settle_quietly(&mut ctx.core, result, "on_ready");
        }
    }
    for token in due.timers {
        page.begin(Doing::Timer, 0);
        let result = catch(page, || backend.on_timer(token, ctx));
        panicked |= settle_quietly(&mut ctx.core, result, "on_timer");
    }
    if ran {
        page.idle();
    }
    panicked
}

fn settle_quietly(core: &mut Core, result: Result<Result<()>, Caught>, at: &str) -> bool {
    match result {
        Ok(Ok(())) => false,
        Ok(Err(error)) => {
            report(core, failure_of(&error).at(at));
            false
        }
        Err(caught) => {
            report(core, failure_from(caught).at(at));
            true
        }
    }
}
