//! How fields are read: [`Place`] is a value with its path, [`Fields`] a mapping whose every key is either taken,
//! known to be without effect, refused by name, or warned about. [`Notes`] collects the warnings.
//!
//! `null` is as absent everywhere. A text takes any scalar as it is written, so `value: 1.10` is "1.10"; Kubernetes
//! and upstream Pullpiri refuse that or drop the document. Bools and whole numbers do not take quoted texts.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{ManifestError, ManifestErrorKind, ManifestResult};
use super::node::{Entry, Node, Scalar, Value};
use crate::model::action::Warning;
use crate::model::quantity;
use crate::model::text::shown;

/// The most warnings that one document gives; more are counted.
const MOST_WARNINGS: usize = 50;

/// A path with a field added.
pub(super) fn join(path: &str, field: &str) -> String {
    let field = shown(field);
    if path.is_empty() { field } else { format!("{path}.{field}") }
}

/// Whether the key is one of an extension, which Compose ignores.
pub(super) fn is_extension(key: &str) -> bool {
    key.starts_with("x-")
}

/// Warnings of one document, with the lines of what is looked at again later.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Notes {
    /// The document in words: `Model 'lane-core'`.
    pub title: String,
    warnings: Vec<Warning>,
    more: usize,
    lines: BTreeMap<String, u32>,
}

impl Notes {
    /// Nothing noted yet about this document.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), ..Self::default() }
    }

    /// Warns about a place.
    pub fn warn(&mut self, path: &str, line: u32, message: &str) {
        if self.warnings.len() < MOST_WARNINGS {
            self.warnings.push(Warning::new(path, line, format!("{}: {message}", self.title)));
        } else {
            self.more += 1;
        }
    }

    /// Keeps the line of a place.
    pub fn mark(&mut self, place: &Place<'_>) {
        self.lines.insert(place.path.clone(), place.node.line);
    }

    /// The line of a place that was marked, or of the nearest marked one around it; 0 for none.
    pub fn line(&self, path: &str) -> u32 {
        let mut path = path;
        loop {
            if let Some(line) = self.lines.get(path) {
                return *line;
            }
            let Some(end) = path.rfind(['.', '[']) else { return 0 };
            path = &path[..end];
        }
    }

    /// The same document's title and lines, nothing noted.
    pub fn without_warnings(&self) -> Self {
        Self { title: self.title.clone(), lines: self.lines.clone(), ..Self::default() }
    }

    /// Everything noted, with a count of what was too much.
    pub fn warnings(&self) -> Vec<Warning> {
        let mut warnings = self.warnings.clone();
        if self.more > 0 {
            warnings.push(Warning::new("", 0, format!("{}: {} more warnings", self.title, self.more)));
        }
        warnings
    }
}

/// A value of a document with its path.
#[derive(Debug, Clone)]
pub(super) struct Place<'a> {
    /// What stands there.
    pub node: &'a Node,
    /// Where: `spec.containers[0].image`.
    pub path: String,
}

impl<'a> Place<'a> {
    /// A value at a path.
    pub fn new(node: &'a Node, path: impl Into<String>) -> Self {
        Self { node, path: path.into() }
    }

    /// A value that is not allowed.
    pub fn invalid(&self, message: impl Into<String>) -> ManifestError {
        ManifestError::new(ManifestErrorKind::Invalid, message).at(self.path.clone(), self.node.line)
    }

    /// A field that cannot take effect.
    pub fn unsupported(&self, message: impl Into<String>) -> ManifestError {
        ManifestError::new(ManifestErrorKind::Unsupported, message).at(self.path.clone(), self.node.line)
    }

    /// Wants something else here.
    pub fn expected(&self, what: &str) -> ManifestError {
        self.invalid(format!("must be {what}, is {}", self.node.kind()))
    }

