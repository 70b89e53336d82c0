//! The v1 dialect: a policy server that is asked about every action, one that refuses, and one that misbehaves.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use actioncontroller::proto::actions::{ActionSpec, ListActionsRequest, Outcome, Parameters, Verb};

use super::{QUICK, assert_gone, ctl, file, refusal, settings, stop, within};
use crate::support::daemon::{DaemonProcess, launch, on_target, options, pod};
use crate::support::peers::{self, Behaviour, Refusals, StandIn};

/// Every way to misbehave but slowness.
const ALL: [Behaviour; 4] = [Behaviour::Silent, Behaviour::Refusing, Behaviour::Garbled, Behaviour::Closing];

/// The server has one second; loading, asking and recording take no time beside that.
const LIMIT: Duration = Duration::from_secs(10);

struct Rig {
    daemon: DaemonProcess,
    server: StandIn,
    refusals: Refusals,
    agent: StandIn,
    running: Arc<Mutex<Vec<String>>>,
}

impl Rig {
    /// With these settings of `policy` beside the server.
    fn with(more: &str) -> Self {
        let (refusals, running) = (Refusals::default(), Arc::default());
        let (server, agent) = (peers::policy_server(Arc::clone(&refusals)), peers::node_agent(Arc::clone(&running)));
        let daemon = DaemonProcess::start(|folder| {
            let others = format!(
                "policy: {{server: {{address: '{}', dialect: v1, timeout: 1s}}{more}}}\n\
                 nodes: {{ZONE1: {{node_agent: '{}'}}}}\n",
                server.address(),
                agent.address()
            );
            settings(folder, "[]", &others)
        });
        Self { daemon, server, refusals, agent, running }
    }

    fn refuse(&self, what: &str, node: &str) {
        let refusal = (format!("no-{what}"), "not while driving".to_owned(), node.to_owned());
        self.refusals.lock().unwrap().insert(what.to_owned(), refusal);
    }

    fn allow_all(&self) {
        self.refusals.lock().unwrap().clear();
    }

    /// Runs a verb on the workload `web`.
    fn run(&self, verb: Verb) -> grpcio::Result<Outcome> {
        self.daemon.execute(match verb {
            Verb::VERB_LAUNCH => launch(&pod("web", QUICK, "sleep 1000")),
            Verb::VERB_UPDATE => {
                let manifest = pod("web", "localhost/other:1", "sleep 1000");
                ActionSpec { manifest, ..on_target(verb, "") }
            }
            Verb::VERB_OFFLOAD => {
                let parameters = Parameters { target_node: "ZONE1".into(), ..Default::default() };
                let parameters = Some(parameters).into();
                ActionSpec { parameters, ..on_target(verb, "web") }
            }
            other => on_target(other, "web"),
        })
    }
}

/// Each verb that is built, in an order in which they can be done to one workload.
const VERBS: [(Verb, &str); 12] = [
    (Verb::VERB_LAUNCH, "launch"),
    (Verb::VERB_STOP, "stop"),
    (Verb::VERB_START, "start"),
    (Verb::VERB_RESTART, "restart"),
    (Verb::VERB_PAUSE, "pause"),
    (Verb::VERB_RESUME, "resume"),
    (Verb::VERB_UPDATE, "update"),
    (Verb::VERB_ROLLBACK, "rollback"),
    (Verb::VERB_KILL, "kill"),
    (Verb::VERB_REMOVE, "remove"),
    (Verb::VERB_OFFLOAD, "offload"),
    (Verb::VERB_TERMINATE, "terminate"),
];

// req: AC-07
#[test]
fn everything_is_asked_before_its_first_effect_and_a_refusal_names_the_rule() {
    let rig = Rig::with("");
    for (verb, word) in VERBS {
        if verb == Verb::VERB_OFFLOAD {
            // There has to be something to move.
            rig.run(Verb::VERB_LAUNCH).unwrap();
        }
        rig.server.take();
        rig.refuse(word, "");
        let refused = refusal(rig.run(verb));
        assert_eq!(refused.error.code, "POLICY_DENIED", "{word}: {refused:?}");
        let message = &refused.error.message;
        assert!(message.contains(&format!("rule 'no-{word}'")) && message.contains("not while driving"), "{message}");
        rig.allow_all();
        rig.run(verb).unwrap_or_else(|error| panic!("{word}: {error}"));
        let asked = peers::questions(&rig.server);
        let told: Vec<_> = asked.iter().map(|of| (of.verb.as_str(), of.target.as_str())).collect();
        assert_eq!(told, [(word, "web"); 2]);
        if verb == Verb::VERB_LAUNCH {
            assert_eq!((asked[0].workload.as_str(), asked[0].node.as_str()), ("web", "test"));
            assert_eq!(asked[0].images, [QUICK]);
        }
    }
    assert_gone(&rig.daemon, "web");
}

