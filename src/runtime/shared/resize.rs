//! Limits of what runs, changed with no restart: the engine is told, and the control group is believed.
//!
//! Engines answer that they have done it and have not: what they tell of a container afterwards is what they were asked
//! for, or what it was made with.

use std::fs;
use std::path::PathBuf;

use super::calls::not_allowed;
use super::fields::{self, DEFAULT_SHARES, Limits};
use crate::cgroup::{self, Cgroups};
use crate::model::resources::Resources;
use crate::model::state::ContainerStatus;
use crate::runtime::adapter::{Change, ContainerInstance, LimitsInForce, RtResult, RuntimeError, unsupported};

/// Version 1 tells no limit as the largest number of pages.
const ENDLESS: u64 = 1 << 62;

/// The kernel rounds memory down to whole pages, which have at most so many bytes.
const LARGEST_PAGE: u64 = 64 * 1024;

/// What an engine is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resized {
    /// The limits; those that are `None` stay.
    pub limits: Limits,
    /// Memory and swap together, bytes, where the group has such a limit: the room for swap stays what it was. -1 where
    /// there is none.
    pub memory_and_swap: i64,
    /// Whether the group has such a limit.
    pub has_swap_limit: bool,
}

/// Changes what is asked and differs, by telling the engine. What does not take effect is refused by name, and what was
/// changed by then is changed back.
pub fn resize(
    container: &ContainerInstance,
    asked: &Resources,
    force: bool,
    tell: impl Fn(&Resized) -> RtResult<()>,
) -> RtResult<Change> {
    resize_in(&read_groups()?, container, asked, force, tell)
}

fn resize_in(
    groups: &Cgroups,
    container: &ContainerInstance,
    asked: &Resources,
    force: bool,
    tell: impl Fn(&Resized) -> RtResult<()>,
) -> RtResult<Change> {
    let wanted = fields::changed_limits(asked)?;
    if !container.status.is_running() && container.status != ContainerStatus::Paused {
        return Err(not_allowed("resize", &container.id, &container.status));
    }
    if container.cgroup_path.is_empty() {
        return Err(unsupported(
            &container.engine,
            "changing limits of a container whose control group it does not tell",
        ));
    }
    if groups.is_unified("memory") && wanted.memory_reservation.is_some_and(|bytes| bytes < 0) {
        // Engines would make it the largest one.
        return Err(unsupported(&container.engine, "taking resources.memory_reservation_bytes away on version 2"));
    }
    let group = Group { groups, path: &container.cgroup_path };
    let before = group.limits();
    if differing(&before, &wanted, groups).is_none() {
        return Ok(Change::Unchanged);
    }
    if let (Some(limit), Some(used)) = (wanted.memory, group.memory_in_use())
        && (0..i64::try_from(used).unwrap_or(i64::MAX)).contains(&limit)
        && !force
    {
        let reason = format!("resources.memory_bytes: {limit} is below what '{}' uses now, {used}", container.name);
        return Err(RuntimeError::InvalidSpec { reason });
    }
    let told = tell(&group.resized(wanted)).and_then(|()| match differing(&group.limits(), &wanted, groups) {
        None => Ok(Change::Changed),
        Some(field) => Err(unsupported(&container.engine, format!("changing resources.{field} of what runs"))),
    });
    if told.is_err() {
        let back = tell(&group.resized(restored(&before, &wanted, groups)))
            .and_then(|()| group.restore_files(&before, &wanted));
        if let Err(error) = back {
            log::warn!("container '{}': limits that were changed in part stay so: {error}", container.name);
        }
    }
    told
}

/// The limits that a container has, and which of those that it shall have it has otherwise; `None` where it has no control
/// group that can be seen.
pub fn in_force(container: &ContainerInstance, wanted: &Resources) -> RtResult<Option<LimitsInForce>> {
    let groups = read_groups()?;
    if container.cgroup_path.is_empty() || !container.status.is_live() {
        return Ok(None);
    }
    let group = Group { groups: &groups, path: &container.cgroup_path };
    let has = group.limits();
    let wanted = fields::limits(wanted)?;
    let positive = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0);
    let shares = match groups.is_unified("cpu") {
        false => has.cpu_shares,
        // Which shares a weight stands for is told by those that were asked for.
        true => {
            wanted.cpu_shares.filter(|shares| has.cpu_shares.is_some_and(|weight| weights(*shares).contains(&weight)))
        }
    };
    let limits = Resources {
        cpu_millis: has.cpu.and_then(|(quota, period)| Some(positive(Some(quota))? * 1000 / period.max(1))),
        cpu_shares: shares,
        memory_bytes: positive(has.memory),
        memory_reservation_bytes: positive(has.memory_reservation),
        pids: positive(has.pids),
    };
    Ok(Some(LimitsInForce { limits, drifted: all_differing(&has, &wanted, &groups).collect() }))
}

