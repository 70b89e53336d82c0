//! Where an image comes from: the layout that its reference names, a folder of layouts, or a registry.
//!
//! Layouts on this machine count as present: they are used whatever the pull policy says. A registry is asked by
//! `skopeo`, where there is one, and never under `Never`.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::blobs::Blobs;
use super::fault::{Fault, Outcome, Watch};
use super::layer::Scratch;
use super::reference::{Name, Reference};
use super::resolve::{self, Choice, Resolved};
use super::store::ImageSettings;
use crate::model::workload::PullPolicy;
use crate::runtime::adapter::RuntimeError;
use crate::runtime::shared::program;

/// The most entries of a folder of layouts that are looked at.
const MOST_LAYOUTS: usize = 1000;

/// The most of a program's complaints that is kept, bytes.
const MOST_OUTPUT: usize = 64 * 1024;

/// What a layout that was pulled calls its image.
const PULLED: &str = "pulled";

/// Where to look.
pub(super) struct Sources<'a> {
    pub settings: &'a ImageSettings,
    pub scratch: &'a Path,
    pub watch: Watch<'a>,
}

/// An image that was found, and the layout that it is in.
pub(super) struct Found<'a> {
    pub layout: Blobs<'a>,
    pub image: Resolved,
    /// What a pull has written, until it is unpacked.
    _pulled: Option<Scratch>,
}

impl<'a> Sources<'a> {
    /// Finds the image. `text` is its reference as it is written.
    pub fn find(&self, reference: &Reference, text: &str, pull: PullPolicy) -> Outcome<Found<'a>> {
        match reference {
            Reference::Place(path, choice) => self.take(path, choice, None),
            Reference::Name(name) => match self.find_in_folders(name, text)? {
                Some(found) => Ok(found),
                None if pull == PullPolicy::Never => {
                    Err(Fault::refused("it is not on this node, and its pull policy is Never"))
                }
                None => self.pull(name),
            },
        }
    }

    fn take(&self, path: &Path, choice: &Choice, pulled: Option<Scratch>) -> Outcome<Found<'a>> {
        let limits = &self.settings.limits;
        let layout = Blobs::open(path, self.scratch, limits, self.watch)?;
        let image = resolve::resolve(&layout, path, choice, limits)?;
        Ok(Found { layout, image, _pulled: pulled })
    }

    /// First what is called like the image, then what has it among others.
    fn find_in_folders(&self, name: &Name, text: &str) -> Outcome<Option<Found<'a>>> {
        let mut layouts = Vec::new();
        for folder in &self.settings.folders {
            let what = || format!("listing the images in '{}'", folder.display());
            match fs::read_dir(folder) {
                Ok(entries) => layouts.extend(entries.flatten().map(|entry| entry.path()).take(MOST_LAYOUTS)),
                // It may be on a disk that is not there.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(Fault::io(what(), error)),
            }
        }
        layouts.sort();
        if let Some(own) = layouts.iter().find(|path| name.is_file(text, path)) {
            return self.take(own, &name.choice_in_own(text), None).map(Some);
        }
        for path in layouts.iter().filter(|path| is_layout(path)) {
            self.watch.check()?;
            match self.look_into(path, &name.choice(text)) {
                Ok(true) => return self.take(path, &name.choice(text), None).map(Some),
                Ok(false) => {}
                Err(Fault::Refused(why)) => log::warn!("the images in '{}' are not looked at: {why}", path.display()),
                Err(other) => return Err(other),
            }
        }
        Ok(None)
    }

    fn look_into(&self, path: &Path, choice: &Choice) -> Outcome<bool> {
        let layout = Blobs::open(path, self.scratch, &self.settings.limits, self.watch)?;
        resolve::has(&layout, choice)
    }

    /// Lets `skopeo` copy the image into a layout in the scratch folder.
    fn pull(&self, name: &Name) -> Outcome<Found<'a>> {
        let scratch = Scratch::new(self.scratch)?;
        let layout = scratch.path().join("layout");
        // The program takes one of the two.
        let from = match (&name.digest, name.tag.is_empty()) {
            (Some(digest), false) => format!("{}@{digest}", name.repository),
            _ => name.full(),
        };
        let mut command = Command::new(&self.settings.skopeo);
        command.arg("copy").arg("--quiet");
        let host = name.repository.split('/').next().unwrap_or_default();
        if self.settings.insecure_registries.iter().any(|insecure| insecure == host) {
            command.arg("--src-tls-verify=false");
        }
        let mut to = std::ffi::OsString::from("oci:");
        to.push(&layout);
        to.push(format!(":{PULLED}"));
        command.arg(format!("docker://{from}")).arg(to).env("TMPDIR", scratch.path());
        let call = self.watch.call();
        call.progress.bytes("pulling", 0, 0);
        let ended = program::run(&mut command, call, self.watch.op(), MOST_OUTPUT).map_err(|error| match error {
            RuntimeError::Io { reason, .. } => {
                let skopeo = self.settings.skopeo.display();
                Fault::refused(format!("it is not on this node, and '{skopeo}', which pulls, cannot be run: {reason}"))
            }
            other => Fault::Call(other),
        })?;
        if !ended.status.success() {
            let (skopeo, why) = (self.settings.skopeo.display(), ended.complaint());
            return Err(Fault::refused(format!("'{skopeo}' failed: {why}")));
        }
        // What was asked for by its digest was held against it by the program; an index is resolved there already.
        let choice = Choice { names: vec![PULLED.to_owned()], named: true, digest: None };
        self.take(&layout, &choice, Some(scratch))
    }
}

/// Whether this may be a layout that is worth a look: a folder that says so, or an archive that need not be unpacked.
fn is_layout(path: &Path) -> bool {
    path.join("oci-layout").is_file() || (path.extension().is_some_and(|ending| ending == "tar") && path.is_file())
}
