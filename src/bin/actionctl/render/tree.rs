//! [`Node`]: an answer as a tree for programs, written as JSON or YAML.
//!
//! The form is part of the interface and only grows: fields have the names of the wire contract in its order, and each
//! is always there. What is absent is null, an enum is its word (`running`), a time is RFC 3339 in UTC, and numbers
//! are numbers.

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

/// A part of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// Absent.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A number that is never negative.
    Unsigned(u64),
    /// A number.
    Signed(i64),
    /// A text.
    Text(String),
    /// Several of one kind.
    List(Vec<Node>),
    /// Named parts, in this order.
    Object(Vec<(String, Node)>),
}

/// What has a form for programs.
pub trait ToNode {
    /// As a tree.
    fn node(&self) -> Node;
}

impl Node {
    /// The list of these messages' trees.
    pub fn list<T: ToNode>(items: &[T]) -> Self {
        Self::List(items.iter().map(ToNode::node).collect())
    }

    /// JSON over several lines, for people and programs alike.
    pub fn json(&self) -> String {
        // Texts, numbers and text keys always have a form in JSON.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// JSON on one line, one document of a stream.
    pub fn json_line(&self) -> String {
        // As above.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// One YAML document.
    pub fn yaml(&self) -> String {
        // As above; writing to a String does not fail.
        serde_saphyr::to_string(self).unwrap_or_default().trim_end().to_owned()
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Unsigned(value) => serializer.serialize_u64(*value),
            Self::Signed(value) => serializer.serialize_i64(*value),
            Self::Text(value) => serializer.serialize_str(value),
            Self::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(item)?;
                }
                list.end()
            }
            Self::Object(fields) => {
                let mut object = serializer.serialize_map(Some(fields.len()))?;
                for (name, value) in fields {
                    object.serialize_entry(name, value)?;
                }
                object.end()
            }
        }
    }
}

impl From<bool> for Node {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<u32> for Node {
    fn from(value: u32) -> Self {
        Self::Unsigned(value.into())
    }
}

impl From<u64> for Node {
    fn from(value: u64) -> Self {
        Self::Unsigned(value)
    }
}

impl From<i32> for Node {
    fn from(value: i32) -> Self {
        Self::Signed(value.into())
    }
}

impl From<&str> for Node {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<&String> for Node {
    fn from(value: &String) -> Self {
        Self::Text(value.clone())
    }
}

impl From<String> for Node {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&Vec<String>> for Node {
    fn from(values: &Vec<String>) -> Self {
        Self::List(values.iter().map(Self::from).collect())
    }
}

impl<T: Into<Node>> From<Option<T>> for Node {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl<T: ToNode> From<&T> for Node {
    fn from(message: &T) -> Self {
        message.node()
    }
}

/// An object whose fields are given as `name: value`, in this order.
macro_rules! object {
    ($($name:ident: $value:expr),* $(,)?) => {
        $crate::render::tree::Node::Object(vec![
            $((stringify!($name).to_owned(), $crate::render::tree::Node::from($value)),)*
        ])
    };
}
pub(crate) use object;

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Node {
        object! {
            name: "web: \"1\"",
            count: 3_u32,
            code: -1_i32,
            none: None::<u32>,
            list: &vec!["a".to_owned(), "yes".to_owned()],
        }
    }

    #[test]
    fn json_keeps_the_order_and_shows_what_is_absent() {
        let expected = r#"{"name":"web: \"1\"","count":3,"code":-1,"none":null,"list":["a","yes"]}"#;
        assert_eq!(sample().json_line(), expected);
    }

    #[test]
    fn yaml_reads_back_as_the_same() {
        let yaml = sample().yaml();
        let read: serde_json::Value = serde_saphyr::from_str(&yaml).unwrap();
        assert_eq!(read, serde_json::from_str::<serde_json::Value>(&sample().json()).unwrap(), "{yaml}");
        assert!(yaml.starts_with("name:"), "{yaml}");
    }
}
