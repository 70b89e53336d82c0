//! OCI image layouts made by hand: for real containers, and for images that no builder would make.
//!
//! Unit tests of the image store include this file, too, so it names nothing of this program.

// Each of the two uses its own part of it.
#![allow(dead_code)]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

/// What builders write of layers and documents.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// The annotation that names an image in a layout.
const NAME: &str = "org.opencontainers.image.ref.name";

/// How a layer lies in a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// `sha256:` and the digits of the content.
pub fn digest(content: &[u8]) -> String {
    let sum = Sha256::digest(content);
    format!("sha256:{}", sum.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// What this machine is in the words of images.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A layer's tar, entry by entry; nothing is checked of what is put into it.
#[derive(Debug, Clone, Default)]
pub struct LayerTar {
    bytes: Vec<u8>,
}

impl LayerTar {
    pub fn new() -> Self {
        Self::default()
    }

    /// A header with all fields set and no content.
    pub fn header(kind: EntryType, path: &[u8], link: &[u8]) -> Header {
        let mut header = Header::new_ustar();
        let fields = header.as_old_mut();
        fields.name[..path.len()].copy_from_slice(path);
        fields.linkname[..link.len()].copy_from_slice(link);
        header.set_entry_type(kind);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(0);
        header.set_device_major(0).unwrap();
        header.set_device_minor(0).unwrap();
        header
    }

    /// Any header with any content; the size in the header stays as it is.
    #[must_use]
    pub fn raw(mut self, mut header: Header, content: &[u8]) -> Self {
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    #[must_use]
    pub fn entry(self, kind: EntryType, path: &str, link: &str, mode: u32, content: &[u8]) -> Self {
        let mut header = Self::header(kind, path.as_bytes(), link.as_bytes());
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        self.raw(header, content)
    }

    #[must_use]
    pub fn file(self, path: &str, content: &str) -> Self {
        self.entry(EntryType::Regular, path, "", 0o644, content.as_bytes())
    }

    #[must_use]
    pub fn folder(self, path: &str, mode: u32) -> Self {
        self.entry(EntryType::Directory, path, "", mode, b"")
    }

    #[must_use]
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, path, target, 0o777, b"")
    }

    #[must_use]
    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Link, path, target, 0o644, b"")
    }

    /// Extended headers for the entry that follows.
    #[must_use]
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut text = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while rest + length.to_string().len() != length {
                length += 1;
            }
            text.extend_from_slice(format!("{length} {key}=").as_bytes());
            text.extend_from_slice(value);
            text.push(b'\n');
        }
        self.entry(EntryType::XHeader, "PaxHeader", "", 0o644, &text)
    }

    /// The archive, ended as it should be.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }
}

/// A layout folder on its way.
pub struct Layout {
    pub dir: PathBuf,
    manifests: Vec<Value>,
}

impl Layout {
    /// In a folder that is made.
    pub fn new(dir: &Path) -> Self {
        fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let layout = Self { dir: dir.to_owned(), manifests: Vec::new() };
        layout.write_index();
        layout
    }

    /// Where a blob lies.
    pub fn blob_file(&self, digest: &str) -> PathBuf {
        self.dir.join("blobs").join(digest.replace(':', "/"))
    }

    /// Puts content into the layout; gives a descriptor of it.
    pub fn blob(&self, media_type: &str, content: &[u8]) -> Value {
        let digest = digest(content);
        fs::write(self.blob_file(&digest), content).unwrap();
        json!({ "mediaType": media_type, "digest": digest, "size": content.len() })
    }

    /// Puts a document into the layout.
    pub fn document(&self, media_type: &str, content: &Value) -> Value {
        self.blob(media_type, content.to_string().as_bytes())
    }

