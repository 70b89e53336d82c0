//! Whether tasks can be scheduled at all, before anybody is asked to: what one task says of itself, what a CPU is used
//! for, and after how long the whole repeats. Pure.
//!
//! The bounds are those of timpani-o (May 2026): 90 % of a CPU, which is configured, and an hour of hyperperiod. What is
//! refused here would be refused there without a reason, or not work. What is let through may still be refused: which CPU
//! a task gets that may run on several is the scheduler's choice, so only what no choice could make fit is refused.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::schedule::{Schedule, Task, TaskPolicy};

/// The longest name of a thread, bytes: the kernel's.
pub const MOST_NAME: usize = 15;

/// The longest hyperperiod, microseconds: an hour.
pub const MOST_HYPERPERIOD_US: u64 = 3_600_000_000;

/// Millionths of a percent: as fine as use is counted. It is rounded down, so that what just fits is let through.
const FINE: u128 = 1_000_000;

/// Why tasks cannot be scheduled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Inadmissible {
    /// There are none.
    #[error("it has no tasks")]
    Empty,
    /// A task's field has a value that makes no sense, or none beside its others.
    #[error("task '{task}': {field} {what}")]
    Field {
        /// The task.
        task: String,
        /// Its place in the Schedule, from 0.
        index: usize,
        /// The document's field.
        field: &'static str,
        /// What is wrong, with the numbers.
        what: String,
    },
    /// Two tasks of a node have the same name, by which their misses are told.
    #[error("task '{task}' is on node '{node}' twice: give its threads names of their own")]
    Twice {
        /// The task.
        task: String,
        /// The node.
        node: String,
    },
    /// Schedules that would be merged release their tasks differently.
    #[error("it is not periodic or sporadic as Schedule '{first}' is, with which it would be merged")]
    Classes {
        /// The one that is held.
        first: String,
    },
    /// CPUs would be used for more than is allowed.
    #[error("{cpus} of node '{node}' would be used to {} %, at most {limit} % are allowed: {}", percent(*used), tasks.join(", "))]
    Overused {
        /// Which CPUs.
        cpus: String,
        /// The node.
        node: String,
        /// To how many millionths of a percent of one CPU each.
        used: u128,
        /// What is allowed, percent.
        limit: u32,
        /// The tasks that can run nowhere else, each with its own use.
        tasks: Vec<String>,
    },
    /// The tasks repeat together only after too long.
    #[error(
        "its tasks repeat together after more than {} s with the period of {period_us} µs of task '{task}': choose periods of which one divides the other",
        MOST_HYPERPERIOD_US / 1_000_000
    )]
    Hyperperiod {
        /// The task with which it is too long.
        task: String,
        /// That task's period.
        period_us: i32,
    },
}

impl Inadmissible {
    /// Whether the document alone is wrong, whatever the node is like and whatever else is held.
    pub fn is_of_document(&self) -> bool {
        match self {
            Self::Empty | Self::Field { .. } | Self::Twice { .. } => true,
            Self::Classes { .. } | Self::Overused { .. } | Self::Hyperperiod { .. } => false,
        }
    }

    /// The place in the document, as a path; empty where it is about the whole.
    pub fn path(&self) -> String {
        match self {
            Self::Field { index, field, .. } => format!("spec[{index}].{field}"),
            Self::Classes { .. } => "temporal_class".to_owned(),
            Self::Empty | Self::Twice { .. } | Self::Overused { .. } | Self::Hyperperiod { .. } => "spec".to_owned(),
        }
    }
}

/// Refuses what cannot be scheduled where a CPU may be used to `limit` percent.
pub fn test(schedule: &Schedule, limit: u32) -> Result<(), Inadmissible> {
    if schedule.tasks.is_empty() {
        return Err(Inadmissible::Empty);
    }
    schedule.tasks.iter().enumerate().try_for_each(|(index, task)| check_task(index, task))?;
    let mut names = BTreeSet::new();
    for task in &schedule.tasks {
        if !names.insert((&task.node, &task.name)) {
            return Err(Inadmissible::Twice { task: task.name.clone(), node: task.node.clone() });
        }
    }
    check_hyperperiod(&schedule.tasks)?;
    check_use(&schedule.tasks, limit)
}

