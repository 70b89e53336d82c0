//! Every call: what arrives at the service, and what comes back.

use std::time::{Duration, Instant};

use actioncontroller::proto::actions::watch_action_response::Event;
use actioncontroller::proto::actions::{
    ActionSpec, ActionState, BatchEntry, CancelActionRequest, CheckPolicyRequest, ExecuteActionRequest,
    ExecuteBatchRequest, GetActionRequest, ListActionsRequest, ListCoresRequest, NodeHealthRequest, Parameters,
    PlanRequest, Verb, WatchActionRequest,
};
use actioncontroller::proto::health::HealthCheckRequest;
use actioncontroller::proto::health::health_check_response::ServingStatus;
use actioncontroller::proto::resources::Resources;
use actioncontroller::proto::workloads::{
    Condition, ExecRequest, GetWorkloadRequest, ListWorkloadsRequest, OutputStream, StatsRequest, WaitRequest,
};
use futures_util::{StreamExt, TryStreamExt};
use grpcio::RpcStatusCode;
use protobuf::EnumOrUnknown;

use super::double::{BREAKS, ENDLESS, FAILS, NEVER, PANICS};
use super::{Rig, block_on, failure, logs_of, long, refusal, stop_of, until};

#[test]
fn action_that_succeeds_answers_its_outcome() {
    let rig = Rig::new();
    let outcome = rig.actions().execute_action(&stop_of("lane"), long()).unwrap().outcome.unwrap();
    assert_eq!((outcome.action_id.as_str(), outcome.target.as_str()), ("a-1", "lane"));
    assert_eq!(outcome.state, ActionState::ACTION_STATE_SUCCEEDED.into());
    assert_eq!(outcome.ended_at.seconds, 1_700_000_000);
    assert!(rig.service.last().starts_with("execute ActionRequest { id: \"a-1\", verb: Stop, target: \"lane\""));
}

#[test]
fn action_that_fails_is_a_failed_call_with_reason_and_outcome() {
    let rig = Rig::new();
    let (code, details) = refusal(rig.actions().execute_action(&stop_of(FAILS), long()));
    assert_eq!(code, RpcStatusCode::UNAVAILABLE);
    assert_eq!(
        (details.error.code.as_str(), details.error.hint.as_str()),
        ("ENGINE_UNAVAILABLE", "start podman.socket")
    );
    let outcome = details.outcome.unwrap();
    assert_eq!(outcome.action_id, "a-1");
    assert_eq!(outcome.state, ActionState::ACTION_STATE_FAILED.into());
}

#[test]
fn action_that_is_not_waited_for_is_accepted_and_answered_at_once() {
    let rig = Rig::new();
    let request = ExecuteActionRequest { no_wait: true, ..stop_of(FAILS) };
    let outcome = rig.actions().execute_action(&request, long()).unwrap().outcome.unwrap();
    assert_eq!(outcome.state, ActionState::ACTION_STATE_QUEUED.into());
    assert!(rig.service.last().starts_with("accept "));
}

// req: AC-35
#[test]
fn bad_request_names_the_field_and_never_reaches_the_service() {
    let rig = Rig::new();
    let client = rig.actions();
    let run = |change: fn(&mut ActionSpec)| {
        let mut request = stop_of("lane");
        change(request.action.as_mut().unwrap());
        let (code, details) = refusal(client.execute_action(&request, long()));
        (code, details.error.code, details.error.field)
    };
    let invalid = |code: &str, field: &str| (RpcStatusCode::INVALID_ARGUMENT, code.to_owned(), field.to_owned());
    assert_eq!(run(|of| of.verb = Verb::VERB_UNSPECIFIED.into()), invalid("MISSING_FIELD", "action.verb"));
    assert_eq!(run(|of| of.verb = EnumOrUnknown::from_i32(77)), invalid("INVALID_FIELD", "action.verb"));
    assert_eq!(run(|of| of.target.clear()), invalid("MISSING_FIELD", "action.target"));
    assert_eq!(run(|of| of.action_id = "ü".into()), invalid("INVALID_FIELD", "action.action_id"));
    let grace = |of: &mut ActionSpec| {
        of.parameters = Some(Parameters { grace_ms: Some(3_600_001), ..Default::default() }).into();
    };
    assert_eq!(run(grace), invalid("INVALID_FIELD", "action.parameters.grace_ms"));
    let memory = |of: &mut ActionSpec| {
        let resources = Resources { memory: "much".into(), ..Default::default() };
        of.parameters = Some(Parameters { resources: Some(resources).into(), ..Default::default() }).into();
    };
    assert_eq!(run(memory), invalid("INVALID_FIELD", "action.parameters.resources.memory"));
    assert_eq!(rig.service.last(), "");
}

