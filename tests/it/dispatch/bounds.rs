//! Limits: of messages, documents and streams; beyond each a refusal, and the next call works.

use std::fmt::Write;

use actioncontroller::proto::actions::{ExecuteActionRequest, WatchActionRequest, WatchActionResponse};
use actioncontroller::proto::actions_grpc::ActionControllerClient;
use futures_executor::block_on;
use futures_util::StreamExt;
use grpcio::{ClientSStreamReceiver, Error, RpcStatusCode};
use protobuf::Message;

use super::{LONG, QUICK, SLOW, SOON, accept, assert_refused, cancel, daemon, launch_of, until_step};
use crate::support::daemon::{DaemonProcess, launch, options, pod};
use crate::support::wait::until;

/// A dry run of a launch whose message has exactly so many bytes: what is kept of it is not the subject here.
fn request_of(bytes: usize) -> ExecuteActionRequest {
    let document = pod("alpha", QUICK, "sleep 1000");
    let sized = |filler: usize| {
        let action = launch(&format!("{document}# {}", "x".repeat(filler)));
        ExecuteActionRequest { action: Some(action).into(), dry_run: true, ..Default::default() }
    };
    let around = usize::try_from(sized(bytes).compute_size()).unwrap() - bytes;
    let request = sized(bytes - around);
    assert_eq!(request.compute_size(), bytes as u64);
    request
}

#[test]
fn message_of_four_mebibytes_and_a_byte_is_refused_and_the_next_call_works() {
    let daemon = daemon("[]", "");
    let client = daemon.actions();
    const LIMIT: usize = 4 << 20;
    match client.execute_action(&request_of(LIMIT + 1), options()) {
        Err(Error::RpcFailure(status)) => assert_eq!(status.code(), RpcStatusCode::RESOURCE_EXHAUSTED, "{status:?}"),
        other => panic!("{other:?}"),
    }
    client.execute_action(&request_of(LIMIT), options()).unwrap();
}

fn pod_of_many(containers: usize) -> String {
    let mut text = String::from("apiVersion: v1\nkind: Pod\nmetadata: {name: many}\nspec:\n  containers:\n");
    for n in 0..containers {
        writeln!(text, "  - {{name: c{n}, image: '{QUICK}'}}").unwrap();
    }
    text
}

#[test]
fn manifest_of_two_thousand_containers_is_refused_by_a_limit_that_is_configurable() {
    let other = daemon("[]", "");
    let refused =
        assert_refused(other.launch(&pod_of_many(2_000)), RpcStatusCode::RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED");
    assert!(refused.error.message.contains("256"), "{refused:?}");
    assert!(!super::sim_file(&other).contains("many_c0"));
    drop(other);

    let daemon = daemon("[]", "limits: {containers: 3}\n");
    assert_refused(daemon.launch(&pod_of_many(4)), RpcStatusCode::RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED");
    assert_eq!(daemon.launch(&pod_of_many(3)).unwrap().workloads[0].container_ids.len(), 3);
}

#[test]
fn raised_limit_lets_more_containers_be_planned() {
    let daemon = daemon("[]", "limits: {containers: 400}\n");
    let action = launch(&pod_of_many(400));
    let request = ExecuteActionRequest { action: Some(action).into(), dry_run: true, ..Default::default() };
    let plan = daemon.actions().execute_action(&request, options()).unwrap().outcome.unwrap().plan.unwrap();
    assert!(plan.steps.len() >= 800, "{}", plan.steps.len());
}

type Stream = ClientSStreamReceiver<WatchActionResponse>;

/// Follows the action 'busy'; the error where it is refused.
fn watch(client: &ActionControllerClient) -> grpcio::Result<Stream> {
    let request = WatchActionRequest { action_id: "busy".into(), ..Default::default() };
    let mut stream = client.watch_action(&request, options())?;
    block_on(stream.next()).unwrap()?;
    Ok(stream)
}

/// So many streams are open at once and no more; the place of one whose client is gone is free within a second.
#[track_caller]
fn assert_streams(daemon: &DaemonProcess, limit: usize, connect: impl Fn() -> ActionControllerClient) {
    accept(daemon, launch_of("busy", SLOW)).unwrap();
    until_step(daemon, "busy", "pull");
    let clients = [connect(), connect(), connect()];
    let mut open: Vec<_> = (0..limit).map(|n| watch(&clients[n % 3]).unwrap()).collect();
    let one_more = watch(&clients[0]).map(drop);
    assert_refused(one_more, RpcStatusCode::RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS");
    open.pop();
    until("a place is free", SOON, || watch(&clients[1]).ok().map(|stream| open.push(stream)));
    assert!(watch(&clients[2]).is_err());
    // What is no stream goes on.
    cancel(daemon, "busy").unwrap();
}

#[test]
fn unix_socket_has_64_streams() {
    let daemon = daemon("[]", "");
    assert_streams(&daemon, 64, || daemon.actions());
}

#[test]
fn limit_of_streams_on_the_unix_socket_is_configurable() {
    let daemon = daemon("[]", "limits: {streams_unix: 2}\n");
    assert_streams(&daemon, 2, || daemon.actions());
}

#[test]
fn tcp_address_has_32_streams() {
    let mut daemon = daemon("[]", "");
    // The test's settings are laid over the rig's, section by section.
    let settings = super::settings(daemon.path("").as_path(), "[]", "listen: {tcp: ['127.0.0.1:0']}\n");
    daemon.write_settings(&settings);
    assert!(daemon.terminate().success());
    daemon.start_again();
    let port = until("the log tells the port", LONG, || {
        let log = daemon.log();
        let (_, rest) = log.rsplit_once("127.0.0.1:")?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u16>().ok().filter(|port| *port != 0)
    });
    let address = format!("127.0.0.1:{port}");
    assert_streams(&daemon, 32, || daemon.actions_at(&address));
}
