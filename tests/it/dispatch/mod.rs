//! The way of a request through the real daemon, on the simulator: lanes, cancel, batches, progress, plans, ids, bounds.

mod batches;
mod bounds;
mod cancels;
mod clients;
mod daemons;
mod health;
mod identity;
mod order;
mod plans;
mod policy;
mod policy_server;
mod progress;
mod refusals;
mod replacing;
mod syncs;
mod urgent;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use actioncontroller::grpc::status::{Details, details};
use actioncontroller::proto::actions::{
    Action, ActionSpec, ActionState, CancelActionRequest, CancelActionResponse, ExecuteActionRequest, GetActionRequest,
    Outcome, Parameters, StepState, Verb,
};
use actioncontroller::proto::workloads::{GetWorkloadRequest, Workload};
use grpcio::RpcStatusCode;

use crate::support::daemon::{DaemonProcess, launch, on_target, options, pod};
use crate::support::wait::until;

/// What has to happen at once happens within this time.
const SOON: Duration = Duration::from_secs(1);

/// Long enough for anything that does come.
const LONG: Duration = Duration::from_secs(30);

/// An image whose pull takes a minute.
const SLOW: &str = "localhost/slow:1";

/// An image whose pull takes no time.
const QUICK: &str = "localhost/quick:1";

/// An image that is nowhere.
const MISSING: &str = "localhost/missing:1";

/// One worker for launches and one for what is urgent.
const NARROW: &str = "dispatch: {workers: 2, urgent_workers: 1}\n";

/// A daemon on a simulator with these faults, as a YAML list, and with these other settings.
fn daemon(faults: &str, others: &str) -> DaemonProcess {
    DaemonProcess::start(|folder| settings(folder, faults, others))
}

fn settings(folder: &Path, faults: &str, others: &str) -> String {
    format!(
        "runtimes:\n  preference: [sim]\n  podman: {{enabled: false}}\n  sim:\n    enabled: true\n    \
         state_file: {}/sim.json\n    images:\n    \
         - {{reference: '{SLOW}', state: pullable, pull_ms: 60000}}\n    \
         - {{reference: '{MISSING}', state: missing}}\n    faults: {faults}\n{others}",
        folder.display()
    )
}

/// A launch of a Pod under an id of the same name.
fn launch_of(name: &str, image: &str) -> ActionSpec {
    named(name, launch(&pod(name, image, "sleep 1000")))
}

/// A Pod whose container lets SIGTERM pass.
fn deaf(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  hostNetwork: true\n  containers:\n  \
         - {{name: main, image: '{QUICK}', command: [ignore-term]}}\n"
    )
}

/// The action with this id.
fn named(id: &str, action: ActionSpec) -> ActionSpec {
    ActionSpec { action_id: id.to_owned(), ..action }
}

/// A stop with this grace.
fn stop(target: &str, grace_ms: u64) -> ActionSpec {
    let parameters = Parameters { grace_ms: Some(grace_ms), ..Default::default() };
    ActionSpec { parameters: Some(parameters).into(), ..on_target(Verb::VERB_STOP, target) }
}

/// Has an action accepted and does not wait for its end.
fn accept(daemon: &DaemonProcess, action: ActionSpec) -> grpcio::Result<Outcome> {
    let request = ExecuteActionRequest { action: Some(action).into(), no_wait: true, ..Default::default() };
    Ok(daemon.actions().execute_action(&request, options())?.outcome.unwrap_or_default())
}

fn get(daemon: &DaemonProcess, id: &str) -> grpcio::Result<Action> {
    daemon.actions().get_action(&GetActionRequest { action_id: id.into(), ..Default::default() }, options())
}

fn cancel(daemon: &DaemonProcess, id: &str) -> grpcio::Result<CancelActionResponse> {
    daemon.actions().cancel_action(&CancelActionRequest { action_id: id.into(), ..Default::default() }, options())
}

fn workload(daemon: &DaemonProcess, name: &str) -> grpcio::Result<Workload> {
    daemon.workloads().get_workload(&GetWorkloadRequest { name: name.into(), ..Default::default() }, options())
}

/// Runs `actionctl`, which has to end with this code; gives what it printed on stdout and stderr.
#[track_caller]
fn ctl(daemon: &DaemonProcess, code: i32, arguments: &[&str]) -> (String, String) {
    let Output { status, stdout, stderr } = daemon.ctl(arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&stdout), text(&stderr));
    assert_eq!(status.code(), Some(code), "{arguments:?}\n{out}\n{err}");
    (out, err)
}

/// A file with this text in the daemon's folder.
fn file(daemon: &DaemonProcess, name: &str, text: &str) -> PathBuf {
    let path = daemon.path(name);
    fs::write(&path, text).unwrap();
    path
}

/// What the simulator keeps.
fn sim_file(daemon: &DaemonProcess) -> String {
    fs::read_to_string(daemon.path("sim.json")).unwrap_or_default()
}

/// Nothing of the workload is there, on the engine or in the daemon.
#[track_caller]
fn assert_gone(daemon: &DaemonProcess, name: &str) {
    assert!(!sim_file(daemon).contains(&format!("{name}_main")), "{}", sim_file(daemon));
    assert_eq!(refusal(workload(daemon, name)).error.code, "WORKLOAD_NOT_FOUND");
}

/// Waits until the action is in this state.
#[track_caller]
fn until_state(daemon: &DaemonProcess, id: &str, state: ActionState) -> Action {
    until(&format!("'{id}' is {state:?}"), LONG, || {
        let action = get(daemon, id).unwrap();
        (action.progress.state.enum_value() == Ok(state)).then_some(action)
    })
}

/// Waits until the action is within a step with this in its title.
#[track_caller]
fn until_step(daemon: &DaemonProcess, id: &str, title: &str) -> Action {
    until(&format!("'{id}' is at '{title}'"), LONG, || {
        let action = get(daemon, id).unwrap();
        action.progress.current_step.contains(title).then_some(action)
    })
}

/// The details of a call that has to have failed as one of ours.
#[track_caller]
fn refusal<T: std::fmt::Debug>(result: grpcio::Result<T>) -> Details {
    match result {
        Err(grpcio::Error::RpcFailure(status)) => {
            let read = details(&status).unwrap_or_else(|| panic!("no details: {status:?}"));
            assert_eq!(read.error.status, i32::from(status.code()));
            read
        }
        other => panic!("no refusal: {other:?}"),
    }
}

/// The refusal has this status and code.
#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: grpcio::Result<T>, status: RpcStatusCode, code: &str) -> Details {
    let read = refusal(result);
    assert_eq!((RpcStatusCode::from(read.error.status), read.error.code.as_str()), (status, code), "{read:?}");
    read
}

/// Runs `work`, which has to end within `limit`.
#[track_caller]
fn within<T>(limit: Duration, what: &str, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = work();
    let took = begun.elapsed();
    assert!(took < limit, "{what} took {took:?}");
    done
}

fn state_of(outcome: &Outcome) -> ActionState {
    outcome.state.enum_value().unwrap()
}

fn step_state(step: &actioncontroller::proto::actions::StepResult) -> StepState {
    step.state.enum_value().unwrap()
}
