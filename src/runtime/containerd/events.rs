//! What happens, as the event stream tells it.
//!
//! containerd answers a subscription with the first event alone, so one of our own is published until it comes: by then
//! the subscription is live. What shims tell goes another way than what containerd tells itself: a removal may overtake
//! the end of what is removed, and is held back then.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use protobuf::well_known_types::any::Any;
use protobuf::{Message, MessageField};

use super::client::{Client, Scope, within};
use super::record::{self, nanos};
use super::{ContainerdConfig, ENGINE, Marks, Named, logs};
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::proto::containerd_events::{Envelope, PublishRequest, SubscribeRequest};
use crate::proto::containerd_events_grpc::{EVENTS_PUBLISH, EVENTS_SUBSCRIBE};
use crate::proto::containerd_happened::{ContainerCreate, ContainerDelete, TaskCreate, TaskEvent, TaskExit, TaskStart};
use crate::proto::containerd_task::Status;
use crate::proto::containerd_tasks::ListTasksRequest;
use crate::proto::containerd_tasks_grpc::TASKS_LIST;
use crate::runtime::adapter::{BlockingStream, Call, EngineEvent, EngineEventKind, NoProgress, RtResult, RuntimeError};
use crate::transport::inflow::Inflow;

const OP: &str = "events";

/// How long an event of our own may take before another is published.
const ECHO: Duration = Duration::from_millis(100);

/// How long a removal waits for the end of what was removed.
const OVERTAKEN: Duration = Duration::from_secs(2);

/// The time of a look at a container that something is told of.
const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// Opens the stream.
pub(super) fn watch(
    client: &Arc<Client>,
    settings: &ContainerdConfig,
    marks: &Arc<Mutex<Marks>>,
    call: &Call,
) -> RtResult<BlockingStream<EngineEvent>> {
    let scope = client.own();
    let echo = format!("/actioncontroller/echo/{}", uuid::Uuid::now_v7().simple());
    let namespace = client.namespace();
    let filters =
        vec![format!("namespace==\"{namespace}\",topic~=\"^/(tasks|containers)/\""), format!("topic==\"{echo}\"")];
    client.ensure_namespace(call)?;
    let request = SubscribeRequest { filters, ..Default::default() };
    let mut stream = scope.open(OP, &EVENTS_SUBSCRIBE, &request)?;
    let early = await_echo(scope, call, &mut stream, &echo)?;
    let mut events = Events {
        stream,
        client: Arc::clone(client),
        settings: settings.clone(),
        marks: Arc::clone(marks),
        cancel: call.cancel.clone(),
        names: BTreeMap::new(),
        live: BTreeSet::new(),
        waking: BTreeSet::new(),
        held: BTreeMap::new(),
        ready: VecDeque::new(),
        last_ns: 0,
        is_over: false,
    };
    events.learn(scope, call)?;
    for envelope in early {
        events.tell(&envelope);
    }
    Ok(Box::new(events))
}

/// Publishes an event until it comes; gives what came before it.
fn await_echo(scope: Scope, call: &Call, stream: &mut Inflow<Envelope>, echo: &str) -> RtResult<Vec<Envelope>> {
    let mut early = Vec::new();
    let event = Any { type_url: "containerd.events.ContainerDelete".to_owned(), ..Any::default() };
    let request =
        PublishRequest { topic: echo.to_owned(), event: MessageField::some(event), ..PublishRequest::default() };
    loop {
        scope.ask(call, OP, &EVENTS_PUBLISH, &request)?;
        let window = within(call, ECHO);
        loop {
            match scope.next(&window, OP, stream).map_err(RuntimeError::from) {
                Ok(Some(envelope)) if envelope.topic == echo => return Ok(early),
                Ok(Some(envelope)) => early.push(envelope),
                Ok(None) => return Err(ended()),
                Err(RuntimeError::Timeout { .. }) if !call.deadline.is_over() => break,
                Err(error) => return Err(error),
            }
        }
    }
}

fn ended() -> RuntimeError {
    let reason = "it ended the stream".to_owned();
    RuntimeError::Connection { engine: ENGINE.to_owned(), op: OP.to_owned(), reason }
}

struct Events {
    stream: Inflow<Envelope>,
    client: Arc<Client>,
    settings: ContainerdConfig,
    marks: Arc<Mutex<Marks>>,
    cancel: CancelToken,
    /// By id; events have nothing but that.
    names: BTreeMap<String, Named>,
    /// Ids of those that have been started and have not ended.
    live: BTreeSet<String>,
    /// Ids of those that are made from an image.
    waking: BTreeSet<String>,
    /// Removals that wait for an end, by id, with when they do no longer.
    held: BTreeMap<String, (Deadline, u64)>,
    /// What is to be given next.
    ready: VecDeque<EngineEvent>,
    last_ns: u64,
    is_over: bool,
}

