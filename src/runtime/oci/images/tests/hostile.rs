//! Images that no builder would make: each is refused, leaves nothing in the store, and nothing outside is touched.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::json;
use tar::EntryType::{Char, Directory, GNUSparse, Link, Regular, XGlobalHeader};

use super::Bench;
use super::layout::{INDEX, LayerTar, Layout, Packing, digest};
use crate::model::workload::PullPolicy::IfNotPresent;
use crate::runtime::adapter::RuntimeError;
use crate::runtime::oci::images::{ImageLimits, ImageSettings};

/// What must not change: a file of the machine, by all that a call could change of it.
fn state(file: &Path) -> (String, u64, u32, i64, i64, usize) {
    let found = fs::symlink_metadata(file).unwrap();
    let beside = fs::read_dir(file.parent().unwrap()).unwrap().count();
    (fs::read_to_string(file).unwrap(), found.nlink(), found.mode(), found.ctime(), found.ctime_nsec(), beside)
}

/// Each layer is refused for a reason with this word in it.
fn refused(bench: &Bench, layers: Vec<(&str, LayerTar)>) {
    let outside = bench.path("outside");
    let before = state(&outside.join("file"));
    for (index, (word, layer)) in layers.into_iter().enumerate() {
        let error = bench.unpack(&layer.finish()).expect_err(word);
        assert!(error.contains(word), "{index}: '{word}' is not in: {error}");
        assert_eq!(state(&outside.join("file")), before, "{index}: {word}");
        assert_eq!(bench.holds(), (0, 0), "{index}: {word}");
    }
}

fn with_outside(settings: ImageSettings) -> Bench {
    let bench = Bench::with(settings);
    fs::create_dir(bench.path("outside")).unwrap();
    fs::write(bench.path("outside/file"), "untouched").unwrap();
    bench
}

#[test]
fn layer_that_leads_outside_is_refused() {
    let bench = with_outside(ImageSettings::default());
    let outside = bench.path("outside");
    let (folder, file) = (outside.to_str().unwrap(), outside.join("file"));
    let file = file.to_str().unwrap();
    // From `store/tmp/N` to the folder beside the store.
    let upwards = "../../../outside";
    let new = LayerTar::new;
    let out = "leads out of the layer through a link";
    refused(
        &bench,
        vec![
            ("absolute path", new().file(file, "x")),
            ("leads upwards", new().file(&format!("{upwards}/file"), "x")),
            ("leads upwards", new().folder("a", 0o755).file("a/../../b", "x")),
            (out, new().symlink("link", folder).file("link/file", "x")),
            (out, new().symlink("link", upwards).file("link/file", "x")),
            (out, new().symlink("link", upwards).folder("link/new", 0o755)),
            (out, new().symlink("one", "two").symlink("two", upwards).file("one/file", "x")),
            (out, new().symlink("a", "..").symlink("b", "a/../../outside").file("b/file", "x")),
            (out, new().symlink("loop", "loop").file("loop/x", "x")),
            (out, new().symlink("link", upwards).entry(Char, "link/node", "", 0o600, b"")),
            (out, new().symlink("link", upwards).file("link/.wh.file", "")),
            (out, new().symlink("link", upwards).file("link/.wh..wh..opq", "")),
            ("no folder", new().folder("a", 0o755).file("a", "x").file("a/b", "x")),
            (out, new().folder("a", 0o755).file("a/b", "x").symlink("a", folder).file("a/file", "x")),
            ("absolute path", new().hard_link("a", file)),
            ("leads upwards", new().hard_link("a", &format!("{upwards}/file"))),
            (out, new().symlink("link", upwards).hard_link("a", "link/file")),
            (out, new().symlink("link", upwards).hard_link("link/b", "a")),
            ("is not in the layer", new().hard_link("a", "b")),
            ("is a folder", new().folder("b", 0o755).hard_link("a", "b")),
            ("the layer itself", new().hard_link("a", "./")),
            ("layer's own folder", new().symlink("./", folder)),
            ("no mark that is known", new().file("a/.wh..", "")),
            ("no mark that is known", new().file("a/.wh...", "")),
            ("no mark that is known", new().file("a/.wh.", "")),
            ("no mark that is known", new().file(".wh..wh.plnk", "")),
            ("a mark and no folder", new().file(".wh.a/b", "")),
            ("leads upwards", new().file("a/.wh.b/../../c", "")),
        ],
    );
}

#[test]
fn hard_link_to_a_link_does_not_reach_what_that_leads_to() {
    let bench = with_outside(ImageSettings::default());
    let outside = bench.path("outside/file");
    let before = state(&outside);
    let layer = LayerTar::new().symlink("link", outside.to_str().unwrap()).hard_link("again", "link");
    let layer = layer.entry(Regular, "again", "", 0o777, b"own");
    let root = bench.unpack(&layer.finish()).unwrap();
    assert_eq!(state(&outside), before);
    assert_eq!(fs::read_to_string(root.join("again")).unwrap(), "own");
}

