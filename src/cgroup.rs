//! Control groups of this machine: where the hierarchies are mounted, and values of a group's files, on version 1, on
//! version 2, and where both are mounted ("hybrid").
//!
//! Reads and writes files below the mount points and nothing else. What a value means, and who may be in which group, is
//! its callers' business.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The most of a file that is read, bytes.
const MOST: u64 = 1024 * 1024;

/// The deepest tree of groups that is looked through.
const MOST_DEPTH: usize = 32;

/// A mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    dir: PathBuf,
    /// Controllers and names (`name=systemd`) of version 1; empty for version 2.
    controllers: Vec<String>,
}

/// The hierarchies as they are mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cgroups {
    hierarchies: Vec<Hierarchy>,
    unified: Option<PathBuf>,
}

impl Cgroups {
    /// Those of this process's mount namespace.
    pub fn read() -> io::Result<Self> {
        Ok(Self::of(&fs::read_to_string("/proc/self/mounts")?))
    }

    /// Those that a table of mounts names, in the form of `/proc/mounts`.
    pub fn of(mounts: &str) -> Self {
        let mut found = Self::default();
        for line in mounts.lines() {
            let fields: Vec<_> = line.split(' ').collect();
            let [_, dir, kind, options, ..] = fields.as_slice() else { continue };
            let dir = PathBuf::from(dir);
            match *kind {
                "cgroup2" => found.unified = found.unified.or(Some(dir)),
                "cgroup" => {
                    let controllers = options.split(',').filter(|word| !matches!(*word, "rw" | "ro"));
                    let controllers = controllers.map(str::to_owned).collect();
                    found.hierarchies.push(Hierarchy { dir, controllers });
                }
                _ => {}
            }
        }
        found
    }

    /// Whether a controller is one of version 2 here. One that nobody has is not.
    pub fn is_unified(&self, controller: &str) -> bool {
        self.hierarchy(controller).is_none() && self.unified.is_some()
    }

    /// Whether the controller is there, on either version. The freezer of version 2 always is.
    pub fn has(&self, controller: &str) -> bool {
        let unified = || {
            let own = if controller == "cpuacct" { "cpu" } else { controller };
            let listed = self.unified.as_ref().and_then(|root| text(&root.join("cgroup.controllers")));
            listed.is_some_and(|listed| own == "freezer" || listed.split(' ').any(|name| name == own))
        };
        self.hierarchy(controller).is_some() || unified()
    }

    fn hierarchy(&self, controller: &str) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|hierarchy| hierarchy.controllers.iter().any(|name| name == controller))
    }

    /// The folder of the group `path` (as `/proc/PID/cgroup` names it) in the hierarchy that has the controller; `None`
    /// where none can have it.
    pub fn dir(&self, controller: &str, path: &str) -> Option<PathBuf> {
        let root = self.hierarchy(controller).map(|hierarchy| &hierarchy.dir).or(self.unified.as_ref())?;
        Some(root.join(path.trim_start_matches('/')))
    }

    /// The folder of the group in the hierarchy of version 2, where that is mounted.
    pub fn unified_dir(&self, path: &str) -> Option<PathBuf> {
        self.unified.as_ref().map(|root| root.join(path.trim_start_matches('/')))
    }

    /// The folders of the group in all hierarchies.
    pub fn dirs(&self, path: &str) -> Vec<PathBuf> {
        let roots = self.hierarchies.iter().map(|hierarchy| &hierarchy.dir).chain(&self.unified);
        roots.map(|root| root.join(path.trim_start_matches('/'))).collect()
    }

    /// Whether the group's processes are frozen.
    pub fn is_frozen(&self, path: &str) -> bool {
        let Some(dir) = self.dir("freezer", path) else { return false };
        if self.is_unified("freezer") {
            return keyed(&dir.join("cgroup.events"), "frozen") == Some(1);
        }
        // While it is being frozen the word is FREEZING.
        text(&dir.join("freezer.state")).is_some_and(|state| state.starts_with("FR"))
    }

    /// Thaws the group's processes.
    pub fn thaw(&self, path: &str) -> io::Result<()> {
        let Some(dir) = self.dir("freezer", path) else { return Ok(()) };
        let (file, word) =
            if self.is_unified("freezer") { ("cgroup.freeze", "0") } else { ("freezer.state", "THAWED") };
        fs::write(dir.join(file), word)
    }

    /// Moves a process into a group of every hierarchy, made where it is absent. Hierarchies that cannot take it are left:
    /// it stays where it is there.
    pub fn adopt(&self, path: &str, pid: i32) {
        for dir in self.dirs(path) {
            let moved = fs::create_dir_all(&dir).and_then(|()| {
                inherit(&dir, "cpuset.cpus");
                inherit(&dir, "cpuset.mems");
                fs::write(dir.join("cgroup.procs"), pid.to_string())
            });
            if let Err(error) = moved {
                log::debug!("process {pid} stays outside of '{}': {error}", dir.display());
            }
        }
    }

    /// Deletes the group with those below it, as far as nothing is in them, in every hierarchy. CRIU makes a copy of the
    /// whole tree below a group that it restores.
    pub fn remove(&self, path: &str) {
        for dir in self.dirs(path) {
            remove_tree(&dir, MOST_DEPTH);
        }
    }
}

