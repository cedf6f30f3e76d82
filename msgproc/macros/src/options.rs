//! What stands in the brackets of `#[backend(..)]`.

use proc_macro2::{TokenStream, TokenTree};
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::{Error, Ident, Path, Token, Type, Visibility, parse_quote};

use crate::report::Report;

const KNOWN: &str = "`event = Type`, `calls = pub Name` and `crate = path`";

/// The options of one `#[backend]`, with the defaults filled in.
pub(crate) struct Options {
    /// The type of the events, if the backend sends any.
    pub(crate) event: Option<Type>,
    /// Visibility and name of the trait of calls, if the user chose them.
    pub(crate) calls: Option<(Visibility, Ident)>,
    /// The path under which msgproc is known to the user's crate.
    pub(crate) krate: Path,
}

impl Options {
    /// Reads the options; what cannot be read is reported and left at its default.
    pub(crate) fn parse(tokens: TokenStream, report: &mut Report) -> Options {
        let mut options = Options { event: None, calls: None, krate: parse_quote!(::msgproc) };
        let parsed = (|input: ParseStream<'_>| read(input, &mut options, report)).parse2(tokens);
        if let Err(error) = parsed {
            report.add(error);
        }
        options
    }
}

fn read(input: ParseStream<'_>, options: &mut Options, report: &mut Report) -> syn::Result<()> {
    let mut seen: Vec<String> = Vec::new();
    while !input.is_empty() {
        let Ok(name) = Ident::parse_any(input) else {
            return Err(input.error(format!("expected an option: {KNOWN}")));
        };
        let key = name.to_string();
        if !matches!(key.as_str(), "event" | "calls" | "crate") {
            report.at(
                name.span(),
                format!("`{key}` is not an option of #[backend]: it knows {KNOWN}"),
            );
            skip_to_comma(input)?;
        } else if seen.contains(&key) {
            report.at(name.span(), format!("the option `{key}` is given twice: keep one of them"));
            skip_to_comma(input)?;
        } else {
            value(input, &name, &key, options)?;
        }
        seen.push(key);
        if !input.is_empty() {
            input.parse::<Token![,]>()?;
        }
    }
    Ok(())
}

fn value(
    input: ParseStream<'_>,
    name: &Ident,
    key: &str,
    options: &mut Options,
) -> syn::Result<()> {
    let advice = match key {
        "event" => "write `event = Type`, where `Type` is what the backend sends up",
        "calls" => {
            "write `calls = Name` or `calls = pub Name`, where `Name` is the trait of calls to make"
        }
        _ => "write `crate = path`, where `path` is how this crate names msgproc",
    };
    let explain = |_: Error| Error::new(name.span(), advice);
    input.parse::<Token![=]>().map_err(explain)?;
    match key {
        "event" => options.event = Some(input.parse().map_err(explain)?),
        "calls" => {
            let visibility = match input.parse().map_err(explain)? {
                Visibility::Inherited => parse_quote!(pub(crate)),
                given => given,
            };
            options.calls = Some((visibility, input.parse().map_err(explain)?));
        }
        _ => options.krate = input.call(Path::parse_mod_style).map_err(explain)?,
    }
    Ok(())
}

fn skip_to_comma(input: ParseStream<'_>) -> syn::Result<()> {
    while !input.is_empty() && !input.peek(Token![,]) {
        input.parse::<TokenTree>()?;
    }
    Ok(())
}
