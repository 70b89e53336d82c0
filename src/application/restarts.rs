//! [`Restarts`]: starts containers again that have ended, as their documents' restartPolicy says.
//!
//! The first restart comes after some time, each further one after twice the time before, up to a bound; a container that
//! ran long begins anew. What shall not run any more, because it was stopped meanwhile, is let be: that is looked at when
//! the time has come, and once more by the action itself. After a start of the daemon, or of an engine, what is found
//! ended is treated like what has just ended.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvError, Sender, at, bounded, never, select};

use crate::clock::Deadline;
use crate::events::{HubEvent, Listener};
use crate::model::action::{ActionRequest, Parameters, Verb};
use crate::model::state::ContainerStatus;
use crate::model::workload::{RestartPolicy, labels};
use crate::runtime::adapter::ContainerInstance;
use crate::storage::StoreError;
use crate::storage::records::{Desired, Records, WorkloadRecord};

/// Events that wait, at most. Beyond that they are dropped: the next listing of the engine makes up for it.
const MOST_EVENTS: usize = 4096;

/// Containers that wait for their restart, at most.
const MOST_WAITING: usize = 4096;

/// A store that does not answer is asked again after so long, at the earliest.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The time that reading a record has.
const READ_BUDGET: Duration = Duration::from_secs(5);

/// After so many times the longest wait without an end a container begins anew: then it is not the same trouble.
const LONG_RUNS: u32 = 2;

/// When containers are started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// After the first end.
    pub first: Duration,
    /// At most, after many.
    pub most: Duration,
}

/// Hands an action over, without waiting for its end.
pub type Accept = Box<dyn Fn(ActionRequest) + Send>;

/// Workload and container.
type Name = (String, String);

/// What is known of a container's ends.
#[derive(Debug, Clone, Copy, Default)]
struct Ends {
    restarts: u32,
    /// Tries to start it again that came to nothing since its last end.
    in_vain: u32,
    /// Whether it was this daemon that asked for its next start.
    is_asked: bool,
    started: Option<Instant>,
    due: Option<Instant>,
    /// Of its last end.
    exit_code: Option<i32>,
}

/// The thread's handle.
pub struct Restarts {
    stop: Sender<Infallible>,
    thread: JoinHandle<()>,
}

/// Both ends of what the hub tells: the hub is started last, so that whoever listens is there when it begins.
pub fn events() -> (Listener, Receiver<HubEvent>) {
    let (sender, receiver): (Sender<HubEvent>, _) = bounded(MOST_EVENTS);
    let listener = move |event| {
        log_event(&event);
        if sender.try_send(event).is_err() {
            crate::limited!(log::Level::Warn, "more happens on the engines than can be looked at");
        }
    };
    (Arc::new(listener), receiver)
}

fn log_event(event: &HubEvent) {
    match event {
        HubEvent::Stopped { instance, exit_code } => {
            let code = exit_code.map_or_else(|| "unknown".to_owned(), |code| code.to_string());
            log::info!("container '{}' has ended with code {code}", instance.name);
        }
        HubEvent::Disconnected { engine, reason } => log::warn!("runtime '{engine}' does not answer: {reason}"),
        HubEvent::Reconnected { engine } => log::info!("runtime '{engine}' answers again"),
        HubEvent::Hibernated(instance) => log::info!("container '{}' is hibernated", instance.name),
        HubEvent::Woken(instance) => log::info!("container '{}' is woken", instance.name),
        HubEvent::Listed { .. } | HubEvent::Started(_) | HubEvent::Removed(_) => log::debug!("hub: {event:?}"),
    }
}

impl Restarts {
    /// Starts the thread.
    pub fn start(
        events: Receiver<HubEvent>,
        accept: Accept,
        records: Records,
        timing: Timing,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = bounded(0);
        let mut keeper = Keeper { accept, records, timing, ends: BTreeMap::new() };
        let run = move || keeper.run(&events, &stopped);
        let thread = thread::Builder::new().name("restarts".to_owned()).spawn(run)?;
        Ok(Self { stop, thread })
    }

    /// Ends the thread.
    pub fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            log::error!("the thread of restarts panicked");
        }
    }
}

struct Keeper {
    accept: Accept,
    records: Records,
    timing: Timing,
    ends: BTreeMap<Name, Ends>,
}

impl Keeper {
    fn run(&mut self, events: &Receiver<HubEvent>, stopped: &Receiver<Infallible>) {
        loop {
            // Nothing is due on most nodes at most times: then nothing wakes the thread.
            let due = self.ends.values().filter_map(|ends| ends.due).min().map_or_else(never, at);
            select! {
                recv(events) -> event => match event {
                    Ok(event) => self.handle(event),
                    Err(RecvError) => return,
                },
                recv(due) -> _ => {}
                recv(stopped) -> _ => return,
            }
            self.restart_due();
        }
    }

