//! Bridges over a netavark that writes down what it is asked.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::cancel::CancelToken;
use crate::model::workload::{Protocol, labels};
use crate::runtime::double::{call, config};

const LONG: Duration = Duration::from_secs(30);

/// Bridges over a netavark that writes down what it is asked and fails at what is in the file `fails`.
struct Rig {
    dir: tempfile::TempDir,
    bridges: Bridges,
    cancel: CancelToken,
}

impl Rig {
    fn new(pool: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir(root.join("bin")).unwrap();
        let script = format!(
            "#!/bin/sh\nfor word in \"$@\"; do case $word in setup|teardown) verb=$word;; esac; last=$word; done\n\
             echo \"$verb $(basename $last)\" >>{0}/asked\n\
             if [ -e {0}/fails ] && grep -qx $verb {0}/fails; then echo '{{\"error\":\"no such luck\"}}'; exit 1; fi\n",
            root.display()
        );
        for (name, text) in [("netavark", script.as_str()), ("aardvark-dns", "")] {
            fs::write(root.join("bin").join(name), text).unwrap();
            fs::set_permissions(root.join("bin").join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let path = format!("{}:/usr/bin:/bin", root.join("bin").display());
        let bridges = Bridges::open(BridgeConfig {
            engine: "some",
            node: "here".to_owned(),
            dir: root.join("kept"),
            run_dir: root.join("run"),
            pool: pool.to_owned(),
            path: Some(path.into()),
        });
        Self { bridges: bridges.unwrap(), dir, cancel: CancelToken::new() }
    }

    fn call(&self) -> Call<'_> {
        call(&self.cancel, LONG)
    }

    fn ensure(&self, name: &str, node: &str) -> RtResult<Change> {
        let labels = [(labels::NODE.to_owned(), node.to_owned())].into();
        self.bridges.ensure(&self.call(), &NetworkSpec { name: name.to_owned(), labels })
    }

    fn join(&self, id: &str, network: NetworkMode, ports: &[PortSpec]) -> RtResult<Option<Attachment>> {
        let config = ContainerConfig { network, ports: ports.to_vec(), ..config(&format!("name-{id}")) };
        self.bridges.join(&self.call(), id, &config)
    }

    fn connect(&self, id: &str) -> RtResult<()> {
        self.bridges.connect(&self.call(), id, |other| !other.starts_with("dead"))
    }

    fn fail_at(&self, verb: &str) {
        fs::write(self.dir.path().join("fails"), format!("{verb}\n")).unwrap();
    }

    /// What netavark was asked since the last look.
    fn asked(&self) -> Vec<String> {
        let path = self.dir.path().join("asked");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(path);
        text.lines().filter(|line| !line.contains("proof-")).map(str::to_owned).collect()
    }

    fn netns(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path().join("run/netns")).unwrap().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for name in self.netns() {
            namespace::remove(&self.dir.path().join("run/netns").join(name));
        }
    }
}

fn named(name: &str) -> NetworkMode {
    NetworkMode::Named(vec![name.to_owned()])
}

fn port(number: u16) -> PortSpec {
    PortSpec { host_ip: String::new(), host_port: Some(number), container_port: 80, protocol: Protocol::Tcp }
}

#[test]
fn network_is_made_once_and_removed_by_its_owner_once_nobody_is_in_it() {
    let rig = Rig::new("10.90.0.0/16");
    assert_eq!(rig.ensure("net", "here"), Ok(Change::Changed));
    assert_eq!(rig.ensure("net", "here"), Ok(Change::Unchanged));
    assert_eq!(rig.ensure("theirs", "there"), Ok(Change::Changed));
    assert!(matches!(rig.ensure("theirs", "here"), Err(RuntimeError::AlreadyExists { .. })));
    assert!(rig.ensure("../net", "here").is_err());
    let one = rig.join("1", named("net"), &[]).unwrap().unwrap();
    let other = rig.join("2", named("net"), &[]).unwrap().unwrap();
    assert_ne!(one.ips, other.ips);
    assert_eq!(one.name_servers, other.name_servers);
    assert!(matches!(rig.join("3", named("absent"), &[]), Err(RuntimeError::NotFound { .. })));
    assert_eq!(rig.bridges.unused(), Ok(vec![]));
    let remove = |name: &str| rig.bridges.remove(&rig.call(), name);
    assert_eq!(remove("net"), Ok(Change::Unchanged));
    rig.bridges.leave("1");
    rig.bridges.leave("2");
    assert_eq!(rig.bridges.unused(), Ok(vec!["net".to_owned()]));
    assert_eq!(remove("net"), Ok(Change::Changed));
    assert_eq!((remove("net"), remove("theirs")), (Ok(Change::Unchanged), Ok(Change::Unchanged)));
}

#[test]
fn default_bridge_is_nobody_s_and_resolves_no_names() {
    let rig = Rig::new("10.90.0.0/16");
    let attached = rig.join("1", NetworkMode::Bridge, &[]).unwrap().unwrap();
    assert!(attached.ips[0].starts_with("10.90.") && attached.name_servers.is_empty(), "{attached:?}");
    rig.bridges.leave("1");
    assert_eq!(rig.bridges.unused(), Ok(vec![]));
    assert_eq!(rig.bridges.remove(&rig.call(), DEFAULT), Ok(Change::Unchanged));
    assert!(matches!(rig.ensure(DEFAULT, "here"), Err(RuntimeError::AlreadyExists { .. })));
    assert_eq!(rig.join("2", NetworkMode::None, &[]), Ok(None));
}

