//! One `c__` method as data.

use proc_macro2::Span;
use quote::format_ident;
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{
    Attribute, FnArg, Generics, Ident, ImplItemFn, Pat, PatType, Receiver, ReceiverKind,
    ReturnType, Type,
};

use crate::attributes;
use crate::model::PREFIX;
use crate::report::Report;
use crate::types::{Reply, bare, is_context, obstacle};

/// Methods of `MessageProcess` itself. An inherent method goes before one of a trait, so a command
/// of the same name could never be called. A test holds this list against the source of msgproc.
pub(crate) const RESERVED: &[&str] = &[
    "busy",
    "call",
    "exit",
    "is_alive",
    "name",
    "next_event",
    "pid",
    "request_stop",
    "restart",
    "restarts",
    "round_trip",
    "stop",
    "stop_with",
    "try_event",
];

/// Methods by value that every type has from the prelude; they too go before one by reference.
pub(crate) const OF_THE_PRELUDE: &[&str] = &["into", "try_into"];

/// How many arguments a command may have: serde's tuples end there.
const MOST_ARGUMENTS: usize = 16;

/// One command.
pub(crate) struct Handler {
    /// The method, `c__ping`.
    pub(crate) method: Ident,
    /// The command, `ping`, placed where the method stands.
    pub(crate) command: Ident,
    /// Its `cfg` attributes.
    pub(crate) cfg: Vec<Attribute>,
    /// What its call repeats: `cfg`, documentation, `deprecated`.
    pub(crate) attributes: Vec<Attribute>,
    /// Its parameters after `self`.
    pub(crate) slots: Vec<Slot>,
    /// What it gives back.
    pub(crate) reply: Reply,
    /// Where that is written; the name of the method if it gives nothing back.
    pub(crate) reply_span: Span,
    /// Its own generic parameters: none in a sound handler.
    pub(crate) generics: Generics,
    /// Whether no fault was found. A faulty one still gets a call, so that its uses are no errors.
    pub(crate) sound: bool,
}

/// One parameter of a handler.
pub(crate) enum Slot {
    /// It travels from the caller.
    Argument {
        /// Its name.
        name: Ident,
        /// Its type, as written.
        ty: Box<Type>,
    },
    /// It is lent by the loop of the backend. The span is that of its type.
    Context(Span),
}

impl Handler {
    /// The parameters that travel.
    pub(crate) fn arguments(&self) -> impl Iterator<Item = (&Ident, &Type)> {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Argument { name, ty } => Some((name, &**ty)),
            Slot::Context(_) => None,
        })
    }
}

/// Reads one `c__` method; nothing comes back when not even a call can be made of it.
pub(crate) fn read(function: &ImplItemFn, report: &mut Report) -> Option<Handler> {
    let faults = report.count();
    let method = function.sig.ident.clone();
    let command = command(&method, report);
    check_kind(function, report);
    check_receiver(function, report);
    let slots = slots(function, report);
    let reply = Reply::of(&function.sig.output);
    let unclear = obstacle(reply.seen());
    let has_reply = unclear.is_none();
    if let Some(error) = unclear {
        report.add(error);
    }
    Some(Handler {
        command: command.filter(|_| has_reply)?,
        cfg: attributes::cfg(&function.attrs),
        attributes: attributes::of_call(&function.attrs),
        slots,
        reply,
        reply_span: match &function.sig.output {
            ReturnType::Default => method.span(),
            ReturnType::Type(_, ty) => ty.span(),
        },
        generics: function.sig.generics.clone(),
        sound: report.count() == faults,
        method,
    })
}

/// Whether the receiver is `&mut self`, however it is written.
pub(crate) fn is_mutable_reference(receiver: &Receiver) -> bool {
    match &receiver.kind {
        ReceiverKind::Reference(_, _, mutability) => mutability.is_some(),
        ReceiverKind::Typed(_, ty) => {
            matches!(bare(ty), Type::Reference(reference) if reference.mutability.is_some())
        }
        _ => false,
    }
}

