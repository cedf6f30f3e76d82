//! The code that stands for the user's impl block.

use proc_macro2::{Group, Span, TokenStream, TokenTree};
use quote::{format_ident, quote};
use syn::ext::IdentExt;
use syn::{Ident, parse_quote};

use crate::handler::{Handler, Slot};
use crate::model::Model;
use crate::options::Options;
use crate::types::{Reply, spell, without_self};

/// Everything: the block itself, the impl of `Backend`, and the calls.
pub(crate) fn all(model: &Model, options: &Options) -> TokenStream {
    let inherent = &model.inherent;
    if model.borrows {
        return quote!(#inherent);
    }
    let backend = backend(model, options);
    let calls = calls(model, options);
    quote!(#inherent #backend #calls)
}

/// The levels of lints on emitted items: what they are is not the user's doing.
fn silence() -> TokenStream {
    quote!(#[allow(
        unused,
        deprecated,
        missing_docs,
        non_snake_case,
        private_bounds,
        private_interfaces,
        unreachable_pub,
        clippy::all,
        clippy::nursery,
        clippy::pedantic,
        clippy::restriction,
        rustdoc::all
    )])
}

fn backend(model: &Model, options: &Options) -> TokenStream {
    let krate = &options.krate;
    let ty = &model.inherent.self_ty;
    let (generics, _, bounds) = model.inherent.generics.split_for_impl();
    let Model { shared, hooks, .. } = model;
    let silence = silence();
    let event = match &options.event {
        Some(event) => quote!(#event),
        None => quote!(#krate::__private::NoEvents),
    };
    let sound = || model.handlers.iter().filter(|handler| handler.sound);
    let names = sound().map(|handler| {
        let (cfg, name) = (&handler.cfg, handler.command.to_string());
        quote!(#(#cfg)* #name)
    });
    let [command, incoming, context, unknown] =
        ["command", "incoming", "context", "unknown"].map(local);
    let arms = sound().map(|handler| arm(handler, options, &incoming, &context));
    quote! {
        #(#shared)*
        impl #generics #krate::__private::Backend for #ty #bounds {
            type Event = #event;

            #silence
            const COMMANDS: &'static [&'static ::core::primitive::str] = &[#(#names),*];

            #(#hooks)*

            #silence
            fn dispatch(
                &mut self,
                #command: &::core::primitive::str,
                #incoming: #krate::__private::Incoming<'_>,
                #context: &mut #krate::__private::Context<
                    <Self as #krate::__private::Backend>::Event,
                >,
            ) -> #krate::__private::Outcome {
                match #command {
                    #(#arms)*
                    #unknown => #krate::__private::Outcome::unknown(#unknown),
                }
            }
        }
    }
}