#[test]
fn cancel_waits_or_not_and_says_why() {
    let rig = Rig::new();
    let mut request = CancelActionRequest { action_id: "a".into(), reason: "park".into(), ..Default::default() };
    let answer = rig.actions().cancel_action(&request, long()).unwrap();
    assert!(answer.cancelled && answer.outcome.state == ActionState::ACTION_STATE_CANCELLED.into());
    assert_eq!(rig.service.last(), "cancel a park true");
    request.no_wait = true;
    assert!(rig.actions().cancel_action(&request, long()).unwrap().outcome.is_none());
    assert_eq!(rig.service.last(), "cancel a park false");
}

#[test]
fn batch_answers_each_outcome_in_order_and_is_ok() {
    let rig = Rig::new();
    let entry = |id: &str, after: &[&str]| {
        let mut action = stop_of("lane").action;
        action.as_mut().unwrap().action_id = id.into();
        BatchEntry { action, depends_on: after.iter().map(|id| (*id).into()).collect(), ..Default::default() }
    };
    let request = ExecuteBatchRequest { entries: vec![entry("x", &[]), entry("y", &["x"])], ..Default::default() };
    let outcomes = rig.actions().execute_batch(&request, long()).unwrap().outcomes;
    let told: Vec<_> = outcomes.iter().map(|of| (of.action_id.as_str(), of.state.enum_value().unwrap())).collect();
    assert_eq!(told, [("x", ActionState::ACTION_STATE_FAILED), ("y", ActionState::ACTION_STATE_SKIPPED)]);
    assert_eq!(outcomes[0].error.code, "ENGINE_UNAVAILABLE");
}

#[test]
fn actions_are_got_listed_and_planned() {
    let rig = Rig::new();
    let client = rig.actions();
    let got = client.get_action(&GetActionRequest { action_id: "a".into(), ..Default::default() }, long()).unwrap();
    assert_eq!((got.action_id.as_str(), got.progress.percent), ("a", 50));
    let unknown = GetActionRequest { action_id: "unknown".into(), ..Default::default() };
    let (code, details) = refusal(client.get_action(&unknown, long()));
    assert_eq!((code, details.error.code.as_str()), (RpcStatusCode::NOT_FOUND, "ACTION_NOT_FOUND"));

    let request = ListActionsRequest { page_size: 7, page_token: "t".into(), running_only: true, ..Default::default() };
    let page = client.list_actions(&request, long()).unwrap();
    assert_eq!((page.actions.len(), page.next_page_token.as_str()), (2, "more"));
    assert!(rig.service.last().contains("size: 7, token: \"t\" }, target: \"\", running_only: true"));

    let spec = stop_of("lane").action.unwrap();
    let plan = client.plan(&PlanRequest { actions: vec![spec], ..Default::default() }, long()).unwrap().plan.unwrap();
    assert_eq!((plan.steps[0].title.as_str(), plan.stage_count), ("create lane_core", 1));
    assert_eq!(plan.errors[0].code, "INVALID_FIELD");
}

#[test]
fn policy_is_asked_about_an_action_and_answers_by_workload() {
    let rig = Rig::new();
    let ask = |target: &str| {
        let request = CheckPolicyRequest { action: stop_of(target).action, ..Default::default() };
        rig.actions().check_policy(&request, long()).unwrap()
    };
    let allowed = ask("lane");
    assert_eq!((allowed.allowed, allowed.verdicts.len()), (true, 1));
    assert!(allowed.verdicts[0].allowed && allowed.verdicts[0].workload.is_empty());
    assert_eq!(rig.service.last(), "check_policy stop lane");
    let refused = ask(FAILS);
    assert_eq!((refused.allowed, refused.verdicts.len()), (false, 2));
    let log = &refused.verdicts[1];
    assert_eq!((log.workload.as_str(), log.allowed), ("log", false));
    assert_eq!((log.rule.as_str(), log.reason.as_str()), ("rule 'night' of /p.yaml", "not at night"));
    assert_eq!((log.suggested_node.as_str(), log.unanswered.as_str()), ("ZONE1", ""));
    let (code, details) = refusal(rig.actions().check_policy(&CheckPolicyRequest::default(), long()));
    assert_eq!((code, details.error.field.as_str()), (RpcStatusCode::INVALID_ARGUMENT, "action"));
}

