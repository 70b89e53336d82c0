//! One workload, action or plan in full, for people.

use std::time::Duration;

use jiff::Timestamp as Instant;

use super::table::{self, container_state, health, ports};
use super::text::{clean, or_dash};
use super::words::{age, size, span, time, word};
use crate::api::{Action, Outcome, Plan, Resources, Timestamp, Verb, Warning, Workload};

/// Blanks up to the values.
const LABEL_WIDTH: usize = 14;

/// Lines of `Label:   value`; empty values are left out.
#[derive(Default)]
pub(super) struct Lines(Vec<String>);

impl Lines {
    /// A line, unless its value is empty.
    pub(super) fn field(&mut self, label: &str, value: &str) -> &mut Self {
        if !value.is_empty() {
            let label = format!("{label}:");
            self.0.push(format!("{label:LABEL_WIDTH$}{}", clean(value)));
        }
        self
    }

    fn time(&mut self, label: &str, value: Option<&Timestamp>, now: Instant) -> &mut Self {
        if let Some(text) = time(value) {
            self.field(label, &format!("{text} ({} ago)", age(value, now)));
        }
        self
    }

    /// Lines below a label, unless there are none.
    pub(super) fn block(&mut self, label: &str, text: &str) -> &mut Self {
        if !text.is_empty() {
            self.0.push(format!("{label}:"));
            self.0.extend(text.lines().map(|line| format!("  {line}")));
        }
        self
    }

    /// All of it.
    pub(super) fn text(&self) -> String {
        self.0.join("\n")
    }
}

/// One workload with its containers.
pub fn workload(workload: &Workload, now: Instant) -> String {
    let mut lines = Lines::default();
    lines
        .field("Name", &workload.name)
        .field("State", &word(workload.state))
        .field("Reason", &workload.message)
        .field("Desired", &workload.desired)
        .field("Package", &workload.package)
        .field("Engine", &workload.engine)
        .field("Revision", &workload.revision)
        .field("Last action", &workload.last_action_id)
        .time("Updated", workload.updated_at.as_ref(), now);
    for container in &workload.containers {
        let mut inner = Lines::default();
        let pid = if container.pid > 0 { container.pid.to_string() } else { String::new() };
        inner
            .field("Id", &container.id)
            .field("On engine", &container.engine_name)
            .field("Image", &container.image)
            .field("State", &container_state(container))
            .field("Reason", &container.message)
            .field("Health", &health(container))
            .field("Pid", &pid)
            .field("Cgroup", &container.cgroup_path)
            .field("Limits", &limits(container.limits.get_or_default()))
            .field("In force", &limits(container.limits_in_force.get_or_default()))
            .field("Drifted", &container.limits_drifted.join(", "))
            .field("Ports", &ports(&container.ports))
            .field("Addresses", &container.ips.join(", "))
            .time("Created", container.created_at.as_ref(), now)
            .time("Started", container.started_at.as_ref(), now)
            .time("Finished", container.finished_at.as_ref(), now);
        lines.block(&format!("Container {}", clean(&container.name)), &inner.text());
    }
    lines.text()
}

/// Limits on one line; empty where there are none.
fn limits(limits: &Resources) -> String {
    let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
    let memory = |text: &str| text.parse().map_or_else(|_| text.to_owned(), size);
    let all = [
        ("cpu", limits.cpu.clone()),
        ("cpu shares", number(limits.cpu_shares)),
        ("memory", memory(&limits.memory)),
        ("memory reservation", memory(&limits.memory_reservation)),
        ("pids", number(limits.pids)),
    ];
    let given = all.iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| format!("{name} {value}"));
    given.collect::<Vec<_>>().join(", ")
}

/// One action: how far it is, or what it came to.
pub fn action(action: &Action, now: Instant) -> String {
    let outcome = action.outcome.get_or_default();
    let progress = action.progress.get_or_default();
    let target = if outcome.target.is_empty() { &action.target } else { &outcome.target };
    let mut lines = Lines::default();
    lines.field("Action", &action.action_id).field("Verb", &word(action.verb)).field("Target", target);
    if action.outcome.is_none() {
        lines
            .field("State", &word(progress.state))
            .field("Progress", &format!("{}/{} steps", progress.steps_done, progress.steps_total))
            .field("Under way", &progress.current_step)
            .time("Accepted", action.accepted_at.as_ref(), now);
        return lines.text();
    }
    outcome_lines(&mut lines, outcome, now);
    lines.text()
}

