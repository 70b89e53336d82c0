//! A container's root: an overlay of its image's layers, mounted below the container's own folder.
//!
//! The kernel takes the options of a mount as one page. Where the layers' paths do not fit, or hold characters that
//! options give a meaning to, each is named by a descriptor that is open while it mounts; no process's working folder is
//! changed for it.
//!
//! Source: Linux 5.10 and later, Documentation/filesystems/overlayfs.rst; proc(5), mountinfo.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::runtime::adapter::{RtResult, RuntimeError};

/// The most bytes of a mount's options, less than a page by what ends them.
const MOST_OPTIONS: usize = 4095;

/// Mounts one on another at the same place that an unmount takes away.
const MOST_STACKED: usize = 16;

/// Whether a container may write into its root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootAccess {
    /// What it writes goes into `upper` and is kept until that is deleted. Also what a container needs that may not
    /// write itself: its runtime makes the places of mounts, then forbids it.
    Writable,
    /// Nobody writes, the runtime neither: every place that something is mounted on has to be in the image.
    ReadOnly,
}

fn failed(what: &str, path: &Path, error: impl Into<io::Error>) -> RuntimeError {
    let error = error.into();
    let what = format!("{what} '{}'", path.display());
    match error.kind() {
        io::ErrorKind::PermissionDenied => RuntimeError::PermissionDenied { reason: format!("{what}: {error}") },
        _ => RuntimeError::Io { what, reason: error.to_string() },
    }
}

/// Mounts the root of a container: `layers`, the top one first, below what `dir/upper` has. Gives where, `dir/merged`. A
/// root that is mounted already stays as it is. `dir` is made where it is missing; `upper` and `work` are the caller's to
/// delete, with the whole folder, once nothing is mounted.
pub fn mount_root(layers: &[PathBuf], dir: &Path, access: RootAccess) -> RtResult<PathBuf> {
    fs::create_dir_all(dir).map_err(|error| failed("making the folder", dir, error))?;
    let dir = &dir.canonicalize().map_err(|error| failed("finding", dir, error))?;
    let [merged, upper, work, none] = ["merged", "upper", "work", "none"].map(|name| dir.join(name));
    make(&merged)?;
    if is_mounted(&merged)? {
        return Ok(merged);
    }
    let mut lower: Vec<&Path> = layers.iter().map(PathBuf::as_path).collect();
    let above = match access {
        RootAccess::Writable => {
            make(&upper)?;
            make(&work)?;
            // The root of all is the upper folder itself.
            if let Some(top) = lower.first() {
                copy_attributes(top, &upper)?;
            }
            vec![("upperdir", upper.as_path()), ("workdir", work.as_path())]
        }
        RootAccess::ReadOnly => Vec::new(),
    };
    // An overlay is of two folders at least.
    while lower.len() + above.len().min(1) < 2 {
        make(&none)?;
        lower.push(&none);
    }
    let flags = match access {
        RootAccess::Writable => MsFlags::empty(),
        RootAccess::ReadOnly => MsFlags::MS_RDONLY,
    };
    overlay(&lower, &above, &merged, flags)?;
    Ok(merged)
}

/// Ends what is mounted at `dir/merged`. Nothing mounted there, or no such folder, is done already. A root that is still
/// in use is taken out of the tree of files, and goes with its last user.
pub fn unmount_root(dir: &Path) -> RtResult<()> {
    let Ok(merged) = dir.join("merged").canonicalize() else { return Ok(()) };
    for _ in 0..MOST_STACKED {
        if !is_mounted(&merged)? {
            return Ok(());
        }
        let ended = match umount2(&merged, MntFlags::UMOUNT_NOFOLLOW) {
            Err(Errno::EBUSY) => {
                log::warn!("'{}' is unmounted while something has it open", merged.display());
                umount2(&merged, MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH)
            }
            other => other,
        };
        match ended {
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(error) => return Err(failed("unmounting", &merged, error)),
        }
    }
    Err(failed("unmounting", &merged, Errno::EBUSY))
}

fn make(folder: &Path) -> RtResult<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed("making the folder", folder, error)),
        _ => Ok(()),
    }
}

