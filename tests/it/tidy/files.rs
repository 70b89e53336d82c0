//! The project's files as the rules see them: those that git tracks or would track.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of Cargo.toml.
pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of a file of the project.
pub fn read(path: &str) -> String {
    fs::read_to_string(project().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Paths of all files that are tracked, or new and not ignored, below the project's folder.
pub fn tracked() -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .current_dir(project())
        .output()
        .expect("git is installed");
    assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let text = String::from_utf8(listed.stdout).expect("file names are UTF-8");
    let exists = |path: &&str| project().join(path).symlink_metadata().is_ok();
    text.split('\0').filter(|path| !path.is_empty()).filter(exists).map(str::to_owned).collect()
}

/// Whether a program wrote the file.
pub fn is_generated(path: &str) -> bool {
    path.starts_with("src/proto/") && path != "src/proto/mod.rs"
}

/// Rust files that people wrote.
pub fn written_rust() -> Vec<String> {
    tracked().into_iter().filter(|path| path.ends_with(".rs") && !is_generated(path)).collect()
}

/// The file's lines before its inline test module, each with its number, without comments. Files of tests are whole.
pub fn code_lines(path: &str) -> Vec<(usize, String)> {
    let text = read(path);
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    let numbered = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    let mut lines = Vec::new();
    let mut attribute = false;
    for (number, line) in numbered {
        // The inline test module is the last item of a file.
        if attribute && line.starts_with("mod ") && line.ends_with('{') {
            lines.pop();
            break;
        }
        attribute = line == "#[cfg(test)]";
        if is_code(&line) {
            lines.push((number, line.split(" // ").next().unwrap_or_default().to_owned()));
        }
    }
    lines
}

/// Whether the file holds only tests, by its name.
pub fn is_test_file(path: &str) -> bool {
    // Modules of tests alone, beside what they test.
    const OWN: [&str; 4] = [
        "src/dispatch/double.rs",
        "src/realtime/fake.rs",
        "src/storage/embedded/power_cut.rs",
        "src/transport/fake.rs",
    ];
    let in_tests = path.starts_with("tests/") || Path::new(path).iter().any(|part| part == "tests");
    in_tests || path.ends_with("/tests.rs") || OWN.contains(&path)
}

/// The path without its ending, as a list of module names below `src`: `src/config/mod.rs` is `config`.
pub fn module_of(path: &str) -> Vec<String> {
    let inner: PathBuf = Path::new(path).strip_prefix("src").unwrap_or(Path::new(path)).with_extension("");
    let mut parts: Vec<String> = inner.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if matches!(parts.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        parts.pop();
    }
    parts
}
