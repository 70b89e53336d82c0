//! What the store keeps and deletes, and what is left when it is interrupted.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use super::Bench;
use super::layout::{LayerTar, Layout, Packing};
use crate::cancel::CancelToken;
use crate::model::workload::PullPolicy::{Always, IfNotPresent};
use crate::runtime::adapter::{Change, RuntimeError};
use crate::runtime::double::call;
use crate::runtime::oci::images::{ImageSettings, ImageStore};

fn layer(content: &str) -> Vec<u8> {
    LayerTar::new().file("a", content).finish()
}

#[test]
fn layer_goes_with_the_last_image_and_container_that_need_it() {
    let bench = Bench::new();
    let mut layout = Layout::new(&bench.path("images"));
    let [base, one, two] = ["base", "one", "two"].map(layer);
    let digest_of_one = layout.image("one", &json!({}), &[(&base, Packing::Plain), (&one, Packing::Plain)]);
    layout.image("two", &json!({}), &[(&base, Packing::Plain), (&two, Packing::Plain)]);
    let [name_one, name_two] = ["images:one", "images:two"].map(|name| bench.place(name));
    let none = BTreeSet::new();
    for name in [&name_one, &name_two] {
        bench.ensure(name, IfNotPresent).unwrap();
    }
    assert_eq!(bench.holds(), (3, 0));
    let in_use = BTreeSet::from([digest_of_one.clone()]);
    assert_eq!(bench.store.remove(&name_one, &in_use).unwrap(), Change::Changed);
    assert_eq!(bench.store.remove(&name_one, &in_use).unwrap(), Change::Unchanged);
    assert!(matches!(bench.store.get(&name_one), Err(RuntimeError::NotFound { .. })));
    assert_eq!((bench.image(&digest_of_one).layers.len(), bench.holds()), (2, (3, 0)));
    bench.store.collect(&none).unwrap();
    assert!(matches!(bench.store.get(&digest_of_one), Err(RuntimeError::NotFound { .. })));
    assert_eq!((bench.image(&name_two).layers.len(), bench.holds()), (2, (2, 0)));
    bench.store.remove(&name_two, &none).unwrap();
    assert_eq!(bench.holds(), (0, 0));
    assert_eq!(bench.ensure(&name_one, IfNotPresent).unwrap(), Change::Changed);
    assert_eq!(bench.holds(), (2, 0));
}

#[test]
fn image_whose_record_is_damaged_takes_no_layer_along_while_a_container_has_it() {
    let bench = Bench::new();
    let digest = Layout::new(&bench.path("images")).image("", &json!({}), &[(&layer("x"), Packing::Plain)]);
    let name = bench.place("images");
    bench.ensure(&name, IfNotPresent).unwrap();
    let record = bench.path("store/images").join(format!("{}.json", &digest["sha256:".len()..]));
    fs::write(&record, "{").unwrap();
    assert!(matches!(bench.store.get(&name), Err(RuntimeError::NotFound { .. })));
    bench.store.remove(&name, &BTreeSet::from([digest.clone()])).unwrap();
    assert_eq!(bench.holds().0, 1);
    assert_eq!(bench.ensure(&name, IfNotPresent).unwrap(), Change::Changed);
    assert_eq!(bench.image(&name).digest, digest);
}

#[test]
fn what_was_half_made_is_gone_at_the_next_start_and_what_was_whole_is_there() {
    let bench = Bench::new();
    Layout::new(&bench.path("images")).image("", &json!({}), &[(&layer("x"), Packing::Plain)]);
    let name = bench.place("images");
    bench.ensure(&name, IfNotPresent).unwrap();
    let (dir, layers) = (bench.path("store"), bench.image(&name).layers);
    fs::create_dir(dir.join("tmp/9")).unwrap();
    fs::write(dir.join("tmp/9/half"), "x").unwrap();
    let busy = ImageStore::open(&dir, ImageSettings::default());
    assert!(matches!(busy, Err(RuntimeError::InvalidState { .. })), "{:?}", busy.err());
    drop(bench.store);
    let store = ImageStore::open(&dir, ImageSettings::default()).unwrap();
    assert_eq!(fs::read_dir(dir.join("tmp")).unwrap().count(), 0);
    assert_eq!(store.get(&name).unwrap().layers, layers);
    // A layer that somebody deleted makes the image absent, not broken.
    fs::remove_dir_all(&layers[0]).unwrap();
    assert!(matches!(store.get(&name), Err(RuntimeError::NotFound { .. })));
    let token = CancelToken::new();
    assert_eq!(store.ensure(&call(&token, super::LONG), &name, IfNotPresent).unwrap(), Change::Changed);
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&fs::metadata(&dir).unwrap()) & 0o777, 0o700);
}

