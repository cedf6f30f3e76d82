//! From the tokens of the user to those that stand for them.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{Error, Item, ItemImpl};

use crate::emit;
use crate::model::Model;
use crate::options::Options;
use crate::report::Report;

/// Expands one `#[backend(options)] item`.
pub(crate) fn backend(options: TokenStream, item: TokenStream) -> TokenStream {
    let mut report = Report::default();
    let options = Options::parse(options, &mut report);
    let emitted = parse(item.clone())
        .and_then(|block| Model::of(block, &mut report))
        .map(|model| emit::all(&model, &options))
        .unwrap_or_else(|error| {
            report.add(error);
            item
        });
    let errors = report.to_compile_errors();
    quote!(#errors #emitted)
}

fn parse(item: TokenStream) -> syn::Result<ItemImpl> {
    let name = match syn::parse2::<Item>(item)? {
        Item::Impl(block) => return Ok(block),
        Item::Struct(item) => item.ident.to_string(),
        Item::Enum(item) => item.ident.to_string(),
        _ => "Name".to_owned(),
    };
    Err(Error::new(
        Span::call_site(),
        format!(
            "#[backend] reads the handlers of a type: put it on the block `impl {name} {{ .. }}` \
             that has them"
        ),
    ))
}
