//! Whatever an archive says, nothing outside of the layer's folder changes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tar::EntryType;

use super::layout::LayerTar;
use crate::runtime::oci::images::entries::read_all;
use crate::runtime::oci::images::limits::{Budget, ImageLimits};
use crate::runtime::oci::images::place::Unpacking;

/// Stands for the absolute path of the folder around the layer's.
const AROUND: &str = "AROUND";

/// Inode, links, mode, owner, when changed last, and content.
type Fact = (u64, u64, u32, u32, i64, i64, Vec<u8>);

/// All that lies below `folder`, but in `apart`, by what a call could change of it.
fn facts(folder: &Path, apart: &Path, found: &mut BTreeMap<PathBuf, Fact>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let seen = fs::symlink_metadata(&path).unwrap();
        if path == apart {
            continue;
        }
        let content = if seen.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        let fact = (seen.ino(), seen.nlink(), seen.mode(), seen.uid(), seen.ctime(), seen.ctime_nsec(), content);
        found.insert(path.clone(), fact);
        if seen.is_dir() {
            facts(&path, apart, found);
        }
    }
}

/// Mostly what a link may lie at or lead through, so that entries meet each other.
fn path() -> impl Strategy<Value = String> {
    let part = || prop::sample::select(vec!["a", "b", "a", "b", "in", "file", "..", ".wh.a", ".wh..wh..opq"]);
    let start = prop::sample::select(vec!["", "", "", "", "", "", "../", "/", "AROUND/", "./"]);
    let parts = prop_oneof![
        3 => part().prop_map(str::to_owned),
        3 => (part(), part()).prop_map(|(one, two)| format!("{one}/{two}")),
        1 => (part(), part(), part()).prop_map(|(one, two, three)| format!("{one}/{two}/{three}")),
    ];
    (start, parts).prop_map(|(start, parts)| format!("{start}{parts}"))
}

/// Where links lead: out, to each other, and in circles.
fn target() -> impl Strategy<Value = String> {
    let out = vec!["..", "../in", "../a", "AROUND", "AROUND/in", "AROUND/file", "../file", "a/..", "b/../..", "."];
    prop_oneof![3 => prop::sample::select(out).prop_map(str::to_owned), 2 => path()]
}

fn entry() -> impl Strategy<Value = (EntryType, String, String)> {
    use EntryType::{Char, Directory, Fifo, Link, Regular, Symlink};
    let kinds = vec![Regular, Regular, Directory, Symlink, Symlink, Symlink, Link, Link, Char, Fifo];
    (prop::sample::select(kinds), path(), target())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn nothing_outside_of_the_layer_changes(entries in prop::collection::vec(entry(), 1..12)) {
        let around = tempfile::tempdir().unwrap();
        let root = around.path().join("layer");
        for folder in ["layer", "in", "in/a", "a"] {
            fs::create_dir(around.path().join(folder)).unwrap();
        }
        for file in ["file", "in/file", "in/a/b", "a/b"] {
            fs::write(around.path().join(file), "outside").unwrap();
        }
        let seen = || {
            let mut found = BTreeMap::new();
            facts(around.path(), &root, &mut found);
            found
        };
        let before = seen();
        let budget = Budget::new(&ImageLimits::default());
        let mut unpacking = Unpacking::new(&root, &budget).unwrap();
        for (kind, path, link) in &entries {
            let [path, link] = [path, link].map(|text| text.replace(AROUND, around.path().to_str().unwrap()));
            let mut header = LayerTar::header(*kind, path.as_bytes(), link.as_bytes());
            header.set_mode(0o777);
            header.set_uid(77);
            header.set_device_minor(3).unwrap();
            header.set_device_major(1).unwrap();
            let one = LayerTar::new().raw(header, b"").finish();
            // Refused or not: what follows meets what is there, as if nobody had looked at the refusal.
            let _ = read_all(&one[..], |entry, content| unpacking.put(entry, content));
        }
        let _ = unpacking.finish("a layer");
        prop_assert_eq!(seen(), before);
    }
}
