//! [`Bundle`]: documents that are launched as one action, and which those are.
//!
//! A set of documents has one target where all but one are named by another: a Scenario names its Package, a Package
//! its Models. Then they go as one action. Several that nobody names (three Pods, say) are several targets: each
//! becomes an action of its own with the files that it needs. Files go as they are, so that the daemon's line numbers
//! are the files' own; what is no document is left to the daemon to refuse.
//!
//! A Compose project and a systemd unit may have no name of their own. Then the name is that of the folder, as Docker
//! Compose has it, and that of the file.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::sources::Source;

/// Documents that are launched as one action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// What is launched; empty where only the daemon can tell.
    pub target: String,
    /// The documents.
    pub text: String,
    /// From which line on (from 1) the text is which file's.
    origins: Vec<(u32, String)>,
}

impl Bundle {
    /// The file and its own line of a line of the text; line 0 stands for no line.
    pub fn locate(&self, line: u32) -> (&str, u32) {
        let origin = match line {
            // Without a line there is no telling unless there is one file.
            0 => self.origins.first().filter(|_| self.origins.len() == 1),
            line => self.origins.iter().rev().find(|(first, _)| *first <= line),
        };
        match origin {
            Some((first, name)) if line > 0 => (name, line - first + 1),
            Some((_, name)) => (name, 0),
            None => ("", line),
        }
    }

    fn of(target: String, sources: &[&Source]) -> Self {
        let mut bundle = Self { target, text: String::new(), origins: Vec::new() };
        let mut line = 1;
        for source in sources {
            if !bundle.text.is_empty() {
                bundle.text.push_str("---\n");
                line += 1;
            }
            bundle.origins.push((line, source.name.clone()));
            bundle.text.push_str(&source.text);
            if !bundle.text.ends_with('\n') {
                bundle.text.push('\n');
            }
            let breaks = source.text.matches('\n').count() + usize::from(!source.text.ends_with('\n'));
            line += u32::try_from(breaks).unwrap_or(u32::MAX);
        }
        bundle
    }
}

/// Words for documents without a kind; the daemon's own.
const COMPOSE: &str = "Compose";
const BUNDLE: &str = "Bundle";

/// The name of a project: its own, where it is one as it stands, or that of its folder. Empty leaves it to the daemon.
fn project(own: Option<&Value>, file: &str) -> String {
    match own {
        Some(Value::String(own)) if !own.contains('$') => return own.clone(),
        Some(Value::Null) | None => {}
        Some(_) => return String::new(),
    }
    if file == crate::sources::STDIN {
        return String::new();
    }
    let path = std::path::absolute(file).unwrap_or_default();
    let folder = path.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
    let lower = folder.to_ascii_lowercase().replace('_', "-");
    let is_inner = |one: &char| one.is_ascii_lowercase() || one.is_ascii_digit() || *one == '-';
    lower.chars().filter(is_inner).collect::<String>().trim_matches('-').to_owned()
}

/// Whether the text is a systemd unit: what it begins with is the header of a section.
fn is_unit(text: &str) -> bool {
    let mut lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with(['#', ';']));
    first.is_some_and(|line| {
        let name = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')).unwrap_or_default();
        !name.is_empty() && name.chars().all(|one| one.is_ascii_alphanumeric() || matches!(one, '-' | '_' | ' ' | '.'))
    })
}

/// The name of a unit: the one in its own section, or that of its file.
fn unit_name(source: &Source) -> String {
    let mut section = "";
    for line in source.text.lines().map(str::trim) {
        match line.split_once('=') {
            Some((key, value)) if section == "[X-ActionController]" && key.trim() == "Name" => {
                return value.trim().to_owned();
            }
            _ if line.starts_with('[') => section = line,
            _ => {}
        }
    }
    if source.name == crate::sources::STDIN {
        return String::new();
    }
    Path::new(&source.name).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned()
}

/// A document as far as it matters here.
struct Head {
    source: usize,
    kind: String,
    name: String,
    names: Vec<String>,
}

impl Head {
    fn of(source: usize, file: &str, document: &Value) -> Option<Self> {
        let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let kind = text("/kind");
        let other = |kind: &str, name: String| Some(Self { source, kind: kind.to_owned(), name, names: Vec::new() });
        if kind.is_empty() && document.get("services").is_some() {
            return other(COMPOSE, project(document.get("name"), file));
        }
        if kind.is_empty() && document.get("ociVersion").is_some() {
            return other(BUNDLE, text("/annotations/actioncontroller.io~1name"));
        }
        let names = match kind.as_str() {
            "Scenario" => vec![text("/spec/target")],
            "Package" => {
                let models = document.pointer("/spec/models").and_then(Value::as_array);
                let names = models.into_iter().flatten().filter_map(|model| model.get("name").and_then(Value::as_str));
                names.map(str::to_owned).collect()
            }
            _ => Vec::new(),
        };
        (!kind.is_empty()).then(|| Self { source, kind, name: text("/metadata/name"), names })
    }