/// What one task says of itself.
fn check_task(index: usize, task: &Task) -> Result<(), Inadmissible> {
    let wrong = |field, what| Err(Inadmissible::Field { task: task.name.clone(), index, field, what });
    let length = task.name.len();
    if length > MOST_NAME {
        return wrong("name", format!("has {length} bytes, a thread's name has at most {MOST_NAME}"));
    }
    if task.period_us <= 0 {
        return wrong("period", format!("is {} µs and must be positive", task.period_us));
    }
    for (field, value) in
        [("release_time", task.release_us), ("runtime", task.runtime_us), ("deadline", task.deadline_us)]
    {
        if value < 0 {
            return wrong(field, format!("is {value} µs and must not be negative"));
        }
    }
    if task.max_misses < 0 {
        return wrong("max_dmiss", format!("is {} and must not be negative", task.max_misses));
    }
    if task.runtime_us > task.deadline_us {
        return wrong(
            "runtime",
            format!("of {} µs is longer than the deadline of {} µs", task.runtime_us, task.deadline_us),
        );
    }
    if task.deadline_us > task.period_us {
        return wrong(
            "deadline",
            format!("of {} µs is longer than the period of {} µs", task.deadline_us, task.period_us),
        );
    }
    let (priorities, policy) = match task.policy {
        // The kernel takes none of them; schedulers order tasks by them.
        TaskPolicy::Normal => (0..=99, "NORMAL"),
        TaskPolicy::Fifo => (1..=99, "FIFO"),
        TaskPolicy::RoundRobin => (1..=99, "RR"),
    };
    if !priorities.contains(&task.priority) {
        let (low, high) = (priorities.start(), priorities.end());
        return wrong("priority", format!("is {} and must be {low} to {high} for policy {policy}", task.priority));
    }
    Ok(())
}

