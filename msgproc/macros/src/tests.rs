//! Tests on tokens: what the model makes of a block, and the words of its errors.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use proc_macro2::TokenStream;
use quote::quote;
use syn::{ImplItem, Item, Type, parse_quote};

use crate::expand;
use crate::handler::{Handler, OF_THE_PRELUDE, RESERVED, Slot};
use crate::model::Model;
use crate::options::Options;
use crate::report::Report;
use crate::types::{Reply, names, obstacle, spell, without_self};

/// The model of a block without faults.
fn model(block: TokenStream) -> Model {
    let (model, report) = read(block);
    assert_eq!(report.to_compile_errors().to_string(), "");
    model
}

fn read(block: TokenStream) -> (Model, Report) {
    let mut report = Report::default();
    let block = syn::parse2(block).expect("an impl block");
    let model = Model::of(block, &mut report).expect("a block for a backend");
    (model, report)
}

fn handler(function: TokenStream) -> Handler {
    let mut model = model(quote!(impl Worker { #function }));
    model.handlers.remove(0)
}

fn options(tokens: TokenStream) -> Options {
    let mut report = Report::default();
    let options = Options::parse(tokens, &mut report);
    assert_eq!(report.count(), 0);
    options
}

fn fault(ty: Type) -> String {
    obstacle(&ty).map_or_else(String::new, |error| error.to_string())
}

#[test]
fn items_go_where_they_belong() {
    let model = model(quote! {
        #[cfg(unix)]
        #[doc = "A worker."]
        impl crate::Worker {
            const SIZE: usize = 1;
            pub fn pre_run(&mut self, ctx: &mut Context) -> Result<()> { Ok(()) }
            fn c__ping(&mut self) {}
            fn post_run(&mut self, _: &mut msgproc::Context<Event>) {}
            fn helper(&self) {}
            fn new() -> Self { Self }
        }
    });
    let kept: Vec<String> = model
        .inherent
        .items
        .iter()
        .map(|item| match item {
            ImplItem::Fn(function) => function.sig.ident.to_string(),
            ImplItem::Const(constant) => constant.ident.to_string(),
            _ => unreachable!("nothing else is in the block"),
        })
        .collect();
    assert_eq!(kept, ["SIZE", "c__ping", "helper", "new"]);
    let hooks: Vec<String> = model.hooks.iter().map(|f| f.sig.ident.to_string()).collect();
    assert_eq!(hooks, ["pre_run", "post_run"]);
    assert!(model.hooks.iter().all(|f| matches!(f.vis, syn::Visibility::Inherited)));
    assert_eq!(model.default_calls, "WorkerCalls");
    assert_eq!(model.shared.len(), 1, "the cfg, not the documentation");
}

#[test]
fn slots_tell_the_context_from_arguments() {
    let handler = handler(quote! {
        fn c__run(&self, a: u8, c: &mut msgproc::Context<Event>, mut b: Context) {}
    });
    let kinds: Vec<bool> =
        handler.slots.iter().map(|slot| matches!(slot, Slot::Context(_))).collect();
    assert_eq!(kinds, [false, true, false]);
    let names: Vec<String> = handler.arguments().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn replies_are_told_by_their_spelling() {
    for (output, is_result, seen) in [
        (quote!(), false, "()"),
        (quote!(-> u64), false, "u64"),
        (quote!(-> Result<u64>), true, "u64"),
        (quote!(-> std::result::Result<Vec<u8>, &'static str>), true, "Vec<u8>"),
        (quote!(-> (Result<(), E>)), true, "()"),
        (quote!(-> Option<Result<u8, String>>), false, "Option<Result<u8, String>>"),
        (quote!(-> fmt::Result), false, "fmt::Result"),
    ] {
        let reply = handler(quote!(fn c__run(&self) #output {})).reply;
        assert_eq!(matches!(reply, Reply::Result(_)), is_result, "{output}");
        assert_eq!(spell(reply.seen()), seen);
    }
}

#[test]
fn call_attributes() {
    let handler = handler(quote! {
        #[doc = "Runs."]
        #[inline]
        #[deprecated]
        #[cfg_attr(feature = "a", cfg(feature = "b"), inline)]
        #[cfg_attr(feature = "a", inline)]
        fn c__run(&self) {}
    });
    let shown: Vec<String> = handler.attributes.iter().map(spell).collect();
    assert_eq!(handler.attributes.len(), 3, "{shown:?}");
    assert_eq!(handler.cfg.len(), 1);
    assert!(shown[2].contains("cfg(feature = \"b\")"), "{shown:?}");
    assert!(!shown[2].contains("inline"), "{shown:?}");
}

#[test]
fn types_that_travel() {
    for ty in [
        parse_quote!(u8),
        parse_quote!((String, Vec<[f64; 3]>)),
        parse_quote!(Cow<'static, str>),
        parse_quote!(Box<[u8]>),
        parse_quote!(<T as Labelled>::Label),
        parse_quote!(()),
    ] {
        assert_eq!(fault(ty), "");
    }
}

#[test]
fn owned_types_are_named() {
    for (ty, advice) in [
        (parse_quote!(&str), "`String` instead of `&str`"),
        (parse_quote!(&'a mut [Vec<u8>]), "`Vec<Vec<u8>>`"),
        (parse_quote!(&std::ffi::CStr), "`CString`"),
        (parse_quote!(&HashMap<String, u8>), "`HashMap<String, u8>`"),
        (parse_quote!([u8]), "`Vec<u8>`"),
        (parse_quote!(Option<(u8, &OsStr)>), "`OsString`"),
        (parse_quote!([&str; 2]), "`String`"),
        (parse_quote!(&Context<Event>), "`&mut Context<Event>`"),
        (parse_quote!(Box<impl Fn()>), "write the type itself"),
    ] {
        let message = fault(ty);
        assert!(message.contains(advice), "{message} should say {advice}");
    }
}

#[test]
fn self_is_replaced_in_every_position() {
    let ty: Type = parse_quote!(Worker<T>);
    for (from, to) in [
        (quote!(Vec<Self>), quote!(Vec<Worker<T>>)),
        (quote!([u8; Self::SIZE]), quote!([u8; <Worker<T>>::SIZE])),
        (quote!(where Self: Sized), quote!(where Worker<T>: Sized)),
        (quote!(Itself), quote!(Itself)),
    ] {
        assert_eq!(spell(without_self(from, &ty)), spell(to));
    }
}

#[test]
fn options_have_defaults() {
    let none = options(quote!());
    assert!(none.event.is_none() && none.calls.is_none());
    assert_eq!(spell(&none.krate).trim(), "::msgproc");
    let all = options(quote!(calls = pub(super) Work, event = Map<K, V>, crate = self::m,));
    assert_eq!(spell(all.event).as_str(), "Map<K, V>");
    let (visibility, name) = all.calls.expect("given");
    assert_eq!(spell(visibility), "pub(super)");
    assert_eq!(name, "Work");
    let unsaid = options(quote!(calls = Work)).calls.expect("given").0;
    assert_eq!(spell(unsaid), "pub(crate)");
}

#[test]
fn reserved_names_are_sorted_and_refused() {
    assert!(RESERVED.is_sorted());
    for name in RESERVED.iter().chain(OF_THE_PRELUDE) {
        let method = quote::format_ident!("c__{name}");
        let (model, report) = read(quote!(impl Worker { fn #method(&self) {} }));
        assert_eq!((report.count(), model.handlers.len()), (1, 0), "{name}");
    }
}

/// The list of reserved names and the methods of `MessageProcess` are two sources of one truth.
#[test]
fn reserved_names_are_the_methods_of_message_process() {
    let mut methods = BTreeSet::new();
    collect_methods(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../src"), &mut methods);
    // A packaged copy of this crate stands alone.
    if !methods.is_empty() {
        let reserved: BTreeSet<String> = RESERVED.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(reserved, methods, "RESERVED should be {methods:#?}");
    }
}

/// Adds the public methods of `impl MessageProcess<..>` in all files below `directory`.
fn collect_methods(directory: &Path, methods: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for path in entries.map(|entry| entry.expect("the directory can be read").path()) {
        if path.is_dir() {
            collect_methods(&path, methods);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source file can be read");
            let file = syn::parse_file(&text).expect("a source file parses");
            file.items.iter().for_each(|item| add_methods(item, methods));
        }
    }
}

fn add_methods(item: &Item, methods: &mut BTreeSet<String>) {
    match item {
        Item::Impl(block) if block.trait_.is_none() && names(&block.self_ty, "MessageProcess") => {
            for item in &block.items {
                let ImplItem::Fn(function) = item else {
                    continue;
                };
                let public = matches!(function.vis, syn::Visibility::Public(_));
                if public && function.sig.receiver().is_some() {
                    methods.insert(function.sig.ident.to_string());
                }
            }
        }
        Item::Mod(module) => {
            let items = module.content.iter().flat_map(|(_, items)| items);
            items.for_each(|item| add_methods(item, methods));
        }
        _ => {}
    }
}

#[test]
fn all_faults_of_a_block_are_reported_and_the_sound_part_is_emitted() {
    let emitted = expand::backend(
        quote!(verbose),
        quote! {
            impl Worker {
                fn c__stop(&self) {}
                async fn c__a(self, (x, y): (u8, &str)) -> &str { "" }
                fn c__good(&mut self) {}
                fn pre_run() {}
            }
        },
    );
    let file: syn::File = syn::parse2(emitted).expect("the emitted code is code");
    let errors = |item: &&Item| matches!(item, Item::Macro(_));
    // The option; `c__stop`; async, self, pattern, two references; `pre_run`.
    assert_eq!(file.items.iter().filter(errors).count(), 8);
    let rest: Vec<String> = file.items.iter().filter(|item| !errors(item)).map(spell).collect();
    assert_eq!(rest.len(), 4, "the block, the backend, the calls and their impl: {rest:#?}");
    assert!(rest[0].contains("c__stop") && rest[0].contains("async fn c__a"));
    assert!(rest[1].contains("[\"good\"]"), "{}", rest[1]);
}

#[test]
fn what_is_no_backend_stays_as_it_was() {
    for item in [
        quote!(
            struct Worker;
        ),
        quote!(impl Clone for Worker { fn clone(&self) -> Self { Worker } }),
        quote!(impl [u8] { fn c__a(&self) {} }),
        quote!(
            fn worker() {}
        ),
    ] {
        let emitted = expand::backend(quote!(), item.clone()).to_string();
        assert!(emitted.contains("compile_error"), "{emitted}");
        assert!(emitted.ends_with(&item.to_string()), "{emitted}");
    }
}
