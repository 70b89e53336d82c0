//! TIMPANI on the real wire: one Schedule at a time, what it is told at the end, what missed deadlines lead to, and the
//! dialect of our own.

use std::time::Duration;

use actioncontroller::proto::actioncontroller::TriggerActionRequest;
use actioncontroller::proto::actions::ListActionsRequest;
use actioncontroller::proto::schedinfo::{FaultInfo, FaultType, RecoveryCommand, RecoveryPolicy, SchedInfo};
use actioncontroller::proto::schedinfo_grpc::FaultServiceClient;
use actioncontroller::proto::timpani_scheduler as v1;
use protobuf::Message;

use super::Rig;
use super::triggers::state;
use crate::support::daemon::options;
use crate::support::peers::{self, Behaviour, Seen, StandIn};
use crate::support::wait::until;

const LIMIT: Duration = Duration::from_secs(20);

const RUNNING: &str = "WORKLOAD_STATE_RUNNING";

impl Rig {
    /// A rig whose settings have this changed before the daemon is there.
    fn with_changed(change: impl Fn(&str) -> String) -> Self {
        let mut rig = Self::start();
        rig.daemon.write_settings(&change(&rig.daemon.settings()));
        rig.restart();
        rig
    }

    fn restart(&mut self) {
        self.daemon.terminate();
        self.daemon.start_again();
    }

    fn schedule(&self, name: &str, tasks: &str) {
        let text = format!("apiVersion: v1\nkind: Schedule\nmetadata: {{name: {name}}}\nspec: [{tasks}]\n");
        self.put(&format!("Schedule/{name}"), &text);
    }

    /// Stores a Scenario `other` that launches a model with this Schedule.
    fn other(&self, model: &str, schedule: &str) {
        self.put(
            "Scenario/other",
            "apiVersion: v1\nkind: Scenario\nmetadata: {name: other}\nspec: {action: launch, target: q}\n",
        );
        let package = format!(
            "apiVersion: v1\nkind: Package\nmetadata: {{name: q}}\nspec:\n  schedule: {schedule}\n  pattern: [{{type: plain}}]\n  models: [{{name: {model}, node: test}}]\n"
        );
        self.put("Package/q", &package);
        self.model(model, "i");
    }
}

fn task(name: &str) -> String {
    format!(
        "{{name: {name}, policy: FIFO, priority: 9, cpu_affinity: 4, period: 20000, runtime: 4000, deadline: 9000, node_id: test, max_dmiss: 3}}"
    )
}

/// What TIMPANI was told since the last time: each Schedule with its tasks, or that it was let go of.
fn told(timpani: &StandIn) -> Vec<String> {
    let one = |(method, bytes): Seen| {
        if method.ends_with("EnforceRecoveryPolicy") {
            let command = RecoveryCommand::parse_from_bytes(&bytes).unwrap();
            assert_eq!(command.recovery_policy.enum_value(), Ok(RecoveryPolicy::STOP));
            return format!("stop {}", command.workload_id);
        }
        let info = SchedInfo::parse_from_bytes(&bytes).unwrap();
        let tasks: Vec<_> = info.tasks.iter().map(|task| task.name.as_str()).collect();
        format!("{}: {}", info.workload_id, tasks.join(" "))
    };
    timpani.take().into_iter().map(one).collect()
}

// req: AC-18
#[test]
fn second_schedule_is_refused_with_the_first_ones_name_after_a_restart_too_until_that_is_let_go_of() {
    let mut rig = Rig::with_changed(|settings| settings.replace("timpani: {", "timpani: {recovery: stop, "));
    rig.schedule("first", &task("t"));
    rig.schedule("second", &task("u"));
    rig.scenario("launch", &[("a", "test")], "  schedule: first\n");
    assert_eq!(rig.trigger("s").unwrap().status, 0);
    assert_eq!(told(&rig.timpani), ["first: t"]);
    rig.restart();
    rig.other("b", "second");
    let refused = rig.trigger("other").unwrap();
    assert!(refused.status != 0 && refused.desc.contains("TIMPANI holds Schedule 'first'"), "{}", refused.desc);
    assert_eq!((told(&rig.timpani), state(&rig, "b").as_str()), (Vec::new(), ""));
    rig.scenario("terminate", &[("a", "test")], "  schedule: first\n");
    assert_eq!(rig.trigger("s").unwrap().status, 0);
    assert_eq!(told(&rig.timpani), ["stop first"]);
    assert_eq!(rig.trigger("other").unwrap().status, 0);
    assert_eq!((told(&rig.timpani), state(&rig, "b").as_str()), (vec!["second: u".to_owned()], RUNNING));
}

