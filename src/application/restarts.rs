//! [`Restarts`]: starts containers again that have ended, as their documents' restartPolicy says.
//!
//! The first restart comes after some time, each further one after twice the time before, up to a bound; a container that
//! ran long begins anew. What shall not run any more, because it was stopped meanwhile, is let be: that is looked at when
//! the time has come, and once more by the action itself. After a start of the daemon, or of an engine, what is found
//! ended is treated like what has just ended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::dispatch::service::Service;
use crate::events::{HubEvent, Listener};
use crate::model::action::{ActionRequest, Parameters, Verb};
use crate::model::state::ContainerStatus;
use crate::model::workload::{RestartPolicy, labels};
use crate::runtime::adapter::ContainerInstance;
use crate::storage::records::{Desired, Records, WorkloadRecord};

/// Events that wait, at most. Beyond that they are dropped: the next listing of the engine makes up for it.
const MOST_EVENTS: usize = 4096;

/// Containers that wait for their restart, at most.
const MOST_WAITING: usize = 4096;

/// The longest sleep, after which it is looked whether this is to end.
const TICK: Duration = Duration::from_secs(1);

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
}

/// The thread's handle.
pub struct Restarts {
    stop: CancelToken,
    thread: JoinHandle<()>,
}

/// Both ends of what the hub tells: made before the hub, which is made before this.
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
        service: Arc<dyn Service>,
        records: Records,
        timing: Timing,
    ) -> std::io::Result<Self> {
        let stop = CancelToken::new();
        let mut keeper = Keeper { service, records, timing, ends: BTreeMap::new() };
        let token = stop.clone();
        let run = move || keeper.run(&events, &token);
        let thread = thread::Builder::new().name("restarts".to_owned()).spawn(run)?;
        Ok(Self { stop, thread })
    }

    /// Ends the thread.
    pub fn stop(self) {
        self.stop.cancel("the Action Controller is stopping");
        if self.thread.join().is_err() {
            log::error!("the thread of restarts panicked");
        }
    }
}

struct Keeper {
    service: Arc<dyn Service>,
    records: Records,
    timing: Timing,
    ends: BTreeMap<Name, Ends>,
}

impl Keeper {
    fn run(&mut self, events: &Receiver<HubEvent>, stop: &CancelToken) {
        while !stop.is_cancelled() {
            let now = Instant::now();
            let next = self.ends.values().filter_map(|ends| ends.due).min();
            let wait = next.map_or(TICK, |due| due.saturating_duration_since(now).min(TICK));
            match events.recv_timeout(wait) {
                Ok(event) => self.handle(event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
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

    fn record(&self, workload: &str) -> Option<WorkloadRecord> {
        let found = self.records.workload(workload, Deadline::after(READ_BUDGET));
        match found {
            Ok(found) => found.map(|found| found.value),
            Err(error) => {
                crate::limited!(log::Level::Warn, "whether '{workload}' shall run is not known: {error}");
                None
            }
        }
    }

    /// A container has ended: it is started again later, where that is asked for.
    fn ended(&mut self, name: Name, exit_code: Option<i32>) {
        let record = self.record(&name.0).filter(|record| asks_for_restart(record, exit_code));
        if record.is_none() || (self.ends.len() >= MOST_WAITING && !self.ends.contains_key(&name)) {
            self.ends.remove(&name);
            return;
        }
        let timing = self.timing;
        let ends = self.ends.entry(name.clone()).or_default();
        if ends.started.take().is_some_and(|started| started.elapsed() > timing.most * LONG_RUNS) {
            ends.restarts = 0;
        }
        let wait = wait_before(ends.restarts, timing);
        (ends.restarts, ends.in_vain) = (ends.restarts.saturating_add(1), 0);
        ends.due = Some(Instant::now() + wait);
        // Somebody may be stopping it: what shall be is recorded once that has ended.
        log::debug!("container '{}' of '{}' is to be started again in {} s", name.1, name.0, wait.as_secs_f32());
    }

    fn restart_due(&mut self) {
        let now = Instant::now();
        let due: Vec<Name> = self
            .ends
            .iter()
            .filter(|(_, ends)| ends.due.is_some_and(|due| due <= now))
            .map(|(name, _)| name.clone())
            .collect();
        for name in due {
            let shall_run = self.record(&name.0).is_some_and(|record| record.desired == Desired::Running);
            if !shall_run {
                self.ends.remove(&name);
                continue;
            }
            log::info!("container '{}' of '{}' is started again", name.1, name.0);
            let timing = self.timing;
            if let Some(ends) = self.ends.get_mut(&name) {
                // Where this one comes to nothing, the next try is later; its start clears that.
                ends.due = Some(now + wait_before(ends.restarts.saturating_add(ends.in_vain), timing));
                (ends.in_vain, ends.is_asked) = (ends.in_vain.saturating_add(1), true);
            }
            // Its end is told by the engine; whoever drops the answer ends only the wait.
            drop(self.service.accept(restart(&name)));
        }
    }
}

fn name_of(instance: &ContainerInstance) -> Option<Name> {
    if instance.labels.contains_key(labels::ROLE) {
        return None;
    }
    Some((instance.labels.get(labels::WORKLOAD)?.clone(), instance.labels.get(labels::CONTAINER)?.clone()))
}

fn asks_for_restart(record: &WorkloadRecord, exit_code: Option<i32>) -> bool {
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
    use super::*;

    #[test]
    fn waits_double_up_to_their_bound() {
        let timing = Timing { first: Duration::from_secs(10), most: Duration::from_secs(300) };
        let waits: Vec<_> = (0..7).map(|restarts| wait_before(restarts, timing).as_secs()).collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(wait_before(u32::MAX, timing).as_secs(), 300);
    }
}
