//! First stage: which files there are, and each of them read into a tree.
//!
//! The usual places are `/etc/actioncontroller/actioncontroller.yaml` and the drop-in folders, whose `*.yaml` files
//! are ordered by file name across all folders; a file masks one of the same name in an earlier folder, as systemd
//! has it (a link to `/dev/null` masks without a replacement).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::ConfigError;
use super::tree::Node;

/// The file that is read first, below the root.
const BASE_FILE: &str = "etc/actioncontroller/actioncontroller.yaml";

/// Drop-in folders below the root, each masking those before it: the product's, the installation's, and that of the
/// present boot.
const FOLDERS: [&str; 3] =
    ["usr/lib/actioncontroller/config.d", "etc/actioncontroller/config.d", "run/actioncontroller/config.d"];

/// No settings need more; keeps a wrong path from filling the memory.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// More than this in the drop-in folders is a mistake.
const MAX_FILES: usize = 256;

/// What one file says.
pub struct Fragment {
    /// The file.
    pub path: PathBuf,
    /// Its content; `null` where it is empty.
    pub(super) root: Node,
}

/// What was found.
pub struct Found {
    /// In the order in which they are to be laid over each other.
    pub fragments: Vec<Fragment>,
    /// Files that look meant and are not read, one line each.
    pub warnings: Vec<String>,
}

/// Finds and reads the files: `paths` in their order where there are any (each has to exist), otherwise the usual
/// places below `root`, any of which may be absent.
pub fn find(root: &Path, paths: &[PathBuf]) -> Result<Found, ConfigError> {
    let mut warnings = Vec::new();
    let files = if paths.is_empty() { usual(root, &mut warnings)? } else { given(paths, &mut warnings)? };
    if files.len() > MAX_FILES {
        let reason = format!("there are {} files, at most {MAX_FILES} are read", files.len());
        return Err(ConfigError::Unreadable { path: files[MAX_FILES].clone(), reason });
    }
    let fragments = files.into_iter().enumerate().map(|(index, path)| read(path, index)).collect::<Result<_, _>>()?;
    Ok(Found { fragments, warnings })
}

fn usual(root: &Path, warnings: &mut Vec<String>) -> Result<Vec<PathBuf>, ConfigError> {
    let mut by_name = BTreeMap::new();
    for folder in FOLDERS {
        let folder = root.join(folder);
        if folder.exists() {
            by_name.extend(drop_ins(&folder, warnings)?);
        }
    }
    let base = root.join(BASE_FILE);
    let base = base.symlink_metadata().is_ok().then_some(base);
    Ok(base.into_iter().chain(by_name.into_values()).collect())
}

fn given(paths: &[PathBuf], warnings: &mut Vec<String>) -> Result<Vec<PathBuf>, ConfigError> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            files.extend(drop_ins(path, warnings)?.into_values());
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

/// The drop-ins of a folder by file name.
fn drop_ins(folder: &Path, warnings: &mut Vec<String>) -> Result<BTreeMap<String, PathBuf>, ConfigError> {
    let unreadable = |error: std::io::Error| ConfigError::Unreadable { path: folder.into(), reason: error.to_string() };
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        if name.ends_with(".yaml") {
            found.insert(name, path);
        } else if name.ends_with(".yml") {
            warnings.push(format!("'{}' is not read: the names of drop-ins end in '.yaml'", path.display()));
        }
    }
    Ok(found)
}

fn read(path: PathBuf, index: usize) -> Result<Fragment, ConfigError> {
    let text = text_of(&path)?;
    // A file of nothing but comments has no document, which the parser would not take for an empty one.
    let document = if text.lines().all(is_blank) { "{}" } else { &text };
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    let mut root: Node = serde_saphyr::from_str_with_options(document, options).map_err(|error| {
        let line = error.location().map_or(1, |location| location.line());
        let what = format!("this is no valid YAML: {}", one_line(&error.without_snippet().to_string()));
        ConfigError::Wrong { path: path.clone(), line, key: String::new(), what }
    })?;
    root.set_file(index);
    Ok(Fragment { path, root })
}

fn text_of(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |reason: String| ConfigError::Unreadable { path: path.into(), reason };
    let kind = fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.file_type();
    if kind.is_char_device() {
        return Ok(String::new());
    }
    // Opening a pipe would block.
    if !kind.is_file() {
        return Err(unreadable("it is no regular file".into()));
    }
    let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(unreadable(format!("it is larger than {MAX_FILE_BYTES} bytes")));
    }
    String::from_utf8(bytes).map_err(|error| unreadable(format!("it is not UTF-8: {error}")))
}

fn is_blank(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
