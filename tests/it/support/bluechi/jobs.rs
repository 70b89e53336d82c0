//! Jobs of the controller: each one is a job of a node's systemd under a number of the controller's own.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use zbus::zvariant::{OwnedObjectPath, Value};

use super::controller::Controller;
use super::node::Node;
use super::wire::{Answer, CONTROLLER, Call, Fault, JOB, ROOT, SYSTEMD, Shown, changed, object, signal};

/// Methods of nodes that make a job, with its type.
const KINDS: [(&str, &str); 4] =
    [("StartUnit", "start"), ("StopUnit", "stop"), ("RestartUnit", "restart"), ("ReloadUnit", "reload")];

/// The type of the job that this method of a node makes.
pub fn kind_of(member: &str) -> Option<&'static str> {
    KINDS.iter().find(|(method, _)| *method == member).map(|(_, kind)| *kind)
}

pub struct Job {
    node: String,
    unit: String,
    kind: &'static str,
    state: String,
    /// The job of the node's systemd.
    behind: OwnedObjectPath,
}

/// What there is of them.
#[derive(Default)]
pub struct Jobs {
    last: AtomicU32,
    running: Mutex<BTreeMap<u32, Job>>,
}

fn path_of(id: u32) -> OwnedObjectPath {
    object(&format!("{ROOT}/job/{id}"))
}

impl Controller {
    /// Makes a job. One that is refused has used up its number; `JobNew` comes before the answer, and all else after it.
    pub fn start_job(&self, node: &Node, kind: &'static str, call: &Call) -> Answer {
        let (unit, mode): (String, String) = call.args()?;
        let id = self.jobs.last.fetch_add(1, Ordering::SeqCst) + 1;
        // Held until it is answered: what systemd tells of the job meanwhile is told afterwards.
        let mut running = self.jobs.running.lock().unwrap();
        let made = node.link.ask_systemd(&call.member(), &(unit.as_str(), mode))?;
        let behind: OwnedObjectPath = made.body().deserialize()?;
        let job = Job { node: node.name.clone(), unit, kind, state: "waiting".to_owned(), behind };
        running.insert(id, job);
        self.send(signal(None, ROOT, CONTROLLER, "JobNew", &(id, path_of(id))));
        self.finish(call, call.answer(&path_of(id)));
        Ok(None)
    }

    /// systemd's job has ended, and all that are of it.
    pub fn end_jobs(&self, node: &str, behind: &OwnedObjectPath, result: &str) {
        let mut running = self.jobs.running.lock().unwrap();
        running.retain(|id, job| {
            let has_ended = job.node == node && job.behind == *behind;
            if has_ended {
                let told = (*id, path_of(*id), job.node.as_str(), job.unit.as_str(), result);
                self.send(signal(None, ROOT, CONTROLLER, "JobRemoved", &told));
            }
            !has_ended
        });
    }

    /// systemd's job is in another state.
    pub fn change_jobs(&self, node: &str, behind: &str, state: &str) {
        let mut running = self.jobs.running.lock().unwrap();
        let of_it = |(_, job): &(&u32, &mut Job)| job.node == node && job.behind.as_str() == behind;
        for (id, job) in running.iter_mut().filter(of_it).filter(|(_, job)| job.state != state) {
            job.state = state.to_owned();
            self.send(changed(&path_of(*id), JOB, "State", state));
        }
    }

    /// The node is gone, and its jobs with it, of which nothing is said.
    pub fn forget_jobs(&self, node: &str) {
        self.jobs.running.lock().unwrap().retain(|_, job| job.node != node);
    }

    /// Cancels it; that it was is told when systemd has done so.
    pub fn cancel_job(&self, id: u32) -> Result<(), Fault> {
        let running = self.jobs.running.lock().unwrap();
        let found = running.get(&id).map(|job| (job.node.clone(), job.behind.clone()));
        drop(running);
        let (node, behind) = found.ok_or_else(|| Fault::of_bus("Failed", "Job not found"))?;
        let node = self.node(&node).ok_or_else(|| Fault::of_bus("Failed", "Node not found"))?;
        node.link.ask(SYSTEMD, &behind, "org.freedesktop.systemd1.Job", "Cancel", &()).map(drop)
    }

    /// Its properties; `None` where there is no such job.
    pub fn job_shown(&self, id: u32) -> Option<Shown> {
        let running = self.jobs.running.lock().unwrap();
        let job = running.get(&id)?;
        Some(vec![
            ("Id", Value::from(id), false),
            ("Node", Value::from(job.node.clone()), false),
            ("Unit", Value::from(job.unit.clone()), false),
            ("JobType", Value::from(job.kind), false),
            ("State", Value::from(job.state.clone()), false),
        ])
    }
}
