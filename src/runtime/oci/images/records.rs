//! What the store has, on disk: which images there are, and what they are called.
//!
//! An image is a record under its digest: its configuration and the layers that it is made of. A name is a record under
//! the sum of its text, which may be too long for a file's name. Both are replaced whole and synced. A record that cannot
//! be read counts as absent, is told in the log, and is replaced by the next pull.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::image::ImageConfiguration;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::fault::{Fault, Outcome};
use crate::runtime::shared::durable;

/// The most bytes of a record: a configuration and what is around it.
const MOST: u64 = 16 << 20;

/// An image, without its content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ImageRecord {
    /// What each layer comes to unpacked, the lowest first.
    pub layers: Vec<String>,
    pub config: ImageConfiguration,
}

/// A name of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NameRecord {
    /// As the store calls it.
    pub name: String,
    /// The image's.
    pub digest: String,
}

/// The records' two folders.
pub(super) struct Records {
    images: PathBuf,
    names: PathBuf,
}

impl Records {
    /// In the store's folder; makes what is missing.
    pub fn open(dir: &Path) -> Outcome<Self> {
        let (images, names) = (dir.join("images"), dir.join("names"));
        for folder in [&images, &names] {
            fs::create_dir_all(folder)
                .map_err(|error| Fault::io(format!("making the folder '{}'", folder.display()), error))?;
        }
        Ok(Self { images, names })
    }

    fn image_file(&self, digest: &Digest) -> PathBuf {
        self.images.join(format!("{}.json", digest.hex()))
    }

    fn name_file(&self, name: &str) -> PathBuf {
        self.names.join(format!("{}.json", Digest::of(name.as_bytes()).hex()))
    }

    /// The image of this digest.
    pub fn image(&self, digest: &Digest) -> Outcome<Option<ImageRecord>> {
        read(&self.image_file(digest))
    }

    /// The digest that a name stands for.
    pub fn name(&self, name: &str) -> Outcome<Option<Digest>> {
        let record: Option<NameRecord> = read(&self.name_file(name))?;
        Ok(record.filter(|record| record.name == name).and_then(|record| Digest::parse(&record.digest).ok()))
    }

    /// Keeps an image, durably.
    pub fn put_image(&self, digest: &Digest, record: &ImageRecord) -> Outcome<()> {
        write(&self.image_file(digest), record)
    }

    /// Keeps a name, durably; it may have stood for another image.
    pub fn put_name(&self, name: &str, digest: &Digest) -> Outcome<()> {
        write(&self.name_file(name), &NameRecord { name: name.to_owned(), digest: digest.to_string() })
    }

    /// Forgets a name; says whether it was there.
    pub fn remove_name(&self, name: &str) -> Outcome<bool> {
        remove(&self.name_file(name))
    }

    /// Forgets an image.
    pub fn remove_image(&self, digest: &Digest) -> Outcome<bool> {
        remove(&self.image_file(digest))
    }

    /// All names, with what they stand for.
    pub fn names(&self) -> Outcome<BTreeMap<String, Digest>> {
        let records = list(&self.names)?.into_iter().filter_map(|path| read::<NameRecord>(&path).transpose());
        let named = |record: NameRecord| Some((record.name, Digest::parse(&record.digest).ok()?));
        records.filter_map(|record| record.map(named).transpose()).collect()
    }

    /// The digests of all images. One whose record cannot be read is among them.
    pub fn images(&self) -> Outcome<Vec<Digest>> {
        let digest = |path: PathBuf| Digest::parse(&format!("sha256:{}", path.file_stem()?.to_str()?)).ok();
        Ok(list(&self.images)?.into_iter().filter_map(digest).collect())
    }
}

fn failed(what: &str, path: &Path, error: io::Error) -> Fault {
    Fault::io(format!("{what} the record '{}'", path.display()), error)
}

fn list(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(|error| failed("listing", folder, error))?;
    let paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "json")).collect())
}

fn read<T: DeserializeOwned>(path: &Path) -> Outcome<Option<T>> {
    let Some(text) = durable::read(path, MOST).map_err(|error| failed("reading", path, error))? else {
        return Ok(None);
    };
    serde_json::from_slice(&text).map(Some).or_else(|error| {
        log::error!("the record of an image, '{}', cannot be read: {error}", path.display());
        Ok(None)
    })
}

fn write<T: Serialize>(path: &Path, record: &T) -> Outcome<()> {
    let text = serde_json::to_vec(record).map_err(|error| failed("writing", path, error.into()))?;
    durable::replace(path, &text).map_err(|error| failed("writing", path, error))
}

fn remove(path: &Path) -> Outcome<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("removing", path, error)),
    }
}
