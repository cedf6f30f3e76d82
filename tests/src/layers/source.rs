//! What one file of Rust imports, read token by token.
//!
//! Tokens, and not a syntax tree, so that the arguments of macros and the
//! bodies of `macro_rules!` are read as well.

use std::str::FromStr;

use proc_macro2::{Delimiter, LexError, TokenStream, TokenTree};

/// A name of the crate's root that a file uses: mostly a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// The name after `crate::`; `*` for all of them.
    pub target: String,
    /// Where it stands, from 1.
    pub line: usize,
}

/// What is known of one file. Code under `#[cfg(test)]` is left out.
#[derive(Debug, Default)]
pub struct Source {
    /// The names of the crate's root that it uses.
    pub imports: Vec<Import>,
    /// The lines with `allow(unsafe_code)` or `expect(unsafe_code)`.
    pub opens_unsafe: Vec<usize>,
    /// The names it brings into scope by `use module::…`, with their modules.
    pub brought: Vec<(String, String)>,
    words: Vec<(String, usize)>,
}

impl Source {
    /// Reads a file that stands `depth` modules below the crate's root.
    ///
    /// # Errors
    ///
    /// Fails when the text does not consist of the tokens of Rust.
    pub fn parse(text: &str, depth: usize) -> Result<Source, LexError> {
        let mut source = Source::default();
        source.walk(&tokens(TokenStream::from_str(text)?), depth);
        Ok(source)
    }

    /// Gives the lines in which a word stands as an identifier.
    pub fn lines_with<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        self.words.iter().filter(move |(found, _)| found == word).map(|&(_, line)| line)
    }

    fn walk(&mut self, tokens: &[TokenTree], depth: usize) {
        let mut at = 0;
        let mut under_test = false;
        while at < tokens.len() {
            let rest = &tokens[at..];
            at += 1;
            match rest {
                [TokenTree::Punct(hash), TokenTree::Punct(bang), TokenTree::Group(group), ..]
                    if hash.as_char() == '#' && bang.as_char() == '!' =>
                {
                    self.attribute(&self::tokens(group.stream()));
                    at += 2;
                }
                [TokenTree::Punct(hash), TokenTree::Group(group), ..] if hash.as_char() == '#' => {
                    under_test |= is_cfg_test(&self::tokens(group.stream()));
                    self.attribute(&self::tokens(group.stream()));
                    at += 1;
                }
                [TokenTree::Ident(word), TokenTree::Ident(_), TokenTree::Group(body), ..]
                    if word == "mod" && body.delimiter() == Delimiter::Brace =>
                {
                    if !under_test {
                        self.walk(&self::tokens(body.stream()), depth + 1);
                    }
                    under_test = false;
                    at += 2;
                }
                [TokenTree::Ident(word), tail @ ..] if word == "use" && depth == 0 => {
                    self.brings(tail);
                }
                [TokenTree::Ident(word), tail @ ..] if word == "crate" => self.path(tail),
                [TokenTree::Ident(word), ..] if word == "super" => {
                    at += self.climb(rest, depth);
                }
                [TokenTree::Group(group), ..] => {
                    if !(under_test && group.delimiter() == Delimiter::Brace) {
                        self.walk(&self::tokens(group.stream()), depth);
                    }
                    under_test &= group.delimiter() != Delimiter::Brace;
                }
                [TokenTree::Punct(semicolon), ..] if semicolon.as_char() == ';' => {
                    under_test = false
                }
                [TokenTree::Ident(word), ..] => self.words.push((word.to_string(), line(&rest[0]))),
                _ => {}
            }
        }
    }

    /// `super::super::name` from this depth; gives how many tokens the climb took.
    fn climb(&mut self, tokens: &[TokenTree], depth: usize) -> usize {
        let mut levels = 1;
        let mut tail = &tokens[1..];
        while let Some([TokenTree::Ident(word), after @ ..]) = after_colons(tail)
            && word == "super"
        {
            levels += 1;
            tail = after;
        }
        if levels == depth {
            self.path(tail);
        }
        tokens.len() - tail.len() - 1
    }

    /// What follows `crate` or a climb to the root: `::name`, `::{…}` or `::*`.
    fn path(&mut self, tail: &[TokenTree]) {
        match after_colons(tail) {
            Some([TokenTree::Group(group), ..]) => {
                for branch in branches(group.stream()) {
                    self.target(&branch);
                }
            }
            Some(tail) => self.target(tail),
            None => {}
        }
    }

    fn target(&mut self, path: &[TokenTree]) {
        let target = match path.first() {
            Some(TokenTree::Ident(name)) if name == "self" => return,
            Some(TokenTree::Ident(name)) => name.to_string(),
            Some(TokenTree::Punct(star)) if star.as_char() == '*' => "*".to_owned(),
            _ => return,
        };
        self.imports.push(Import { target, line: line(&path[0]) });
    }

    fn attribute(&mut self, tokens: &[TokenTree]) {
        if let [TokenTree::Ident(word), TokenTree::Group(group), ..] = tokens
            && (word == "allow" || word == "expect")
            && contains(group.stream(), "unsafe_code")
        {
            self.opens_unsafe.push(line(&tokens[0]));
        }
    }

    /// Notes what a `use` of the root brings: `use [crate::|self::]module::names;`
    fn brings(&mut self, tail: &[TokenTree]) {
        let mut path = tail;
        if let [TokenTree::Ident(word), after @ ..] = path
            && (word == "crate" || word == "self")
            && let Some(after) = after_colons(after)
        {
            path = after;
        }
        if let [TokenTree::Ident(module), after @ ..] = path
            && let Some(after) = after_colons(after)
        {
            let module = module.to_string();
            let end = after.iter().position(|token| is_punct(token, ';')).unwrap_or(after.len());
            for name in leaves(&after[..end]) {
                self.brought.push((name, module.clone()));
            }
        }
    }
}

