//! [`Kind`]: the kinds of documents that are read.

use std::fmt;

/// Declares [`Kind`] with its word and API version.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $version:literal,)*) => {
        /// A kind of document.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind { $($(#[$doc])* $name,)* }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The word in `kind`, which is also the part of the store's key.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// The kind of this word.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $(stringify!($name) => Some(Self::$name),)* _ => None }
            }

            /// The `apiVersion` that belongs to it; empty for formats that have none, nor a `kind`.
            pub fn api_version(self) -> &'static str {
                match self { $(Self::$name => $version,)* }
            }
        }
    };
}

kinds! {
    /// Kubernetes: one workload.
    Pod = "v1",
    /// Kubernetes: one workload with a count.
    Deployment = "apps/v1",
    /// Pullpiri: which Package is acted on, how and when.
    Scenario = "v1",
    /// Pullpiri: Models that belong together.
    Package = "v1",
    /// Pullpiri: one workload.
    Model = "v1",
    /// Pullpiri: volumes that a Package gives to a Model.
    Volume = "v1",
    /// Pullpiri: a network that a Package gives to a Model.
    Network = "v1",
    /// Pullpiri: a node.
    Node = "v1",
    /// Pullpiri: where Models may run.
    Policy = "v1",
    /// Pullpiri: real-time tasks for TIMPANI.
    Schedule = "v1",
    /// Docker Compose: services that belong together.
    Compose = "",
    /// The OCI runtime specification: one container with its root file system.
    Bundle = "",
    /// systemd: one unit.
    Unit = "",
}

impl Kind {
    /// Whether documents say that they are of this kind.
    pub fn is_said(self) -> bool {
        !self.api_version().is_empty()
    }

    /// Whether a document of this kind is a workload by itself.
    pub fn is_workload(self) -> bool {
        matches!(self, Self::Pod | Self::Deployment | Self::Model | Self::Bundle | Self::Unit)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
