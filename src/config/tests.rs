//! The configuration as an operator meets it: files in folders in, settings or one clear line out.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;

const TEMPLATE: &str = include_str!("../../config/actioncontroller.yaml");

/// Folders below a temporary root that stand for the usual places.
struct Places(tempfile::TempDir);

impl Places {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn load(&self) -> Result<Loaded, ConfigError> {
        Config::load_below(self.0.path(), &[])
    }
}

fn load_text(text: &str) -> Result<Loaded, ConfigError> {
    let places = Places::new();
    let file = places.write("c.yaml", text);
    Config::load(&[file])
}

/// The error's text after the folder's name.
fn refusal(text: &str) -> String {
    let error = load_text(text).unwrap_err().to_string();
    assert!(!error.contains('\n'), "more than one line: {error}");
    error.split_once("/c.yaml:").map_or(error.clone(), |(_, rest)| rest.to_owned())
}

#[test]
fn no_file_gives_the_defaults_and_the_host_name() {
    let loaded = Places::new().load().unwrap();
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    assert_eq!(loaded.config, Config { node: host, ..Config::default() });
    assert_eq!(loaded.files, Vec::<PathBuf>::new());
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

#[test]
fn drop_ins_come_after_the_base_file_by_name_and_later_folders_mask() {
    let places = Places::new();
    let base = places.write("etc/actioncontroller/actioncontroller.yaml", "dispatch: {workers: 2, readers: 2}\n");
    places.write("usr/lib/actioncontroller/config.d/10-a.yaml", "dispatch: {workers: 3}\n");
    let z = places.write("usr/lib/actioncontroller/config.d/90-z.yaml", "log: {level: debug}\n");
    let masking = places.write("run/actioncontroller/config.d/10-a.yaml", "dispatch: {normal_queue: 9}\n");
    let b = places.write("etc/actioncontroller/config.d/20-b.yaml", "log:\n  level: warn\n");
    let loaded = places.load().unwrap();
    assert_eq!(loaded.files, [base, masking, b, z]);
    assert_eq!(loaded.config.dispatch.workers, 2);
    assert_eq!(loaded.config.dispatch.readers, 2);
    assert_eq!(loaded.config.dispatch.normal_queue, 9);
    assert_eq!(loaded.config.log.level, settings::LogLevel::Debug);
}

#[test]
fn link_to_dev_null_masks_a_drop_in() {
    let places = Places::new();
    places.write("usr/lib/actioncontroller/config.d/10-a.yaml", "dispatch: {workers: 3}\n");
    let folder = places.0.path().join("etc/actioncontroller/config.d");
    fs::create_dir_all(&folder).unwrap();
    std::os::unix::fs::symlink("/dev/null", folder.join("10-a.yaml")).unwrap();
    assert_eq!(places.load().unwrap().config.dispatch.workers, 4);
}

#[test]
fn given_files_and_folders_replace_the_usual_places_in_their_order() {
    let places = Places::new();
    places.write("etc/actioncontroller/actioncontroller.yaml", "dispatch: {readers: 2}\n");
    let folder = places.write("d/2.yaml", "log: {level: debug}\ndispatch: {workers: 9}\n").parent().unwrap().to_owned();
    places.write("d/1.yaml", "log: {level: error}\n");
    let file = places.write("f.conf", "dispatch: {workers: 7}\n");
    let loaded = Config::load_below(places.0.path(), &[folder, file]).unwrap();
    assert_eq!(loaded.config.dispatch.workers, 7);
    assert_eq!(loaded.config.dispatch.readers, 8);
    assert_eq!(loaded.config.log.level, settings::LogLevel::Debug);
    assert_eq!(loaded.files.len(), 3);
}

#[test]
fn lists_replace_and_do_not_grow() {
    let places = Places::new();
    let first = places.write("1.yaml", "listen: {tcp: ['127.0.0.1:1', '127.0.0.1:2']}\n");
    let second = places.write("2.yaml", "listen: {tcp: ['[::1]:3']}\n");
    assert_eq!(Config::load(&[first, second]).unwrap().config.listen.tcp, ["[::1]:3"]);
}

#[test]
fn empty_files_and_sections_change_nothing() {
    for text in ["", "# only a comment\n", "\n\n", "---\n", "dispatch:\n#  workers: 3\n", "{}"] {
        assert_eq!(load_text(text).unwrap().config.dispatch, settings::Dispatch::default(), "{text:?}");
    }
}

#[test]
fn unknown_key_is_named_with_its_line_and_the_one_that_was_meant() {
    assert_eq!(
        refusal("log:\n  level: info\ndispatch:\n  wrokers: 2\n"),
        "4: dispatch.wrokers: unknown key; did you mean 'workers'?"
    );
    assert_eq!(
        refusal("dispatch: {colour: red}"),
        "1: dispatch.colour: unknown key; the keys here are workers, urgent_workers, readers, urgent_queue, \
         normal_queue"
    );
    assert!(refusal("dispach: {}").starts_with("1: dispach: unknown key; did you mean 'dispatch'?"));
}

#[test]
fn value_of_a_wrong_type_is_named_with_what_would_be_right() {
    for (text, expected) in [
        ("dispatch:\n  workers: many\n", "2: dispatch.workers: must be a whole number, 0 or more, not 'many'"),
        ("dispatch:\n  workers: -1\n", "2: dispatch.workers: must be a whole number, 0 or more, not -1"),
        ("dispatch: 4", "1: dispatch: must be a section of keys, not 4"),
        ("log: {level: loud}", "1: log.level: must be one of error, warn, info, debug, trace, not 'loud'"),
        ("listen:\n  tcp:\n    - 5\n", "3: listen.tcp[0]: must be a text, not 5"),
        ("listen: {tcp: '127.0.0.1:1'}", "1: listen.tcp: must be a list, as in [one, two], not '127.0.0.1:1'"),
        ("listen: {insecure: yes}", "1: listen.insecure: must be true or false, not 'yes'"),
        ("node: 12", "1: node: must be a text, not 12"),
        (
            "shutdown: {drain: 20}",
            "1: shutdown.drain: must be a duration with its unit, such as 500ms, 10s, 5m, 24h or 7d, not 20",
        ),
        (
            "shutdown: {drain: 20x}",
            "1: shutdown.drain: must be a duration such as 500ms, 10s, 5m, 24h or 7d, not '20x'",
        ),
        (
            "limits: {message_bytes: 4MB}",
            "1: limits.message_bytes: must be a size such as 65536, 512KiB or 4MiB, not '4MB'",
        ),
        ("log:\n  level:\n", "2: log.level: must be one of error, warn, info, debug, trace"),
        ("store: {backend: sqlite}", "1: store.backend: must be one of embedded, etcd, rocksdb, not 'sqlite'"),
        (
            "listen: {unix_mode: '0999'}",
            "1: listen.unix_mode: must be a quoted octal mode such as \"0660\", not '0999'",
        ),
        ("[a, b]", "1: must be sections of keys, as in 'log: {level: info}'"),
    ] {
        assert_eq!(refusal(text), expected);
    }
    assert!(refusal("listen: {unix_mode: 0660}").contains("listen.unix_mode: must be"));
}

#[test]
fn text_that_is_no_yaml_is_named_with_its_line() {
    let error = refusal("log:\n  level: info\n dispatch: [\n");
    assert!(error.contains("this is no valid YAML: "), "{error}");
    assert!(error.starts_with(['2', '3', '4']), "{error}");
    assert!(refusal("log: {level: info}\nlog: {level: warn}\n").starts_with("2: this is no valid YAML: "));
    assert!(refusal("log: {level: info}\n---\nlog: {level: warn}\n").contains("this is no valid YAML: "));
}

#[test]
fn values_out_of_range_and_contradictions_name_the_line_that_gave_them() {
    for (text, expected) in [
        ("dispatch:\n  workers: 65\n", "2: dispatch.workers: must be 1 to 64, not 65"),
        (
            "dispatch:\n\n  urgent_workers: 4\n",
            "3: dispatch.urgent_workers: dispatch.workers (4) must be more than dispatch.urgent_workers (4), or nobody is left for launches",
        ),
        ("dispatch: {urgent_workers: 0}", "1: dispatch.urgent_workers: must be 1 to 64, not 0"),
        ("shutdown: {drain: 1h}", "1: shutdown.drain: must be 0s to 10m, not 1h"),
        ("limits: {message_bytes: 1}", "1: limits.message_bytes: must be 64KiB to 64MiB, not 1B"),
        (
            "actions: {default_deadline: 2d}",
            "1: actions.default_deadline: actions.default_deadline (2d) must be at most actions.max_deadline (1d)",
        ),
        ("state_dir: state", "1: state_dir: must be a path that starts with '/', not 'state'"),
        ("listen: {unix: a.sock}", "1: listen.unix: must be a path that starts with '/', not 'a.sock'"),
        (
            "listen: {unix: ''}",
            "1: listen.unix: listen.unix and listen.tcp are both empty: nobody could ask for anything",
        ),
        (
            "runtimes: {systemd: {enabled: true, bus: \"tcp:host=h\"}}",
            "1: runtimes.systemd.bus: 'tcp:host=h' is neither an absolute path nor an address of a unix socket (unix:path=)",
        ),
        (
            "runtimes: {bluechi: {bus: here}}",
            "1: runtimes.bluechi.bus: 'here' is neither an absolute path nor an address of a unix socket (unix:path=)",
        ),
        (
            "runtimes: {bluechi: {controller_address: \"192.0.2.1\"}}",
            "1: runtimes.bluechi.controller_address: '192.0.2.1' is no address of a controller (tcp:host=HOST,port=842, unix:path=PATH)",
        ),
        (
            "runtimes: {systemd: {unit_dir: run/systemd}}",
            "1: runtimes.systemd.unit_dir: must be a path that starts with '/', not 'run/systemd'",
        ),
        (
            "runtimes: {preference: [dokcer]}",
            "1: runtimes.preference: there is no engine 'dokcer'; the engines are podman, docker, containerd, oci, systemd, bluechi, sim",
        ),
        (
            "runtimes: {containerd: {namespace: k8s.io}}",
            "1: runtimes.containerd.namespace: must not be 'k8s.io': what is in it is Kubernetes' own to delete",
        ),
        (
            "runtimes: {containerd: {namespace: a--b}}",
            "1: runtimes.containerd.namespace: must be 1 to 76 letters and digits with single '-', '.' or '_' between them, not 'a--b'",
        ),
        (
            "runtimes: {oci: {bridge_pool: 10.0.0.1/16}}",
            "1: runtimes.oci.bridge_pool: '10.0.0.1/16' is no range of IPv4 addresses from /8 to /24, as 10.90.0.0/16",
        ),
        (
            "runtimes: {preference: [docker]}",
            "1: runtimes.preference: runtimes.preference names 'docker', which is off; switch it on with runtimes.docker.enabled, or take it out",
        ),
        (
            "runtimes: {preference: [sim]}",
            "1: runtimes.preference: runtimes.preference names 'sim', which is off; switch it on with runtimes.sim.enabled, or take it out",
        ),
        (
            "runtimes: {podman: {enabled: false}}",
            "1: runtimes.podman.enabled: runtimes.preference names 'podman', which is off; switch it on with runtimes.podman.enabled, or take it out",
        ),
        ("node: 'a b'", "1: node: must be 1 to 253 letters, digits, '-', '.' or '_', not 'a b'"),
    ] {
        assert_eq!(refusal(text), expected);
    }
    let long = format!("listen: {{unix: /{}}}", "x".repeat(107));
    assert!(refusal(&long).starts_with("1: listen.unix: must be at most 107 bytes long"));
    for address in ["47001", "host", ":47001", "::1:47001", "[::1]", "127.0.0.1:x", "127.0.0.1:70000", "unix:/a:1"] {
        let text = format!("listen: {{tcp: ['{address}']}}");
        assert!(refusal(&text).contains("must be host:port"), "{address}");
    }
}

#[test]
fn plain_tcp_that_others_reach_is_refused_unless_called_insecure_and_then_warned_of() {
    let refused = refusal("listen:\n  tcp: ['0.0.0.0:47001']\n");
    assert!(refused.starts_with("2: listen.tcp: '0.0.0.0:47001' can be reached from other machines"), "{refused}");
    let loaded = load_text("listen: {tcp: ['0.0.0.0:47001'], insecure: true}").unwrap();
    assert_eq!(loaded.warnings.len(), 1);
    assert!(loaded.warnings[0].contains("'0.0.0.0:47001' takes actions from anybody"));
    let local = load_text("listen: {tcp: ['127.0.0.1:0', '[::1]:0', 'localhost:1', '127.8.8.8:1']}").unwrap();
    assert_eq!(local.warnings, Vec::<String>::new());
}

#[test]
fn problem_of_two_files_names_the_one_that_decided() {
    let places = Places::new();
    let first = places.write("1.yaml", "dispatch:\n  workers: 99\n");
    let second = places.write("2.yaml", "\n\ndispatch:\n  workers: 77\n");
    let error = Config::load(&[first, second.clone()]).unwrap_err().to_string();
    assert_eq!(error, format!("{}:4: dispatch.workers: must be 1 to 64, not 77", second.display()));
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let places = Places::new();
    let absent = places.0.path().join("absent.yaml");
    let error = Config::load(&[absent]).unwrap_err().to_string();
    assert!(error.contains("absent.yaml' cannot be read: No such file"), "{error}");
    let pipe = places.0.path().join("pipe.yaml");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(Config::load(&[pipe]).unwrap_err().to_string().ends_with("it is no regular file"));
    let large = places.write("large.yaml", &" ".repeat((1 << 20) + 1));
    assert!(Config::load(&[large]).unwrap_err().to_string().ends_with("larger than 1048576 bytes"));
    let latin = places.0.path().join("latin.yaml");
    fs::write(&latin, b"node: \xe9").unwrap();
    assert!(Config::load(&[latin]).unwrap_err().to_string().contains("not UTF-8"));
}

#[test]
fn dangling_link_in_a_usual_place_is_an_error_and_a_yml_file_a_warning() {
    let places = Places::new();
    let skipped = places.write("etc/actioncontroller/config.d/a.yml", "nonsense");
    places.write("etc/actioncontroller/config.d/.swp.yaml", "nonsense");
    let warnings = places.load().unwrap().warnings;
    assert_eq!(warnings, [format!("'{}' is not read: the names of drop-ins end in '.yaml'", skipped.display())]);
    let link = places.0.path().join("etc/actioncontroller/actioncontroller.yaml");
    std::os::unix::fs::symlink("/nowhere/at/all", link).unwrap();
    assert!(places.load().unwrap_err().to_string().contains("cannot be read"));
}

/// The template with the first `#` taken off every line that is a setting: `#key` or `#  key`; prose is `# Text`.
fn uncommented() -> String {
    let lines = TEMPLATE.lines().map(|line| match line.strip_prefix('#') {
        Some(setting) if setting.starts_with("  ") || setting.starts_with(char::is_alphabetic) => setting,
        Some(_) | None => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn template_with_everything_uncommented_equals_the_defaults_and_names_every_key() {
    let fragment = |text: &str| {
        let places = Places::new();
        let file = places.write("c.yaml", text);
        fragments::find(Path::new("/"), &[file]).unwrap().fragments.remove(0)
    };
    let template = fragment(&uncommented());
    let named: BTreeSet<String> = template.root.leaves("").into_iter().collect();
    let defaults = fragment(&serde_json::to_string(&Config::default()).unwrap());
    let known: BTreeSet<String> = defaults.root.leaves("").into_iter().collect();
    assert_eq!(named, known, "keys of the template and of the program");
    assert_eq!(merged::merge(vec![template]).unwrap().config().unwrap(), Config::default());
}

#[test]
fn template_as_it_is_changes_nothing() {
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    assert_eq!(load_text(TEMPLATE).unwrap().config, Config { node: host, ..Config::default() });
}

#[test]
fn difference_tells_what_a_reload_applies_from_what_waits_for_a_restart() {
    let old = Config::default();
    let mut new = old.clone();
    new.log.level = settings::LogLevel::Debug;
    new.actions.keep_for = Duration::from_secs(60);
    new.limits.documents = 3;
    new.limits.message_bytes = 1 << 20;
    new.dispatch.workers = 9;
    new.listen.tcp = vec!["127.0.0.1:1".into()];
    let difference = old.reloadable_difference(&new);
    assert_eq!(difference.now, ["limits.documents", "log.level"]);
    assert_eq!(difference.at_restart, ["actions.keep_for", "dispatch.workers", "limits.message_bytes", "listen.tcp"]);
    assert_eq!(old.reloadable_difference(&old), Difference::default());
}

#[test]
fn reload_puts_in_force_just_what_the_difference_calls_applicable() {
    let old = Config::default();
    let mut new = old.clone();
    new.log.level = settings::LogLevel::Debug;
    new.actions = settings::Actions {
        default_deadline: Duration::from_secs(1),
        max_deadline: Duration::from_secs(2),
        keep_outcomes: 3,
        keep_for: Duration::from_secs(4),
        restart_after: Duration::from_secs(5),
        restart_after_most: Duration::from_secs(6),
    };
    new.limits =
        settings::Limits { message_bytes: 1 << 20, documents: 1, containers: 2, streams_per_peer: 3, streams_unix: 4 };
    new.state_dir = "/elsewhere".into();
    let asked = old.reloadable_difference(&new);
    let in_force = old.with_reloadable(&new);
    assert_eq!(old.reloadable_difference(&in_force), Difference { now: asked.now, at_restart: Vec::new() });
    assert_eq!(
        in_force.reloadable_difference(&new),
        Difference {
            now: Vec::new(),
            at_restart: [
                "actions.keep_for",
                "actions.keep_outcomes",
                "actions.restart_after",
                "actions.restart_after_most",
                "limits.message_bytes",
                "limits.streams_per_peer",
                "limits.streams_unix",
                "state_dir",
            ]
            .map(String::from)
            .to_vec(),
        }
    );
}
