//! Who runs where: the processes of this machine, which of them are whose, and on which CPUs their threads may run.
//!
//! Source: `/proc/PID/{stat,cgroup}` and `/proc/PID/task/TID/status`, `proc(5)` and `cgroups(7)`. Processes come and go
//! while this is read: what cannot be read any more is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::cgroup::text;
use crate::model::cores::CpuSet;

/// The most processes, and threads of one, that are looked at.
const MOST: usize = 65_536;

/// The flag of kernel threads in `/proc/PID/stat`: Linux `include/linux/sched.h`, `PF_KTHREAD`.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// The longest line of ancestors that is followed.
const MOST_ANCESTORS: usize = 256;

/// What the names of service managers begin with: what they start is not theirs to be moved with.
const SERVICE_MANAGER: &str = "systemd";

/// What the name of the group holds in which Podman 4 and 5 have a pod's containers and its pause process under systemd.
const PODMAN_POD: &str = "libpod_pod_";

/// The group in which they have such groups without systemd.
const PODMAN_PARENT: &str = "libpod_parent";

/// A container that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occupant {
    /// Its workload.
    pub workload: String,
    /// The engine's name of it.
    pub container: String,
    /// Its first process.
    pub pid: i32,
    /// Its own control group as the engine tells it; empty where it does not.
    pub group: String,
}

/// A process that is no kernel thread and has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// Its program's name, at most 15 bytes.
    pub name: String,
    /// Controllers with the group in their hierarchy; none for version 2.
    groups: Vec<(String, String)>,
}

impl Process {
    /// Its group in the hierarchy of a controller, version 2's where no other has it.
    pub fn group(&self, controller: &str) -> Option<&str> {
        let of = |wanted: &dyn Fn(&str) -> bool| self.groups.iter().find(|(names, _)| wanted(names));
        let found = of(&|names| names.split(',').any(|name| name == controller)).or_else(|| of(&str::is_empty));
        found.map(|(_, path)| path.as_str())
    }

    fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|(_, path)| is_below(path, group))
    }
}

/// Whether a path of a group is this group's, which is not the root, or of one below it.
pub fn is_below(path: &str, group: &str) -> bool {
    let (path, group) = (path.trim_matches('/'), group.trim_matches('/'));
    let rest = path.strip_prefix(group).filter(|_| !group.is_empty());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whose a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// A container's, by its place among the occupants.
    Occupant(usize),
    /// This daemon's or what keeps a container: conmon, a shim, a logger, a pause process.
    Supervisor,
    /// Nobody's that is known here.
    Foreign,
}

/// The processes of one moment.
#[derive(Debug, Clone, Default)]
pub struct Census(BTreeMap<i32, Process>);

impl Census {
    /// Those below `proc`, which is `/proc` but in tests.
    pub fn take(proc: &Path) -> Self {
        let entries = fs::read_dir(proc).into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let processes = pids.take(MOST).filter_map(|pid| process(proc, pid));
        Self(processes.map(|process| (process.pid, process)).collect())
    }