// req: AC-18
#[test]
fn second_schedule_is_merged_where_that_is_configured() {
    let rig = Rig::with_changed(|settings| settings.replace("timpani: {", "timpani: {second: merge, "));
    rig.schedule("first", &task("t"));
    rig.schedule("second", &task("u"));
    rig.schedule("full", &task("v").replace("runtime: 4000", "runtime: 9000"));
    rig.scenario("launch", &[("a", "test")], "  schedule: first\n");
    assert_eq!(rig.trigger("s").unwrap().status, 0);
    rig.other("b", "second");
    assert_eq!(rig.trigger("other").unwrap().status, 0);
    assert_eq!(told(&rig.timpani), ["first: t", "first: t u"]);
    rig.other("c", "full");
    assert_eq!(rig.trigger("other").unwrap().status, 0, "20, 20 and 45 % of CPU 2");
    rig.schedule("more", &task("w"));
    rig.other("d", "more");
    let refused = rig.trigger("other").unwrap();
    assert!(refused.desc.contains("CPU 2 of node 'test' would be used to 105.0 %"), "{}", refused.desc);
    assert_eq!(told(&rig.timpani), ["first: t u v"], "together they have to fit");
    rig.scenario("terminate", &[("a", "test")], "  schedule: first\n");
    assert_eq!(rig.trigger("s").unwrap().status, 0);
    assert_eq!(told(&rig.timpani), ["first: u v"]);
}

// req: AC-18
#[test]
fn missed_deadlines_lead_to_what_the_policy_says_by_an_action_of_their_own() {
    let rig = Rig::with_changed(|settings| settings.replace("pullpiri: {", "pullpiri: {faults: '127.0.0.1:0', "));
    rig.allowed.lock().unwrap().push("test".to_owned());
    rig.put(
        "Policy/pol",
        "apiVersion: v1\nkind: Policy\nmetadata: {name: pol}\nspec:\n  placement: {availableNodes: [test]}\n  procedure: {type: realtime, strategy: stop}\n",
    );
    rig.schedule("first", &task("t"));
    rig.scenario("launch", &[("a", "test")], "  schedule: first\n  policy: pol\n");
    assert_eq!(rig.trigger("s").unwrap().status, 0);
    let fault = FaultInfo {
        workload_id: "first".into(),
        node_id: "test".into(),
        task_name: "t".into(),
        type_: FaultType::DMISS.into(),
        ..Default::default()
    };
    let client = FaultServiceClient::new(rig.daemon.channel());
    for _ in 0..2 {
        client.notify_fault(&fault, options()).unwrap();
    }
    assert_eq!(state(&rig, "a"), RUNNING, "two of three that are borne");
    client.notify_fault(&fault, options()).unwrap();
    until("the workload is stopped", LIMIT, || (state(&rig, "a") != RUNNING).then_some(()));
    let ids = || {
        let actions = rig.daemon.actions().list_actions(&ListActionsRequest::default(), options()).unwrap().actions;
        let ids = actions.into_iter().map(|action| action.action_id);
        ids.filter(|id| id.starts_with("deadline-miss-")).collect::<Vec<_>>()
    };
    until("its action is told", LIMIT, || (ids().len() == 1).then_some(()));
    let log = rig.daemon.log();
    assert!(log.contains("has missed 3 deadlines") && log.contains("as Policy 'pol' says"), "{log}");
}

