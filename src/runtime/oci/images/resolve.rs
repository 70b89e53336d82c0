//! From a layout's index to one image for this machine: its manifest, its configuration and its layers.
//!
//! Every document is held against the digest that names it before it is read, so indexes in indexes are a tree; its depth
//! is bounded all the same. Whether content fits what a configuration says of it is checked where layers are unpacked.

use std::path::Path;

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType};
use serde::de::DeserializeOwned;

use super::blobs::Blobs;
use super::decode;
use super::digest::Digest;
use super::fault::{Fault, Outcome};
use super::limits::ImageLimits;
use crate::runtime::shared::platform::{Machine, Wanted};

/// The most indexes one in another.
const DEEPEST: usize = 4;

/// The annotation by which a layout's index names its images.
const NAME: &str = "org.opencontainers.image.ref.name";

/// The same of containerd, which keeps the whole reference here and the tag above.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// Which of a layout's images is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Choice {
    /// One that is called by one of these names, where any is; otherwise the only one.
    pub names: Vec<String>,
    /// Whether nothing but these names will do.
    pub named: bool,
    /// The digest of its manifest, or of the index that it is found by.
    pub digest: Option<Digest>,
}

/// An image that can be unpacked.
#[derive(Debug)]
pub(super) struct Resolved {
    /// Of the manifest.
    pub digest: Digest,
    /// The configuration.
    pub config: ImageConfiguration,
    /// The layers, the lowest first, each with what it comes to unpacked.
    pub layers: Vec<(Descriptor, Digest)>,
}

/// Finds the image in the layout.
pub(super) fn resolve(layout: &Blobs, path: &Path, choice: &Choice, limits: &ImageLimits) -> Outcome<Resolved> {
    let index: ImageIndex = parse(&layout.index()?, "index.json")?;
    let mut found = Vec::new();
    for top in chosen(index.manifests(), path, choice)? {
        let is_meant = choice.digest.is_none();
        walk(layout, top, choice, is_meant, 0, &mut found)?;
    }
    let machine = Machine::this();
    let mut said = Vec::new();
    let mut best: Option<(usize, Descriptor)> = None;
    for (descriptor, wanted) in found {
        // An index need not say it; the configuration does.
        let wanted = match wanted {
            Some(wanted) => wanted,
            None => Wanted::by_image(&config(layout, &manifest(layout, &descriptor)?)?),
        };
        said.push(wanted.to_string());
        if let Some(fit) = machine.fit(&wanted)
            && best.as_ref().is_none_or(|(other, _)| fit < *other)
        {
            best = Some((fit, descriptor));
        }
    }
    let Some((_, descriptor)) = best else {
        let (path, machine, said) = (path.display(), machine.name(), said.join(", "));
        return Err(match (&choice.digest, said.is_empty()) {
            (Some(digest), true) => Fault::refused(format!("'{path}' has no image '{digest}'")),
            _ => Fault::refused(format!("'{path}' has it for [{said}], and this machine is {machine}")),
        });
    };
    finish(layout, &descriptor, limits)
}

/// Whether the layout has the image by its name, or its digest in the layout's own index.
pub(super) fn has(layout: &Blobs, choice: &Choice) -> Outcome<bool> {
    let index: ImageIndex = parse(&layout.index()?, "index.json")?;
    Ok(index.manifests().iter().any(|descriptor| match &choice.digest {
        Some(digest) => descriptor.digest().to_string() == digest.to_string(),
        None => names(descriptor).any(|name| choice.names.contains(name)),
    }))
}

/// What a layout's index calls one of its images.
fn names(descriptor: &Descriptor) -> impl Iterator<Item = &String> {
    let annotations = descriptor.annotations().as_ref();
    [NAME, CONTAINERD_NAME].into_iter().filter_map(move |key| annotations?.get(key))
}

/// The entries of a layout's own index that are meant.
fn chosen<'a>(all: &'a [Descriptor], path: &Path, choice: &Choice) -> Outcome<Vec<&'a Descriptor>> {
    let is_called = |descriptor: &&Descriptor| names(descriptor).any(|name| choice.names.contains(name));
    let called: Vec<&Descriptor> = all.iter().filter(is_called).collect();
    if !called.is_empty() {
        return Ok(called);
    }
    // Several entries of one name are one image for several machines.
    let is_one = all.iter().all(|descriptor| names(descriptor).eq(all.iter().take(1).flat_map(names)));
    if !all.is_empty() && (choice.digest.is_some() || (is_one && !choice.named)) {
        return Ok(all.iter().collect());
    }
    let there: Vec<&str> = all.iter().flat_map(names).map(String::as_str).collect();
    let (path, asked, there) = (path.display(), choice.names.join("' or '"), there.join(", "));
    Err(Fault::refused(match (all.is_empty(), choice.names.is_empty()) {
        (true, _) => format!("'{path}' has no image"),
        (false, true) => format!("'{path}' has several images, one of which has to be named: [{there}]"),
        (false, false) => format!("'{path}' has no image called '{asked}', but [{there}]"),
    }))
}

