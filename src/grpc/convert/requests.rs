//! What callers send, read and checked. Each refusal names the field by its path in the request.
//!
//! Checked here is what the contract says of one request by itself: presence, ranges, sizes, known enum numbers. Whether
//! a name or document means anything is for others to say.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use nix::sys::signal::Signal;
use protobuf::well_known_types::timestamp::Timestamp;
use protobuf::{Enum, EnumOrUnknown, MessageField};

use super::resources;
use crate::dispatch::service::{Batch, Condition, ExecQuery, ListActions, LogsQuery, PageQuery, WaitQuery};
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::model::action::{ActionRequest, Ignorable, MAX_ACTION_ID, Parameters, Verb};
use crate::proto::{actions, workloads};
use crate::runtime::adapter::LogOptions;

/// The longest grace, milliseconds: an hour.
pub const MAX_GRACE_MS: u64 = 3_600_000;
/// The longest time that an action may be given, milliseconds: seven days.
pub const MAX_DEADLINE_MS: u64 = 604_800_000;
/// The longest time of an exec, milliseconds: an hour.
pub const MAX_EXEC_MS: u64 = 3_600_000;
/// The longest wait, milliseconds: a day.
pub const MAX_WAIT_MS: u64 = 86_400_000;
/// The most actions of one batch or plan.
pub const MAX_ENTRIES: usize = 256;
/// The largest page.
pub const MAX_PAGE: u32 = 1_000;
/// The most arguments of an exec.
pub const MAX_ARGV: usize = 1_024;
/// The longest name of anything, bytes.
pub const MAX_NAME: usize = 253;
/// The longest page token or reason, bytes.
pub const MAX_TEXT: usize = 1_024;

/// What `ExecuteAction` asks for, and whether the caller waits for the end.
pub fn execute(request: actions::ExecuteActionRequest) -> Result<(ActionRequest, bool)> {
    if request.dry_run && request.no_wait {
        return Err(Error::invalid("no_wait", "no_wait and dry_run exclude each other: a plan is the answer itself"));
    }
    let action = spec(request.action, "action", request.dry_run)?;
    Ok((action, !request.no_wait))
}

/// Whose end `CancelAction` asks for, why, and whether the caller waits for it.
pub fn cancel(request: actions::CancelActionRequest) -> Result<(String, String, bool)> {
    let reason = bounded(request.reason, "reason", MAX_TEXT)?;
    Ok((action_id(request.action_id)?, reason, !request.no_wait))
}

/// The id of a call that names an action.
pub fn action_id(id: String) -> Result<String> {
    if id.is_empty() {
        return Err(missing("action_id"));
    }
    checked_id(id, "action_id")
}

/// A batch. Its dependencies are known ids of the batch; whether they form a circle is not looked at.
pub fn batch(request: actions::ExecuteBatchRequest) -> Result<Batch> {
    check_entries(request.entries.len(), "entries")?;
    let stop_at_failure = match known(request.on_failure, "on_failure")? {
        actions::FailurePolicy::FAILURE_POLICY_UNSPECIFIED | actions::FailurePolicy::FAILURE_POLICY_GO_ON => false,
        actions::FailurePolicy::FAILURE_POLICY_STOP => true,
    };
    let mut entries = Vec::with_capacity(request.entries.len());
    for (index, entry) in request.entries.into_iter().enumerate() {
        entries.push((spec(entry.action, &format!("entries[{index}].action"), false)?, entry.depends_on));
    }
    check_dependencies(&entries)?;
    Ok(Batch { entries, stop_at_failure })
}

/// What `Plan` asks for.
pub fn plan(request: actions::PlanRequest) -> Result<Vec<ActionRequest>> {
    check_entries(request.actions.len(), "actions")?;
    let specs = request.actions.into_iter().enumerate();
    specs.map(|(index, action)| spec(MessageField::some(action), &format!("actions[{index}]"), true)).collect()
}

/// The action that `CheckPolicy` asks about.
pub fn check_policy(request: actions::CheckPolicyRequest) -> Result<ActionRequest> {
    spec(request.action, "action", false)
}

