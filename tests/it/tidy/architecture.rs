//! ARCHITECTURE.md is a map: it names every file of `src` and `tests`, and nothing that is not there.
//!
//! A file is named by its path in backticks, `src/config/tree.rs`, or together with its neighbours,
//! `src/config/{mod,tree}.rs`; folders of data or generated code by the folder's path, `tests/fixtures/`.

use std::collections::BTreeSet;

use super::files::{is_generated, project, read, tracked};

/// Everything between backticks that looks like a path of ours, with braces expanded.
fn named(text: &str) -> BTreeSet<String> {
    let spans = text.split('`').skip(1).step_by(2);
    let paths = spans.filter(|span| ["src/", "tests/"].iter().any(|part| span.starts_with(part)));
    paths.flat_map(expand).collect()
}

/// `a/{b,c}.rs` as `a/b.rs` and `a/c.rs`.
fn expand(path: &str) -> Vec<String> {
    let braces =
        path.split_once('{').and_then(|(head, rest)| rest.split_once('}').map(|(list, end)| (head, list, end)));
    let Some((head, list, end)) = braces else { return vec![path.to_owned()] };
    list.split(',').flat_map(|name| expand(&format!("{head}{}{end}", name.trim()))).collect()
}

fn is_named(path: &str, named: &BTreeSet<String>) -> bool {
    let by_folder = !path.ends_with(".rs") || is_generated(path);
    let folders = path.match_indices('/').map(|(end, _)| &path[..=end]);
    named.contains(path) || by_folder && folders.into_iter().any(|folder| named.contains(folder))
}

#[test]
fn architecture_names_every_file() {
    let named = named(&read("ARCHITECTURE.md"));
    let ours = tracked().into_iter().filter(|path| path.starts_with("src/") || path.starts_with("tests/"));
    let missing: Vec<_> = ours.filter(|path| !is_named(path, &named)).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md does not name {missing:#?}");
}

#[test]
fn architecture_names_nothing_that_is_not_there() {
    let gone: Vec<_> =
        named(&read("ARCHITECTURE.md")).into_iter().filter(|path| !project().join(path).exists()).collect();
    assert!(gone.is_empty(), "ARCHITECTURE.md names {gone:#?}");
}

#[test]
fn names_in_braces_are_all_read() {
    let named = named("see `src/a/{mod,b}.rs`, `tests/fixtures/` and `cargo`");
    for path in ["src/a/mod.rs", "src/a/b.rs", "tests/fixtures/x/y.yaml"] {
        assert!(is_named(path, &named), "{path}");
    }
    assert!(!is_named("src/a/c.rs", &named));
    assert!(!is_named("tests/fixtures/code.rs", &named));
}