#[test]
fn archive_that_readers_would_not_agree_on_is_refused() {
    let bench = with_outside(ImageSettings::default());
    let header = LayerTar::header;
    let sized = |mut header: tar::Header, size: u64| {
        header.set_size(size);
        header
    };
    let mut nobody = header(Regular, b"nobody", b"");
    nobody.set_uid(u64::from(u32::MAX));
    let mut words = header(Regular, b"words", b"");
    words.as_old_mut().uid = *b"notanum\0";
    let new = LayerTar::new;
    let long = "x".repeat(300);
    refused(
        &bench,
        vec![
            ("holes", new().raw(sized(header(GNUSparse, b"a", b""), 1 << 40), b"")),
            ("GNU.sparse", new().pax(&[("GNU.sparse.major", b"1")]).file("a", "x")),
            ("more than an image may", new().raw(sized(header(Regular, b"a", b""), 1 << 40), b"")),
            ("tar", new().raw(sized(header(Regular, b"a", b""), u64::MAX), b"")),
            ("ends inside of 'a'", new().raw(sized(header(Regular, b"a", b""), 1 << 20), b"some")),
            ("one size in its header", new().pax(&[("size", b"3")]).file("a", "four")),
            ("content, and is no file", new().raw(sized(header(Link, b"a", b"b"), 4), b"four")),
            ("content, and is no file", new().raw(sized(header(Directory, b"a", b""), 4), b"four")),
            ("with the value", new().pax(&[("uid", b"-1")]).file("a", "")),
            ("with the value", new().pax(&[("mtime", b"soon")]).file("a", "")),
            ("malformed", new().entry(tar::EntryType::XHeader, "p", "", 0o644, b"99 path=a\n").file("a", "")),
            ("malformed", new().entry(tar::EntryType::XHeader, "p", "", 0o644, b"0 path=a\n").file("a", "")),
            ("'path'", new().entry(XGlobalHeader, "p", "", 0o644, b"10 path=a\n").file("b", "")),
            ("extended header", new().raw(sized(header(tar::EntryType::GNULongName, b"l", b""), 1 << 30), b"x")),
            ("owner", new().raw(nobody, b"")),
            ("owner", new().raw(words, b"")),
            ("overlayfs marks", new().entry(Char, "gone", "", 0, b"")),
            ("overlayfs' own", new().pax(&[("SCHILY.xattr.trusted.overlay.redirect", b"/x")]).folder("a", 0o755)),
            ("overlayfs' own", new().pax(&[("SCHILY.xattr.user.overlay.opaque", b"y")]).file("a", "")),
            ("longer than names", new().pax(&[("path", long.as_bytes())]).file("a", "")),
            ("no path", new().pax(&[("path", b"a\0b")]).file("a", "")),
            ("link to nothing", new().symlink("a", "")),
            ("is not supported", new().entry(tar::EntryType::new(b'M'), "a", "", 0o644, b"")),
        ],
    );
    let deep = "a/".repeat(300) + "b";
    let error = bench.unpack(&LayerTar::new().pax(&[("path", deep.as_bytes())]).file("x", "").finish()).unwrap_err();
    assert!(error.contains("too deep"), "{error}");
}

#[test]
fn image_beyond_its_limits_is_refused() {
    let limits = ImageLimits { bytes: 100_000, entries: 5, layers: 2 };
    let bench = with_outside(ImageSettings { limits, ..ImageSettings::default() });
    let many = (0..6).fold(LayerTar::new(), |tar, number| tar.file(&number.to_string(), ""));
    refused(
        &bench,
        vec![("more than 5 entries", many), ("more than it may", LayerTar::new().file("a", &"x".repeat(100_001)))],
    );
    let mut layout = Layout::new(&bench.path("images"));
    // Each fits alone; a few thousand bytes become a megabyte.
    let [one, two] = ["1", "2"].map(|content| LayerTar::new().file("a", &content.repeat(60_000)).finish());
    let bomb = LayerTar::new().file("a", "").raw(LayerTar::header(Regular, b"b", b""), &[0; 1 << 20]).finish();
    layout.image("both", &json!({}), &[(&one, Packing::Gzip), (&two, Packing::Gzip)]);
    layout.image("bomb", &json!({}), &[(&bomb, Packing::Gzip)]);
    layout.image("three", &json!({}), &[(&one, Packing::Gzip), (&two, Packing::Gzip), (&one, Packing::Gzip)]);
    for (tag, word) in [("both", "when it is unpacked"), ("bomb", "when it is unpacked"), ("three", "has 3 layers")] {
        let error = bench.ensure(&bench.place(&format!("images:{tag}")), IfNotPresent).unwrap_err();
        assert!(matches!(error, RuntimeError::ImagePull { .. }) && error.to_string().contains(word), "{tag}: {error}");
        assert_eq!(bench.holds().1, 0);
    }
}

