//! The entries of a layer's tar, with what extended headers say of them.
//!
//! Enters: ustar, PAX and GNU archives as image builders write them. What an extended header says counts, or the archive
//! is refused by the header's name. Long names and attributes are read up to a bound: an archive that is all name takes
//! no memory. What entries mean is not decided here.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;

use tar::{Archive, EntryType, Header};

use super::fault::{Fault, Outcome};

/// The most bytes of one extended header: names, links and attributes of one entry.
const MOST_EXTENDED: u64 = 1 << 20;

/// Attributes in PAX headers, as all image builders write them.
const XATTR: &[u8] = b"SCHILY.xattr.";

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    Symlink,
    HardLink,
    CharDevice,
    BlockDevice,
    Fifo,
}

/// One entry, its content aside.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// As it is written; nothing is checked of it yet.
    pub path: Vec<u8>,
    /// Where a link leads, as it is written.
    pub link: Vec<u8>,
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds since the epoch, and nanoseconds.
    pub mtime: (i64, i64),
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Bytes of content.
    pub size: u64,
    pub xattrs: Vec<(OsString, Vec<u8>)>,
}

impl Entry {
    /// Its path for people.
    pub fn name(&self) -> String {
        String::from_utf8_lossy(&self.path).into_owned()
    }
}

/// What extended headers say of the entry that follows.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<(i64, i64)>,
    xattrs: Vec<(OsString, Vec<u8>)>,
}

/// Gives `each` every entry of the archive with its content, in order.
pub(super) fn read_all(archive: impl Read, mut each: impl FnMut(&Entry, &mut dyn Read) -> Outcome<()>) -> Outcome<()> {
    let broken = |error: io::Error| Fault::content("its tar cannot be read", error);
    let mut archive = Archive::new(archive);
    let mut extended = Extended::default();
    for found in archive.entries().map_err(broken)?.raw(true) {
        let mut found = found.map_err(broken)?;
        let kind = found.header().entry_type();
        match kind {
            EntryType::GNULongName => extended.path = Some(long(&mut found)?),
            EntryType::GNULongLink => extended.link = Some(long(&mut found)?),
            EntryType::XHeader => extended.take(&whole(&mut found)?)?,
            EntryType::XGlobalHeader => check_global(&whole(&mut found)?)?,
            _ => {
                let said = std::mem::take(&mut extended);
                let (path, link) = (found.path_bytes().into_owned(), found.link_name_bytes().map(Into::into));
                let size = found.size();
                let entry = said.entry(found.header(), path, link.unwrap_or_default(), size)?;
                let mut content = (&mut found).take(size);
                each(&entry, &mut content)?;
            }
        }
    }
    Ok(())
}

fn whole(header: &mut tar::Entry<'_, impl Read>) -> Outcome<Vec<u8>> {
    let size = header.size();
    if size > MOST_EXTENDED {
        return Err(Fault::refused(format!(
            "an extended header of its tar has {size} bytes, more than {MOST_EXTENDED}"
        )));
    }
    let mut content = Vec::new();
    header.read_to_end(&mut content).map_err(|error| Fault::content("its tar cannot be read", error))?;
    if content.len() as u64 != size {
        return Err(Fault::refused("its tar ends inside of an extended header"));
    }
    Ok(content)
}

/// A name in an entry of its own, as GNU tar writes it.
fn long(header: &mut tar::Entry<'_, impl Read>) -> Outcome<Vec<u8>> {
    let mut name = whole(header)?;
    while name.last() == Some(&0) {
        name.pop();
    }
    Ok(name)
}