fn command(method: &Ident, report: &mut Report) -> Option<Ident> {
    let whole = method.unraw().to_string();
    let name = whole.strip_prefix(PREFIX).unwrap_or(&whole);
    let mut refuse = |message: String| {
        report.at(method.span(), message);
        None
    };
    if name.is_empty() {
        return refuse("the command has no name: write one after `c__`, such as `c__ping`".into());
    }
    if RESERVED.contains(&name) || OF_THE_PRELUDE.contains(&name) {
        return refuse(format!(
            "`MessageProcess` has a method `{name}` of its own, which would hide this command: \
             choose another name, such as `c__do_{name}`"
        ));
    }
    // `gen` is a keyword since the edition of 2024, which the parser does not know.
    match syn::parse_str::<Ident>(name) {
        Ok(_) if name != "gen" => Some(format_ident!("{name}", span = method.span())),
        _ if name.starts_with(|c: char| c.is_ascii_digit()) => refuse(format!(
            "`{name}` cannot be the name of a method: let it begin with a letter, \
             such as `c__do_{name}`"
        )),
        _ => refuse(format!(
            "`{name}` is a keyword of Rust and cannot be called: choose another name, \
             such as `c__do_{name}`"
        )),
    }
}

/// A handler is an ordinary fn: no other kind can be run by name in the loop of the backend.
fn check_kind(function: &ImplItemFn, report: &mut Report) {
    let sig = &function.sig;
    if let Some(asyncness) = &sig.asyncness {
        report.over(
            asyncness,
            "a handler is an ordinary fn: leave `async` out; a backend that waits for several \
             things watches their descriptors and timers in its context",
        );
    }
    if let Some(constness) = &sig.constness {
        report.over(constness, "a handler is an ordinary fn: leave `const` out");
    }
    if let syn::Safety::Unsafe(unsafety) = &sig.safety {
        report.over(
            unsafety,
            "a handler is called by safe code in another process: leave `unsafe` out",
        );
    }
    if let Some(abi) = &sig.abi {
        report.over(abi, "a handler is an ordinary fn: leave `extern` out");
    }
    if !sig.generics.params.is_empty() {
        report.over(
            &sig.generics,
            "a command is one function, chosen by its name: write the types in full, \
             or put the parameters on the impl",
        );
    } else if let Some(clause) = &sig.generics.where_clause {
        report.over(clause, "a handler has no bounds of its own: put them on the impl");
    }
}

fn check_receiver(function: &ImplItemFn, report: &mut Report) {
    const ADVICE: &str = "write `&mut self`, or `&self`, as its first parameter";
    let Some(receiver) = function.sig.receiver() else {
        let message = format!("a handler works on the backend's value: {ADVICE}");
        return report.at(function.sig.ident.span(), message);
    };
    let lent = match &receiver.kind {
        ReceiverKind::Reference(..) => true,
        ReceiverKind::Typed(_, ty) => matches!(bare(ty), Type::Reference(_)),
        _ => false,
    };
    if !lent {
        let message = format!("the backend's value outlives the command: {ADVICE}");
        report.over(receiver, message);
    }
}

fn slots(function: &ImplItemFn, report: &mut Report) -> Vec<Slot> {
    let mut slots = Vec::new();
    let mut has_context = false;
    let mut travelling = 0;
    for input in &function.sig.inputs {
        let FnArg::Typed(parameter) = input else {
            continue;
        };
        if is_context(&parameter.ty) {
            if has_context {
                report.over(&parameter.ty, "there is one context: leave the second one out");
            }
            has_context = true;
            slots.push(Slot::Context(parameter.ty.span()));
            continue;
        }
        travelling += 1;
        if travelling == MOST_ARGUMENTS + 1 {
            report.over(
                parameter,
                format!(
                    "a command has at most {MOST_ARGUMENTS} arguments: put them into a struct \
                     with serde's derives"
                ),
            );
        }
        slots.push(argument(parameter, travelling, report));
    }
    slots
}

fn argument(parameter: &PatType, number: usize, report: &mut Report) -> Slot {
    if let Some(conditional) = attributes::cfg(&parameter.attrs).first() {
        report.over(
            conditional,
            "a command has the same arguments on both sides: put the `cfg` on the handler",
        );
    }
    if let Some(error) = obstacle(&parameter.ty) {
        report.add(error);
    }
    let name = match &*parameter.pat {
        Pat::Ident(plain) if plain.by_ref.is_none() && plain.subpat.is_none() => {
            plain.ident.clone()
        }
        other => {
            report.over(
                other,
                "the caller sees the names of the arguments: write a plain name here, and take \
                 the value apart in the body",
            );
            format_ident!("argument_{number}", span = Span::mixed_site())
        }
    };
    Slot::Argument { name, ty: parameter.ty.clone() }
}
