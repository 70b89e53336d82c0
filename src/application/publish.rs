//! [`Publisher`]: has the state of every workload and Package delivered to the shared store, whenever it changes.
//!
//! One named thread looks at all workloads soon after an action has ended, and every few seconds for what changes by
//! itself. It hands over what differs from what was handed over last, of which a fingerprint is kept: so nothing is
//! written twice, and what is gone is deleted, also after a restart.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use sha2::{Digest, Sha256};

use super::status::Status;
use crate::cancel::{CancelToken, Urge};
use crate::clock::Deadline;
use crate::dispatch::service::WorkloadView;
use crate::model::state::ContainerStatus;
use crate::storage::outbox::Outbox;
use crate::storage::published::{self, PackageMember, PublishedContainer, PublishedPackage, PublishedWorkload};
use crate::storage::records::{Records, WorkloadRecord};
use crate::storage::{Batch, StateStore, StoreError, keys};

/// Between two looks while no action ends.
const PERIOD: Duration = Duration::from_secs(5);

/// After an action has ended: several that end together are looked at once.
const SETTLE: Duration = Duration::from_millis(100);

/// The time of one look.
const LOOK_BUDGET: Duration = Duration::from_secs(10);

/// What the thread works with.
pub struct Sources {
    /// This node.
    pub node: String,
    /// What runs.
    pub status: Arc<Status>,
    /// What shall run.
    pub records: Records,
    /// The node's own store, for fingerprints.
    pub store: Arc<dyn StateStore>,
    /// Where documents go.
    pub outbox: Arc<Outbox>,
}

/// The thread's handle.
pub struct Publisher {
    wake: Sender<()>,
    stop: CancelToken,
    thread: JoinHandle<()>,
}

impl Publisher {
    /// Starts the thread.
    pub fn start(sources: Sources) -> std::io::Result<Self> {
        let (wake, woken) = bounded(1);
        let stop = CancelToken::new();
        let token = stop.clone();
        let run = move || publish_all(&sources, &woken, &token);
        let thread = thread::Builder::new().name("publisher".to_owned()).spawn(run)?;
        Ok(Self { wake, stop, thread })
    }

    /// What it is told with that something may have changed; never blocks.
    pub fn waker(&self) -> impl Fn() + Send + Sync + use<> {
        let wake = self.wake.clone();
        // One that waits already is enough.
        move || wake.try_send(()).unwrap_or_default()
    }

    /// Ends the thread.
    pub fn stop(self) {
        self.stop.cancel("the Action Controller is stopping");
        self.wake.try_send(()).unwrap_or_default();
        if self.thread.join().is_err() {
            log::error!("the publisher's thread panicked");
        }
    }
}

fn publish_all(sources: &Sources, woken: &Receiver<()>, stop: &CancelToken) {
    while !stop.is_cancelled() {
        if let Err(error) = sources.publish(stop) {
            crate::limited!(log::Level::Warn, "the state of workloads is not handed over: {error}");
        }
        match woken.recv_timeout(PERIOD) {
            Ok(()) => drop(stop.wait(Urge::Cancel, Deadline::after(SETTLE))),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

impl Sources {
    /// Hands over what has changed.
    fn publish(&self, stop: &CancelToken) -> crate::error::Result<()> {
        let deadline = Deadline::after(LOOK_BUDGET);
        let views = self.status.all(deadline, stop)?;
        let records = self.records.workloads(deadline)?.logged().into_iter();
        let records: BTreeMap<_, _> = records.map(|found| (found.value.spec.name.clone(), found.value)).collect();
        let mut documents = BTreeMap::new();
        let mut packages: BTreeMap<String, PublishedPackage> = BTreeMap::new();
        for (name, view) in &views {
            let workload = self.workload(view, records.get(name));
            if !workload.package.is_empty() {
                let package = packages.entry(workload.package.clone()).or_default();
                package.name.clone_from(&workload.package);
                package.workloads.insert(name.clone(), self.member(&workload));
            }
            documents.insert(published::workload(&self.node, name), serde_json::to_string(&workload));
        }
        let packages = packages.into_iter();
        documents.extend(packages.map(|(name, package)| (published::package(&name), serde_json::to_string(&package))));
        let mut known = self.known(deadline)?;
        for (key, document) in documents {
            let document = document.map_err(|error| crate::error::Error::internal(error.to_string()))?;
            let print = fingerprint(&document);
            if known.remove(&key).as_ref() != Some(&print) {
                self.hand_over(&key, Some(document), Some(&print), deadline)?;
            }
        }
        // What is left is no longer there.
        for key in known.into_keys() {
            self.hand_over(&key, None, None, deadline)?;
        }
        Ok(())
    }

    fn known(&self, deadline: Deadline) -> Result<BTreeMap<String, String>, StoreError> {
        let (mut all, mut after) = (BTreeMap::new(), String::new());
        loop {
            let page = self.store.scan(keys::PUBLISHED, &after, 256, deadline)?;
            let Some(last) = page.last() else { return Ok(all) };
            after.clone_from(&last.key);
            all.extend(page.into_iter().filter_map(|entry| {
                let key = entry.key.strip_prefix(keys::PUBLISHED)?.to_owned();
                Some((key, String::from_utf8_lossy(&entry.value).into_owned()))
            }));
        }
    }

    /// First into the outbox, then noted: a crash in between hands it over once more, and never not.
    fn hand_over(
        &self,
        key: &str,
        document: Option<String>,
        print: Option<&str>,
        deadline: Deadline,
    ) -> Result<(), StoreError> {
        self.outbox.put_state(key, document)?;
        let own = keys::published(key);
        let batch = match print {
            Some(print) => Batch { put: vec![(own, print.as_bytes().to_vec())], ..Batch::default() },
            None => Batch { delete: vec![own], ..Batch::default() },
        };
        self.store.commit(batch, deadline)
    }

    fn member(&self, workload: &PublishedWorkload) -> PackageMember {
        let runs_on = if workload.runs_on.is_empty() { &self.node } else { &workload.runs_on };
        PackageMember {
            node: self.node.clone(),
            runs_on: runs_on.clone(),
            desired: workload.desired.clone(),
            revision: workload.revision.clone(),
        }
    }

    fn workload(&self, view: &WorkloadView, record: Option<&WorkloadRecord>) -> PublishedWorkload {
        let spec = record.map(|record| &record.spec);
        let runs_on = spec.and_then(|spec| spec.other_node()).unwrap_or_default().to_owned();
        let container = |container: &crate::runtime::adapter::ContainerInstance| PublishedContainer {
            name: container.name.clone(),
            id: container.id.clone(),
            state: container.status.word().to_owned(),
            exit_code: match container.status {
                ContainerStatus::Exited { code, .. } => code,
                _ => None,
            },
        };
        PublishedWorkload {
            name: view.name.clone(),
            node: self.node.clone(),
            // What another node does is not seen from here.
            actual: if runs_on.is_empty() { view.state.word().to_owned() } else { "unknown".to_owned() },
            runs_on,
            package: view.package.clone(),
            scenario: spec.map(|spec| spec.scenario.clone()).unwrap_or_default(),
            desired: view.desired.clone(),
            containers: view.containers.iter().map(container).collect(),
            revision: view.revision.clone(),
            engine: view.engine.clone(),
            action_id: view.last_action_id.clone(),
            updated_ms: view.updated_ms,
        }
    }
}

fn fingerprint(document: &str) -> String {
    Sha256::digest(document.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
