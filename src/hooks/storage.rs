//! Host paths of volumes: looked at before a container is made, and made where the document allows it.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::model::workload::HostPathKind;

/// Makes `path` what `kind` asks for; says whether it made something. Made folders are 0755, made files 0644, as
/// Kubernetes' hostPath has them. What is there and of another type is FAILED_PRECONDITION.
pub fn ensure_host_path(path: &str, kind: HostPathKind) -> Result<bool> {
    let found = match fs::metadata(path) {
        Ok(metadata) => Some(metadata),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(unusable(path, &error.to_string())),
    };
    match (found, kind) {
        (Some(found), kind) if fits(&found, kind) => Ok(false),
        (Some(_), kind) => Err(unusable(path, &format!("it is no {}", word(kind)))),
        (None, HostPathKind::DirectoryOrCreate) => {
            let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
            made.map(|()| true).map_err(|error| unusable(path, &error.to_string()))
        }
        (None, HostPathKind::FileOrCreate) => make_file(path).map_err(|error| unusable(path, &error.to_string())),
        (None, _) => Err(unusable(path, "it does not exist")),
    }
}

/// Takes back what [`ensure_host_path`] made, as far as nothing was put into it meanwhile.
pub fn remove_made_path(path: &str, kind: HostPathKind) {
    let path = Path::new(path);
    let removed = match kind {
        HostPathKind::DirectoryOrCreate => fs::remove_dir(path),
        HostPathKind::FileOrCreate if fs::metadata(path).is_ok_and(|found| found.len() == 0) => fs::remove_file(path),
        _ => return,
    };
    if let Err(error) = removed {
        log::info!("made path '{}' stays: {error}", path.display());
    }
}

fn make_file(path: &str) -> io::Result<bool> {
    fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(path).map(|_| true)
}

fn fits(found: &Metadata, kind: HostPathKind) -> bool {
    let file_type = found.file_type();
    match kind {
        HostPathKind::Any => true,
        HostPathKind::DirectoryOrCreate | HostPathKind::Directory => file_type.is_dir(),
        HostPathKind::FileOrCreate | HostPathKind::File => file_type.is_file(),
        HostPathKind::Socket => file_type.is_socket(),
        HostPathKind::CharDevice => file_type.is_char_device(),
        HostPathKind::BlockDevice => file_type.is_block_device(),
    }
}

fn word(kind: HostPathKind) -> &'static str {
    match kind {
        HostPathKind::Any => "path",
        HostPathKind::DirectoryOrCreate | HostPathKind::Directory => "directory",
        HostPathKind::FileOrCreate | HostPathKind::File => "file",
        HostPathKind::Socket => "socket",
        HostPathKind::CharDevice => "character device",
        HostPathKind::BlockDevice => "block device",
    }
}

fn unusable(path: &str, reason: &str) -> Error {
    let message = format!("host path '{path}' cannot be used: {reason}");
    Error::new(ErrorKind::FailedPrecondition, ErrorCode::InvalidField, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_folder_is_made_once_and_taken_back_while_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let path = path.to_str().unwrap();
        assert_eq!(ensure_host_path(path, HostPathKind::DirectoryOrCreate), Ok(true));
        assert_eq!(ensure_host_path(path, HostPathKind::DirectoryOrCreate), Ok(false));
        remove_made_path(path, HostPathKind::DirectoryOrCreate);
        assert!(!Path::new(path).exists());
    }

    #[test]
    fn file_with_content_is_not_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calibration");
        let text = path.to_str().unwrap();
        assert_eq!(ensure_host_path(text, HostPathKind::FileOrCreate), Ok(true));
        fs::write(&path, "7").unwrap();
        remove_made_path(text, HostPathKind::FileOrCreate);
        assert!(path.exists());
    }

    #[test]
    fn wrong_type_and_absence_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().to_str().unwrap();
        let wrong = ensure_host_path(here, HostPathKind::File).unwrap_err();
        assert!(wrong.message.contains("it is no file"), "{wrong}");
        let absent = ensure_host_path(&format!("{here}/x"), HostPathKind::Directory).unwrap_err();
        assert!(absent.message.contains("does not exist"), "{absent}");
    }
}