    /// Whether it can be launched; the others only go along.
    fn is_launched(&self) -> bool {
        self.level().is_some()
    }

    /// A Scenario names Packages, and a Package workloads: each names what is one level below it.
    fn level(&self) -> Option<u8> {
        match self.kind.as_str() {
            "Scenario" => Some(2),
            "Package" => Some(1),
            "Model" | "Pod" | "Deployment" | COMPOSE | BUNDLE => Some(0),
            _ => None,
        }
    }

    fn refers_to(&self, other: &Self) -> bool {
        let below = self.level().and_then(|level| level.checked_sub(1));
        let can_be_named = !matches!(other.kind.as_str(), COMPOSE | BUNDLE);
        can_be_named && below.is_some() && below == other.level() && self.names.contains(&other.name)
    }
}

/// The actions that these documents are, at least one.
pub fn group(sources: &[Source]) -> Vec<Bundle> {
    let (units, others): (Vec<Source>, Vec<Source>) = sources.iter().cloned().partition(|source| is_unit(&source.text));
    let mut bundles = if others.is_empty() && !units.is_empty() { Vec::new() } else { group_trees(&others) };
    bundles.extend(units.iter().map(|unit| Bundle::of(unit_name(unit), &[unit])));
    bundles
}

/// The same of those that are YAML or JSON.
fn group_trees(sources: &[Source]) -> Vec<Bundle> {
    let all: Vec<&Source> = sources.iter().collect();
    let Some(heads) = heads(sources) else {
        return vec![Bundle::of(String::new(), &all)];
    };
    let is_named = |head: &Head| heads.iter().any(|other| other.refers_to(head));
    let roots: Vec<&Head> = heads.iter().filter(|head| head.is_launched() && !is_named(head)).collect();
    match roots.as_slice() {
        [] => vec![Bundle::of(String::new(), &all)],
        [root] => vec![Bundle::of(root.name.clone(), &all)],
        several => several.iter().map(|root| Bundle::of(root.name.clone(), &needed(root, &heads, sources))).collect(),
    }
}

/// Every document of every file; `None` where one cannot be read.
fn heads(sources: &[Source]) -> Option<Vec<Head>> {
    let mut heads = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        let documents: Vec<Value> = serde_saphyr::from_multiple(&source.text).ok()?;
        heads.extend(documents.iter().filter_map(|document| Head::of(index, &source.name, document)));
    }
    Some(heads)
}