    /// The processes.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.0.values()
    }

    /// One of them.
    pub fn process(&self, pid: i32) -> Option<&Process> {
        self.0.get(&pid)
    }

    /// Whose each process is. `own` is this daemon.
    pub fn owners(&self, occupants: &[Occupant], own: i32) -> BTreeMap<i32, Owner> {
        let mut owners = BTreeMap::new();
        for process in self.0.values() {
            let is_its = |occupant: &Occupant| match occupant.group.trim_matches('/') {
                "" => self.ancestors(process).any(|pid| pid == occupant.pid),
                _ => process.is_in(&occupant.group),
            };
            if let Some(place) = occupants.iter().position(is_its) {
                owners.insert(process.pid, Owner::Occupant(place));
            }
        }
        let pods: BTreeSet<&str> = occupants.iter().filter_map(|occupant| pod(&occupant.group)).collect();
        let pauses = self.0.values().filter(|process| pods.iter().any(|pod| process.is_in(pod)));
        let firsts = occupants.iter().filter_map(|occupant| self.process(occupant.pid));
        let of_them = pauses.clone().filter(|process| !owners.contains_key(&process.pid)).chain(firsts);
        let is_keeper = |pid: i32| {
            let process = self.process(pid)?;
            (pid > 1 && !process.name.starts_with(SERVICE_MANAGER)).then_some(pid)
        };
        let mut keepers: BTreeSet<i32> = of_them.filter_map(|process| is_keeper(process.parent)).collect();
        keepers.extend(pauses.map(|process| process.pid).filter(|pid| !owners.contains_key(pid)));
        keepers.insert(own);
        for process in self.0.values() {
            let is_kept = || self.ancestors(process).any(|pid| keepers.contains(&pid));
            let owner = || if is_kept() { Owner::Supervisor } else { Owner::Foreign };
            owners.entry(process.pid).or_insert_with(owner);
        }
        owners
    }

    /// The process and those that it descends from.
    fn ancestors<'a>(&'a self, process: &'a Process) -> impl Iterator<Item = i32> + 'a {
        let parent = |process: &&'a Process| self.process(process.parent).filter(|parent| parent.pid > 1);
        std::iter::successors(Some(process), parent).take(MOST_ANCESTORS).map(|process| process.pid)
    }
}

/// The group of the pod that a container's group is in.
fn pod(group: &str) -> Option<&str> {
    let (parent, _) = group.trim_end_matches('/').rsplit_once('/')?;
    let (above, name) = parent.rsplit_once('/')?;
    (name.contains(PODMAN_POD) || above.trim_start_matches('/') == PODMAN_PARENT).then_some(parent)
}

fn process(proc: &Path, pid: i32) -> Option<Process> {
    let folder = proc.join(pid.to_string());
    let stat = text(&folder.join("stat"))?;
    // The name may hold blanks and brackets.
    let (before, after) = stat.rsplit_once(')')?;
    let name = before.split_once('(')?.1.to_owned();
    let fields: Vec<_> = after.split_whitespace().collect();
    let parent = fields.get(1)?.parse().ok()?;
    let flags: u64 = fields.get(6)?.parse().ok()?;
    if flags & KERNEL_THREAD != 0 || matches!(fields.first(), Some(&"Z" | &"X")) {
        return None;
    }
    let groups = text(&folder.join("cgroup"))?;
    let group = |line: &str| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        Some((controllers.to_owned(), path.to_owned()))
    };
    Some(Process { pid, parent, name, groups: groups.lines().filter_map(group).collect() })
}

/// The threads of a process, each with its folder.
pub fn threads(proc: &Path, pid: i32) -> Vec<(i32, PathBuf)> {
    let entries = fs::read_dir(proc.join(pid.to_string()).join("task")).into_iter().flatten().flatten();
    let thread = |entry: fs::DirEntry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path()));
    entries.filter_map(thread).take(MOST).collect()
}