#[test]
fn cores_tell_who_holds_them_and_who_else_may_run_there() {
    let rig = Rig::new();
    let told = rig.actions().list_cores(&ListCoresRequest::default(), long()).unwrap();
    let cores: Vec<_> =
        told.cores.iter().map(|core| (core.cpu, core.online, core.reserved, core.offered, &*core.holder)).collect();
    let expected = [(0, true, true, false, ""), (1, true, false, true, "lane"), (2, false, false, true, "lane")];
    assert_eq!(cores, expected);
    assert!(told.cores[1].isolated && !told.cores[0].isolated);
    assert_eq!((told.foreign[0].pid, &*told.foreign[0].name, &*told.foreign[0].cpus), (7, "sshd", "1"));
    assert_eq!(told.problems, ["CPUs 2 are held and offline"]);
}

#[test]
fn node_health_tells_engines_store_and_misses_and_that_the_daemon_is_ending() {
    let rig = Rig::new();
    let ask = || rig.actions().node_health(&NodeHealthRequest::default(), long()).unwrap();
    let health = ask();
    assert_eq!((health.serving, health.node.as_str(), health.version.as_str()), (true, "HPC", "0.1.0"));
    let engines: Vec<_> =
        health.engines.iter().map(|of| (&*of.name, of.available, &*of.version, &*of.reason)).collect();
    assert_eq!(engines, [("docker", false, "", "no such socket"), ("podman", true, "5.4", "")]);
    let podman = &health.engines[1];
    assert_eq!((podman.api.as_str(), podman.order, podman.capabilities.join(" ").as_str()), ("5", 2, "pause"));
    assert!(health.engines[0].capabilities.is_empty(), "what is away can do nothing");
    let store = health.store.unwrap();
    assert_eq!((store.backend.as_str(), store.problem.as_str()), ("etcd", "away"));
    let counts = [store.outcomes_waiting, store.outcomes_bound, store.states_waiting, store.outcomes_owed];
    assert_eq!((counts, store.set_aside), ([1, 2, 3, 4], 5));
    let misses = &health.deadline_misses[0];
    assert_eq!((&*misses.schedule, &*misses.node, &*misses.task, misses.count), ("s", "HPC", "t", 6));
    assert_eq!(misses.last_at.seconds, 7);
    rig.health.not_serving();
    assert!(!ask().serving, "a daemon that is ending says so");
}

#[test]
fn watch_tells_every_event_in_order_and_ends_with_ok() {
    let rig = Rig::new();
    let request = WatchActionRequest { action_id: "a".into(), ..Default::default() };
    let events: Vec<_> = block_on(rig.actions().watch_action(&request, long()).unwrap().try_collect()).unwrap();
    let mut events = events.into_iter().map(|event| event.event.unwrap());
    assert!(matches!(events.next(), Some(Event::Snapshot(action)) if action.action_id == "a"));
    assert!(matches!(events.next(), Some(Event::Step(step)) if step.step.title == "create lane_core"));
    assert!(matches!(events.next(), Some(Event::Progress(progress)) if progress.percent == 99));
    assert!(matches!(events.next(), Some(Event::Outcome(outcome)) if outcome.error.status == 14));
    assert!(events.next().is_none());
}

#[test]
fn workloads_are_listed_and_got() {
    let rig = Rig::new();
    let client = rig.workloads();
    let page = client.list_workloads(&ListWorkloadsRequest { package: "p".into(), ..Default::default() }, long());
    assert_eq!(page.unwrap().workloads[0].name, "lane");
    assert!(rig.service.last().ends_with(" p"));
    let got = client.get_workload(&GetWorkloadRequest { name: "core".into(), ..Default::default() }, long()).unwrap();
    assert_eq!((got.name.as_str(), got.desired.as_str()), ("core", "running"));
    let (code, details) = refusal(client.get_workload(&GetWorkloadRequest::default(), long()));
    assert_eq!((code, details.error.field.as_str()), (RpcStatusCode::INVALID_ARGUMENT, "name"));
}

