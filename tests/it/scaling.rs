//! Limits of what runs, changed with no restart on every engine of containers, and read back from the control groups.

use std::fs;
use std::path::PathBuf;

use actioncontroller::proto::actions::Verb;
use actioncontroller::proto::workloads::{Container, WorkloadState};

use crate::support::daemon::{DaemonProcess, launch, on_target, pod, with_sim};
use crate::support::engines::{ENGINES, EnginesRig};
use crate::support::rig::{BUSYBOX, cgroup_value};

/// Holds 24 MiB of memory, and stays.
const GREEDY: &str = "x=$(head -c 24000000 /dev/zero | tr \"\\0\" x); while :; do sleep 0.05; done";

/// Memory, CPU quota and processes, as the process's control group has them.
fn group(pid: i32) -> [String; 3] {
    let first = |files: &[&str]| cgroup_value(pid, files).split(' ').next().unwrap().to_owned();
    [first(&["memory.max", "memory.limit_in_bytes"]), first(&["cpu.max", "cpu.cfs_quota_us"]), first(&["pids.max"])]
}

fn container(daemon: &DaemonProcess, workload: &str) -> Container {
    daemon.await_state(workload, WorkloadState::WORKLOAD_STATE_RUNNING).containers.remove(0)
}

fn scale(daemon: &DaemonProcess, arguments: &[&str]) -> Result<String, String> {
    let done = daemon.ctl(&[&["scale"], arguments].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if done.status.success() { Ok(text(&done.stdout)) } else { Err(text(&done.stderr)) }
}

/// The file of the memory limit in the container's control group.
fn memory_file(container: &Container) -> PathBuf {
    let path = container.cgroup_path.trim_start_matches('/');
    let old = PathBuf::from("/sys/fs/cgroup/memory").join(path).join("memory.limit_in_bytes");
    if old.exists() { old } else { PathBuf::from("/sys/fs/cgroup").join(path).join("memory.max") }
}

#[test]
fn limits_change_while_it_runs_and_outlive_a_restart_on_every_engine() {
    let mut rig = EnginesRig::start();
    for engine in ENGINES {
        let name = format!("on-{engine}");
        let document = pod(&name, BUSYBOX, "trap exit TERM; while :; do sleep 0.05; done")
            .replace(", command", ", resources: {limits: {memory: 64Mi, cpu: 250m}}, command");
        let mut action = rig.launch_on(engine, &name, "");
        action.manifest = document.clone();
        rig.daemon.done(action.clone());
        let before = container(&rig.daemon, &name);
        assert_eq!((before.limits.cpu.as_str(), before.limits_in_force.cpu.as_str()), ("250m", "250m"), "{engine}");

        let arguments = [name.as_str(), "--cpus", "500m", "--memory", "96m", "--pids", "40"];
        let said = scale(&rig.daemon, &arguments).unwrap_or_else(|said| panic!("{engine}: {said}"));
        assert!(said.contains(&name), "{said}");
        let after = container(&rig.daemon, &name);
        assert_eq!(after.pid, before.pid, "{engine}: no restart");
        let [memory, quota, pids] = group(after.pid);
        assert_eq!((memory.as_str(), quota.as_str(), pids.as_str()), ("100663296", "50000", "40"), "{engine}");
        let (wanted, has) = (&after.limits, &after.limits_in_force);
        assert_eq!((wanted.memory.as_str(), wanted.pids), ("100663296", Some(40)), "{engine}");
        assert_eq!((has.memory.as_str(), has.cpu.as_str(), has.pids), ("100663296", "500m", Some(40)), "{engine}");
        assert_eq!(after.limits_drifted, Vec::<String>::new(), "{engine}");

        // It is no other document, and the limits are those of its next runs as well.
        action.action_id.clear();
        assert!(!rig.daemon.done(action).changed, "{engine}");
        rig.daemon.done(on_target(Verb::VERB_RESTART, &name));
        let again = container(&rig.daemon, &name);
        assert_ne!(again.pid, after.pid);
        assert_eq!(group(again.pid), [memory, quota, pids], "{engine}: after a restart");
    }
    rig.daemon.kill();
    rig.daemon.start_again();
    for engine in ENGINES {
        let name = format!("on-{engine}");
        rig.daemon.done(on_target(Verb::VERB_STOP, &name));
        rig.daemon.done(on_target(Verb::VERB_START, &name));
        let again = container(&rig.daemon, &name);
        assert_eq!(group(again.pid)[0], "100663296", "{engine}: under the next daemon");

        // Somebody else changes it behind the daemon's back.
        fs::write(memory_file(&again), "50331648").unwrap();
        let drifted = container(&rig.daemon, &name);
        assert_eq!(drifted.limits_drifted, ["memory_bytes"], "{engine}");
        assert_eq!(drifted.limits_in_force.memory, "50331648", "{engine}");
        let shown = rig.daemon.ctl(&["get", "workload", &name]);
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(shown.contains("Drifted:      memory_bytes") && shown.contains("memory 96.0 MiB"), "{shown}");

        // A limit that is taken away.
        scale(&rig.daemon, &[&name, "--memory", "0"]).unwrap_or_else(|said| panic!("{engine}: {said}"));
        let endless = container(&rig.daemon, &name);
        assert_eq!((endless.limits.memory.as_str(), endless.limits_in_force.memory.as_str()), ("", ""), "{engine}");
        assert_eq!(endless.limits_in_force.cpu, "500m", "{engine}: the rest stays");
    }
}

#[test]
fn memory_in_use_is_taken_by_force_alone() {
    let rig = EnginesRig::start();
    rig.daemon.done(rig.launch_on("podman", "greedy", GREEDY));
    let before = container(&rig.daemon, "greedy");
    let held = || {
        let used = cgroup_value(before.pid, &["memory.current", "memory.usage_in_bytes"]).parse::<u64>().unwrap();
        (used > 24_000_000).then_some(())
    };
    crate::support::wait::until("it has its memory", std::time::Duration::from_secs(60), held);
    let said = scale(&rig.daemon, &["greedy", "--memory", "12m", "--pids", "30"]).unwrap_err();
    assert!(said.contains("memory_bytes") && said.contains("uses now"), "{said}");
    let after = container(&rig.daemon, "greedy");
    assert_eq!((after.pid, after.limits_in_force), (before.pid, before.limits_in_force), "nothing has changed");
    // The kernel may end it, or refuse; whatever it does is told, and what is told is so.
    match scale(&rig.daemon, &["greedy", "--memory", "12m", "--force"]) {
        Ok(_) => assert_eq!(rig.daemon.workload("greedy").containers[0].limits.memory, "12582912"),
        Err(said) => {
            assert!(said.contains("memory"), "{said}");
            assert_eq!(rig.daemon.workload("greedy").containers[0].limits.memory, "");
        }
    }
}

#[test]
fn scale_that_fails_at_one_container_is_taken_back_from_the_other() {
    let daemon = DaemonProcess::start(|folder| {
        let fault = "{op: resize, name: w_two, nth: 1, fail: {kind: engine, message: no}}";
        with_sim(folder).replace("sim: {", &format!("sim: {{faults: [{fault}], "))
    });
    let containers = ["one", "two"].map(|name| format!("  - {{name: {name}, image: '{BUSYBOX}', command: [stay]}}\n"));
    let head = "apiVersion: v1\nkind: Pod\nmetadata: {name: w}\nspec:\n  hostNetwork: true\n  containers:\n";
    daemon.done(launch(&format!("{head}{}", containers.concat())));
    let limits = |daemon: &DaemonProcess| {
        let found = daemon.workload("w").containers.into_iter();
        found.map(|container| (container.limits.pids, container.limits_in_force.pids)).collect::<Vec<_>>()
    };
    let said = scale(&daemon, &["w", "--pids", "9"]).unwrap_err();
    assert!(said.contains("w_two"), "{said}");
    assert_eq!(limits(&daemon), [(None, None); 2], "all is as before");
    scale(&daemon, &["w", "--pids", "9"]).unwrap();
    assert_eq!(limits(&daemon), [(Some(9), Some(9)); 2]);
}

#[test]
fn what_cannot_be_scaled_is_named() {
    let daemon = DaemonProcess::on_sim();
    daemon.done(launch(&pod("w", BUSYBOX, "sleep 1000")));
    for (arguments, why) in [
        (&["w"][..], "none is given"),
        (&["w", "--memory", "much"], "unit 'much' is not known"),
        (&["w", "--cpu-shares", "1"], "not from 2 to 262144"),
        (&["w", "--pids", "9", "--container", "other"], "no container 'other'; it has main"),
        (&["unknown", "--pids", "9"], "'unknown'"),
    ] {
        let said = scale(&daemon, arguments).unwrap_err();
        assert!(said.contains(why), "{arguments:?}: {said}");
    }
    assert!(scale(&daemon, &["w", "--pids", "9", "--container", "main"]).is_ok());
    assert_eq!(container(&daemon, "w").limits.pids, Some(9));
    daemon.done(on_target(Verb::VERB_STOP, "w"));
    let said = scale(&daemon, &["w", "--pids", "10"]).unwrap_err();
    assert!(said.contains("w_main") && said.contains("start it first"), "{said}");
}
