//! [`Blobs`]: an image layout as what it holds, a folder or an archive of it alike.
//!
//! Enters: finding files of a layout by the names that the specification gives them, and reading them with their size
//! and digest held against what names them. Nothing else of a layout is looked at, and no link in an archive is followed.
//! An archive is read where it lies; one that is compressed as a whole is first unpacked into a file without a name.
//!
//! Source: OCI image specification 1.1, "Image Layout".

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use nix::fcntl::OFlag;
use oci_spec::image::Descriptor;
use tar::{Archive, EntryType};

use super::digest::{Digest, Summing};
use super::fault::{Fault, Outcome, Watch};
use super::limits::ImageLimits;

/// The most bytes of an index, a manifest or a configuration: what registries take.
const MOST_JSON: u64 = 4 << 20;

/// The most files of an archive.
const MOST_FILES: usize = 10_000;

/// A layout's own list of what is in it.
const INDEX: &str = "index.json";

/// What makes a folder a layout.
const MARK: &str = "oci-layout";

/// What the layout's mark may say.
const VERSION: &str = "1.0.0";

/// An image layout.
pub(super) struct Blobs<'a> {
    place: Place,
    path: PathBuf,
    limits: &'a ImageLimits,
    watch: Watch<'a>,
}

enum Place {
    Folder,
    /// The archive, and where in it files begin, with their lengths.
    Archive(File, BTreeMap<String, (u64, u64)>),
}

/// A part of a file.
pub(super) struct Part {
    file: File,
    at: u64,
    end: u64,
}

impl Part {
    fn length(&self) -> u64 {
        self.end - self.at
    }
}

impl Read for Part {
    fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.length()).unwrap_or(usize::MAX).min(piece.len());
        let read = self.file.read_at(&mut piece[..most], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl<'a> Blobs<'a> {
    /// Opens a layout. `scratch` is a folder for what has to be unpacked first.
    pub fn open(path: &Path, scratch: &Path, limits: &'a ImageLimits, watch: Watch<'a>) -> Outcome<Self> {
        let what = || format!("opening the image layout '{}'", path.display());
        let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Fault::refused(format!("'{}' does not exist", path.display())),
            _ => Fault::io(what(), error),
        })?;
        let place = match metadata.is_dir() {
            true => Place::Folder,
            false => {
                let archive = plain_tar(open_file(path)?, path, scratch, limits, watch)?;
                let files = list(&archive, path, watch)?;
                Place::Archive(archive, files)
            }
        };
        let layout = Self { place, path: path.to_owned(), limits, watch };
        layout.check_mark()?;
        Ok(layout)
    }

    /// What the layout lists: the text of its index.
    pub fn index(&self) -> Outcome<Vec<u8>> {
        self.named(INDEX)
    }

    /// The content of a small blob, which is what its descriptor says.
    pub fn json(&self, descriptor: &Descriptor) -> Outcome<Vec<u8>> {
        let (digest, part) = self.part_of(descriptor, MOST_JSON)?;
        let mut content = Vec::new();
        self.read(part, &mut content)?;
        self.hold(&digest, &Digest::of(&content))?;
        Ok(content)
    }

    /// A large blob whose content is what its descriptor says, to be read from its beginning.
    pub fn blob(&self, descriptor: &Descriptor) -> Outcome<Part> {
        let (digest, part) = self.part_of(descriptor, self.limits.bytes)?;
        let mut summing = Summing::new(Part { file: self.again(&part)?, at: part.at, end: part.end });
        let mut watched = self.watch.reader(&mut summing);
        let whole = io::copy(&mut watched, &mut io::sink());
        whole.map_err(|error| Fault::io(format!("reading blob '{digest}' of '{}'", self.path.display()), error))?;
        self.hold(&digest, &summing.finish())?;
        Ok(part)
    }

    fn again(&self, part: &Part) -> Outcome<File> {
        part.file.try_clone().map_err(|error| Fault::io(format!("reading '{}'", self.path.display()), error))
    }

    fn hold(&self, said: &Digest, found: &Digest) -> Outcome<()> {
        if said == found {
            return Ok(());
        }
        let path = self.path.display();
        Err(Fault::refused(format!("the content of blob '{said}' of '{path}' has the digest '{found}'")))
    }

    fn check_mark(&self) -> Outcome<()> {
        #[derive(serde::Deserialize)]
        struct Mark {
            #[serde(rename = "imageLayoutVersion")]
            version: String,
        }
        let path = self.path.display();
        let mark: Mark = serde_json::from_slice(&self.named(MARK)?)
            .map_err(|error| Fault::refused(format!("'{MARK}' of '{path}' cannot be read: {error}")))?;
        if mark.version != VERSION {
            let version = mark.version;
            return Err(Fault::refused(format!("'{path}' is an image layout of version '{version}', not '{VERSION}'")));
        }
        Ok(())
    }

    /// A small file of the layout.
    fn named(&self, name: &str) -> Outcome<Vec<u8>> {
        let path = self.path.display();
        let Some(part) = self.part(name)? else {
            return Err(Fault::refused(format!("'{path}' is no OCI image layout: it has no '{name}'")));
        };
        if part.length() > MOST_JSON {
            return Err(Fault::refused(format!("'{name}' of '{path}' has more than {MOST_JSON} bytes")));
        }
        let mut content = Vec::new();
        self.read(part, &mut content)?;
        Ok(content)
    }

    fn read(&self, part: Part, content: &mut Vec<u8>) -> Outcome<()> {
        let read = self.watch.reader(part).read_to_end(content);
        read.map(drop).map_err(|error| Fault::io(format!("reading '{}'", self.path.display()), error))
    }

    /// Where a blob lies that has the size which its descriptor says.
    fn part_of(&self, descriptor: &Descriptor, most: u64) -> Outcome<(Digest, Part)> {
        let path = self.path.display();
        let digest = Digest::parse(descriptor.digest().as_ref()).map_err(Fault::Refused)?;
        let said = descriptor.size();
        if said > most {
            return Err(Fault::refused(format!("blob '{digest}' has {said} bytes, more than it may: {most}")));
        }
        let Some(part) = self.part(&format!("blobs/sha256/{}", digest.hex()))? else {
            return Err(Fault::refused(format!("'{path}' has no blob '{digest}'")));
        };
        if part.length() != said {
            let found = part.length();
            return Err(Fault::refused(format!("blob '{digest}' of '{path}' has {found} bytes, not {said}")));
        }
        Ok((digest, part))
    }

    fn part(&self, name: &str) -> Outcome<Option<Part>> {
        let failed = |error| Fault::io(format!("reading '{name}' of '{}'", self.path.display()), error);
        match &self.place {
            Place::Archive(archive, files) => {
                let Some((at, bytes)) = files.get(name).copied() else { return Ok(None) };
                Ok(Some(Part { file: archive.try_clone().map_err(failed)?, at, end: at + bytes }))
            }
            Place::Folder => {
                let path = self.path.join(name);
                if matches!(path.symlink_metadata(), Err(error) if error.kind() == io::ErrorKind::NotFound) {
                    return Ok(None);
                }
                let file = open_file(&path)?;
                let end = file.metadata().map_err(failed)?.len();
                Ok(Some(Part { file, at: 0, end }))
            }
        }
    }
}

