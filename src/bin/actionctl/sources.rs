//! [`read`]: what `-f` names: files, folders, and stdin.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};

/// The most that is read of one file; what the daemon takes is less, and its refusal says how much that is.
const MAX_BYTES: u64 = 64 << 20;

/// Folders inside one another that `-R` goes down; more is taken for a mistake.
const MAX_DEPTH: usize = 32;

/// How documents in a folder are called.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// What stdin is called among files.
pub const STDIN: &str = "stdin";

/// A text with where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The file's path, or `stdin`.
    pub name: String,
    /// Its content.
    pub text: String,
}

/// Reads what is named, in the order given; a folder's files in the order of their names.
pub fn read(names: &[String], recursive: bool) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for name in names {
        if name == "-" {
            if sources.iter().any(|source: &Source| source.name == STDIN) {
                return Err(Failure::usage("stdin is named twice"));
            }
            sources.push(text_of(STDIN, io::stdin().lock())?);
            continue;
        }
        let path = Path::new(name);
        let metadata = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?;
        if !metadata.is_dir() {
            sources.push(file(path)?);
            continue;
        }
        let mut files = Vec::new();
        files_of(path, recursive, 0, &mut files)?;
        if files.is_empty() {
            return Err(Failure::usage(format!("folder '{name}' holds no *.yaml, *.yml or *.json"))
                .hint("give -R to look into the folders in it"));
        }
        for path in files {
            sources.push(file(&path)?);
        }
    }
    Ok(sources)
}

/// The documents of a folder by name, those of the folders in it after its own.
fn files_of(folder: &Path, recursive: bool, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(Failure::usage(format!(
            "more than {MAX_DEPTH} folders inside one another at '{}'",
            folder.display()
        )));
    }
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut paths: Vec<PathBuf> =
        entries.map_err(|error| unreadable(folder, &error))?.iter().map(std::fs::DirEntry::path).collect();
    paths.sort();
    let (folders, plain): (Vec<_>, Vec<_>) = paths.into_iter().partition(|path| path.is_dir());
    files.extend(plain.into_iter().filter(|path| is_document(path)));
    if recursive {
        for inner in folders.iter().filter(|path| !path.is_symlink()) {
            files_of(inner, recursive, depth + 1, files)?;
        }
    }
    Ok(())
}

fn is_document(path: &Path) -> bool {
    path.extension().and_then(|extension| extension.to_str()).is_some_and(|extension| EXTENSIONS.contains(&extension))
}

fn file(path: &Path) -> Result<Source> {
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    text_of(&path.display().to_string(), file)
}

fn text_of(name: &str, reader: impl Read) -> Result<Source> {
    let mut bytes = Vec::new();
    let read = reader.take(MAX_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| unreadable(Path::new(name), &error))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Failure::usage(format!("'{name}' is larger than {} MiB", MAX_BYTES >> 20)));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let line =
            error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        Failure::usage(format!("'{name}' is no UTF-8 text: line {line}"))
    })?;
    if text.trim().is_empty() {
        return Err(Failure::usage(format!("'{name}' is empty")));
    }
    Ok(Source { name: name.to_owned(), text })
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::usage(format!("cannot read '{}': {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    fn named(sources: &[Source], folder: &Path) -> Vec<String> {
        let prefix = format!("{}/", folder.display());
        sources.iter().map(|source| source.name.trim_start_matches(&prefix).to_owned()).collect()
    }

    #[test]
    fn folder_is_read_by_name_and_goes_down_only_when_asked() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("more")).unwrap();
        for name in ["b.yml", "a.yaml", "c.json", "README.md", "more/d.yaml"] {
            std::fs::write(folder.path().join(name), "kind: Pod").unwrap();
        }
        let names = [folder.path().display().to_string()];
        assert_eq!(named(&read(&names, false).unwrap(), folder.path()), ["a.yaml", "b.yml", "c.json"]);
        assert_eq!(named(&read(&names, true).unwrap(), folder.path()), ["a.yaml", "b.yml", "c.json", "more/d.yaml"]);
    }

    #[test]
    fn what_cannot_be_read_is_named_and_a_usage_error() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty.yaml");
        std::fs::write(&empty, "\n \n").unwrap();
        let binary = folder.path().join("binary.yaml");
        std::fs::write(&binary, b"kind: Pod\nname: \xff").unwrap();
        let bare = folder.path().join("bare");
        std::fs::create_dir(&bare).unwrap();
        for (path, reason) in [
            (folder.path().join("absent.yaml"), "No such file"),
            (empty, "is empty"),
            (binary, "line 2"),
            (bare, "holds no *.yaml"),
        ] {
            let failure = read(&[path.display().to_string()], false).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            assert!(failure.message.contains(reason), "{}", failure.message);
            assert!(failure.message.contains(&path.display().to_string()), "{}", failure.message);
        }
    }
}