#[test]
fn server_that_misbehaves_refuses_a_launch_within_its_time_and_a_stop_goes_on() {
    let rig = Rig::with("");
    rig.run(Verb::VERB_LAUNCH).unwrap();
    for behaviour in ALL {
        rig.server.behave(behaviour);
        let refused = within(LIMIT, "a launch", || refusal(rig.daemon.launch(&pod("other", QUICK, "sleep 1000"))));
        assert_eq!(refused.error.code, "POLICY_DENIED", "{behaviour:?}: {refused:?}");
        assert!(refused.error.message.contains("the policy server"), "{behaviour:?}: {refused:?}");
        let stopped = within(LIMIT, "a stop", || rig.daemon.execute(stop("web", 0)).unwrap());
        let warned = stopped.warnings.iter().any(|warning| warning.message.contains("policy was not asked"));
        assert!(warned, "{behaviour:?}: {stopped:?}");
        rig.server.behave(Behaviour::Well);
    }
    assert_gone(&rig.daemon, "other");
    rig.server.behave(Behaviour::Slow(Duration::from_millis(50)));
    rig.run(Verb::VERB_START).unwrap();
}

#[test]
fn silent_server_refuses_what_ends_things_where_it_is_configured_so() {
    let rig = Rig::with(", end_without_server: false");
    rig.run(Verb::VERB_LAUNCH).unwrap();
    rig.server.behave(Behaviour::Silent);
    for verb in [Verb::VERB_STOP, Verb::VERB_KILL, Verb::VERB_REMOVE, Verb::VERB_TERMINATE] {
        let refused = within(LIMIT, "an end", || refusal(rig.run(verb)));
        assert_eq!(refused.error.code, "POLICY_DENIED", "{verb:?}: {refused:?}");
    }
    rig.server.behave(Behaviour::Well);
    rig.run(Verb::VERB_TERMINATE).unwrap();
}

#[test]
fn suggested_node_is_told_and_used_where_it_is_configured_so() {
    let rig = Rig::with("");
    rig.refuse("web", "ZONE1");
    let refused = refusal(rig.run(Verb::VERB_LAUNCH));
    assert_eq!(refused.error.hint, "node 'ZONE1' would be allowed");
    let document = file(&rig.daemon, "web.yaml", &pod("web", QUICK, "sleep 1000"));
    let check = ["policy", "check", "launch", "-f", document.to_str().unwrap()];
    assert!(ctl(&rig.daemon, 3, &check).0.contains("ZONE1"));
    assert_eq!(rig.agent.count(), 0);

    let moving = Rig::with(", move_to_suggested: true");
    moving.refuse("web", "ZONE1");
    let document = file(&moving.daemon, "web.yaml", &pod("web", QUICK, "sleep 1000"));
    let check = ["policy", "check", "launch", "-f", document.to_str().unwrap()];
    assert!(ctl(&moving.daemon, 0, &check).0.contains("moves"));
    assert!(moving.running.lock().unwrap().is_empty(), "asking does nothing");
    let moved = moving.run(Verb::VERB_LAUNCH).unwrap();
    assert!(moved.warnings.iter().any(|warning| warning.message.contains("ZONE1")), "{moved:?}");
    assert_eq!(*moving.running.lock().unwrap(), ["web"]);
}

#[test]
fn question_to_a_silent_server_is_answered_within_its_time_and_nothing_is_recorded() {
    let rig = Rig::with("");
    let document = file(&rig.daemon, "web.yaml", &pod("web", QUICK, "sleep 1000"));
    let of_launch = ["policy", "check", "launch", "-f", document.to_str().unwrap()];
    for behaviour in ALL {
        rig.server.behave(behaviour);
        let (out, _) = within(LIMIT, "a question", || ctl(&rig.daemon, 3, &of_launch));
        assert!(out.contains("refused") && out.contains("the policy server"), "{behaviour:?}: {out}");
        // What ends things would go on.
        let (out, _) = within(LIMIT, "a question", || ctl(&rig.daemon, 0, &["policy", "check", "stop", "web"]));
        assert!(out.contains("allowed") && out.contains("the policy server"), "{behaviour:?}: {out}");
        rig.server.behave(Behaviour::Well);
    }
    let listed = rig.daemon.actions().list_actions(&ListActionsRequest::default(), options()).unwrap();
    assert!(listed.actions.is_empty(), "{listed:?}");
    let strict = Rig::with(", end_without_server: false");
    strict.server.behave(Behaviour::Silent);
    ctl(&strict.daemon, 3, &["policy", "check", "stop", "web"]);
}
