//! [`Unpacking`]: one layer's entries put into a folder, in the form that overlayfs takes.
//!
//! Enters: files, folders, links, devices and fifos with owner, mode, time and attributes; whiteouts, which become
//! overlayfs' marks. Nothing is written outside of the folder, whatever the archive says ([`super::beneath`]); what an
//! archive says twice, it says the second time.
//!
//! The source of whiteouts: OCI image specification 1.1, "Representing Changes"; of overlayfs' marks: the kernel's
//! Documentation/filesystems/overlayfs.rst.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{
    FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, futimens, makedev, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat, linkat, symlinkat};
use rustix::fs::{XattrFlags, fsetxattr, lsetxattr};

use super::beneath::{self, Missing, Root};
use super::entries::{Entry, Kind};
use super::fault::{Fault, Outcome};
use super::limits::Budget;

/// What marks an entry that hides another.
const WHITEOUT: &[u8] = b".wh.";

/// Hides all that layers below have in a folder.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Attributes by which overlayfs finds other files: no image may bring its own.
const RESERVED: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// Names that are told where a layer has more that could not be made.
const MOST_TOLD: usize = 8;

/// A layer on its way into a folder.
pub(super) struct Unpacking<'a> {
    root: Root,
    budget: &'a Budget,
    /// Folders' times are set when nothing is put into them any more.
    folders: Vec<(Vec<u8>, (i64, i64))>,
    /// What could not be made here.
    left_out: LeftOut,
}

/// What a layer has and this machine does not take: told once, at the end.
#[derive(Default)]
struct LeftOut {
    count: usize,
    first: Vec<String>,
}

impl LeftOut {
    fn note(&mut self, what: String) {
        self.count += 1;
        if self.first.len() < MOST_TOLD {
            self.first.push(what);
        }
    }
}

impl<'a> Unpacking<'a> {
    /// Unpacks into the folder, which is empty.
    pub fn new(folder: &Path, budget: &'a Budget) -> Outcome<Self> {
        Ok(Self { root: Root::open(folder)?, budget, folders: Vec::new(), left_out: LeftOut::default() })
    }

