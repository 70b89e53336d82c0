//! The files of an image: synced and summed when it is made, held against their sums before it is used.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::runtime::adapter::{Call, CheckpointImage, RtResult, RuntimeError};
use crate::runtime::shared::durable::sync_folder;

/// The most files of an image.
const MOST_FILES: usize = 100_000;

/// What is read of a file at once.
const PIECE: usize = 256 * 1024;

/// One file of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileSum {
    /// Below the image's root.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 in hexadecimal digits.
    pub sha256: String,
}

fn failed(path: &Path, error: &io::Error) -> RuntimeError {
    RuntimeError::Io { what: format!("reading '{}' of a checkpoint", path.display()), reason: error.to_string() }
}

fn damaged(path: &Path, why: &str) -> RuntimeError {
    RuntimeError::InvalidSpec { reason: format!("the checkpoint is damaged: '{}' {why}", path.display()) }
}

/// The error of a file or folder that cannot be looked at: it is gone, which is damage, or that may pass.
fn missing(path: &Path, error: &io::Error) -> RuntimeError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => damaged(path, "is gone: it is not all there"),
        _ => failed(path, error),
    }
}

/// The image's files with their lengths, by path; its folders are added to `folders`. Links and devices are none of an
/// image.
fn files(image: &CheckpointImage, folders: &mut Vec<PathBuf>) -> RtResult<Vec<(PathBuf, u64)>> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = image.parts.clone();
    while let Some(part) = open.pop() {
        let path = image.root.join(&part);
        let metadata = fs::symlink_metadata(&path).map_err(|error| missing(&path, &error))?;
        if metadata.is_dir() {
            for entry in fs::read_dir(&path).map_err(|error| missing(&path, &error))? {
                open.push(part.join(entry.map_err(|error| failed(&path, &error))?.file_name()));
            }
            folders.push(path);
        } else if metadata.is_file() {
            found.push((part, metadata.len()));
        } else {
            return Err(damaged(&path, "is neither a file nor a folder"));
        }
        if found.len() > MOST_FILES {
            return Err(damaged(&image.root, &format!("has more than {MOST_FILES} files")));
        }
    }
    found.sort();
    Ok(found)
}

fn sum(call: &Call, path: &Path, sync: bool) -> RtResult<String> {
    let mut file = File::open(path).map_err(|error| failed(path, &error))?;
    if sync {
        file.sync_all().map_err(|error| failed(path, &error))?;
    }
    let (mut digest, mut piece) = (Sha256::new(), vec![0; PIECE]);
    loop {
        if call.cancel.is_cancelled() {
            return Err(RuntimeError::Cancelled { op: "summing a checkpoint".to_owned() });
        }
        if call.deadline.is_over() {
            let op = "summing a checkpoint".to_owned();
            return Err(RuntimeError::Timeout { op, after: std::time::Duration::ZERO });
        }
        match file.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => digest.update(&piece[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(path, &error)),
        }
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Syncs the image and sums it.
pub(super) fn seal(call: &Call, image: &CheckpointImage) -> RtResult<Vec<FileSum>> {
    let mut folders = vec![image.root.clone()];
    let mut sums = Vec::new();
    for (path, bytes) in files(image, &mut folders)? {
        let sha256 = sum(call, &image.root.join(&path), true)?;
        sums.push(FileSum { path, bytes, sha256 });
    }
    for folder in folders {
        sync_folder(&folder).map_err(|error| failed(&folder, &error))?;
    }
    if sums.is_empty() {
        return Err(damaged(&image.root, "has no file"));
    }
    Ok(sums)
}

/// Whether there is an image at all.
pub(super) fn exists(image: &CheckpointImage) -> RtResult<()> {
    let found = files(image, &mut Vec::new())?;
    if found.is_empty() { Err(damaged(&image.root, "has no file")) } else { Ok(()) }
}

/// Whether the image is what was sealed. Lengths are held against each other first: what was cut off is found at once.
pub(super) fn verify(call: &Call, image: &CheckpointImage, sealed: &[FileSum]) -> RtResult<()> {
    let found = files(image, &mut Vec::new())?;
    for sealed in sealed {
        let at = found.binary_search_by(|(path, _)| path.cmp(&sealed.path));
        match at.ok().and_then(|at| found.get(at)) {
            None => return Err(damaged(&sealed.path, "is gone")),
            Some((_, bytes)) if *bytes != sealed.bytes => {
                return Err(damaged(&sealed.path, &format!("has {bytes} bytes, not {}", sealed.bytes)));
            }
            Some(_) => {}
        }
    }
    if found.len() != sealed.len() {
        return Err(damaged(&image.root, "has files that were not in it"));
    }
    for sealed in sealed {
        if sum(call, &image.root.join(&sealed.path), false)? != sealed.sha256 {
            return Err(damaged(&sealed.path, "is not what was written"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cancel::CancelToken;
    use crate::clock::Deadline;
    use crate::runtime::adapter::NoProgress;

    #[test]
    fn image_that_is_cut_off_altered_or_grown_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_owned();
        fs::create_dir(root.join("a")).unwrap();
        fs::write(root.join("a/pages"), [7; 1000]).unwrap();
        fs::write(root.join("shm.tar"), "x").unwrap();
        fs::write(root.join("not of it"), "y").unwrap();
        let image = CheckpointImage { root: root.clone(), parts: vec!["a".into(), "shm.tar".into()] };
        let cancel = CancelToken::new();
        let deadline = Deadline::after(Duration::from_secs(60));
        let call = Call { deadline, cancel: &cancel, progress: &NoProgress };
        let sealed = seal(&call, &image).unwrap();
        assert_eq!(sealed.len(), 2);
        let verdict = || verify(&call, &image, &sealed).map_err(|error| error.to_string());
        assert_eq!(verdict(), Ok(()));
        fs::write(root.join("not of it"), "z").unwrap();
        assert_eq!(verdict(), Ok(()));
        fs::write(root.join("a/pages"), [7; 999]).unwrap();
        assert!(verdict().unwrap_err().contains("has 999 bytes, not 1000"));
        fs::write(root.join("a/pages"), [8; 1000]).unwrap();
        assert!(verdict().unwrap_err().contains("is not what was written"));
        fs::write(root.join("a/pages"), [7; 1000]).unwrap();
        assert_eq!(verdict(), Ok(()));
        fs::write(root.join("a/more"), "").unwrap();
        assert!(verdict().unwrap_err().contains("files that were not in it"));
        fs::remove_file(root.join("a/more")).unwrap();
        fs::remove_file(root.join("shm.tar")).unwrap();
        assert!(verdict().unwrap_err().contains("not all there"));
    }

    #[test]
    fn file_that_cannot_be_looked_at_just_now_is_no_damage() {
        let folder = tempfile::tempdir().unwrap();
        let cancel = CancelToken::new();
        let deadline = Deadline::after(Duration::from_secs(60));
        let call = Call { deadline, cancel: &cancel, progress: &NoProgress };
        let verdict = |part: &str| {
            let image = CheckpointImage { root: folder.path().to_owned(), parts: vec![part.into()] };
            verify(&call, &image, &[])
        };
        let gone = verdict("gone");
        assert!(matches!(gone, Err(RuntimeError::InvalidSpec { .. })), "{gone:?}");
        // No file system takes such a name; the error is none that says that the file is not there.
        let unknown = verdict(&"x".repeat(1000));
        assert!(matches!(unknown, Err(RuntimeError::Io { .. })), "{unknown:?}");
    }
}