    fn scalar(&self, what: &str) -> ManifestResult<&'a Scalar> {
        match &self.node.value {
            Value::Scalar(scalar) if !scalar.is_null() => Ok(scalar),
            Value::Scalar(_) | Value::List(_) | Value::Map(_) => Err(self.expected(what)),
        }
    }

    /// Any scalar as it is written.
    pub fn text(&self) -> ManifestResult<String> {
        Ok(self.scalar("a text")?.text.clone())
    }

    /// One of these words.
    pub fn word<T: Copy>(&self, words: &[(&str, T)]) -> ManifestResult<T> {
        let text = &self.scalar("a text")?.text;
        let found = words.iter().find(|(word, _)| word == text).map(|(_, value)| *value);
        found.ok_or_else(|| {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.invalid(format!("'{}' is none of {}", shown(text), known.join(", ")))
        })
    }

    /// True or false, unquoted.
    pub fn boolean(&self) -> ManifestResult<bool> {
        self.scalar("true or false")?.as_bool().ok_or_else(|| self.expected("true or false"))
    }

    /// An unquoted whole number between two bounds.
    pub fn integer<T: TryFrom<i64>>(&self, least: i64, most: i64) -> ManifestResult<T> {
        let what = format!("a whole number from {least} to {most}");
        let number = self.scalar(&what)?.as_integer().ok_or_else(|| self.expected(&what))?;
        let inside = (least..=most).contains(&number);
        let number = inside.then(|| T::try_from(number).ok()).flatten();
        number.ok_or_else(|| self.invalid(format!("must be {what}")))
    }

    /// A CPU quantity in thousandths.
    pub fn millis(&self) -> ManifestResult<u64> {
        self.quantity(quantity::millis)
    }

    /// A quantity of bytes.
    pub fn bytes(&self) -> ManifestResult<u64> {
        self.quantity(quantity::bytes)
    }

    fn quantity(&self, read: fn(&str) -> Result<u64, String>) -> ManifestResult<u64> {
        let text = &self.scalar("a quantity")?.text;
        read(text).map_err(|why| self.invalid(format!("'{}' {why}", shown(text))))
    }

    /// The items of a list; a null among them is refused.
    pub fn items(&self) -> ManifestResult<Vec<Place<'a>>> {
        let Value::List(items) = &self.node.value else { return Err(self.expected("a list")) };
        let place = |(index, node): (usize, &'a Node)| {
            let place = Place::new(node, format!("{}[{index}]", self.path));
            if node.is_null() { Err(place.invalid("must not be null")) } else { Ok(place) }
        };
        items.iter().enumerate().map(place).collect()
    }

    /// A list of texts.
    pub fn texts(&self) -> ManifestResult<Vec<String>> {
        self.items()?.iter().map(Place::text).collect()
    }

    /// A mapping of texts; a null is an empty text.
    pub fn text_map(&self) -> ManifestResult<Vec<(&'a Entry, String)>> {
        let Value::Map(entries) = &self.node.value else { return Err(self.expected("a mapping")) };
        let read = |entry: &'a Entry| {
            if entry.value.is_null() {
                return Ok((entry, String::new()));
            }
            Ok((entry, Place::new(&entry.value, join(&self.path, &entry.key)).text()?))
        };
        entries.iter().map(read).collect()
    }

    /// The entries of a mapping whose keys are names, without those that begin with `x-`, which belong to nobody.
    pub fn named(&self) -> ManifestResult<Vec<(&'a Entry, Place<'a>)>> {
        let Value::Map(entries) = &self.node.value else { return Err(self.expected("a mapping")) };
        let entries = entries.iter().filter(|entry| !is_extension(&entry.key));
        Ok(entries.map(|entry| (entry, Place::new(&entry.value, join(&self.path, &entry.key)))).collect())
    }

    /// A mapping to be read field by field.
    pub fn fields(&self) -> ManifestResult<Fields<'a>> {
        let Value::Map(entries) = &self.node.value else { return Err(self.expected("a mapping")) };
        Ok(Fields { line: self.node.line, path: self.path.clone(), entries, known: BTreeSet::new() })
    }
}

/// A mapping of which every field is accounted for.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    /// The mapping's line.
    pub line: u32,
    /// The mapping's path.
    pub path: String,
    entries: &'a [Entry],
    known: BTreeSet<&'static str>,
}

