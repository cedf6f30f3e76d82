use std::{
    collections::{HashMap, hash_map},
    fmt,
};

/// A value in a graph file: what a node is set to.
///
/// It knows the line that it stood on. Two values are equal when they say the same, wherever they
/// stand.
#[derive(Clone)]
pub struct Value {
    kind: Kind,
    line: Option<u32>,
}

/// What a [`Value`] is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Nothing: `null` or `~`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i128),
    /// Any other number. JSON has no infinite ones.
    Float(f64),
    /// A text.
    Text(String),
    /// Several values in a row.
    List(Vec<Value>),
    /// Values that have names.
    Map(Map),
}

impl Value {
    pub(super) fn at(kind: Kind, line: u32) -> Self {
        Value { kind, line: Some(line) }
    }

    /// What it is.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// The line of the file it was read from, counted from 1.
    pub fn line(&self) -> Option<u32> {
        self.line
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        if let Kind::Text(text) = &self.kind { Some(text) } else { None }
    }

    /// The values with names, if it is that.
    pub fn as_map(&self) -> Option<&Map> {
        if let Kind::Map(map) = &self.kind { Some(map) } else { None }
    }

    /// The values in a row, if it is that.
    pub fn as_list(&self) -> Option<&[Value]> {
        if let Kind::List(list) = &self.kind { Some(list) } else { None }
    }

    /// How many values it is, texts counted by their length; and how deep they lie in each other.
    pub(super) fn extent(&self) -> (usize, usize) {
        let of_all = |values: &mut dyn Iterator<Item = &Value>| {
            values.map(Value::extent).fold((1, 1), |(size, depth), (its_size, its_depth)| {
                (size + its_size, depth.max(its_depth + 1))
            })
        };
        match &self.kind {
            Kind::Text(text) => (1 + text.len() / 64, 0),
            Kind::List(list) => of_all(&mut list.iter()),
            Kind::Map(map) => {
                let keys: usize = map.0.iter().map(|(key, _)| key.name.len() / 64).sum();
                let (size, depth) = of_all(&mut map.0.iter().map(|(_, value)| value));
                (size + keys, depth)
            }
            Kind::Null | Kind::Bool(_) | Kind::Integer(_) | Kind::Float(_) => (1, 0),
        }
    }

    pub(super) fn into_map(self) -> Result<Map, Value> {
        match self.kind {
            Kind::Map(map) => Ok(map),
            kind => Err(Value { kind, line: self.line }),
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

/// Says what it is, and a short one itself: `the text "wide"`, `a list`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Null => f.write_str("nothing"),
            Kind::Bool(value) => write!(f, "{value}"),
            Kind::Integer(number) => write!(f, "the number {number}"),
            Kind::Float(number) => write!(f, "the number {number}"),
            Kind::Text(text) if text.chars().count() <= 60 => write!(f, "the text {text:?}"),
            Kind::Text(_) => f.write_str("a long text"),
            Kind::List(list) if list.is_empty() => f.write_str("an empty list"),
            Kind::List(_) => f.write_str("a list"),
            Kind::Map(_) => f.write_str("a mapping"),
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::Null, Kind::Null) => true,
            (Kind::Bool(one), Kind::Bool(two)) => one == two,
            (Kind::Integer(one), Kind::Integer(two)) => one == two,
            (Kind::Float(one), Kind::Float(two)) => one == two || one.is_nan() && two.is_nan(),
            (Kind::Text(one), Kind::Text(two)) => one == two,
            (Kind::List(one), Kind::List(two)) => one == two,
            (Kind::Map(one), Kind::Map(two)) => one == two,
            _ => false,
        }
    }
}

/// Values that have names, in the order in which they were written; a name is there once.
///
/// # Examples
///
/// ```
/// use msgproc::flow::file::Map;
///
/// let map = Map::from_iter([("fps", 30.into()), ("mode", "fast".into())]);
/// assert_eq!(map.get("mode").unwrap().as_text(), Some("fast"));
/// ```
#[derive(Clone, Default, PartialEq)]
pub struct Map(Vec<(Key, Value)>);

#[derive(Clone)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) line: Option<u32>,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Map {
    /// The value of this name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(key, _)| key.name == name).map(|(_, value)| value)
    }

    /// Sets the value of this name, and gives the one it had.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<Value>) -> Option<Value> {
        let (name, value) = (name.into(), value.into());
        if let Some((_, old)) = self.0.iter_mut().find(|(key, _)| key.name == name) {
            return Some(std::mem::replace(old, value));
        }
        self.0.push((Key { name, line: None }, value));
        None
    }

    /// Takes the value of this name out.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        self.take(name).map(|(_, value)| value)
    }

    /// The names and values, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.name.as_str(), value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self, name: &str) -> Option<(Key, Value)> {
        let place = self.0.iter().position(|(key, _)| key.name == name)?;
        Some(self.0.remove(place))
    }

    pub(super) fn entries(&self) -> &[(Key, Value)] {
        &self.0
    }

    pub(super) fn into_entries(self) -> Vec<(Key, Value)> {
        self.0
    }
}

/// A [`Map`] in the making, in which names are found fast.
#[derive(Default)]
pub(super) struct Entries {
    list: Vec<(Key, Value)>,
    places: HashMap<String, usize>,
}

impl Entries {
    /// Adds a value, unless there is one of its name: then it gives that, and this one back.
    pub(super) fn add(&mut self, key: Key, value: Value) -> Option<(&mut (Key, Value), Value)> {
        match self.places.entry(key.name.clone()) {
            hash_map::Entry::Occupied(place) => Some((&mut self.list[*place.get()], value)),
            hash_map::Entry::Vacant(place) => {
                place.insert(self.list.len());
                self.list.push((key, value));
                None
            }
        }
    }

    pub(super) fn into_map(self) -> Map {
        Map(self.list)
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<N: Into<String>> FromIterator<(N, Value)> for Map {
    fn from_iter<I: IntoIterator<Item = (N, Value)>>(values: I) -> Self {
        let mut entries = Entries::default();
        for (name, value) in values {
            let key = Key { name: name.into(), line: None };
            if let Some((old, value)) = entries.add(key, value) {
                old.1 = value;
            }
        }
        entries.into_map()
    }
}

impl From<Kind> for Value {
    fn from(kind: Kind) -> Self {
        Value { kind, line: None }
    }
}

macro_rules! from {
    ($($from:ty => $kind:expr;)*) => {$(
        impl From<$from> for Value {
            fn from(value: $from) -> Self {
                let kind: fn($from) -> Kind = $kind;
                kind(value).into()
            }
        }
    )*};
}

from! {
    bool => Kind::Bool;
    i32 => |value| Kind::Integer(value.into());
    u32 => |value| Kind::Integer(value.into());
    i64 => |value| Kind::Integer(value.into());
    u64 => |value| Kind::Integer(value.into());
    usize => |value| Kind::Integer(value as i128);
    f64 => Kind::Float;
    &str => |value| Kind::Text(value.to_owned());
    String => Kind::Text;
    Vec<Value> => Kind::List;
    Map => Kind::Map;
}
