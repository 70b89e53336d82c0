//! What is taken, what is refused, and by which name.

use proptest::prelude::*;

use super::*;
use crate::proto::actions::{ActionSpec, BatchEntry, CancelActionRequest, ExecuteActionRequest, ExecuteBatchRequest};
use crate::proto::workloads::{ExecRequest, LogsRequest, WaitRequest};

fn stop() -> ActionSpec {
    ActionSpec { verb: actions::Verb::VERB_STOP.into(), target: "lane".into(), ..ActionSpec::default() }
}

fn run(action: ActionSpec) -> Result<ActionRequest> {
    let request = ExecuteActionRequest { action: MessageField::some(action), ..ExecuteActionRequest::default() };
    execute(request).map(|(action, _)| action)
}

/// The field that a refused action names; it has to be an INVALID_ARGUMENT.
fn refused(change: impl FnOnce(&mut ActionSpec)) -> String {
    let mut action = stop();
    change(&mut action);
    let error = run(action).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidArgument, "{error}");
    error.field
}

fn with(change: impl FnOnce(&mut actions::Parameters)) -> impl FnOnce(&mut ActionSpec) {
    |action| change(action.parameters.mut_or_insert_default())
}

#[test]
fn empty_request_is_refused_by_its_first_required_field() {
    let error = execute(ExecuteActionRequest::default()).unwrap_err();
    assert_eq!((error.code, error.field.as_str()), (ErrorCode::MissingField, "action"));
}

#[test]
fn action_is_read_whole() {
    let mut action = stop();
    action.action_id = "a:1".into();
    action.manifest = "kind: Pod".into();
    action.deadline_ms = 7;
    action.priority = -3;
    with(|parameters| {
        parameters.grace_ms = Some(0);
        parameters.signal = "SIGRTMIN+3".into();
        parameters.force = true;
        parameters.engine = "sim".into();
        parameters.ignore = vec![actions::Ignorable::IGNORABLE_SCHEDULE.into(); 2];
    })(&mut action);
    let wanted = ActionRequest {
        id: "a:1".into(),
        verb: Verb::Stop,
        target: "lane".into(),
        manifest: "kind: Pod".into(),
        parameters: Parameters {
            grace_ms: Some(0),
            signal: Some("SIGRTMIN+3".into()),
            force: true,
            engine: Some("sim".into()),
            ignore: BTreeSet::from([Ignorable::Schedule]),
            ..Parameters::default()
        },
        deadline_ms: Some(7),
        priority: -3,
        dry_run: false,
    };
    assert_eq!(run(action).unwrap(), wanted);
}

#[test]
fn what_is_left_out_is_left_to_the_node() {
    let action = run(stop()).unwrap();
    assert_eq!((action.deadline_ms, action.parameters), (None, Parameters::default()));
    let other = run(stop()).unwrap();
    assert!(!action.id.is_empty() && action.id != other.id, "an id is given, and to each its own");
}

#[test]
fn each_bad_field_is_named() {
    assert_eq!(refused(|action| action.verb = EnumOrUnknown::from_i32(99)), "action.verb");
    assert_eq!(refused(|action| action.verb = EnumOrUnknown::from_i32(0)), "action.verb");
    assert_eq!(refused(|action| action.target.clear()), "action.target");
    assert_eq!(refused(|action| action.target = " ".into()), "action.target");
    assert_eq!(refused(|action| action.target = "x".repeat(MAX_NAME + 1)), "action.target");
    assert_eq!(refused(|action| action.target = "a\nb".into()), "action.target");
    assert_eq!(refused(|action| action.action_id = "a b".into()), "action.action_id");
    assert_eq!(refused(|action| action.action_id = "x".repeat(MAX_ACTION_ID + 1)), "action.action_id");
    assert_eq!(refused(|action| action.deadline_ms = MAX_DEADLINE_MS + 1), "action.deadline_ms");
    assert_eq!(refused(with(|of| of.grace_ms = Some(MAX_GRACE_MS + 1))), "action.parameters.grace_ms");
    assert_eq!(refused(with(|of| of.signal = "TERM".into())), "action.parameters.signal");
    assert_eq!(refused(with(|of| of.signal = "SIGRTMIN+31".into())), "action.parameters.signal");
    assert_eq!(refused(with(|of| of.engine = "\u{7}".into())), "action.parameters.engine");
    let unknown = vec![actions::Ignorable::IGNORABLE_SCHEDULE.into(), EnumOrUnknown::from_i32(9)];
    assert_eq!(refused(with(|of| of.ignore = unknown)), "action.parameters.ignore[1]");
}

