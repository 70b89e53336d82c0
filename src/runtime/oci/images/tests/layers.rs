//! What images come to in the store.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use serde_json::json;
use tar::EntryType;

use super::layout::{LayerTar, Layout, Packing, digest};
use super::{Bench, text};
use crate::model::workload::PullPolicy::{Always, IfNotPresent, Never};
use crate::runtime::adapter::{Change, RuntimeError};

fn xattr(path: &std::path::Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 256];
    let length = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

#[test]
fn layers_are_shared_and_given_top_first() {
    let bench = Bench::new();
    let base = LayerTar::new().file("a", "base").finish();
    let one = LayerTar::new().file("a", "one").finish();
    let mut layout = Layout::new(&bench.path("images"));
    let config = json!({ "Env": ["A=b"], "Cmd": ["/run"] });
    let digest_of_one = layout.image("one", &config, &[(&base, Packing::Plain), (&one, Packing::Gzip)]);
    layout.image("two", &config, &[(&base, Packing::Gzip)]);
    let (name_one, name_two) = (bench.place("images:one"), bench.place("images:two"));
    assert!(matches!(bench.store.get(&name_one), Err(RuntimeError::NotFound { .. })));
    assert_eq!(bench.ensure(&name_one, IfNotPresent).unwrap(), Change::Changed);
    assert_eq!(bench.ensure(&name_two, Never).unwrap(), Change::Changed);
    for pull in [IfNotPresent, Always, Never] {
        assert_eq!(bench.ensure(&name_one, pull).unwrap(), Change::Unchanged);
    }
    assert_eq!(bench.holds(), (2, 0));
    let image = bench.image(&name_one);
    assert_eq!((image.reference.as_str(), image.digest.as_str()), (name_one.as_str(), digest_of_one.as_str()));
    assert_eq!(image.config.config().as_ref().unwrap().cmd().as_ref().unwrap(), &["/run"]);
    let [top, bottom] = image.layers.as_slice() else { panic!("{image:?}") };
    assert_eq!((text(top, "a"), text(bottom, "a")), ("one".to_owned(), "base".to_owned()));
    assert_eq!(bench.image(&name_two).layers, std::slice::from_ref(bottom));
    assert_eq!(bench.image(&digest_of_one).layers, image.layers);
    assert_eq!(bench.store.list().unwrap().len(), 2);
}

