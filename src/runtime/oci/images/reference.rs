//! What an image is called: a place on this machine, or a name.
//!
//! Names mean what they mean to engines: without a tag it is `latest`, without a host it is Docker's registry.

use std::path::{Path, PathBuf};

use super::digest::Digest;
use super::fault::{Fault, Outcome};
use super::resolve::Choice;

/// The registry of names without a host, and where in it those without a folder are.
const DEFAULT_HOST: &str = "docker.io";
const DEFAULT_FOLDER: &str = "library";

/// What an image is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reference {
    /// An image in a layout at an absolute path.
    Place(PathBuf, Choice),
    /// An image wherever it is found.
    Name(Name),
}

/// `HOST/PATH:TAG`, `HOST/PATH@DIGEST` or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    /// Host and path.
    pub repository: String,
    /// Empty where a digest alone is given.
    pub tag: String,
    pub digest: Option<Digest>,
}

impl Reference {
    /// Reads a reference.
    pub fn parse(text: &str) -> Outcome<Self> {
        for (scheme, what) in [("oci:", "folder"), ("oci-archive:", "file")] {
            let Some(place) = text.strip_prefix(scheme) else { continue };
            // As skopeo reads it: a path has no colon, and a name in a layout may have some.
            let (path, tag) = place.split_once(':').unwrap_or((place, ""));
            let is_tagged = path.len() < place.len();
            if !path.starts_with('/') || (is_tagged && tag.is_empty()) {
                return Err(Fault::refused(format!(
                    "'{text}' is not {scheme}, the absolute path of a {what}, and a tag or none"
                )));
            }
            let names = if is_tagged { vec![tag.to_owned()] } else { Vec::new() };
            return Ok(Self::Place(PathBuf::from(path), Choice { named: is_tagged, names, digest: None }));
        }
        Name::parse(text).map(Self::Name)
    }

    /// The name under which the store keeps it: two references of one image have the same.
    pub fn key(&self, text: &str) -> String {
        match self {
            Self::Place(..) => text.to_owned(),
            Self::Name(name) => name.full(),
        }
    }
}

