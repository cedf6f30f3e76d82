//! JSON as a tree of values that know their lines.

use serde::de::IgnoredAny;

use super::problem::{Fault, Problem};
use super::value::{Entries, Key, Kind, Map, Value};
use super::yaml::{DEPTH, Parsed, TOO_DEEP, add};

/// Reads a text that is JSON.
pub(super) fn parse(text: &str) -> Parsed {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // Whether it is JSON at all is not for us to say; so the scanner meets nothing else.
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        return (None, vec![Problem::syntax(error.line(), error.to_string())]);
    }
    let mut scanner = Scanner { text, at: 0, line: 1, problems: Vec::new() };
    let value = scanner.value(0);
    let mut problems = scanner.problems;
    match value {
        Ok(value) => (Some(value), problems),
        Err(fault) => {
            problems.push(fault.into());
            (None, problems)
        }
    }
}

/// Walks through a text that is known to be JSON.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    problems: Vec<Problem>,
}

impl Scanner<'_> {
    /// Goes to the next byte that is not blank.
    fn peek(&mut self) -> Option<u8> {
        while let Some(&byte) = self.text.as_bytes().get(self.at) {
            match byte {
                b'\n' => self.line += 1,
                b' ' | b'\t' | b'\r' => {}
                _ => return Some(byte),
            }
            self.at += 1;
        }
        None
    }

    fn fault(&self, reason: impl Into<String>) -> Fault {
        Fault::new(self.line as usize, reason)
    }

    fn value(&mut self, depth: usize) -> Result<Value, Fault> {
        if depth > DEPTH {
            return Err(self.fault(TOO_DEEP));
        }
        let first = self.peek();
        let line = self.line;
        let kind = match first {
            Some(b'{') => Kind::Map(self.map(depth)?),
            Some(b'[') => Kind::List(self.list(depth)?),
            Some(b'"') => Kind::Text(self.string()?),
            _ => self.word()?,
        };
        Ok(Value::at(kind, line))
    }

    fn map(&mut self, depth: usize) -> Result<Map, Fault> {
        let mut entries = Entries::default();
        self.at += 1;
        while self.peek().is_some_and(|byte| byte != b'}') {
            let line = Some(self.line);
            let key = Key { name: self.string()?, line };
            self.skip(b':');
            let value = self.value(depth + 1)?;
            add(&mut entries, key, value, &mut self.problems);
            self.skip(b',');
        }
        self.at += 1;
        Ok(entries.into_map())
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Value>, Fault> {
        let mut list = Vec::new();
        self.at += 1;
        while self.peek().is_some_and(|byte| byte != b']') {
            list.push(self.value(depth + 1)?);
            self.skip(b',');
        }
        self.at += 1;
        Ok(list)
    }

    fn skip(&mut self, byte: u8) {
        if self.peek() == Some(byte) {
            self.at += 1;
        }
    }

    fn string(&mut self) -> Result<String, Fault> {
        let rest = &self.text[self.at..];
        let mut escaped = false;
        let end = rest.bytes().skip(1).position(|byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        });
        let len = end.map_or(rest.len(), |end| end + 2);
        self.at += len;
        serde_json::from_str(&rest[..len]).map_err(|error| {
            // It counts from where the text begins.
            let said = error.to_string();
            self.fault(said.split(" at line ").next().unwrap_or_default())
        })
    }

    /// A number, or a name of three values.
    fn word(&mut self) -> Result<Kind, Fault> {
        let rest = &self.text[self.at..];
        let len = rest.bytes().position(|byte| b",]} \t\r\n".contains(&byte));
        let word = &rest[..len.unwrap_or(rest.len())];
        self.at += word.len();
        let number = |text: &str| text.parse().ok().filter(|number: &f64| number.is_finite());
        match word {
            "null" => Ok(Kind::Null),
            "true" => Ok(Kind::Bool(true)),
            "false" => Ok(Kind::Bool(false)),
            _ => match (word.parse(), number(word)) {
                (Ok(integer), _) => Ok(Kind::Integer(integer)),
                (_, Some(number)) => Ok(Kind::Float(number)),
                _ => Err(self.fault(format!("{word} is too large a number"))),
            },
        }
    }
}
