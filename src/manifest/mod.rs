//! Documents: text to workloads, without I/O.
//!
//! A [`Bundle`] is made from the text of a request. It names the documents that it refers to and does not hold
//! ([`Bundle::missing`]), takes them from whoever has them ([`Bundle::add`]), and is then expanded to workloads
//! ([`Bundle::expand`]). Every error and warning names the document, the path in it and the line.
//!
//! Enters: one file per kind of document or part of one, all reading through `reader`. Stays out: files, stores,
//! engines, and whether a node allows what a document asks for (that is `security`). A new kind is a variant of
//! [`Kind`] and of `document::Body`, and a reader that `document::read` calls.
//!
//! Beside documents with a `kind` there are Docker Compose (`compose`: has `services`), bundles of the OCI runtime (`oci`:
//! has `ociVersion`) and systemd units (`unit`: begins with the header of a section). These refuse by name whatever
//! cannot take effect, what they do not know too.
//!
//! The other foreign formats are read so that nothing is silently dropped: a field that is unknown is warned about; a field
//! that is known and cannot take effect here is an error that names it; fields that mean nothing on one node (who
//! made the document, which scheduler) are passed over.

mod bundle;
mod checks;
mod compose;
mod container;
mod cores;
mod delegate;
mod document;
mod error;
mod expand;
mod hints;
mod kind;
mod names;
mod node;
mod oci;
mod parse;
mod plain;
mod pod;
mod privileges;
mod probes;
mod pullpiri;
mod reader;
mod unit;
mod variables;
mod volumes;

#[cfg(test)]
mod tests;

pub use bundle::{Bundle, DocumentText, Stored, Wanted};
pub use delegate::{annotated, moved};
pub use error::{ManifestError, ManifestErrorKind};
pub use expand::{ExpandOptions, Expansion, Schedules};
pub use kind::Kind;

/// Bounds on what is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one text.
    pub max_bytes: usize,
    /// Documents of one bundle, empty ones counted.
    pub max_documents: usize,
    /// Containers of all documents of one bundle, init containers counted.
    pub max_containers: usize,
    /// Lists and mappings inside one another.
    pub max_depth: usize,
    /// Values of one text, keys counted, an alias as what it stands for.
    pub max_nodes: usize,
}

impl Default for Limits {
    /// What one gRPC message can hold, and far more than a node runs.
    fn default() -> Self {
        Self { max_bytes: 4 * 1024 * 1024, max_documents: 256, max_containers: 256, max_depth: 64, max_nodes: 100_000 }
    }
}