/// Which actions are listed.
pub fn list_actions(request: actions::ListActionsRequest) -> Result<ListActions> {
    Ok(ListActions {
        page: page(request.page_size, request.page_token)?,
        target: optional_name(request.target, "target")?,
        running_only: request.running_only,
    })
}

/// Which workloads are listed: the page and the Package.
pub fn list_workloads(request: workloads::ListWorkloadsRequest) -> Result<(PageQuery, String)> {
    Ok((page(request.page_size, request.page_token)?, optional_name(request.package, "package")?))
}

/// A name that has to be there.
pub fn name(name: String, field: &str) -> Result<String> {
    if name.is_empty() {
        return Err(missing(field));
    }
    optional_name(name, field)
}

/// Which output is read.
pub fn logs(request: workloads::LogsRequest) -> Result<LogsQuery> {
    let (mut stdout, mut stderr) = (request.streams.is_empty(), request.streams.is_empty());
    for (index, stream) in request.streams.into_iter().enumerate() {
        let field = format!("streams[{index}]");
        match known(stream, &field)? {
            workloads::OutputStream::OUTPUT_STREAM_UNSPECIFIED => return Err(missing(&field)),
            workloads::OutputStream::OUTPUT_STREAM_STDOUT => stdout = true,
            workloads::OutputStream::OUTPUT_STREAM_STDERR => stderr = true,
        }
    }
    let tail = request.tail.map(|lines| usize::try_from(lines).unwrap_or(usize::MAX));
    let options = LogOptions { follow: request.follow, tail, since_ms: since(request.since.as_ref())?, stdout, stderr };
    Ok(LogsQuery {
        workload: name(request.workload, "workload")?,
        container: optional_name(request.container, "container")?,
        options,
    })
}

/// What is run in a container.
pub fn exec(request: workloads::ExecRequest) -> Result<ExecQuery> {
    let workload = name(request.workload, "workload")?;
    let container = optional_name(request.container, "container")?;
    at_most(request.timeout_ms, MAX_EXEC_MS, "timeout_ms")?;
    if request.argv.first().is_none_or(String::is_empty) {
        return Err(missing("argv[0]"));
    }
    if request.argv.len() > MAX_ARGV {
        let found = request.argv.len();
        return Err(exceeded("argv", format!("{found} arguments are too many: at most {MAX_ARGV}")));
    }
    if let Some(index) = request.argv.iter().position(|argument| argument.contains('\0')) {
        return Err(Error::invalid(format!("argv[{index}]"), "an argument cannot hold a zero byte"));
    }
    Ok(ExecQuery { workload, container, argv: request.argv, timeout_ms: request.timeout_ms })
}

/// What is waited for.
pub fn wait(request: workloads::WaitRequest) -> Result<WaitQuery> {
    let workload = name(request.workload, "workload")?;
    let condition = match known(request.condition, "condition")? {
        workloads::Condition::CONDITION_UNSPECIFIED => return Err(missing("condition")),
        workloads::Condition::CONDITION_RUNNING => Condition::Running,
        workloads::Condition::CONDITION_HEALTHY => Condition::Healthy,
        workloads::Condition::CONDITION_EXITED => Condition::Exited,
        workloads::Condition::CONDITION_GONE => Condition::Gone,
    };
    at_most(request.timeout_ms, MAX_WAIT_MS, "timeout_ms")?;
    Ok(WaitQuery { workload, condition, timeout_ms: request.timeout_ms })
}

/// The verb, which has to be given and built.
pub fn verb(verb: EnumOrUnknown<actions::Verb>, field: &str) -> Result<Verb> {
    let verb = match known(verb, field)? {
        actions::Verb::VERB_UNSPECIFIED => return Err(missing(field)),
        actions::Verb::VERB_LAUNCH => Verb::Launch,
        actions::Verb::VERB_START => Verb::Start,
        actions::Verb::VERB_STOP => Verb::Stop,
        actions::Verb::VERB_RESTART => Verb::Restart,
        actions::Verb::VERB_UPDATE => Verb::Update,
        actions::Verb::VERB_ROLLBACK => Verb::Rollback,
        actions::Verb::VERB_REMOVE => Verb::Remove,
        actions::Verb::VERB_TERMINATE => Verb::Terminate,
        actions::Verb::VERB_PAUSE => Verb::Pause,
        actions::Verb::VERB_RESUME => Verb::Resume,
        actions::Verb::VERB_HIBERNATE => Verb::Hibernate,
        actions::Verb::VERB_WAKE => Verb::Wake,
        actions::Verb::VERB_KILL => Verb::Kill,
        actions::Verb::VERB_SCALE => Verb::Scale,
        actions::Verb::VERB_OFFLOAD => Verb::Offload,
    };
    Ok(verb)
}

