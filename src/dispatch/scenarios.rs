//! What Pullpiri's services ask, over the dispatcher: triggers of Scenarios, and moves and stops of models.
//!
//! Callers repeat a trigger on every sample. So those of one Scenario whose documents are still to be read are read for
//! once, and one that asks for the same as an action that waits or runs is answered with that action: it takes no place
//! in the queue.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_channel::oneshot;

use super::dispatcher::Dispatcher;
use super::entry::Entry;
use super::service::{Fault, Later, OffloadOrder, Offloaded, PodState, Pullpiri, Service, StopOrder, Triggered};
use crate::action::{Loaded, scenario};
use crate::clock::Deadline;
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::model::action::{ActionRequest, ActionState, Outcome, Parameters, Verb};
use crate::networks::NetworkAnswer;

/// The time that reading the documents of a Scenario has.
const LOAD_BUDGET: Duration = Duration::from_secs(10);

/// Triggers of one Scenario that wait for the same reading, at most.
const MOST_WAITING: usize = 1024;

/// Told of each triggered action that has ended, with its Scenario. Does not block.
pub type Told = Arc<dyn Fn(&str, &Outcome) + Send + Sync>;

type Answer = oneshot::Sender<Result<Triggered>>;

/// Triggers whose documents are to be read, by Scenario and whether they reconcile.
#[derive(Default)]
pub struct Triggers(Mutex<HashMap<(String, bool), Vec<Answer>>>);

impl Triggers {
    /// Adds one; `true` where it is the first, for which somebody has to read.
    fn add(&self, key: &(String, bool), answer: Answer) -> Result<bool> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let answers = waiting.entry(key.clone()).or_default();
        if answers.len() >= MOST_WAITING {
            let message = format!("{MOST_WAITING} triggers of Scenario '{}' wait already", key.0);
            return Err(Error::new(ErrorKind::ResourceExhausted, ErrorCode::QueueFull, message));
        }
        answers.push(answer);
        Ok(answers.len() == 1)
    }

    fn take(&self, key: &(String, bool)) -> Vec<Answer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key).unwrap_or_default()
    }
}

impl Dispatcher {
    fn begin_trigger(&self, scenario: &str, reconcile: bool) -> Later<Triggered> {
        if scenario.trim().is_empty() {
            // Upstream's words, which callers may know: nothing is added to them.
            let message = format!("Scenario '{scenario}' is invalid: cannot be empty");
            let error = Error::new(ErrorKind::InvalidArgument, ErrorCode::MissingField, message);
            return Box::pin(std::future::ready(Err(error)));
        }
        let key = (scenario.to_owned(), reconcile);
        let (sender, receiver) = oneshot::channel();
        match self.triggers.add(&key, sender) {
            Ok(true) => self.read_trigger(key),
            Ok(false) => {}
            Err(error) => return Box::pin(std::future::ready(Err(error))),
        }
        Box::pin(async move { receiver.await.unwrap_or_else(|_| Err(Error::internal("the trigger was lost"))) })
    }

    /// Has a reader load the Scenario and enter its action; answers everybody who has asked by then.
    fn read_trigger(&self, key: (String, bool)) {
        let (shared, triggers, told) = (Arc::clone(&self.shared), Arc::clone(&self.triggers), self.told.clone());
        let (own, name) = (Arc::clone(&triggers), key.clone());
        let taken = self.readers.spare(move || {
            // Whoever asks from here on may mean newer documents.
            let answers = triggers.take(&key);
            let (scenario, reconcile) = &key;
            let entered =
                shared.act.load_scenario(scenario, Deadline::after(LOAD_BUDGET)).and_then(|(verb, loaded)| {
                    let request = request(scenario, verb, *reconcile)?;
                    shared.submit_loaded(request, loaded)
                });
            match entered {
                Err(error) => answers.into_iter().for_each(|answer| drop(answer.send(Err(error.clone())))),
                Ok((entry, is_new)) => {
                    if let (Some(told), true) = (told, is_new) {
                        let scenario = scenario.clone();
                        entry.on_end(Box::new(move |outcome| told(&scenario, outcome)));
                    }
                    answers.into_iter().for_each(|answer| answer_later(&entry, answer));
                }
            }
        });
        if let Err(error) = taken {
            own.take(&name).into_iter().for_each(|answer| drop(answer.send(Err(error.clone()))));
        }
    }
}