    /// Puts a layer into the layout.
    pub fn layer(&self, tar: &[u8], packing: Packing) -> Value {
        match packing {
            Packing::Plain => self.blob(LAYER, tar),
            Packing::Gzip => {
                let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
                packed.write_all(tar).unwrap();
                self.blob(&format!("{LAYER}+gzip"), &packed.finish().unwrap())
            }
            Packing::Zstd => {
                let level = ruzstd::encoding::CompressionLevel::Fastest;
                self.blob(&format!("{LAYER}+zstd"), &ruzstd::encoding::compress_to_vec(tar, level))
            }
        }
    }

    /// A configuration for this machine.
    pub fn config(config: &Value, diff_ids: &[String]) -> Value {
        json!({
            "architecture": architecture(),
            "os": "linux",
            "config": config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        })
    }

    /// Puts the manifest of an image into the layout, without listing it.
    pub fn manifest(&self, config: &Value, layers: &[Value]) -> Value {
        let config = self.document(CONFIG, config);
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
        self.document(MANIFEST, &manifest)
    }

    /// Lists what a descriptor names, under this name where it is not empty.
    pub fn list(&mut self, name: &str, mut descriptor: Value) {
        if !name.is_empty() {
            descriptor["annotations"] = json!({ NAME: name });
        }
        self.manifests.push(descriptor);
        self.write_index();
    }

    fn write_index(&self) {
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": self.manifests });
        fs::write(self.dir.join("index.json"), index.to_string()).unwrap();
    }

    /// An image of these layers, the lowest first, listed under this name. Gives its digest.
    pub fn image(&mut self, name: &str, config: &Value, layers: &[(&[u8], Packing)]) -> String {
        let diff_ids: Vec<String> = layers.iter().map(|(tar, _)| digest(tar)).collect();
        let layers: Vec<Value> = layers.iter().map(|(tar, packing)| self.layer(tar, *packing)).collect();
        let manifest = self.manifest(&Self::config(config, &diff_ids), &layers);
        let digest = manifest["digest"].as_str().unwrap().to_owned();
        self.list(name, manifest);
        digest
    }

    /// Writes the layout as one archive.
    pub fn archive(&self, to: &Path, packing: Packing) {
        let mut archive = tar::Builder::new(Vec::new());
        archive.append_dir_all(".", &self.dir).unwrap();
        let plain = archive.into_inner().unwrap();
        let mut file = File::create(to).unwrap();
        match packing {
            Packing::Gzip => {
                let mut packed = GzEncoder::new(file, Compression::fast());
                packed.write_all(&plain).unwrap();
                packed.finish().unwrap();
            }
            Packing::Plain | Packing::Zstd => file.write_all(&plain).unwrap(),
        }
    }
}

/// The layer of a system that is one static busybox with links to it, and the folders that runtimes mount on.
pub fn busybox_layer() -> Vec<u8> {
    let program = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).is_file());
    let program = program.expect("busybox-static is installed");
    let mut tar = LayerTar::new();
    for (folder, mode) in
        [("bin", 0o755), ("dev", 0o755), ("etc", 0o755), ("proc", 0o755), ("sys", 0o755), ("tmp", 0o1777)]
    {
        tar = tar.folder(folder, mode);
    }
    tar = tar.entry(EntryType::Regular, "bin/busybox", "", 0o755, &fs::read(program).unwrap());
    tar = tar.file("etc/passwd", "root:x:0:0:root:/:/bin/sh\n").file("etc/group", "root:x:0:\n");
    let listed = Command::new(program).arg("--list").output().unwrap();
    for applet in String::from_utf8(listed.stdout).unwrap().lines().filter(|applet| *applet != "busybox") {
        tar = tar.symlink(&format!("bin/{applet}"), "busybox");
    }
    tar.finish()
}

/// A layout with a busybox that runs a shell, under this name. Gives the image's digest.
pub fn busybox(dir: &Path, name: &str) -> String {
    let config = json!({ "Env": ["PATH=/bin"], "Cmd": ["sh"] });
    Layout::new(dir).image(name, &config, &[(&busybox_layer(), Packing::Gzip)])
}
