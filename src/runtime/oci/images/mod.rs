//! Images for containers that no engine keeps: from OCI image layouts to mounted root file systems.
//!
//! How an image becomes present ([`ImageStore::ensure`]), in order:
//!
//! 1. Its reference is read (`reference`): a place, or a name, which is completed as engines do.
//! 2. A layout with it is found (`sources`), and opened as a folder or an archive (`blobs`).
//! 3. Its manifest for this machine is found in the layout's indexes (`resolve`), every document held against its digest
//!    before it is read.
//! 4. Each layer that the store does not have is read once for its digest, then unpacked (`layer`) through its
//!    compression (`decode`) and its tar (`entries`) into a folder beside (`place`, `beneath`), held against what the
//!    configuration says of it, synced, and renamed.
//! 5. The image and its name are recorded (`records`).
//!
//! References: `oci:/abs/folder[:name]` and `oci-archive:/abs/file.tar[:name]` (also gzipped) name a layout. Any other is
//! `[host/]path[:tag][@sha256:…]`, and is looked for in the store, in the configured folders of layouts, and in its
//! registry, which `skopeo` asks. In a folder of layouts an image is found by a file's or folder's name (the reference with
//! `_` for `/`, `:` and `@`, then `.tar`, `.tar.gz`, `.tgz`, `.oci` or nothing), or else by the annotation
//! `org.opencontainers.image.ref.name` in a layout folder or an archive without compression.
//!
//! Pull policies: `IfNotPresent` takes what the store has; `Always` looks again, and keeps what is there where the digest is
//! the same; `Never` differs from the first in that no registry is asked: layouts on this machine count as present.
//!
//! Enters: bytes of images, and where they lie. Stays out: containers, their processes and their specification. An image
//! is trusted with nothing: sizes, counts, depths and memory are bounded, and nothing of it is written outside of its
//! layers' folders.

mod beneath;
mod blobs;
mod decode;
mod digest;
mod entries;
mod fault;
mod layer;
mod limits;
mod mount;
mod place;
mod records;
mod reference;
mod resolve;
mod sources;
mod store;
#[cfg(test)]
mod tests;

pub use limits::ImageLimits;
pub use mount::{RootAccess, mount_root, unmount_root};
pub use store::{Image, ImageSettings, ImageStore};