fn check_hyperperiod(tasks: &[Task]) -> Result<(), Inadmissible> {
    let mut all: u64 = 1;
    for task in tasks {
        // Checked to be positive.
        let period = u64::try_from(task.period_us).unwrap_or(1).max(1);
        let multiple = (all / gcd(all, period)).checked_mul(period).filter(|multiple| *multiple <= MOST_HYPERPERIOD_US);
        let Some(multiple) = multiple else {
            return Err(Inadmissible::Hyperperiod { task: task.name.clone(), period_us: task.period_us });
        };
        all = multiple;
    }
    Ok(())
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// How much of a CPU the task uses, millionths of a percent.
fn used(task: &Task) -> u128 {
    let positive = |value: i32| u128::try_from(value).unwrap_or_default();
    positive(task.runtime_us) * 100 * FINE / positive(task.period_us).max(1)
}

fn percent(used: u128) -> String {
    format!("{}.{}", used / FINE, used % FINE * 10 / FINE)
}

/// CPUs of one node that some task is bound to, and each task alone wherever it runs: what can run nowhere else must
/// fit there.
fn check_use(tasks: &[Task], limit: u32) -> Result<(), Inadmissible> {
    let mut masks: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    for task in tasks {
        masks.entry(&task.node).or_default().insert(mask(task));
    }
    for (node, masks) in masks {
        for bound in masks {
            let is_bound = |task: &&Task| task.node == node && mask(task) & !bound == 0;
            let within: Vec<&Task> = tasks.iter().filter(is_bound).collect();
            // How many CPUs another node has nobody here knows.
            let count = if bound == u64::MAX { None } else { Some(u128::from(bound.count_ones())) };
            let all: u128 = within.iter().map(|task| used(task)).sum();
            if let Some(count) = count.filter(|count| all > *count * u128::from(limit) * FINE) {
                let each = all / count.max(1);
                return Err(overused(cpus(bound), node, each, limit, &within));
            }
        }
    }
    let alone = tasks.iter().find(|task| used(task) > u128::from(limit) * FINE);
    match alone {
        Some(task) => Err(overused("a CPU".to_owned(), &task.node, used(task), limit, &[task])),
        None => Ok(()),
    }
}

/// The CPUs that the task may run on, a bit each; 0 is any, as is all of them.
fn mask(task: &Task) -> u64 {
    if task.cpu_affinity == 0 { u64::MAX } else { task.cpu_affinity }
}

fn cpus(mask: u64) -> String {
    let numbers: Vec<_> = (0..64).filter(|bit| mask >> bit & 1 == 1).map(|bit: u32| bit.to_string()).collect();
    match numbers.as_slice() {
        [one] => format!("CPU {one}"),
        several => format!("each of the CPUs {}", several.join(", ")),
    }
}

fn overused(cpus: String, node: &str, used_each: u128, limit: u32, tasks: &[&Task]) -> Inadmissible {
    let told = |task: &&Task| format!("'{}' {} %", task.name, percent(used(task)));
    let tasks = tasks.iter().map(told).collect();
    Inadmissible::Overused { cpus, node: node.to_owned(), used: used_each, limit, tasks }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn task(name: &str, period_us: i32, runtime_us: i32, cpu_affinity: u64) -> Task {
        Task {
            name: name.to_owned(),
            priority: 50,
            policy: TaskPolicy::Fifo,
            cpu_affinity,
            period_us,
            release_us: 0,
            runtime_us,
            deadline_us: period_us,
            node: "HPC".to_owned(),
            max_misses: 3,
        }
    }

    fn of(tasks: Vec<Task>) -> Schedule {
        Schedule { name: "s".to_owned(), tasks, sporadic: false }
    }

    fn refusal(tasks: Vec<Task>) -> String {
        test(&of(tasks), 90).unwrap_err().to_string()
    }

    #[test]
    fn field_that_makes_no_sense_is_refused_with_its_task_and_numbers() {
        let good = || task("lane", 20_000, 4_000, 4);
        assert_eq!(test(&of(vec![good()]), 90), Ok(()));
        assert_eq!(test(&of(Vec::new()), 90).unwrap_err(), Inadmissible::Empty);
        let cases: [(Task, &str, &str); 8] = [
            (Task { name: "sixteen-letters-".into(), ..good() }, "name", "has 16 bytes"),
            (Task { period_us: 0, ..good() }, "period", "is 0 µs"),
            (Task { release_us: -1, ..good() }, "release_time", "is -1 µs"),
            (Task { runtime_us: -5, ..good() }, "runtime", "is -5 µs"),
            (
                Task { runtime_us: 9, deadline_us: 8, ..good() },
                "runtime",
                "of 9 µs is longer than the deadline of 8 µs",
            ),
            (Task { deadline_us: 20_001, ..good() }, "deadline", "of 20001 µs is longer than the period of 20000 µs"),
            (Task { priority: 0, ..good() }, "priority", "is 0 and must be 1 to 99 for policy FIFO"),
            (Task { max_misses: -1, ..good() }, "max_dmiss", "is -1"),
        ];
        for (bad, field, text) in cases {
            let error = test(&of(vec![task("other", 10_000, 0, 0), bad.clone()]), 90).unwrap_err();
            assert_eq!(error.path(), format!("spec[1].{field}"));
            assert!(error.to_string().contains(&format!("task '{}': {field} {text}", bad.name)), "{error}");
        }
        let normal = Task { priority: 0, policy: TaskPolicy::Normal, ..good() };
        assert_eq!(test(&of(vec![normal]), 90), Ok(()));
    }

    #[test]
    fn cpu_that_is_used_for_more_than_allowed_is_refused_with_what_uses_it() {
        let full = vec![task("a", 1_000, 500, 4), task("b", 2_000, 900, 4)];
        assert_eq!(
            refusal(full),
            "CPU 2 of node 'HPC' would be used to 95.0 %, at most 90 % are allowed: 'a' 50.0 %, 'b' 45.0 %"
        );
        let (a, b) = (task("a", 1_000, 500, 4), task("b", 1_000, 400, 4));
        assert_eq!(test(&of(vec![a.clone(), b.clone()]), 90), Ok(()), "just as much as is allowed");
        let elsewhere = Task { node: "ZONE1".into(), ..task("c", 1_000, 500, 4) };
        assert_eq!(test(&of(vec![a.clone(), b.clone(), elsewhere]), 90), Ok(()));
        let wider = task("c", 1_000, 800, 12);
        assert_eq!(test(&of(vec![a.clone(), b.clone(), wider]), 90), Ok(()), "it has CPU 3");
        let both = refusal(vec![a, b, task("c", 1_000, 800, 12), task("d", 1_000, 200, 8)]);
        assert!(both.contains("each of the CPUs 2, 3 of node 'HPC' would be used to 95.0 %"), "{both}");
        assert!(refusal(vec![task("a", 1_000, 950, 0)]).starts_with("a CPU of node 'HPC' would be used to 95.0 %"));
    }

    #[test]
    fn tasks_that_hardly_ever_repeat_together_or_have_one_name_are_refused() {
        let odd = vec![task("a", 999_983, 1, 1), task("b", 1_000_003, 1, 1)];
        assert!(refusal(odd).contains("more than 3600 s with the period of 1000003 µs of task 'b'"));
        let huge: Vec<_> = [i32::MAX, i32::MAX - 1, i32::MAX - 18]
            .iter()
            .enumerate()
            .map(|(number, period)| task(&number.to_string(), *period, 1, 1))
            .collect();
        assert!(matches!(test(&of(huge), 90), Err(Inadmissible::Hyperperiod { .. })));
        assert!(refusal(vec![task("a", 1_000, 1, 1), task("a", 1_000, 1, 2)]).contains("'a' is on node 'HPC' twice"));
    }

    fn any_task() -> impl Strategy<Value = Task> {
        let number = || prop_oneof![any::<i32>(), -2..50_000_i32, Just(i32::MAX), Just(i32::MIN)];
        let policy = prop_oneof![Just(TaskPolicy::Normal), Just(TaskPolicy::Fifo), Just(TaskPolicy::RoundRobin)];
        ("[a-d]{0,17}", number(), policy, any::<u64>(), (number(), number(), number(), number()), number()).prop_map(
            |(name, priority, policy, cpu_affinity, (period_us, release_us, runtime_us, deadline_us), max_misses)| {
                Task {
                    name,
                    priority,
                    policy,
                    cpu_affinity,
                    period_us,
                    release_us,
                    runtime_us,
                    deadline_us,
                    node: "n".to_owned(),
                    max_misses,
                }
            },
        )
    }

    /// A task that nothing is wrong with, of a period that repeats soon with the others.
    fn sane_task(index: usize) -> impl Strategy<Value = Task> {
        (0..5_u32, 1..=100_i32, 0..8_u64).prop_map(move |(power, share, affinity)| {
            let period = 1_000 * 2_i32.pow(power);
            task(&format!("t{index}"), period, period / 100 * share, affinity)
        })
    }

    proptest! {
        #[test]
        fn whatever_tasks_say_there_is_an_answer(tasks in proptest::collection::vec(any_task(), 0..12), limit in 1..=100_u32) {
            if test(&of(tasks.clone()), limit).is_ok() {
                for task in &tasks {
                    prop_assert!(0 <= task.runtime_us && task.runtime_us <= task.deadline_us);
                    prop_assert!(task.deadline_us <= task.period_us && task.name.len() <= MOST_NAME);
                    prop_assert!(used(task) <= u128::from(limit) * FINE);
                }
            }
        }

        #[test]
        fn what_is_admitted_does_not_depend_on_order_and_not_on_less(
            tasks in (1..6_usize).prop_flat_map(|n| (0..n).map(sane_task).collect::<Vec<_>>()),
            limit in 1..=100_u32,
        ) {
            let whole = test(&of(tasks.clone()), limit);
            let reversed: Vec<_> = tasks.iter().rev().cloned().collect();
            prop_assert_eq!(whole.is_ok(), test(&of(reversed), limit).is_ok());
            if whole.is_ok() && tasks.len() > 1 {
                prop_assert_eq!(test(&of(tasks[1..].to_vec()), limit), Ok(()), "fewer tasks fit as well");
            }
        }

        #[test]
        fn tasks_that_can_be_placed_are_never_refused(
            runtimes in proptest::collection::vec((0..3_u32, 0..=30_i32), 1..9),
        ) {
            // Each is placed on one CPU where it fits, and then told to run there or on more.
            let mut used = [0_i32; 3];
            let mut tasks = Vec::new();
            for (number, (cpu, share)) in runtimes.into_iter().enumerate() {
                let cpu = usize::try_from(cpu).unwrap();
                if used[cpu] + share <= 90 {
                    used[cpu] += share;
                    let wider = if number % 2 == 0 { 0b100 } else { 0 };
                    tasks.push(task(&format!("t{number}"), 1_000, share * 10, 1 << cpu | wider));
                }
            }
            prop_assume!(!tasks.is_empty());
            prop_assert_eq!(test(&of(tasks), 90), Ok(()));
        }
    }
}
