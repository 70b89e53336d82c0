//! [`Machine`]: what is done so that exclusive CPUs are exclusive: control groups of containers narrowed and widened,
//! threads moved, and both read back.
//!
//! A container that holds CPUs gets those and no others. The containers of other workloads, what keeps containers, and
//! this daemon are kept off them, and get back what is free again. A container's own cpuset says where it may run, where
//! it has one; threads are told besides, because a thread keeps a mask that its ancestor was given.
//!
//! Source: `cpuset(7)` for version 1, Linux `Documentation/admin-guide/cgroup-v2.rst` for version 2,
//! `sched_setaffinity(2)`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::census::{self, Census, Occupant, Owner, Process};
use crate::cgroup::{self, Cgroups};
use crate::model::cores::CpuSet;

/// The deepest tree of groups within a container.
const MOST_DEPTH: usize = 16;

/// So often all threads are looked through: some come while others are moved.
const MOST_PASSES: usize = 20;

/// The most foreign processes that are told of.
const MOST_FOREIGN: usize = 64;

/// A cpuset's own CPUs, on either version.
const CPUS: &str = "cpuset.cpus";

/// What changes something.
pub trait Kernel: Send + Sync {
    /// Writes into a file of a control group.
    fn write(&self, file: &Path, text: &str) -> io::Result<()>;

    /// Lets a thread run on these CPUs alone, as far as its control group does.
    fn set_affinity(&self, thread: i32, cpus: &CpuSet) -> io::Result<()>;
}

/// The kernel that this runs on.
pub struct ThisKernel;

impl Kernel for ThisKernel {
    fn write(&self, file: &Path, text: &str) -> io::Result<()> {
        fs::write(file, text)
    }

    fn set_affinity(&self, thread: i32, cpus: &CpuSet) -> io::Result<()> {
        let mut mask = nix::sched::CpuSet::new();
        for cpu in cpus.iter() {
            mask.set(usize::try_from(cpu).unwrap_or(usize::MAX))?;
        }
        Ok(nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(thread), &mask)?)
    }
}

/// This machine, or one in a folder.
pub struct Machine {
    /// `/sys/devices/system`.
    pub devices: PathBuf,
    /// `/proc`.
    pub proc: PathBuf,
    /// Where control groups are; `None` looks each time.
    pub groups: Option<Cgroups>,
    /// What changes something.
    pub kernel: Box<dyn Kernel>,
    /// This daemon.
    pub own: i32,
}

impl Machine {
    /// The one that this runs on.
    pub fn this() -> Self {
        let own = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
        let (devices, proc) = ("/sys/devices/system".into(), "/proc".into());
        Self { devices, proc, groups: None, kernel: Box::new(ThisKernel), own }
    }
}

/// Who is there, and which CPUs are whose.
#[derive(Debug, Clone, Default)]
pub struct Scene {
    /// The containers that run.
    pub occupants: Vec<Occupant>,
    /// What each workload holds and is online.
    pub holdings: BTreeMap<String, CpuSet>,
    /// What others are to be kept off: all that is held.
    pub exclusive: CpuSet,
    /// What others were kept off before, and may be still.
    pub withheld: CpuSet,
    /// All that is online.
    pub online: CpuSet,
    /// Containers that were started just now: a mask that their threads have is not their own wish.
    pub fresh: BTreeSet<String>,
}

/// What could not be done, by workload; the empty name stands for what keeps containers, and for this daemon.
pub type Problems = BTreeMap<String, String>;

/// A process of nobody's that may run on exclusive CPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// Its number.
    pub pid: i32,
    /// Its program.
    pub name: String,
    /// The exclusive CPUs on which its threads may run.
    pub cpus: CpuSet,
}

impl Scene {
    fn holds(&self, occupant: &Occupant) -> Option<&CpuSet> {
        self.holdings.get(&occupant.workload)
    }

    /// What who holds nothing shall have, who has `now` and could have `most`.
    fn off(&self, now: &CpuSet, most: &CpuSet) -> CpuSet {
        let free = |of: &CpuSet| of.without(&self.exclusive);
        let rest = if now.meets(&self.exclusive) {
            free(now)
        } else if now.is_within(&self.withheld) {
            // All that it has was somebody's alone before.
            free(most)
        } else {
            now.and(&self.withheld.within(most)).without(&self.exclusive)
        };
        let any = [rest, free(most), free(&self.online)].into_iter().find(|cpus| !cpus.is_empty());
        any.unwrap_or_else(|| now.clone())
    }

    /// What a thread of somebody who holds nothing shall have; `None` where it may stay as it is. One that has just what
    /// was left to everybody gets back what is free again; any other mask is its own.
    fn thread_off(&self, now: &CpuSet, most: &CpuSet) -> Option<CpuSet> {
        let was_left = *now == most.without(&self.withheld) && self.withheld.meets(most);
        if !now.meets(&self.exclusive) && !was_left && !now.is_within(&self.withheld) {
            return None;
        }
        Some(self.off(now, most)).filter(|cpus| cpus != now)
    }
}