/// Adds the manifests that are below an entry. `is_meant`: whether the digest that is asked for was met above.
fn walk(
    layout: &Blobs,
    at: &Descriptor,
    choice: &Choice,
    is_meant: bool,
    depth: usize,
    found: &mut Vec<(Descriptor, Option<Wanted>)>,
) -> Outcome<()> {
    let asked = choice.digest.as_ref().map(ToString::to_string);
    let is_meant = is_meant || asked.is_some_and(|asked| asked == at.digest().to_string());
    match kind(at.media_type()) {
        Document::Manifest => {
            if is_meant {
                found.push((at.clone(), at.platform().as_ref().map(Wanted::by)));
            }
            Ok(())
        }
        Document::Index if depth >= DEEPEST => {
            Err(Fault::refused(format!("it has more than {DEEPEST} indexes one in another")))
        }
        Document::Index => {
            let index: ImageIndex = parse(&layout.json(at)?, at.digest().as_ref())?;
            index.manifests().iter().try_for_each(|below| walk(layout, below, choice, is_meant, depth + 1, found))
        }
        // Signatures and other things that lie beside images.
        Document::Other => Ok(()),
    }
}

enum Document {
    Manifest,
    Index,
    Other,
}

fn kind(media_type: &MediaType) -> Document {
    match media_type {
        MediaType::ImageManifest => Document::Manifest,
        MediaType::ImageIndex => Document::Index,
        MediaType::Other(other) if other == DOCKER_MANIFEST => Document::Manifest,
        MediaType::Other(other) if other == DOCKER_INDEX => Document::Index,
        _ => Document::Other,
    }
}

fn manifest(layout: &Blobs, descriptor: &Descriptor) -> Outcome<ImageManifest> {
    parse(&layout.json(descriptor)?, descriptor.digest().as_ref())
}

fn config(layout: &Blobs, manifest: &ImageManifest) -> Outcome<ImageConfiguration> {
    let descriptor = manifest.config();
    let is_config = match descriptor.media_type() {
        MediaType::ImageConfig => true,
        MediaType::Other(other) => other == DOCKER_CONFIG,
        _ => false,
    };
    if !is_config {
        let media_type = descriptor.media_type();
        return Err(Fault::refused(format!(
            "its configuration is of the media type '{media_type}': it is no container image"
        )));
    }
    parse(&layout.json(descriptor)?, descriptor.digest().as_ref())
}

/// Reads the image and checks what it says of itself.
fn finish(layout: &Blobs, descriptor: &Descriptor, limits: &ImageLimits) -> Outcome<Resolved> {
    let manifest = manifest(layout, descriptor)?;
    let config = config(layout, &manifest)?;
    let wanted = Wanted::by_image(&config);
    let machine = Machine::this();
    if machine.fit(&wanted).is_none() {
        return Err(Fault::refused(format!("it is for {wanted}, and this machine is {}", machine.name())));
    }
    let diff_ids: Vec<Digest> = config
        .rootfs()
        .diff_ids()
        .iter()
        .map(|text| Digest::parse(text).map_err(Fault::Refused))
        .collect::<Outcome<_>>()?;
    let layers = manifest.layers();
    if layers.len() != diff_ids.len() {
        let (layers, ids) = (layers.len(), diff_ids.len());
        return Err(Fault::refused(format!("its manifest has {layers} layers, and its configuration {ids}")));
    }
    if layers.len() > limits.layers {
        return Err(Fault::refused(format!("it has {} layers, more than it may: {}", layers.len(), limits.layers)));
    }
    layers.iter().try_for_each(|layer| decode::check(layer.media_type()))?;
    let digest = Digest::parse(descriptor.digest().as_ref()).map_err(Fault::Refused)?;
    Ok(Resolved { digest, config, layers: layers.iter().cloned().zip(diff_ids).collect() })
}

fn parse<T: DeserializeOwned>(text: &[u8], what: &str) -> Outcome<T> {
    serde_json::from_slice(text).map_err(|error| Fault::refused(format!("'{what}' cannot be read: {error}")))
}
