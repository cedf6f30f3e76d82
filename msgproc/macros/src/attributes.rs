//! Which of the user's attributes also go onto what is emitted.

use syn::punctuated::Punctuated;
use syn::{Attribute, Meta, Token, parse_quote};

/// The attributes that decide whether an item is there at all.
pub(crate) fn cfg(attributes: &[Attribute]) -> Vec<Attribute> {
    keep(attributes, &["cfg"])
}

/// The attributes of a handler that its call repeats.
pub(crate) fn of_call(attributes: &[Attribute]) -> Vec<Attribute> {
    keep(attributes, &["cfg", "doc", "deprecated"])
}

/// The attributes of the block that hold for the hooks which move out of it.
///
/// `expect` stays behind: it would have to be fulfilled in both places.
pub(crate) fn shared(attributes: &[Attribute]) -> Vec<Attribute> {
    keep(attributes, &["cfg", "allow", "warn", "deny", "forbid"])
}

fn keep(attributes: &[Attribute], names: &[&str]) -> Vec<Attribute> {
    attributes
        .iter()
        .filter_map(|attribute| {
            if names.iter().any(|name| attribute.path().is_ident(name)) {
                return Some(attribute.clone());
            }
            conditional(attribute, names)
        })
        .collect()
}

/// The part of a `cfg_attr` that is asked for.
fn conditional(attribute: &Attribute, names: &[&str]) -> Option<Attribute> {
    if !attribute.path().is_ident("cfg_attr") {
        return None;
    }
    let mut parts = attribute
        .parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)
        .ok()?
        .into_iter();
    let condition = parts.next()?;
    let kept: Vec<Meta> =
        parts.filter(|meta| names.iter().any(|name| meta.path().is_ident(name))).collect();
    (!kept.is_empty()).then(|| parse_quote!(#[cfg_attr(#condition, #(#kept),*)]))
}