impl Machine {
    /// Brings the scene about, and reads back that it is so. Gives what is not.
    pub fn settle(&self, scene: &Scene) -> Problems {
        let groups = self.groups();
        let census = Census::take(&self.proc);
        let mut problems = Problems::new();
        // Who holds nothing leaves before somebody comes.
        for holds in [false, true] {
            for occupant in scene.occupants.iter().filter(|occupant| scene.holds(occupant).is_some() == holds) {
                let Some(group) = self.own_group(&groups, &census, occupant) else { continue };
                if let Err(why) = group.set(self.kernel.as_ref(), scene, scene.holds(occupant)) {
                    problems.insert(occupant.workload.clone(), format!("container '{}': {why}", occupant.container));
                }
            }
        }
        problems.extend(self.settle_threads(&groups, scene));
        problems
    }

    fn groups(&self) -> Cgroups {
        self.groups.clone().or_else(|| Cgroups::read().ok()).unwrap_or_default()
    }

    /// The container's own group where it has a cpuset.
    fn own_group(&self, groups: &Cgroups, census: &Census, occupant: &Occupant) -> Option<Group> {
        let path = Some(occupant.group.as_str()).filter(|path| !path.trim_matches('/').is_empty())?;
        let dir = groups.dir("cpuset", path).filter(|dir| dir.join(CPUS).is_file())?;
        let first = census.process(occupant.pid)?.group("cpuset")?;
        census::is_below(first, path).then(|| Group { dir, is_unified: groups.is_unified("cpuset") })
    }

    /// Moves threads until a look at all of them finds none to be moved.
    fn settle_threads(&self, groups: &Cgroups, scene: &Scene) -> Problems {
        let mut fresh: BTreeSet<i32> = BTreeSet::new();
        let mut problems = Problems::new();
        for _ in 0..MOST_PASSES {
            problems.clear();
            let mut moved = 0;
            let census = Census::take(&self.proc);
            let owners = census.owners(&scene.occupants, self.own);
            let mut seen = BTreeSet::new();
            for process in census.processes() {
                let occupant = match owners.get(&process.pid) {
                    Some(Owner::Occupant(place)) => Some(&scene.occupants[*place]),
                    Some(Owner::Supervisor) => None,
                    Some(Owner::Foreign) | None => continue,
                };
                seen.extend(occupant.map(|occupant| occupant.container.as_str()));
                let held = occupant.and_then(|occupant| scene.holds(occupant));
                let most = most_of(groups, process, &scene.online);
                let is_fresh = occupant.is_some_and(|occupant| scene.fresh.contains(&occupant.container));
                for (thread, folder) in census::threads(&self.proc, process.pid) {
                    let Some(now) = census::allowed(&folder) else { continue };
                    let wanted = match held {
                        // A mask that it was given before it was here may be less than what it holds.
                        Some(cpus) if is_fresh && fresh.insert(thread) => Some(cpus.clone()),
                        Some(cpus) => (!now.is_within(cpus)).then(|| cpus.clone()),
                        None => scene.thread_off(&now, &most),
                    };
                    let Some(wanted) = wanted.filter(|wanted| *wanted != now && !wanted.is_empty()) else { continue };
                    moved += 1;
                    let owner = occupant.map(|occupant| occupant.workload.clone()).unwrap_or_default();
                    let failed = self.kernel.set_affinity(thread, &wanted).err();
                    // One that has ended meanwhile runs nowhere.
                    let failed = failed.filter(|error| error.raw_os_error() != Some(nix::libc::ESRCH));
                    let why = failed.map_or_else(|| format!("stays on {now}"), |error| error.to_string());
                    problems.insert(owner, format!("thread {thread} of '{}': {why}", process.name));
                }
            }
            if moved == 0 {
                let held = scene.occupants.iter().filter(|occupant| scene.holds(occupant).is_some());
                for lost in held.filter(|occupant| !seen.contains(occupant.container.as_str())) {
                    let why = format!("container '{}' has no process on this machine", lost.container);
                    problems.insert(lost.workload.clone(), why);
                }
                return problems;
            }
        }
        problems
    }

    /// Who else may run on exclusive CPUs: told, and left alone.
    pub fn foreign(&self, scene: &Scene) -> Vec<Foreign> {
        let census = Census::take(&self.proc);
        let owners = census.owners(&scene.occupants, self.own);
        let is_foreign = |process: &&Process| owners.get(&process.pid) == Some(&Owner::Foreign);
        let there = census.processes().filter(is_foreign).filter_map(|process| {
            let threads = census::threads(&self.proc, process.pid);
            let allowed = threads.iter().filter_map(|(_, folder)| census::allowed(folder));
            let cpus = allowed.fold(CpuSet::new(), |all, one| all.and(&one)).within(&scene.exclusive);
            (!cpus.is_empty()).then(|| Foreign { pid: process.pid, name: process.name.clone(), cpus })
        });
        there.take(MOST_FOREIGN).collect()
    }
}