/// The arm of `dispatch` that runs one handler.
fn arm(handler: &Handler, options: &Options, incoming: &Ident, context: &Ident) -> TokenStream {
    let krate = &options.krate;
    let Handler { cfg, method, .. } = handler;
    let name = handler.command.to_string();
    let [decoded, refused, returned] = ["decoded", "refused", "returned"].map(local);
    let places: Vec<Ident> = (0..handler.arguments().count())
        .map(|number| local(&format!("argument_{number}")))
        .collect();
    let types = handler.arguments().map(|(_, ty)| ty);
    let mut rest = places.iter();
    let passed = handler.slots.iter().map(|slot| match slot {
        Slot::Argument { .. } => {
            let place = rest.next().expect("there is a place for each argument");
            quote!(#place)
        }
        // A wrong type of context is then an error at the user's parameter.
        Slot::Context(place) => located(quote!(#context), *place),
    });
    let outcome = match &handler.reply {
        Reply::Value(_) => quote!(#krate::__private::Outcome::reply(#returned)),
        Reply::Result(_) => quote!(#krate::__private::Outcome::result(#returned)),
    };
    let arguments = quote! {
        #krate::__private::Incoming::arguments::<(#(#types,)*)>(#incoming)
    };
    // A type without serde's traits is then an error at the user's handler.
    let arguments = located(arguments, method.span());
    let outcome = located(outcome, handler.reply_span);
    quote! {
        #(#cfg)*
        #name => {
            let (#(#places,)*) = match #arguments {
                ::core::result::Result::Ok(#decoded) => #decoded,
                ::core::result::Result::Err(#refused) => return #refused,
            };
            let #returned = Self::#method(self, #(#passed),*);
            #outcome
        }
    }
}

/// The trait of calls, and its impl for the process.
fn calls(model: &Model, options: &Options) -> TokenStream {
    let krate = &options.krate;
    let ty = &model.inherent.self_ty;
    let shared = &model.shared;
    let (visibility, name) = match &options.calls {
        Some((visibility, name)) => (visibility.clone(), name),
        None => (parse_quote!(pub(crate)), &model.default_calls),
    };
    let (generics, arguments, bounds) = model.inherent.generics.split_for_impl();
    let generics = without_self(generics, ty);
    let bounds = without_self(bounds, ty);
    let silence = silence();
    let documentation = format!(
        "The commands of [`{}`], to be called on its process.\n\n\
         A call has sent nothing yet: `tell`, `wait`, `wait_timeout` or `send` do.",
        spell(ty)
    );
    let declared = model.handlers.iter().map(|handler| {
        let attributes = &handler.attributes;
        let line = (!attributes.iter().any(|a| a.path().is_ident("doc"))).then(|| {
            let line = format!("Runs `{}` in the backend.", handler.method.unraw());
            quote!(#[doc = #line])
        });
        let signature = signature(handler, model, options);
        quote!(#line #(#attributes)* #signature;)
    });
    let defined = model.handlers.iter().map(|handler| {
        let cfg = &handler.cfg;
        let signature = signature(handler, model, options);
        let body = body(handler, model, options);
        quote!(#(#cfg)* #signature { #body })
    });
    quote! {
        #(#shared)*
        #[doc = #documentation]
        #silence
        #visibility trait #name #generics #bounds {
            #(#declared)*
        }

        #(#shared)*
        #[automatically_derived]
        #silence
        impl #generics #name #arguments for #krate::__private::MessageProcess<#ty> #bounds {
            #(#defined)*
        }
    }
}

fn signature(handler: &Handler, model: &Model, options: &Options) -> TokenStream {
    let krate = &options.krate;
    let ty = &model.inherent.self_ty;
    let Handler { command, generics, .. } = handler;
    let names = handler.arguments().map(|(name, _)| name);
    let types = handler.arguments().map(|(_, given)| without_self(given, ty));
    let reply = without_self(handler.reply.seen(), ty);
    let (own, _, bounds) = generics.split_for_impl();
    quote! {
        fn #command #own (&self, #(#names: #types),*) -> #krate::__private::Call<#reply> #bounds
    }
}

fn body(handler: &Handler, model: &Model, options: &Options) -> TokenStream {
    if !handler.sound {
        return quote!(::core::unreachable!("the handler of this command does not compile"));
    }
    let krate = &options.krate;
    let ty = &model.inherent.self_ty;
    let command = handler.command.to_string();
    let names = handler.arguments().map(|(name, _)| name);
    let call = quote! {
        <#krate::__private::MessageProcess<#ty>>::call(self, #command, (#(#names,)*))
    };
    located(call, handler.method.span())
}

/// Moves tokens to where `place` is, for the compiler to point there; what they mean stays.
fn located(tokens: TokenStream, place: Span) -> TokenStream {
    tokens
        .into_iter()
        .map(|mut tree| {
            if let TokenTree::Group(group) = &tree {
                tree = Group::new(group.delimiter(), located(group.stream(), place)).into();
            }
            tree.set_span(place.resolved_at(tree.span()));
            tree
        })
        .collect()
}

/// A name that cannot meet one of the user's.
fn local(name: &str) -> Ident {
    format_ident!("{name}", span = Span::mixed_site())
}
