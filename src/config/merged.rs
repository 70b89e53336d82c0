//! Second stage: the trees laid over each other in order, and the result given its types.

use std::path::PathBuf;

use super::fragments::Fragment;
use super::settings::Config;
use super::tree::{Node, Place, Value};
use super::validated::Violation;
use super::{ConfigError, typed};

/// All files as one tree; each value still knows the file and line that gave it.
pub struct Merged {
    root: Node,
    files: Vec<PathBuf>,
}

/// Lays the fragments over each other: maps merge key by key, scalars and lists replace.
pub fn merge(fragments: Vec<Fragment>) -> Result<Merged, ConfigError> {
    let mut merged = Merged { root: Node::empty(), files: Vec::new() };
    for Fragment { path, root } in fragments {
        merged.files.push(path);
        match root.value {
            Value::Map(_) | Value::Null => merged.root.overlay(root),
            Value::Bool(_)
            | Value::Unsigned(_)
            | Value::Signed(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::List(_) => {
                return Err(merged.wrong(root.place, "", "must be sections of keys, as in 'log: {level: info}'"));
            }
        }
    }
    Ok(merged)
}

impl Merged {
    /// The settings, with the defaults for what no file gives. Unknown keys and values of a wrong type are errors.
    pub fn config(&self) -> Result<Config, ConfigError> {
        typed::from_node(&self.root).map_err(|problem| {
            let key = problem.path();
            self.wrong(problem.place.unwrap_or(self.root.place), &key, &problem.what)
        })
    }

    /// The error of a rule that is broken, with the file and line of the first of its keys that a file gives.
    pub fn locate(&self, violation: Violation) -> ConfigError {
        let Violation { keys, what } = violation;
        match keys.iter().find_map(|key| self.root.find(key).map(|place| (place, key))) {
            Some((place, key)) => self.wrong(place, key, &what),
            None => ConfigError::Default { key: keys.first().copied().unwrap_or_default().into(), what },
        }
    }

    /// The files that were read, in order.
    pub fn into_files(self) -> Vec<PathBuf> {
        self.files
    }

    fn wrong(&self, place: Place, key: &str, what: &str) -> ConfigError {
        let path = self.files.get(place.file).cloned().unwrap_or_default();
        ConfigError::Wrong { path, line: place.line, key: key.to_owned(), what: what.to_owned() }
    }
}
