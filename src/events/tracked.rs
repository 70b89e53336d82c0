//! [`Tracked`]: what is known of the containers of one engine, and what a new look at them means. Pure.

use std::collections::BTreeMap;

use super::HubEvent;
use crate::model::state::ContainerStatus;
use crate::model::workload::labels;
use crate::runtime::adapter::ContainerInstance;

/// One container as known last.
struct Known {
    instance: ContainerInstance,
    is_live: bool,
}

/// Whether the run goes on: what is hibernated has not ended.
fn goes_on(instance: &ContainerInstance) -> bool {
    instance.status.is_live() || is_hibernated(instance)
}

fn is_hibernated(instance: &ContainerInstance) -> bool {
    instance.status == ContainerStatus::Hibernated
}

/// The containers of one engine by their ids.
#[derive(Default)]
pub struct Tracked(BTreeMap<String, Known>);

impl Tracked {
    /// All containers are these: gives what has changed since the last look.
    pub fn listed(&mut self, all: &[ContainerInstance]) -> Vec<HubEvent> {
        let mut events: Vec<_> = all.iter().flat_map(|instance| self.seen(instance.clone())).collect();
        let is_gone = |id: &&String| !all.iter().any(|instance| instance.id == **id);
        let gone: Vec<_> = self.0.keys().filter(is_gone).cloned().collect();
        events.extend(gone.iter().flat_map(|id| self.removed(id, None)));
        events
    }

    /// A container is as given: a run that ended and one that began are told, each once.
    pub fn seen(&mut self, instance: ContainerInstance) -> Vec<HubEvent> {
        let is_live = goes_on(&instance);
        let known = self.0.get(&instance.id);
        let was_live = known.is_some_and(|known| known.is_live);
        // It ended and was started again before anybody looked.
        let is_another_run = was_live && is_live && known.is_some_and(|known| is_later_run(&known.instance, &instance));
        let mut events = Vec::new();
        match (was_live, is_live) {
            (true, false) => events.push(stopped(&instance, exit_code(&instance.status))),
            (true, true) if is_another_run => {
                events.push(stopped(&instance, None));
                events.push(HubEvent::Started(instance.clone()));
            }
            (false, true) if is_hibernated(&instance) => events.push(HubEvent::Hibernated(instance.clone())),
            (false, true) => events.push(HubEvent::Started(instance.clone())),
            (true, true) => match (known.is_some_and(|known| is_hibernated(&known.instance)), is_hibernated(&instance))
            {
                (false, true) => events.push(HubEvent::Hibernated(instance.clone())),
                (true, false) => events.push(HubEvent::Woken(instance.clone())),
                (false, false) | (true, true) => {}
            },
            (false, false) => {}
        }
        self.0.insert(instance.id.clone(), Known { instance, is_live });
        events
    }

    /// The engine says that a container was started. Events come late: where it has ended by now, its end is still to be
    /// told, by [`Tracked::died`].
    pub fn started(&mut self, instance: ContainerInstance) -> Vec<HubEvent> {
        let was_live = self.0.get(&instance.id).is_some_and(|known| known.is_live);
        match (was_live, goes_on(&instance)) {
            (_, true) => self.seen(instance),
            (true, false) => Vec::new(),
            (false, false) => {
                self.0.insert(instance.id.clone(), Known { instance: instance.clone(), is_live: true });
                vec![HubEvent::Started(instance)]
            }
        }
    }

    /// The engine says that a container has ended. What it says of one that lives on, or lived on when it was last looked
    /// at, is old; where another run lives by now, that one's start is still to be told, by [`Tracked::started`].
    pub fn died(&mut self, instance: ContainerInstance, exit_code: Option<i32>) -> Vec<HubEvent> {
        let known = self.0.get(&instance.id).filter(|known| known.is_live);
        let is_other_run = goes_on(&instance) && known.is_some_and(|known| is_later_run(&known.instance, &instance));
        if !is_other_run {
            return self.seen(instance);
        }
        let event = stopped(&instance, exit_code);
        self.0.insert(instance.id.clone(), Known { instance, is_live: false });
        vec![event]
    }

    /// A container is gone; with the exit code where the engine told it.
    pub fn removed(&mut self, id: &str, exit_code: Option<i32>) -> Vec<HubEvent> {
        let Some(known) = self.0.remove(id) else { return Vec::new() };
        let mut events = Vec::new();
        if known.is_live {
            events.push(stopped(&known.instance, exit_code));
        }
        events.push(HubEvent::Removed(known.instance));
        events
    }
}

/// Whether a live container is another run than it was. Engines tell the time of a start in whole seconds in one call and
/// exactly in another, so that only what differs by more counts.
fn is_later_run(before: &ContainerInstance, now: &ContainerInstance) -> bool {
    // One that is woken is another process, and the same run.
    let is_woken = now.annotations.contains_key(labels::WOKEN);
    let is_other_process = !is_woken && before.pid != 0 && now.pid != 0 && before.pid != now.pid;
    let second = |instance: &ContainerInstance| instance.started_ms / 1000;
    is_other_process || (second(before) != 0 && second(now) > second(before))
}

fn stopped(instance: &ContainerInstance, exit_code: Option<i32>) -> HubEvent {
    HubEvent::Stopped { instance: instance.clone(), exit_code }
}