#[test]
fn compressed_layer_that_is_cut_off_is_refused() {
    let bench = Bench::new();
    // Content that does not compress, so that what is cut off is of it.
    let noise: String = (0..20_000_u32).map(|n| char::from(33 + (n.wrapping_mul(2_654_435_761) >> 25) as u8)).collect();
    let tar = LayerTar::new().file("a", &noise).finish();
    for packing in [Packing::Gzip, Packing::Zstd] {
        let mut layout = Layout::new(&bench.path(&format!("{packing:?}")));
        let whole = layout.layer(&tar, packing);
        let content = fs::read(layout.blob_file(whole["digest"].as_str().unwrap())).unwrap();
        let cut = layout.blob(whole["mediaType"].as_str().unwrap(), &content[..content.len() / 2]);
        let manifest = layout.manifest(&Layout::config(&json!({}), &[digest(&tar)]), &[cut]);
        layout.list("", manifest);
        let error = bench.ensure(&bench.place(&format!("{packing:?}")), IfNotPresent).unwrap_err();
        assert!(matches!(error, RuntimeError::ImagePull { .. }), "{error:?}");
        assert!(error.to_string().contains("layer 'sha256:"), "{error}");
        assert_eq!(bench.holds(), (0, 0));
    }
}

#[test]
fn documents_that_no_image_has_are_refused() {
    let bench = Bench::new();
    let mut layout = Layout::new(&bench.path("images"));
    let tar = LayerTar::new().file("a", "").finish();
    let (layer, ids) = (layout.layer(&tar, Packing::Plain), [digest(&tar)]);
    let config = Layout::config(&json!({}), &ids);
    let mut listed = Vec::new();
    let mut add = |tag: &'static str, descriptor: serde_json::Value| listed.push((tag, descriptor));
    let mut foreign = config.clone();
    foreign["architecture"] = json!("mips");
    add("foreign", layout.manifest(&foreign, std::slice::from_ref(&layer)));
    add("more-layers", layout.manifest(&config, &[layer.clone(), layer.clone()]));
    let mut sha512 = layer.clone();
    sha512["digest"] = json!(format!("sha512:{}", "0".repeat(128)));
    add("sha512", layout.manifest(&config, &[sha512]));
    let mut secret = layer.clone();
    secret["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar+encrypted");
    add("encrypted", layout.manifest(&config, &[secret]));
    // An index cannot hold its own digest; one that says so does not have it.
    let mut circle = layout.document(INDEX, &json!({ "schemaVersion": 2, "manifests": [] }));
    let inner = json!({ "schemaVersion": 2, "manifests": [circle] });
    fs::write(layout.blob_file(circle["digest"].as_str().unwrap()), inner.to_string()).unwrap();
    circle["size"] = json!(inner.to_string().len());
    add("circle", circle);
    let mut nested = layout.manifest(&config, std::slice::from_ref(&layer));
    for _ in 0..6 {
        nested = layout.document(INDEX, &json!({ "schemaVersion": 2, "manifests": [nested] }));
    }
    add("nested", nested);
    add("large", layout.blob(INDEX, &vec![b' '; 5 << 20]));
    let mut outside = layout.manifest(&config, std::slice::from_ref(&layer));
    outside["digest"] = json!("sha256:../../../outside");
    listed.into_iter().for_each(|(tag, descriptor)| layout.list(tag, descriptor));
    for (tag, word) in [
        ("foreign", "linux/mips"),
        ("more-layers", "its manifest has 2 layers, and its configuration 1"),
        ("sha512", "only sha256 is supported"),
        ("encrypted", "+encrypted"),
        ("circle", "has the digest"),
        ("nested", "indexes one in another"),
        ("large", "more than it may"),
        ("unknown", "no image called 'unknown'"),
    ] {
        let error = bench.ensure(&bench.place(&format!("images:{tag}")), IfNotPresent).unwrap_err();
        assert!(matches!(error, RuntimeError::ImagePull { .. }), "{tag}: {error:?}");
        assert!(error.to_string().contains(word), "{tag}: {error}");
        assert_eq!(bench.holds(), (0, 0), "{tag}");
    }
    layout.list("outside", outside);
    let error = bench.ensure(&bench.place("images:foreign"), IfNotPresent).unwrap_err();
    assert!(error.to_string().contains("'index.json' cannot be read"), "{error}");
}

#[test]
fn what_is_no_layout_is_said_so_and_blocks_nobody() {
    let bench = Bench::new();
    fs::create_dir(bench.path("empty")).unwrap();
    let layout = Layout::new(&bench.path("pipe"));
    fs::remove_file(layout.dir.join("index.json")).unwrap();
    nix::unistd::mkfifo(&layout.dir.join("index.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::write(bench.path("text.tar"), "no archive").unwrap();
    let newer = Layout::new(&bench.path("newer"));
    fs::write(newer.dir.join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
    let archive = format!("oci-archive:{}", bench.path("text.tar").display());
    for (reference, word) in [
        (bench.place("empty"), "no OCI image layout"),
        (bench.place("pipe"), "is no file"),
        (bench.place("absent"), "does not exist"),
        (bench.place("newer"), "version '2.0.0'"),
        (archive, "cannot be read"),
    ] {
        let error = bench.ensure(&reference, IfNotPresent).unwrap_err();
        assert!(matches!(error, RuntimeError::ImagePull { .. }), "{error:?}");
        assert!(error.to_string().contains(word), "{error}");
    }
}
