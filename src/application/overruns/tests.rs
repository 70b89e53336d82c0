//! What misses lead to, over documents and records in memory.

use std::sync::Mutex;

use super::*;
use crate::cancel::CancelToken;
use crate::dispatch::service::Fault;
use crate::manifest::ExpandOptions;
use crate::model::schedule::{Schedule, Task, TaskPolicy};
use crate::realtime::{Admission, AdmissionError, RealtimeScheduler, Rules};
use crate::storage::memory::MemoryStore;
use crate::storage::records::{Changes, Desired};

struct Willing;

impl RealtimeScheduler for Willing {
    fn admit(&self, _: &Schedule, _: Deadline, _: &CancelToken) -> std::result::Result<(), AdmissionError> {
        Ok(())
    }

    fn release(&self, _: &str, _: Deadline, _: &CancelToken) -> std::result::Result<(), AdmissionError> {
        Ok(())
    }

    fn name(&self) -> &'static str {
        "willing"
    }
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

fn task(name: &str, max_misses: i32) -> Task {
    Task {
        name: name.to_owned(),
        priority: 1,
        policy: TaskPolicy::Fifo,
        cpu_affinity: 0,
        period_us: 1_000,
        release_us: 0,
        runtime_us: 0,
        deadline_us: 0,
        node: "n".to_owned(),
        max_misses,
    }
}

type Asked = Arc<Mutex<Vec<ActionRequest>>>;

/// A judge over a workload `w` on this node `n` that holds Schedule `s`, with a Policy of this procedure.
fn judge(procedure: &str, cooldown: Duration) -> (Judge, Asked, Arc<Faults>) {
    let records = Records::new(Arc::new(MemoryStore::new()));
    let (asked, faults) = (Asked::default(), Arc::new(Faults::default()));
    let schedule = Schedule { name: "s".to_owned(), tasks: vec![task("t", 3), task("u", 0)], sporadic: false };
    let desk = Arc::new(Desk::new(Arc::new(Willing), records.clone(), Rules { limit: 90, merges: false }));
    let mut changes = Changes::new();
    let text = format!(
        "apiVersion: v1\nkind: Policy\nmetadata: {{name: p}}\nspec:\n  placement: {{availableNodes: [n, Z]}}\n{procedure}"
    );
    changes.put_document("Policy", "p", &text);
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: w}\nspec: {containers: [{name: c, image: i}]}\n";
    let (bundle, ignore) = (Bundle::parse(pod, &Limits::default()).unwrap(), Default::default());
    let mut spec = bundle.expand(&ExpandOptions::new(Verb::Launch, "w", "n", &ignore)).unwrap().workloads.remove(0);
    (spec.policy, spec.package) = ("p".to_owned(), "pack".to_owned());
    let record = WorkloadRecord {
        spec,
        revision: String::new(),
        engine: "sim".to_owned(),
        desired: Desired::Running,
        action_id: "1".to_owned(),
        updated_ms: 0,
        previous: None,
        returned_from: String::new(),
        scaled: Default::default(),
        schedule: Some(schedule.clone()),
    };
    changes.put_workload(&record).unwrap();
    records.commit(changes, soon()).unwrap();
    let admission = Admission { schedule: &schedule, workloads: &["w".to_owned()], action_id: "1" };
    desk.admit(&admission, soon(), &CancelToken::new()).unwrap();
    let own = Arc::clone(&asked);
    let sources = Sources {
        node: "n".to_owned(),
        faults: Arc::clone(&faults),
        desk,
        documents: Arc::new(Documents::own(records.clone())),
        records,
        accept: Box::new(move |request| own.lock().unwrap().push(request)),
        cooldown,
    };
    (Judge::new(sources), asked, faults)
}

fn miss(faults: &Faults, task: &str, times: usize) {
    let (schedule, node, task) = ("s".to_owned(), "n".to_owned(), task.to_owned());
    (0..times).for_each(|_| {
        let (schedule, node, task) = (schedule.clone(), node.clone(), task.clone());
        faults.note(&Fault { schedule, node, task, is_deadline_miss: true }, 1);
    });
}

