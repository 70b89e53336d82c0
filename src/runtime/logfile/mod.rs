//! Output of containers in files, in the format that conmon calls `k8s-file` and the CRI its own:
//! `TIMESTAMP stdout|stderr P|F TEXT`, a record a line; `P` is a part of a line, `F` its end.
//!
//! Enters: the format ([`record`]), reading with tail, since and follow over rotations ([`reader`]), writing with bounds
//! ([`writer`]), and the process that writes for an engine which cannot ([`logger`]). Stays out: which engine it is.
//!
//! Sources: `src/ctr_logging.c` of conmon 2.1; `pkg/kubelet/kuberuntime/logs` of Kubernetes 1.27.

mod lines;
pub mod logger;
pub mod reader;
pub mod record;
pub mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

/// The most older files of one log that are looked for.
const MOST_OLDER: u32 = 16;

/// The file that a log became by so many rotations; 0 is the one that is written.
fn rotated(path: &Path, times: u32) -> PathBuf {
    if times == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{times}"));
    name.into()
}
