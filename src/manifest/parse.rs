//! Text to trees: splits a text of YAML documents or a JSON document and builds a [`Node`] of each.
//!
//! serde-saphyr's `Spanned` locates fields of structs that are known beforehand; it does not nest in a tree of
//! unknown form, and a scalar's own text is lost in serde's types. So this builds the tree from the events of the
//! parser that serde-saphyr is made on, with its limits on depth and own ones on size: an alias costs what it stands
//! for, so that a document never grows in memory beyond the limits.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Span, Tag};

use super::Limits;
use super::error::{ManifestError, ManifestErrorKind, ManifestResult};
use super::node::{Entry, Node, Scalar, Value};
use crate::model::text::shown;

/// The parser's reasons may hold a part of the text.
const LONGEST_REASON: usize = 200;

/// A document with its own part of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parsed {
    /// What it says.
    pub root: Node,
    /// The text from its start to that of the next document.
    pub text: String,
}

impl Parsed {
    /// A Pod that stands for the Model of its name.
    pub fn into_model(mut self) -> Self {
        if let Value::Map(entries) = &mut self.root.value {
            for entry in entries.iter_mut().filter(|entry| entry.key == "kind") {
                entry.value.value = Value::Scalar(Scalar { text: "Model".to_owned(), plain: true });
            }
        }
        self
    }

    /// This document with the `spec` of another one.
    pub fn with_specification_of(mut self, other: Self) -> Self {
        let spec = match other.root.value {
            Value::Map(entries) => entries.into_iter().find(|entry| entry.key == "spec"),
            Value::List(_) | Value::Scalar(_) => None,
        };
        if let Value::Map(entries) = &mut self.root.value {
            entries.retain(|entry| entry.key != "spec");
            entries.extend(spec);
        }
        self
    }
}

/// Reads every document that is not empty.
pub(super) fn documents(text: &str, limits: &Limits) -> ManifestResult<Vec<Parsed>> {
    if text.len() > limits.max_bytes {
        return Err(ManifestError::limit("max_bytes", limits.max_bytes, &format!("a text of {} bytes", text.len())));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut composer = Composer::new(limits);
    for event in Parser::new_from_str_with_options(text, options(limits)) {
        let (event, span) = event.map_err(|error| not_yaml(&error, limits))?;
        composer.take(event, span)?;
    }
    Ok(composer.finish(text))
}

/// What the parser itself bounds.
fn options(limits: &Limits) -> Options {
    let mut options = serde_saphyr::granit_parser::options! {
        disallow_directives: true,
        flow_nesting_limit: limits.max_depth,
        block_nesting_limit: limits.max_depth,
    };
    options.set_emit_comments(false);
    options
}

/// A text that the parser does not take.
fn not_yaml(error: &ScanError, limits: &Limits) -> ManifestError {
    use serde_saphyr::granit_parser::ErrorKind as Kind;
    let line = line_number(error.marker().line());
    if matches!(error.kind(), Kind::RecursionLimitExceeded) {
        return too_deep(limits).at("", line);
    }
    let why: String = error.info().chars().take(LONGEST_REASON).flat_map(char::escape_debug).collect();
    let message = format!("no YAML or JSON: {why} (column {})", error.marker().col() + 1);
    ManifestError::new(ManifestErrorKind::Invalid, message).at("", line)
}

fn too_deep(limits: &Limits) -> ManifestError {
    ManifestError::limit("max_depth", limits.max_depth, "nested lists and mappings")
}

fn line_number(line: usize) -> u32 {
    u32::try_from(line).unwrap_or(u32::MAX)
}

/// What a node costs, with everything under it.
#[derive(Debug, Clone, Copy, Default)]
struct Weight {
    nodes: usize,
    bytes: usize,
    height: usize,
}

impl Weight {
    fn add(&mut self, child: Self) {
        self.nodes += child.nodes;
        self.bytes += child.bytes;
        self.height = self.height.max(child.height + 1);
    }
}

/// A list or mapping whose end has not come.
struct Open {
    line: u32,
    anchor: usize,
    weight: Weight,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, seen: HashSet<String>, key: Option<(String, u32)> },
}

/// Builds trees from events, with the sums that the limits are on.
struct Composer<'l> {
    limits: &'l Limits,
    open: Vec<Open>,
    anchors: HashMap<usize, (Node, Weight)>,
    nodes: usize,
    bytes: usize,
    documents: usize,
    /// Where each document starts in the text; the root where it is not empty.
    roots: Vec<(usize, Option<Node>)>,
}