    fn handle(&mut self, event: HubEvent) {
        match event {
            HubEvent::Started(instance) => {
                if let Some(ends) = name_of(&instance).and_then(|name| self.ends.get_mut(&name)) {
                    (ends.started, ends.due, ends.in_vain) = (Some(Instant::now()), None, 0);
                    // Whoever stops and starts it on purpose begins anew.
                    if !std::mem::take(&mut ends.is_asked) {
                        ends.restarts = 0;
                    }
                }
            }
            HubEvent::Stopped { instance, exit_code } => {
                if let Some(name) = name_of(&instance) {
                    self.ended(name, exit_code);
                }
            }
            HubEvent::Removed(instance) => {
                // One that is to be started again is made again then, unless its workload is gone as well.
                if let Some(name) = name_of(&instance)
                    && self.ends.get(&name).is_some_and(|ends| ends.due.is_none())
                {
                    self.ends.remove(&name);
                }
            }
            HubEvent::Listed { engine, containers } => self.listed(&engine, &containers),
            // What is hibernated has not ended, and what is woken was not started.
            HubEvent::Hibernated(_) | HubEvent::Woken(_) => {}
            HubEvent::Disconnected { .. } | HubEvent::Reconnected { .. } => {}
        }
    }

    /// Looks for what shall run on the engine and does not.
    fn listed(&mut self, engine: &str, containers: &[ContainerInstance]) {
        let records = match self.records.workloads(Deadline::after(READ_BUDGET)) {
            Ok(records) => records.logged(),
            Err(error) => {
                crate::limited!(log::Level::Warn, "what shall run on '{engine}' is not known: {error}");
                return;
            }
        };
        for record in records.into_iter().map(|record| record.value).filter(|record| record.engine == engine) {
            for container in &record.spec.containers {
                let engine_name = record.spec.container_name(&container.name);
                let found = containers.iter().find(|instance| instance.name == engine_name);
                let exit_code = match found.map(|instance| &instance.status) {
                    Some(ContainerStatus::Exited { code, .. }) => *code,
                    // What runs needs nothing, and what was never started is its own action's.
                    Some(_) => continue,
                    None => None,
                };
                let name = (record.spec.name.clone(), container.name.clone());
                if self.ends.get(&name).is_none_or(|ends| ends.due.is_none()) {
                    self.ended(name, exit_code);
                }
            }
        }
    }

    /// The workload's record; where the store does not answer, that is logged and an error.
    fn record(&self, workload: &str) -> Result<Option<WorkloadRecord>, StoreError> {
        let found = self.records.workload(workload, Deadline::after(READ_BUDGET));
        found.map(|found| found.map(|found| found.value)).inspect_err(|error| {
            crate::limited!(log::Level::Warn, "whether '{workload}' shall run is not known yet: {error}");
        })
    }

    /// A container has ended: it is started again later, where that is asked for.
    fn ended(&mut self, name: Name, exit_code: Option<i32>) {
        // What is not known yet is looked at again when the time has come.
        let asks = self.record(&name.0).map(|record| record.is_some_and(|record| asks_for_restart(&record, exit_code)));
        if matches!(asks, Ok(false)) || (self.ends.len() >= MOST_WAITING && !self.ends.contains_key(&name)) {
            self.ends.remove(&name);
            return;
        }
        let timing = self.timing;
        let ends = self.ends.entry(name.clone()).or_default();
        if ends.started.take().is_some_and(|started| started.elapsed() > timing.most * LONG_RUNS) {
            ends.restarts = 0;
        }
        let wait = wait_before(ends.restarts, timing);
        (ends.restarts, ends.in_vain, ends.exit_code) = (ends.restarts.saturating_add(1), 0, exit_code);
        ends.due = Some(Instant::now() + wait);
        // Somebody may be stopping it: what shall be is recorded once that has ended.
        log::debug!("container '{}' of '{}' is to be started again in {} s", name.1, name.0, wait.as_secs_f32());
    }