#[test]
fn exec_stats_and_wait_answer_what_the_service_says() {
    let rig = Rig::new();
    let client = rig.workloads();
    let exec = ExecRequest { workload: "lane".into(), argv: vec!["id".into()], ..Default::default() };
    let exec = client.exec(&exec, long()).unwrap();
    assert_eq!((exec.exit_code, exec.stdout_data.as_slice(), exec.truncated), (3, &b"out"[..], true));
    let stats = client.stats(&StatsRequest { workload: "lane".into(), ..Default::default() }, long()).unwrap();
    assert_eq!((stats.containers[0].name.as_str(), stats.containers[0].pids), ("core", 5));
    assert_eq!(stats.time.seconds, 7);
    let condition = Condition::CONDITION_GONE.into();
    let wait = WaitRequest { workload: "lane".into(), condition, timeout_ms: 5, ..Default::default() };
    assert!(client.wait(&wait, long()).unwrap().workload.is_none());
    assert!(rig.service.last().contains("condition: Gone, timeout_ms: 5"));
}

#[test]
fn output_is_given_with_stream_and_time() {
    let rig = Rig::new();
    let mut output = rig.workloads().logs(&logs_of(ENDLESS), long()).unwrap();
    let first = block_on(output.next()).unwrap().unwrap();
    assert_eq!((first.data.as_slice(), first.time.nanos), (&b"hello\n"[..], 5));
    assert_eq!(first.stream, OutputStream::OUTPUT_STREAM_STDOUT.into());
}

#[test]
fn output_that_breaks_ends_with_the_error() {
    let rig = Rig::new();
    // What came just before the error may be lost: grpcio's client looks at the status before what it has received.
    let output = rig.workloads().logs(&logs_of(BREAKS), long()).unwrap();
    let (code, details) = refusal(block_on(output.try_collect::<Vec<_>>()));
    assert_eq!((code, details.error.message.as_str()), (RpcStatusCode::UNAVAILABLE, "the engine went away"));
}

#[test]
fn stream_that_cannot_be_opened_is_refused_with_details() {
    let rig = Rig::new();
    let mut output = rig.workloads().logs(&logs_of(""), long()).unwrap();
    let (code, details) = refusal(block_on(output.next()).unwrap());
    assert_eq!((code, details.error.field.as_str()), (RpcStatusCode::INVALID_ARGUMENT, "workload"));
}

#[test]
fn deadline_of_the_caller_ends_only_its_wait() {
    let rig = Rig::new();
    let client = rig.actions();
    let short = grpcio::CallOption::default().timeout(Duration::from_millis(150));
    let status = failure(client.execute_action(&stop_of(NEVER), short));
    assert_eq!(status.code(), RpcStatusCode::DEADLINE_EXCEEDED);
    assert!(rig.service.last().starts_with("execute "), "the action was accepted all the same");
    client.execute_action(&stop_of("lane"), long()).unwrap();
}

