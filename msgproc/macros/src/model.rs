//! The backend as data: what the user's impl block means, with every rule checked.

use proc_macro2::TokenStream;
use quote::{ToTokens, format_ident};
use syn::ext::IdentExt;
use syn::{
    Attribute, Error, FnArg, GenericParam, Ident, ImplItem, ImplItemFn, ItemImpl, ReturnType, Type,
    parse_quote,
};

use crate::attributes;
use crate::handler::{self, Handler};
use crate::report::Report;
use crate::types::{bare, is_context, names, spell};

/// Methods that belong to the trait.
const HOOKS: &[&str] = &["pre_run", "post_run", "on_ready", "on_timer"];

/// What the name of a handler begins with.
pub(crate) const PREFIX: &str = "c__";

/// What the user's impl block means.
pub(crate) struct Model {
    /// The block as it stays: everything but the hooks, which move.
    pub(crate) inherent: ItemImpl,
    /// The attributes of the block that the emitted items share: `cfg`, and levels of lints.
    pub(crate) shared: Vec<Attribute>,
    /// The commands in the order of the source.
    pub(crate) handlers: Vec<Handler>,
    /// `pre_run`, `post_run`, `on_ready` and `on_timer`, as they go into the impl of the trait.
    pub(crate) hooks: Vec<ImplItemFn>,
    /// The name that the trait of calls gets when the user gave none.
    pub(crate) default_calls: Ident,
    /// Whether the type borrows, and so cannot be a backend at all.
    pub(crate) borrows: bool,
}

impl Model {
    /// Reads the block. Faults go to `report`; what is left is still good enough to emit, so that
    /// one mistake does not bring a dozen more errors about missing items.
    ///
    /// # Errors
    /// When the block is not one that a backend can be made of.
    pub(crate) fn of(block: ItemImpl, report: &mut Report) -> syn::Result<Model> {
        let default_calls = check_block(&block)?;
        let borrows = check_generics(&block, report);

        let mut model = Model {
            shared: attributes::shared(&block.attrs),
            inherent: ItemImpl { items: Vec::new(), ..block.clone() },
            handlers: Vec::new(),
            hooks: Vec::new(),
            default_calls,
            borrows,
        };
        for item in block.items {
            match item {
                ImplItem::Fn(function) => model.take(function, report),
                other => model.inherent.items.push(other),
            }
        }
        Ok(model)
    }