#[test]
fn bounds_themselves_are_allowed() {
    let mut action = stop();
    action.deadline_ms = MAX_DEADLINE_MS;
    action.action_id = "x".repeat(MAX_ACTION_ID);
    action.target = "x".repeat(MAX_NAME);
    with(|of| of.grace_ms = Some(MAX_GRACE_MS))(&mut action);
    run(action).unwrap();
}

#[test]
fn plan_as_answer_and_no_answer_exclude_each_other() {
    let action = MessageField::some(stop());
    let error = execute(ExecuteActionRequest { action, dry_run: true, no_wait: true, ..Default::default() });
    assert_eq!(error.unwrap_err().field, "no_wait");
}

#[test]
fn cancel_needs_an_id_and_a_reason_of_bounded_length() {
    assert_eq!(cancel(CancelActionRequest::default()).unwrap_err().field, "action_id");
    let long = CancelActionRequest { action_id: "a".into(), reason: "x".repeat(MAX_TEXT + 1), ..Default::default() };
    assert_eq!(cancel(long).unwrap_err().field, "reason");
}

fn entry(id: &str, depends_on: &[&str]) -> BatchEntry {
    let mut action = stop();
    action.action_id = id.into();
    let depends_on = depends_on.iter().map(|id| (*id).to_owned()).collect();
    BatchEntry { action: MessageField::some(action), depends_on, ..BatchEntry::default() }
}

fn batch_of(entries: Vec<BatchEntry>) -> Result<Batch> {
    batch(ExecuteBatchRequest { entries, ..ExecuteBatchRequest::default() })
}

#[test]
fn batch_keeps_order_dependencies_and_policy() {
    let entries = vec![entry("b", &[]), entry("a", &["b"])];
    let on_failure = actions::FailurePolicy::FAILURE_POLICY_STOP.into();
    let read = batch(ExecuteBatchRequest { entries, on_failure, ..Default::default() }).unwrap();
    assert!(read.stop_at_failure);
    assert_eq!(read.entries[0].0.id, "b");
    assert_eq!(read.entries[1].1, ["b"]);
}

#[test]
fn bad_batch_names_entry_and_field() {
    let field = |entries| batch_of(entries).unwrap_err().field;
    assert_eq!(field(vec![]), "entries");
    assert_eq!(field(vec![BatchEntry::default()]), "entries[0].action");
    assert_eq!(field(vec![entry("a", &[]), entry("a", &[])]), "entries[1].action.action_id");
    assert_eq!(field(vec![entry("a", &[]), entry("b", &["a", "c"])]), "entries[1].depends_on[1]");
    assert_eq!(field(vec![entry("", &[]); MAX_ENTRIES + 1]), "entries");
    assert_eq!(batch_of(vec![entry("", &[]); MAX_ENTRIES]).unwrap().entries.len(), MAX_ENTRIES);
}

#[test]
fn plan_reads_dry_runs_and_names_the_bad_one() {
    let request = |actions| actions::PlanRequest { actions, ..Default::default() };
    assert!(plan(request(vec![stop(), stop()])).unwrap().iter().all(|action| action.dry_run));
    assert_eq!(plan(request(vec![stop(), ActionSpec::default()])).unwrap_err().field, "actions[1].verb");
    assert_eq!(plan(request(vec![])).unwrap_err().field, "actions");
}

#[test]
fn page_beyond_the_bound_is_refused() {
    let request = |page_size| actions::ListActionsRequest { page_size, ..Default::default() };
    assert_eq!(list_actions(request(MAX_PAGE + 1)).unwrap_err().field, "page_size");
    assert_eq!(list_actions(request(MAX_PAGE)).unwrap().page.size, MAX_PAGE);
}