/// What an action came to.
fn outcome_lines(lines: &mut Lines, outcome: &Outcome, now: Instant) {
    let engine = match outcome.engine_reason.as_str() {
        "" => outcome.engine.clone(),
        reason => format!("{} ({reason})", or_dash(&outcome.engine)),
    };
    let phases = outcome.phases.get_or_default();
    let error = outcome.error.get_or_default();
    lines
        .field("State", &word(outcome.state))
        .field("Changed", if outcome.changed { "yes" } else { "no" })
        .field("Message", &outcome.message)
        .field("Error", &error.message)
        .field("Code", &error.code)
        .field("At", &error.field)
        .field("Hint", &error.hint)
        .field("Recovered", &outcome.recovered)
        .field("Engine", &engine)
        .time("Accepted", outcome.accepted_at.as_ref(), now)
        .time("Ended", outcome.ended_at.as_ref(), now);
    if phases.total_us > 0 {
        let parts = [
            ("queue", phases.queue_us),
            ("policy", phases.policy_us),
            ("plan", phases.plan_us),
            ("run", phases.run_us),
            ("store", phases.store_us),
        ];
        let parts = parts.map(|(name, us)| format!("{name} {}", span(Duration::from_micros(us)))).join(", ");
        lines.field("Took", &format!("{} ({parts})", span(Duration::from_micros(phases.total_us))));
    }
    let steps = outcome.steps.iter().map(|step| {
        let took = if step.duration_us == 0 { String::new() } else { span(Duration::from_micros(step.duration_us)) };
        vec![step.index.to_string(), word(step.state), took, step.title.clone(), step.message.clone()]
    });
    if !outcome.steps.is_empty() {
        lines.block("Steps", &table::table(&["STEP", "STATE", "TOOK", "WHAT", "MESSAGE"], steps));
    }
    let failed = outcome.failed.iter().map(|workload| {
        let error = workload.error.get_or_default();
        vec![workload.name.clone(), error.code.clone(), error.message.clone(), error.hint.clone()]
    });
    if !outcome.failed.is_empty() {
        lines.block("Failed", &table::table(&["WORKLOAD", "CODE", "REASON", "HINT"], failed));
    }
    let ids = outcome.workloads.iter().flat_map(|workload| {
        let mut ids: Vec<_> = workload.container_ids.iter().collect();
        ids.sort();
        ids.into_iter().map(|(name, id)| vec![workload.name.clone(), name.clone(), table::short(id).to_owned()])
    });
    let ids: Vec<_> = ids.collect();
    if !ids.is_empty() {
        lines.block("Containers", &table::table(&["WORKLOAD", "CONTAINER", "ID"], ids));
    }
    lines.block("Left", &outcome.left.iter().map(|line| clean(line)).collect::<Vec<_>>().join("\n"));
    lines.block(
        "Warnings",
        &outcome.warnings.iter().map(|warning| warning_line(warning, "")).collect::<Vec<_>>().join("\n"),
    );
    if let Some(plan) = outcome.plan.as_ref() {
        lines.block("Plan", &plan_text(plan, false));
    }
}

/// A plan with what stands against it.
pub fn plan_text(plan: &Plan, wide: bool) -> String {
    match plan.steps.is_empty() {
        true if plan.errors.is_empty() => String::from("nothing to do"),
        true => String::from("no steps"),
        false => table::plan(plan, wide),
    }
}

/// A warning with its place: the source and line where they are known, and the path.
pub fn warning_line(warning: &Warning, source: &str) -> String {
    let place = match (source, warning.line) {
        ("", 0) => String::new(),
        ("", line) => format!("line {line}"),
        (source, 0) => source.to_owned(),
        (source, line) => format!("{source}:{line}"),
    };
    let place: Vec<&str> = [place.as_str(), &warning.path].into_iter().filter(|part| !part.is_empty()).collect();
    match place.is_empty() {
        true => clean(&warning.message),
        false => format!("{} ({})", clean(&warning.message), clean(&place.join(", "))),
    }
}

/// The last line of an action that went well: `web launched in 1.24 s`, or `web unchanged`.
pub fn success(outcome: &Outcome) -> String {
    let target = clean(or_dash(&outcome.target));
    if !outcome.changed {
        return format!("{target} unchanged");
    }
    let took = match outcome.phases.get_or_default().total_us {
        0 => String::new(),
        us => format!(" in {}", span(Duration::from_micros(us))),
    };
    format!("{target} {}{took}", past(outcome.verb.enum_value_or_default()))
}