impl Events {
    /// What is there as the stream begins.
    fn learn(&mut self, scope: Scope, call: &Call) -> RtResult<()> {
        for container in record::list_records(scope, call, Vec::new())? {
            let named = (record::name_of(&container).to_owned(), record::labels_of(&container));
            self.names.insert(container.id, named);
        }
        let tasks = scope.ask(call, OP, &TASKS_LIST, &ListTasksRequest::default())?.tasks;
        for task in tasks {
            match task.status.enum_value() {
                Ok(Status::RUNNING | Status::PAUSED | Status::PAUSING) => drop(self.live.insert(task.id)),
                // It may have ended while nobody watched.
                Ok(Status::STOPPED) => self.end_logger(&task.id),
                Ok(Status::CREATED | Status::UNKNOWN) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Whoever waits for the output tells the logger too, so that a failure changes nothing.
    fn end_logger(&self, id: &str) {
        let call = Call { deadline: Deadline::after(LOOK_LIMIT), cancel: &self.cancel, progress: &NoProgress };
        if let Err(error) = logs::tell_end(self.client.own(), &self.settings, &call, id) {
            log::debug!("the logger of container '{id}' is not told of its end yet: {error}");
        }
    }

    /// The name and labels of a container; one that is not known by now is asked for.
    fn named(&mut self, id: &str) -> Named {
        if let Some(named) = self.names.get(id) {
            return named.clone();
        }
        let latest = self.marks.lock().unwrap_or_else(PoisonError::into_inner).name_of(id).cloned();
        if let Some(named) = latest {
            self.names.insert(id.to_owned(), named.clone());
            return named;
        }
        let call = Call { deadline: Deadline::after(LOOK_LIMIT), cancel: &self.cancel, progress: &NoProgress };
        match record::find_record(self.client.own(), &call, id) {
            Ok(Some(container)) => {
                let named = (record::name_of(&container).to_owned(), record::labels_of(&container));
                self.names.insert(id.to_owned(), named.clone());
                named
            }
            // Gone already.
            Ok(None) | Err(_) => (id.to_owned(), BTreeMap::new()),
        }
    }

    fn push(&mut self, kind: EngineEventKind, id: &str, time_ns: u64) {
        let (name, labels) = self.named(id);
        self.last_ns = self.last_ns.max(time_ns);
        self.ready.push_back(EngineEvent { kind, id: id.to_owned(), name, labels, time_ns: self.last_ns });
    }

    /// Tells on what containerd tells; what means nothing here is dropped.
    fn tell(&mut self, envelope: &Envelope) {
        use EngineEventKind as Kind;
        let time_ns = nanos(envelope.timestamp.as_ref());
        let bytes = envelope.event.value.as_slice();
        match envelope.topic.as_str() {
            "/containers/create" => {
                let id = ContainerCreate::parse_from_bytes(bytes).unwrap_or_default().id;
                self.push(Kind::Created, &id, time_ns);
            }
            "/containers/delete" => {
                let id = ContainerDelete::parse_from_bytes(bytes).unwrap_or_default().id;
                self.removed(&id, time_ns);
            }
            "/tasks/create" => {
                let made = TaskCreate::parse_from_bytes(bytes).unwrap_or_default();
                if !made.checkpoint.is_empty() {
                    self.waking.insert(made.container_id);
                }
            }
            "/tasks/start" => {
                let id = TaskStart::parse_from_bytes(bytes).unwrap_or_default().container_id;
                let kind = if self.waking.remove(&id) { Kind::Woken } else { Kind::Started };
                self.live.insert(id.clone());
                self.push(kind, &id, time_ns);
            }
            "/tasks/exit" => {
                let exit = TaskExit::parse_from_bytes(bytes).unwrap_or_default();
                // Commands inside end too.
                if exit.id == exit.container_id {
                    self.died(&exit.id, exit.pid, i32::try_from(exit.exit_status).ok(), time_ns);
                }
            }
            topic @ ("/tasks/oom" | "/tasks/paused" | "/tasks/resumed") => {
                let id = TaskEvent::parse_from_bytes(bytes).unwrap_or_default().container_id;
                let kind = match topic {
                    "/tasks/oom" => Kind::OutOfMemory,
                    "/tasks/paused" => Kind::Paused,
                    _ => Kind::Resumed,
                };
                self.push(kind, &id, time_ns);
            }
            _ => {}
        }
    }

    fn died(&mut self, id: &str, pid: u32, exit_code: Option<i32>, time_ns: u64) {
        self.end_logger(id);
        // One whose start failed has never lived.
        if self.live.remove(id) {
            let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
            let is_hibernating = marks.is_checkpoint(id, pid, exit_code);
            drop(marks);
            let kind = if is_hibernating { EngineEventKind::Hibernated } else { EngineEventKind::Died { exit_code } };
            self.push(kind, id, time_ns);
        }
        if let Some((_, time_ns)) = self.held.remove(id) {
            self.removed(id, time_ns);
        }
    }

    fn removed(&mut self, id: &str, time_ns: u64) {
        if self.live.contains(id) {
            self.held.insert(id.to_owned(), (Deadline::after(OVERTAKEN), time_ns));
            return;
        }
        self.push(EngineEventKind::Removed, id, time_ns);
        self.names.remove(id);
        self.waking.remove(id);
    }

    /// Removals that have waited long enough: that what was removed has ended is certain.
    fn release(&mut self) {
        let due: Vec<_> =
            self.held.iter().filter(|(_, (until, _))| until.is_over()).map(|(id, _)| id.clone()).collect();
        for id in due {
            let time_ns = self.held.get(&id).map_or(0, |(_, time_ns)| *time_ns);
            self.died(&id, 0, None, time_ns);
        }
    }

    fn next_event(&mut self) -> RtResult<EngineEvent> {
        loop {
            self.release();
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            let held = self.held.values().map(|(until, _)| *until).min();
            let deadline = held.unwrap_or_else(|| Deadline::after(Duration::MAX));
            let client = Arc::clone(&self.client);
            let call = Call { deadline, cancel: &self.cancel, progress: &NoProgress };
            match client.own().next(&call, OP, &mut self.stream).map_err(RuntimeError::from) {
                Ok(Some(envelope)) => self.tell(&envelope),
                Ok(None) => return Err(ended()),
                Err(RuntimeError::Timeout { .. }) if held.is_some() => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Iterator for Events {
    type Item = RtResult<EngineEvent>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let next = self.next_event();
        self.is_over = next.is_err();
        Some(next)
    }
}
