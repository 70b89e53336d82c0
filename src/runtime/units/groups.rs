//! The control groups of units, as the kernel tells them.

use std::fs;
use std::path::PathBuf;

use crate::cgroup::{self, Cgroups};
use crate::model::resources::Resources;
use crate::runtime::adapter::{RtResult, unsupported};

/// The process's group of this unit, on whichever hierarchy has one; empty where none has.
pub fn group_of(pid: i32, unit: &str) -> String {
    group_in(&fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default(), unit)
}

fn group_in(groups: &str, unit: &str) -> String {
    let unit = format!("/{unit}");
    let own = |path: &str| {
        let end = path.find(&unit)? + unit.len();
        (path.len() == end || path[end..].starts_with('/')).then(|| path[..end].to_owned())
    };
    let mut paths = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths.find_map(own).unwrap_or_default()
}

/// systemd's own group in the hierarchy that has the controller, where it manages that: it is in its `init.scope` there.
fn own_group(groups: &Cgroups, manager_pid: i32, controller: &str) -> Option<PathBuf> {
    let lines = fs::read_to_string(format!("/proc/{manager_pid}/cgroup")).ok()?;
    let is_unified = groups.is_unified(controller);
    let is_its = |line: &&str| match line.split(':').nth(1).unwrap_or_default() {
        "" => is_unified,
        names => !is_unified && names.split(',').any(|name| name == controller),
    };
    let path = lines.lines().find(is_its)?.splitn(3, ':').nth(2)?;
    path.ends_with("init.scope").then(|| groups.dir(controller, path)).flatten()
}

/// Whether systemd has the controller for its services.
pub fn has_controller(groups: &Cgroups, manager_pid: i32, controller: &str) -> bool {
    let Some(own) = own_group(groups, manager_pid, controller) else { return false };
    if groups.is_unified(controller) {
        // What the group above `init.scope` has, its services can have.
        let listed = own.parent().and_then(|above| cgroup::text(&above.join("cgroup.controllers")));
        return listed.is_some_and(|listed| listed.split(' ').any(|name| name == controller));
    }
    let file = match controller {
        "memory" => "memory.usage_in_bytes",
        "cpu" => "cpu.shares",
        "cpuset" => "cpuset.cpus",
        "io" => "blkio.weight",
        _ => "pids.current",
    };
    own.join(file).exists()
}

/// Refuses, by name, limits for which systemd has no controller.
pub fn check_limits(engine: &str, resources: &Resources, has: impl Fn(&str) -> bool) -> RtResult<()> {
    let asked = [
        ("cpu", "cpu_millis", resources.cpu_millis),
        ("cpu", "cpu_shares", resources.cpu_shares),
        ("memory", "memory_bytes", resources.memory_bytes),
        ("memory", "memory_reservation_bytes", resources.memory_reservation_bytes),
        ("pids", "pids", resources.pids),
    ];
    match asked.into_iter().find(|(controller, _, value)| value.is_some() && !has(controller)) {
        Some((controller, field, _)) => {
            Err(unsupported(engine, format!("resources.{field}: systemd has no controller '{controller}' here")))
        }
        None => Ok(()),
    }
}

/// Whether systemd can freeze its services: with the freezer of version 2 alone.
pub fn has_freezer(groups: &Cgroups, manager_pid: i32) -> bool {
    let lines = fs::read_to_string(format!("/proc/{manager_pid}/cgroup")).unwrap_or_default();
    let path = lines.lines().find_map(|line| line.strip_prefix("0::"));
    path.is_some_and(|path| groups.dirs(path).iter().any(|dir| dir.join("cgroup.freeze").exists()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_without_their_controller_are_refused_by_name() {
        let asked = Resources { cpu_millis: Some(1), memory_bytes: Some(1), ..Resources::default() };
        assert_eq!(check_limits("e", &asked, |_| true), Ok(()));
        assert_eq!(check_limits("e", &Resources::default(), |_| false), Ok(()));
        let refused = check_limits("e", &asked, |controller| controller == "cpu").unwrap_err().to_string();
        assert!(refused.contains("resources.memory_bytes") && refused.contains("'memory'"), "{refused}");
    }

    #[test]
    fn group_is_the_unit_s_and_none_of_a_similar_name() {
        let groups = "9:pids:/\n0::/user/init.scope/app.slice/a.service/below\n";
        assert_eq!(group_in(groups, "a.service"), "/user/init.scope/app.slice/a.service");
        assert_eq!(group_in("0::/app.slice/ba.service\n", "a.service"), "");
        assert_eq!(group_in("0::/app.slice/a.service2\n", "a.service"), "");
    }
}