#[test]
fn calls_that_wait_hold_up_no_other_on_the_same_connection() {
    let rig = Rig::with(|config| config.poll_threads = 1);
    let channel = rig.channel();
    let client = actioncontroller::proto::actions_grpc::ActionControllerClient::new(channel.clone());
    let waiting: Vec<_> = (0..100).map(|_| client.execute_action_async(&stop_of(NEVER), long()).unwrap()).collect();
    until("all wait", super::LONG, || rig.service.seen.lock().unwrap().len() == waiting.len());
    let start = Instant::now();
    client.cancel_action(&CancelActionRequest { action_id: "a".into(), ..Default::default() }, long()).unwrap();
    let health = actioncontroller::proto::health_grpc::HealthClient::new(channel);
    health.check(&HealthCheckRequest::default(), long()).unwrap();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[test]
fn service_that_panics_answers_internal_and_the_server_goes_on() {
    let rig = Rig::with(|config| config.poll_threads = 1);
    let client = rig.actions();
    for _ in 0..3 {
        let (code, details) = refusal(client.execute_action(&stop_of(PANICS), long()));
        assert_eq!((code, details.error.code.as_str()), (RpcStatusCode::INTERNAL, "INTERNAL"));
    }
    client.execute_action(&stop_of("lane"), long()).unwrap();
}

#[test]
fn health_is_that_of_the_service_by_name() {
    let rig = Rig::new();
    let client = rig.health();
    let check =
        |service: &str| client.check(&HealthCheckRequest { service: service.into(), ..Default::default() }, long());
    for service in ["", "actioncontroller.v1.ActionController", "actioncontroller.v1.Workloads"] {
        assert_eq!(check(service).unwrap().status, ServingStatus::SERVING.into(), "{service}");
    }
    assert_eq!(failure(check("no.such.Service")).code(), RpcStatusCode::NOT_FOUND);
    rig.service.not_serving.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(check("").unwrap().status, ServingStatus::NOT_SERVING.into());
}

#[test]
fn health_watch_tells_each_change_and_ends_with_the_server() {
    let mut rig = Rig::new();
    let client = rig.health();
    let mut watch = client.watch(&HealthCheckRequest::default(), long()).unwrap();
    let mut next = || block_on(watch.next()).map(|status| status.unwrap().status.enum_value().unwrap());
    assert_eq!(next(), Some(ServingStatus::SERVING));
    rig.service.not_serving.store(true, std::sync::atomic::Ordering::SeqCst);
    rig.health.changed();
    assert_eq!(next(), Some(ServingStatus::NOT_SERVING));
    rig.service.not_serving.store(false, std::sync::atomic::Ordering::SeqCst);
    rig.health.changed();
    assert_eq!(next(), Some(ServingStatus::SERVING));
    rig.health.not_serving();
    assert_eq!(next(), Some(ServingStatus::NOT_SERVING));
    let start = Instant::now();
    rig.stop(Duration::from_secs(15));
    assert_eq!(next(), None);
    assert!(start.elapsed() < Duration::from_secs(5), "a health watch does not hold up the stop");
}

#[test]
fn health_watch_of_an_unknown_service_says_so_and_goes_on() {
    let rig = Rig::new();
    let request = HealthCheckRequest { service: "no.such.Service".into(), ..Default::default() };
    let mut watch = rig.health().watch(&request, long()).unwrap();
    let status = block_on(watch.next()).unwrap().unwrap().status;
    assert_eq!(status, ServingStatus::SERVICE_UNKNOWN.into());
}

#[test]
fn stop_answers_what_still_waits_and_lets_go_of_the_service() {
    let mut rig = Rig::new();
    let client = rig.actions();
    let waiting = client.execute_action_async(&stop_of(NEVER), long()).unwrap();
    let mut output = rig.workloads().logs(&logs_of("lane"), long()).unwrap();
    block_on(output.next()).unwrap().unwrap();
    until("both wait", super::LONG, || rig.service.seen.lock().unwrap().len() == 2);
    rig.stop(Duration::from_millis(50));
    assert_eq!(std::sync::Arc::strong_count(&rig.service), 1);
    assert_eq!(rig.service.dropped.load(std::sync::atomic::Ordering::SeqCst), 2);
    for result in [block_on(waiting).map(drop), block_on(output.next()).unwrap().map(drop)] {
        let (code, details) = refusal(result);
        assert_eq!((code, details.error.code.as_str()), (RpcStatusCode::UNAVAILABLE, "STOPPING"));
    }
    let none = grpcio::CallOption::default().timeout(Duration::from_millis(500));
    assert!(client.execute_action(&stop_of("lane"), none).is_err());
}

#[test]
fn stop_does_not_wait_for_followed_output() {
    let mut rig = Rig::new();
    let request = actioncontroller::proto::workloads::LogsRequest { follow: true, ..logs_of(ENDLESS) };
    let mut output = rig.workloads().logs(&request, long()).unwrap();
    block_on(output.next()).unwrap().unwrap();
    let start = Instant::now();
    rig.stop(Duration::from_secs(15));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let (code, details) = refusal(block_on(output.next()).unwrap());
    assert_eq!((code, details.error.code.as_str()), (RpcStatusCode::UNAVAILABLE, "STOPPING"));
}