fn exit_code(status: &ContainerStatus) -> Option<i32> {
    if let ContainerStatus::Exited { code, .. } = status { *code } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::state::Health;

    const RUNNING: ContainerStatus = ContainerStatus::Running { health: Health::None };

    fn container(id: &str, status: ContainerStatus, started_ms: u64) -> ContainerInstance {
        ContainerInstance {
            id: id.into(),
            name: format!("name-{id}"),
            engine: "sim".into(),
            status,
            image: String::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            ports: Vec::new(),
            ips: Vec::new(),
            pid: 0,
            cgroup_path: String::new(),
            created_ms: 0,
            started_ms,
            finished_ms: 0,
        }
    }

    fn words(events: &[HubEvent]) -> Vec<String> {
        let word = |event: &HubEvent| match event {
            HubEvent::Started(instance) => format!("started {}", instance.id),
            HubEvent::Stopped { instance, exit_code } => format!("stopped {} {exit_code:?}", instance.id),
            HubEvent::Removed(instance) => format!("removed {}", instance.id),
            HubEvent::Hibernated(instance) => format!("hibernated {}", instance.id),
            HubEvent::Woken(instance) => format!("woken {}", instance.id),
            other => format!("{other:?}"),
        };
        events.iter().map(word).collect()
    }

    #[test]
    fn each_death_is_told_once_however_often_it_is_looked_at() {
        let ended = ContainerStatus::Exited { code: Some(3), oom: false };
        let mut tracked = Tracked::default();
        assert_eq!(words(&tracked.listed(&[container("a", RUNNING, 5)])), ["started a"]);
        assert!(tracked.seen(container("a", RUNNING, 5)).is_empty());
        assert_eq!(words(&tracked.seen(container("a", ended.clone(), 5))), ["stopped a Some(3)"]);
        assert!(tracked.listed(&[container("a", ended.clone(), 5)]).is_empty());
        assert_eq!(words(&tracked.seen(container("a", RUNNING, 9000))), ["started a"]);
        assert_eq!(words(&tracked.seen(container("a", RUNNING, 12_000))), ["stopped a None", "started a"]);
        assert_eq!(words(&tracked.listed(&[])), ["stopped a None", "removed a"]);
        assert!(tracked.removed("a", None).is_empty());
        assert!(tracked.listed(&[container("b", ended, 1)]).is_empty(), "what never ran here has not died");
    }

    #[test]
    fn runs_that_are_over_when_their_events_come_are_told_one_by_one() {
        let ended = |started_ms| container("a", ContainerStatus::Exited { code: Some(3), oom: false }, started_ms);
        let mut tracked = Tracked::default();
        assert!(tracked.seen(ended(9000)).is_empty(), "it was made");
        for _ in 0..2 {
            assert_eq!(words(&tracked.started(ended(9000))), ["started a"]);
            assert!(tracked.started(ended(9000)).is_empty());
            assert_eq!(words(&tracked.died(ended(9000), Some(3))), ["stopped a Some(3)"]);
            assert!(tracked.died(ended(9000), Some(3)).is_empty());
        }
        let running = |started_ms| container("a", RUNNING, started_ms);
        assert_eq!(words(&tracked.started(running(12_000))), ["started a"]);
        assert!(tracked.died(running(12_000), Some(3)).is_empty(), "this one is of the run before");
        assert_eq!(words(&tracked.died(running(15_000), Some(4))), ["stopped a Some(4)"]);
        assert_eq!(words(&tracked.started(running(15_000))), ["started a"]);
    }

    #[test]
    fn hibernated_container_has_not_ended_and_is_not_started_when_it_is_woken() {
        let asleep = || container("a", ContainerStatus::Hibernated, 5000);
        let with_pid = |pid| ContainerInstance { pid, ..container("a", RUNNING, 5000) };
        let mut tracked = Tracked::default();
        assert_eq!(words(&tracked.seen(with_pid(7))), ["started a"]);
        let hibernating = ContainerInstance { status: ContainerStatus::Hibernating, ..with_pid(7) };
        assert!(tracked.died(hibernating, Some(137)).is_empty());
        assert_eq!(words(&tracked.seen(asleep())), ["hibernated a"]);
        assert!(tracked.listed(&[asleep()]).is_empty());
        assert!(tracked.died(asleep(), Some(137)).is_empty());
        assert_eq!(words(&tracked.seen(with_pid(8))), ["woken a"]);
        let mut woken = with_pid(9);
        woken.annotations.insert(labels::WOKEN.to_owned(), "true".to_owned());
        assert!(tracked.seen(woken).is_empty(), "it was hibernated and woken unseen");
        assert_eq!(words(&tracked.seen(asleep())), ["hibernated a"]);
        let ended = ContainerStatus::Exited { code: Some(137), oom: false };
        assert_eq!(words(&tracked.seen(container("a", ended, 5000))), ["stopped a Some(137)"]);
        assert_eq!(words(&Tracked::default().listed(&[asleep()])), ["hibernated a"]);
    }

    #[test]
    fn start_that_one_call_tells_less_exactly_than_another_is_one_start() {
        let mut tracked = Tracked::default();
        tracked.listed(&[container("a", RUNNING, 5000)]);
        assert!(tracked.seen(container("a", RUNNING, 5432)).is_empty());
        assert!(tracked.listed(&[container("a", RUNNING, 5000)]).is_empty());
        let with_pid = |pid| ContainerInstance { pid, ..container("a", RUNNING, 5432) };
        assert!(tracked.seen(with_pid(7)).is_empty());
        assert_eq!(words(&tracked.seen(with_pid(8))), ["stopped a None", "started a"]);
    }
}
