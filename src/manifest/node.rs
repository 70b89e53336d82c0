//! [`Node`]: a document as a tree in which every value and key knows its line. Made by [`super::parse`] alone.
//!
//! Scalars keep the text that stands in the document; what type it has is asked by the reader of the field, by the
//! core schema of YAML 1.2: `no`, `on` and `010` are a text, a text and ten.

/// A value of a document with the line on which it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    /// From 1.
    pub line: u32,
    /// What stands there.
    pub value: Value,
}

/// What stands at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// Text, number, bool or null.
    Scalar(Scalar),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping in the document's order, without duplicates.
    Map(Vec<Entry>),
}

/// One entry of a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The key's text.
    pub key: String,
    /// The key's line.
    pub line: u32,
    /// What belongs to it.
    pub value: Node,
}

/// A scalar as it stands in the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scalar {
    /// After escapes and folding.
    pub text: String,
    /// Neither quoted nor a block scalar nor tagged as a text: may be null, a bool or a number.
    pub plain: bool,
}

impl Node {
    /// Whether this is null.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.is_null())
    }

    /// Whether this asks for nothing: null, an empty text, list or mapping.
    pub fn is_empty(&self) -> bool {
        match &self.value {
            Value::Scalar(scalar) => scalar.text.is_empty() || scalar.is_null(),
            Value::List(items) => items.is_empty(),
            Value::Map(entries) => entries.is_empty(),
        }
    }

    /// What kind of value this is, for messages.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Scalar(scalar) if scalar.is_null() => "null",
            Value::Scalar(scalar) if scalar.as_bool().is_some() => "a bool",
            Value::Scalar(scalar) if scalar.is_number() => "a number",
            Value::Scalar(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

impl Scalar {
    /// Whether this is null.
    pub fn is_null(&self) -> bool {
        self.plain && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }

    /// The bool that this is.
    pub fn as_bool(&self) -> Option<bool> {
        match self.text.as_str() {
            "true" | "True" | "TRUE" if self.plain => Some(true),
            "false" | "False" | "FALSE" if self.plain => Some(false),
            _ => None,
        }
    }

    /// The whole number that this is: decimal, `0o17` or `0xff`. `None` also where it is too large.
    pub fn as_integer(&self) -> Option<i64> {
        if !self.plain {
            return None;
        }
        let text = self.text.as_str();
        if let Some(octal) = text.strip_prefix("0o") {
            return unsigned(octal, 8);
        }
        if let Some(hexadecimal) = text.strip_prefix("0x") {
            return unsigned(hexadecimal, 16);
        }
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        text.parse().ok()
    }

    /// Whether this is a number of any form.
    fn is_number(&self) -> bool {
        let first = self.text.strip_prefix(['-', '+', '.']).unwrap_or(&self.text);
        self.plain
            && first.starts_with(|character: char| character.is_ascii_digit())
            && (self.as_integer().is_some() || self.text.parse::<f64>().is_ok())
    }
}

/// The digits of `radix` as a number; no sign.
fn unsigned(digits: &str, radix: u32) -> Option<i64> {
    let all_digits = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
    all_digits.then(|| i64::from_str_radix(digits, radix).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Scalar {
        Scalar { text: text.to_owned(), plain: true }
    }

    #[test]
    fn words_of_yaml_1_1_are_texts() {
        for text in ["no", "No", "on", "off", "yes", "y", "1_000", "0b1", "12:30"] {
            assert_eq!(plain(text).as_bool(), None, "{text}");
            assert_eq!(plain(text).as_integer(), None, "{text}");
        }
    }

    #[test]
    fn leading_zero_is_decimal_and_0o_is_octal() {
        assert_eq!(plain("010").as_integer(), Some(10));
        assert_eq!(plain("0o10").as_integer(), Some(8));
        assert_eq!(plain("0x10").as_integer(), Some(16));
        assert_eq!(plain("0x-1").as_integer(), None);
        assert_eq!(plain("-3").as_integer(), Some(-3));
        assert_eq!(plain("99999999999999999999").as_integer(), None);
    }

    #[test]
    fn quoted_scalars_are_texts_only() {
        let quoted = |text: &str| Scalar { text: text.to_owned(), plain: false };
        assert!(!quoted("null").is_null());
        assert_eq!(quoted("true").as_bool(), None);
        assert_eq!(quoted("1").as_integer(), None);
        assert_eq!(Node { line: 1, value: Value::Scalar(quoted("1")) }.kind(), "a text");
        assert_eq!(Node { line: 1, value: Value::Scalar(plain("1.5")) }.kind(), "a number");
    }
}
