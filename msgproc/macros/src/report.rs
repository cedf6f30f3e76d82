//! The errors of one expansion, collected so that the user sees them all at once.

use proc_macro2::{Span, TokenStream};
use quote::ToTokens;
use syn::Error;

/// Errors found so far.
#[derive(Default)]
pub(crate) struct Report {
    errors: Option<Error>,
    count: usize,
}

impl Report {
    pub(crate) fn add(&mut self, error: Error) {
        self.count += 1;
        match &mut self.errors {
            Some(errors) => errors.combine(error),
            None => self.errors = Some(error),
        }
    }

    /// Reports `message` at one place.
    pub(crate) fn at(&mut self, span: Span, message: impl std::fmt::Display) {
        self.add(Error::new(span, message));
    }

    /// Reports `message` under all of `tokens`.
    pub(crate) fn over(&mut self, tokens: impl ToTokens, message: impl std::fmt::Display) {
        self.add(Error::new_spanned(tokens, message));
    }

    /// How many errors were reported.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The errors as `compile_error!` calls; nothing if there are none.
    pub(crate) fn to_compile_errors(&self) -> TokenStream {
        self.errors.as_ref().map(Error::to_compile_error).unwrap_or_default()
    }
}