impl<'a> Fields<'a> {
    /// The field's value; `None` where it is absent or null.
    pub fn take(&mut self, name: &'static str) -> Option<Place<'a>> {
        self.known.insert(name);
        let entry = self.entries.iter().find(|entry| entry.key == name)?;
        (!entry.value.is_null()).then(|| Place::new(&entry.value, join(&self.path, name)))
    }

    /// The field's value, which has to be there.
    pub fn require(&mut self, name: &'static str) -> ManifestResult<Place<'a>> {
        self.take(name).ok_or_else(|| {
            let error = ManifestError::new(ManifestErrorKind::Invalid, format!("field '{name}' is missing"));
            error.at(join(&self.path, name), self.line)
        })
    }

    /// A text that has to be there and not be empty.
    pub fn require_text(&mut self, name: &'static str) -> ManifestResult<String> {
        let place = self.require(name)?;
        let text = place.text()?;
        if text.is_empty() { Err(place.invalid("must not be empty")) } else { Ok(text) }
    }

    /// A text; absent is empty.
    pub fn text(&mut self, name: &'static str) -> ManifestResult<String> {
        self.take(name).map_or_else(|| Ok(String::new()), |place| place.text())
    }

    /// A list of texts; absent is empty.
    pub fn texts(&mut self, name: &'static str) -> ManifestResult<Vec<String>> {
        self.take(name).map_or_else(|| Ok(Vec::new()), |place| place.texts())
    }

    /// A bool; absent is false.
    pub fn flag(&mut self, name: &'static str) -> ManifestResult<bool> {
        self.take(name).map_or(Ok(false), |place| place.boolean())
    }

    /// The items of a list; absent is empty.
    pub fn items(&mut self, name: &'static str) -> ManifestResult<Vec<Place<'a>>> {
        self.take(name).map_or_else(|| Ok(Vec::new()), |place| place.items())
    }

    /// A whole number that counts something; absent is `otherwise`.
    pub fn count(&mut self, name: &'static str, least: i64, otherwise: u32) -> ManifestResult<u32> {
        self.take(name).map_or(Ok(otherwise), |place| place.integer(least, i64::from(i32::MAX)))
    }

    /// Fields that are known and change nothing here.
    pub fn skip(&mut self, names: &[&'static str]) {
        self.known.extend(names);
    }

    /// Fields that are known and would change something if they could: an error where one asks for anything.
    pub fn refuse(&mut self, names: &[&'static str]) -> ManifestResult<()> {
        for name in names {
            if let Some(place) = self.take(name).filter(|place| !place.node.is_empty()) {
                return Err(place.unsupported(format!("field '{name}' is not supported")).hint("take the field out"));
            }
        }
        Ok(())
    }

    /// Fields of which only these values, the format's own defaults, are possible.
    pub fn only(&mut self, fields: &[(&'static str, &[&str])]) -> ManifestResult<()> {
        for (name, values) in fields {
            let Some(place) = self.take(name) else { continue };
            let text = place.text()?;
            if !text.is_empty() && !values.contains(&text.as_str()) {
                let message = format!("'{name}: {}' is not supported, only {}", shown(&text), values.join(" or "));
                return Err(place.unsupported(message));
            }
        }
        Ok(())
    }

    /// Fields that are known and without effect on one node: a warning where one asks for anything.
    pub fn warn(&mut self, names: &[&'static str], why: &str, notes: &mut Notes) {
        for name in names {
            if let Some(place) = self.take(name).filter(|place| !place.node.is_empty()) {
                notes.warn(&place.path, place.node.line, &format!("field '{name}' {why}"));
            }
        }
    }

    /// Every field but those taken and null ones, warned about as unknown.
    pub fn finish(self, notes: &mut Notes) {
        let is_unknown = |entry: &&Entry| !self.known.contains(entry.key.as_str()) && !entry.value.is_null();
        for entry in self.entries.iter().filter(is_unknown) {
            let message = format!("unknown field '{}' has no effect", shown(&entry.key));
            notes.warn(&join(&self.path, &entry.key), entry.line, &message);
        }
    }

    /// Refuses every field that was not taken; of formats that refuse what they do not know.
    pub fn finish_strictly(self) -> ManifestResult<()> {
        self.refuse_unknown(|_| true)
    }

    /// The same, but for those that begin with `x-`.
    pub fn finish_but_extensions(self) -> ManifestResult<()> {
        self.refuse_unknown(|key| !is_extension(key))
    }

    fn refuse_unknown(self, counts: fn(&str) -> bool) -> ManifestResult<()> {
        let is_unknown = |entry: &&Entry| !self.known.contains(entry.key.as_str()) && counts(&entry.key);
        let Some(entry) = self.entries.iter().find(is_unknown) else { return Ok(()) };
        let message = format!("field '{}' is not known", shown(&entry.key));
        let error = ManifestError::new(ManifestErrorKind::Unsupported, message);
        Err(error.at(join(&self.path, &entry.key), entry.line).hint("take the field out"))
    }

    /// The first field that was not taken; for formats that refuse what they do not know.
    pub fn unknown(&self) -> Option<(String, u32)> {
        let entry = self.entries.iter().find(|entry| !self.known.contains(entry.key.as_str()))?;
        Some((join(&self.path, &entry.key), entry.line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Limits, parse};

    fn read<T>(text: &str, check: impl Fn(Place<'_>) -> T) -> T {
        let documents = parse::documents(text, &Limits::default()).unwrap();
        check(Place::new(&documents[0].root, ""))
    }

    #[test]
    fn unknown_fields_become_warnings_with_path_and_line() {
        read("a: 1\nb: null\nc:\n  d: 2\n", |root| {
            let mut notes = Notes::new("Pod 'x'");
            let mut fields = root.fields().unwrap();
            assert!(fields.take("b").is_none());
            let inner = fields.take("c").unwrap().fields().unwrap();
            inner.finish(&mut notes);
            fields.finish(&mut notes);
            let places: Vec<_> = notes.warnings().iter().map(|one| (one.path.clone(), one.line)).collect();
            assert_eq!(places, [("c.d".to_owned(), 4), ("a".to_owned(), 1)]);
        });
    }

    #[test]
    fn texts_take_scalars_as_written_and_bools_take_no_quotes() {
        read("a: 1.10\nb: true\nc: \"true\"\nd: 0x1F\ne: [x]\n", |root| {
            let mut fields = root.fields().unwrap();
            assert_eq!(fields.text("a").unwrap(), "1.10");
            assert_eq!(fields.text("b").unwrap(), "true");
            assert_eq!(fields.text("d").unwrap(), "0x1F");
            assert!(fields.flag("c").unwrap_err().message.contains("is a text"));
            assert_eq!(fields.text("e").unwrap_err().path, "e");
        });
    }

    #[test]
    fn refused_fields_that_ask_for_nothing_pass() {
        read("affinity: {}\nx: null\nhostAliases: [{ip: 1.1.1.1}]\n", |root| {
            let mut fields = root.fields().unwrap();
            assert!(fields.refuse(&["affinity", "x"]).is_ok());
            let error = fields.refuse(&["hostAliases"]).unwrap_err();
            assert_eq!((error.kind, error.line), (ManifestErrorKind::Unsupported, 3));
        });
    }

    #[test]
    fn numbers_outside_their_bounds_are_refused() {
        read("a: 65536\nb: 1.0\nc: -1\n", |root| {
            let mut fields = root.fields().unwrap();
            for name in ["a", "b", "c"] {
                assert!(fields.take(name).unwrap().integer::<u16>(1, 65535).is_err(), "{name}");
            }
        });
    }

    #[test]
    fn warnings_are_bounded_and_the_rest_is_counted() {
        let mut notes = Notes::new("x");
        for _ in 0..1000 {
            notes.warn("p", 1, "m");
        }
        let warnings = notes.warnings();
        assert_eq!(warnings.len(), MOST_WARNINGS + 1);
        assert!(warnings[MOST_WARNINGS].message.contains("950 more"));
    }
}
