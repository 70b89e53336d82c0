//! What is wrong with a request is refused with the code that fits and the field at fault, and has no effect.

use actioncontroller::proto::actions::{ActionSpec, Ignorable, Parameters, Verb};
use actioncontroller::proto::workloads::ListWorkloadsRequest;
use grpcio::RpcStatusCode as Status;
use protobuf::EnumOrUnknown;

use super::{QUICK, daemon, launch_of, named, refusal, sim_file, stop};
use crate::support::daemon::{DaemonProcess, launch, on_target, options, pod};

/// A request, and how it is refused.
struct Case {
    what: &'static str,
    action: ActionSpec,
    status: Status,
    code: &'static str,
    /// The beginning of the field's path.
    field: &'static str,
}

fn case(what: &'static str, action: ActionSpec, status: Status, code: &'static str, field: &'static str) -> Case {
    Case { what, action, status, code, field }
}

fn with(action: ActionSpec, parameters: Parameters) -> ActionSpec {
    ActionSpec { parameters: Some(parameters).into(), ..action }
}

fn of_request() -> Vec<Case> {
    let invalid = Status::INVALID_ARGUMENT;
    let unknown_verb = ActionSpec { verb: EnumOrUnknown::from_i32(99), target: "a".into(), ..Default::default() };
    let signal = with(stop("a", 0), Parameters { signal: "SIGNONSENSE".into(), ..Default::default() });
    let ignore = Parameters { ignore: vec![Ignorable::IGNORABLE_UNSPECIFIED.into()], ..Default::default() };
    vec![
        case("no verb", on_target(Verb::VERB_UNSPECIFIED, "a"), invalid, "MISSING_FIELD", "action.verb"),
        case("an unknown verb", unknown_verb, invalid, "INVALID_FIELD", "action.verb"),
        case("an empty name", on_target(Verb::VERB_STOP, ""), invalid, "MISSING_FIELD", ""),
        case("a long name", on_target(Verb::VERB_STOP, &"x".repeat(300)), invalid, "INVALID_FIELD", "action.target"),
        case("a bad id", named("a b", launch_of("a", QUICK)), invalid, "INVALID_FIELD", "action.action_id"),
        case("a long id", named(&"x".repeat(129), launch_of("a", QUICK)), invalid, "INVALID_FIELD", "action.action_id"),
        case("an unknown signal", signal, invalid, "INVALID_FIELD", ""),
        case("a long grace", stop("a", 3_600_001), invalid, "INVALID_FIELD", ""),
        case("nothing to ignore", with(launch_of("a", QUICK), ignore), invalid, "MISSING_FIELD", ""),
        case(
            "a deadline beyond the node's",
            ActionSpec { deadline_ms: 25 * 3_600_000, ..launch_of("a", QUICK) },
            invalid,
            "INVALID_FIELD",
            "action.deadline_ms",
        ),
    ]
}

fn of_meaning() -> Vec<Case> {
    let invalid = Status::INVALID_ARGUMENT;
    let engine = with(launch_of("a", QUICK), Parameters { engine: "lxc".into(), ..Default::default() });
    let nameless = pod("", QUICK, "sleep 1000").replace("{name: }", "{}");
    let kind = "apiVersion: v1\nkind: Gadget\nmetadata: {name: a}\n";
    vec![
        case("an unknown runtime", engine, invalid, "UNKNOWN_ENGINE", ""),
        case("an unknown target", stop("a", 0), Status::NOT_FOUND, "WORKLOAD_NOT_FOUND", ""),
        case("a name that is none", stop("../x", 0), Status::NOT_FOUND, "WORKLOAD_NOT_FOUND", "target"),
        case("no document", on_target(Verb::VERB_LAUNCH, "a"), Status::NOT_FOUND, "WORKLOAD_NOT_FOUND", ""),
        case("broken YAML", launch("kind: Pod\nmetadata: [\n"), invalid, "INVALID_MANIFEST", ""),
        case("broken JSON", launch("{\"kind\": \"Pod\","), invalid, "INVALID_MANIFEST", ""),
        case("an unknown kind", launch(kind), invalid, "INVALID_MANIFEST", ""),
        case("a document without a name", launch(&nameless), invalid, "INVALID_MANIFEST", "metadata.name"),
        case("an empty document", launch(" \n"), invalid, "MISSING_FIELD", ""),
    ]
}

/// What is listed, and what the engine has.
fn everything(daemon: &DaemonProcess) -> (String, String) {
    let workloads = daemon.workloads().list_workloads(&ListWorkloadsRequest::default(), options()).unwrap();
    (sim_file(daemon), format!("{workloads:?}"))
}

// req: AC-35
#[test]
fn wrong_requests_are_refused_with_reason_code_and_field_and_have_no_effect() {
    let daemon = daemon("[]", "");
    daemon.execute(launch_of("other", QUICK)).unwrap();
    let before = everything(&daemon);
    for Case { what, action, status, code, field } in of_request().into_iter().chain(of_meaning()) {
        let refused = refusal(daemon.execute(action));
        assert_eq!((refused.error.status, refused.error.code.as_str()), (status.into(), code), "{what}: {refused:?}");
        assert!(refused.error.field.starts_with(field), "{what}: {refused:?}");
        assert!(!refused.error.message.is_empty(), "{what}");
        assert_eq!(everything(&daemon), before, "{what}");
    }
}

#[test]
fn scale_without_limits_is_refused_without_effect() {
    let daemon = daemon("[]", "");
    daemon.execute(launch_of("alpha", QUICK)).unwrap();
    let before = everything(&daemon);
    let refused = refusal(daemon.execute(on_target(Verb::VERB_SCALE, "alpha")));
    assert_eq!(refused.error.field, "parameters.resources", "{refused:?}");
    assert_eq!(everything(&daemon), before);
}
