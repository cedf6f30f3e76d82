//! YAML 1.2 as a tree of values that know their lines.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::problem::{Fault, Problem, ProblemKind};
use super::value::{Entries, Key, Kind, Value};

/// How deep values may lie in each other, of whatever form: as deep as serde_json reads them.
pub(super) const DEPTH: usize = 127;
/// How many values anchors and aliases may make beside those that are written, long texts counted by
/// their length.
const COPIES: usize = 1_000_000;

/// What is said of more than that.
pub(super) const TOO_DEEP: &str = "values lie in each other too deep";
const TOO_MANY: &str = "aliases make too many values of this";

pub(super) type Parsed = (Option<Value>, Vec<Problem>);

/// Reads a text, as far as it is YAML. More than a value comes only if there are no problems, or
/// small ones: names that are there twice, tags.
pub(super) fn parse(text: &str) -> Parsed {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut tree = Tree::default();
    let result = tree.read(text);
    if let Err(fault) = result {
        tree.problems.push(fault.into());
        return (None, tree.problems);
    }
    (tree.root, tree.problems)
}

#[derive(Default)]
struct Tree {
    root: Option<Value>,
    documents: usize,
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    copies: usize,
    problems: Vec<Problem>,
}

/// A list or a mapping that is not complete yet.
struct Open {
    anchor: usize,
    line: u32,
    items: Items,
}

enum Items {
    List(Vec<Value>),
    Map { entries: Entries, key: Option<Key> },
}

/// What aliases stand for.
struct Anchored {
    value: Value,
    /// How many values it is.
    size: usize,
    depth: usize,
}