#[test]
fn everything_of_an_entry_is_kept() {
    let bench = Bench::new();
    let capability: &[u8] = &[1, 0, 0, 2, 0, b'\n', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut owned = LayerTar::header(EntryType::Regular, b"bin/su", b"");
    owned.set_mode(0o4755);
    owned.set_uid(12);
    owned.set_gid(34);
    let mut device = LayerTar::header(EntryType::Char, b"null", b"");
    device.set_device_major(1).unwrap();
    device.set_device_minor(3).unwrap();
    let long = format!("deep/{}/file", "x".repeat(200));
    let layer = LayerTar::new()
        .folder("bin", 0o711)
        .raw(owned, b"")
        .pax(&[("SCHILY.xattr.security.capability", capability), ("mtime", b"5.25"), ("comment", b"x")])
        .file("bin/ping", "ping")
        .hard_link("bin/ping6", "bin/ping")
        .symlink("bin/sh", "/anywhere/at/all")
        .raw(device, b"")
        .entry(EntryType::Fifo, "pipe", "", 0o600, b"")
        .pax(&[("path", long.as_bytes()), ("uid", b"70000")])
        .file("short", "long")
        .folder("./", 0o750)
        .finish();
    let root = bench.unpack(&layer).unwrap();
    let at = |name: &str| fs::symlink_metadata(root.join(name)).unwrap();
    let su = at("bin/su");
    assert_eq!((su.mode() & 0o7777, su.uid(), su.gid(), su.mtime()), (0o4755, 12, 34, 1_000_000_000));
    assert_eq!((at("bin").mode() & 0o7777, at("bin").mtime()), (0o711, 1_000_000_000));
    assert_eq!((at("").mode() & 0o7777, at("").mtime()), (0o750, 1_000_000_000));
    assert_eq!(xattr(&root.join("bin/ping"), "security.capability").as_deref(), Some(capability));
    assert_eq!((at("bin/ping").mtime(), at("bin/ping").mtime_nsec()), (5, 250_000_000));
    assert_eq!(at("bin/ping").ino(), at("bin/ping6").ino());
    assert_eq!(fs::read_link(root.join("bin/sh")).unwrap().to_str(), Some("/anywhere/at/all"));
    assert_eq!(at("bin/sh").mtime(), 1_000_000_000);
    assert!(at("null").file_type().is_char_device() && at("null").rdev() == nix::sys::stat::makedev(1, 3));
    assert!(at("pipe").file_type().is_fifo());
    assert_eq!((text(&root, &long), at(&long).uid()), ("long".to_owned(), 70_000));
}

#[test]
fn whiteouts_become_marks_of_overlayfs() {
    let bench = Bench::new();
    let layer = LayerTar::new()
        .file("a/.wh.gone", "")
        .file("a/.wh..wh..opq", "")
        .file(".wh.again", "")
        .folder("again", 0o755)
        .file(".wh.implied", "")
        .file("implied/file", "x")
        .folder("before", 0o755)
        .file(".wh.before", "")
        .file("kept", "kept")
        .file(".wh.kept", "")
        .finish();
    let root = bench.unpack(&layer).unwrap();
    let gone = fs::symlink_metadata(root.join("a/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    for folder in ["a", "again", "implied", "before"] {
        assert_eq!(xattr(&root.join(folder), "trusted.overlay.opaque").as_deref(), Some(&b"y"[..]), "{folder}");
    }
    assert_eq!(text(&root, "kept"), "kept");
}

#[test]
fn second_entry_of_a_name_counts() {
    let bench = Bench::new();
    let layer = LayerTar::new()
        .file("a", "first")
        .file("a", "second")
        .symlink("link", "a")
        .file("link", "no link any more")
        .folder("folder", 0o700)
        .file("folder/in", "x")
        .folder("folder", 0o755)
        .folder("other", 0o755)
        .file("other/in", "x")
        .file("other", "a file now")
        .finish();
    let root = bench.unpack(&layer).unwrap();
    assert_eq!(text(&root, "a"), "second");
    assert_eq!(text(&root, "link"), "no link any more");
    assert_eq!(text(&root, "folder/in"), "x");
    assert_eq!(fs::metadata(root.join("folder")).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(text(&root, "other"), "a file now");
}

#[test]
fn link_within_the_layer_is_followed_on_the_way() {
    let bench = Bench::new();
    let layer = LayerTar::new()
        .folder("usr/lib", 0o755)
        .symlink("lib", "usr/lib")
        .symlink("usr/share", "../lib/../lib")
        .file("usr/share/x", "x")
        .finish();
    assert_eq!(text(&bench.unpack(&layer).unwrap(), "usr/lib/x"), "x");
}

#[test]
fn damaged_layer_leaves_nothing_and_names_what_is_wrong() {
    let bench = Bench::new();
    let tar = LayerTar::new().file("a", "content").finish();
    let mut layout = Layout::new(&bench.path("images"));
    let layer = layout.layer(&tar, Packing::Gzip);
    let wrong = digest(b"something else");
    let manifest =
        layout.manifest(&Layout::config(&json!({}), std::slice::from_ref(&wrong)), std::slice::from_ref(&layer));
    layout.list("diff-id", manifest);
    let good = Layout::config(&json!({}), &[digest(&tar)]);
    let mut larger = layer.clone();
    larger["size"] = json!(layer["size"].as_u64().unwrap() + 1);
    let manifest = layout.manifest(&good, &[larger]);
    layout.list("size", manifest);
    let mut absent = layer.clone();
    absent["digest"] = json!(wrong);
    let manifest = layout.manifest(&good, &[absent]);
    layout.list("absent", manifest);
    let fails = |tag: &str, words: &[&str]| {
        let error = bench.ensure(&bench.place(&format!("images:{tag}")), IfNotPresent).unwrap_err();
        assert!(matches!(error, RuntimeError::ImagePull { .. }), "{error:?}");
        words.iter().for_each(|word| assert!(error.to_string().contains(word), "{tag}: {error}"));
        assert_eq!(bench.holds(), (0, 0), "{tag}");
    };
    fails("diff-id", &[&wrong, &digest(&tar), layer["digest"].as_str().unwrap()]);
    fails("size", &["bytes, not", layer["digest"].as_str().unwrap()]);
    fails("absent", &["has no blob", &wrong]);
    let manifest = layout.manifest(&good, std::slice::from_ref(&layer));
    layout.list("altered", manifest);
    let file = layout.blob_file(layer["digest"].as_str().unwrap());
    let mut content = fs::read(&file).unwrap();
    *content.last_mut().unwrap() ^= 1;
    fs::write(&file, &content).unwrap();
    fails("altered", &[layer["digest"].as_str().unwrap(), &digest(&content)]);
}
