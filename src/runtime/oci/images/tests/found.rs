//! Where images are found, and in which forms.

use std::fs;
use std::process::Command;

use serde_json::json;

use super::layout::{INDEX, LayerTar, Layout, Packing, architecture, digest};
use super::{Bench, text};
use crate::model::workload::PullPolicy::{Always, IfNotPresent, Never};
use crate::runtime::adapter::{Change, RuntimeError};
use crate::runtime::oci::images::ImageSettings;

fn layer(content: &str) -> Vec<u8> {
    LayerTar::new().file("a", content).finish()
}

fn at(folder: &str) -> (tempfile::TempDir, ImageSettings) {
    let images = tempfile::tempdir().unwrap();
    let folders = vec![images.path().join(folder), images.path().join("not there")];
    (images, ImageSettings { folders, ..ImageSettings::default() })
}

#[test]
fn archive_is_as_good_as_a_folder() {
    let bench = Bench::new();
    let mut layout = Layout::new(&bench.path("images"));
    let of_folder = layout.image("1", &json!({}), &[(&layer("x"), Packing::Gzip)]);
    for (file, packing) in [("plain.tar", Packing::Plain), ("packed.tar.gz", Packing::Gzip)] {
        layout.archive(&bench.path(file), packing);
        let reference = format!("oci-archive:{}:1", bench.path(file).display());
        assert_eq!(bench.ensure(&reference, IfNotPresent).unwrap(), Change::Changed);
        assert_eq!(bench.image(&reference).digest, of_folder);
        assert_eq!(bench.holds(), (1, 0));
    }
    let archive = fs::read(bench.path("packed.tar.gz")).unwrap();
    fs::write(bench.path("cut.tar.gz"), &archive[..archive.len() / 2]).unwrap();
    let cut = bench.ensure(&format!("oci-archive:{}", bench.path("cut.tar.gz").display()), IfNotPresent).unwrap_err();
    assert!(matches!(cut, RuntimeError::ImagePull { .. }), "{cut:?}");
    assert_eq!(bench.holds(), (1, 0));
}

#[test]
fn layers_of_zstd_are_unpacked_in_several_frames_too() {
    let bench = Bench::new();
    let tar = layer(&"much of the same ".repeat(50_000));
    let mut layout = Layout::new(&bench.path("images"));
    let one = layout.layer(&tar, Packing::Zstd);
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    let frame = |part: &[u8]| ruzstd::encoding::compress_to_vec(part, level);
    let skipped = [&0x184D_2A50_u32.to_le_bytes()[..], &3_u32.to_le_bytes(), b"xyz"].concat();
    let (head, tail) = tar.split_at(100_000);
    let frames = [skipped.clone(), frame(head), skipped.clone(), frame(tail), skipped].concat();
    let several = layout.blob(one["mediaType"].as_str().unwrap(), &frames);
    for (tag, layer) in [("one", one), ("several", several)] {
        let manifest = layout.manifest(&Layout::config(&json!({}), &[digest(&tar)]), &[layer]);
        layout.list(tag, manifest);
        let other = Bench::new();
        let reference = bench.place(&format!("images:{tag}"));
        other.ensure(&reference, IfNotPresent).unwrap();
        assert_eq!(text(&other.image(&reference).layers[0], "a").len(), 17 * 50_000);
    }
}

