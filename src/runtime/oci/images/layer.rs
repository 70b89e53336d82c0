//! One layer, from its blob to a folder that is whole.
//!
//! It is unpacked beside, held against what its configuration says of it, synced, and renamed: a folder under a layer's
//! name is always whole, also after a power cut.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::unistd::syncfs;
use oci_spec::image::Descriptor;

use super::blobs::Part;
use super::decode::decode;
use super::digest::{Digest, Summing};
use super::entries::read_all;
use super::fault::{Fault, Outcome, Watch};
use super::limits::Budget;
use super::place::Unpacking;
use crate::runtime::shared::durable;

/// A folder that is deleted unless it is kept.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// A new one in `dir`.
    pub fn new(dir: &Path) -> Outcome<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let path = dir.join(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
        // What of a layer's own folder is seen where its archive says nothing of it; the mask may be any.
        let made = fs::create_dir(&path).and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o755)));
        made.map_err(|error| Fault::io(format!("making the folder '{}'", path.display()), error))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            log::warn!("'{}' stays until the next start: {error}", self.0.display());
        }
    }
}

/// Unpacks the layer to `to`; where it is there already, by somebody else's doing, it stays as it is.
pub(super) fn unpack(
    (descriptor, diff_id): &(Descriptor, Digest),
    blob: Part,
    (scratch, to): (&Path, &Path),
    budget: &Budget,
    watch: Watch,
) -> Outcome<()> {
    let scratch = Scratch::new(scratch)?;
    let name = descriptor.digest().to_string();
    let progress = watch.call().progress;
    let (total, what) = (descriptor.size(), format!("layer {:.19}", name));
    let blob = Told { inner: watch.reader(blob), done: 0, tell: |done| progress.bytes(&what, done, total) };
    let mut summing = Summing::new(budget.reader(decode(descriptor.media_type(), blob)?));
    let mut unpacking = Unpacking::new(scratch.path(), budget)?;
    read_all(&mut summing, |entry, content| unpacking.put(entry, content)).map_err(|fault| of_layer(&name, fault))?;
    // Builders fill up with zeros what the archive's end leaves.
    let rest = io::copy(&mut summing, &mut io::sink());
    rest.map_err(|error| of_layer(&name, Fault::content("its end cannot be read", error)))?;
    let found = summing.finish();
    if found != *diff_id {
        let reason =
            format!("layer '{name}' comes to '{found}' when it is unpacked, and the configuration says '{diff_id}'");
        return Err(Fault::refused(reason));
    }
    unpacking.finish(&name)?;
    keep(scratch.path(), to)
}

fn of_layer(name: &str, fault: Fault) -> Fault {
    match fault {
        Fault::Refused(reason) => Fault::Refused(format!("layer '{name}' cannot be unpacked: {reason}")),
        other => other,
    }
}

fn keep(from: &Path, to: &Path) -> Outcome<()> {
    let what = || format!("keeping the layer '{}'", to.display());
    let folder = File::open(from).map_err(|error| Fault::io(what(), error))?;
    syncfs(&folder).map_err(|error| Fault::io(what(), error))?;
    match fs::rename(from, to) {
        Ok(()) => {}
        Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {}
        Err(error) => return Err(Fault::io(what(), error)),
    }
    let above = to.parent().unwrap_or(to);
    durable::sync_folder(above).map_err(|error| Fault::io(what(), error))
}

/// A reader that tells how far it is.
struct Told<R, F> {
    inner: R,
    done: u64,
    tell: F,
}

impl<R: io::Read, F: Fn(u64)> io::Read for Told<R, F> {
    fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(piece)?;
        self.done += read as u64;
        (self.tell)(self.done);
        Ok(read)
    }
}