fn logs_of(change: impl FnOnce(&mut LogsRequest)) -> Result<LogsQuery> {
    let mut request = LogsRequest { workload: "lane".into(), ..LogsRequest::default() };
    change(&mut request);
    logs(request)
}

#[test]
fn no_stream_named_means_both() {
    let both = logs_of(|_| ()).unwrap().options;
    assert!(both.stdout && both.stderr && both.tail.is_none() && both.since_ms == 0);
    let one = logs_of(|of| of.streams = vec![workloads::OutputStream::OUTPUT_STREAM_STDERR.into()]).unwrap();
    assert!(!one.options.stdout && one.options.stderr);
    let none = logs_of(|of| of.streams = vec![EnumOrUnknown::from_i32(0)]).unwrap_err();
    assert_eq!(none.field, "streams[0]");
}

#[test]
fn times_before_1970_and_impossible_nanoseconds_are_refused() {
    let at = |seconds, nanos| {
        let since = MessageField::some(Timestamp { seconds, nanos, ..Timestamp::default() });
        logs_of(|of| of.since = since)
    };
    assert_eq!(at(2, 3_999_999).unwrap().options.since_ms, 2_003);
    for (seconds, nanos) in [(-1, 0), (1, -1), (1, 1_000_000_000)] {
        assert_eq!(at(seconds, nanos).unwrap_err().field, "since");
    }
}

#[test]
fn exec_needs_a_program_and_bounded_arguments() {
    let exec_of = |argv: Vec<String>| exec(ExecRequest { workload: "lane".into(), argv, ..Default::default() });
    assert_eq!(exec_of(vec![]).unwrap_err().field, "argv[0]");
    assert_eq!(exec_of(vec![String::new()]).unwrap_err().field, "argv[0]");
    assert_eq!(exec_of(vec!["a".into(), "b\0".into()]).unwrap_err().field, "argv[1]");
    assert_eq!(exec_of(vec!["a".into(); MAX_ARGV + 1]).unwrap_err().field, "argv");
    assert_eq!(exec_of(vec!["a".into()]).unwrap().argv, ["a"]);
}

#[test]
fn wait_needs_a_condition_and_a_bounded_time() {
    let of = |condition, timeout_ms| {
        wait(WaitRequest { workload: "lane".into(), condition, timeout_ms, ..WaitRequest::default() })
    };
    let gone = workloads::Condition::CONDITION_GONE.into();
    assert_eq!(of(EnumOrUnknown::from_i32(0), 1).unwrap_err().field, "condition");
    assert_eq!(of(EnumOrUnknown::from_i32(77), 1).unwrap_err().field, "condition");
    assert_eq!(of(gone, MAX_WAIT_MS + 1).unwrap_err().field, "timeout_ms");
    assert_eq!(of(gone, 5).unwrap().condition, Condition::Gone);
}

proptest! {
    #[test]
    fn any_action_is_taken_or_refused_by_a_field(
        id in "(?s).{0,200}", verb in -2i32..20, target in "(?s).{0,300}", manifest in "(?s).{0,40}",
        deadline_ms in any::<u64>(), grace_ms in any::<Option<u64>>(), signal in "(SIG)?[A-Z+0-9-]{0,12}",
        ignore in proptest::collection::vec(-1i32..3, 0..3),
    ) {
        let mut action = ActionSpec {
            action_id: id, verb: EnumOrUnknown::from_i32(verb), target, manifest, deadline_ms, ..ActionSpec::default()
        };
        with(|of| {
            of.grace_ms = grace_ms;
            of.signal = signal;
            of.ignore = ignore.into_iter().map(EnumOrUnknown::from_i32).collect();
        })(&mut action);
        match run(action) {
            Ok(read) => {
                prop_assert!((1..=MAX_ACTION_ID).contains(&read.id.len()));
                prop_assert!(read.parameters.grace_ms.unwrap_or_default() <= MAX_GRACE_MS);
            }
            Err(error) => prop_assert!(error.field.starts_with("action."), "{error:?}"),
        }
    }
}