    /// Puts one entry into the folder.
    pub fn put(&mut self, entry: &Entry, content: &mut dyn Read) -> Outcome<()> {
        self.budget.admit(&format!("'{}'", entry.name()), entry.size)?;
        let parts = beneath::names(&entry.path)?;
        let Some((name, above)) = parts.split_last() else {
            return self.put_root(entry);
        };
        if above.iter().any(|part| part.as_bytes().starts_with(WHITEOUT)) {
            return Err(Fault::refused(format!("'{}' lies in what is a mark and no folder", entry.name())));
        }
        let folder = self.root.walk(above, Missing::Make)?;
        if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
            return hide(folder.as_fd(), name, OsStr::from_bytes(hidden));
        }
        match entry.kind {
            Kind::Folder => self.put_folder(folder.as_fd(), name, entry),
            Kind::HardLink => self.put_hard_link(folder.as_fd(), name, entry),
            Kind::File | Kind::Symlink | Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => {
                if let Some(found) = beneath::look(folder.as_fd(), name)? {
                    beneath::clear(folder.as_fd(), name, &found)?;
                }
                match entry.kind {
                    Kind::File => self.put_file(folder.as_fd(), name, entry, content),
                    Kind::Symlink => self.put_symlink(folder.as_fd(), name, entry),
                    _ => self.put_node(folder.as_fd(), name, entry),
                }
            }
        }
    }

    /// Sets what can only be set when all entries are there, and tells what is missing.
    pub fn finish(self, layer: &str) -> Outcome<()> {
        for (path, time) in &self.folders {
            let parts = beneath::names(path)?;
            // It may have been replaced since by something else.
            let Ok(folder) = self.root.walk(&parts, Missing::Refuse) else { continue };
            set_time(&folder, *time, path)?;
        }
        if self.left_out.count > 0 {
            let (count, first) = (self.left_out.count, self.left_out.first.join(", "));
            log::error!("layer '{layer}' is unpacked without {count} things that this machine does not take: {first}");
        }
        Ok(())
    }

    fn put_root(&mut self, entry: &Entry) -> Outcome<()> {
        if entry.kind != Kind::Folder {
            return Err(Fault::refused(format!("'{}' is to replace the layer's own folder", entry.name())));
        }
        let root = self.root.walk(&[], Missing::Refuse)?;
        self.settle_folder(&root, entry)
    }

    fn put_folder(&mut self, folder: BorrowedFd, name: &OsStr, entry: &Entry) -> Outcome<()> {
        let made = match beneath::look(folder, name)? {
            Some(found) if beneath::kind(&found) == SFlag::S_IFDIR => {
                beneath::open_folder(folder, name).map_err(|error| failed("opening", entry, error))?
            }
            Some(found) if beneath::is_whiteout(&found) => beneath::unhide(folder, name)?,
            Some(found) => {
                beneath::clear(folder, name, &found)?;
                beneath::make_folder(folder, name)?
            }
            None => beneath::make_folder(folder, name)?,
        };
        self.settle_folder(&made, entry)
    }

    fn settle_folder(&mut self, folder: &OwnedFd, entry: &Entry) -> Outcome<()> {
        self.settle(folder, entry)?;
        self.folders.push((entry.path.clone(), entry.mtime));
        Ok(())
    }

    fn put_hard_link(&self, folder: BorrowedFd, name: &OsStr, entry: &Entry) -> Outcome<()> {
        let refused = |why: &str| {
            let target = String::from_utf8_lossy(&entry.link);
            Fault::refused(format!("'{}' is a hard link to '{target}', which {why}", entry.name()))
        };
        let found = self.root.parent(&entry.link, Missing::Refuse).map_err(|fault| match fault {
            Fault::Refused(why) => refused(&format!("is none: {why}")),
            other => other,
        })?;
        let Some((target_folder, target)) = found else { return Err(refused("is the layer itself")) };
        match beneath::look(target_folder.as_fd(), target)? {
            None => return Err(refused("is not in the layer")),
            Some(found) if beneath::kind(&found) == SFlag::S_IFDIR => return Err(refused("is a folder")),
            Some(found) if beneath::is_whiteout(&found) => return Err(refused("is a mark of something that is gone")),
            Some(target) => match beneath::look(folder, name)? {
                Some(here) if (here.st_dev, here.st_ino) == (target.st_dev, target.st_ino) => return Ok(()),
                // The target may be in it.
                Some(here) if beneath::kind(&here) == SFlag::S_IFDIR => {
                    return Err(Fault::refused(format!("'{}' is a hard link and a folder", entry.name())));
                }
                Some(here) => beneath::clear(folder, name, &here)?,
                None => {}
            },
        }
        linkat(target_folder.as_fd(), target, folder, name, AtFlags::empty())
            .map_err(|error| failed("linking", entry, error))
    }

    fn put_node(&mut self, folder: BorrowedFd, name: &OsStr, entry: &Entry) -> Outcome<()> {
        let (kind, device) = match entry.kind {
            Kind::CharDevice => (SFlag::S_IFCHR, makedev(entry.device.0.into(), entry.device.1.into())),
            Kind::BlockDevice => (SFlag::S_IFBLK, makedev(entry.device.0.into(), entry.device.1.into())),
            _ => (SFlag::S_IFIFO, 0),
        };
        if kind == SFlag::S_IFCHR && device == 0 {
            let reason = format!("'{}' is the device by which overlayfs marks what is gone", entry.name());
            return Err(Fault::refused(reason));
        }
        let mode = Mode::from_bits_truncate(entry.mode);
        match mknodat(folder, name, kind, mode, device) {
            Ok(()) => {}
            Err(Errno::EPERM) if kind != SFlag::S_IFIFO => {
                self.left_out.note(format!("the device '{}'", entry.name()));
                return Ok(());
            }
            Err(error) => return Err(failed("making", entry, error)),
        }
        own(folder, name, entry)?;
        // What was just made is no link.
        fchmodat(folder, name, mode, FchmodatFlags::FollowSymlink)
            .map_err(|error| failed("setting the mode of", entry, error))?;
        self.finish_node(folder, name, entry)
    }

    fn put_file(&mut self, folder: BorrowedFd, name: &OsStr, entry: &Entry, content: &mut dyn Read) -> Outcome<()> {
        let how = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let made = openat(folder, name, how, Mode::from_bits_truncate(0o600));
        let mut file = File::from(made.map_err(|error| failed("making", entry, error))?);
        let written = copy(content, &mut file, entry)?;
        if written != entry.size {
            let reason =
                format!("its tar ends inside of '{}': {written} of {} bytes are there", entry.name(), entry.size);
            return Err(Fault::refused(reason));
        }
        let file = OwnedFd::from(file);
        self.settle(&file, entry)?;
        set_time(&file, entry.mtime, &entry.path)
    }

    fn put_symlink(&mut self, folder: BorrowedFd, name: &OsStr, entry: &Entry) -> Outcome<()> {
        if entry.link.is_empty() || entry.link.contains(&0) {
            return Err(Fault::refused(format!("'{}' is a link to nothing", entry.name())));
        }
        symlinkat(OsStr::from_bytes(&entry.link), folder, name).map_err(|error| failed("linking", entry, error))?;
        own(folder, name, entry)?;
        self.finish_node(folder, name, entry)
    }

    /// Attributes and time of what cannot be opened.
    fn finish_node(&mut self, folder: BorrowedFd, name: &OsStr, entry: &Entry) -> Outcome<()> {
        let path = beneath::reach(folder, name);
        self.set_attributes(entry, |key, value| lsetxattr(&path, key, value, XattrFlags::empty()))?;
        let time = timespec(entry.mtime);
        utimensat(folder, name, &time, &time, UtimensatFlags::NoFollowSymlink)
            .map_err(|error| failed("setting the time of", entry, error))
    }

    /// Owner, mode and attributes of an open file or folder, in this order: a change of owner takes setuid and
    /// capabilities away.
    fn settle(&mut self, opened: &OwnedFd, entry: &Entry) -> Outcome<()> {
        fchown(opened, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
            .map_err(|error| failed("setting the owner of", entry, error))?;
        fchmod(opened, Mode::from_bits_truncate(entry.mode))
            .map_err(|error| failed("setting the mode of", entry, error))?;
        self.set_attributes(entry, |key, value| fsetxattr(opened, key, value, XattrFlags::empty()))
    }

    /// An attribute that this file system does not have is told and left out, unless a program's rights depend on it.
    fn set_attributes(&mut self, entry: &Entry, set: impl Fn(&OsStr, &[u8]) -> rustix::io::Result<()>) -> Outcome<()> {
        for (key, value) in &entry.xattrs {
            if RESERVED.iter().any(|reserved| key.as_bytes().starts_with(reserved)) {
                let reason =
                    format!("'{}' has the attribute '{}', which is overlayfs' own", entry.name(), key.display());
                return Err(Fault::refused(reason));
            }
            match set(key, value) {
                Ok(()) => {}
                Err(rustix::io::Errno::OPNOTSUPP) if key != "security.capability" => {
                    self.left_out.note(format!("the attribute '{}' of '{}'", key.display(), entry.name()));
                }
                Err(error) => {
                    return Err(failed(&format!("setting the attribute '{}' of", key.display()), entry, error));
                }
            }
        }
        Ok(())
    }
}