fn read_groups() -> RtResult<Cgroups> {
    Cgroups::read()
        .map_err(|error| RuntimeError::Io { what: "reading control groups".to_owned(), reason: error.to_string() })
}

/// What was there before, as far as it was to be changed and engines can be told: a weight of version 2 is no share, and no
/// protection of memory there is no number that they take.
fn restored(before: &Limits, wanted: &Limits, groups: &Cgroups) -> Limits {
    // -1 is without limit for engines as for the kernel.
    let back = |before: Option<i64>, wanted: Option<i64>| wanted.map(|_| before.unwrap_or(-1));
    Limits {
        cpu: wanted.cpu.map(|(_, period)| before.cpu.unwrap_or((-1, period))),
        cpu_shares: wanted
            .cpu_shares
            .filter(|_| !groups.is_unified("cpu"))
            .map(|_| before.cpu_shares.unwrap_or(DEFAULT_SHARES)),
        memory: back(before.memory, wanted.memory),
        memory_reservation: back(before.memory_reservation, wanted.memory_reservation)
            .filter(|_| !groups.is_unified("memory")),
        pids: back(before.pids, wanted.pids),
    }
}

/// The first field of what is wanted that the group has otherwise.
fn differing(actual: &Limits, wanted: &Limits, groups: &Cgroups) -> Option<&'static str> {
    all_differing(actual, wanted, groups).next()
}

fn all_differing(actual: &Limits, wanted: &Limits, groups: &Cgroups) -> impl Iterator<Item = &'static str> + use<> {
    let is = |actual: Option<i64>, wanted: Option<i64>| match wanted {
        None => true,
        Some(wanted) if wanted < 0 => actual.is_none(),
        Some(_) => actual == wanted,
    };
    // Of the least memory, version 2 has 0 where there is none.
    let is_memory = |actual: Option<i64>, wanted: Option<i64>| {
        let Some(wanted) = wanted else { return true };
        if wanted < 0 {
            return actual.is_none_or(|actual| actual == 0);
        }
        actual.is_some_and(|actual| actual <= wanted && actual.abs_diff(wanted) < LARGEST_PAGE)
    };
    let is_weight = wanted.cpu_shares.is_none_or(|shares| match groups.is_unified("cpu") {
        true => actual.cpu_shares.is_some_and(|weight| weights(shares).contains(&weight)),
        false => actual.cpu_shares == Some(shares),
    });
    let is_quota = match wanted.cpu {
        None => true,
        Some((quota, _)) if quota < 0 => actual.cpu.is_none(),
        Some(_) => actual.cpu == wanted.cpu,
    };
    let fields = [
        ("cpu_millis", is_quota),
        ("cpu_shares", is_weight),
        ("memory_bytes", is_memory(actual.memory, wanted.memory)),
        ("memory_reservation_bytes", is_memory(actual.memory_reservation, wanted.memory_reservation)),
        ("pids", is(actual.pids, wanted.pids)),
    ];
    fields.into_iter().filter(|(_, is_so)| !is_so).map(|(field, _)| field)
}

/// The weights of version 2 that stand for shares of version 1: runtimes took a line at first, and since 2025 a curve that
/// maps the default of one to the default of the other.
///
/// Source: `ConvertCPUSharesToCgroupV2Value` of runc's cgroups 0.0.1 and 0.0.4, `crun` 1.8 and 1.21.
fn weights(shares: u64) -> [u64; 2] {
    if shares <= 2 {
        return [1, 1];
    }
    let line = 1 + shares.saturating_sub(2).saturating_mul(9_999) / 262_142;
    let log = (shares as f64).log2();
    let curve = 10_f64.powf((log * log + 125.0 * log) / 612.0 - 7.0 / 34.0).ceil();
    [line.min(10_000), (curve as u64).min(10_000)]
}

/// A container's group.
struct Group<'a> {
    groups: &'a Cgroups,
    path: &'a str,
}

