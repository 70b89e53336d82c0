//! Processes of engines' helpers, as `/proc` shows them: found by their command line, ended with all their children, and
//! control groups thawed that such a helper had frozen.
//!
//! For adapters whose engine leaves a helper (runc, crun, CRIU) alone when a call is over. Needs the rights and the
//! process namespace of the engine; where they are missing nothing is found.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cgroup::Cgroups;

/// How often a tree is looked at again: what is about to be stopped may just have made a child.
const ROUNDS: usize = 20;

/// So many looks in a row that find nobody new find all.
const QUIET: usize = 2;

/// Between two looks.
const SETTLE: Duration = Duration::from_millis(1);

/// The parent of each process.
fn parents() -> BTreeMap<i32, i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeMap::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| Some((pid, parent(pid)?))).collect()
}

/// The process's parent; `None` where it is gone or has ended.
fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may have any characters, parentheses too.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(parent)
}

fn words(pid: i32) -> Vec<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// Which of the processes that a search finds are killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Which {
    /// All of them.
    All,
    /// Those in a process namespace below our own: a container's, whose maker then ends by itself and tidies up.
    Inner,
}

impl Which {
    fn is_meant(self, pid: i32) -> bool {
        let status = || fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let is_inner = |status: String| {
            let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
            numbers.is_some_and(|numbers| numbers.split_whitespace().count() > 1)
        };
        self == Self::All || is_inner(status())
    }
}

/// Kills every process whose command line fits, with all that come from it, as far as they are meant. Says how many
/// were killed.
pub fn end_trees(which: Which, fits: impl Fn(&[String]) -> bool) -> usize {
    end(which, |pid| fits(&words(pid)))
}

/// Kills a process with all that come from it.
pub fn end_tree(pid: i32) -> usize {
    end(Which::All, |found| found == pid)
}

fn end(which: Which, is_root: impl Fn(i32) -> bool) -> usize {
    let mut killed = BTreeSet::new();
    for _ in 0..ROUNDS {
        let (meant, others): (BTreeSet<i32>, BTreeSet<i32>) =
            stop_trees(&is_root).into_iter().partition(|pid| which.is_meant(*pid));
        let send = |pid: i32, signal: Signal| kill(Pid::from_raw(pid), signal).is_ok();
        let ended = meant.iter().filter(|pid| send(**pid, Signal::SIGKILL));
        killed.extend(ended.copied());
        for pid in others {
            send(pid, Signal::SIGCONT);
        }
        if meant.is_empty() {
            break;
        }
    }
    killed.len()
}

/// Stops those processes with all that come from them: what is stopped makes no children, so that none of them loses its
/// parent, by which it is found, before it is found.
fn stop_trees(is_root: &impl Fn(i32) -> bool) -> BTreeSet<i32> {
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let mut stopped = BTreeSet::new();
    // A signal takes a moment, in which one may still make a child.
    let mut quiet = 0;
    for _ in 0..ROUNDS {
        let parents = parents();
        let mut tree: BTreeSet<i32> =
            parents.keys().copied().filter(|pid| *pid != own && (stopped.contains(pid) || is_root(*pid))).collect();
        loop {
            let is_more = |(pid, parent): &(&i32, &i32)| tree.contains(parent) && !tree.contains(pid) && **pid != own;
            let more: Vec<i32> = parents.iter().filter(is_more).map(|(pid, _)| *pid).collect();
            if more.is_empty() {
                break;
            }
            tree.extend(more);
        }
        let new: Vec<i32> = tree.difference(&stopped).copied().collect();
        if tree.is_empty() {
            break;
        }
        quiet = if new.is_empty() { quiet + 1 } else { 0 };
        if quiet == QUIET {
            break;
        }
        for pid in new {
            // It may have ended.
            let _ = kill(Pid::from_raw(pid), Signal::SIGSTOP);
            stopped.insert(pid);
        }
        std::thread::sleep(SETTLE);
    }
    stopped
}

/// The cgroup of a process as the kernel tells it; empty where there is none such.
pub fn group_of(pid: i32) -> String {
    group_in(&fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default())
}

/// From `/proc/PID/cgroup`: version 2's path, or on a hybrid tree that of the memory controller.
fn group_in(text: &str) -> String {
    let entries = || text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let memory = entries().find(|(controllers, _)| controllers.split(',').any(|name| name == "memory"));
    let found = memory.or_else(|| entries().find(|(controllers, _)| controllers.is_empty()));
    found.map(|(_, path)| path.to_owned()).unwrap_or_default()
}