fn verbs(asked: &Asked) -> Vec<Verb> {
    asked.lock().unwrap().iter().map(|request| request.verb).collect()
}

const LONG: Duration = Duration::from_secs(3600);

// req: AC-18
#[test]
fn threshold_of_the_policy_leads_to_its_strategy_once_and_not_again_within_the_cooldown() {
    let stop = "  procedure: {type: realtime, strategy: stop, trigger: {deadlineMissThreshold: {count: 5}}}\n";
    let (mut judge, asked, faults) = judge(stop, LONG);
    miss(&faults, "t", 4);
    judge.judge(&faults.all());
    assert!(verbs(&asked).is_empty(), "four of five");
    miss(&faults, "t", 1);
    judge.judge(&faults.all());
    judge.judge(&faults.all());
    assert_eq!(verbs(&asked), [Verb::Stop]);
    let request = asked.lock().unwrap()[0].clone();
    assert!(request.target == "w" && request.id.starts_with("deadline-miss-"), "{request:?}");
    miss(&faults, "t", 50);
    judge.judge(&faults.all());
    assert_eq!(verbs(&asked), [Verb::Stop], "it rests");
    judge.acted.clear();
    judge.judge(&faults.all());
    assert_eq!(verbs(&asked), [Verb::Stop], "what was missed meanwhile counts no more");
    miss(&faults, "t", 5);
    judge.judge(&faults.all());
    assert_eq!(verbs(&asked), [Verb::Stop, Verb::Stop]);
}

// req: AC-18
#[test]
fn policy_of_real_time_without_a_threshold_takes_the_tasks_own_bound() {
    let (mut judge, asked, faults) = judge("  procedure: {type: realtime, strategy: restart}\n", LONG);
    miss(&faults, "u", 100);
    miss(&faults, "unheard-of", 100);
    judge.judge(&faults.all());
    assert!(verbs(&asked).is_empty(), "a task that bears any number, and one that nobody has");
    miss(&faults, "t", 3);
    judge.judge(&faults.all());
    assert_eq!(verbs(&asked), [Verb::Restart]);
}

// req: AC-18
#[test]
fn redeployment_goes_to_the_first_other_node_and_is_a_restart_where_there_is_none() {
    let (mut judge, asked, faults) = judge("  procedure: {type: realtime, strategy: redeployment}\n", LONG);
    miss(&faults, "t", 3);
    judge.judge(&faults.all());
    let request = asked.lock().unwrap()[0].clone();
    let Parameters { target_node, package, .. } = &request.parameters;
    assert_eq!((request.verb, target_node.as_deref(), package.as_deref()), (Verb::Offload, Some("Z"), Some("pack")));
    let record = judge.sources.records.workload("w", soon()).unwrap().unwrap().value;
    let alone = MissPolicy { threshold: None, strategy: MissStrategy::Redeploy, nodes: vec!["n".to_owned()] };
    assert_eq!(judge.sources.action(&alone, &record).0, Verb::Restart);
}

#[test]
fn without_a_policy_about_misses_they_are_counted_and_that_is_all() {
    for procedure in ["", "  procedure: {type: offloading, strategy: stop, trigger: {resourceThreshold: {cpu: 80}}}\n"]
    {
        let (mut judge, asked, faults) = judge(procedure, LONG);
        miss(&faults, "t", 1_000);
        judge.judge(&faults.all());
        assert!(verbs(&asked).is_empty());
        assert_eq!(faults.all().values().map(|misses| misses.count).sum::<u64>(), 1_000);
    }
}

#[test]
fn thread_acts_on_what_it_is_woken_for_and_ends_when_it_is_told() {
    let (judge, asked, faults) = judge("  procedure: {type: realtime, strategy: restart}\n", LONG);
    let overruns = Overruns::start(judge.sources).unwrap();
    miss(&faults, "t", 3);
    let begun = Instant::now();
    while verbs(&asked).is_empty() && begun.elapsed() < Duration::from_secs(10) {
        thread::yield_now();
    }
    assert_eq!(verbs(&asked), [Verb::Restart]);
    overruns.stop();
}
