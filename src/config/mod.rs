//! Settings: from files to one checked [`Config`].
//!
//! Three stages, one file each: [`fragments`] finds the files and reads each into a tree that knows its lines,
//! [`merged`] lays them over each other and gives them types, [`validated`] checks what belongs together. A problem at
//! any stage is one line that names file, line and key; nothing of a bad configuration is used.
//!
//! Enters: keys, their defaults, their limits. Stays out: what a setting does. A new key goes into [`settings`] with
//! its default, into `config/actioncontroller.yaml`, into [`validated`] where not every value is good, and into
//! [`reload`] where it can be changed while the daemon runs.

use std::path::{Path, PathBuf};

pub mod fragments;
pub mod merged;
pub mod reload;
pub mod runtimes;
pub mod settings;
mod tree;
mod typed;
pub mod units;
pub mod validated;

pub use self::reload::Difference;
pub use self::settings::Config;

/// Why there is no configuration. Its text is one line that names the file, the line and the key where there is one,
/// what is wrong, and what would be right.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file or folder cannot be read.
    #[error("configuration '{}' cannot be read: {reason}", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file is no YAML, has an unknown key, or a value that is not allowed.
    #[error("{}:{line}: {}{what}", path.display(), prefix(key))]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// The key as a path (`dispatch.workers`); empty where the text itself is no YAML.
        key: String,
        /// What is wrong, and what would be right.
        what: String,
    },
    /// A value that no file gives (a default) is not allowed on this machine.
    #[error("configuration: {key}: {what}")]
    Default {
        /// The key as a path.
        key: String,
        /// What is wrong, and what would be right.
        what: String,
    },
}

fn prefix(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("{key}: ") }
}

/// A configuration with where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The settings, complete and checked.
    pub config: Config,
    /// The files that were read, in the order in which they were laid over each other; empty: all is default.
    pub files: Vec<PathBuf>,
    /// What is allowed but an operator should know, one line each.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads, merges and checks the configuration. `paths` are the `--config` of the command line, files or folders,
    /// which replace the usual places when there are any. Changes nothing; reading again gives the same.
    pub fn load(paths: &[PathBuf]) -> Result<Loaded, ConfigError> {
        Self::load_below(Path::new("/"), paths)
    }

    /// As [`Config::load`], with the usual places looked for below `root`.
    fn load_below(root: &Path, paths: &[PathBuf]) -> Result<Loaded, ConfigError> {
        let found = fragments::find(root, paths)?;
        let mut warnings = found.warnings;
        let merged = merged::merge(found.fragments)?;
        let config = validated::validate(merged.config()?, &mut warnings).map_err(|error| merged.locate(error))?;
        Ok(Loaded { config, files: merged.into_files(), warnings })
    }
}

#[cfg(test)]
mod tests;
