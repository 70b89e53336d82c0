//! Documents through the real daemon: what of them reaches the engine word for word, and what is refused with its
//! place. The simulator stands for the engine, because it keeps exactly what it was given to run.

mod ceiling;
mod compose;
mod formats;
mod kubernetes;
mod pullpiri;
mod stored;

use std::fs;

use actioncontroller::grpc::status::{Details, details};
use actioncontroller::proto::actions::{ActionSpec, Ignorable, Outcome, Parameters, Warning};
use grpcio::RpcStatusCode;
use protobuf::MessageField;
use serde_json::Value;

use crate::support::daemon::{DaemonProcess, launch};

const PULLPIRI: &str = include_str!("../../fixtures/pullpiri.yaml");

/// The same launch with a Package's Schedule given up.
fn without_schedule(action: ActionSpec) -> ActionSpec {
    let ignore = vec![Ignorable::IGNORABLE_SCHEDULE.into()];
    ActionSpec { parameters: MessageField::some(Parameters { ignore, ..Default::default() }), ..action }
}

/// Code and details of a call that has to have been refused.
#[track_caller]
fn refusal(result: grpcio::Result<Outcome>) -> (RpcStatusCode, Details) {
    match result {
        Err(grpcio::Error::RpcFailure(status)) => {
            let read = details(&status).unwrap_or_else(|| panic!("no details: {status:?}"));
            (status.code(), read)
        }
        Err(error) => panic!("no status: {error}"),
        Ok(outcome) => panic!("it was done: {outcome:?}"),
    }
}

/// The containers on the simulator by their names: exactly what each was created from.
fn on_engine(daemon: &DaemonProcess) -> serde_json::Map<String, Value> {
    let text = fs::read(daemon.path("sim.json")).expect("the simulator's state file");
    let file: Value = serde_json::from_slice(&text).expect("JSON");
    let containers = file["state"]["containers"].as_object().expect("containers").values();
    let by_name =
        |container: &Value| Some((container["config"]["name"].as_str()?.to_owned(), container["config"].clone()));
    containers.filter_map(by_name).collect()
}

/// What one container was created from.
#[track_caller]
fn created(daemon: &DaemonProcess, name: &str) -> Value {
    let containers = on_engine(daemon);
    let names: Vec<_> = containers.keys().collect();
    containers.get(name).unwrap_or_else(|| panic!("no '{name}' among {names:?}")).clone()
}

#[track_caller]
fn warning<'a>(outcome: &'a Outcome, path: &str) -> &'a Warning {
    let found = outcome.warnings.iter().find(|warning| warning.path == path);
    found.unwrap_or_else(|| panic!("no warning at '{path}': {:?}", outcome.warnings))
}

/// A Pod whose one container has these fields beside its name and image (flow style), and whose spec has these.
fn pod(name: &str, container: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  containers:\n  \
         - {{name: main, image: 'localhost/busybox:1'{container}}}\n{spec}"
    )
}

/// A launch that has to succeed.
#[track_caller]
fn launched(daemon: &DaemonProcess, documents: &str) -> Outcome {
    daemon.execute(launch(documents)).unwrap_or_else(|error| panic!("{error}\n{documents}"))
}
