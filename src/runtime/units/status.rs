//! From a unit's properties to the state of its container.

use crate::model::state::ContainerStatus;
use crate::runtime::adapter::ContainerStats;
use crate::transport::dbus::{OwnedObjectPath, Properties, Value};

/// What is seen of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its state.
    pub status: ContainerStatus,
    /// The first process; 0 for none.
    pub pid: i32,
    /// Milliseconds since the epoch; 0 for not.
    pub finished_ms: u64,
}

impl Seen {
    /// A container of which no more than its state is known.
    pub fn of(status: ContainerStatus) -> Self {
        Self { status, pid: 0, finished_ms: 0 }
    }

    /// One of which it is not known how it ended.
    pub fn lost() -> Self {
        Self::of(ContainerStatus::Exited { code: None, oom: false })
    }
}

/// The state of a container that was started. `end` is what was seen of its end before, which systemd forgets once somebody
/// stops the unit.
pub fn seen(properties: &Properties, end: Option<Seen>) -> Seen {
    let pid = number(properties, "MainPID").and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
    let live = |status: ContainerStatus| Seen { status, pid, finished_ms: 0 };
    match (text(properties, "ActiveState"), text(properties, "SubState")) {
        ("active", "exited") | ("failed", _) => over(properties).or(end).unwrap_or_else(Seen::lost),
        ("active" | "reloading" | "refreshing", _) => match text(properties, "FreezerState") {
            "frozen" | "freezing" => live(ContainerStatus::Paused),
            _ => live(ContainerStatus::Running { health: Default::default() }),
        },
        ("activating", "auto-restart") => live(ContainerStatus::Restarting),
        ("activating", _) => live(ContainerStatus::Starting),
        ("deactivating", _) => live(ContainerStatus::Stopping),
        // It waits for what it is ordered after.
        _ if has_job(properties) => live(ContainerStatus::Starting),
        // Somebody else has stopped it, or systemd has forgotten it.
        _ => end.or_else(|| over(properties)).unwrap_or_else(Seen::lost),
    }
}

/// Whether nothing of the unit runs or is about to, and systemd keeps nothing of its last start.
pub fn is_at_rest(properties: &Properties) -> bool {
    text(properties, "ActiveState") == "inactive" && !has_job(properties)
}

/// Whether a job is under way for the unit, or waits.
pub fn has_job(properties: &Properties) -> bool {
    let job = properties.get("Job").and_then(|job| <(u32, OwnedObjectPath)>::try_from(job.clone()).ok());
    job.is_some_and(|(id, _)| id != 0)
}

/// Whether the unit is as it will stay.
pub fn is_settled(properties: &Properties) -> bool {
    !has_job(properties) && !matches!(text(properties, "ActiveState"), "activating" | "deactivating" | "reloading")
}

/// Whether the first process was running as what it is, and has ended by itself or by a signal: not on the way there.
pub fn has_run(properties: &Properties) -> bool {
    // What systemd ends with between fork and exec: systemd.exec(5), "Process Exit Codes".
    let is_on_the_way = |status: i64| (200..=243).contains(&status);
    let is_over = match (number(properties, "ExecMainCode"), number(properties, "ExecMainStatus")) {
        (Some(1), Some(status)) => !is_on_the_way(status),
        (Some(2 | 3), Some(_)) => true,
        _ => false,
    };
    let is_its_own =
        !matches!(text(properties, "Result"), "" | "resources" | "timeout" | "start-limit-hit" | "protocol");
    // Others are started only once they have said so, or are over.
    is_over && is_its_own && matches!(text(properties, "Type"), "exec" | "simple")
}

/// How the first process has ended; `None` where systemd tells of none.
fn over(properties: &Properties) -> Option<Seen> {
    // CLD_EXITED, CLD_KILLED and CLD_DUMPED of wait(2).
    let code = match (number(properties, "ExecMainCode")?, number(properties, "ExecMainStatus")?) {
        (1, status) => i32::try_from(status).ok()?,
        (2 | 3, signal) => 128 + i32::try_from(signal).ok()?,
        _ => return None,
    };
    let oom = text(properties, "Result") == "oom-kill";
    let micros = number(properties, "ExecMainExitTimestamp").unwrap_or(0);
    let finished_ms = u64::try_from(micros / 1000).unwrap_or(0);
    Some(Seen { status: ContainerStatus::Exited { code: Some(code), oom }, pid: 0, finished_ms })
}

