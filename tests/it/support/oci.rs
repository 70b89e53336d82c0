//! [`OciRig`]: a folder for the adapter with no engine daemon, and an image.
//!
//! There is no server to start: what is left running when the rig is dropped is ended by the folder that its command line
//! names.

use std::env::consts::ARCH;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use actioncontroller::runtime::adapter::{Call, ListFilter, RuntimeAdapter};
use actioncontroller::runtime::oci::{Oci, OciConfig};

use serde_json::json;

use super::layout::{self, LayerTar, Layout, Packing};
use super::rig::{BUSYBOX, criu_folder, kill_left_over, own_network};

/// The node whose label the rig's adapter uses.
pub const NODE: &str = "it";

/// An image that is there to be unpacked.
pub const ABSENT: &str = "localhost/absent:1";

/// A place for containers.
pub struct OciRig {
    dir: tempfile::TempDir,
    runtime: PathBuf,
}

impl OciRig {
    /// With Debian 12's runc.
    pub fn with_runc() -> Self {
        Self::new("runc")
    }

    /// With Debian 13's crun, which Debian 12's CRIU knows nothing of.
    ///
    /// crun takes a machine that mounts both versions of control groups for one of the second, so that it gets a mount
    /// namespace without that one; it runs by its own loader and libraries.
    pub fn with_crun() -> Self {
        let mut rig = Self::new("");
        let trixie = criu_folder().join("trixie");
        let paths = ["usr/lib", "lib"].map(|lib| format!("{}/{lib}/{ARCH}-linux-gnu", trixie.display())).join(":");
        let script = format!(
            "#!/bin/sh\nexec unshare --mount sh -c 'umount /sys/fs/cgroup/unified 2>/dev/null; loader=$1; shift; exec $loader \"$@\"' sh \\\n \
             \"$(ls {trixie}/usr/lib64/ld-linux-*.so.* {trixie}/lib64/ld-linux-*.so.* 2>/dev/null | head -n 1)\" \
             --library-path {paths} {trixie}/usr/bin/crun \"$@\"\n",
            trixie = trixie.display()
        );
        rig.runtime = rig.dir.path().join("crun");
        fs::write(&rig.runtime, script).expect("a script");
        fs::set_permissions(&rig.runtime, fs::Permissions::from_mode(0o755)).expect("a program");
        rig
    }

    fn new(runtime: &str) -> Self {
        own_network();
        let dir = tempfile::Builder::new().prefix("ac-oci-").tempdir().expect("a temporary folder");
        let images = dir.path().join("images");
        let present = images.join("present");
        fs::create_dir_all(&present).expect("a folder");
        layout::busybox(&present, BUSYBOX);
        // The other as an archive, with something of its own to unpack.
        let noise = LayerTar::new().file("noise", &"noise ".repeat(1 << 20)).finish();
        let layers = [(layout::busybox_layer(), Packing::Gzip), (noise, Packing::Plain)];
        let layers: Vec<_> = layers.iter().map(|(tar, packing)| (tar.as_slice(), *packing)).collect();
        let mut absent = Layout::new(&dir.path().join("absent"));
        absent.image(ABSENT, &json!({ "Env": ["PATH=/bin"] }), &layers);
        absent.archive(&images.join("absent.tar"), Packing::Plain);
        Self { dir, runtime: runtime.into() }
    }

    /// The adapter's configuration.
    pub fn config(&self) -> OciConfig {
        let paths = std::env::var("PATH").unwrap_or_default();
        OciConfig {
            node: NODE.to_owned(),
            dir: self.dir.path().join("oci"),
            run_dir: self.dir.path().join("run"),
            runtime: self.runtime.clone(),
            path: Some(format!("{}:{paths}", criu_folder().join("bin").display()).into()),
            image_folders: vec![self.dir.path().join("images")],
            ..OciConfig::default()
        }
    }

    /// An adapter for it.
    pub fn adapter(&self) -> Oci {
        Oci::open(self.config()).expect("the folder can be used")
    }

    /// The rig's folder.
    pub fn files(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for OciRig {
    fn drop(&mut self) {
        let cancel = Default::default();
        let call = Call {
            deadline: actioncontroller::clock::Deadline::after(super::rig::START_LIMIT),
            cancel: &cancel,
            progress: &actioncontroller::runtime::adapter::NoProgress,
        };
        let adapter = self.adapter();
        let all = ListFilter { all: true, ..ListFilter::default() };
        for container in adapter.list_containers(&call, &all).unwrap_or_default() {
            if let Err(error) = adapter.remove_container(&call, &container.id, true) {
                eprintln!("left over: {error}");
            }
        }
        kill_left_over(self.dir.path());
        // Of containers that were not the node's.
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        for place in places.filter(|place| Path::new(place).starts_with(self.dir.path())) {
            let _ = nix::mount::umount2(place, nix::mount::MntFlags::MNT_DETACH);
        }
    }
}
