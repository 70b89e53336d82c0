//! From the tree to serde's types, with the key and place of what does not fit, in words for an operator.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Expected, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;

use super::tree::{Entry, Node, Place, Value};

/// What does not fit, and where.
#[derive(Debug)]
pub(super) struct Problem {
    /// Where it stands; set by the innermost key.
    pub place: Option<Place>,
    /// What is wrong and what would be right.
    pub what: String,
    /// Keys from the inside out.
    keys: Vec<String>,
}

impl Problem {
    fn new(what: String) -> Self {
        Self { place: None, what, keys: Vec::new() }
    }

    fn below(mut self, key: String, place: Place) -> Self {
        self.keys.push(key);
        self.place.get_or_insert(place);
        self
    }

    /// The key as a path, `listen.tcp[0]`.
    pub fn path(&self) -> String {
        let mut path = String::new();
        for key in self.keys.iter().rev() {
            if !path.is_empty() && !key.starts_with('[') {
                path.push('.');
            }
            path.push_str(key);
        }
        path
    }
}

/// Reads `T` out of the tree.
pub(super) fn from_node<T: DeserializeOwned>(node: &Node) -> Result<T, Problem> {
    T::deserialize(NodeDeserializer(node))
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Problem {}

impl de::Error for Problem {
    fn custom<T: fmt::Display>(what: T) -> Self {
        Self::new(what.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("must be {}, not {}", in_words(&expected.to_string()), found_words(found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("must be one of {}, not '{variant}'", expected.join(", ")))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let near = expected.iter().min_by_key(|known| distance(field, known));
        let what = match near {
            Some(near) if distance(field, near) <= 2 => format!("unknown key; did you mean '{near}'?"),
            Some(_) | None => format!("unknown key; the keys here are {}", expected.join(", ")),
        };
        Self::new(what)
    }
}

/// What serde calls a type, in an operator's words.
fn in_words(expected: &str) -> String {
    let bits = expected.strip_prefix('u').and_then(|bits| bits.parse::<u32>().ok());
    match (bits, expected) {
        (Some(bits @ 1..64), _) => format!("a whole number from 0 to {}", (1_u64 << bits) - 1),
        (_, "u64" | "usize") => "a whole number, 0 or more".into(),
        (_, "a sequence") => "a list, as in [one, two]".into(),
        (_, "a boolean") => "true or false".into(),
        (_, "a string") => "a text".into(),
        (_, other) if other.starts_with("struct ") => "a section of keys".into(),
        (_, other) => other.into(),
    }
}

fn found_words(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => format!("{value} (write it in quotes for a text)"),
        Unexpected::Unsigned(value) => value.to_string(),
        Unexpected::Signed(value) => value.to_string(),
        Unexpected::Float(value) => value.to_string(),
        Unexpected::Str(value) => format!("'{}'", value.escape_debug()),
        Unexpected::Unit | Unexpected::Option => "empty".into(),
        Unexpected::Seq => "a list".into(),
        Unexpected::Map => "a section of keys".into(),
        other => other.to_string(),
    }
}

/// The number of single-letter changes between two keys (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.chars().count()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.chars().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

struct NodeDeserializer<'a>(&'a Node);

impl<'de> de::Deserializer<'de> for NodeDeserializer<'_> {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match &self.0.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Unsigned(value) => visitor.visit_u64(*value),
            Value::Signed(value) => visitor.visit_i64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(value) => visitor.visit_str(value),
            Value::List(items) => visitor.visit_seq(Items { rest: items.iter().enumerate() }),
            Value::Map(entries) => visitor.visit_map(Entries { rest: entries.iter(), value: None }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        if self.0.value == Value::Null { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        if self.0.value == Value::Null {
            // A section whose keys are all commented out.
            return visitor.visit_map(Entries { rest: Default::default(), value: None });
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        if let Value::Text(text) = &self.0.value {
            return visitor.visit_enum(IntoDeserializer::<Problem>::into_deserializer(text.as_str()));
        }
        Err(Problem::new(format!("must be one of {}", variants.join(", "))))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map identifier ignored_any
    }
}

struct Items<'a> {
    rest: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Problem;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Problem> {
        let Some((index, node)) = self.rest.next() else { return Ok(None) };
        let item = seed.deserialize(NodeDeserializer(node));
        item.map(Some).map_err(|problem| problem.below(format!("[{index}]"), node.place))
    }
}

struct Entries<'a> {
    rest: std::collections::btree_map::Iter<'a, String, Entry>,
    value: Option<(&'a str, &'a Node)>,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Problem;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Problem> {
        let Some((key, entry)) = self.rest.next() else { return Ok(None) };
        self.value = Some((key, &entry.node));
        let read = seed.deserialize(StrDeserializer::<Problem>::new(key));
        read.map(Some).map_err(|problem| problem.below(key.clone(), entry.key_place))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Problem> {
        let Some((key, node)) = self.value.take() else {
            return Err(Problem::new("a value was asked for before its key".into()));
        };
        seed.deserialize(NodeDeserializer(node)).map_err(|problem| problem.below(key.to_owned(), node.place))
    }
}
