//! The image store on layouts that are made by hand. As root, as the daemon runs where it uses this.

mod found;
mod hostile;
mod kept;
mod layers;
mod mounted;
mod paths;

#[path = "../../../../../tests/it/support/layout.rs"]
#[allow(missing_docs)]
mod layout;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::{Image, ImageSettings, ImageStore};
use crate::cancel::CancelToken;
use crate::model::workload::PullPolicy;
use crate::runtime::adapter::{Change, RtResult};
use crate::runtime::double::call;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// A store and a place for layouts, in a folder of their own.
struct Bench {
    folder: TempDir,
    store: ImageStore,
}

impl Bench {
    fn new() -> Self {
        Self::with(ImageSettings::default())
    }

    fn with(settings: ImageSettings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = ImageStore::open(&folder.path().join("store"), settings).unwrap();
        Self { folder, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The reference of a layout in the folder.
    fn place(&self, name: &str) -> String {
        format!("oci:{}", self.path(name).display())
    }

    fn ensure(&self, reference: &str, pull: PullPolicy) -> RtResult<Change> {
        self.store.ensure(&call(&CancelToken::new(), LONG), reference, pull)
    }

    /// Unpacks one layer; what comes of it.
    fn unpack(&self, tar: &[u8]) -> Result<PathBuf, String> {
        let name = format!("layout-{}", std::fs::read_dir(self.folder.path()).unwrap().count());
        let mut layout = layout::Layout::new(&self.path(&name));
        layout.image("", &serde_json::json!({}), &[(tar, layout::Packing::Plain)]);
        let reference = self.place(&name);
        self.ensure(&reference, PullPolicy::IfNotPresent).map_err(|error| error.to_string())?;
        Ok(self.image(&reference).layers[0].clone())
    }

    fn image(&self, reference: &str) -> Image {
        self.store.get(reference).unwrap()
    }

    /// How many layers the store has, and what is half made there.
    fn holds(&self) -> (usize, usize) {
        let count = |name: &str| std::fs::read_dir(self.path("store").join(name)).unwrap().count();
        (count("layers"), count("tmp"))
    }
}

fn text(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap()
}