impl Name {
    fn parse(text: &str) -> Outcome<Self> {
        let bad = |why: &str| Fault::refused(format!("'{text}' is no name of an image: {why}"));
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(Digest::parse(digest).map_err(|why| bad(&why))?)),
            None => (text, None),
        };
        let (repository, tag) = match rest.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
            _ => (rest, None),
        };
        let tag = match (tag, &digest) {
            (Some(tag), _) => tag,
            (None, Some(_)) => "",
            (None, None) => "latest",
        };
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let is_tag = |tag: &str| tag.len() <= 128 && tag.chars().all(is_word) && !tag.starts_with(['.', '-']);
        if (tag.is_empty() && digest.is_none()) || !is_tag(tag) {
            return Err(bad("its tag"));
        }
        let is_host = |part: &str| part.contains(['.', ':']) || part == "localhost";
        let (host, path) = match repository.split_once('/') {
            Some((host, path)) if is_host(host) => (host, path.to_owned()),
            Some(_) => (DEFAULT_HOST, repository.to_owned()),
            None => (DEFAULT_HOST, format!("{DEFAULT_FOLDER}/{repository}")),
        };
        let is_part = |part: &str| {
            let is_ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
            !part.is_empty() && part.chars().all(is_ok) && part.starts_with(|c: char| c.is_ascii_alphanumeric())
        };
        let (machine, port) = match host.rsplit_once(':') {
            Some((machine, port)) if !port.ends_with(']') => (machine, port.parse::<u16>().ok()),
            _ => (host, Some(0)),
        };
        let address = machine.strip_prefix('[').and_then(|address| address.strip_suffix(']'));
        let is_machine = match address {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => machine.chars().all(is_word) && machine.starts_with(|c: char| c.is_ascii_alphanumeric()),
        };
        let is_host_name = is_machine && port.is_some();
        if repository.len() > 255 || !is_host_name || !path.split('/').all(is_part) {
            return Err(bad("its host or path"));
        }
        Ok(Self { repository: format!("{host}/{path}"), tag: tag.to_owned(), digest })
    }

    /// In full.
    pub fn full(&self) -> String {
        let tag = if self.tag.is_empty() { String::new() } else { format!(":{}", self.tag) };
        let digest = self.digest.as_ref().map(|digest| format!("@{digest}")).unwrap_or_default();
        format!("{}{tag}{digest}", self.repository)
    }

    /// The name with its tag, without its digest.
    fn tagged(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }

    /// The image in a layout that may hold others.
    pub fn choice(&self, text: &str) -> Choice {
        let as_written = text.split('@').next().unwrap_or(text).to_owned();
        let names = if self.tag.is_empty() { Vec::new() } else { vec![self.tagged(), as_written] };
        Choice { named: self.digest.is_none(), names, digest: self.digest.clone() }
    }

    /// The image in a layout whose file is called like it: the tag alone names it there too.
    pub fn choice_in_own(&self, text: &str) -> Choice {
        let mut choice = self.choice(text);
        choice.named = false;
        choice.names.extend((!self.tag.is_empty()).then(|| self.tag.clone()));
        choice
    }

    /// Whether a layout of this file name is the image's own: its reference, in full or as it is written, with `_` for
    /// each `/`, `:` and `@`.
    pub fn is_file(&self, text: &str, path: &Path) -> bool {
        let Some(mut file) = path.file_name().and_then(|name| name.to_str()) else { return false };
        for ending in [".gz", ".tgz", ".tar", ".oci"] {
            file = file.strip_suffix(ending).unwrap_or(file);
        }
        [text.to_owned(), self.full(), self.tagged()].iter().any(|name| name.replace(['/', ':', '@'], "_") == file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(text: &str) -> Option<String> {
        match Reference::parse(text).ok()? {
            Reference::Name(name) => Some(name.full()),
            Reference::Place(..) => None,
        }
    }

    #[test]
    fn name_is_completed_as_engines_do() {
        let digest = Digest::of(b"");
        for (text, expected) in [
            ("busybox", "docker.io/library/busybox:latest".to_owned()),
            ("team/app:2", "docker.io/team/app:2".to_owned()),
            ("localhost/busybox:1", "localhost/busybox:1".to_owned()),
            ("127.0.0.1:5000/app", "127.0.0.1:5000/app:latest".to_owned()),
            ("[::1]:5000/app:1", "[::1]:5000/app:1".to_owned()),
            (&format!("host.example/app@{digest}"), format!("host.example/app@{digest}")),
            (&format!("host.example/app:3@{digest}"), format!("host.example/app:3@{digest}")),
        ] {
            assert_eq!(full(text), Some(expected), "{text}");
        }
        for bad in [
            "",
            ":1",
            "a:",
            "a@sha256:1",
            "A/b",
            "a//b",
            "../etc/passwd",
            "a b",
            "-o/x",
            "host.example/",
            "a/..",
            "docker://a/b",
            "docker-archive:/a",
            "a.b:x/c",
        ] {
            assert!(Reference::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn place_is_an_absolute_path_with_a_tag_or_none() {
        let place = |text| match Reference::parse(text).unwrap() {
            Reference::Place(path, choice) => (path.display().to_string(), choice.names, choice.named),
            Reference::Name(name) => panic!("{name:?}"),
        };
        assert_eq!(place("oci:/a/b"), ("/a/b".to_owned(), Vec::new(), false));
        assert_eq!(place("oci:/a/b:1"), ("/a/b".to_owned(), vec!["1".to_owned()], true));
        assert_eq!(place("oci-archive:/a/b.tar:host/i:1"), ("/a/b.tar".to_owned(), vec!["host/i:1".to_owned()], true));
        for bad in ["oci:", "oci:a/b", "oci-archive:b.tar:1", "oci:/a:"] {
            assert!(Reference::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn file_of_an_image_is_found_by_its_name() {
        let Reference::Name(name) = Reference::parse("localhost/busybox:1").unwrap() else { panic!() };
        for file in ["localhost_busybox_1.tar", "localhost_busybox_1", "localhost_busybox_1.tar.gz"] {
            assert!(name.is_file("localhost/busybox:1", Path::new(file)), "{file}");
        }
        assert!(!name.is_file("localhost/busybox:1", Path::new("busybox_1.tar")));
    }
}
