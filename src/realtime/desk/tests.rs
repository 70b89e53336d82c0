//! The desk over a scheduler that keeps what it is told: who holds what, also after a failure and a crash.

use super::*;
use crate::manifest::{Bundle, ExpandOptions, Limits};
use crate::model::action::Verb;
use crate::model::schedule::{Task, TaskPolicy};
use crate::model::workload::WorkloadSpec;
use crate::storage::memory::MemoryStore;
use crate::storage::records::Changes;
use crate::storage::{Batch, StateStore, keys};

/// Keeps what it is told; does not answer while it is away.
#[derive(Default)]
struct Scheduler {
    told: Mutex<Vec<String>>,
    is_away: Mutex<bool>,
}

impl Scheduler {
    fn tell(&self, what: String, schedule: &str) -> Result<(), AdmissionError> {
        self.told.lock().unwrap().push(what);
        let (schedule, reason) = (schedule.to_owned(), "as scripted".to_owned());
        if *self.is_away.lock().unwrap() { Err(AdmissionError::Unavailable { schedule, reason }) } else { Ok(()) }
    }
}

impl RealtimeScheduler for Scheduler {
    fn admit(&self, schedule: &Schedule, _: Deadline, _: &CancelToken) -> Result<(), AdmissionError> {
        let tasks: Vec<_> = schedule.tasks.iter().map(|task| task.name.as_str()).collect();
        self.tell(format!("{}: {}", schedule.name, tasks.join(" ")), &schedule.name)
    }

    fn release(&self, schedule: &str, _: Deadline, _: &CancelToken) -> Result<(), AdmissionError> {
        self.tell(format!("release {schedule}"), schedule)
    }

    fn name(&self) -> &'static str {
        "scripted"
    }
}

struct Rig {
    scheduler: Arc<Scheduler>,
    store: Arc<dyn StateStore>,
    desk: Desk,
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

fn schedule(name: &str, runtime_us: i32) -> Schedule {
    let task = Task {
        name: format!("{name}-task"),
        priority: 1,
        policy: TaskPolicy::Fifo,
        cpu_affinity: 1,
        period_us: 1_000,
        release_us: 0,
        runtime_us,
        deadline_us: 1_000,
        node: "n".to_owned(),
        max_misses: 0,
    };
    Schedule { name: name.to_owned(), tasks: vec![task], sporadic: false }
}

fn spec(workload: &str) -> WorkloadSpec {
    let text = format!(
        "kind: Pod\napiVersion: v1\nmetadata: {{name: {workload}}}\nspec: {{containers: [{{name: c, image: i}}]}}\n"
    );
    let (bundle, ignore) = (Bundle::parse(&text, &Limits::default()).unwrap(), BTreeSet::new());
    let expansion = bundle.expand(&ExpandOptions::new(Verb::Launch, workload, "n", &ignore)).unwrap();
    expansion.workloads.into_iter().next().unwrap()
}

impl Rig {
    fn new(merges: bool) -> Self {
        let (scheduler, store): (Arc<Scheduler>, Arc<dyn StateStore>) = (Arc::default(), Arc::new(MemoryStore::new()));
        let desk = desk(&scheduler, &store, merges);
        Self { scheduler, store, desk }
    }

    /// An action of this id begins, and has the Schedule admitted for a workload.
    fn begin(&self, action_id: &str, workload: &str, schedule: &Schedule) -> Result<(), AdmissionError> {
        let batch = Batch { put: vec![(keys::intent(action_id), b"{}".to_vec())], ..Batch::default() };
        self.store.commit(batch, soon()).unwrap();
        let workloads = [workload.to_owned()];
        self.desk.admit(&Admission { schedule, workloads: &workloads, action_id }, soon(), &CancelToken::new())
    }

    /// An action ends, and the workload's record says this from then on; `None` forgets it.
    fn end(&self, action_id: &str, workload: &str, record: Option<(&Schedule, Desired)>) {
        let batch = Batch { delete: vec![keys::intent(action_id)], ..Batch::default() };
        self.store.commit(batch, soon()).unwrap();
        let mut changes = Changes::new();
        match record {
            Some((schedule, desired)) => {
                let record = WorkloadRecord {
                    spec: spec(workload),
                    revision: String::new(),
                    engine: String::new(),
                    desired,
                    action_id: action_id.to_owned(),
                    updated_ms: 0,
                    previous: None,
                    returned_from: String::new(),
                    scaled: Default::default(),
                    schedule: Some(schedule.clone()),
                };
                changes.put_workload(&record).unwrap();
            }
            None => changes.delete_workload(workload),
        }
        Records::new(Arc::clone(&self.store)).commit(changes, soon()).unwrap();
        self.desk.settle(&[workload.to_owned()], soon());
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.scheduler.told.lock().unwrap())
    }
}

fn desk(scheduler: &Arc<Scheduler>, store: &Arc<dyn StateStore>, merges: bool) -> Desk {
    Desk::new(Arc::clone(scheduler) as _, Records::new(Arc::clone(store)), Rules { limit: 90, merges })
}

#[test]
fn second_schedule_is_refused_with_the_first_ones_name_until_the_last_holder_ends() {
    let rig = Rig::new(false);
    let (first, second) = (schedule("first", 100), schedule("second", 100));
    rig.begin("1", "a", &first).unwrap();
    rig.end("1", "a", Some((&first, Desired::Running)));
    rig.begin("2", "b", &first).unwrap();
    rig.end("2", "b", Some((&first, Desired::Paused)));
    assert_eq!(rig.told(), ["first: first-task", "first: first-task"]);

    let error = rig.begin("3", "c", &second).unwrap_err();
    assert_eq!(
        error,
        AdmissionError::Held { schedule: "second".into(), first: "first".into(), scheduler: "scripted".into() }
    );
    rig.end("3", "c", None);
    rig.end("4", "a", Some((&first, Desired::Stopped)));
    assert!(rig.begin("5", "c", &second).unwrap_err().to_string().contains("holds Schedule 'first'"));
    assert!(rig.told().is_empty(), "the scheduler is not asked, and nothing has changed for it");

    rig.end("6", "b", None);
    assert_eq!(rig.told(), ["release first"]);
    assert_eq!(rig.desk.held(soon()).unwrap(), Held::default());
    rig.begin("7", "c", &second).unwrap();
}

