//! Which types can travel to another process, as far as their spelling shows it.

use proc_macro2::{Group, Spacing, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{
    AngleBracketedGenericArguments, Error, GenericArgument, PathArguments, ReturnType, Type,
    TypeReference,
};

/// What a handler gives back, and so what its caller sees.
pub(crate) enum Reply {
    /// The value itself.
    Value(Type),
    /// The `Ok` of a `Result`; its error travels as text.
    Result(Type),
}

impl Reply {
    pub(crate) fn of(output: &ReturnType) -> Reply {
        let ty = match output {
            ReturnType::Default => return Reply::Value(syn::parse_quote!(())),
            ReturnType::Type(_, ty) => bare(ty),
        };
        match result_value(ty) {
            Some(value) => Reply::Result(value.clone()),
            None => Reply::Value(ty.clone()),
        }
    }

    /// The type that the caller sees.
    pub(crate) fn seen(&self) -> &Type {
        match self {
            Reply::Value(ty) | Reply::Result(ty) => ty,
        }
    }
}

/// Removes parentheses and the invisible groups that macros leave around a type.
pub(crate) fn bare(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => bare(&group.elem),
        Type::Paren(paren) => bare(&paren.elem),
        other => other,
    }
}

/// Whether this is `&mut Context<..>`, by whatever path.
pub(crate) fn is_context(ty: &Type) -> bool {
    matches!(bare(ty), Type::Reference(r) if r.mutability.is_some() && names(&r.elem, "Context"))
}

/// Says why an argument or a reply of type `ty` cannot travel, or nothing.
///
/// Only the spelling is looked at: whether the type implements serde's traits is left to the
/// compiler, which knows.
pub(crate) fn obstacle(ty: &Type) -> Option<Error> {
    let found = |message: String| Some(Error::new_spanned(ty, message));
    match ty {
        Type::Reference(reference) => found(refuse_reference(reference)),
        Type::ImplTrait(_) => {
            found(format!("`{}` leaves open what travels: write the type itself", spell(ty)))
        }
        Type::TraitObject(_) => found(format!(
            "`{}` cannot travel to another process: write a type with serde's traits, \
             such as an enum of the cases",
            spell(ty)
        )),
        Type::Ptr(_) => found(format!(
            "`{}` means nothing in another process: send the value it points to",
            spell(ty)
        )),
        Type::FnPtr(_) => found(format!(
            "`{}` means nothing in another process: write one command for each function",
            spell(ty)
        )),
        Type::Slice(slice) => {
            found(format!("a slice cannot travel by itself: write `Vec<{}>`", spell(&slice.elem)))
        }
        Type::Never(_) => found(
            "the caller of a handler waits for its end: leave the return type out, \
             or write the type of the reply"
                .to_owned(),
        ),
        Type::Infer(_) => found("write the type in full".to_owned()),
        Type::Group(group) => obstacle(&group.elem),
        Type::Paren(paren) => obstacle(&paren.elem),
        Type::Array(array) => obstacle(&array.elem),
        Type::Tuple(tuple) => tuple.elems.iter().find_map(obstacle),
        Type::Path(path) => {
            path.path.segments.iter().find_map(|segment| match &segment.arguments {
                PathArguments::AngleBracketed(arguments) => {
                    types_of(arguments).find_map(obstacle_inside)
                }
                _ => None,
            })
        }
        _ => None,
    }
}

/// As [`obstacle`], behind a `Box<..>` and the like, where slices and traits have a place.
fn obstacle_inside(ty: &Type) -> Option<Error> {
    match bare(ty) {
        Type::Slice(slice) => obstacle(&slice.elem),
        Type::TraitObject(_) => None,
        other => obstacle(other),
    }
}

fn refuse_reference(reference: &TypeReference) -> String {
    let shown = spell(reference);
    let target = bare(&reference.elem);
    if names(target, "Context") {
        return format!("the context is lent for writing: write `&mut {}`", spell(target));
    }
    let owned = match target {
        Type::Slice(slice) => format!("Vec<{}>", spell(&slice.elem)),
        Type::TraitObject(_) | Type::ImplTrait(_) => {
            return format!(
                "`{shown}` cannot travel to another process: write a type with serde's traits, \
                 such as an enum of the cases"
            );
        }
        _ => owned_by_name(target).map_or_else(|| spell(target), str::to_owned),
    };
    format!("a reference cannot travel to another process: write `{owned}` instead of `{shown}`")
}

/// The owned type of the borrowed ones that cannot be had by value.
fn owned_by_name(ty: &Type) -> Option<&'static str> {
    [("str", "String"), ("Path", "PathBuf"), ("OsStr", "OsString"), ("CStr", "CString")]
        .into_iter()
        .find_map(|(borrowed, owned)| names(ty, borrowed).then_some(owned))
}

fn result_value(ty: &Type) -> Option<&Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last()?;
    match &last.arguments {
        PathArguments::AngleBracketed(arguments) if last.ident == "Result" => {
            types_of(arguments).next()
        }
        _ => None,
    }
}

/// Whether the last segment of a path type is `name`.
pub(crate) fn names(ty: &Type, name: &str) -> bool {
    match bare(ty) {
        Type::Path(path) => path.path.segments.last().is_some_and(|last| last.ident == name),
        _ => false,
    }
}

fn types_of(arguments: &AngleBracketedGenericArguments) -> impl Iterator<Item = &Type> {
    arguments.args.iter().filter_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    })
}

/// Puts `ty` in the place of `Self`, for signatures that move to another type's impl.
pub(crate) fn without_self(tokens: impl ToTokens, ty: &Type) -> TokenStream {
    let mut replaced = TokenStream::new();
    let mut trees = tokens.into_token_stream().into_iter().peekable();
    while let Some(tree) = trees.next() {
        match tree {
            TokenTree::Ident(ident) if ident == "Self" => {
                // Before `::` only a bracketed type may stand: `<Worker<T>>::SIZE`.
                let in_path = matches!(
                    trees.peek(),
                    Some(TokenTree::Punct(p)) if p.as_char() == ':' && p.spacing() == Spacing::Joint
                );
                replaced.extend(if in_path { quote!(<#ty>) } else { quote!(#ty) });
            }
            TokenTree::Group(group) => {
                let mut inner = Group::new(group.delimiter(), without_self(group.stream(), ty));
                inner.set_span(group.span());
                replaced.extend([TokenTree::Group(inner)]);
            }
            other => replaced.extend([other]),
        }
    }
    replaced
}

/// Spells tokens the way a person writes them.
pub(crate) fn spell(tokens: impl ToTokens) -> String {
    let mut text = tokens.to_token_stream().to_string();
    for (from, to) in [
        (" :: ", "::"),
        (":: ", "::"),
        (" < ", "<"),
        (" <", "<"),
        ("< ", "<"),
        (" >", ">"),
        (" ,", ","),
        (" ;", ";"),
        ("& ", "&"),
        (" (", "("),
        ("* ", "*"),
    ] {
        text = text.replace(from, to);
    }
    text
}
