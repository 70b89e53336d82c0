//! Limits of services: they take effect where systemd has controllers of version 2, and are refused by name where it has
//! none, because systemd takes them there without a word.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use actioncontroller::cancel::CancelToken;
use actioncontroller::clock::Deadline;
use actioncontroller::model::resources::Resources;
use actioncontroller::model::workload::labels;
use actioncontroller::runtime::adapter::{
    Call, Change, ContainerConfig, NoProgress, Probe, RuntimeAdapter, RuntimeError,
};
use actioncontroller::runtime::systemd::Systemd;

use crate::support::bluechi::BluechiStandIn;
use crate::support::rig::container;
use crate::support::systemd::SystemdServer;
use crate::support::wait::until;

const LIMIT: Duration = Duration::from_secs(60);

/// An engine of units with the systemd that runs them.
struct Rig<'a> {
    engine: &'a dyn RuntimeAdapter,
    server: &'a SystemdServer,
    cancel: CancelToken,
}

impl<'a> Rig<'a> {
    fn new(engine: &'a dyn RuntimeAdapter, server: &'a SystemdServer) -> Self {
        assert!(matches!(engine.probe(), Probe::Available { .. }));
        Self { engine, server, cancel: CancelToken::new() }
    }

    fn call(&self) -> Call<'_> {
        Call { deadline: Deadline::after(LIMIT), cancel: &self.cancel, progress: &NoProgress }
    }

    /// A service in a folder as its root that never ends.
    fn config(&self, name: &str, resources: Resources) -> ContainerConfig {
        let mut config = container(name, "while :; do sleep 0.01; done");
        (config.spec.image, config.spec.rootfs) = (String::new(), self.server.tree().display().to_string());
        config.spec.resources = resources;
        config.labels = [(labels::NODE.to_owned(), self.server.config().node)].into();
        config
    }

    fn start(&self, config: &ContainerConfig) -> String {
        let made = self.engine.create_container(&self.call(), config).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(self.engine.start_container(&self.call(), &made.id), Ok(Change::Changed));
        made.id
    }

    /// What a file of the container's control group says.
    fn group(&self, id: &str, file: &str) -> String {
        let group = self.engine.inspect_container(&self.call(), id).unwrap().cgroup_path;
        assert!(!group.is_empty(), "it has a group of its own");
        let path = unified().join(group.trim_start_matches('/')).join(file);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
    }
}

fn unified() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).expect("version 2 is mounted");
    Path::new(line.split(' ').nth(1).unwrap()).to_owned()
}

/// A line of `/proc/PID/status`.
fn status(pid: i32, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim_start_matches(':').trim().to_owned()
}

/// Whether there are controllers for systemd here, as there have to be where `make test-cgroup2` says that it gave some.
fn has_controllers(rig: &Rig) -> bool {
    let has = rig.engine.capabilities().supports_resource_limits;
    assert!(has || std::env::var("ACTIONCONTROLLER_CGROUP").as_deref() != Ok("2"), "systemd has no controllers");
    has
}

fn limits_take_effect_or_are_refused(rig: &Rig) {
    if !has_controllers(rig) {
        for (field, asked) in [
            ("pids", Resources { pids: Some(20), ..Resources::default() }),
            ("memory_bytes", Resources { memory_bytes: Some(64 << 20), ..Resources::default() }),
        ] {
            let refused = rig.engine.create_container(&rig.call(), &rig.config("limited", asked)).unwrap_err();
            let is_named = matches!(&refused, RuntimeError::Unsupported { what, .. } if what.contains(field));
            assert!(is_named, "{refused:?}");
        }
        return;
    }
    assert!(rig.engine.capabilities().supports_stats);
    let some = Resources { cpu_millis: Some(250), cpu_shares: Some(512), pids: Some(20), ..Resources::default() };
    let id = rig.start(&rig.config("limited", some));
    assert_eq!((rig.group(&id, "cpu.max"), rig.group(&id, "pids.max")), ("25000 100000".into(), "20".into()));
    assert_ne!(rig.group(&id, "cpu.weight"), "100");

    // Changed while it runs on.
    let pid = rig.engine.inspect_container(&rig.call(), &id).unwrap().pid;
    let more = Resources { cpu_millis: Some(500), pids: Some(30), ..Resources::default() };
    assert_eq!(rig.engine.update_resources(&rig.call(), &id, &more, false), Ok(Change::Changed));
    assert_eq!((rig.group(&id, "cpu.max"), rig.group(&id, "pids.max")), ("50000 100000".into(), "30".into()));
    assert_eq!(rig.engine.update_resources(&rig.call(), &id, &more, false), Ok(Change::Unchanged));
    assert_eq!(rig.engine.inspect_container(&rig.call(), &id).unwrap().pid, pid);

    // What there is no controller for is refused by name, at the making and later.
    let memory = Resources { memory_bytes: Some(64 << 20), ..Resources::default() };
    let refused = rig.engine.create_container(&rig.call(), &rig.config("greedy", memory.clone())).unwrap_err();
    assert!(matches!(&refused, RuntimeError::Unsupported { what, .. } if what.contains("memory")), "{refused:?}");
    let refused = rig.engine.update_resources(&rig.call(), &id, &memory, false).unwrap_err();
    assert!(refused.to_string().contains("memory"), "{refused}");

    until("it has used some time", LIMIT, || {
        let stats = rig.engine.container_stats(&rig.call(), &id).unwrap();
        (stats.cpu_ns > 0 && stats.pids > 0).then_some(())
    });
    assert_eq!(rig.engine.remove_container(&rig.call(), &id, true), Ok(Change::Changed));
}

