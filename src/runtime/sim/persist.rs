//! The simulator's state file: what the engine has, as JSON, replaced as a whole by rename.
//!
//! A process that is killed leaves the old or the new state, never a part. Power loss is out of scope: nothing is
//! synced. A file that cannot be read whole is an error that names it, and is left as it is.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::runtime::adapter::{RtResult, RuntimeError};

use super::state::State;

/// The form of the file.
const VERSION: u32 = 1;

/// The largest file that is read, bytes.
const MAX_FILE: u64 = 256 * 1024 * 1024;

#[derive(Serialize)]
struct Kept<'a> {
    version: u32,
    state: &'a State,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Found {
    version: u32,
    state: State,
}

fn failed(verb: &str, path: &Path, reason: impl ToString) -> RuntimeError {
    let what = format!("the simulator's state file '{}' could not be {verb}", path.display());
    RuntimeError::Io { what, reason: reason.to_string() }
}

/// What the file keeps; nothing where there is no such file.
pub(super) fn load(path: &Path) -> RtResult<Option<State>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("opened", path, error)),
    };
    let mut text = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut text).map_err(|error| failed("read", path, error))?;
    if text.len() as u64 > MAX_FILE {
        return Err(failed("read", path, format!("it is larger than {MAX_FILE} bytes")));
    }
    let found: Found = serde_json::from_slice(&text).map_err(|error| failed("read", path, error))?;
    if found.version != VERSION {
        return Err(failed("read", path, format!("its version is {}, not {VERSION}", found.version)));
    }
    Ok(Some(found.state))
}

/// Replaces what the file keeps.
pub(super) fn save(path: &Path, state: &State) -> RtResult<()> {
    let text = serde_json::to_vec(&Kept { version: VERSION, state }).map_err(|error| failed("written", path, error))?;
    let beside = beside(path);
    fs::write(&beside, text).map_err(|error| failed("written", &beside, error))?;
    fs::rename(&beside, path).map_err(|error| failed("replaced", path, error))
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}