fn failed(what: &str, entry: &Entry, error: impl Into<io::Error>) -> Fault {
    Fault::io(format!("{what} '{}'", entry.name()), error)
}

/// Marks what an entry hides of the layers below. What the layer itself has at that place stays, as the specification
/// says; a folder among it hides the one below.
fn hide(folder: BorrowedFd, mark: &OsStr, hidden: &OsStr) -> Outcome<()> {
    if mark.as_bytes() == OPAQUE {
        return beneath::set_opaque(folder);
    }
    if hidden.as_bytes().starts_with(WHITEOUT) || matches!(hidden.as_bytes(), b"" | b"." | b"..") {
        return Err(Fault::refused(format!("'{}' is no mark that is known", mark.display())));
    }
    match beneath::look(folder, hidden)? {
        None => mknodat(folder, hidden, SFlag::S_IFCHR, Mode::empty(), 0)
            .map_err(|error| Fault::io(format!("marking '{}' as gone", hidden.display()), error)),
        Some(found) if beneath::kind(&found) == SFlag::S_IFDIR => {
            let kept = beneath::open_folder(folder, hidden);
            let kept = kept.map_err(|error| Fault::io(format!("opening '{}'", hidden.display()), error))?;
            beneath::set_opaque(kept.as_fd())
        }
        Some(_) => Ok(()),
    }
}

/// Like [`io::copy`], and knows which side failed.
fn copy(content: &mut dyn Read, file: &mut File, entry: &Entry) -> Outcome<u64> {
    let mut piece = vec![0; 128 * 1024];
    let mut written = 0;
    loop {
        let read = match content.read(&mut piece) {
            Ok(0) => return Ok(written),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Fault::content(format!("'{}' cannot be read", entry.name()), error)),
        };
        io::Write::write_all(file, &piece[..read]).map_err(|error| failed("writing", entry, error))?;
        written += read as u64;
    }
}

fn own(folder: BorrowedFd, name: &OsStr, entry: &Entry) -> Outcome<()> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    fchownat(folder, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
        .map_err(|error| failed("setting the owner of", entry, error))
}

fn timespec(time: (i64, i64)) -> TimeSpec {
    TimeSpec::new(time.0, time.1)
}

fn set_time(opened: &OwnedFd, time: (i64, i64), path: &[u8]) -> Outcome<()> {
    let time = timespec(time);
    futimens(opened, &time, &time)
        .map_err(|error| Fault::io(format!("setting the time of '{}'", String::from_utf8_lossy(path)), error))
}
