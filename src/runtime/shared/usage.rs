//! What a container uses, as its control group and its network namespace tell it, on either version of control groups.

use std::path::Path;

use crate::cgroup::{self, Cgroups};
use crate::runtime::adapter::ContainerStats;

/// A group's use of CPU, memory, processes and block devices, on either version.
pub fn usage(groups: &Cgroups, group: &str) -> ContainerStats {
    let file = |controller: &str, name: &str| groups.dir(controller, group).map(|dir| dir.join(name));
    let number = |controller: &str, name: &str| file(controller, name).and_then(|path| cgroup::number(&path));
    let keyed =
        |controller: &str, name: &str, key: &str| file(controller, name).and_then(|path| cgroup::keyed(&path, key));
    // Version 2 counts without a controller, also where `cpuacct` is one of version 1 that the group has no part in.
    let counted = || groups.unified_dir(group).and_then(|dir| cgroup::keyed(&dir.join("cpu.stat"), "usage_usec"));
    let cpu_ns = number("cpuacct", "cpuacct.usage").or_else(|| counted().map(|micros| micros.saturating_mul(1000)));
    let (used, limit, cached) = match groups.is_unified("memory") {
        true => ("memory.current", "memory.max", "inactive_file"),
        false => ("memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file"),
    };
    let cached = keyed("memory", "memory.stat", cached).unwrap_or(0);
    let (read_bytes, write_bytes) = blocks(groups, group);
    ContainerStats {
        cpu_ns: cpu_ns.unwrap_or(0),
        memory_bytes: number("memory", used).unwrap_or(0).saturating_sub(cached),
        // Version 1 tells no limit as the largest number of pages.
        memory_limit_bytes: number("memory", limit).filter(|bytes| *bytes < 1 << 62).unwrap_or(0),
        pids: number("pids", "pids.current").unwrap_or(0),
        read_bytes,
        write_bytes,
        ..ContainerStats::default()
    }
}

/// Bytes read from and written to all block devices.
fn blocks(groups: &Cgroups, group: &str) -> (u64, u64) {
    let unified = groups.is_unified("blkio");
    let name = if unified { "io.stat" } else { "blkio.throttle.io_service_bytes" };
    let text = groups.dir("blkio", group).and_then(|dir| cgroup::text(&dir.join(name))).unwrap_or_default();
    let sum = |wanted: &str| -> u64 {
        let line = |line: &str| -> u64 {
            if unified {
                let values = line.split(' ').filter_map(|word| word.split_once('='));
                values.filter(|(key, _)| *key == wanted).filter_map(|(_, value)| value.parse::<u64>().ok()).sum()
            } else {
                let words: Vec<_> = line.split(' ').collect();
                match words.as_slice() {
                    [_, key, value] if *key == wanted => value.parse().unwrap_or(0),
                    _ => 0,
                }
            }
        };
        text.lines().map(line).sum()
    };
    if unified { (sum("rbytes"), sum("wbytes")) } else { (sum("Read"), sum("Write")) }
}

/// Bytes received and sent on all links of the process's network namespace but the loopback.
pub fn network(pid: i32) -> (u64, u64) {
    let table = cgroup::text(Path::new(&format!("/proc/{pid}/net/dev"))).unwrap_or_default();
    let links = table.lines().filter_map(|line| line.split_once(':')).filter(|(name, _)| name.trim() != "lo");
    links.fold((0, 0), |(received, sent), (_, numbers)| {
        let numbers: Vec<u64> = numbers.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        let at = |index: usize| numbers.get(index).copied().unwrap_or(0);
        (received + at(0), sent + at(8))
    })
}