#[test]
fn limits_of_systemd_s_services_take_effect_or_are_refused() {
    let server = SystemdServer::start();
    limits_take_effect_or_are_refused(&Rig::new(&server.adapter(), &server));
}

#[test]
fn limits_of_bluechi_s_services_on_this_node_take_effect_or_are_refused() {
    let stand_in = BluechiStandIn::start(&["main"]);
    limits_take_effect_or_are_refused(&Rig::new(&stand_in.adapter(), stand_in.server("main")));
}

// req: KO-08
#[test]
fn unit_has_the_cpus_and_the_limits_that_its_text_says() {
    let server = SystemdServer::start();
    let adapter: Systemd = server.adapter();
    let rig = Rig::new(&adapter, &server);
    let mut config = rig.config("lamp", Resources::default());
    (config.spec.rootfs, config.spec.command, config.spec.args) = (String::new(), Vec::new(), Vec::new());
    config.spec.unit = "[Service]\nType=exec\nExecStart=/bin/sleep 1000\nCPUAffinity=1\nCPUQuota=40%\nTasksMax=7\n\
        AllowedCPUs=0-1\n"
        .to_owned();
    let id = rig.start(&config);
    let pid = rig.engine.inspect_container(&rig.call(), &id).unwrap().pid;
    assert_eq!(status(pid, "Cpus_allowed_list"), "1");
    if has_controllers(&rig) {
        assert_eq!((rig.group(&id, "cpu.max"), rig.group(&id, "pids.max")), ("40000 100000".into(), "7".into()));
        assert_eq!(rig.group(&id, "cpuset.cpus"), "0-1");
    }
    assert_eq!(rig.engine.remove_container(&rig.call(), &id, true), Ok(Change::Changed));
}

// req: KO-08
#[test]
fn transient_unit_has_the_cpus_and_the_limits_that_its_text_says_or_they_are_refused() {
    let server = SystemdServer::start();
    let adapter: Systemd = server.adapter();
    let rig = Rig::new(&adapter, &server);
    let unit = |settings: &str| {
        let mut config = rig.config("lamp", Resources::default());
        (config.spec.rootfs, config.spec.command, config.spec.args) = (String::new(), Vec::new(), Vec::new());
        config.spec.unit =
            format!("[X-ActionController]\nTransient=yes\n[Service]\nType=exec\nExecStart=/bin/sleep 1000\n{settings}");
        config
    };
    for (setting, controller) in
        [("CPUQuota=40%", "cpu"), ("TasksMax=7", "pids"), ("AllowedCPUs=0-1", "cpuset"), ("MemoryMax=64M", "memory")]
    {
        if controller != "memory" && has_controllers(&rig) {
            continue;
        }
        let refused = rig.engine.create_container(&rig.call(), &unit(setting)).unwrap_err();
        let name = setting.split('=').next().unwrap();
        let is_named = matches!(&refused, RuntimeError::Unsupported { what, .. } if what.contains(name) && what.contains(controller));
        assert!(is_named, "{refused:?}");
    }
    let limits = if has_controllers(&rig) { "CPUQuota=40%\nTasksMax=7\nAllowedCPUs=0-1\n" } else { "" };
    let id = rig.start(&unit(&format!("CPUAffinity=1\n{limits}")));
    let pid = rig.engine.inspect_container(&rig.call(), &id).unwrap().pid;
    assert_eq!(status(pid, "Cpus_allowed_list"), "1");
    if has_controllers(&rig) {
        assert_eq!((rig.group(&id, "cpu.max"), rig.group(&id, "pids.max")), ("40000 100000".into(), "7".into()));
        assert_eq!(rig.group(&id, "cpuset.cpus"), "0-1");
        let more = Resources { cpu_millis: Some(500), ..Resources::default() };
        assert_eq!(rig.engine.update_resources(&rig.call(), &id, &more, false), Ok(Change::Changed));
        assert_eq!(rig.group(&id, "cpu.max"), "50000 100000");
    }
    assert_eq!(rig.engine.remove_container(&rig.call(), &id, true), Ok(Change::Changed));
}