#[test]
fn call_that_is_over_leaves_nothing() {
    let bench = Bench::new();
    Layout::new(&bench.path("images")).image("", &json!({}), &[(&layer("x"), Packing::Gzip)]);
    let token = CancelToken::new();
    let late = bench.store.ensure(&call(&token, Duration::ZERO), &bench.place("images"), IfNotPresent);
    assert!(matches!(late, Err(RuntimeError::Timeout { .. })), "{late:?}");
    token.cancel("enough");
    let cancelled = bench.store.ensure(&call(&token, super::LONG), &bench.place("images"), IfNotPresent);
    assert!(matches!(cancelled, Err(RuntimeError::Cancelled { .. })), "{cancelled:?}");
    assert_eq!(bench.holds(), (0, 0));
}

#[test]
fn pull_that_hangs_ends_with_its_call_and_takes_its_children_along() {
    let folder = tempfile::tempdir().unwrap();
    let mark = format!("{}.25", 200_000 + std::process::id());
    let skopeo = folder.path().join("skopeo");
    fs::write(&skopeo, format!("#!/bin/sh\nsleep {mark} & sleep {mark}\n")).unwrap();
    fs::set_permissions(&skopeo, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let bench = Bench::with(ImageSettings { skopeo, ..ImageSettings::default() });
    let token = CancelToken::new();
    let hung = bench.store.ensure(&call(&token, Duration::from_secs(1)), "host.example/app:1", Always);
    assert!(matches!(hung, Err(RuntimeError::Timeout { .. })), "{hung:?}");
    let all = crate::runtime::processes::Which::All;
    assert_eq!(crate::runtime::processes::end_trees(all, |words| words.contains(&mark)), 0);
    assert_eq!(bench.holds(), (0, 0));
}

#[test]
fn calls_at_once_for_the_same_layers_all_get_them() {
    let bench = Bench::new();
    let mut layout = Layout::new(&bench.path("images"));
    let shared = layer(&"shared".repeat(10_000));
    for number in 0..4 {
        let own = layer(&number.to_string());
        layout.image(&number.to_string(), &json!({}), &[(&shared, Packing::Gzip), (&own, Packing::Plain)]);
    }
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (bench, none) = (&bench, BTreeSet::new());
            scope.spawn(move || {
                let name = bench.place(&format!("images:{}", number % 4));
                bench.ensure(&name, IfNotPresent).unwrap();
                // Deletes nothing that another call counts on.
                bench.store.collect(&none).unwrap();
                assert_eq!(bench.image(&name).layers.len(), 2);
            });
        }
    });
    assert_eq!(bench.holds(), (5, 0));
}

/// A small file system, unmounted when the test is over.
struct Small(std::path::PathBuf);

impl Drop for Small {
    fn drop(&mut self) {
        nix::mount::umount(&self.0).unwrap();
    }
}

#[test]
fn full_disk_leaves_nothing_half_made() {
    let folder = tempfile::tempdir().unwrap();
    let small = folder.path().join("small");
    fs::create_dir(&small).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "none"]).arg(&small).status().unwrap();
    assert!(mounted.success());
    let _small = Small(small.clone());
    let store = ImageStore::open(&small.join("store"), ImageSettings::default()).unwrap();
    let mut layout = Layout::new(&folder.path().join("images"));
    let zeros = "0".repeat(3 << 20);
    layout.image("packed", &json!({}), &[(&layer("first"), Packing::Plain), (&layer(&zeros), Packing::Gzip)]);
    layout.image("plain", &json!({}), &[(&layer(&zeros), Packing::Plain)]);
    layout.image("small", &json!({}), &[(&layer("x"), Packing::Plain)]);
    let token = CancelToken::new();
    let ensure = |tag: &str| {
        let reference = format!("oci:{}:{tag}", folder.path().join("images").display());
        store.ensure(&call(&token, super::LONG), &reference, IfNotPresent)
    };
    for tag in ["packed", "plain"] {
        match ensure(tag) {
            Err(RuntimeError::NoRoom { needed, limit, .. }) => assert!(needed > limit && limit > 0),
            other => panic!("{tag}: {other:?}"),
        }
        assert_eq!(fs::read_dir(small.join("store/tmp")).unwrap().count(), 0, "{tag}");
    }
    store.collect(&BTreeSet::new()).unwrap();
    assert_eq!(fs::read_dir(small.join("store/layers")).unwrap().count(), 0);
    assert_eq!(ensure("small").unwrap(), Change::Changed);
}
