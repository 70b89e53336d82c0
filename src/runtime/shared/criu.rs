//! CRIU as engines run it: what its log says, and which processes work on a container's image.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// The most that is read of CRIU's log, from its end, bytes.
const LOG_TAIL: usize = 16 * 1024;

/// The last errors in a log of CRIU's; `None` where it has none.
pub fn last_errors(log: &Path) -> Option<String> {
    let mut file = File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL as u64))).ok()?;
    let mut tail = Vec::new();
    file.take(LOG_TAIL as u64).read_to_end(&mut tail).ok()?;
    let text = String::from_utf8_lossy(&tail);
    let errors: Vec<_> = text.lines().filter_map(|line| line.split_once("Error (")?.1.split_once("): ")).collect();
    // The last says that it failed, the ones before it why.
    let said: Vec<_> = errors.iter().map(|(_, what)| what.trim()).collect();
    let first = said.len().saturating_sub(3);
    (!said.is_empty()).then(|| format!("CRIU: {}", said[first..].join("; ")))
}

/// Whether a command line is of the runtime that does this with the container.
pub fn works_on(words: &[String], op: &str, id: &str) -> bool {
    words.iter().any(|word| word == id) && words.iter().any(|word| word == op)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn log_of_criu_is_told_by_its_last_errors() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "(00.1) Warn (x.c:1): a\n(00.2)  7: Error (a.c:1): one\n(00.3) Error (b.c:2): two\n(00.4) good\n";
        fs::write(file.path(), text).unwrap();
        assert_eq!(last_errors(file.path()).as_deref(), Some("CRIU: one; two"));
        fs::write(file.path(), "nothing\n").unwrap();
        assert_eq!(last_errors(file.path()), None);
    }

    #[test]
    fn command_line_is_of_a_container_by_its_whole_id() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert!(works_on(&words("/usr/bin/runc checkpoint --image-path /x/abc/c abc"), "checkpoint", "abc"));
        assert!(!works_on(&words("/usr/bin/runc checkpoint --image-path /x/abc/c abcd"), "checkpoint", "abc"));
        assert!(!works_on(&words("/usr/bin/runc kill abc"), "checkpoint", "abc"));
    }
}