/// The records of a PAX header: `LENGTH KEY=VALUE\n`, the length being that of the whole record. Values may hold any
/// byte.
fn records(mut text: &[u8]) -> Outcome<Vec<(&[u8], &[u8])>> {
    let broken = || Fault::refused("an extended header of its tar is malformed");
    let mut found = Vec::new();
    while !text.is_empty() {
        let blank = text.iter().position(|byte| *byte == b' ').ok_or_else(broken)?;
        let length = number::<usize>(&text[..blank]).ok_or_else(broken)?;
        let record = text.get(blank + 1..length).and_then(|record| record.strip_suffix(b"\n")).ok_or_else(broken)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(broken)?;
        found.push((&record[..equals], &record[equals + 1..]));
        text = &text[length..];
    }
    Ok(found)
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// `SECONDS` or `SECONDS.FRACTION`, also before the epoch.
fn time(text: &[u8]) -> Option<(i64, i64)> {
    let text = std::str::from_utf8(text).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let nanos: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let (whole, nanos): (i64, i64) = (seconds.parse().ok()?, nanos.parse().ok()?);
    match (seconds.starts_with('-'), nanos) {
        (true, 1..) => Some((whole.checked_sub(1)?, 1_000_000_000 - nanos)),
        _ => Some((whole, nanos)),
    }
}

/// Headers for all entries that follow: comments alone are written by anybody.
fn check_global(text: &[u8]) -> Outcome<()> {
    match records(text)?.iter().find(|(key, _)| *key != b"comment") {
        Some((key, _)) => Err(unsupported_header(key)),
        None => Ok(()),
    }
}

fn unsupported_header(key: &[u8]) -> Fault {
    let key = String::from_utf8_lossy(key);
    Fault::refused(format!("its tar has the extended header '{key}', which is not supported"))
}

impl Extended {
    fn take(&mut self, text: &[u8]) -> Outcome<()> {
        for (key, value) in records(text)? {
            let bad = || {
                let (key, value) = (String::from_utf8_lossy(key), String::from_utf8_lossy(value));
                Fault::refused(format!("its tar has the extended header '{key}' with the value '{value}'"))
            };
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(number(value).ok_or_else(bad)?),
                b"uid" => self.uid = Some(number(value).filter(|id| *id != u32::MAX).ok_or_else(bad)?),
                b"gid" => self.gid = Some(number(value).filter(|id| *id != u32::MAX).ok_or_else(bad)?),
                b"mtime" => self.mtime = Some(time(value).ok_or_else(bad)?),
                // Numbers are what counts inside of images, and these times are of the builder's machine.
                b"uname" | b"gname" | b"atime" | b"ctime" | b"comment" => {}
                b"charset" | b"hdrcharset" if matches!(value, b"BINARY" | b"ISO-IR 10646 2000 UTF-8") => {}
                _ => match key.strip_prefix(XATTR) {
                    Some(name) => self.xattrs.push((OsString::from_vec(name.to_vec()), value.to_vec())),
                    // What libarchive writes beside the above, and notes of other programs.
                    None if key.starts_with(b"LIBARCHIVE.") => {}
                    None => return Err(unsupported_header(key)),
                },
            }
        }
        Ok(())
    }

    fn entry(self, header: &Header, path: Vec<u8>, link: Vec<u8>, size: u64) -> Outcome<Entry> {
        let path = self.path.unwrap_or(path);
        let name = String::from_utf8_lossy(&path).into_owned();
        let bad = |what: &str| Fault::refused(format!("'{name}' of its tar has {what}"));
        let field = |value: io::Result<u64>, what| {
            // The last number means nobody to the kernel.
            let number = value.ok().and_then(|value| u32::try_from(value).ok());
            number.filter(|number| *number != u32::MAX).ok_or_else(|| bad(what))
        };
        // Another reader might take the other one: what it sees is not what we see.
        if self.size.is_some_and(|said| said != size) {
            return Err(bad("one size in its header and another in its extended header"));
        }
        let kind = match header.entry_type() {
            EntryType::Regular | EntryType::Continuous if path.ends_with(b"/") => Kind::Folder,
            EntryType::Regular | EntryType::Continuous => Kind::File,
            EntryType::Directory => Kind::Folder,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Link => Kind::HardLink,
            EntryType::Char => Kind::CharDevice,
            EntryType::Block => Kind::BlockDevice,
            EntryType::Fifo => Kind::Fifo,
            EntryType::GNUSparse => return Err(bad("holes in the manner of GNU, which is not supported")),
            other => return Err(bad(&format!("the type '{}', which is not supported", char::from(other.as_byte())))),
        };
        // Other readers do not agree on whether content follows then.
        if kind != Kind::File && size > 0 {
            return Err(bad("content, and is no file"));
        }
        let device = match kind {
            Kind::CharDevice | Kind::BlockDevice => {
                let part = |part: io::Result<Option<u32>>| part.ok().flatten().ok_or_else(|| bad("no device number"));
                (part(header.device_major())?, part(header.device_minor())?)
            }
            Kind::File | Kind::Folder | Kind::Symlink | Kind::HardLink | Kind::Fifo => (0, 0),
        };
        let seconds = header.mtime().ok().and_then(|time| i64::try_from(time).ok());
        let own = |said: Option<u32>, value, what| said.map_or_else(|| field(value, what), Ok);
        Ok(Entry {
            link: self.link.unwrap_or(link),
            kind,
            mode: field(header.mode().map(u64::from), "a mode that is no number")? & 0o7777,
            uid: own(self.uid, header.uid(), "an owner that is no user's number")?,
            gid: own(self.gid, header.gid(), "a group that is no group's number")?,
            mtime: self.mtime.or(seconds.map(|seconds| (seconds, 0))).ok_or_else(|| bad("no time"))?,
            device,
            size,
            xattrs: self.xattrs,
            path,
        })
    }
}