/// Whether the process is in this control group, or in one below it.
pub fn is_in_group(pid: i32, group: &str) -> bool {
    is_of_group(&fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default(), group)
}

/// Whether a process with these groups (as `/proc/PID/cgroup` has them) is in the group or below it, in some hierarchy.
fn is_of_group(groups: &str, own: &str) -> bool {
    let mut paths = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths.any(|path| path.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

/// The present boot of the machine; empty where the kernel does not say.
pub fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Thaws the control group of the process, on either version of control groups.
pub fn thaw_group_of(pid: i32) {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let Ok(mounted) = Cgroups::read() else { return };
    if let Some(group) = freezer_group(&groups, &mounted)
        && let Err(error) = mounted.thaw(group)
    {
        log::warn!("control group '{group}' could not be thawed: {error}");
    }
}

/// The group by which the process is frozen, from its `/proc/PID/cgroup`.
fn freezer_group<'a>(groups: &'a str, mounted: &Cgroups) -> Option<&'a str> {
    let mut entries = groups.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let is_it = |controllers: &str| match mounted.is_unified("freezer") {
        true => controllers.is_empty(),
        false => controllers.split(',').any(|name| name == "freezer"),
    };
    entries.find(|(controllers, _)| is_it(controllers)).map(|(_, group)| group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tree_is_ended_with_its_children_and_nothing_else() {
        let mark = format!("end-trees-{}", std::process::id());
        let script = "sleep 1000 & sleep 1000; :";
        let tree = || std::process::Command::new("sh").args(["-c", script, &mark]).spawn().unwrap();
        let mut child = tree();
        assert_eq!(end_trees(Which::Inner, |words| words.contains(&mark)), 0, "it is in no namespace of its own");
        let mut other = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let of_tree = || parents().into_iter().filter(|(_, parent)| *parent == pid).count();
        while of_tree() < 2 {
            std::thread::yield_now();
        }
        let fits = |words: &[String]| words.last().is_some_and(String::is_empty) && words.contains(&mark);
        assert!(end_trees(Which::All, fits) >= 3);
        assert!(!child.wait().unwrap().success());
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(end_trees(Which::All, fits), 0);
    }

    #[test]
    fn children_that_are_made_meanwhile_are_ended_with_the_rest() {
        for round in 0..5 {
            let time = format!("1000.{}{round}", std::process::id());
            let script = "for i in $(seq 200); do sleep $0 & done; wait";
            let mut child = std::process::Command::new("sh").args(["-c", script, &time]).spawn().unwrap();
            let pid = i32::try_from(child.id()).unwrap();
            while parents().into_values().filter(|parent| *parent == pid).count() < 5 {
                std::thread::yield_now();
            }
            end_tree(pid);
            child.wait().unwrap();
            let left = || parents().into_keys().filter(|pid| words(*pid).contains(&time)).count();
            let limit = crate::clock::Deadline::after(Duration::from_secs(20));
            while left() > 0 && !limit.is_over() {
                std::thread::sleep(SETTLE);
            }
            assert_eq!(left(), 0, "round {round}");
        }
    }

    #[test]
    fn cgroup_is_found_on_both_trees() {
        assert_eq!(group_in("0::/libpod/x\n"), "/libpod/x");
        assert_eq!(group_in("5:cpu,cpuacct:/c\n4:memory:/m\n0::/u\n"), "/m");
        assert_eq!(group_in(""), "");
    }

    #[test]
    fn process_is_of_a_group_in_it_and_below_it() {
        let own = "/actioncontroller/ab";
        for groups in
            ["0::/actioncontroller/ab", "9:pids:/actioncontroller/ab\n0::/", "0::/actioncontroller/ab/init.scope"]
        {
            assert!(is_of_group(groups, own), "{groups}");
        }
        for groups in ["", "0::/", "0::/actioncontroller/abc", "0::/x/actioncontroller/ab"] {
            assert!(!is_of_group(groups, own), "{groups}");
        }
    }

    #[test]
    fn freezer_is_found_on_either_version_of_control_groups() {
        let hybrid = Cgroups::of("cgroup /cg/freezer cgroup rw,freezer 0 0\ncgroup2 /cg/unified cgroup2 rw 0 0\n");
        assert_eq!(freezer_group("7:freezer:/a/b\n0::/c\n", &hybrid), Some("/a/b"));
        let pure = Cgroups::of("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n");
        assert_eq!(freezer_group("0::/a/b\n", &pure), Some("/a/b"));
        assert_eq!(freezer_group("", &pure), None);
    }
}
