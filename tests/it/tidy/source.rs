//! Rules for each source file: its header, its size, and words that it may not hold.

use super::files::{code_lines, is_generated, is_test_file, project, read, tracked, written_rust};

/// No file is longer, comments, blank lines and inline tests aside.
const MAX_CODE_LINES: usize = 500;

#[test]
fn every_source_file_begins_with_what_it_is_for() {
    let bare: Vec<_> = written_rust().into_iter().filter(|path| !read(path).starts_with("//! ")).collect();
    assert!(bare.is_empty(), "line 1 is no '//! ' header: {bare:#?}");
}

#[test]
fn no_source_file_is_longer_than_one_can_read() {
    let size = |path: &str| code_lines(path).iter().filter(|(_, line)| !line.trim().is_empty()).count();
    let long: Vec<_> = written_rust().into_iter().map(|path| (size(&path), path)).collect();
    let long: Vec<_> = long.into_iter().filter(|(lines, _)| *lines > MAX_CODE_LINES).collect();
    assert!(long.is_empty(), "more than {MAX_CODE_LINES} lines of code: {long:#?}");
}

#[test]
fn nothing_outside_tests_gives_up_with_a_panic() {
    let mut found = Vec::new();
    for path in written_rust().into_iter().filter(|path| !is_test_file(path)) {
        for (number, line) in code_lines(&path) {
            for word in [".unwrap()", "panic!(", "todo!(", "unimplemented!("] {
                if line.contains(word) {
                    found.push(format!("{path}:{number}: {}", line.trim()));
                }
            }
        }
    }
    assert!(found.is_empty(), "return an error instead: {found:#?}");
}

#[test]
fn no_test_is_switched_off_or_passes_by_panicking() {
    let words = [concat!("#[", "ignore"), concat!("should", "_panic")];
    let found: Vec<_> =
        written_rust().into_iter().filter(|path| words.iter().any(|word| read(path).contains(word))).collect();
    assert!(found.is_empty(), "{words:?} in {found:#?}");
}

#[test]
fn no_file_names_a_machine_of_its_makers() {
    // Put together here, so that this file does not hold them.
    let folders = [concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/wo", "rk/")];
    let hosts = [
        concat!("crates", ".io"),
        concat!("pypi", ".org"),
        concat!("pythonhosted", ".org"),
        concat!("deb.debian", ".org"),
        concat!("npmjs", ".org"),
    ];
    // A lock file and the list made from it say where each package is from.
    let from_registry = |path: &str| path == "Cargo.lock" || path.ends_with("-crates.inc");
    let mut found = Vec::new();
    for path in tracked().into_iter().filter(|path| !is_generated(path) && !from_registry(path)) {
        let Ok(text) = std::fs::read_to_string(project().join(&path)) else { continue };
        for (index, line) in text.lines().enumerate() {
            let host = hosts.iter().any(|host| line.contains(host)) && !is_crate_uri(line);
            // The ceiling names folders that every machine has.
            let folder = !path.starts_with("src/security/") && folders.iter().any(|folder| names_folder(line, folder));
            if host || folder {
                found.push(format!("{path}:{}: {}", index + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// Whether the line names this folder of the machine, and not one of that name below another.
fn names_folder(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| !line[..at].ends_with(|before: char| before.is_alphanumeric()))
}

/// The scheme that BitBake has for packages, in the test that writes them.
fn is_crate_uri(line: &str) -> bool {
    line.contains(concat!("crate:", "//crates", ".io/"))
}