fn answer_later(entry: &Entry, answer: Answer) {
    entry.on_end(Box::new(move |outcome| drop(answer.send(triggered(outcome)))));
}

/// The action of a Scenario, or its like that brings back what was found not to run.
fn request(scenario: &str, verb: Verb, reconcile: bool) -> Result<ActionRequest> {
    let mut request = scenario::request(uuid::Uuid::now_v7().to_string(), verb, scenario);
    if reconcile && !matches!(verb, Verb::Launch | Verb::Update) {
        let message = format!("Scenario '{scenario}' does {verb}: it has nothing that shall be running");
        return Err(Error::new(ErrorKind::FailedPrecondition, ErrorCode::InvalidState, message));
    }
    request.parameters.reconcile = reconcile;
    Ok(request)
}

/// The answer to a trigger. Single models that failed are told; what is about the trigger as a whole is an error.
fn triggered(outcome: &Outcome) -> Result<Triggered> {
    let reason = |failure: &crate::model::action::Failure| failure.message.clone();
    let mut failed: BTreeMap<_, _> = outcome.failed.iter().map(|(name, why)| (name.clone(), reason(why))).collect();
    if outcome.state != ActionState::Succeeded && failed.is_empty() {
        let names = if outcome.workloads.is_empty() { vec![outcome.target.clone()] } else { Vec::new() };
        let names = names.into_iter().chain(outcome.workloads.keys().cloned());
        failed = names.map(|name| (name, outcome.message.clone())).collect();
    }
    let message = outcome.message.clone();
    Ok(Triggered { action_id: outcome.action_id.clone(), failed, message })
}

fn missing(field: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, ErrorCode::MissingField, format!("{field} must not be empty")).at(field)
}

/// Refuses the first of these fields that is empty.
fn check_given(fields: &[(&str, &str)]) -> Result<()> {
    match fields.iter().find(|(_, value)| value.trim().is_empty()) {
        Some((field, _)) => Err(missing(field)),
        None => Ok(()),
    }
}

fn action(verb: Verb, target: &str, parameters: Parameters) -> ActionRequest {
    ActionRequest {
        id: String::new(),
        verb,
        target: target.to_owned(),
        manifest: String::new(),
        parameters,
        deadline_ms: None,
        priority: 0,
        dry_run: false,
    }
}

/// What to do with a model that is to be stopped, by the words of the reason, as upstream's recovery chooses.
fn verb_of(reason: &str) -> Verb {
    let reason = reason.to_lowercase();
    match () {
        () if reason.contains("restart") => Verb::Restart,
        () if reason.contains("terminate") => Verb::Terminate,
        () => Verb::Stop,
    }
}

impl Pullpiri for Dispatcher {
    fn trigger(&self, scenario: &str) -> Later<Triggered> {
        self.begin_trigger(scenario, false)
    }

    fn reconcile(&self, scenario: &str, current: PodState, desired: PodState) -> Later<Triggered> {
        if current == desired {
            let message = "Current and desired states are equal".to_owned();
            let answer = Triggered { action_id: String::new(), failed: BTreeMap::new(), message };
            return Box::pin(std::future::ready(Ok(answer)));
        }
        match desired {
            PodState::Init | PodState::Ready | PodState::Running => self.begin_trigger(scenario, true),
            PodState::None | PodState::Done | PodState::Failed | PodState::Unknown => {
                let message = format!("Failed to reconcile: nothing can be brought to be {desired:?}");
                let error = Error::new(ErrorKind::InvalidArgument, ErrorCode::InvalidField, message).at("desired");
                Box::pin(std::future::ready(Err(error)))
            }
        }
    }

    fn network_set(&self, answer: NetworkAnswer) -> Later<()> {
        let NetworkAnswer { request_id, is_set, details } = &answer;
        if *is_set {
            log::debug!("network request '{request_id}' is done: {details}");
        } else {
            crate::limited!(log::Level::Warn, "network request '{request_id}' failed: {details}");
        }
        self.networks.note(answer);
        Box::pin(std::future::ready(Ok(())))
    }