impl Group<'_> {
    fn file(&self, controller: &str, name: &str) -> Option<PathBuf> {
        self.groups.dir(controller, self.path).map(|dir| dir.join(name))
    }

    /// A number of the file that each version has for it; `None` without limit.
    fn number(&self, controller: &str, old: &str, new: &str) -> Option<u64> {
        let name = if self.groups.is_unified(controller) { new } else { old };
        cgroup::number(&self.file(controller, name)?).filter(|number| *number < ENDLESS)
    }

    fn signed(&self, controller: &str, old: &str, new: &str) -> Option<i64> {
        self.number(controller, old, new).and_then(|number| i64::try_from(number).ok())
    }

    /// Quota and period, microseconds.
    fn cpu(&self) -> Option<(i64, u64)> {
        if self.groups.is_unified("cpu") {
            let text = cgroup::text(&self.file("cpu", "cpu.max")?)?;
            let (quota, period) = text.split_once(' ')?;
            return Some((quota.parse().ok()?, period.parse().ok()?));
        }
        let period = cgroup::number(&self.file("cpu", "cpu.cfs_period_us")?)?;
        Some((self.signed("cpu", "cpu.cfs_quota_us", "")?, period))
    }

    /// What it has. `cpu_shares` is the weight where the controller is version 2's.
    fn limits(&self) -> Limits {
        Limits {
            cpu: self.cpu(),
            cpu_shares: self.number("cpu", "cpu.shares", "cpu.weight"),
            memory: self.signed("memory", "memory.limit_in_bytes", "memory.max"),
            memory_reservation: self.signed("memory", "memory.soft_limit_in_bytes", "memory.low"),
            pids: self.signed("pids", "pids.max", "pids.max"),
        }
    }

    /// Bytes that cannot be taken away without harm.
    fn memory_in_use(&self) -> Option<u64> {
        let (used, cached) = match self.groups.is_unified("memory") {
            true => ("memory.current", "file"),
            false => ("memory.usage_in_bytes", "total_cache"),
        };
        let cached = cgroup::keyed(&self.file("memory", "memory.stat")?, cached).unwrap_or(0);
        Some(cgroup::number(&self.file("memory", used)?)?.saturating_sub(cached))
    }

    /// Of version 2, what engines cannot be told.
    fn restore_files(&self, before: &Limits, wanted: &Limits) -> RtResult<()> {
        let write = |controller: &str, name: &str, value: String| {
            let Some(file) = self.file(controller, name) else { return Ok(()) };
            fs::write(&file, value).map_err(|error| RuntimeError::Io {
                what: format!("writing '{}'", file.display()),
                reason: error.to_string(),
            })
        };
        if let (true, Some(weight)) = (self.groups.is_unified("cpu") && wanted.cpu_shares.is_some(), before.cpu_shares)
        {
            write("cpu", "cpu.weight", weight.to_string())?;
        }
        if self.groups.is_unified("memory") && wanted.memory_reservation.is_some() {
            write("memory", "memory.low", before.memory_reservation.unwrap_or(0).to_string())?;
        }
        Ok(())
    }

    fn resized(&self, limits: Limits) -> Resized {
        let room = match self.groups.is_unified("memory") {
            true => self.signed("memory", "", "memory.swap.max"),
            false => {
                let both = self.signed("memory", "memory.memsw.limit_in_bytes", "");
                both.and_then(|both| Some(both.saturating_sub(self.limits().memory?)))
            }
        };
        let both =
            limits.memory.filter(|memory| *memory > 0).zip(room).map(|(memory, room)| memory.saturating_add(room));
        Resized { limits, memory_and_swap: both.unwrap_or(-1), has_swap_limit: room.is_some() }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// A group as version 2 has it, in a folder.
    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new() -> Self {
            let tree = Self(tempfile::tempdir().unwrap());
            let files = [
                ("cpu.max", "max 100000"),
                ("cpu.weight", "100"),
                ("memory.max", "50331648"),
                ("memory.current", "9000000"),
                ("memory.stat", "anon 5000000\nfile 1000000"),
                ("memory.swap.max", "1048576"),
                ("pids.max", "max"),
            ];
            files.into_iter().for_each(|(name, value)| tree.write(name, value));
            tree
        }

        fn write(&self, name: &str, value: &str) {
            fs::write(self.0.path().join(name), value).unwrap();
        }

        fn groups(&self) -> Cgroups {
            Cgroups::of(&format!("c {} cgroup2 rw 0 0\n", self.0.path().display()))
        }
    }

    fn container(status: ContainerStatus) -> ContainerInstance {
        ContainerInstance {
            id: "1".to_owned(),
            name: "w".to_owned(),
            engine: "some".to_owned(),
            status,
            image: String::new(),
            labels: Default::default(),
            annotations: Default::default(),
            ports: Vec::new(),
            ips: Vec::new(),
            pid: 7,
            cgroup_path: "/".to_owned(),
            created_ms: 0,
            started_ms: 0,
            finished_ms: 0,
        }
    }

    fn running() -> ContainerInstance {
        container(ContainerStatus::Running { health: Default::default() })
    }

    #[test]
    fn what_differs_is_told_and_read_back() {
        let tree = Tree::new();
        let asked = Resources { memory_bytes: Some(64 << 20), pids: Some(9), ..Resources::default() };
        let told = RefCell::new(Vec::new());
        let tell = |resized: &Resized| {
            told.borrow_mut().push(*resized);
            tree.write("memory.max", "67108864");
            tree.write("pids.max", "9");
            Ok(())
        };
        assert_eq!(resize_in(&tree.groups(), &running(), &asked, false, tell), Ok(Change::Changed));
        assert_eq!(resize_in(&tree.groups(), &running(), &asked, false, tell), Ok(Change::Unchanged));
        let told = told.into_inner();
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].limits.memory, told[0].memory_and_swap), (Some(64 << 20), (64 << 20) + 1_048_576));
    }

    #[test]
    fn what_takes_no_effect_is_refused_by_name_and_the_rest_taken_back() {
        let tree = Tree::new();
        let asked = Resources { cpu_millis: Some(500), cpu_shares: Some(512), pids: Some(9), ..Resources::default() };
        let tell = |resized: &Resized| {
            tree.write("cpu.weight", "20");
            let pids = resized.limits.pids.unwrap();
            tree.write("pids.max", if pids < 0 { "max".to_owned() } else { pids.to_string() }.as_str());
            Ok(())
        };
        let error = resize_in(&tree.groups(), &running(), &asked, false, tell).unwrap_err();
        assert_eq!(error, unsupported("some", "changing resources.cpu_millis of what runs"));
        let has = |name: &str| fs::read_to_string(tree.0.path().join(name)).unwrap();
        assert_eq!((has("pids.max"), has("cpu.weight")), ("max".to_owned(), "100".to_owned()));
    }

    #[test]
    fn memory_below_what_is_used_is_refused_and_nothing_is_told() {
        let tree = Tree::new();
        let asked = Resources { memory_bytes: Some(7_000_000), ..Resources::default() };
        let tell = |_: &Resized| panic!("told");
        let error = resize_in(&tree.groups(), &running(), &asked, false, tell).unwrap_err();
        assert!(matches!(&error, RuntimeError::InvalidSpec { reason } if reason.contains("8000000")), "{error}");
    }

    #[test]
    fn only_what_runs_is_resized() {
        let tree = Tree::new();
        let asked = Resources { pids: Some(9), ..Resources::default() };
        let tell = |_: &Resized| panic!("told");
        for status in [ContainerStatus::Created, ContainerStatus::Exited { code: Some(0), oom: false }] {
            let error = resize_in(&tree.groups(), &container(status), &asked, false, tell).unwrap_err();
            assert!(matches!(error, RuntimeError::InvalidState { .. }), "{error}");
        }
    }

    #[test]
    fn shares_and_weights_are_held_against_each_other() {
        assert_eq!(weights(1024), [39, 100]);
        assert_eq!(weights(2), [1, 1]);
        assert_eq!(weights(262_144), [10_000, 10_000]);
        let old = Cgroups::of("c /nowhere cgroup rw,cpu 0 0\n");
        let new = Cgroups::of("c /nowhere cgroup2 rw 0 0\n");
        let of = |cpu_shares| Limits { cpu_shares: Some(cpu_shares), ..Limits::default() };
        assert_eq!(differing(&of(1024), &of(1024), &old), None);
        assert_eq!(differing(&of(39), &of(1024), &new), None);
        assert_eq!(differing(&of(40), &of(1024), &new), Some("cpu_shares"));
    }
}
