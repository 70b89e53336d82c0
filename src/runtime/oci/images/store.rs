//! [`ImageStore`]: images made present, given, listed and removed.
//!
//! In its folder: `layers/DIFF_ID` (one folder for each layer, shared by all images that have it), `images` and `names`
//! ([`super::records`]), `tmp` (what is being made; emptied at the start) and `lock`.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::statvfs::statvfs;
use oci_spec::image::ImageConfiguration;

use super::digest::Digest;
use super::fault::{Fault, Outcome, Watch};
use super::layer::{self, Scratch};
use super::limits::{Budget, ImageLimits};
use super::records::{ImageRecord, Records};
use super::reference::Reference;
use super::sources::{Found, Sources};
use crate::cancel::Urge;
use crate::model::workload::PullPolicy;
use crate::runtime::adapter::{Call, Change, RtResult, RuntimeError};

/// Between two looks whether another call's pull of the same image is over.
const LOOK: Duration = Duration::from_millis(20);

/// Where images may come from, and how large they may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSettings {
    /// Folders of layouts and archives, in which images are found by name. One that does not exist is empty.
    pub folders: Vec<PathBuf>,
    /// The most that one image may come to.
    pub limits: ImageLimits,
    /// The program that pulls from registries, by its path or its name.
    pub skopeo: PathBuf,
    /// Registries (`HOST` or `HOST:PORT`) that are asked without TLS, or with a certificate that nobody vouches for.
    pub insecure_registries: Vec<String>,
}

impl Default for ImageSettings {
    fn default() -> Self {
        Self {
            folders: Vec::new(),
            limits: ImageLimits::default(),
            skopeo: PathBuf::from("skopeo"),
            insecure_registries: Vec::new(),
        }
    }
}

/// An image as containers need it.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// As it was asked for.
    pub reference: String,
    /// Of its manifest: `sha256:` and 64 digits.
    pub digest: String,
    /// The folders of its layers, the top one first.
    pub layers: Vec<PathBuf>,
    /// What its containers run where nothing else is asked.
    pub config: ImageConfiguration,
}

/// The images of one engine on this node. One process has it at a time; its threads share it.
pub struct ImageStore {
    dir: PathBuf,
    settings: ImageSettings,
    records: Records,
    state: Mutex<State>,
    _lock: Flock<File>,
}

#[derive(Default)]
struct State {
    /// Names that are being made present.
    under_way: BTreeSet<String>,
    /// Layers of images that are not recorded yet, with how many of them.
    pinned: BTreeMap<Digest, usize>,
}

impl ImageStore {
    /// Opens the store in a folder, which is made where it is missing, and removes what was not finished. A folder that
    /// another process has is [`RuntimeError::InvalidState`].
    pub fn open(dir: &Path, settings: ImageSettings) -> RtResult<Self> {
        Self::opened(dir, settings).map_err(|fault| fault.of_store())
    }

