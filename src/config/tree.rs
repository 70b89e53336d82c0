//! A file's content as a tree in which every key and value knows its line. No meaning, no types of ours.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// Where something stands: an index into the files read, and a line counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub file: usize,
    pub line: u64,
}

/// A value with its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub value: Value,
    pub place: Place,
}

/// A key's entry in a map: the key has a place of its own.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub key_place: Place,
    pub node: Node,
}

/// What YAML can say.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(BTreeMap<String, Entry>),
}

impl Node {
    /// An empty map that stands nowhere: what merging starts from.
    pub fn empty() -> Self {
        Self { value: Value::Map(BTreeMap::new()), place: Place { file: 0, line: 1 } }
    }

    /// Gives the node and all below it their file.
    pub fn set_file(&mut self, file: usize) {
        self.place.file = file;
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.set_file(file)),
            Value::Map(entries) => {
                for entry in entries.values_mut() {
                    entry.key_place.file = file;
                    entry.node.set_file(file);
                }
            }
            Value::Null | Value::Bool(_) | Value::Unsigned(_) | Value::Signed(_) | Value::Float(_) | Value::Text(_) => {
            }
        }
    }

    /// Lays `upper` over this node: maps key by key, everything else as a whole. Nothing (`null`) over a map leaves it,
    /// because a section whose keys are all commented out reads as that.
    pub fn overlay(&mut self, upper: Self) {
        match (&mut self.value, upper.value) {
            (Value::Map(_), Value::Null) => {}
            (Value::Map(lower), Value::Map(upper)) => {
                for (key, entry) in upper {
                    match lower.get_mut(&key) {
                        Some(present) => {
                            present.key_place = entry.key_place;
                            present.node.overlay(entry.node);
                        }
                        None => {
                            lower.insert(key, entry);
                        }
                    }
                }
            }
            (
                Value::Null
                | Value::Bool(_)
                | Value::Unsigned(_)
                | Value::Signed(_)
                | Value::Float(_)
                | Value::Text(_)
                | Value::List(_)
                | Value::Map(_),
                value,
            ) => *self = Self { value, place: upper.place },
        }
    }

    /// The place of the key at `path` (`dispatch.workers`), where a file gives it.
    pub fn find(&self, path: &str) -> Option<Place> {
        let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
        let Value::Map(entries) = &self.value else { return None };
        let entry = entries.get(first)?;
        match rest {
            None => Some(entry.key_place),
            Some(rest) => entry.node.find(rest),
        }
    }

    /// The paths of everything below that is no map, for comparing what two trees name.
    #[cfg(test)]
    pub fn leaves(&self, path: &str) -> Vec<String> {
        match &self.value {
            Value::Map(entries) => entries
                .iter()
                .flat_map(|(key, entry)| {
                    let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    entry.node.leaves(&below)
                })
                .collect(),
            _ => vec![path.to_owned()],
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::deserialize(deserializer)?;
        Ok(Self { value, place: Place { file: 0, line: referenced.line() } })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(Self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(u64::try_from(value).map_or(Value::Signed(value), Value::Unsigned))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = BTreeMap::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let key_place = Place { file: 0, line: key.referenced.line() };
            let node = entries.next_value()?;
            map.insert(key.value, Entry { key_place, node });
        }
        Ok(Value::Map(map))
    }
}
