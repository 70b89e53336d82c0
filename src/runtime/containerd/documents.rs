//! Documents of images, as registries and archives give them: indexes, manifests and configurations. Pure.
//!
//! Source: the OCI image specification 1.0 and Docker's image manifest version 2, schema 2, which have the same fields.

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::proto::containerd_types::Descriptor;
use crate::runtime::shared::json::nullable;
use crate::runtime::shared::platform::{Machine, Wanted};
use crate::runtime::specification::ImageDefaults;

/// What a descriptor in a document says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Reference {
    media_type: String,
    digest: String,
    size: i64,
    platform: Option<Platform>,
}

/// What a part of an index is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Platform {
    architecture: String,
    os: String,
    variant: String,
}

impl Reference {
    /// In containerd's words.
    pub(super) fn descriptor(&self) -> Descriptor {
        let Self { media_type, digest, size, .. } = self.clone();
        Descriptor { media_type, digest, size, ..Descriptor::default() }
    }
}

/// An index or a manifest: which of the two shows by what it has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Manifest {
    /// Of an index: one for each platform.
    #[serde(deserialize_with = "nullable")]
    pub(super) manifests: Vec<Reference>,
    /// Of a manifest.
    pub(super) config: Option<Reference>,
    /// Of a manifest: lowest first.
    #[serde(deserialize_with = "nullable")]
    pub(super) layers: Vec<Reference>,
}

impl Manifest {
    /// The part of an index that the machine runs, the best first where several would do.
    pub(super) fn part_for(&self, machine: &Machine) -> Option<&Reference> {
        let rank = |reference: &&Reference| {
            let Some(Platform { os, architecture, variant }) = reference.platform.clone() else {
                return Some(usize::MAX);
            };
            machine.fit(&Wanted { os, architecture, variant: Some(variant) })
        };
        let fitting = self.manifests.iter().filter_map(|reference| Some((rank(&reference)?, reference)));
        fitting.min_by_key(|(rank, _)| *rank).map(|(_, reference)| reference)
    }

    /// What it refers to, each with the name under which garbage collection is told of it.
    pub(super) fn children(&self) -> Vec<(String, Descriptor)> {
        let numbered = |kind: &'static str, parts: &[Reference]| {
            let name = move |(index, part): (usize, &Reference)| (format!("{kind}.{index}"), part.descriptor());
            parts.iter().enumerate().map(name).collect::<Vec<_>>()
        };
        let mut children = numbered("m", &self.manifests);
        children.extend(self.config.iter().map(|config| ("config".to_owned(), config.descriptor())));
        children.extend(numbered("l", &self.layers));
        children
    }
}

/// The configuration of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Configuration {
    #[serde(deserialize_with = "nullable")]
    config: Settings,
    pub(super) rootfs: RootFs,
}

/// Layers without compression.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct RootFs {
    /// Digests, lowest first.
    #[serde(deserialize_with = "nullable")]
    pub(super) diff_ids: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Settings {
    user: String,
    #[serde(deserialize_with = "nullable")]
    env: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    entrypoint: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    cmd: Vec<String>,
    working_dir: String,
}

impl Configuration {
    /// What it says of containers.
    pub(super) fn defaults(&self) -> ImageDefaults {
        let Settings { user, env, entrypoint, cmd, working_dir } = self.config.clone();
        ImageDefaults { entrypoint, cmd, env, working_dir, user }
    }
}

/// The names of the snapshots that layers make one upon another ("chain ids" of the OCI image specification).
pub(super) fn chain(diff_ids: &[String]) -> Vec<String> {
    let mut chain: Vec<String> = Vec::new();
    for diff_id in diff_ids {
        let link = match chain.last() {
            None => diff_id.clone(),
            Some(below) => format!("sha256:{:x}", Sha256::digest(format!("{below} {diff_id}"))),
        };
        chain.push(link);
    }
    chain
}

/// The reference in full, as containerd keeps it: with a registry, and with a tag or digest.
pub(super) fn full_reference(image: &str) -> String {
    let (first, rest) = image.split_once('/').unwrap_or(("", image));
    let has_registry = first == "localhost" || first.contains(['.', ':']);
    let named = match (has_registry, first) {
        (true, _) => image.to_owned(),
        (false, "") => format!("docker.io/library/{rest}"),
        (false, _) => format!("docker.io/{image}"),
    };
    let last = named.rsplit('/').next().unwrap_or(&named);
    if last.contains([':', '@']) { named } else { format!("{named}:latest") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_is_filled_up_as_registries_are_asked() {
        for (image, full) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("vendor/app:2", "docker.io/vendor/app:2"),
            ("localhost/a", "localhost/a:latest"),
            ("127.0.0.1:5000/a/b:1", "127.0.0.1:5000/a/b:1"),
            ("reg.example/a@sha256:00", "reg.example/a@sha256:00"),
        ] {
            assert_eq!(full_reference(image), full);
        }
    }

    #[test]
    fn part_of_an_index_is_that_of_the_machine() {
        let index = r#"{"manifests":[
            {"digest":"other","platform":{"os":"linux","architecture":"s390x"}},
            {"digest":"proof","platform":{"os":"unknown","architecture":"unknown"}},
            {"digest":"base","platform":{"os":"linux","architecture":"arm64"}},
            {"digest":"newest","platform":{"os":"linux","architecture":"arm64","variant":"v8"}},
            {"digest":"new","platform":{"os":"linux","architecture":"arm","variant":"v7"}},
            {"digest":"old","platform":{"os":"linux","architecture":"arm","variant":"v6"}}],"layers":null}"#;
        let index: Manifest = serde_json::from_str(index).unwrap();
        let part = |machine| index.part_for(&machine).map(|part| part.digest.as_str());
        assert_eq!(part(Machine::of("aarch64", "aarch64")), Some("newest"));
        assert_eq!(part(Machine::of("arm", "armv6l")), Some("old"));
        assert_eq!(part(Machine::of("x86_64", "x86_64")), None);
        let none: Manifest = serde_json::from_str(r#"{"manifests":[{"platform":{"os":"windows"}}]}"#).unwrap();
        assert_eq!(none.part_for(&Machine::of("x86_64", "x86_64")), None);
        assert_eq!(index.children()[1].0, "m.1");
    }

    #[test]
    fn names_of_snapshots_are_chained() {
        let ids: Vec<String> = ["sha256:a", "sha256:b"].map(str::to_owned).into();
        let chain = chain(&ids);
        assert_eq!(chain[0], "sha256:a");
        assert_eq!(chain[1], format!("sha256:{:x}", Sha256::digest("sha256:a sha256:b")));
    }

    #[test]
    fn configuration_of_docker_with_nulls_is_read() {
        let text = r#"{"config":{"Entrypoint":null,"Cmd":["sh"],"Env":["A=b"],"User":"web","WorkingDir":"/w"},
            "rootfs":{"type":"layers","diff_ids":["sha256:a"]}}"#;
        let read: Configuration = serde_json::from_str(text).unwrap();
        let defaults = read.defaults();
        assert_eq!(
            (defaults.cmd, defaults.user.as_str(), defaults.entrypoint.len()),
            (vec!["sh".to_owned()], "web", 0)
        );
        assert_eq!(read.rootfs.diff_ids, ["sha256:a"]);
        assert_eq!(serde_json::from_str::<Configuration>(r#"{"config":null}"#).unwrap(), Configuration::default());
    }
}