/// One action as asked for. An id is given where the caller gave none.
fn spec(spec: MessageField<actions::ActionSpec>, at: &str, dry_run: bool) -> Result<ActionRequest> {
    let Some(spec) = spec.into_option() else { return Err(missing(at)) };
    let verb = verb(spec.verb, &format!("{at}.verb"))?;
    if spec.target.is_empty() && spec.manifest.trim().is_empty() {
        let message = "an action needs a target or a manifest";
        return Err(Error::new(ErrorKind::InvalidArgument, ErrorCode::MissingField, message).at(format!("{at}.target")));
    }
    at_most(spec.deadline_ms, MAX_DEADLINE_MS, &format!("{at}.deadline_ms"))?;
    let id = match spec.action_id {
        id if id.is_empty() => uuid::Uuid::now_v7().to_string(),
        id => checked_id(id, &format!("{at}.action_id"))?,
    };
    Ok(ActionRequest {
        id,
        verb,
        target: optional_name(spec.target, &format!("{at}.target"))?,
        manifest: spec.manifest,
        parameters: parameters(spec.parameters.into_option().unwrap_or_default(), &format!("{at}.parameters"))?,
        deadline_ms: Some(spec.deadline_ms).filter(|ms| *ms > 0),
        priority: spec.priority,
        dry_run,
    })
}

fn parameters(parameters: actions::Parameters, at: &str) -> Result<Parameters> {
    let signal = Some(parameters.signal).filter(|signal| !signal.is_empty());
    if let Some(signal) = &signal
        && !is_signal(signal)
    {
        let message = format!("'{signal}' is no signal's name; one is SIGTERM or SIGRTMIN+3");
        return Err(Error::invalid(format!("{at}.signal"), message));
    }
    at_most(parameters.grace_ms.unwrap_or_default(), MAX_GRACE_MS, &format!("{at}.grace_ms"))?;
    let mut ignore = BTreeSet::new();
    for (index, what) in parameters.ignore.into_iter().enumerate() {
        let field = format!("{at}.ignore[{index}]");
        match known(what, &field)? {
            actions::Ignorable::IGNORABLE_UNSPECIFIED => return Err(missing(&field)),
            actions::Ignorable::IGNORABLE_SCHEDULE => ignore.insert(Ignorable::Schedule),
        };
    }
    let mut containers = BTreeSet::new();
    for (index, container) in parameters.containers.into_iter().enumerate() {
        containers.insert(name(container, &format!("{at}.containers[{index}]"))?);
    }
    let given = |name: String, field: &str| -> Result<Option<String>> {
        Ok(Some(optional_name(name, &format!("{at}.{field}"))?).filter(|name| !name.is_empty()))
    };
    Ok(Parameters {
        grace_ms: parameters.grace_ms,
        signal,
        force: parameters.force,
        engine: given(parameters.engine, "engine")?,
        ignore,
        partial: parameters.partial,
        target_node: given(parameters.target_node, "target_node")?,
        source_node: given(parameters.source_node, "source_node")?,
        containers,
        resources: resources::change(&parameters.resources.unwrap_or_default(), &format!("{at}.resources"))?,
        ..Parameters::default()
    })
}

/// Whether this is the name of a signal, a real-time one included.
fn is_signal(name: &str) -> bool {
    let offset = |rest: &str, sign: char| {
        rest.is_empty() || rest.strip_prefix(sign).is_some_and(|n| n.parse::<u8>().is_ok_and(|n| n <= 30))
    };
    if let Some(rest) = name.strip_prefix("SIGRTMIN") {
        return offset(rest, '+');
    }
    if let Some(rest) = name.strip_prefix("SIGRTMAX") {
        return offset(rest, '-');
    }
    Signal::from_str(name).is_ok()
}