/// Opens a regular file; anything else would block or never end.
fn open_file(path: &Path) -> Outcome<File> {
    let what = || format!("opening '{}'", path.display());
    let opened = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let file = opened.map_err(|error| Fault::io(what(), error))?;
    if !file.metadata().map_err(|error| Fault::io(what(), error))?.is_file() {
        return Err(Fault::refused(format!("'{}' is no file", path.display())));
    }
    Ok(file)
}

/// The archive without the gzip around it, if there is one.
fn plain_tar(archive: File, path: &Path, scratch: &Path, limits: &ImageLimits, watch: Watch) -> Outcome<File> {
    let mut magic = [0; 2];
    let read = archive.read_at(&mut magic, 0);
    read.map_err(|error| Fault::io(format!("reading '{}'", path.display()), error))?;
    if magic != [0x1f, 0x8b] {
        return Ok(archive);
    }
    let made = tempfile_in(scratch);
    let mut plain = made.map_err(|error| Fault::io(format!("unpacking '{}'", path.display()), error))?;
    let mut content = MultiGzDecoder::new(io::BufReader::new(watch.reader(archive))).take(limits.bytes + 1);
    let mut piece = vec![0; 128 * 1024];
    let mut bytes = 0;
    loop {
        let read = content.read(&mut piece);
        let read = read.map_err(|error| Fault::content(format!("'{}' cannot be unpacked", path.display()), error))?;
        if read == 0 {
            break;
        }
        bytes += read as u64;
        if bytes > limits.bytes {
            let reason = format!("'{}' has more than {} bytes when it is unpacked", path.display(), limits.bytes);
            return Err(Fault::refused(reason));
        }
        let written = io::Write::write_all(&mut plain, &piece[..read]);
        written.map_err(|error| Fault::io(format!("unpacking '{}'", path.display()), error))?;
    }
    Ok(plain)
}

/// A file that is gone when it is closed.
fn tempfile_in(folder: &Path) -> io::Result<File> {
    let how = OFlag::O_TMPFILE.bits();
    File::options().read(true).write(true).mode(0o600).custom_flags(how).open(folder)
}

/// The files of the archive that a layout may have, each where it begins.
fn list(archive: &File, path: &Path, watch: Watch) -> Outcome<BTreeMap<String, (u64, u64)>> {
    let broken = |error| Fault::content(format!("the archive '{}' cannot be read", path.display()), error);
    let end = archive.metadata().map_err(broken)?.len();
    let mut reader = archive;
    reader.seek(SeekFrom::Start(0)).map_err(broken)?;
    let mut found = BTreeMap::new();
    let mut count = 0;
    let mut archive = Archive::new(Seekable { file: reader, watch });
    for entry in archive.entries_with_seek().map_err(broken)?.raw(true) {
        let entry = entry.map_err(broken)?;
        count += 1;
        if count > MOST_FILES {
            return Err(Fault::refused(format!("'{}' has more than {MOST_FILES} files", path.display())));
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let name = name.strip_prefix("./").unwrap_or(&name).to_owned();
        let is_of_layout = name == INDEX || name == MARK || name.starts_with("blobs/");
        if !matches!(entry.header().entry_type(), EntryType::Regular | EntryType::Continuous) || !is_of_layout {
            continue;
        }
        let (at, size) = (entry.raw_file_position(), entry.size());
        if at.checked_add(size).is_none_or(|last| last > end) {
            return Err(Fault::refused(format!("the archive '{}' ends inside of '{name}'", path.display())));
        }
        found.insert(name, (at, size));
    }
    Ok(found)
}

/// A file that is read as long as the call lasts.
struct Seekable<'a> {
    file: &'a File,
    watch: Watch<'a>,
}

impl Read for Seekable<'_> {
    fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        self.watch.reader(self.file).read(piece)
    }
}

impl Seek for Seekable<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}