/// What systemd accounts for; what it does not is 0.
pub fn usage(properties: &Properties) -> ContainerStats {
    // What is not accounted for is the largest number, which `number` has no room for.
    let of = |name: &str| number(properties, name).and_then(|number| u64::try_from(number).ok()).unwrap_or(0);
    ContainerStats {
        cpu_ns: of("CPUUsageNSec"),
        memory_bytes: of("MemoryCurrent"),
        memory_limit_bytes: of("MemoryMax"),
        pids: of("TasksCurrent"),
        read_bytes: of("IOReadBytes"),
        write_bytes: of("IOWriteBytes"),
        ..ContainerStats::default()
    }
}

/// A property's number; `None` where it is none.
pub fn number(properties: &Properties, name: &str) -> Option<i64> {
    match &**properties.get(name)? {
        Value::I32(value) => Some(i64::from(*value)),
        Value::U32(value) => Some(i64::from(*value)),
        Value::I64(value) => Some(*value),
        Value::U64(value) => i64::try_from(*value).ok(),
        _ => None,
    }
}

/// A property's text; empty where it is none.
pub fn text<'a>(properties: &'a Properties, name: &str) -> &'a str {
    match properties.get(name).map(|value| &**value) {
        Some(Value::Str(text)) => text.as_str(),
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::dbus::OwnedValue;

    fn properties(active: &str, sub: &str, numbers: &[(&str, i32)]) -> Properties {
        let text = |value: &str| OwnedValue::try_from(Value::from(value)).unwrap();
        let mut all = Properties::from([("ActiveState".into(), text(active)), ("SubState".into(), text(sub))]);
        all.extend(numbers.iter().map(|(name, number)| ((*name).to_owned(), OwnedValue::from(*number))));
        all
    }

    fn exited(code: i32) -> ContainerStatus {
        ContainerStatus::Exited { code: Some(code), oom: false }
    }

    #[test]
    fn end_is_told_by_code_or_signal() {
        let of = |active, sub, code, status| {
            seen(&properties(active, sub, &[("ExecMainCode", code), ("ExecMainStatus", status)]), None).status
        };
        assert_eq!(of("active", "exited", 1, 0), exited(0));
        assert_eq!(of("failed", "failed", 1, 7), exited(7));
        assert_eq!(of("active", "exited", 2, 15), exited(143));
        assert_eq!(of("failed", "failed", 3, 11), exited(139));
        assert_eq!(of("failed", "failed", 0, 0), ContainerStatus::Exited { code: None, oom: false });
    }

    #[test]
    fn end_that_was_seen_outlives_what_systemd_forgets() {
        let end = Seen { finished_ms: 5, ..Seen::of(exited(3)) };
        assert_eq!(seen(&properties("inactive", "dead", &[]), Some(end.clone())), end);
        assert_eq!(seen(&Properties::new(), None), Seen::lost());
    }

    #[test]
    fn what_lives_is_told_with_its_process() {
        let of = |active, sub| seen(&properties(active, sub, &[("MainPID", 42)]), None);
        assert_eq!((of("active", "running").pid, of("active", "running").status.is_running()), (42, true));
        assert_eq!(of("activating", "start").status, ContainerStatus::Starting);
        assert_eq!(of("activating", "auto-restart").status, ContainerStatus::Restarting);
        assert_eq!(of("deactivating", "stop-sigterm").status, ContainerStatus::Stopping);
        let mut frozen = properties("active", "running", &[]);
        frozen.insert("FreezerState".into(), OwnedValue::try_from(Value::from("frozen")).unwrap());
        assert_eq!(seen(&frozen, None).status, ContainerStatus::Paused);
    }
}