/// Absent ones, and those that somebody is in still, are left.
fn remove_tree(dir: &Path, depth: usize) {
    if depth > 0 {
        let below = fs::read_dir(dir).into_iter().flatten().flatten();
        let folders = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        folders.for_each(|entry| remove_tree(&entry.path(), depth - 1));
    }
    let _ = fs::remove_dir(dir);
}

/// A new group of version 1's `cpuset` has no CPU and takes no process before it has.
fn inherit(dir: &Path, file: &str) {
    let Some(parent) = dir.parent() else { return };
    let own = dir.join(file);
    if text(&own).is_some_and(|text| text.is_empty())
        && let Some(value) = text(&parent.join(file)).filter(|value| !value.is_empty())
        && let Err(error) = fs::write(&own, value)
    {
        log::debug!("'{}' keeps no value: {error}", own.display());
    }
}

/// A file's text without blanks around it; `None` where it cannot be read.
pub fn text(path: &Path) -> Option<String> {
    use std::io::Read;
    let mut text = String::new();
    fs::File::open(path).ok()?.take(MOST).read_to_string(&mut text).ok()?;
    Some(text.trim().to_owned())
}

/// A file's number; `None` where it has none (`max`).
pub fn number(path: &Path) -> Option<u64> {
    text(path)?.parse().ok()
}

/// The number after a key, in a file of lines `key number`.
pub fn keyed(path: &Path, key: &str) -> Option<u64> {
    text(path)?.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "cgroup /cg/freezer cgroup rw,nosuid,freezer 0 0\n\
        cgroup /cg/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\ncgroup2 /cg/unified cgroup2 rw,nosuid 0 0\n";

    #[test]
    fn controllers_are_found_where_they_are_mounted() {
        let hybrid = Cgroups::of(HYBRID);
        assert_eq!(hybrid.dir("cpuacct", "/a/b"), Some("/cg/cpu,cpuacct/a/b".into()));
        assert_eq!(hybrid.dir("hugetlb", "a"), Some("/cg/unified/a".into()));
        assert!(!hybrid.is_unified("freezer") && hybrid.is_unified("hugetlb"));
        assert_eq!(hybrid.dirs("/a").len(), 3);
        let pure = Cgroups::of("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n");
        assert_eq!(pure.dir("memory", "/a"), Some("/sys/fs/cgroup/a".into()));
        assert_eq!(Cgroups::of("").dir("memory", "/a"), None);
    }

    #[test]
    fn frozen_is_told_by_either_version() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().display();
        let old = Cgroups::of(&format!("c {root} cgroup rw,freezer 0 0\n"));
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::write(dir.path().join("a/freezer.state"), "FROZEN\n").unwrap();
        assert!(old.is_frozen("/a") && !old.is_frozen("/b"));
        old.thaw("/a").unwrap();
        assert!(!old.is_frozen("/a"));
        let new = Cgroups::of(&format!("c {root} cgroup2 rw 0 0\n"));
        fs::write(dir.path().join("a/cgroup.events"), "populated 1\nfrozen 1\n").unwrap();
        assert!(new.is_frozen("/a"));
        new.thaw("/a").unwrap();
        assert_eq!(text(&dir.path().join("a/cgroup.freeze")).as_deref(), Some("0"));
    }

    #[test]
    fn group_is_removed_with_those_below_it_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let groups = Cgroups::of(&format!("c {} cgroup2 rw 0 0\n", dir.path().display()));
        for path in ["a/x/y", "a/z", "ab"] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        groups.remove("/a");
        groups.remove("/absent");
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, ["ab"]);
    }

    #[test]
    fn values_are_read_and_words_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            fs::write(dir.path().join(name), content).unwrap();
            dir.path().join(name)
        };
        assert_eq!(number(&file("n", "12\n")), Some(12));
        assert_eq!(number(&file("m", "max\n")), None);
        assert_eq!(keyed(&file("k", "usage_usec 7\nuser_usec 3\n"), "user_usec"), Some(3));
    }
}