fn tokens(stream: TokenStream) -> Vec<TokenTree> {
    stream.into_iter().collect()
}

fn line(token: &TokenTree) -> usize {
    token.span().start().line
}

fn is_punct(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}

fn after_colons(tokens: &[TokenTree]) -> Option<&[TokenTree]> {
    match tokens {
        [first, second, rest @ ..] if is_punct(first, ':') && is_punct(second, ':') => Some(rest),
        _ => None,
    }
}

fn branches(stream: TokenStream) -> Vec<Vec<TokenTree>> {
    tokens(stream).split(|token| is_punct(token, ',')).map(<[_]>::to_vec).collect()
}

/// The names at the ends of a tree of `use`, after `as` where it renames.
fn leaves(tree: &[TokenTree]) -> Vec<String> {
    match tree.last() {
        Some(TokenTree::Group(group)) => {
            branches(group.stream()).iter().flat_map(|branch| leaves(branch)).collect()
        }
        Some(TokenTree::Ident(name)) => vec![name.to_string()],
        _ => Vec::new(),
    }
}

fn is_cfg_test(attribute: &[TokenTree]) -> bool {
    match attribute {
        [TokenTree::Ident(word), TokenTree::Group(group)] if word == "cfg" => {
            let inner = tokens(group.stream());
            match inner.as_slice() {
                [TokenTree::Ident(word)] => word == "test",
                [TokenTree::Ident(word), TokenTree::Group(all)] if word == "all" => {
                    let branches = branches(all.stream());
                    branches.iter().any(|branch| matches!(branch.as_slice(), [TokenTree::Ident(word)] if word == "test"))
                }
                _ => false,
            }
        }
        _ => false,
    }
}

fn contains(stream: TokenStream, word: &str) -> bool {
    stream.into_iter().any(|token| matches!(token, TokenTree::Ident(found) if found == word))
}
