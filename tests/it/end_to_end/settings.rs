//! What a document says of a container's process, seen from inside and in Podman's own words.

use actioncontroller::proto::workloads::StatsRequest;

use super::{RUNS, Rig, one};
use crate::support::daemon::options;

// req: AC-17
#[test]
fn environment_user_capabilities_and_file_system_are_as_the_document_says() {
    let rig = Rig::new();
    let more = ", workingDir: /tmp, env: [{name: ONE, value: '1 x'}, {name: TWO, value: '$(ONE)!'}], \
        securityContext: {runAsUser: 1000, runAsGroup: 77, runAsNonRoot: true, readOnlyRootFilesystem: true, \
        allowPrivilegeEscalation: false, capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}}";
    rig.launch(&one("w", RUNS, more));
    assert_eq!(rig.shell("w", "main", "echo \"$ONE|$TWO\"; readlink /proc/1/cwd; hostname"), "1 x|1 x!\n/tmp\nw");
    let status = rig.shell("w", "", "cat /proc/1/status");
    for line in ["Uid:\t1000\t1000", "Gid:\t77\t77", "NoNewPrivs:\t1", "CapBnd:\t0000000000000400"] {
        assert!(status.contains(line), "{line} in {status}");
    }
    assert_ne!(rig.exec("w", "main", "touch /x").exit_code, 0);
}

#[test]
fn resource_limits_are_in_force_and_visible() {
    let rig = Rig::new();
    let more = ", resources: {limits: {cpu: 250m, memory: 64Mi}, requests: {cpu: 0.125, memory: 32Mi}}";
    rig.launch(&one("w", RUNS, more));
    let format = "{{.HostConfig.CpuQuota}} {{.HostConfig.CpuPeriod}} {{.HostConfig.CpuShares}} \
        {{.HostConfig.Memory}} {{.HostConfig.MemoryReservation}}";
    assert_eq!(rig.podman_says("w_main", format), "25000 100000 128 67108864 33554432");
    let request = StatsRequest { workload: "w".to_owned(), ..Default::default() };
    let stats = rig.daemon.workloads().stats(&request, options()).unwrap();
    assert_eq!(stats.containers.len(), 1, "{stats:?}");
    let main = &stats.containers[0];
    assert_eq!((main.name.as_str(), main.memory_limit_bytes), ("main", 64 << 20));
    assert!(main.memory_bytes > 0 && main.memory_bytes < 64 << 20, "{main:?}");
    assert!(main.pids > 0 && main.cpu_ns > 0, "{main:?}");
    assert!(!rig.container("w", "main").cgroup_path.is_empty());
    // More than the limit is not to be had: the kernel ends who takes it.
    let greedy = rig.exec("w", "main", "x=a; while :; do x=$x$x; done");
    assert_ne!(greedy.exit_code, 0, "{greedy:?}");
}
