//! Who a container's first process is: names of users and groups are looked up in its own root file system, whose links
//! lead nowhere else.

use std::fs::File;
use std::io::{Read, Take};
use std::os::fd::AsFd;
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;

use super::invalid;
use crate::runtime::adapter::{RtResult, RuntimeError};

/// The most of `/etc/passwd` and `/etc/group` that is read, bytes.
const MOST: u64 = 1024 * 1024;

/// A user with groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Further groups that list the user; none where a group was named.
    pub(super) groups: Vec<u32>,
}

/// The identity of `user[:group]`, each a name or a number; empty is root.
pub(super) fn identity(rootfs: &Path, asked: &str) -> RtResult<Identity> {
    let (user, group) = match asked.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (asked, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    if let (Ok(uid), Some(Ok(gid))) = (user.parse(), group.map(str::parse)) {
        return Ok(Identity { uid, gid, groups: Vec::new() });
    }
    let passwd = read(rootfs, "etc/passwd")?;
    let entry = passwd.lines().map(fields).find(|entry| is_it(entry, user));
    let uid = match (user.parse(), &entry) {
        (Ok(uid), _) => uid,
        (Err(_), Some(entry)) => number(entry, 2, "/etc/passwd")?,
        (Err(_), None) => return Err(invalid(format!("user '{user}' is not in the image's /etc/passwd"))),
    };
    let groups = read(rootfs, "etc/group")?;
    if let Some(group) = group {
        let entry = groups.lines().map(fields).find(|entry| is_it(entry, group));
        let gid = match (group.parse(), entry) {
            (Ok(gid), _) => gid,
            (Err(_), Some(entry)) => number(&entry, 2, "/etc/group")?,
            (Err(_), None) => return Err(invalid(format!("group '{group}' is not in the image's /etc/group"))),
        };
        return Ok(Identity { uid, gid, groups: Vec::new() });
    }
    let Some(entry) = entry else { return Ok(Identity { uid, gid: 0, groups: Vec::new() }) };
    let name = entry.first().copied().unwrap_or_default();
    let lists = |group: &Vec<&str>| group.get(3).is_some_and(|members| members.split(',').any(|member| member == name));
    let listed = groups.lines().map(fields).filter(lists).filter_map(|group| group.get(2)?.parse().ok());
    Ok(Identity { uid, gid: number(&entry, 3, "/etc/passwd")?, groups: listed.collect() })
}

fn fields(line: &str) -> Vec<&str> {
    line.trim_end().split(':').collect()
}

/// An entry of this name or, where it is a number, of this id.
fn is_it(entry: &[&str], asked: &str) -> bool {
    let is_number = asked.bytes().all(|byte| byte.is_ascii_digit());
    entry.get(if is_number { 2 } else { 0 }).is_some_and(|found| *found == asked)
}

fn number(entry: &[&str], index: usize, file: &str) -> RtResult<u32> {
    let found = entry.get(index).and_then(|field| field.parse().ok());
    let name = entry.first().copied().unwrap_or_default();
    found.ok_or_else(|| invalid(format!("the image's {file} has no usable entry for '{name}'")))
}

/// A file of the root file system; empty where there is none.
fn read(rootfs: &Path, path: &str) -> RtResult<String> {
    let failed = |error: &dyn std::fmt::Display| RuntimeError::Io {
        what: format!("reading '{path}' in '{}'", rootfs.display()),
        reason: error.to_string(),
    };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(rootfs, flags, Mode::empty()).map_err(|error| failed(&error))?;
    let how = OpenHow::new()
        // A pipe in its place shall not make it wait.
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file = match openat2(root.as_fd(), path, how) {
        Ok(file) => File::from(file),
        Err(nix::Error::ENOENT | nix::Error::ENOTDIR) => return Ok(String::new()),
        Err(error) => return Err(failed(&error)),
    };
    if !file.metadata().map_err(|error| failed(&error))?.is_file() {
        return Err(failed(&"it is no file"));
    }
    let mut text = Vec::new();
    let mut bounded: Take<File> = file.take(MOST + 1);
    bounded.read_to_end(&mut text).map_err(|error| failed(&error))?;
    if text.len() as u64 > MOST {
        return Err(failed(&format!("it has more than {MOST} bytes")));
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}