// req: AC-18
#[test]
fn dialect_of_our_own_allocates_cores_applies_tasks_and_releases_them() {
    let scheduler = peers::timpani_scheduler();
    let address = scheduler.address();
    let rig = Rig::with_changed(|settings| {
        let line = settings.lines().find(|line| line.starts_with("timpani: ")).unwrap();
        settings.replace(line, &format!("timpani: {{address: '{address}', dialect: v1, timeout: 1s}}"))
    });
    let methods = |scheduler: &StandIn| -> Vec<Seen> {
        let short = |(method, bytes): Seen| (method.rsplit('/').next().unwrap().to_owned(), bytes);
        scheduler.take().into_iter().map(short).collect()
    };
    let names = |seen: &[Seen]| seen.iter().map(|(method, _)| method.clone()).collect::<Vec<_>>();
    rig.schedule("first", &format!("{}, {}", task("t"), task("u").replace("node_id: test", "node_id: ZONE1")));
    rig.scenario("launch", &[("a", "test")], "  schedule: first\n");
    assert_eq!(rig.trigger("s").unwrap().status, 0);
    let seen = methods(&scheduler);
    assert_eq!(names(&seen), ["AllocateCores", "AllocateCores", "ApplyScheduling"]);
    let cores = v1::AllocateCoresRequest::parse_from_bytes(&seen[1].1).unwrap();
    assert_eq!((cores.workload_id.as_str(), cores.node.as_str(), cores.cpu_mask), ("first", "test", 4));
    let threads = v1::ApplySchedulingRequest::parse_from_bytes(&seen[2].1).unwrap().threads;
    let thread = &threads[0];
    assert_eq!((thread.name.as_str(), thread.node.as_str(), threads.len()), ("t", "test", 2));
    assert_eq!(thread.policy.enum_value(), Ok(v1::TaskPolicy::TASK_POLICY_FIFO));
    assert_eq!((thread.priority, thread.period_us, thread.deadline_us, thread.max_misses), (9, 20_000, 9_000, 3));
    rig.scenario("terminate", &[("a", "test")], "  schedule: first\n");
    assert_eq!(rig.trigger("s").unwrap().status, 0);
    assert_eq!(names(&methods(&scheduler)), ["ReleaseCores"]);

    for (tasks, reason) in [
        (task("t").replace("cpu_affinity: 4", "cpu_affinity: 64"), "cores of node 'test': it has CPUs 0 to 3"),
        (task("unwanted"), "its tasks: no such thread"),
    ] {
        rig.schedule("first", &tasks);
        rig.scenario("launch", &[("a", "test")], "  schedule: first\n");
        let refused = rig.trigger("s").unwrap();
        assert!(refused.status != 0 && refused.desc.contains(reason), "{}", refused.desc);
        assert_eq!(state(&rig, "a"), "");
        assert_eq!(names(&methods(&scheduler)).last().unwrap(), "ReleaseCores", "what it may have kept is let go of");
    }
    rig.schedule("first", &task("t"));
    for behaviour in [Behaviour::Refusing, Behaviour::Garbled, Behaviour::Closing, Behaviour::Silent] {
        scheduler.behave(behaviour);
        let refused = rig.trigger("s").unwrap();
        assert!(refused.status != 0 && refused.desc.contains("Schedule 'first'"), "{behaviour:?}: {}", refused.desc);
        assert_eq!(state(&rig, "a"), "");
    }
    scheduler.behave(Behaviour::Well);
    until("it answers again", LIMIT, || (rig.trigger("s").ok()?.status == 0).then_some(()));
}

// req: AC-18
#[test]
fn launch_that_a_crash_cut_off_is_undone_and_its_schedule_let_go_of() {
    let mut rig = Rig::with_changed(|settings| settings.replace("timpani: {", "timpani: {recovery: stop, "));
    rig.schedule("first", &task("t"));
    rig.schedule("second", &task("u"));
    rig.scenario("launch", &[("a", "ZONE1")], "  schedule: first\n");
    rig.agent.behave(Behaviour::Silent);
    let client = rig.client();
    let request = TriggerActionRequest { scenario_name: "s".into(), ..Default::default() };
    let pending = client.trigger_action_async(&request, options()).unwrap();
    until("the start is asked for", LIMIT, || (rig.agent.count() > 0).then_some(()));
    rig.daemon.kill();
    drop(pending);
    assert_eq!(told(&rig.timpani), ["first: t"]);
    rig.agent.behave(Behaviour::Well);
    rig.daemon.start_again();
    until("the Schedule is let go of", LIMIT, || (told(&rig.timpani) == ["stop first"]).then_some(()));
    rig.other("b", "second");
    assert_eq!(rig.trigger("other").unwrap().status, 0);
}