    fn restart_due(&mut self) {
        let now = Instant::now();
        let is_due = |ends: &Ends| ends.due.is_some_and(|due| due <= now);
        let due = self.ends.iter().filter(|(_, ends)| is_due(ends));
        let due: Vec<_> = due.map(|(name, ends)| (name.clone(), ends.exit_code)).collect();
        for (name, exit_code) in due {
            match self.record(&name.0) {
                Ok(Some(record)) if asks_for_restart(&record, exit_code) => {}
                Ok(_) => {
                    self.ends.remove(&name);
                    continue;
                }
                Err(_) => {
                    if let Some(ends) = self.ends.get_mut(&name) {
                        ends.due = Some(now + self.timing.first.max(ASK_AGAIN));
                    }
                    continue;
                }
            }
            log::info!("container '{}' of '{}' is started again", name.1, name.0);
            let timing = self.timing;
            if let Some(ends) = self.ends.get_mut(&name) {
                // Where this one comes to nothing, the next try is later; its start clears that.
                ends.due = Some(now + wait_before(ends.restarts.saturating_add(ends.in_vain), timing));
                (ends.in_vain, ends.is_asked) = (ends.in_vain.saturating_add(1), true);
            }
            // Its end is told by the engine.
            (self.accept)(restart(&name));
        }
    }
}

fn name_of(instance: &ContainerInstance) -> Option<Name> {
    if instance.labels.contains_key(labels::ROLE) {
        return None;
    }
    Some((instance.labels.get(labels::WORKLOAD)?.clone(), instance.labels.get(labels::CONTAINER)?.clone()))
}

/// Whether a container of this workload that has ended is started again.
pub(super) fn asks_for_restart(record: &WorkloadRecord, exit_code: Option<i32>) -> bool {
    let asks = match record.spec.restart_policy {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => exit_code != Some(0),
        RestartPolicy::Never => false,
    };
    asks && record.desired == Desired::Running && record.spec.delegate.is_none()
}

/// How long is waited after so many restarts.
fn wait_before(restarts: u32, timing: Timing) -> Duration {
    timing.first.saturating_mul(1 << restarts.min(16)).min(timing.most)
}

fn restart((workload, container): &Name) -> ActionRequest {
    ActionRequest {
        id: String::new(),
        verb: Verb::Start,
        target: workload.clone(),
        manifest: String::new(),
        parameters: Parameters { supervised: true, containers: [container.clone()].into(), ..Parameters::default() },
        deadline_ms: None,
        priority: 0,
        dry_run: false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::manifest::{Bundle, ExpandOptions, Limits};
    use crate::storage::memory::MemoryStore;
    use crate::storage::records::Changes;
    use crate::storage::{Batch, StateStore, keys};

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(60))
    }

    fn record(policy: &str) -> WorkloadRecord {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: w}}\nspec: {{restartPolicy: {policy}, containers: [{{name: c, \
             image: i}}]}}\n"
        );
        let bundle = Bundle::parse(&text, &Limits::default()).unwrap();
        let ignore = std::collections::BTreeSet::new();
        let spec = bundle.expand(&ExpandOptions::new(Verb::Launch, "w", "n", &ignore)).unwrap().workloads.remove(0);
        WorkloadRecord {
            spec,
            revision: String::new(),
            engine: "sim".into(),
            desired: Desired::Running,
            action_id: "before".into(),
            updated_ms: 0,
            previous: None,
            returned_from: String::new(),
            scaled: BTreeMap::new(),
            schedule: None,
        }
    }

    #[test]
    fn container_is_not_forgotten_because_its_record_could_not_be_read() {
        for (policy, restarts) in [("OnFailure", 1), ("Never", 0)] {
            let store = Arc::new(MemoryStore::new());
            let damaged = vec![(keys::workload("w"), b"no record".to_vec())];
            store.commit(Batch { put: damaged, ..Batch::default() }, soon()).unwrap();
            let asked = Arc::new(Mutex::new(Vec::new()));
            let accept = {
                let asked = Arc::clone(&asked);
                Box::new(move |request: ActionRequest| asked.lock().unwrap().push(request.target)) as Accept
            };
            let records = Records::new(store as _);
            let timing = Timing { first: Duration::ZERO, most: Duration::ZERO };
            let mut keeper = Keeper { accept, records: records.clone(), timing, ends: BTreeMap::new() };
            keeper.ended(("w".into(), "c".into()), Some(1));
            keeper.restart_due();
            assert!(asked.lock().unwrap().is_empty(), "it is not known whether it shall run");
            let mut changes = Changes::new();
            changes.put_workload(&record(policy)).unwrap();
            records.commit(changes, soon()).unwrap();
            keeper.ends.values_mut().for_each(|ends| ends.due = Some(Instant::now()));
            keeper.restart_due();
            assert_eq!(asked.lock().unwrap().len(), restarts, "{policy}");
        }
    }

    #[test]
    fn waits_double_up_to_their_bound() {
        let timing = Timing { first: Duration::from_secs(10), most: Duration::from_secs(300) };
        let waits: Vec<_> = (0..7).map(|restarts| wait_before(restarts, timing).as_secs()).collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(wait_before(u32::MAX, timing).as_secs(), 300);
    }
}