#[test]
fn what_is_held_is_known_after_a_restart_and_what_a_crash_left_is_not() {
    let rig = Rig::new(false);
    let (first, second) = (schedule("first", 100), schedule("second", 100));
    rig.begin("1", "a", &first).unwrap();
    // The daemon ends in the middle of the action, and is there again.
    let rig = Rig { desk: desk(&rig.scheduler, &rig.store, false), ..rig };
    assert!(matches!(rig.begin("2", "b", &second), Err(AdmissionError::Held { .. })));
    // It was undone.
    rig.end("1", "a", None);
    assert_eq!(rig.told(), ["first: first-task", "release first"]);
    rig.begin("3", "b", &second).unwrap();
}

#[test]
fn schedule_that_failed_gives_back_what_its_workload_had() {
    let rig = Rig::new(false);
    let (first, second) = (schedule("first", 100), schedule("second", 100));
    rig.begin("1", "a", &first).unwrap();
    rig.end("1", "a", Some((&first, Desired::Running)));
    // Nobody else has the first: an update leaves it for another.
    rig.begin("2", "a", &second).unwrap();
    assert_eq!(rig.told(), ["first: first-task", "second: second-task"]);
    rig.end("2", "a", Some((&first, Desired::Running)));
    assert_eq!(rig.told(), ["first: first-task"], "the update was undone");
    assert_eq!(rig.desk.held(soon()).unwrap().name, "first");

    let changed = schedule("first", 200);
    rig.begin("2a", "a", &changed).unwrap();
    rig.end("2a", "a", Some((&first, Desired::Running)));
    assert_eq!(rig.told().len(), 2);
    assert_eq!(rig.desk.held(soon()).unwrap().shares[0].schedule, first, "other tasks under the same name were undone");
    rig.begin("2b", "b", &changed).unwrap();
    rig.end("2b", "b", Some((&changed, Desired::Running)));
    assert_eq!(rig.desk.held(soon()).unwrap().shares[0].schedule, changed, "what was admitted last counts for all");
    rig.end("2c", "b", None);
    rig.told();

    *rig.scheduler.is_away.lock().unwrap() = true;
    assert!(
        matches!(rig.begin("3", "a", &second), Err(AdmissionError::Unavailable { schedule, .. }) if schedule == "second")
    );
    rig.end("3", "a", Some((&first, Desired::Running)));
    *rig.scheduler.is_away.lock().unwrap() = false;
    rig.told();
    rig.end("4", "x", None);
    assert!(rig.told().is_empty(), "nobody is kept waiting for it again and again");
    *rig.desk.failed_at() = None;
    rig.end("4", "x", None);
    assert_eq!(rig.told(), ["first: first-task"], "it may have taken the other one");
    rig.end("5", "x", None);
    assert!(rig.told().is_empty());
}

#[test]
fn merged_tasks_go_by_the_first_ones_name_and_have_to_fit_together() {
    let rig = Rig::new(true);
    let (first, second) = (schedule("first", 500), schedule("second", 300));
    rig.begin("1", "a", &first).unwrap();
    rig.end("1", "a", Some((&first, Desired::Running)));
    rig.begin("2", "b", &second).unwrap();
    rig.end("2", "b", Some((&second, Desired::Running)));
    assert_eq!(rig.told(), ["first: first-task", "first: first-task second-task"]);

    let error = rig.begin("3", "c", &schedule("third", 200)).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("'third'") && text.contains("CPU 0 of node 'n' would be used to 100.0 %"), "{text}");
    let sporadic = Schedule { sporadic: true, ..schedule("third", 10) };
    assert!(rig.begin("3", "c", &sporadic).unwrap_err().to_string().contains("periodic or sporadic"));

    rig.end("4", "a", None);
    assert_eq!(rig.told(), ["first: second-task"], "the name stays, by which the scheduler knows them");
    rig.end("5", "b", None);
    assert_eq!(rig.told(), ["release first"]);
}

#[test]
fn look_says_what_admission_would_and_has_no_effect() {
    let rig = Rig::new(false);
    let (first, second) = (schedule("first", 100), schedule("second", 100));
    let look = |schedule: &Schedule| {
        rig.desk.look(&Admission { schedule, workloads: &["w".to_owned()], action_id: "x" }, soon())
    };
    assert_eq!(look(&first), Ok(()));
    assert!(matches!(look(&schedule("full", 901)), Err(AdmissionError::Inadmissible { .. })));
    rig.begin("1", "a", &first).unwrap();
    assert!(matches!(look(&second), Err(AdmissionError::Held { .. })));
    assert_eq!((rig.told().len(), look(&first)), (1, Ok(())));
}

#[test]
fn damaged_record_of_what_is_held_admits_nothing() {
    let rig = Rig::new(false);
    let batch = Batch { put: vec![(keys::HELD.to_owned(), b"?".to_vec())], ..Batch::default() };
    rig.store.commit(batch, soon()).unwrap();
    let error = rig.begin("1", "a", &schedule("first", 1)).unwrap_err();
    assert!(
        matches!(&error, AdmissionError::Unavailable { reason, .. } if reason.contains("'held' is damaged")),
        "{error}"
    );
}
