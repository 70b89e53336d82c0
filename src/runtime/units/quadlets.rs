//! Podman's Quadlet files of this node: `[Container]` units, of which Podman's generator makes services when systemd reads unit
//! files anew.
//!
//! A file is put to the generator before systemd sees it, so that what it refuses is told in its own words and nothing is left.
//! Of the kinds of such files only containers are taken: the others make no process of their own, or (`[Kube]`) one whose end
//! does not end what was started.
//!
//! Source: `podman-systemd.unit(5)` of Podman 5.4.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use uuid::Uuid;

use super::text::settings;
use crate::runtime::adapter::{Call, RtResult, RuntimeError, unsupported};
use crate::runtime::shared::durable::kept;
use crate::runtime::shared::program;

/// The section that makes a text one.
const SECTION: &str = "Container";

/// What names of such files end with.
const KIND: &str = ".container";

/// Where administrators put theirs, which ours may refer to.
const OTHERS: [&str; 2] = ["/etc/containers/systemd", "/usr/share/containers/systemd"];

/// The most of what the generator prints that is kept, bytes.
const MOST: usize = 1024 * 1024;

const OP: &str = "Podman's generator";

/// Whether a unit's text is one.
pub fn is_quadlet(text: &str) -> bool {
    settings(text).iter().any(|setting| setting.section == SECTION)
}

/// Refuses what this daemon could not keep track of.
pub fn check_text(engine: &str, text: &str) -> RtResult<()> {
    let all = settings(text);
    let is_refused = |key: &str| matches!(key, "ServiceName" | "Pod");
    match all.iter().find(|setting| setting.section == SECTION && is_refused(&setting.key)) {
        Some(setting) => Err(unsupported(engine, format!("[{SECTION}] {}={}", setting.key, setting.value))),
        None => Ok(()),
    }
}

/// A folder that Podman's generator looks for files in.
pub struct QuadletFiles {
    dir: PathBuf,
    generator: PathBuf,
    /// Where a file is before it is there.
    scratch: PathBuf,
}

/// A folder that is gone once this is dropped.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            log::warn!("'{}' is not deleted: {error}", self.0.display());
        }
    }
}

impl QuadletFiles {
    /// Those there, for this generator. What is put to it is in a folder below `scratch` meanwhile.
    pub fn new(dir: PathBuf, generator: PathBuf, scratch: PathBuf) -> Self {
        Self { dir, generator, scratch }
    }

    /// Fails where there is no generator.
    pub fn check_generator(&self, engine: &str) -> RtResult<()> {
        if self.generator.exists() {
            return Ok(());
        }
        let what = format!("[{SECTION}]: there is no generator of Podman's, '{}'", self.generator.display());
        Err(unsupported(engine, what))
    }

    /// Puts a text for this unit to the generator; fails with what it says where it makes no service of it.
    pub fn prove(&self, call: &Call, unit: &str, text: &str) -> RtResult<()> {
        let scratch = Scratch(self.scratch.join(format!("quadlet-{}", Uuid::now_v7().simple())));
        fs::create_dir_all(&scratch.0).map_err(|error| kept("making", &scratch.0, &error))?;
        let name = file_name(unit);
        let file = scratch.0.join(&name);
        fs::write(&file, text).map_err(|error| kept("writing", &file, &error))?;
        let places = [scratch.0.as_path(), &self.dir].into_iter().chain(OTHERS.map(Path::new));
        let places: Vec<_> = places.map(|place| place.as_os_str().to_owned()).collect();
        let mut command = Command::new(&self.generator);
        command.arg("-dryrun").env("QUADLET_UNIT_DIRS", places.join(":".as_ref()));
        let ended = program::run(&mut command, call, OP, MOST)?;
        let made = format!("---{unit}---");
        // Other files there may be wrong as well; this is about ours.
        if String::from_utf8_lossy(&ended.stdout).lines().any(|line| line.trim() == made) {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        let is_complaint = |line: &&str| line.contains(&name) && !line.contains("Loading source unit file");
        let complaint = said.lines().rev().map(str::trim).find(is_complaint).map(str::to_owned);
        let complaint = complaint.unwrap_or_else(|| ended.complaint());
        Err(RuntimeError::InvalidSpec { reason: format!("{OP} makes no service of the unit: {complaint}") })
    }

    /// Writes the file that becomes this unit with systemd's next reload.
    pub fn write(&self, unit: &str, text: &str) -> RtResult<()> {
        fs::create_dir_all(&self.dir).map_err(|error| kept("making", &self.dir, &error))?;
        let file = self.dir.join(file_name(unit));
        fs::write(&file, text).map_err(|error| kept("writing", &file, &error))
    }

    /// Deletes it, where it is there.
    pub fn delete(&self, unit: &str) -> RtResult<()> {
        let file = self.dir.join(file_name(unit));
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(kept("deleting", &file, &error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn file_name(unit: &str) -> String {
    format!("{}{KIND}", unit.strip_suffix(".service").unwrap_or(unit))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use super::*;
    use crate::cancel::CancelToken;
    use crate::runtime::double::call;

    #[test]
    fn texts_are_told_apart_and_what_renames_the_service_is_refused() {
        assert!(is_quadlet("[Unit]\n[Container]\nImage=i\n") && !is_quadlet("[Service]\nExecStart=/bin/true\n"));
        assert_eq!(check_text("e", "[Container]\nImage=i\n[Service]\nPod=x\n"), Ok(()));
        let error = check_text("e", "[Container]\nServiceName=x\n").unwrap_err().to_string();
        assert!(error.contains("ServiceName=x"), "{error}");
        assert_eq!(file_name("a.service"), "a.container");
    }

    #[test]
    fn generator_is_asked_beforehand_and_what_it_says_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let generator = folder.path().join("generator");
        let files = || QuadletFiles::new(folder.path().join("q"), generator.clone(), folder.path().join("s"));
        let absent = files().check_generator("e").unwrap_err().to_string();
        assert!(absent.contains("no generator"), "{absent}");
        let script = "#!/bin/sh\nfor f in ${QUADLET_UNIT_DIRS%%:*}/*; do n=${f##*/}; echo \"x: Loading source unit file $f\" >&2\n\
            if grep -q Image= $f; then echo \"---${n%.container}.service---\"; else echo \"x: converting $n: no Image\" >&2; fi\n\
            done; exit 1\n";
        fs::write(&generator, script).unwrap();
        fs::set_permissions(&generator, fs::Permissions::from_mode(0o755)).unwrap();
        let token = CancelToken::new();
        let prove = |text| files().prove(&call(&token, Duration::from_secs(20)), "a.service", text);
        assert_eq!(prove("[Container]\nImage=i\n"), Ok(()), "others' files may be wrong");
        let error = prove("[Container]\n").unwrap_err().to_string();
        assert!(error.ends_with("converting a.container: no Image"), "{error}");
        assert_eq!(fs::read_dir(folder.path().join("s")).unwrap().count(), 0);
    }
}
