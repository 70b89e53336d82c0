//! [`Root`]: a folder out of which nothing that is done here can lead.
//!
//! Every path is walked from the folder's own descriptor, one name at a time, without following a link that the kernel
//! would follow: links are read and walked by the same rules, so neither `..`, an absolute link nor a link to a link gets
//! out, on any kernel. Such a path is refused, not bent: an image that has one is broken or hostile.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use rustix::fs::{XattrFlags, fsetxattr};

use super::fault::{Fault, Outcome};

/// The longest path, bytes; the kernel's own bound.
const LONGEST: usize = 4096;

/// The longest name in a folder, bytes; the kernel's own bound.
const LONGEST_NAME: usize = 255;

/// The most folders above an entry, so that a walk is short.
const DEEPEST: usize = 256;

/// The most links that one walk follows; the kernel's own bound.
const MOST_LINKS: usize = 40;

/// A folder that hides the one below it, as overlayfs marks it.
const OPAQUE: &str = "trusted.overlay.opaque";

/// Whether a walk makes what is missing on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Make,
    Refuse,
}

/// The names of a path in order, none of which is `.` or `..`.
pub(super) fn names(path: &[u8]) -> Outcome<Vec<&OsStr>> {
    let shown = String::from_utf8_lossy(path);
    if path.starts_with(b"/") {
        return Err(Fault::refused(format!("'{shown}' is an absolute path")));
    }
    if path.len() > LONGEST || path.contains(&0) {
        return Err(Fault::refused(format!("'{:.100}' is too long or no path", shown)));
    }
    let parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    let parts: Vec<&OsStr> = parts.map(OsStr::from_bytes).collect();
    if let Some(part) = parts.iter().find(|part| part.len() > LONGEST_NAME) {
        return Err(Fault::refused(format!("'{:.100}…' is longer than names of files are", part.display())));
    }
    if parts.iter().any(|part| *part == "..") {
        return Err(Fault::refused(format!("'{shown}' leads upwards")));
    }
    Ok(parts)
}

/// What lies at a name.
pub(super) fn look(folder: BorrowedFd, name: &OsStr) -> Outcome<Option<FileStat>> {
    match fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::ENOENT) => Ok(None),
        Err(error) => Err(Fault::io(format!("looking at '{}'", name.display()), error)),
    }
}

/// The kind of what was found.
pub(super) fn kind(found: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits())
}

/// Whether this is overlayfs' mark of something that is gone.
pub(super) fn is_whiteout(found: &FileStat) -> bool {
    kind(found) == SFlag::S_IFCHR && found.st_rdev == 0
}

/// A path by which calls that take no descriptor reach what lies at a name, without following it.
pub(super) fn reach(folder: BorrowedFd, name: &OsStr) -> PathBuf {
    Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name)
}

/// Removes what lies at a name, a folder with all that is in it.
pub(super) fn clear(folder: BorrowedFd, name: &OsStr, found: &FileStat) -> Outcome<()> {
    let what = || format!("replacing '{}'", name.display());
    if kind(found) == SFlag::S_IFDIR {
        // Goes down by descriptors and follows no link.
        return std::fs::remove_dir_all(reach(folder, name)).map_err(|error| Fault::io(what(), error));
    }
    unlinkat(folder, name, UnlinkatFlags::NoRemoveDir).map_err(|error| Fault::io(what(), error))
}

/// Hides what is in the folder of that name in layers below.
pub(super) fn set_opaque(folder: BorrowedFd) -> Outcome<()> {
    let set = fsetxattr(folder, OPAQUE, b"y", XattrFlags::empty());
    set.map_err(|error| Fault::io("marking a folder that hides the one below", error))
}

/// Opens a folder at a name, not what a link leads to.
pub(super) fn open_folder(folder: BorrowedFd, name: &OsStr) -> nix::Result<OwnedFd> {
    let how = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(folder, name, how, Mode::empty())
}

/// A new folder at a name, with the mode that folders have of which an archive says nothing.
pub(super) fn make_folder(folder: BorrowedFd, name: &OsStr) -> Outcome<OwnedFd> {
    let what = || format!("making the folder '{}'", name.display());
    mkdirat(folder, name, Mode::from_bits_truncate(0o700)).map_err(|error| Fault::io(what(), error))?;
    let made = open_folder(folder, name).map_err(|error| Fault::io(what(), error))?;
    // The mask of the process may be any.
    fchmod(&made, Mode::from_bits_truncate(0o755)).map_err(|error| Fault::io(what(), error))?;
    Ok(made)
}