impl Tree {
    fn read(&mut self, text: &str) -> Result<(), Fault> {
        let mut parser = Parser::new_from_str(text);
        while let Some(event) = parser.next_event() {
            let (event, span) =
                event.map_err(|error| Fault::new(error.marker().line(), error.info()))?;
            self.take(event, span)?;
        }
        Ok(())
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Fault> {
        let line = span.start.line();
        let at = u32::try_from(line).unwrap_or(u32::MAX);
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(Fault::new(line, "a second document begins; a file has one"));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                if text == "<<" && style == ScalarStyle::Plain && self.awaits_key() {
                    return Err(Fault::new(line, "merge keys are not supported"));
                }
                let kind = self.scalar(&text, style, tag.as_deref(), line);
                let is_name = matches!(kind, Kind::Integer(_) | Kind::Bool(_));
                // As a name it is what is written there, and not what that is worth.
                let kind = if is_name && anchor == 0 && self.awaits_key() {
                    Kind::Text(text.into_owned())
                } else {
                    kind
                };
                self.done(Value::at(kind, at), anchor)?;
            }
            Event::SequenceStart(anchor, tag) => {
                self.tag(tag.as_deref(), &["seq"], line);
                self.begin(anchor, at, Items::List(Vec::new()))?;
            }
            Event::MappingStart(anchor, tag) => {
                self.tag(tag.as_deref(), &["map"], line);
                self.begin(anchor, at, Items::Map { entries: Entries::default(), key: None })?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = self.open.pop() {
                    let kind = match open.items {
                        Items::List(list) => Kind::List(list),
                        Items::Map { entries, .. } => Kind::Map(entries.into_map()),
                    };
                    self.done(Value::at(kind, open.line), open.anchor)?;
                }
            }
            Event::Alias(anchor) => {
                let Some(&Anchored { ref value, size, depth }) = self.anchors.get(&anchor) else {
                    return Err(Fault::new(line, "an alias inside of what it stands for"));
                };
                if self.open.len() + depth > DEPTH {
                    return Err(Fault::new(line, TOO_DEEP));
                }
                // Counted before it is copied, so that aliases of aliases stay small.
                self.copies = self.copies.saturating_add(size);
                if self.copies > COPIES {
                    return Err(Fault::new(line, TOO_MANY));
                }
                let value = value.clone();
                self.done(value, 0)?;
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn awaits_key(&self) -> bool {
        let items = self.open.last().map(|open| &open.items);
        matches!(items, Some(Items::Map { key: None, .. }))
    }

    fn begin(&mut self, anchor: usize, line: u32, items: Items) -> Result<(), Fault> {
        if self.open.len() >= DEPTH {
            return Err(Fault::new(line as usize, TOO_DEEP));
        }
        self.open.push(Open { anchor, line, items });
        Ok(())
    }

    /// Puts a complete value where it belongs.
    fn done(&mut self, value: Value, anchor: usize) -> Result<(), Fault> {
        let line = value.line().map_or(0, |line| line as usize);
        if anchor > 0 {
            let (size, depth) = value.extent();
            self.copies = self.copies.saturating_add(size);
            if self.copies > COPIES {
                return Err(Fault::new(line, TOO_MANY));
            }
            self.anchors.insert(anchor, Anchored { value: value.clone(), size, depth });
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(value);
            return Ok(());
        };
        match &mut open.items {
            Items::List(list) => list.push(value),
            Items::Map { entries, key } => match key.take() {
                None => *key = Some(name_of(&value).map_err(|why| Fault::new(line, why))?),
                Some(key) => add(entries, key, value, &mut self.problems),
            },
        }
        Ok(())
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, line: usize) -> Kind {
        let text_tag = tag.is_some_and(is_text);
        if style != ScalarStyle::Plain || text_tag {
            self.tag(tag, &["str"], line);
            return Kind::Text(text.to_owned());
        }
        self.tag(tag, &["null", "bool", "int", "float"], line);
        plain(text)
    }

    fn tag(&mut self, tag: Option<&Tag>, known: &[&str], line: usize) {
        let Some(tag) = tag else { return };
        let bare = tag.handle.is_empty() && tag.suffix == "!";
        if !(bare || tag.is_yaml_core_schema() && known.contains(&tag.suffix.as_str())) {
            let tag = tag.to_string().replace("tag:yaml.org,2002:!", "!!");
            self.problems.push(Problem::syntax(line, format!("the tag {tag} means nothing here")));
        }
    }
}

/// `!!str`, and `!`, which says that nothing is to be made of a text.
fn is_text(tag: &Tag) -> bool {
    tag.is_yaml_core_schema() && tag.suffix == "str" || tag.handle.is_empty() && tag.suffix == "!"
}

/// Adds an entry, unless there is one of its name.
pub(super) fn add(entries: &mut Entries, key: Key, value: Value, problems: &mut Vec<Problem>) {
    let line = key.line;
    if let Some(((first, _), _)) = entries.add(key, value) {
        let kind = ProblemKind::Twice { name: first.name.clone(), first: first.line };
        problems.push(Problem::at(line, kind));
    }
}

fn name_of(value: &Value) -> Result<Key, &'static str> {
    let name = match value.kind() {
        Kind::Text(text) => text.clone(),
        Kind::Integer(number) => number.to_string(),
        Kind::Bool(value) => value.to_string(),
        Kind::Null | Kind::Float(_) => return Err("put this name in quotes"),
        Kind::List(_) | Kind::Map(_) => return Err("a name must be a text"),
    };
    Ok(Key { name, line: value.line() })
}

/// What a text without quotes is, after the core schema of YAML 1.2.
pub(super) fn plain(text: &str) -> Kind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Kind::Null,
        "true" | "True" | "TRUE" => return Kind::Bool(true),
        "false" | "False" | "FALSE" => return Kind::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Kind::Float(f64::NAN),
        _ => {}
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
        return Kind::Float(sign * f64::INFINITY);
    }
    integer(text, unsigned)
        .map(Kind::Integer)
        .or_else(|| float(text, unsigned).map(Kind::Float))
        .unwrap_or_else(|| Kind::Text(text.to_owned()))
}

fn integer(text: &str, unsigned: &str) -> Option<i128> {
    let of = |digits: &str, radix| {
        let digits = digits.bytes().all(|digit| (digit as char).is_digit(radix)).then_some(digits);
        digits.and_then(|digits| i128::from_str_radix(digits, radix).ok())
    };
    if let Some(digits) = text.strip_prefix("0x") {
        return of(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return of(digits, 8);
    }
    let decimal = !unsigned.is_empty() && unsigned.bytes().all(|digit| digit.is_ascii_digit());
    decimal.then(|| text.parse().ok()).flatten()
}

fn float(text: &str, unsigned: &str) -> Option<f64> {
    // Rust's own numbers are those of YAML, and words.
    let digits = unsigned.bytes().any(|byte| byte.is_ascii_digit());
    let of_number = |byte: u8| byte.is_ascii_digit() || b".eE+-".contains(&byte);
    (digits && text.bytes().all(of_number)).then(|| text.parse().ok()).flatten()
}