/// What has been done.
fn past(verb: Verb) -> &'static str {
    match verb {
        Verb::VERB_UNSPECIFIED => "done",
        Verb::VERB_LAUNCH => "launched",
        Verb::VERB_START => "started",
        Verb::VERB_STOP => "stopped",
        Verb::VERB_RESTART => "restarted",
        Verb::VERB_UPDATE => "updated",
        Verb::VERB_ROLLBACK => "rolled back",
        Verb::VERB_REMOVE => "removed",
        Verb::VERB_TERMINATE => "terminated",
        Verb::VERB_PAUSE => "paused",
        Verb::VERB_RESUME => "resumed",
        Verb::VERB_HIBERNATE => "hibernated",
        Verb::VERB_WAKE => "woken",
        Verb::VERB_KILL => "killed",
        Verb::VERB_SCALE => "scaled",
        Verb::VERB_OFFLOAD => "moved",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{
        ActionState, Container, ContainerState, ErrorDetail, Phases, StepResult, StepState, WorkloadState,
    };

    fn now() -> Instant {
        Instant::from_second(1_767_225_660).unwrap()
    }

    #[test]
    fn workload_in_full_leaves_out_what_is_empty() {
        let shown = workload(
            &Workload {
                name: "web".to_owned(),
                state: WorkloadState::WORKLOAD_STATE_RUNNING.into(),
                engine: "podman".to_owned(),
                updated_at: Some(Timestamp { seconds: 1_767_225_600, ..Default::default() }).into(),
                containers: vec![Container {
                    name: "main".to_owned(),
                    image: "web:1".to_owned(),
                    state: ContainerState::CONTAINER_STATE_RUNNING.into(),
                    ..Default::default()
                }],
                ..Default::default()
            },
            now(),
        );
        assert_eq!(
            shown,
            "Name:         web\nState:        running\nEngine:       podman\n\
             Updated:      2026-01-01T00:00:00Z (60s ago)\nContainer main:\n  Image:        web:1\n  \
             State:        running"
        );
    }

    #[test]
    fn failed_action_in_full_shows_why_and_what_is_left() {
        let outcome = Outcome {
            target: "web".to_owned(),
            state: ActionState::ACTION_STATE_FAILED.into(),
            error: Some(ErrorDetail { message: "no such image".to_owned(), ..Default::default() }).into(),
            left: vec!["network web-net".to_owned()],
            steps: vec![StepResult {
                title: "pull web:1".to_owned(),
                state: StepState::STEP_STATE_FAILED.into(),
                duration_us: 1_500,
                ..Default::default()
            }],
            phases: Some(Phases { run_us: 1_500, total_us: 2_000, ..Default::default() }).into(),
            ..Default::default()
        };
        let shown = action(
            &Action {
                action_id: "a-1".to_owned(),
                verb: Verb::VERB_LAUNCH.into(),
                outcome: Some(outcome).into(),
                ..Default::default()
            },
            now(),
        );
        for line in [
            "Target:       web",
            "Error:        no such image",
            "Took:         2.0 ms (queue 0 us, policy 0 us, plan 0 us, run 1.5 ms, store 0 us)",
            "  0      failed   1.5 ms   pull web:1   -",
            "  network web-net",
        ] {
            assert!(shown.lines().any(|shown| shown == line), "{line}\n---\n{shown}");
        }
    }

    #[test]
    fn last_line_says_what_was_done_or_that_it_was_so_already() {
        let mut outcome = Outcome {
            target: "web".to_owned(),
            verb: Verb::VERB_STOP.into(),
            phases: Some(Phases { total_us: 1_240_000, ..Default::default() }).into(),
            ..Default::default()
        };
        assert_eq!(success(&outcome), "web unchanged");
        outcome.changed = true;
        assert_eq!(success(&outcome), "web stopped in 1.24 s");
    }

    #[test]
    fn warnings_name_their_place() {
        let warning = |path: &str, line| Warning {
            path: path.to_owned(),
            line,
            message: "has no effect".to_owned(),
            ..Default::default()
        };
        assert_eq!(warning_line(&warning("", 0), ""), "has no effect");
        assert_eq!(warning_line(&warning("spec.tty", 7), ""), "has no effect (line 7, spec.tty)");
        assert_eq!(warning_line(&warning("spec.tty", 7), "web.yaml"), "has no effect (web.yaml:7, spec.tty)");
    }
}