    fn offload(&self, order: OffloadOrder) -> Later<Offloaded> {
        let given = check_given(&[
            ("package_name", &order.package),
            ("model_name", &order.model),
            ("target_node", &order.target_node),
        ]);
        if let Err(error) = given {
            return Box::pin(std::future::ready(Err(error)));
        }
        let transition_id = format!("offload-{}-{}", order.model, self.shared.clock.now_ms());
        let parameters = Parameters {
            package: Some(order.package),
            target_node: Some(order.target_node.clone()),
            source_node: Some(order.source_node).filter(|node| !node.is_empty()),
            ..Parameters::default()
        };
        let outcome = self
            .execute(ActionRequest { id: transition_id.clone(), ..action(Verb::Offload, &order.model, parameters) });
        let (model, node, reason) = (order.model, order.target_node, order.reason);
        Box::pin(async move {
            let outcome = outcome.await?;
            log::info!("offload of '{model}' to '{node}' ({reason}): {}", outcome.message);
            let success = outcome.state == ActionState::Succeeded;
            let message = if success {
                format!("model '{model}' runs on node '{node}'")
            } else {
                [outcome.message].into_iter().chain(outcome.left).collect::<Vec<_>>().join("; ")
            };
            Ok(Offloaded { success, message, transition_id })
        })
    }

    fn stop_workload(&self, order: StopOrder) -> Later<String> {
        if let Err(error) = check_given(&[("package_name", &order.package), ("model_name", &order.model)]) {
            return Box::pin(std::future::ready(Err(error)));
        }
        let verb = verb_of(&order.reason);
        let source_node = Some(order.node).filter(|node| !node.is_empty());
        let parameters = Parameters { package: Some(order.package), source_node, ..Parameters::default() };
        let outcome = self.execute(action(verb, &order.model, parameters));
        Box::pin(async move {
            let outcome = outcome.await?;
            if outcome.state == ActionState::Succeeded {
                return Ok(outcome.message);
            }
            let kind = ErrorKind::FailedPrecondition;
            Err(Error::new(kind, ErrorCode::Internal, outcome.message))
        })
    }

    fn fault(&self, fault: Fault) -> Later<()> {
        self.faults.note(&fault, self.shared.clock.now_ms());
        Box::pin(std::future::ready(Ok(())))
    }
}

impl super::worker::Shared {
    /// Accepts an action whose documents are read: a new one or, where an equal one waits or runs, that one. Says
    /// whether it is new.
    fn submit_loaded(&self, request: ActionRequest, loaded: Loaded) -> Result<(Arc<Entry>, bool)> {
        let is_equal = |entry: &Arc<Entry>| {
            let same = entry.request.verb == request.verb && entry.request.parameters == request.parameters;
            same && !entry.token.is_cancelled() && entry.loaded.as_deref().is_some_and(|other| is_same(other, &loaded))
        };
        if let Some(entry) = self.inflight.all().into_iter().find(is_equal) {
            return Ok((entry, false));
        }
        Ok((self.submit_with(request, Some(loaded))?, true))
    }
}

/// Whether two readings ask for the same; what is warned of does not count.
fn is_same(one: &Loaded, other: &Loaded) -> bool {
    one.target == other.target
        && one.workloads == other.workloads
        && one.specs == other.specs
        && one.schedule == other.schedule
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_chooses_what_happens_to_a_model_that_is_to_be_stopped() {
        assert_eq!(verb_of("Deadline missed: RESTART it"), Verb::Restart);
        assert_eq!(verb_of("terminate"), Verb::Terminate);
        assert_eq!(verb_of(""), Verb::Stop);
    }

    #[test]
    fn failure_of_the_whole_is_told_for_each_workload_that_is_known() {
        let mut outcome =
            crate::action::blank(&action(Verb::Launch, "s", Parameters::default()), "s", ActionState::Failed, 0);
        outcome.message = "cancelled".into();
        assert_eq!(triggered(&outcome).unwrap().failed, BTreeMap::from([("s".to_owned(), "cancelled".to_owned())]));
        outcome.workloads = BTreeMap::from([("a".to_owned(), BTreeMap::new())]);
        assert_eq!(triggered(&outcome).unwrap().failed.keys().collect::<Vec<_>>(), ["a"]);
        outcome.state = ActionState::Succeeded;
        assert!(triggered(&outcome).unwrap().failed.is_empty());
    }

    #[test]
    fn triggers_of_one_scenario_that_wait_are_read_for_once() {
        let triggers = Triggers::default();
        let key = ("s".to_owned(), false);
        let add = |key: &(String, bool)| triggers.add(key, oneshot::channel().0).unwrap();
        assert!(add(&key) && !add(&key) && add(&("s".to_owned(), true)));
        assert_eq!(triggers.take(&key).len(), 2);
        assert!(add(&key), "what comes after the reading began is read for anew");
    }
}