#[test]
fn image_for_this_machine_is_taken_from_an_index() {
    let bench = Bench::new();
    let mut layout = Layout::new(&bench.path("images"));
    let (own, foreign) = (layer("own"), layer("foreign"));
    let manifest = |tar: &[u8], architecture: &str| {
        let mut config = Layout::config(&json!({}), &[digest(tar)]);
        config["architecture"] = json!(architecture);
        let mut manifest = layout.manifest(&config, &[layout.layer(tar, Packing::Gzip)]);
        manifest["platform"] = json!({ "os": "linux", "architecture": architecture });
        manifest
    };
    let mut note = manifest(&foreign, "unknown");
    note["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
    let manifests = [note, manifest(&foreign, "mips"), manifest(&own, architecture())];
    let wanted = manifests[2]["digest"].as_str().unwrap().to_owned();
    let inner = layout.document(INDEX, &json!({ "schemaVersion": 2, "manifests": manifests }));
    let only_foreign = layout.document(INDEX, &json!({ "schemaVersion": 2, "manifests": &manifests[..2] }));
    let outer = layout.document(INDEX, &json!({ "schemaVersion": 2, "manifests": [inner] }));
    layout.list("all", outer);
    layout.list("foreign", only_foreign);
    bench.ensure(&bench.place("images:all"), IfNotPresent).unwrap();
    assert_eq!(bench.image(&bench.place("images:all")).digest, wanted);
    let error = bench.ensure(&bench.place("images:foreign"), IfNotPresent).unwrap_err().to_string();
    assert!(error.contains("linux/mips") && error.contains(architecture()), "{error}");
    let unnamed = bench.ensure(&bench.place("images"), IfNotPresent).unwrap_err().to_string();
    assert!(unnamed.contains("has to be named: [all, foreign]"), "{unnamed}");
}

#[test]
fn name_is_found_in_folders_of_layouts_and_follows_what_is_there() {
    let (images, settings) = at("images");
    let bench = Bench::with(settings);
    let folder = images.path().join("images");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("broken.tar"), "no archive").unwrap();
    let name = "localhost/app:1";
    let absent = bench.ensure(name, Never).unwrap_err();
    assert!(absent.to_string().contains("not on this node"), "{absent}");
    let mut shared = Layout::new(&folder.join("several"));
    shared.image("localhost/other:1", &json!({}), &[(&layer("other"), Packing::Plain)]);
    let first = shared.image(name, &json!({}), &[(&layer("first"), Packing::Plain)]);
    assert_eq!(bench.ensure(name, Never).unwrap(), Change::Changed);
    assert_eq!(bench.image(name).digest, first);
    assert_eq!(bench.ensure(name, Always).unwrap(), Change::Unchanged);
    // What is called like it comes first, whatever it is called inside.
    let mut own = Layout::new(&images.path().join("own"));
    let second = own.image("", &json!({}), &[(&layer("second"), Packing::Plain)]);
    own.archive(&folder.join("localhost_app_1.tar.gz"), Packing::Gzip);
    assert_eq!(bench.ensure(name, IfNotPresent).unwrap(), Change::Unchanged);
    assert_eq!(bench.ensure(name, Always).unwrap(), Change::Changed);
    assert_eq!(bench.image(name).digest, second);
    assert_eq!(text(&bench.image(name).layers[0], "a"), "second");
    assert_eq!(bench.image(&first).digest, first, "its containers still find it");
    let by_digest = format!("localhost/other@{}", first);
    assert_eq!(bench.ensure(&by_digest, Never).unwrap(), Change::Changed);
    assert_eq!(bench.image(&by_digest).digest, first);
    let unknown = format!("localhost/other@{}", digest(b"nothing"));
    assert!(matches!(bench.ensure(&unknown, Never), Err(RuntimeError::ImagePull { .. })));
}

#[test]
fn registry_without_the_program_that_pulls_is_said_so() {
    let skopeo = "no-such-program-here".into();
    let bench = Bench::with(ImageSettings { skopeo, ..ImageSettings::default() });
    let error = bench.ensure("host.example/app:1", IfNotPresent).unwrap_err();
    assert!(matches!(error, RuntimeError::ImagePull { .. }), "{error:?}");
    assert!(error.to_string().contains("no-such-program-here"), "{error}");
    assert_eq!(bench.holds(), (0, 0));
}

/// A registry of this machine, ended with the test.
struct Registry(std::process::Child, u16);

impl Registry {
    fn start(dir: &std::path::Path) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let storage = dir.join("registry");
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: \"127.0.0.1:{port}\"}}\n",
            storage.display()
        );
        fs::write(dir.join("registry.yml"), config).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(dir.join("registry.yml"));
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let registry = Self(command.spawn().expect("docker-registry is installed"), port);
        let begun = std::time::Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < super::LONG, "the registry does not listen");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        registry
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn image_is_pulled_from_a_registry_by_skopeo() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::start(dir.path());
    let host = format!("127.0.0.1:{}", registry.1);
    let settings = ImageSettings { insecure_registries: vec![host.clone()], ..ImageSettings::default() };
    let bench = Bench::with(settings);
    let pushed = Layout::new(&bench.path("images")).image("1", &json!({}), &[(&layer("pulled"), Packing::Gzip)]);
    let pushed_from = bench.place("images:1");
    let push = Command::new("skopeo")
        .args(["copy", "--quiet", "--dest-tls-verify=false", &pushed_from, &format!("docker://{host}/app:1")])
        .output()
        .expect("skopeo is installed");
    assert!(push.status.success(), "{}", String::from_utf8_lossy(&push.stderr));
    let name = format!("{host}/app:1");
    assert_eq!(bench.ensure(&name, IfNotPresent).unwrap(), Change::Changed);
    assert_eq!(text(&bench.image(&name).layers[0], "a"), "pulled");
    assert_eq!(bench.image(&name).digest, pushed);
    assert_eq!(bench.ensure(&name, Always).unwrap(), Change::Unchanged);
    assert_eq!(bench.ensure(&format!("{host}/app@{pushed}"), IfNotPresent).unwrap(), Change::Changed);
    assert_eq!(bench.holds(), (1, 0));
    let absent = bench.ensure(&format!("{host}/absent:1"), IfNotPresent).unwrap_err();
    assert!(matches!(absent, RuntimeError::ImagePull { .. }), "{absent:?}");
    assert!(absent.to_string().contains("absent"), "{absent}");
    assert_eq!(bench.holds(), (1, 0));
}