/// The CPUs on which the thread of this folder may run; `None` where it has ended.
pub fn allowed(thread: &Path) -> Option<CpuSet> {
    let status = text(&thread.join("status"))?;
    status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(proc: &Path, pid: i32, stat: &str, groups: &str) {
        let folder = proc.join(pid.to_string());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("stat"), format!("{pid} {stat}\n")).unwrap();
        fs::write(folder.join("cgroup"), groups).unwrap();
    }

    #[test]
    fn everybody_is_known_by_group_and_by_descent() {
        let proc = tempfile::tempdir().unwrap();
        let pod = "/libpod_parent/0123456789ab";
        let all = [
            (1, "(init) S 0 1 1 0 -1 4194560 0", "4:cpuset:/\n0::/\n"),
            (2, "(kthreadd) S 0 0 0 0 -1 2129984 0", "0::/\n"),
            (10, "(actioncontroll) S 1 1 1 0 -1 4194560 0", "0::/\n"),
            (11, "(runc) S 10 1 1 0 -1 4194560 0", "0::/\n"),
            (20, "(conmon (x) y) S 1 1 1 0 -1 4194560 0", "4:cpuset:/\n0::/\n"),
            (21, "(app) S 20 1 1 0 -1 4194560 0", &format!("4:cpuset,cpu:{pod}/c\n0::/other\n")),
            (22, "(exec) S 20 1 1 0 -1 4194560 0", &format!("4:cpuset,cpu:{pod}/c/below\n0::/\n")),
            (23, "(gone) Z 21 1 1 0 -1 4194560 0", &format!("4:cpuset,cpu:{pod}/c\n0::/\n")),
            (30, "(conmon) S 1 1 1 0 -1 4194560 0", "0::/\n"),
            (31, "(catatonit) S 30 1 1 0 -1 4194560 0", &format!("4:cpuset,cpu:{pod}/pause\n0::/\n")),
            (40, "(sshd) S 1 1 1 0 -1 4194560 0", "4:cpuset:/libpod_parent/0123456789abc\n0::/\n"),
            (50, "(systemd) S 1 1 1 0 -1 4194560 0", "0::/\n"),
            (51, "(unit) S 50 1 1 0 -1 4194560 0", "0::/app.slice/unit\n"),
            (52, "(another) S 50 1 1 0 -1 4194560 0", "0::/app.slice/another\n"),
            (60, "(shim) S 1 1 1 0 -1 4194560 0", "0::/\n"),
            (61, "(logger) S 60 1 1 0 -1 4194560 0", "0::/\n"),
            (62, "(plain) S 60 1 1 0 -1 4194560 0", "0::/\n"),
            (63, "(child) S 62 1 1 0 -1 4194560 0", "0::/\n"),
        ];
        all.iter().for_each(|(pid, stat, groups)| write(proc.path(), *pid, stat, groups));
        let occupant = |container: &str, pid, group: &str| Occupant {
            workload: "w".into(),
            container: container.into(),
            pid,
            group: group.into(),
        };
        let occupants = [
            occupant("app", 21, &format!("{pod}/c")),
            occupant("unit", 51, "/app.slice/unit"),
            occupant("plain", 62, ""),
        ];
        let census = Census::take(proc.path());
        assert_eq!(census.process(21).unwrap().group("cpu"), Some(&*format!("{pod}/c")));
        assert_eq!(census.process(21).unwrap().group("memory"), Some("/other"));
        let owners = census.owners(&occupants, 10);
        let of = |owner: Owner| owners.iter().filter(|(_, is)| **is == owner).map(|(pid, _)| *pid).collect::<Vec<_>>();
        assert_eq!(of(Owner::Occupant(0)), [21, 22]);
        assert_eq!(of(Owner::Occupant(1)), [51]);
        assert_eq!(of(Owner::Occupant(2)), [62, 63]);
        assert_eq!(of(Owner::Supervisor), [10, 11, 20, 30, 31, 60, 61]);
        assert_eq!(of(Owner::Foreign), [1, 40, 50, 52]);
    }

    #[test]
    fn pods_of_podman_are_known_with_and_without_systemd() {
        let slice = "/machine.slice/machine-libpod_pod_1.slice";
        assert_eq!(pod(&format!("{slice}/libpod-2.scope")), Some(slice));
        assert_eq!(pod("/libpod_parent/1/libpod-2"), Some("/libpod_parent/1"));
        for group in ["/libpod_parent/libpod-2", "/machine.slice/libpod-2.scope", "/actioncontroller/2", "", "/"] {
            assert_eq!(pod(group), None, "{group}");
        }
    }

    #[test]
    fn own_threads_are_found_with_their_cpus() {
        let proc = Path::new("/proc");
        let own = i32::try_from(std::process::id()).unwrap();
        let threads = threads(proc, own);
        assert!(threads.iter().any(|(thread, _)| *thread == own));
        assert!(threads.iter().filter_map(|(_, folder)| allowed(folder)).all(|cpus| !cpus.is_empty()));
        assert!(Census::take(proc).process(own).is_some());
    }
}