fn check_entries(found: usize, field: &str) -> Result<()> {
    match found {
        0 => Err(missing(field)),
        1..=MAX_ENTRIES => Ok(()),
        _ => Err(exceeded(field, format!("{found} actions are too many: at most {MAX_ENTRIES}"))),
    }
}

/// Ids of a batch are unique, and dependencies are among them.
fn check_dependencies(entries: &[(ActionRequest, Vec<String>)]) -> Result<()> {
    let mut places = BTreeMap::new();
    for (index, (action, _)) in entries.iter().enumerate() {
        if let Some(first) = places.insert(action.id.as_str(), index) {
            let message = format!("the id '{}' is that of entries[{first}] already", action.id);
            return Err(Error::invalid(format!("entries[{index}].action.action_id"), message));
        }
    }
    for (index, (_, depends_on)) in entries.iter().enumerate() {
        for (nth, id) in depends_on.iter().enumerate() {
            if !places.contains_key(id.as_str()) {
                let message = format!("no action of this batch has the id '{}'", excerpt(id));
                return Err(Error::invalid(format!("entries[{index}].depends_on[{nth}]"), message));
            }
        }
    }
    Ok(())
}

fn page(size: u32, token: String) -> Result<PageQuery> {
    at_most(size.into(), MAX_PAGE.into(), "page_size")?;
    Ok(PageQuery { size, token: bounded(token, "page_token", MAX_TEXT)? })
}

/// Milliseconds since the epoch; absent is 0.
fn since(time: Option<&Timestamp>) -> Result<u64> {
    let Some(time) = time else { return Ok(0) };
    let (Ok(seconds), Ok(nanos)) = (u64::try_from(time.seconds), u64::try_from(time.nanos)) else {
        return Err(Error::invalid("since", "times before 1970 are not allowed"));
    };
    if nanos > 999_999_999 {
        return Err(Error::invalid("since", format!("{nanos} nanoseconds are more than a second")));
    }
    Ok(seconds.saturating_mul(1_000).saturating_add(nanos / 1_000_000))
}

/// The enum's value; a number that this version does not know is refused.
pub(super) fn known<E: Enum>(value: EnumOrUnknown<E>, field: &str) -> Result<E> {
    value.enum_value().map_err(|number| Error::invalid(field, format!("{field} has the unknown value {number}")))
}

fn checked_id(id: String, field: &str) -> Result<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'-');
    if id.len() > MAX_ACTION_ID || !id.bytes().all(allowed) {
        let message = format!("'{}' is no action id: 1 to {MAX_ACTION_ID} of A-Z a-z 0-9 . _ : -", excerpt(&id));
        return Err(Error::invalid(field, message));
    }
    Ok(id)
}

/// A name, or nothing. What a name may be made of is for the one who knows the thing to say; a blank one or one with
/// control characters is none of anything.
pub(super) fn optional_name(name: String, field: &str) -> Result<String> {
    if name.chars().any(char::is_control) || (!name.is_empty() && name.trim().is_empty()) {
        return Err(Error::invalid(field, format!("'{}' is no name", excerpt(&name))));
    }
    bounded(name, field, MAX_NAME)
}

fn bounded(text: String, field: &str, most: usize) -> Result<String> {
    if text.len() > most {
        return Err(Error::invalid(field, format!("{field} has {} bytes: at most {most}", text.len())));
    }
    Ok(text)
}

fn at_most(value: u64, most: u64, field: &str) -> Result<()> {
    if value > most {
        return Err(Error::invalid(field, format!("{field} is {value}: at most {most}")));
    }
    Ok(())
}

pub(super) fn missing(field: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, ErrorCode::MissingField, format!("{field} is required")).at(field)
}

fn exceeded(field: &str, message: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, ErrorCode::LimitExceeded, message).at(field)
}

/// The beginning of foreign text, printable.
fn excerpt(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests;
