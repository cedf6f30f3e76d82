//! The `#[backend]` attribute of msgproc.
#![forbid(unsafe_code)]

use proc_macro::TokenStream;

mod attributes;
mod emit;
mod expand;
mod handler;
mod model;
mod options;
mod report;
mod types;

/// Makes a backend.
#[proc_macro_attribute]
pub fn backend(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::backend(options.into(), item.into()).into()
}
