//! Tables as `kubectl` prints them: upper-case headers, columns two or three blanks apart, no borders.

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use jiff::Timestamp as Instant;

use super::text::{cell, or_dash};
use super::words::{age, size, span, word};
use crate::api::{
    Action, Container, ContainerState, ContainerStats, Health, Plan, PolicyVerdict, PublishedPort, Workload,
};

/// Blanks between two columns.
const GAP: u16 = 3;

/// A table from its header and rows; lines have no blanks at their ends.
pub fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    // Not wrapped: what is printed does not depend on the terminal.
    table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.to_vec());
    for row in rows {
        table.add_row(row.iter().map(|text| cell(text)).collect::<Vec<_>>());
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Workloads, one a line.
pub fn workloads(workloads: &[Workload], wide: bool, now: Instant) -> String {
    let mut header = vec!["NAME", "STATE", "READY", "PACKAGE", "ENGINE", "AGE"];
    if wide {
        header.extend(["DESIRED", "REVISION", "LAST-ACTION"]);
    }
    table(
        &header,
        workloads.iter().map(|workload| {
            let mut row = vec![
                workload.name.clone(),
                word(workload.state),
                ready(workload),
                workload.package.clone(),
                workload.engine.clone(),
                age(started(workload), now),
            ];
            if wide {
                row.extend([
                    workload.desired.clone(),
                    short(&workload.revision).to_owned(),
                    workload.last_action_id.clone(),
                ]);
            }
            row
        }),
    )
}

/// Containers that run, of how many; init containers are left out.
fn ready(workload: &Workload) -> String {
    let main = workload.containers.iter().filter(|container| !container.init);
    let (mut running, mut all) = (0, 0);
    for container in main {
        all += 1;
        if container.state.enum_value() == Ok(ContainerState::CONTAINER_STATE_RUNNING) {
            running += 1;
        }
    }
    format!("{running}/{all}")
}

/// When the first of its containers last started, or when it last changed.
fn started(workload: &Workload) -> Option<&crate::api::Timestamp> {
    let starts = workload.containers.iter().filter(|container| !container.init);
    starts
        .filter_map(|container| container.started_at.as_ref())
        .min_by_key(|time| (time.seconds, time.nanos))
        .or(workload.updated_at.as_ref())
}

/// The containers of workloads, one a line.
pub fn containers(workloads: &[Workload], with_init: bool, wide: bool, now: Instant) -> String {
    let mut header = vec!["WORKLOAD", "CONTAINER", "STATE", "HEALTH", "IMAGE", "PORTS", "AGE"];
    if wide {
        header.extend(["ID", "PID", "IP", "CGROUP"]);
    }
    let rows = workloads.iter().flat_map(|workload| {
        let shown = workload.containers.iter().filter(move |container| with_init || !container.init);
        shown.map(move |container| {
            let mut row = vec![
                workload.name.clone(),
                container.name.clone(),
                container_state(container),
                health(container),
                container.image.clone(),
                ports(&container.ports),
                age(container.started_at.as_ref().or(container.created_at.as_ref()), now),
            ];
            if wide {
                let pid = if container.pid > 0 { container.pid.to_string() } else { String::new() };
                row.extend([
                    short(&container.id).to_owned(),
                    pid,
                    container.ips.join(","),
                    container.cgroup_path.clone(),
                ]);
            }
            row
        })
    });
    table(&header, rows.collect::<Vec<_>>())
}

/// A container's state with what belongs to it: the exit code, want of memory, being an init container.
pub fn container_state(container: &Container) -> String {
    let mut state = word(container.state);
    if let Some(code) = container.exit_code {
        state = format!("{state} ({code})");
    }
    if container.out_of_memory {
        state.push_str(" oom");
    }
    if container.init {
        state.push_str(" init");
    }
    state
}

/// What the health check says; `-` where there is none.
pub fn health(container: &Container) -> String {
    match container.health.enum_value() {
        Ok(Health::HEALTH_NONE | Health::HEALTH_UNSPECIFIED) => String::new(),
        Ok(Health::HEALTH_STARTING | Health::HEALTH_HEALTHY | Health::HEALTH_UNHEALTHY) | Err(_) => {
            word(container.health)
        }
    }
}

/// Published ports as `8080->80/tcp`.
pub fn ports(ports: &[PublishedPort]) -> String {
    let shown = ports.iter().map(|port| {
        let ip = match port.host_ip.as_str() {
            "" => String::new(),
            six if six.contains(':') => format!("[{six}]:"),
            four => format!("{four}:"),
        };
        match port.host_port {
            0 => format!("{}/{}", port.container_port, port.protocol),
            host => format!("{ip}{host}->{}/{}", port.container_port, port.protocol),
        }
    });
    shown.collect::<Vec<_>>().join(",")
}

/// The first twelve characters of an id, as container tools show it.
pub fn short(id: &str) -> &str {
    let plain = id.strip_prefix("sha256:").unwrap_or(id);
    plain.char_indices().nth(12).map_or(plain, |(end, _)| &plain[..end])
}

/// Actions, one a line.
pub fn actions(actions: &[Action], wide: bool, now: Instant) -> String {
    let mut header = vec!["ID", "VERB", "TARGET", "STATE", "STEPS", "AGE"];
    if wide {
        header.extend(["TOOK", "ENGINE", "MESSAGE"]);
    }
    table(&header, actions.iter().map(|action| action_row(action, wide, now)))
}

/// One action as a row.
fn action_row(action: &Action, wide: bool, now: Instant) -> Vec<String> {
    let outcome = action.outcome.get_or_default();
    let progress = action.progress.get_or_default();
    let state = if action.outcome.is_some() { outcome.state } else { progress.state };
    let mut row = vec![
        action.action_id.clone(),
        word(action.verb),
        if action.target.is_empty() { outcome.target.clone() } else { action.target.clone() },
        word(state),
        format!("{}/{}", progress.steps_done, progress.steps_total),
        age(action.accepted_at.as_ref(), now),
    ];
    if wide {
        let took = std::time::Duration::from_micros(outcome.phases.get_or_default().total_us);
        let message = outcome.error.as_ref().map_or(&outcome.message, |error| &error.message);
        row.extend([
            if took.is_zero() { String::new() } else { span(took) },
            outcome.engine.clone(),
            if action.outcome.is_some() { message.clone() } else { progress.current_step.clone() },
        ]);
    }
    row
}

/// A plan, one step a line, by stage: steps of one stage may overlap.
pub fn plan(plan: &Plan, wide: bool) -> String {
    let mut header = vec!["STAGE", "STEP", "WORKLOAD", "WHAT", "AFTER"];
    if wide {
        header.extend(["OPERATION", "OBJECT"]);
    }
    let mut steps: Vec<_> = plan.steps.iter().collect();
    steps.sort_by_key(|step| (step.stage, step.index));
    let mut last_stage = None;
    let rows = steps.into_iter().map(|step| {
        let first_of_stage = last_stage.replace(step.stage) != Some(step.stage);
        let after = step.after.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let mut row = vec![
            if first_of_stage { step.stage.to_string() } else { String::from("|") },
            step.index.to_string(),
            step.workload.clone(),
            step.title.clone(),
            after,
        ];
        if wide {
            row.extend([step.operation.clone(), step.object.clone()]);
        }
        row
    });
    table(&header, rows.collect::<Vec<_>>())
}

/// What policy says, one workload a line.
pub fn verdicts<'a>(rows: impl IntoIterator<Item = (&'a str, &'a PolicyVerdict)>) -> String {
    let rows = rows.into_iter().map(|(name, verdict)| {
        let word = match (verdict.allowed, verdict.moves) {
            (true, true) => "moves",
            (true, false) => "allowed",
            (false, _) => "refused",
        };
        let reason = if verdict.reason.is_empty() { &verdict.unanswered } else { &verdict.reason };
        let node = verdict.suggested_node.clone();
        vec![or_dash(name).to_owned(), word.to_owned(), verdict.rule.clone(), reason.clone(), node]
    });
    table(&["WORKLOAD", "VERDICT", "RULE", "REASON", "SUGGESTED-NODE"], rows)
}

