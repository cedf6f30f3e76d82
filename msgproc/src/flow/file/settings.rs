//! Settings of a node as a type of its own.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess,
    SeqAccess, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::value::{Key, Kind, Map, Value};

/// Why settings are not what the node takes: which of them, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct SettingsError {
    node: Option<String>,
    /// Names and places from the settings down to the value, each as it is written in a path.
    path: Vec<String>,
    line: Option<u32>,
    reason: String,
}

impl SettingsError {
    /// The setting that is meant, such as `window.length` or `channels[2]`; empty if it is all.
    pub fn key(&self) -> String {
        let path = self.path.iter().rev().map(String::as_str).collect::<String>();
        path.strip_prefix('.').map_or(path.clone(), str::to_owned)
    }

    /// The line that it stands on, if it was read from a file.
    pub fn line(&self) -> Option<u32> {
        self.line
    }

    /// The node whose settings these are.
    pub fn node(&self) -> Option<&str> {
        self.node.as_deref()
    }

    /// What it says, but for the line.
    pub(super) fn without_line(&self) -> String {
        SettingsError { line: None, ..self.clone() }.to_string()
    }

    pub(super) fn of_node(mut self, name: &str, line: Option<u32>) -> Self {
        self.node = Some(name.to_owned());
        self.line = self.line.or(line);
        self
    }

    fn below(mut self, step: String, line: Option<u32>) -> Self {
        self.path.push(step);
        self.line = self.line.or(line);
        self
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        f.write_str(if self.path.is_empty() { "settings" } else { "setting " })?;
        f.write_str(&self.key())?;
        if let Some(node) = &self.node {
            write!(f, " of node {node:?}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

impl de::Error for SettingsError {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        SettingsError { node: None, path: Vec::new(), line: None, reason: reason.to_string() }
    }
}

impl Map {
    /// Makes a type of the settings.
    ///
    /// # Errors
    ///
    /// Says which setting does not fit, and on which line it stands.
    pub fn parse<S: DeserializeOwned>(&self) -> Result<S, SettingsError> {
        S::deserialize(Settings(self))
    }
}

struct Settings<'a>(&'a Map);

impl<'de> Deserializer<'de> for Settings<'de> {
    type Error = SettingsError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SettingsError> {
        visitor.visit_map(Entries { entries: self.0.entries().iter(), value: None })
    }

    /// Nodes without settings have `()` for them.
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SettingsError> {
        if self.0.is_empty() { visitor.visit_unit() } else { self.deserialize_any(visitor) }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, SettingsError> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, SettingsError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SettingsError> {
        if self.0.is_empty() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, SettingsError> {
        match self.0.entries() {
            [one] => visitor.visit_enum(Variant(one)),
            all => Err(de::Error::custom(format!("one name is expected, and not {}", all.len()))),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf seq
        tuple tuple_struct map struct identifier ignored_any
    }
}

struct One<'a>(&'a Value);

impl<'de> One<'de> {
    /// A whole number is a number too, however large.
    fn number<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SettingsError> {
        match self.0.kind() {
            Kind::Integer(number) => visitor.visit_f64(*number as f64),
            _ => self.deserialize_any(visitor),
        }
    }
}

impl<'de> Deserializer<'de> for One<'de> {
    type Error = SettingsError;

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SettingsError> {
        self.number(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SettingsError> {
        self.number(visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SettingsError> {
        match self.0.kind() {
            Kind::Null => visitor.visit_unit(),
            Kind::Bool(value) => visitor.visit_bool(*value),
            Kind::Integer(number) => match (i64::try_from(*number), u64::try_from(*number)) {
                (Ok(number), _) => visitor.visit_i64(number),
                (_, Ok(number)) => visitor.visit_u64(number),
                _ => visitor.visit_i128(*number),
            },
            Kind::Float(number) => visitor.visit_f64(*number),
            Kind::Text(text) => visitor.visit_borrowed_str(text),
            Kind::List(list) => {
                let mut values = Values { list: list.iter(), place: 0 };
                let made = visitor.visit_seq(&mut values)?;
                if values.list.len() > 0 {
                    return Err(de::Error::invalid_length(list.len(), &"a shorter list"));
                }
                Ok(made)
            }
            Kind::Map(map) => {
                visitor.visit_map(Entries { entries: map.entries().iter(), value: None })
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SettingsError> {
        match self.0.kind() {
            Kind::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, SettingsError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, SettingsError> {
        match self.0.kind() {
            Kind::Text(variant) => visitor.visit_enum(StrDeserializer::new(variant)),
            Kind::Map(map) if map.len() == 1 => visitor.visit_enum(Variant(&map.entries()[0])),
            _ => Err(de::Error::custom(format!(
                "a name is expected, or a mapping of one name, and not {}",
                self.0
            ))),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

struct Values<'a> {
    list: std::slice::Iter<'a, Value>,
    place: usize,
}

impl<'de> SeqAccess<'de> for Values<'de> {
    type Error = SettingsError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, SettingsError> {
        let Some(value) = self.list.next() else {
            return Ok(None);
        };
        let step = format!("[{}]", self.place);
        self.place += 1;
        seed.deserialize(One(value)).map(Some).map_err(|error| error.below(step, value.line()))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.list.len())
    }
}

struct Entries<'a> {
    entries: std::slice::Iter<'a, (Key, Value)>,
    value: Option<&'a (Key, Value)>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = SettingsError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, SettingsError> {
        self.value = self.entries.next();
        let Some((key, _)) = self.value else {
            return Ok(None);
        };
        let name: StrDeserializer<'_, SettingsError> = key.name.as_str().into_deserializer();
        seed.deserialize(name)
            .map(Some)
            .map_err(|error| error.below(format!(".{}", key.name), key.line))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<T::Value, SettingsError> {
        let (key, value) = self.value.take().expect("a value is asked for after its key");
        seed.deserialize(One(value))
            .map_err(|error| error.below(format!(".{}", key.name), value.line()))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}

/// A variant that carries something: `name: value`.
struct Variant<'a>(&'a (Key, Value));

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = SettingsError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self), SettingsError> {
        let (key, _) = self.0;
        let name: StrDeserializer<'_, SettingsError> = key.name.as_str().into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl Variant<'_> {
    fn below(&self, error: SettingsError) -> SettingsError {
        error.below(format!(".{}", self.0.0.name), self.0.1.line())
    }
}

impl<'de> VariantAccess<'de> for Variant<'de> {
    type Error = SettingsError;

    fn unit_variant(self) -> Result<(), SettingsError> {
        de::Deserialize::deserialize(One(&self.0.1)).map_err(|error| self.below(error))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<T::Value, SettingsError> {
        seed.deserialize(One(&self.0.1)).map_err(|error| self.below(error))
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, SettingsError> {
        One(&self.0.1).deserialize_any(visitor).map_err(|error| self.below(error))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, SettingsError> {
        One(&self.0.1).deserialize_any(visitor).map_err(|error| self.below(error))
    }
}
