//! What a killed daemon leaves, and what its next start makes of it: the real process, on the simulator and on Podman.

mod damaged;
mod several;
mod steps;
mod steps_podman;
mod store_away;
mod undo_later;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use actioncontroller::proto::actions::{
    ActionSpec, ActionState, ExecuteActionRequest, GetActionRequest, Outcome, StepState, Verb, WatchActionRequest,
};
use actioncontroller::proto::workloads::{GetWorkloadRequest, ListWorkloadsRequest, Workload};
use futures_executor::block_on;
use futures_util::StreamExt;
use protobuf::MessageField;
use serde_json::Value;

use crate::support::daemon::{DaemonProcess, options};
use crate::support::wait::until;

/// Far more than any recovery here takes.
pub const LONG: Duration = Duration::from_secs(60);

/// When a daemon is killed: after so many step events, and how much later than the last of them.
#[derive(Debug, Clone, Copy)]
struct Moment {
    events: usize,
    later: Duration,
}

/// Where an interrupted action was when the daemon died.
enum Death {
    /// In the middle.
    Interrupted,
    /// It had ended before.
    TooLate,
}

/// The simulator with every call late by so many milliseconds before its effect and again after it.
pub fn sim(folder: &Path, delay_ms: u64, more: &str) -> String {
    let state = folder.join("sim.json");
    let delays = format!("{{delay_ms: {delay_ms}}}, {{delay_ms: {delay_ms}, after_effect: true}}");
    let faults = if more.is_empty() { delays } else { format!("{more}, {delays}") };
    format!(
        "runtimes:\n  preference: [sim]\n  podman: {{enabled: false}}\n  \
         sim: {{enabled: true, state_file: {}, faults: [{faults}]}}\n",
        state.display()
    )
}

/// The action under this id.
pub fn with_id(action: ActionSpec, id: &str) -> ActionSpec {
    ActionSpec { action_id: id.to_owned(), ..action }
}

/// Has an action accepted, without waiting for its end.
pub fn begin(daemon: &DaemonProcess, action: ActionSpec) {
    let request =
        ExecuteActionRequest { action: MessageField::some(action), no_wait: true, ..ExecuteActionRequest::default() };
    daemon.actions().execute_action(&request, options()).unwrap();
}

/// Begins the action and kills the daemon at the moment. The action's id has to be given.
fn die_at(daemon: &mut DaemonProcess, action: ActionSpec, moment: Moment) -> Death {
    let id = action.action_id.clone();
    begin(daemon, action);
    let request = WatchActionRequest { action_id: id, ..WatchActionRequest::default() };
    let client = daemon.actions();
    let mut events = client.watch_action(&request, options()).unwrap();
    let mut seen = 0;
    let death = loop {
        let Some(Ok(event)) = block_on(events.next()) else { panic!("the stream ends before the outcome") };
        if event.has_outcome() {
            break Death::TooLate;
        }
        seen += usize::from(event.has_step());
        if seen == moment.events {
            // The moment itself is what is tested; nothing is waited for.
            std::thread::sleep(moment.later);
            break Death::Interrupted;
        }
    };
    daemon.kill();
    death
}

/// The outcome of an action, once it has one.
pub fn outcome(daemon: &DaemonProcess, id: &str) -> Outcome {
    let request = GetActionRequest { action_id: id.to_owned(), ..GetActionRequest::default() };
    let client = daemon.actions();
    until("the outcome", LONG, || {
        let action = client.get_action(&request, options()).unwrap_or_else(|error| panic!("{id}: {error}"));
        action.outcome.into_option()
    })
}

/// What the daemon lists, by name.
pub fn listed(daemon: &DaemonProcess) -> BTreeMap<String, Workload> {
    let listed = daemon.workloads().list_workloads(&ListWorkloadsRequest::default(), options()).unwrap();
    listed.workloads.into_iter().map(|workload| (workload.name.clone(), workload)).collect()
}

/// One workload in full.
fn workload(daemon: &DaemonProcess, name: &str) -> Workload {
    let request = GetWorkloadRequest { name: name.to_owned(), ..GetWorkloadRequest::default() };
    daemon.workloads().get_workload(&request, options()).unwrap()
}

/// Every container of the engine by name: id and process, 0 where it does not run.
pub type Containers = BTreeMap<String, (String, i64)>;

/// What the simulator's file holds.
fn sim_state(daemon: &DaemonProcess) -> Value {
    let text = std::fs::read_to_string(daemon.path("sim.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["state"].take()
}

pub fn sim_containers(daemon: &DaemonProcess) -> Containers {
    let state = sim_state(daemon);
    let containers = state["containers"].as_object().unwrap().values();
    let read = |container: &Value| {
        let name = container["config"]["name"].as_str().unwrap().to_owned();
        (name, (container["id"].as_str().unwrap().to_owned(), container["run"]["pid"].as_i64().unwrap_or(0)))
    };
    let all: Vec<_> = containers.map(read).collect();
    let by_name: Containers = all.iter().cloned().collect();
    assert_eq!(by_name.len(), all.len(), "a container is doubled: {all:?}");
    by_name
}

/// Everything of the simulator but images.
pub fn sim_objects(daemon: &DaemonProcess) -> BTreeSet<String> {
    let state = sim_state(daemon);
    let named = ["pods", "networks", "volumes"].into_iter().flat_map(|kind| {
        let names: Vec<_> = state[kind].as_object().unwrap().keys().map(|name| format!("{kind}/{name}")).collect();
        names
    });
    named.chain(sim_containers(daemon).into_keys()).collect()
}

pub fn is_running(workload: &Workload) -> bool {
    use actioncontroller::proto::workloads::WorkloadState;
    workload.state.enum_value() == Ok(WorkloadState::WORKLOAD_STATE_RUNNING)
}

fn succeeded(outcome: &Outcome) -> bool {
    outcome.state.enum_value() == Ok(ActionState::ACTION_STATE_SUCCEEDED)
}

/// That an outcome says how the restart ended the action, and is whole.
fn assert_tells(outcome: &Outcome, how: &[&str]) {
    assert!(how.contains(&outcome.recovered.as_str()), "{outcome:?}");
    assert_eq!(outcome.recovered == "undone", !succeeded(outcome), "{outcome:?}");
    assert!(outcome.left.is_empty(), "{outcome:?}");
    assert!(outcome.ended_at.is_some());
    let is_open = |step: &actioncontroller::proto::actions::StepResult| {
        matches!(step.state.enum_value(), Ok(StepState::STEP_STATE_RUNNING | StepState::STEP_STATE_PENDING))
    };
    assert!(!outcome.steps.iter().any(is_open), "{outcome:?}");
}

/// Runs an action that has to succeed.
pub fn must(daemon: &DaemonProcess, action: ActionSpec) -> Outcome {
    let outcome = daemon.execute(action).unwrap_or_else(|error| panic!("{error}\n{}", daemon.log()));
    assert!(succeeded(&outcome), "{outcome:?}");
    outcome
}

/// The exit codes of a workload's containers, by their names within it.
fn exit_codes(daemon: &DaemonProcess, name: &str) -> BTreeMap<String, Option<i32>> {
    workload(daemon, name).containers.into_iter().map(|container| (container.name, container.exit_code)).collect()
}

pub fn target(verb: Verb, name: &str) -> ActionSpec {
    crate::support::daemon::on_target(verb, name)
}