/// Use of the node by containers, one a line.
pub fn stats<'a>(rows: impl IntoIterator<Item = (&'a str, &'a ContainerStats)>) -> String {
    let header =
        ["WORKLOAD", "CONTAINER", "CPU-TIME", "MEMORY", "LIMIT", "PIDS", "NET-IN", "NET-OUT", "READ", "WRITTEN"];
    let rows = rows.into_iter().map(|(workload, stats)| {
        let limit = if stats.memory_limit_bytes == 0 { String::new() } else { size(stats.memory_limit_bytes) };
        vec![
            or_dash(workload).to_owned(),
            stats.name.clone(),
            span(std::time::Duration::from_nanos(stats.cpu_ns)),
            size(stats.memory_bytes),
            limit,
            stats.pids.to_string(),
            size(stats.rx_bytes),
            size(stats.tx_bytes),
            size(stats.read_bytes),
            size(stats.write_bytes),
        ]
    });
    table(&header, rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{ActionState, Outcome, Progress, Step, Timestamp, Verb, WorkloadState};

    fn at(seconds: i64) -> protobuf::MessageField<Timestamp> {
        Some(Timestamp { seconds, ..Default::default() }).into()
    }

    fn now() -> Instant {
        Instant::from_second(1_000).unwrap()
    }

    fn lane() -> Workload {
        let container = |name: &str, state: ContainerState| Container {
            id: "0123456789abcdef".to_owned(),
            name: name.to_owned(),
            image: "registry.local/lane:1".to_owned(),
            state: state.into(),
            started_at: at(940),
            ..Default::default()
        };
        let mut core = container("core", ContainerState::CONTAINER_STATE_RUNNING);
        core.ports = vec![PublishedPort {
            host_port: 8080,
            container_port: 80,
            protocol: "tcp".to_owned(),
            ..Default::default()
        }];
        core.health = Health::HEALTH_HEALTHY.into();
        let mut log = container("log", ContainerState::CONTAINER_STATE_EXITED);
        log.exit_code = Some(137);
        log.out_of_memory = true;
        let mut init = container("prepare", ContainerState::CONTAINER_STATE_EXITED);
        init.exit_code = Some(0);
        init.init = true;
        Workload {
            name: "lane".to_owned(),
            state: WorkloadState::WORKLOAD_STATE_DEGRADED.into(),
            engine: "podman".to_owned(),
            containers: vec![init, core, log],
            ..Default::default()
        }
    }

    #[test]
    fn workloads_show_how_many_containers_run() {
        assert_eq!(
            workloads(&[lane()], false, now()),
            "NAME   STATE      READY   PACKAGE   ENGINE   AGE\n\
             lane   degraded   1/2     -         podman   60s"
        );
    }

    #[test]
    fn empty_table_is_its_header() {
        assert_eq!(workloads(&[], false, now()), "NAME   STATE   READY   PACKAGE   ENGINE   AGE");
    }

    #[test]
    fn containers_show_exit_code_health_and_ports() {
        assert_eq!(
            containers(&[lane()], false, false, now()),
            "WORKLOAD   CONTAINER   STATE              HEALTH    IMAGE                   PORTS          AGE\n\
             lane       core        running            healthy   registry.local/lane:1   8080->80/tcp   60s\n\
             lane       log         exited (137) oom   -         registry.local/lane:1   -              60s"
        );
        assert!(containers(&[lane()], true, false, now()).contains("prepare     exited (0) init"));
    }

    #[test]
    fn actions_under_way_and_ended_show_their_state() {
        let running = Action {
            action_id: "a-2".to_owned(),
            verb: Verb::VERB_STOP.into(),
            target: "lane".to_owned(),
            progress: Some(Progress {
                state: ActionState::ACTION_STATE_RUNNING.into(),
                steps_done: 1,
                steps_total: 3,
                ..Default::default()
            })
            .into(),
            accepted_at: at(998),
            ..Default::default()
        };
        let ended = Action {
            action_id: "a-1".to_owned(),
            verb: Verb::VERB_LAUNCH.into(),
            outcome: Some(Outcome {
                target: "lane".to_owned(),
                state: ActionState::ACTION_STATE_SUCCEEDED.into(),
                ..Default::default()
            })
            .into(),
            ..Default::default()
        };
        assert_eq!(
            actions(&[running, ended], false, now()),
            "ID    VERB     TARGET   STATE       STEPS   AGE\n\
             a-2   stop     lane     running     1/3     2s\n\
             a-1   launch   lane     succeeded   0/0     -"
        );
    }

    #[test]
    fn plan_groups_its_steps_by_stage() {
        let step = |index: u32, stage: u32, title: &str, after: &[u32]| Step {
            index,
            stage,
            title: title.to_owned(),
            workload: "lane".to_owned(),
            after: after.to_vec(),
            ..Default::default()
        };
        let shown = plan(
            &Plan {
                steps: vec![
                    step(0, 0, "pull lane:1", &[]),
                    step(2, 1, "create lane_core", &[0]),
                    step(1, 0, "make network lane-net", &[]),
                ],
                stage_count: 2,
                ..Default::default()
            },
            false,
        );
        assert_eq!(
            shown,
            "STAGE   STEP   WORKLOAD   WHAT                    AFTER\n\
             0       0      lane       pull lane:1             -\n\
             |       1      lane       make network lane-net   -\n\
             1       2      lane       create lane_core        0"
        );
    }

    #[test]
    fn verdicts_show_rule_reason_and_node() {
        let allowed = PolicyVerdict { allowed: true, unanswered: "away".to_owned(), ..Default::default() };
        let refused = PolicyVerdict {
            rule: "rule 'x' of /f.yaml".to_owned(),
            reason: "no".to_owned(),
            suggested_node: "Z".to_owned(),
            ..Default::default()
        };
        let moves = PolicyVerdict { allowed: true, moves: true, ..refused.clone() };
        assert_eq!(
            verdicts([("a", &allowed), ("b", &refused), ("c", &moves)]),
            "WORKLOAD   VERDICT   RULE                  REASON   SUGGESTED-NODE\n\
             a          allowed   -                     away     -\n\
             b          refused   rule 'x' of /f.yaml   no       Z\n\
             c          moves     rule 'x' of /f.yaml   no       Z"
        );
    }

    #[test]
    fn ids_are_shortened_without_their_algorithm() {
        assert_eq!(short("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short("abc"), "abc");
    }
}