/// The files with what the root names, directly or not, and those that hold nothing to launch.
fn needed<'a>(root: &Head, heads: &[Head], sources: &'a [Source]) -> Vec<&'a Source> {
    let mut wanted = BTreeSet::from([root.source]);
    let mut reached = vec![root];
    while let Some(head) = reached.pop() {
        // Each step goes one level down, so this ends.
        let named = heads.iter().filter(|other| head.refers_to(other));
        for other in named {
            wanted.insert(other.source);
            reached.push(other);
        }
    }
    let launched: BTreeSet<usize> = heads.iter().filter(|head| head.is_launched()).map(|head| head.source).collect();
    let indexed = sources.iter().enumerate();
    indexed.filter(|(index, _)| wanted.contains(index) || !launched.contains(index)).map(|(_, source)| source).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str, text: &str) -> Source {
        Source { name: name.to_owned(), text: text.to_owned() }
    }

    fn pod(name: &str) -> String {
        format!("apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n")
    }

    #[test]
    fn one_file_goes_as_it_is() {
        let text = format!("# comment\n{}", pod("web"));
        let bundles = group(&[source("web.yaml", &text)]);
        assert_eq!(bundles.len(), 1);
        assert_eq!((bundles[0].target.as_str(), &bundles[0].text), ("web", &text));
    }

    #[test]
    fn package_with_its_models_is_one_action_however_it_is_cut_into_files() {
        let package = "kind: Package\nmetadata: {name: lane}\nspec: {models: [{name: core}, {name: log}]}\n";
        let scenario = "kind: Scenario\nmetadata: {name: keep}\nspec: {action: launch, target: lane}";
        let schedule = "kind: Schedule\nmetadata: {name: s}\nspec:\n  - {name: t}\n";
        let models = "kind: Model\nmetadata: {name: core}\n---\nkind: Model\nmetadata: {name: log}\n";
        let bundles = group(&[source("a", models), source("b", package), source("c", schedule)]);
        assert_eq!(bundles.iter().map(|bundle| bundle.target.as_str()).collect::<Vec<_>>(), ["lane"]);
        let bundles = group(&[source("a", models), source("b", scenario), source("c", package)]);
        assert_eq!(bundles.iter().map(|bundle| bundle.target.as_str()).collect::<Vec<_>>(), ["keep"]);
        assert_eq!(bundles[0].text, format!("{models}---\n{scenario}\n---\n{package}"));
    }

    #[test]
    fn pods_that_nobody_names_are_an_action_each_with_what_goes_along() {
        let volume = "kind: Volume\nmetadata: {name: v}\n";
        let bundles = group(&[source("a", &pod("a")), source("b", &pod("b")), source("v", volume)]);
        assert_eq!(bundles.iter().map(|bundle| bundle.target.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(bundles[1].text, format!("{}---\n{volume}", pod("b")));
        let one_file = format!("{}---\n{}", pod("a"), pod("b"));
        let bundles = group(&[source("ab", &one_file)]);
        assert_eq!(bundles.iter().map(|bundle| bundle.target.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert!(bundles.iter().all(|bundle| bundle.text == one_file));
    }

    #[test]
    fn package_of_the_name_of_its_scenario_is_still_named() {
        let text = "kind: Scenario\nmetadata: {name: x}\nspec: {target: x}\n---\nkind: Package\nmetadata: {name: x}\n\
                    spec: {models: [{name: x}]}\n---\nkind: Model\nmetadata: {name: x}\n";
        assert_eq!(group(&[source("x", text)]).len(), 1);
    }

    #[test]
    fn project_has_its_own_name_or_that_of_its_folder() {
        let text = "services: {web: {image: i}}\n";
        for (file, text, target) in [
            ("/srv/My_Shop.2/compose.yaml", text.to_owned(), "my-shop2"),
            ("/srv/x/compose.yaml", format!("name: own\n{text}"), "own"),
            ("/srv/x/compose.yaml", format!("name: ${{A:-b}}\n{text}"), ""),
            ("stdin", text.to_owned(), ""),
        ] {
            let bundles = group(&[source(file, &text)]);
            assert_eq!((bundles.len(), bundles[0].target.as_str()), (1, target), "{file} {text}");
        }
        let bundle = "{\"ociVersion\": \"1.0\", \"annotations\": {\"actioncontroller.io/name\": \"lamp\"}}";
        assert_eq!(group(&[source("config.json", bundle)])[0].target, "lamp");
    }

    #[test]
    fn units_are_an_action_each_under_their_own_name_or_that_of_their_file() {
        let unit = "# x\n[Service]\nExecStart=a\n";
        let named = format!("{unit}[X-ActionController]\nName = lamp\n");
        let bundles = group(&[source("/etc/a.service", unit), source("p", &pod("web")), source("b.container", &named)]);
        let targets: Vec<&str> = bundles.iter().map(|bundle| bundle.target.as_str()).collect();
        assert_eq!(targets, ["web", "a", "lamp"]);
        assert_eq!(bundles[1].text, unit);
    }

    #[test]
    fn what_is_no_document_is_left_to_the_daemon() {
        for text in ["{", "a: [", "just text", "kind: [Pod]", "kind: List\nitems: []", "- a\n- b"] {
            let bundles = group(&[source("bad", text)]);
            assert_eq!(bundles.len(), 1, "{text}");
            assert_eq!(bundles[0].target, "");
        }
    }

    #[test]
    fn lines_are_those_of_the_files() {
        let first = "kind: Package\nmetadata: {name: p}\nspec: {models: [{name: m}]}";
        let bundles = group(&[source("p.yaml", first), source("m.yaml", "kind: Model\nmetadata: {name: m}\n")]);
        let bundle = &bundles[0];
        assert_eq!(bundle.locate(1), ("p.yaml", 1));
        assert_eq!(bundle.locate(3), ("p.yaml", 3));
        assert_eq!(bundle.locate(5), ("m.yaml", 1));
        assert_eq!(bundle.text.lines().nth(4), Some("kind: Model"));
        assert_eq!(bundle.locate(0), ("", 0));
    }
}