#[test]
fn pool_that_is_used_up_is_named() {
    let rig = Rig::new("10.90.7.0/24");
    assert_eq!(rig.ensure("one", "here"), Ok(Change::Changed));
    let error = rig.ensure("two", "here").unwrap_err().to_string();
    assert!(error.contains("two") && error.contains("10.90.7.0/24"), "{error}");
    for index in 0..253 {
        rig.join(&index.to_string(), named("one"), &[]).unwrap();
    }
    let error = rig.join("more", named("one"), &[]).unwrap_err().to_string();
    assert!(error.contains("network 'one'"), "{error}");
    let pool = |pool: &str| BridgeConfig { pool: pool.to_owned(), ..rig.bridges.config.clone() };
    assert!(Bridges::open(pool("10.90.7.0/25")).is_err());
}

#[test]
fn start_sets_up_once_and_the_end_takes_down() {
    let rig = Rig::new("10.90.0.0/16");
    rig.join("1", NetworkMode::Bridge, &[]).unwrap();
    assert_eq!(rig.asked(), [""; 0]);
    rig.connect("1").unwrap();
    rig.connect("1").unwrap();
    assert_eq!(rig.asked(), ["setup 1"]);
    assert!(namespace::is_there(&rig.dir.path().join("run/netns/1")));
    rig.bridges.disconnect("1", 0);
    assert_eq!(rig.asked(), [""; 0], "somebody looked at the start before");
    rig.bridges.disconnect("1", rig.bridges.set_up_of("1"));
    rig.bridges.disconnect("1", rig.bridges.set_up_of("1"));
    assert_eq!(rig.asked(), ["teardown 1"]);
    assert_eq!(rig.netns(), [""; 0]);
    // One that is in no network.
    rig.connect("other").unwrap();
    assert_eq!(rig.asked(), [""; 0]);
}

#[test]
fn failed_set_up_leaves_nothing_and_says_why() {
    let rig = Rig::new("10.90.0.0/16");
    rig.join("1", NetworkMode::Bridge, &[]).unwrap();
    rig.fail_at("setup");
    let error = rig.connect("1").unwrap_err().to_string();
    assert!(error.contains("no such luck"), "{error}");
    assert_eq!(rig.asked(), ["setup 1", "teardown 1"]);
    assert_eq!(rig.netns(), [""; 0]);
}

#[test]
fn port_is_one_container_s_until_it_has_ended() {
    let rig = Rig::new("10.90.0.0/16");
    let held = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let number = held.local_addr().unwrap().port();
    for id in ["dead", "2"] {
        rig.join(id, NetworkMode::Bridge, &[port(number)]).unwrap();
    }
    let error = rig.connect("dead").unwrap_err().to_string();
    assert!(error.contains(&format!("port {number}/tcp")), "{error}");
    drop(held);
    rig.connect("dead").unwrap();
    rig.asked();
    // It has ended, and nobody has seen it.
    rig.connect("2").unwrap();
    assert_eq!(rig.asked(), ["teardown dead", "setup 2"]);
    rig.join("3", NetworkMode::Bridge, &[port(number)]).unwrap();
    let error = rig.connect("3").unwrap_err().to_string();
    assert!(error.contains("container 'name-2'"), "{error}");
}

#[test]
fn networks_that_cannot_be_proved_are_refused_with_the_reason() {
    let rig = Rig::new("10.90.0.0/16");
    rig.fail_at("setup");
    for error in [rig.bridges.prove(&rig.call()).unwrap_err(), rig.ensure("net", "here").unwrap_err()] {
        assert!(matches!(&error, RuntimeError::Unsupported { what, .. } if what.contains("no such luck")), "{error}");
    }
    assert!(rig.join("1", NetworkMode::Bridge, &[]).is_err());
}

#[test]
fn network_that_was_not_taken_down_is_before_the_next_set_up_and_its_port_is_not_free_until_then() {
    let rig = Rig::new("10.90.0.0/16");
    let number = std::net::TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    for id in ["dead", "2"] {
        rig.join(id, NetworkMode::Bridge, &[port(number)]).unwrap();
    }
    rig.connect("dead").unwrap();
    rig.fail_at("teardown");
    rig.bridges.disconnect("dead", rig.bridges.set_up_of("dead"));
    assert_eq!(rig.asked(), ["setup dead", "teardown dead"]);
    assert_eq!(rig.netns(), ["dead.json"], "what it was told is kept");
    rig.connect("2").unwrap();
    assert_eq!(rig.asked(), ["teardown dead", "setup 2"]);
    // Its own start begins with that too.
    rig.bridges.disconnect("2", rig.bridges.set_up_of("2"));
    rig.connect("2").unwrap();
    assert_eq!(rig.asked(), ["teardown 2", "teardown 2", "setup 2"]);
}

#[test]
fn start_whose_time_is_over_takes_nothing_down() {
    let rig = Rig::new("10.90.0.0/16");
    for id in ["dead", "2"] {
        rig.join(id, NetworkMode::Bridge, &[]).unwrap();
    }
    rig.connect("dead").unwrap();
    rig.asked();
    let over = call(&rig.cancel, Duration::ZERO);
    let late = rig.bridges.connect(&over, "2", |_| false);
    assert!(matches!(late, Err(RuntimeError::Timeout { .. })), "{late:?}");
    assert_eq!(rig.asked(), [""; 0]);
}