/// A folder out of which nothing leads.
pub(super) struct Root(OwnedFd);

impl Root {
    /// The folder at this path of the machine.
    pub fn open(path: &Path) -> Outcome<Self> {
        let opened = File::open(path).map_err(|error| Fault::io(format!("opening '{}'", path.display()), error))?;
        Ok(Self(opened.into()))
    }

    /// The folder at this path below.
    pub fn walk(&self, path: &[&OsStr], missing: Missing) -> Outcome<OwnedFd> {
        let copied = self.0.try_clone();
        let mut here = copied.map_err(|error| Fault::io("opening a folder", error))?;
        let mut left: VecDeque<OsString> = path.iter().map(|part| (*part).to_owned()).collect();
        let (mut depth, mut links) = (0_usize, 0_usize);
        let shown = || path.iter().collect::<PathBuf>();
        let outside = || Fault::refused(format!("'{}' leads out of the layer through a link", shown().display()));
        while let Some(part) = left.pop_front() {
            if part == ".." {
                depth = depth.checked_sub(1).ok_or_else(outside)?;
            } else {
                depth += 1;
            }
            if depth > DEEPEST {
                return Err(Fault::refused(format!("'{}' is too deep", shown().display())));
            }
            match open_folder(here.as_fd(), &part) {
                Ok(next) => here = next,
                Err(Errno::ENOENT) if missing == Missing::Make => here = make_folder(here.as_fd(), &part)?,
                Err(Errno::ENOENT) => {
                    return Err(Fault::refused(format!("'{}' is not in the layer", shown().display())));
                }
                Err(Errno::ENOTDIR | Errno::ELOOP) => match in_the_way(here.as_fd(), &part)? {
                    InTheWay::Whiteout if missing == Missing::Make => here = unhide(here.as_fd(), &part)?,
                    InTheWay::Link(target) => {
                        (depth, links) = (depth - 1, links + 1);
                        if links > MOST_LINKS || target.starts_with(b"/") {
                            return Err(outside());
                        }
                        let parts = target.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
                        parts.rev().for_each(|part| left.push_front(OsStr::from_bytes(part).to_owned()));
                    }
                    InTheWay::Whiteout | InTheWay::Other => {
                        let (shown, part) = (shown(), part.display());
                        return Err(Fault::refused(format!(
                            "'{part}' on the way to '{}' is no folder",
                            shown.display()
                        )));
                    }
                },
                Err(error) => return Err(Fault::io(format!("opening '{}'", shown().display()), error)),
            }
        }
        Ok(here)
    }

    /// The folder that an entry at this path lies in, and its name there; `None` for the root itself.
    pub fn parent<'a>(&self, path: &'a [u8], missing: Missing) -> Outcome<Option<(OwnedFd, &'a OsStr)>> {
        let mut parts = names(path)?;
        let Some(name) = parts.pop() else { return Ok(None) };
        Ok(Some((self.walk(&parts, missing)?, name)))
    }
}

/// What lies where a walk needs a folder.
enum InTheWay {
    Link(Vec<u8>),
    Whiteout,
    Other,
}

fn in_the_way(folder: BorrowedFd, name: &OsStr) -> Outcome<InTheWay> {
    let Some(found) = look(folder, name)? else { return Ok(InTheWay::Other) };
    if kind(&found) != SFlag::S_IFLNK {
        return Ok(if is_whiteout(&found) { InTheWay::Whiteout } else { InTheWay::Other });
    }
    let target = readlinkat(folder, name);
    let target = target.map_err(|error| Fault::io(format!("reading the link '{}'", name.display()), error))?;
    Ok(InTheWay::Link(target.into_vec()))
}

/// Puts a folder where the archive says that what was there is gone: it hides what it replaces.
pub(super) fn unhide(folder: BorrowedFd, name: &OsStr) -> Outcome<OwnedFd> {
    let removed = unlinkat(folder, name, UnlinkatFlags::NoRemoveDir);
    removed.map_err(|error| Fault::io(format!("replacing '{}'", name.display()), error))?;
    let made = make_folder(folder, name)?;
    set_opaque(made.as_fd())?;
    Ok(made)
}