/// The CPUs that a process could have where it is.
fn most_of(groups: &Cgroups, process: &Process, online: &CpuSet) -> CpuSet {
    let dir = process.group("cpuset").and_then(|path| groups.dir("cpuset", path));
    let found = dir.and_then(|dir| Group { dir, is_unified: groups.is_unified("cpuset") }.effective());
    found.map(|cpus| cpus.within(online)).filter(|cpus| !cpus.is_empty()).unwrap_or_else(|| online.clone())
}

/// A group with a cpuset.
struct Group {
    dir: PathBuf,
    is_unified: bool,
}

impl Group {
    fn read(dir: &Path, file: &str) -> Option<CpuSet> {
        cgroup::text(&dir.join(file))?.parse().ok()
    }

    /// The CPUs that are in force.
    fn effective(&self) -> Option<CpuSet> {
        let file = if self.is_unified { "cpuset.cpus.effective" } else { "cpuset.effective_cpus" };
        Self::read(&self.dir, file).or_else(|| Self::read(&self.dir, CPUS))
    }

    fn parent(&self) -> Option<Self> {
        self.dir.parent().map(|dir| Self { dir: dir.to_owned(), is_unified: self.is_unified })
    }

    /// Gives it what it holds or, where that is nothing, what is left; read back.
    fn set(&self, kernel: &dyn Kernel, scene: &Scene, held: Option<&CpuSet>) -> Result<(), String> {
        let own = Self::read(&self.dir, CPUS).unwrap_or_default();
        let most = self.parent().and_then(|parent| parent.effective()).unwrap_or_else(|| scene.online.clone());
        let most = most.within(&scene.online);
        let now = if own.is_empty() { most.clone() } else { own.clone() };
        let wanted = held.cloned().unwrap_or_else(|| scene.off(&now, &most).within(&most));
        if wanted.is_empty() || wanted == now {
            return Ok(());
        }
        // On version 2 a group without CPUs of its own has those of the group above, whatever becomes of them.
        let inherits = self.is_unified && held.is_none() && wanted == most;
        let text = if inherits { "\n".to_owned() } else { wanted.to_string() };
        self.write(kernel, &text, &own, &wanted)
            .map_err(|error| format!("'{}' does not take {wanted}: {error}", self.dir.join(CPUS).display()))?;
        match self.effective() {
            Some(effective) if effective.is_within(&wanted) => Ok(()),
            effective => {
                let effective = effective.unwrap_or_default();
                Err(format!("'{}' has {} and not {wanted}", self.dir.join(CPUS).display(), effective.shown()))
            }
        }
    }

    fn write(&self, kernel: &dyn Kernel, text: &str, before: &CpuSet, wanted: &CpuSet) -> io::Result<()> {
        match self.is_unified {
            true => kernel.write(&self.dir.join(CPUS), text),
            false => write_with_those_below(kernel, &self.dir, before, wanted, MOST_DEPTH),
        }
    }
}

/// On version 1 each group has CPUs of its own, and never one that the group above has not. Those below that had all that
/// this one had have that afterwards, too.
fn write_with_those_below(
    kernel: &dyn Kernel,
    dir: &Path,
    before: &CpuSet,
    wanted: &CpuSet,
    depth: usize,
) -> io::Result<()> {
    let below: Vec<_> = if depth > 0 { below(dir) } else { Vec::new() };
    let own = dir.join(CPUS);
    if !below.is_empty() && !wanted.is_within(before) {
        kernel.write(&own, &before.and(wanted).to_string())?;
    }
    for (folder, cpus) in below.iter().filter(|(_, cpus)| !cpus.is_empty() && !cpus.is_within(wanted)) {
        let rest = Some(cpus.within(wanted)).filter(|rest| !rest.is_empty());
        write_with_those_below(kernel, folder, cpus, rest.as_ref().unwrap_or(wanted), depth - 1)?;
    }
    kernel.write(&own, &wanted.to_string())?;
    for (folder, _) in below.iter().filter(|(_, cpus)| cpus == before) {
        let now = Group::read(folder, CPUS).unwrap_or_default();
        if now != *wanted {
            write_with_those_below(kernel, folder, &now, wanted, depth - 1)?;
        }
    }
    Ok(())
}

fn below(dir: &Path) -> Vec<(PathBuf, CpuSet)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.filter_map(|entry| Some((entry.path(), Group::read(&entry.path(), CPUS)?))).collect()
}

#[cfg(test)]
mod tests;
