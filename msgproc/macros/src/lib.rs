//! The `#[backend]` attribute of msgproc, which re-exports it: `use msgproc::prelude::*`.
//!
//! It turns the methods of a type into commands that another process can call. What it emits is
//! what one could write by hand: an impl of the trait `Backend`, and a trait of calls for the
//! frontend. See [`macro@backend`].
#![forbid(unsafe_code)]

use proc_macro::TokenStream;

mod attributes;
mod emit;
mod expand;
mod handler;
mod model;
mod options;
mod report;
#[cfg(test)]
mod tests;
mod types;

/// Makes a type the backend of a process: its `c__` methods become commands.
///
/// ```
/// # extern crate self as msgproc;
/// # mod facade {
/// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/facade/mod.rs"));
/// # }
/// # pub use facade::{Context, MessageProcess, Result, __private};
/// # use msgproc_macros::backend;
/// struct Pinger {
///     pings: u64,
/// }
///
/// #[backend]
/// impl Pinger {
///     /// Counts, and greets.
///     fn c__ping(&mut self, parameter: String) -> u64 {
///         println!("Regards from the backend, which got {parameter}");
///         self.pings += 1;
///         self.pings
///     }
/// }
///
/// # fn main() -> msgproc::Result<()> {
/// # let pinger = MessageProcess::start(Pinger { pings: 0 })?;
/// // In the frontend, where `pinger` is a `MessageProcess<Pinger>`:
/// let pings: u64 = pinger.ping("gotcha!".into()).wait()?;
/// # assert_eq!(pings, 1);
/// # Ok(())
/// # }
/// ```
///
/// # What it emits
/// For the block above, next to the block itself, which stays as it is:
/// ```text
/// impl msgproc::Backend for Pinger {
///     type Event = NoEvents;
///     const COMMANDS: &'static [&'static str] = &["ping"];
///
///     fn dispatch(&mut self, command: &str, incoming: Incoming<'_>, ctx: &mut Context) -> Outcome {
///         match command {
///             "ping" => {
///                 let (parameter,) = match incoming.arguments::<(String,)>() {
///                     Ok(arguments) => arguments,
///                     Err(outcome) => return outcome,
///                 };
///                 Outcome::reply(&self.c__ping(parameter))
///             }
///             unknown => Outcome::unknown(unknown),
///         }
///     }
/// }
///
/// pub(crate) trait PingerCalls {
///     /// Counts, and greets.
///     fn ping(&self, parameter: String) -> msgproc::Call<u64>;
/// }
///
/// impl PingerCalls for msgproc::MessageProcess<Pinger> {
///     fn ping(&self, parameter: String) -> msgproc::Call<u64> {
///         self.call("ping", (parameter,))
///     }
/// }
/// ```
/// Another module that makes calls imports the trait: `use crate::pinger::PingerCalls;`.
///
/// # Handlers
/// A handler is `fn c__name(&mut self, a: A, b: B, ..) -> R`, or the same with `&self`.
/// - Arguments and `R` are owned types with serde's `Serialize` and `Deserialize`; there are at
///   most 16 arguments.
/// - A `Vec<u8>` is serialized byte by byte, as serde has it; some kilobytes are better given as
///   `serde_bytes::ByteBuf`, which are copied at once, and megabytes as a block or an array in
///   shared memory, which are not copied at all.
/// - A parameter of type `&mut Context` (`&mut Context<E>` for a backend with events), at any
///   place, does not travel: the loop of the backend lends it.
/// - `R` left out is `()`. Of a `Result<T, E>` the caller sees `T`. An error travels as its text
///   and is the caller's error; `E` is what `?` turns into a `Box<dyn Error + Send + Sync>`,
///   strings included. A `Result` is known by its name and its type argument: an alias like
///   `io::Result<T>` is one too, while an alias without arguments is taken for a value.
/// - Documentation, `cfg` and `deprecated` go onto the call as well. Each of two handlers of one
///   name needs a `cfg`.
///
/// # Hooks
/// These methods are moved into the impl of `Backend`, and are optional:
/// - `fn pre_run(&mut self, ctx: &mut Context) -> msgproc::Result<()>` runs in the backend before
///   its loop; its error reaches whoever started the process.
/// - `fn post_run(&mut self, ctx: &mut Context)` runs after the loop, also after an error.
/// - `fn on_ready(&mut self, token: Token, ctx: &mut Context) -> msgproc::Result<()>` runs when a
///   descriptor is ready that `ctx.watch` named by the token;
/// - `fn on_timer(&mut self, token: Token, ctx: &mut Context) -> msgproc::Result<()>` runs when a
///   timer of that token is due.
///
/// All else in the block stays where it is and is not looked at. The parameters of a generic impl
/// are those of the trait of calls too; they need the bounds that let their values travel, and
/// `'static`:
/// ```
/// # extern crate self as msgproc;
/// # mod facade {
/// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/facade/mod.rs"));
/// # }
/// # pub use facade::{Context, MessageProcess, Result, __private};
/// # use msgproc_macros::backend;
/// use serde::{Serialize, de::DeserializeOwned};
///
/// struct Stack<T> {
///     items: Vec<T>,
/// }
///
/// #[backend]
/// impl<T: Serialize + DeserializeOwned + 'static> Stack<T> {
///     fn c__push(&mut self, item: T) -> usize {
///         self.items.push(item);
///         self.items.len()
///     }
/// }
/// # fn main() -> msgproc::Result<()> {
/// # let stack = MessageProcess::start(Stack { items: vec!['a'] })?;
/// # assert_eq!(stack.push('b').wait()?, 2);
/// # Ok(())
/// # }
/// ```
///
/// # Options
/// `#[backend(event = Progress, calls = pub Work, crate = my_prelude::msgproc)]`, each optional:
///
/// | option | says | unsaid |
/// |---|---|---|
/// | `event = Type` | what the backend sends up by `ctx.emit(..)` | no events |
/// | `calls = pub Name` | visibility and name of the trait of calls | `pub(crate)`, the type's name and `Calls` |
/// | `crate = path` | by what path this crate knows msgproc | `::msgproc` |
///
/// # Errors
/// All faults of a block are reported at once, each where it stands and with what to write
/// instead. Refused are:
/// - a reference as an argument or a reply (`&str`: write `String`; `&[T]`: write `Vec<T>`), also
///   inside of another type; `impl Trait`, pointers, functions;
/// - a handler that is generic, `async`, `unsafe`, `const` or `extern`, takes no `self` or takes it
///   by value, or has a pattern instead of a name for an argument;
/// - a command whose name is a keyword or that of a method of `MessageProcess`, such as `c__stop`:
///   it could never be called, for that method would hide it; and two commands of one name;
/// - `pre_run` and `post_run` with another signature;
/// - an impl of a trait, an impl that borrows (`impl<'a> Worker<'a>`), anything but an impl;
/// - an option that is unknown, without a value, or given twice.
///
/// # Lints
/// The block keeps the user's lints; only `non_snake_case` is allowed on the `c__` methods, for the
/// prefix has two underscores. What is emitted brings no warnings of its own. It allows what it
/// needs by attributes, so a crate should `deny` lints of style rather than `forbid` them.
#[proc_macro_attribute]
pub fn backend(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::backend(options.into(), item.into()).into()
}