    fn opened(dir: &Path, settings: ImageSettings) -> Outcome<Self> {
        let failed = |error: io::Error| Fault::io(format!("opening the image store '{}'", dir.display()), error);
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(failed)?;
        let dir = dir.canonicalize().map_err(failed)?;
        let file = File::options().write(true).create(true).truncate(false).open(dir.join("lock")).map_err(failed)?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
            nix::errno::Errno::EWOULDBLOCK => Fault::Call(RuntimeError::InvalidState {
                op: "opening".to_owned(),
                id: dir.display().to_string(),
                state: "in use by another process".to_owned(),
            }),
            error => failed(error.into()),
        })?;
        let half_made = dir.join("tmp");
        match fs::remove_dir_all(&half_made) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => fs::create_dir(&half_made).map_err(failed)?,
        }
        fs::create_dir_all(dir.join("layers")).map_err(failed)?;
        let records = Records::open(&dir)?;
        Ok(Self { dir, settings, records, state: Mutex::default(), _lock: lock })
    }

    /// Makes an image present; `Changed` where it was unpacked now, or another than before has the name now. What names
    /// of images mean and where they come from: the room's door.
    ///
    /// An image that is damaged, hostile, of another platform or not to be had is [`RuntimeError::ImagePull`]; one that
    /// the disk has no room for is [`RuntimeError::NoRoom`]. Neither leaves anything behind, nor does the call's end.
    pub fn ensure(&self, call: &Call, reference: &str, pull: PullPolicy) -> RtResult<Change> {
        let op = format!("the pull of image '{reference}'");
        let watch = Watch::new(call, &op);
        let (needed, free) = (Cell::new(0), self.free_bytes());
        let ensured = watch.settle(self.ensured(reference, pull, watch, &needed, free));
        ensured.map_err(|fault| fault.of_image(reference, needed.get(), free))
    }

    fn ensured(&self, text: &str, pull: PullPolicy, watch: Watch, needed: &Cell<u64>, free: u64) -> Outcome<Change> {
        let reference = Reference::parse(text)?;
        let key = reference.key(text);
        let _claim = self.claim(&key, watch)?;
        if pull != PullPolicy::Always && self.present(&key)?.is_some() {
            return Ok(Change::Unchanged);
        }
        let scratch = self.dir.join("tmp");
        let sources = Sources { settings: &self.settings, scratch: &scratch, watch };
        let found = sources.find(&reference, text, pull)?;
        if self.present(&key)?.is_some_and(|(digest, _)| digest == found.image.digest) {
            return Ok(Change::Unchanged);
        }
        self.fill(&key, &found, watch, needed, free)?;
        Ok(Change::Changed)
    }

    /// Unpacks what is missing of the image, and records it.
    fn fill(&self, key: &str, found: &Found, watch: Watch, needed: &Cell<u64>, free: u64) -> Outcome<()> {
        let image = &found.image;
        let _pins = self.pin(image.layers.iter().map(|(_, diff_id)| diff_id.clone()).collect());
        let budget = Budget::new(&self.settings.limits);
        let missing = || image.layers.iter().filter(|(_, diff_id)| !self.layer(diff_id).is_dir());
        // Unpacked it has hardly less than packed.
        needed.set(missing().map(|(descriptor, _)| descriptor.size()).fold(0, u64::saturating_add));
        if needed.get() > free {
            return Err(Fault::Full("its layers".to_owned()));
        }
        for layer in missing() {
            watch.check()?;
            let blob = found.layout.blob(&layer.0)?;
            let unpacked = layer::unpack(layer, blob, (&self.dir.join("tmp"), &self.layer(&layer.1)), &budget, watch);
            needed.set(needed.get().max(budget.bytes()));
            unpacked?;
        }
        let layers = image.layers.iter().map(|(_, diff_id)| diff_id.to_string()).collect();
        let _records = self.lock();
        self.records.put_image(&image.digest, &ImageRecord { layers, config: image.config.clone() })?;
        self.records.put_name(key, &image.digest)
    }

    /// The image of this reference, or of this digest (`sha256:…`), which stays while a container has it although its
    /// name means another by now. Absent is [`RuntimeError::NotFound`].
    pub fn get(&self, reference: &str) -> RtResult<Image> {
        let found = match Digest::parse(reference) {
            Ok(digest) => self.whole(&digest).map(|image| image.map(|record| (digest, record))),
            Err(_) => Reference::parse(reference).and_then(|parsed| self.present(&parsed.key(reference))),
        };
        let found = found.map_err(|fault| fault.of_store())?;
        let (digest, record) = found.ok_or_else(|| RuntimeError::NotFound { what: format!("image '{reference}'") })?;
        let layers = record.layers.iter().rev().filter_map(|text| Digest::parse(text).ok());
        Ok(Image {
            reference: reference.to_owned(),
            digest: digest.to_string(),
            layers: layers.map(|diff_id| self.layer(&diff_id)).collect(),
            config: record.config,
        })
    }

    /// The names of all images, in full, each with its image's digest.
    pub fn list(&self) -> RtResult<BTreeMap<String, String>> {
        let names = self.records.names().map_err(|fault| fault.of_store())?;
        Ok(names.into_iter().map(|(name, digest)| (name, digest.to_string())).collect())
    }

    /// Forgets the name of an image, and deletes what nothing needs any more: see [`ImageStore::collect`]. An unknown
    /// name is `Unchanged`.
    pub fn remove(&self, reference: &str, in_use: &BTreeSet<String>) -> RtResult<Change> {
        let removed = Reference::parse(reference).and_then(|parsed| {
            let _records = self.lock();
            self.records.remove_name(&parsed.key(reference))
        });
        let removed = removed.map_err(|fault| fault.of_store())?;
        self.collect(in_use)?;
        Ok(if removed { Change::Changed } else { Change::Unchanged })
    }

    /// Deletes images without a name that no container has, and layers that no image has. `in_use`: the digests of the
    /// images that containers have.
    pub fn collect(&self, in_use: &BTreeSet<String>) -> RtResult<()> {
        self.collected(in_use).map_err(|fault| fault.of_store())
    }

    fn collected(&self, in_use: &BTreeSet<String>) -> Outcome<()> {
        let trash = Scratch::new(&self.dir.join("tmp"))?;
        let state = self.lock();
        let named: BTreeSet<Digest> = self.records.names()?.into_values().collect();
        let mut needed: BTreeSet<String> = state.pinned.keys().map(|layer| layer.hex().to_owned()).collect();
        for digest in self.records.images()? {
            if !named.contains(&digest) && !in_use.contains(&digest.to_string()) {
                self.records.remove_image(&digest)?;
                continue;
            }
            let Some(record) = self.records.image(&digest)? else {
                log::error!("no layer is deleted: which of them image '{digest}' has is not known");
                return Ok(());
            };
            let layers = record.layers.iter().filter_map(|text| Digest::parse(text).ok());
            needed.extend(layers.map(|layer| layer.hex().to_owned()));
        }
        let layers = self.dir.join("layers");
        let failed = |error| Fault::io(format!("deleting layers in '{}'", layers.display()), error);
        for entry in fs::read_dir(&layers).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            if !name.to_str().is_some_and(|name| needed.contains(name)) {
                fs::rename(layers.join(&name), trash.path().join(&name)).map_err(failed)?;
            }
        }
        // What is deleted takes time, and nobody needs to wait for it.
        drop(state);
        drop(trash);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is one insertion or removal.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn layer(&self, diff_id: &Digest) -> PathBuf {
        self.dir.join("layers").join(diff_id.hex())
    }

    /// The image that a name stands for, where all of it is there.
    fn present(&self, key: &str) -> Outcome<Option<(Digest, ImageRecord)>> {
        let Some(digest) = self.records.name(key)? else { return Ok(None) };
        Ok(self.whole(&digest)?.map(|record| (digest, record)))
    }

    fn whole(&self, digest: &Digest) -> Outcome<Option<ImageRecord>> {
        let is_there = |text: &String| Digest::parse(text).is_ok_and(|diff_id| self.layer(&diff_id).is_dir());
        Ok(self.records.image(digest)?.filter(|record| record.layers.iter().all(is_there)))
    }

    fn free_bytes(&self) -> u64 {
        let free = statvfs(&self.dir).map(|found| found.blocks_available() * found.fragment_size());
        free.unwrap_or(u64::MAX)
    }

    /// Waits until no other call makes the image of this name present.
    fn claim(&self, key: &str, watch: Watch) -> Outcome<Claim<'_>> {
        while !self.lock().under_way.insert(key.to_owned()) {
            watch.check()?;
            let call = watch.call();
            call.cancel.wait(Urge::Cancel, call.deadline.at_most(LOOK));
        }
        Ok(Claim { store: self, key: key.to_owned() })
    }

    /// Keeps layers from being deleted that no record names yet.
    fn pin(&self, layers: Vec<Digest>) -> Pins<'_> {
        let mut state = self.lock();
        for layer in &layers {
            *state.pinned.entry(layer.clone()).or_default() += 1;
        }
        drop(state);
        Pins { store: self, layers }
    }
}

struct Claim<'a> {
    store: &'a ImageStore,
    key: String,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.store.lock().under_way.remove(&self.key);
    }
}

struct Pins<'a> {
    store: &'a ImageStore,
    layers: Vec<Digest>,
}

impl Drop for Pins<'_> {
    fn drop(&mut self) {
        let mut state = self.store.lock();
        for layer in &self.layers {
            match state.pinned.get_mut(layer) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(state.pinned.remove(layer)),
            }
        }
    }
}
