//! A machine's files as the kernel has them, in a folder, for unit tests.

use std::fs;
use std::path::Path;

use crate::model::cores::CpuSet;

/// Writes a machine's files below `root`: cores of `threads` CPUs that are numbered one after the other, `per_node` of
/// them near one memory.
pub fn write(root: &Path, count: u32, threads: u32, per_node: u32) {
    let cpus = root.join("cpu");
    for cpu in 0..count {
        let folder = cpus.join(format!("cpu{cpu}/topology"));
        fs::create_dir_all(&folder).unwrap();
        let first = cpu - cpu % threads;
        let core: CpuSet = (first..first + threads).collect();
        fs::write(folder.join("core_cpus_list"), format!("{core}\n")).unwrap();
    }
    let all: CpuSet = (0..count).collect();
    fs::write(cpus.join("present"), format!("{all}\n")).unwrap();
    fs::write(cpus.join("isolated"), "\n").unwrap();
    set_online(root, &all);
    for node in 0..count.div_ceil(per_node) {
        let folder = root.join(format!("node/node{node}"));
        fs::create_dir_all(&folder).unwrap();
        let near: CpuSet = (node * per_node..((node + 1) * per_node).min(count)).collect();
        fs::write(folder.join("cpulist"), format!("{near}\n")).unwrap();
    }
}

/// Switches CPUs on and off, as the files tell it.
pub fn set_online(root: &Path, online: &CpuSet) {
    let cpus = root.join("cpu");
    let present: CpuSet = fs::read_to_string(cpus.join("present")).unwrap().parse().unwrap();
    fs::write(cpus.join("online"), format!("{online}\n")).unwrap();
    fs::write(cpus.join("offline"), format!("{}\n", present.without(online))).unwrap();
}