fn copy_attributes(from: &Path, to: &Path) -> RtResult<()> {
    let found = fs::metadata(from).map_err(|error| failed("looking at the layer", from, error))?;
    std::os::unix::fs::chown(to, Some(found.uid()), Some(found.gid()))
        .and_then(|()| fs::set_permissions(to, fs::Permissions::from_mode(found.mode() & 0o7777)))
        .map_err(|error| failed("setting the owner and mode of", to, error))
}

fn overlay(lower: &[&Path], above: &[(&str, &Path)], at: &Path, flags: MsFlags) -> RtResult<()> {
    let is_plain = |path: &&Path| !path.as_os_str().as_bytes().iter().any(|byte| b":,\\\"".contains(byte));
    let all = || lower.iter().copied().chain(above.iter().map(|(_, path)| *path));
    let mut options =
        options(lower.iter().map(|path| path.as_os_str()), above.iter().map(|(key, path)| (*key, path.as_os_str())));
    let mut opened = Vec::new();
    if options.len() > MOST_OPTIONS || !all().all(|path| is_plain(&path)) {
        for path in all() {
            opened.push(File::open(path).map_err(|error| failed("opening", path, error))?);
        }
        let names: Vec<OsString> =
            opened.iter().map(|file| format!("/proc/self/fd/{}", file.as_raw_fd()).into()).collect();
        let (below, rest) = names.split_at(lower.len());
        let keys = above.iter().map(|(key, _)| *key);
        options = self::options(below.iter().map(OsString::as_os_str), keys.zip(rest.iter().map(OsString::as_os_str)));
    }
    if options.len() > MOST_OPTIONS {
        let reason = format!("{} layers are more than one mount takes", lower.len());
        return Err(RuntimeError::InvalidSpec { reason });
    }
    mount(Some("overlay"), at, Some("overlay"), flags, Some(options.as_os_str()))
        .map_err(|error| failed("mounting the layers of a container at", at, error))
}

fn options<'a>(lower: impl Iterator<Item = &'a OsStr>, above: impl Iterator<Item = (&'a str, &'a OsStr)>) -> OsString {
    let mut text = OsString::from("lowerdir=");
    for (index, path) in lower.enumerate() {
        text.push(if index == 0 { "" } else { ":" });
        text.push(path);
    }
    for (key, path) in above {
        text.push(format!(",{key}="));
        text.push(path);
    }
    text
}

/// Whether an overlay is mounted at the path, which is absolute and has no links.
fn is_mounted(path: &Path) -> RtResult<bool> {
    let table = "/proc/self/mountinfo";
    let text = fs::read(table).map_err(|error| failed("reading", Path::new(table), error))?;
    Ok(text.split(|byte| *byte == b'\n').any(|line| is_overlay_at(line, path)))
}

/// `ID PARENT DEVICE ROOT PLACE OPTIONS [TAGS…] - TYPE SOURCE OPTIONS`.
fn is_overlay_at(line: &[u8], path: &Path) -> bool {
    let mut fields = line.split(|byte| *byte == b' ');
    let is_here = fields.nth(4).is_some_and(|place| unescaped(place) == path.as_os_str());
    is_here && fields.skip_while(|field| *field != b"-").nth(1) == Some(b"overlay")
}

/// A blank, a tab, a line's end and a backslash are written `\` and three octal digits.
fn unescaped(field: &[u8]) -> OsString {
    let mut bytes = Vec::new();
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let code = (*first == b'\\').then(|| after.get(..3)).flatten();
        let code = code.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_of_a_mount_is_read_as_the_kernel_writes_it() {
        let line = b"36 35 98:0 / /mnt/a\\040b\\134c rw,noatime master:1 - overlay overlay rw,lowerdir=/x:/y";
        assert!(is_overlay_at(line, Path::new("/mnt/a b\\c")));
        assert!(!is_overlay_at(line, Path::new("/mnt/a")));
        let other = b"36 35 98:0 / /mnt rw - ext4 /dev/sda rw";
        assert!(!is_overlay_at(other, Path::new("/mnt")));
        assert!(!is_overlay_at(b"", Path::new("/")));
    }
}
