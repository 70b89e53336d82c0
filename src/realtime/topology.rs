//! The CPUs of this node as the kernel tells them: which are there, which are online, which it keeps its own scheduler off,
//! which are threads of one core, and which are near which memory.
//!
//! Source: `/sys/devices/system/{cpu,node}`, Linux `Documentation/ABI/testing/sysfs-devices-system-cpu` and `-node`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::cgroup::text;
use crate::model::cores::CpuSet;

/// The most folders of nodes that are looked at.
const MOST_NODES: usize = 1024;

/// The CPUs of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    /// Those that run.
    pub online: CpuSet,
    /// Those that are there and are switched off.
    pub offline: CpuSet,
    /// Those that the kernel's scheduler leaves alone, by `isolcpus` or an isolated partition.
    pub isolated: CpuSet,
    /// Of each that is online: the threads of its core that are online, itself among them.
    pub siblings: BTreeMap<u32, CpuSet>,
    /// The memory that each is near to.
    pub nodes: BTreeMap<u32, u32>,
}

impl Topology {
    /// Reads it below `root`, which is `/sys/devices/system` but in tests. An error says what cannot be read.
    pub fn read(root: &Path) -> Result<Self, String> {
        let cpus = root.join("cpu");
        let online = list(&cpus.join("online"))?;
        if online.is_empty() {
            return Err(format!("'{}' names no CPU", cpus.join("online").display()));
        }
        let optional = |name: &str| {
            let path = cpus.join(name);
            if path.exists() { list(&path) } else { Ok(CpuSet::new()) }
        };
        let present = optional("present")?;
        let offline = optional("offline")?.within(&present).and(&present.without(&online));
        // Partitions of control groups are told here as well.
        let isolated = optional("isolated")?.within(&online);
        let mut siblings = BTreeMap::new();
        for cpu in online.iter() {
            let folder = cpus.join(format!("cpu{cpu}/topology"));
            // The name of Linux 5.2 and later, then the one before.
            let names = ["core_cpus_list", "thread_siblings_list"];
            let found = names.iter().find_map(|name| list(&folder.join(name)).ok());
            let mut of_core = found.unwrap_or_default().within(&online);
            of_core.insert(cpu);
            siblings.insert(cpu, of_core);
        }
        let nodes = nodes(&root.join("node"));
        Ok(Self { online, offline, isolated, siblings, nodes })
    }

    /// All that are there.
    pub fn present(&self) -> CpuSet {
        self.online.and(&self.offline)
    }

    /// The online threads of the CPU's core, itself among them; none where it is not online.
    pub fn core_of(&self, cpu: u32) -> CpuSet {
        self.siblings.get(&cpu).cloned().unwrap_or_default()
    }

    /// The memory node of a CPU; 0 where the kernel tells of none.
    pub fn node_of(&self, cpu: u32) -> u32 {
        self.nodes.get(&cpu).copied().unwrap_or(0)
    }
}

fn list(path: &Path) -> Result<CpuSet, String> {
    let text = text(path).ok_or_else(|| format!("'{}' cannot be read", path.display()))?;
    text.parse().map_err(|why| format!("'{}': {why}", path.display()))
}

/// The node of each CPU; a kernel without NUMA has no such folder.
fn nodes(folder: &Path) -> BTreeMap<u32, u32> {
    let mut nodes = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten().take(MOST_NODES) {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("node")).and_then(|number| number.parse().ok());
        let (Some(number), Ok(cpus)) = (number, list(&entry.path().join("cpulist"))) else { continue };
        nodes.extend(cpus.iter().map(|cpu| (cpu, number)));
    }
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::realtime::fake;

    fn set(text: &str) -> CpuSet {
        text.parse().unwrap()
    }

    #[test]
    fn machine_with_threads_and_two_memories_is_read() {
        let root = tempfile::tempdir().unwrap();
        fake::write(root.path(), 8, 2, 4);
        fs::write(root.path().join("cpu/isolated"), "6-7\n").unwrap();
        fake::set_online(root.path(), &set("0-4,6-7"));
        let found = Topology::read(root.path()).unwrap();
        assert_eq!((&found.online, &found.offline), (&set("0-4,6-7"), &set("5")));
        assert_eq!((&found.isolated, found.present()), (&set("6-7"), set("0-7")));
        assert_eq!((found.core_of(3), found.core_of(4), found.core_of(5)), (set("2-3"), set("4"), set("")));
        assert_eq!((found.node_of(3), found.node_of(4)), (0, 1));
    }

    #[test]
    fn kernel_without_numa_and_threads_has_single_cores_near_one_memory() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("cpu")).unwrap();
        fs::write(root.path().join("cpu/online"), "0-1\n").unwrap();
        // What is possible and was never there is told as offline.
        fs::write(root.path().join("cpu/offline"), "2-31\n").unwrap();
        let found = Topology::read(root.path()).unwrap();
        assert_eq!((found.present(), found.core_of(1), found.node_of(1)), (set("0-1"), set("1"), 0));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let root = tempfile::tempdir().unwrap();
        assert!(Topology::read(root.path()).unwrap_err().contains("cpu/online' cannot be read"));
        fs::create_dir_all(root.path().join("cpu")).unwrap();
        fs::write(root.path().join("cpu/online"), "zero\n").unwrap();
        assert!(Topology::read(root.path()).unwrap_err().contains("'zero' is no CPU"));
    }

    #[test]
    fn this_machine_is_read() {
        let found = Topology::read(Path::new("/sys/devices/system")).unwrap();
        assert!(found.online.iter().all(|cpu| found.core_of(cpu).contains(cpu)), "{found:?}");
    }
}