    fn take(&mut self, mut function: ImplItemFn, report: &mut Report) {
        let name = function.sig.ident.unraw().to_string();
        if HOOKS.contains(&name.as_str()) {
            return self.take_hook(function, &name, report);
        }
        if name.starts_with(PREFIX) {
            if self.repeats(&function) {
                report.at(
                    function.sig.ident.span(),
                    format!("the command `{name}` is there twice: name one of them otherwise"),
                );
                return;
            }
            self.handlers.extend(handler::read(&function, report));
            // The prefix is ours, so its two underscores are not the user's fault.
            function.attrs.push(parse_quote!(#[allow(non_snake_case)]));
        }
        self.inherent.items.push(ImplItem::Fn(function));
    }

    /// Whether a handler of this name was there before, and no `cfg` chooses between the two.
    fn repeats(&self, function: &ImplItemFn) -> bool {
        let chosen = !attributes::cfg(&function.attrs).is_empty();
        self.handlers
            .iter()
            .any(|known| known.method == function.sig.ident && !chosen && known.cfg.is_empty())
    }

    fn take_hook(&mut self, mut hook: ImplItemFn, name: &str, report: &mut Report) {
        let advice = match name {
            "pre_run" => "fn pre_run(&mut self, ctx: &mut Context<..>) -> msgproc::Result<()>",
            "on_ready" => {
                "fn on_ready(&mut self, token: Token, ctx: &mut Context<..>) -> msgproc::Result<()>"
            }
            "on_timer" => {
                "fn on_timer(&mut self, token: Token, ctx: &mut Context<..>) -> msgproc::Result<()>"
            }
            _ => "fn post_run(&mut self, ctx: &mut Context<..>)",
        };
        match hook_fault(&hook, name) {
            None => {
                hook.vis = syn::Visibility::Inherited;
                self.hooks.push(hook);
            }
            Some((place, fault)) => {
                report.over(place, format!("{fault}: write `{advice}`"));
                self.inherent.items.push(ImplItem::Fn(hook));
            }
        }
    }
}

fn check_block(block: &ItemImpl) -> syn::Result<Ident> {
    if let Some((path, _)) = &block.trait_ {
        return Err(Error::new_spanned(
            path,
            format!(
                "#[backend] makes the impl of `Backend` itself: put it on `impl {} {{ .. }}`, \
                 not on the impl of a trait",
                spell(&block.self_ty)
            ),
        ));
    }
    if let Some(unsafety) = &block.unsafety {
        return Err(Error::new_spanned(
            unsafety,
            "a backend is made of an ordinary impl: leave `unsafe` out",
        ));
    }
    match bare(&block.self_ty) {
        Type::Path(path) if path.qself.is_none() => {
            let last = path.path.segments.last().expect("a path has a segment");
            Ok(format_ident!("{}Calls", last.ident.unraw(), span = last.ident.span()))
        }
        other => Err(Error::new_spanned(
            other,
            "#[backend] needs a type with a name: write `impl Name { .. }`",
        )),
    }
}

/// Says of each lifetime that a backend cannot have it, and whether there was one.
fn check_generics(block: &ItemImpl, report: &mut Report) -> bool {
    let before = report.count();
    for parameter in &block.generics.params {
        if let GenericParam::Lifetime(lifetime) = parameter {
            report.over(
                lifetime,
                format!(
                    "a backend lives as long as its process and cannot borrow: let its fields own \
                     their data, or write `'static` for `{}`",
                    lifetime.lifetime
                ),
            );
        }
    }
    report.count() > before
}

/// What is wrong with the signature of a hook, and where.
fn hook_fault(hook: &ImplItemFn, name: &str) -> Option<(TokenStream, String)> {
    let sig = &hook.sig;
    let fault = |place: &dyn ToTokens, message: &str| {
        Some((place.to_token_stream(), format!("`{name}` {message}")))
    };
    if let Some(asyncness) = &sig.asyncness {
        return fault(asyncness, "is an ordinary fn");
    }
    if !sig.generics.params.is_empty() {
        return fault(&sig.generics, "has no generic parameters of its own");
    }
    match sig.receiver() {
        Some(receiver) if handler::is_mutable_reference(receiver) => {}
        Some(receiver) => return fault(receiver, "takes `&mut self`"),
        None => return fault(&sig.ident, "takes `&mut self`"),
    }
    let own = if name.starts_with("on_") { 2 } else { 1 };
    if own == 2 && sig.inputs.len() < 3 {
        return fault(&sig.ident, "takes the token and the context");
    }
    let mut others = sig.inputs.iter().skip(own);
    match (others.next(), others.next()) {
        (None, _) => return fault(&sig.ident, "takes the context"),
        (Some(FnArg::Typed(only)), None) if is_context(&only.ty) => {}
        (Some(first), second) => {
            return fault(second.unwrap_or(first), "takes the context and nothing else");
        }
    }
    match (&sig.output, name) {
        (ReturnType::Type(_, ty), "pre_run") if names(ty, "Result") => None,
        (ReturnType::Type(_, ty), "pre_run") => fault(ty, "says whether the backend can run"),
        (ReturnType::Default, "pre_run") => fault(&sig.ident, "says whether the backend can run"),
        (ReturnType::Type(_, ty), "on_ready" | "on_timer") if names(ty, "Result") => None,
        (ReturnType::Type(_, ty), "on_ready" | "on_timer") => fault(ty, "gives a `Result`"),
        (ReturnType::Default, "on_ready" | "on_timer") => fault(&sig.ident, "gives a `Result`"),
        (ReturnType::Type(_, ty), _) => fault(ty, "returns nothing, for nobody is left to take it"),
        (ReturnType::Default, _) => None,
    }
}
