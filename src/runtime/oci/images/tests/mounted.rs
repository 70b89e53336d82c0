//! Roots of containers, mounted. Needs the rights of root and overlayfs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::layout::LayerTar;
use super::{Bench, text};
use crate::runtime::oci::images::{RootAccess, mount_root, unmount_root};

/// A root that is unmounted when the test is over, however it ends.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount_root(&self.0).unwrap();
    }
}

fn mounts(dir: &Path) -> usize {
    let place = dir.canonicalize().unwrap().join("merged");
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().filter(|line| line.split(' ').nth(4) == place.to_str()).count()
}

#[test]
fn container_sees_its_layers_as_one_and_writes_beside_them() {
    let bench = Bench::new();
    let below = LayerTar::new().file("a", "below").file("gone", "x").file("folder/old", "x").finish();
    let above =
        LayerTar::new().folder("./", 0o751).file("a", "above").file(".wh.gone", "").file("folder/.wh..wh..opq", "");
    let layers = [bench.unpack(&above.finish()).unwrap(), bench.unpack(&below).unwrap()];
    let dir = bench.path("container");
    let _mounted = Mounted(dir.clone());
    let root = mount_root(&layers, &dir, RootAccess::Writable).unwrap();
    assert_eq!(mount_root(&layers, &dir, RootAccess::Writable).unwrap(), root);
    assert_eq!(mounts(&dir), 1);
    assert_eq!(text(&root, "a"), "above");
    assert!(!root.join("gone").exists() && root.join("folder").is_dir() && !root.join("folder/old").exists());
    assert_eq!(fs::metadata(&root).unwrap().mode() & 0o7777, 0o751);
    fs::write(root.join("a"), "own").unwrap();
    assert_eq!(text(&layers[0], "a"), "above");
    unmount_root(&dir).unwrap();
    unmount_root(&dir).unwrap();
    assert_eq!(mounts(&dir), 0);
    let root = mount_root(&layers, &dir, RootAccess::Writable).unwrap();
    assert_eq!(text(&root, "a"), "own");
}

#[test]
fn root_of_many_layers_at_long_odd_paths_is_mounted() {
    let bench = Bench::new();
    let long = bench.path(&format!("{}, a:b\\ \"c\"", "x".repeat(180)));
    let layers: Vec<PathBuf> = (0..127).map(|number| long.join(number.to_string())).collect();
    for (number, layer) in layers.iter().enumerate() {
        fs::create_dir_all(layer).unwrap();
        fs::write(layer.join("top"), number.to_string()).unwrap();
        fs::write(layer.join(number.to_string()), "").unwrap();
    }
    let dir = long.join("container");
    let _mounted = Mounted(dir.clone());
    let root = mount_root(&layers, &dir, RootAccess::Writable).unwrap();
    assert_eq!(text(&root, "top"), "0");
    assert_eq!(fs::read_dir(&root).unwrap().count(), 128);
    assert_eq!(mount_root(&layers, &dir, RootAccess::Writable).unwrap(), root);
    unmount_root(&dir).unwrap();
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
}

#[test]
fn read_only_root_takes_no_writes_and_one_layer_is_enough() {
    let bench = Bench::new();
    let layer = bench.unpack(&LayerTar::new().file("a", "x").finish()).unwrap();
    let dir = bench.path("container");
    let _mounted = Mounted(dir.clone());
    let root = mount_root(std::slice::from_ref(&layer), &dir, RootAccess::ReadOnly).unwrap();
    assert_eq!(text(&root, "a"), "x");
    assert_eq!(fs::write(root.join("b"), "").unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    let empty = bench.path("empty");
    let _empty = Mounted(empty.clone());
    let root = mount_root(&[], &empty, RootAccess::Writable).unwrap();
    fs::write(root.join("b"), "").unwrap();
}

#[test]
fn root_that_is_in_use_is_taken_out_of_the_tree() {
    let bench = Bench::new();
    let layer = bench.unpack(&LayerTar::new().file("a", "x").finish()).unwrap();
    let dir = bench.path("container");
    let root = mount_root(&[layer], &dir, RootAccess::Writable).unwrap();
    let open = fs::File::open(root.join("a")).unwrap();
    unmount_root(&dir).unwrap();
    assert_eq!(mounts(&dir), 0);
    drop(open);
    unmount_root(&bench.path("never there")).unwrap();
}