impl<'l> Composer<'l> {
    fn new(limits: &'l Limits) -> Self {
        Self { limits, open: Vec::new(), anchors: HashMap::new(), nodes: 0, bytes: 0, documents: 0, roots: Vec::new() }
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> ManifestResult<()> {
        let line = line_number(span.start.line());
        match event {
            Event::DocumentStart(..) => self.start_document(span.start.byte_offset().unwrap_or(0), line),
            Event::Scalar(text, style, anchor, tag) => {
                let scalar = self.scalar(text, style, tag.as_deref(), line)?;
                let weight = Weight { nodes: 1, bytes: scalar.text.len(), height: 0 };
                self.place(Node { line, value: Value::Scalar(scalar) }, weight, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), &["seq"], line)?;
                self.begin(line, anchor, Content::List(Vec::new()))
            }
            Event::MappingStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), &["map"], line)?;
                let content = Content::Map { entries: Vec::new(), seen: HashSet::new(), key: None };
                self.begin(line, anchor, content)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => self.alias(anchor, line),
            // Stream, document ends and presentation. The parser's enum grows; what is no node makes no tree.
            _ => Ok(()),
        }
    }

    fn start_document(&mut self, offset: usize, line: u32) -> ManifestResult<()> {
        self.documents += 1;
        if self.documents > self.limits.max_documents {
            return Err(ManifestError::limit("max_documents", self.limits.max_documents, "documents").at("", line));
        }
        self.anchors.clear();
        self.roots.push((offset, None));
        Ok(())
    }

    fn scalar(&self, text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Tag>, line: u32) -> ManifestResult<Scalar> {
        self.check_tag(tag, &["str", "int", "float", "bool", "null"], line)?;
        let text = text.into_owned();
        if text.contains('\0') {
            return Err(self.invalid("a text holds a NUL character", line));
        }
        let as_text = tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
        Ok(Scalar { text, plain: style == ScalarStyle::Plain && !as_text })
    }

    fn check_tag(&self, tag: Option<&Tag>, known: &[&str], line: u32) -> ManifestResult<()> {
        match tag {
            Some(tag) if !tag.core_suffix().is_some_and(|suffix| known.contains(&suffix)) => {
                Err(self.invalid(&format!("tag '{}' has no meaning here", shown(&tag.original())), line))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn begin(&mut self, line: u32, anchor: usize, content: Content) -> ManifestResult<()> {
        if self.open.len() >= self.limits.max_depth {
            return Err(too_deep(self.limits).at(self.path(), line));
        }
        if matches!(&self.open.last(), Some(Open { content: Content::Map { key: None, .. }, .. })) {
            return Err(self.invalid("the key of a mapping must be a text", line));
        }
        self.open.push(Open { line, anchor, weight: Weight { nodes: 1, bytes: 0, height: 0 }, content });
        Ok(())
    }

    fn end(&mut self) -> ManifestResult<()> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let value = match open.content {
            Content::List(items) => Value::List(items),
            Content::Map { entries, .. } => Value::Map(entries),
        };
        self.place(Node { line: open.line, value }, open.weight, open.anchor)
    }

    fn alias(&mut self, anchor: usize, line: u32) -> ManifestResult<()> {
        let inside = || self.invalid("an alias stands inside what it refers to", line);
        let weight = self.anchors.get(&anchor).ok_or_else(inside)?.1;
        if self.open.len() + weight.height > self.limits.max_depth {
            return Err(too_deep(self.limits).at(self.path(), line));
        }
        // Counted before it is copied, with all that it stands for.
        self.charge(weight, line)?;
        let Some((node, _)) = self.anchors.get(&anchor) else { return Ok(()) };
        let node = Node { line, ..node.clone() };
        self.attach(node, weight)
    }

    /// Puts a finished node in its place and remembers it under its anchor (0: none).
    fn place(&mut self, node: Node, weight: Weight, anchor: usize) -> ManifestResult<()> {
        // What is under a list or mapping was counted when it came.
        let own = Weight { nodes: 1, bytes: if weight.height == 0 { weight.bytes } else { 0 }, height: 0 };
        self.charge(own, node.line)?;
        if anchor != 0 {
            self.charge(weight, node.line)?;
            self.anchors.insert(anchor, (node.clone(), weight));
        }
        self.attach(node, weight)
    }

    fn charge(&mut self, weight: Weight, line: u32) -> ManifestResult<()> {
        self.nodes = self.nodes.saturating_add(weight.nodes);
        self.bytes = self.bytes.saturating_add(weight.bytes);
        if self.nodes > self.limits.max_nodes {
            let error = ManifestError::limit("max_nodes", self.limits.max_nodes, "values, with what aliases stand for");
            return Err(error.at("", line));
        }
        // Twice the text: without aliases it can hold no more than itself.
        if self.bytes > self.limits.max_bytes.saturating_mul(2) {
            let what = "text, with what aliases stand for";
            return Err(ManifestError::limit("max_bytes", self.limits.max_bytes, what).at("", line));
        }
        Ok(())
    }

    fn attach(&mut self, node: Node, weight: Weight) -> ManifestResult<()> {
        let line = node.line;
        let Some(open) = self.open.last_mut() else {
            if let Some((_, root)) = self.roots.last_mut() {
                *root = Some(node);
            }
            return Ok(());
        };
        open.weight.add(weight);
        match &mut open.content {
            Content::List(items) => items.push(node),
            Content::Map { entries, seen, key } => {
                if let Some((key, line)) = key.take() {
                    entries.push(Entry { key, line, value: node });
                    return Ok(());
                }
                let Value::Scalar(Scalar { text, plain }) = node.value else {
                    return Err(self.invalid("the key of a mapping must be a text", line));
                };
                if text == "<<" && plain {
                    let error = self.invalid("merge keys (`<<`) are not part of YAML 1.2", line);
                    return Err(error.hint("write the fields out"));
                }
                if !seen.insert(text.clone()) {
                    return Err(self.invalid(&format!("key '{}' is given twice", shown(&text)), line));
                }
                *key = Some((text, line));
            }
        }
        Ok(())
    }

    fn invalid(&self, message: &str, line: u32) -> ManifestError {
        ManifestError::new(ManifestErrorKind::Invalid, message).at(self.path(), line)
    }

    /// The path of what is being built.
    fn path(&self) -> String {
        let mut path = String::new();
        for open in &self.open {
            match &open.content {
                Content::List(items) => path.push_str(&format!("[{}]", items.len())),
                Content::Map { key: Some((key, _)), .. } => path = super::reader::join(&path, key),
                Content::Map { key: None, .. } => {}
            }
        }
        path
    }

    fn finish(self, text: &str) -> Vec<Parsed> {
        let starts: Vec<usize> = self.roots.iter().map(|(start, _)| *start).collect();
        let mut parsed = Vec::new();
        for (index, (start, root)) in self.roots.into_iter().enumerate() {
            let start = if index == 0 { 0 } else { start };
            let end = starts.get(index + 1).copied().unwrap_or(text.len());
            if let Some(root) = root.filter(|root| !root.is_null()) {
                let text = text.get(start..end).unwrap_or(text).to_owned();
                parsed.push(Parsed { root, text });
            }
        }
        parsed
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> ManifestResult<Vec<Parsed>> {
        documents(text, &Limits::default())
    }

    fn without_lines(mut node: Node) -> Node {
        node.line = 0;
        match &mut node.value {
            Value::Scalar(_) => {}
            Value::List(items) => items.iter_mut().for_each(|item| *item = without_lines(item.clone())),
            Value::Map(entries) => {
                for entry in entries {
                    entry.line = 0;
                    entry.value = without_lines(entry.value.clone());
                }
            }
        }
        node
    }

    #[test]
    fn three_dashes_inside_values_do_not_end_a_document() {
        let text = "a: |\n  x\n  ---\n  y\nb: 'q --- q'\n---\nc: x---y\n";
        let found = parse(text).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[1].text, "---\nc: x---y\n");
        assert_eq!(found[0].text, "a: |\n  x\n  ---\n  y\nb: 'q --- q'\n");
    }

    #[test]
    fn empty_documents_are_skipped_and_comments_are_no_documents() {
        for text in ["", "\n", "# only\n", "---\n---\n", "null\n", "---\n# x\n...\n", "\u{feff}"] {
            assert_eq!(parse(text).unwrap(), [], "{text:?}");
        }
        assert_eq!(parse("---\n---\na: 1\n---\n").unwrap().len(), 1);
    }

    #[test]
    fn duplicate_keys_are_refused_with_path_and_line() {
        let error = parse("a:\n  - b: 1\n    c: 2\n    b: 3\n").unwrap_err();
        assert_eq!((error.path.as_str(), error.line), ("a[0]", 4));
        assert!(error.message.contains("'b' is given twice"), "{}", error.message);
    }

    #[test]
    fn json_with_tabs_and_escapes_is_read() {
        let long = "k".repeat(1000);
        let text = format!("{{\n\t\"a\": \"\\ud83d\\ude97\\/x\",\n\t\"b\": [1, true, null],\n\t\"{long}\": {{}}\n}}\n");
        let found = parse(&text).unwrap();
        let Value::Map(entries) = &found[0].root.value else { panic!() };
        let Value::Scalar(scalar) = &entries[0].value.value else { panic!() };
        assert_eq!(scalar.text, "🚗/x");
        assert_eq!(entries[1].line, 3);
        assert_eq!(entries[2].key, long);
    }

    #[test]
    fn aliases_are_what_they_stand_for_and_bombs_are_refused() {
        let found = parse("a: &x [1, 2]\nb: *x\n").unwrap();
        let Value::Map(entries) = &found[0].root.value else { panic!() };
        assert_eq!(without_lines(entries[0].value.clone()), without_lines(entries[1].value.clone()));
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..30 {
            let before = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{before}]\n"));
        }
        let error = parse(&bomb).unwrap_err();
        assert_eq!(error.kind, ManifestErrorKind::Limit);
        assert!(error.message.contains("max_nodes"), "{}", error.message);
        assert!(parse("a: &a [*a]\n").is_err());
    }

    #[test]
    fn wrong_texts_are_refused_with_their_line() {
        for (text, line) in
            [("a: [1,\n", 2), ("a: 1\n b: 2\n", 2), ("a: !secret x\n", 1), ("%YAML 1.2\n---\na: 1\n", 1)]
        {
            let error = parse(text).unwrap_err();
            assert_eq!(error.kind, ManifestErrorKind::Invalid, "{text:?}");
            assert!(error.line.abs_diff(line) <= 1 && error.line > 0, "{text:?}: {error}");
        }
        assert!(parse("<<: {a: 1}\n").unwrap_err().message.contains("merge"));
        assert!(parse("? [a]\n: b\n").is_err());
        assert!(parse("a: \"\\0\"\n").unwrap_err().message.contains("NUL"));
    }

    #[test]
    fn nesting_beyond_the_limit_is_refused_by_name() {
        let blocks: String = (0..100).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
        for text in ["[".repeat(100_000), "- ".repeat(1000), "{a: ".repeat(100_000), blocks] {
            let error = parse(&text).unwrap_err();
            assert!(error.message.contains("max_depth of 64"), "{error}");
        }
        assert!(parse(&format!("{}{}", "[".repeat(64), "]".repeat(64))).is_ok());
    }

    #[test]
    fn hostile_texts_of_the_largest_size_end_in_bounded_time() {
        let patterns = [
            "[",
            "{",
            "- ",
            "? ",
            "a: ",
            "---\n",
            "\"",
            "'",
            "&a ",
            "*a ",
            "!x ",
            "|\n",
            "# c\n",
            "\n",
            "\t",
            "%",
            ",",
            "[]",
            "a\n",
            "- a\n",
            "{}\n",
            "a: &b c\n",
            ": ",
            "\u{85}",
            "é",
            "- - a\n",
            "...\n",
            "\"\\x41\" ",
            "[a, ",
            "? a\n",
            "- |\n  x\n",
            "@",
            "&a [",
        ];
        for pattern in patterns {
            // Those that the parser has to read to their end are the slow ones.
            let bytes = if matches!(pattern, "|\n" | "a\n" | "...\n") { 4 * 1024 * 1024 } else { 512 * 1024 };
            let text = pattern.repeat(bytes / pattern.len());
            let begun = Instant::now();
            let _ = parse(&text);
            assert!(begun.elapsed() < Duration::from_secs(30), "{pattern:?} took {:?}", begun.elapsed());
        }
    }

    /// Documents of values that are hard to split, with what they hold.
    fn value() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z0-9 -]{1,12}".prop_map(|text| format!("v: \"--- {text}\"\n")),
            "[a-z-]{1,8}".prop_map(|text| format!("v: |\n  ---\n  {text}\n  --- x\n")),
            "[a-z]{1,8}".prop_map(|text| format!("v: >-\n  {text}\n\n  ...\n")),
            "[a-z]{1,8}".prop_map(|text| format!("v: [{text}---, '...']\n")),
            "[a-z]{1,8}".prop_map(|text| format!("v: |+\n  {text}\n\n\n")),
        ]
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
            let _ = parse(&text);
        }

        #[test]
        fn arbitrary_structure_never_panics(text in "[-a-z:{}\\[\\],&*!|>'\"#%@` \\n\\t?]{0,200}") {
            let _ = parse(&text);
        }

        #[test]
        fn documents_split_as_yaml_says_and_each_text_reads_alike_alone(values in prop::collection::vec(value(), 1..6)) {
            let text = values.join("---\n");
            let found = parse(&text).unwrap();
            prop_assert_eq!(found.len(), values.len());
            prop_assert_eq!(found.iter().map(|one| one.text.as_str()).collect::<String>(), text);
            for (one, value) in found.iter().zip(&values) {
                let alone = parse(&one.text).unwrap();
                prop_assert_eq!(without_lines(alone[0].root.clone()), without_lines(one.root.clone()));
                let written = parse(value).unwrap();
                prop_assert_eq!(without_lines(written[0].root.clone()), without_lines(one.root.clone()));
            }
        }
    }
}
