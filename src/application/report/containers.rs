//! A container of an engine as it is told to others, and whether what is told has changed. Pure.
//!
//! The keys of the state are those of Podman's inspect, which Pullpiri's NodeAgent passes on; the words of `Status` are
//! those that its StateManager reads. StateManager counts the containers of a model by the annotation `model`: all
//! paused is Paused, all exited is Exited, any dead is Dead, everything else Running.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::model::pullpiri::{self, STATE_MODELS};
use crate::model::report::ContainerReport;
use crate::model::state::ContainerStatus;
use crate::model::workload::{WorkloadSpec, labels};
use crate::runtime::adapter::ContainerInstance;

/// Labels and annotations with a longer value are not told, bytes: the whole list has to fit into one message.
const LONGEST: usize = 4096;

/// The time that Podman gives for what has not been yet.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// The exit code that Podman gives where it has lost it.
const LOST_CODE: i32 = -1;

/// A container as it is told. `annotations` are its own where the listing has none; `spec` is that of its workload, where
/// it is one of ours and that is known.
///
/// Its stats stay empty: an engine gives them only container by container, which costs more than a report may.
pub(super) fn report(
    instance: &ContainerInstance,
    annotations: &BTreeMap<String, String>,
    spec: Option<&WorkloadSpec>,
    node: &str,
) -> ContainerReport {
    let config = [("Hostname", node), ("Image", &instance.image)];
    ContainerReport {
        id: instance.id.clone(),
        names: vec![instance.name.clone()],
        image: instance.image.clone(),
        state: state(instance),
        config: config.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        annotations: all_annotations(instance, annotations, spec, node),
        stats: BTreeMap::new(),
    }
}

/// The workload of a container of ours.
pub(super) fn workload<'a>(instance: &'a ContainerInstance, node: &str) -> Option<&'a str> {
    let is_ours = instance.labels.get(labels::NODE).is_some_and(|of| of == node);
    instance.labels.get(labels::WORKLOAD).filter(|_| is_ours).map(String::as_str)
}

/// Whether the lists differ apart from their stats.
pub(super) fn differ(one: &[ContainerReport], other: &[ContainerReport]) -> bool {
    let is_same = |(one, other): (&ContainerReport, &ContainerReport)| {
        let ContainerReport { id, names, image, state, config, annotations, stats: _ } = one;
        *id == other.id
            && *names == other.names
            && *image == other.image
            && *state == other.state
            && *config == other.config
            && *annotations == other.annotations
    };
    one.len() != other.len() || !one.iter().zip(other).all(is_same)
}

fn state(instance: &ContainerInstance) -> BTreeMap<String, String> {
    let status = &instance.status;
    let (code, is_out_of_memory) = match status {
        ContainerStatus::Exited { code, oom } => (code.unwrap_or(LOST_CODE), *oom),
        ContainerStatus::Created
        | ContainerStatus::Starting
        | ContainerStatus::Running { .. }
        | ContainerStatus::Paused
        | ContainerStatus::Hibernating
        | ContainerStatus::Hibernated
        | ContainerStatus::Waking
        | ContainerStatus::Restarting
        | ContainerStatus::Stopping
        | ContainerStatus::Failed { .. } => (0, false),
    };
    let error = if let ContainerStatus::Failed { reason } = status { reason.as_str() } else { "" };
    [
        ("Status", word(status).to_owned()),
        ("Running", status.is_running().to_string()),
        ("Paused", (*status == ContainerStatus::Paused).to_string()),
        ("Restarting", (*status == ContainerStatus::Restarting).to_string()),
        ("OOMKilled", is_out_of_memory.to_string()),
        // Podman's word for a container that it could not remove; no engine of ours has it.
        ("Dead", false.to_string()),
        ("Pid", instance.pid.to_string()),
        ("ExitCode", code.to_string()),
        ("Error", error.to_owned()),
        ("StartedAt", time(instance.started_ms)),
        ("FinishedAt", time(instance.finished_ms)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// StateManager's word. What it has none for is unknown to it, which counts as running.
fn word(status: &ContainerStatus) -> &'static str {
    match status {
        ContainerStatus::Created => "created",
        ContainerStatus::Starting => "initialized",
        ContainerStatus::Running { .. } => "running",
        ContainerStatus::Paused => "paused",
        // One that is on disk has ended as far as its engine is concerned.
        ContainerStatus::Exited { .. } | ContainerStatus::Hibernated => "exited",
        ContainerStatus::Hibernating
        | ContainerStatus::Waking
        | ContainerStatus::Restarting
        | ContainerStatus::Stopping
        | ContainerStatus::Failed { .. } => "unknown",
    }
}

/// RFC 3339 of milliseconds since the epoch.
fn time(millis: u64) -> String {
    let time = i64::try_from(millis).ok().filter(|millis| *millis > 0).map(Timestamp::from_millisecond);
    time.and_then(Result::ok).map_or_else(|| NO_TIME.to_owned(), |time| time.to_string())
}

fn all_annotations(
    instance: &ContainerInstance,
    annotations: &BTreeMap<String, String>,
    spec: Option<&WorkloadSpec>,
    node: &str,
) -> BTreeMap<String, String> {
    let own = if instance.annotations.is_empty() { annotations } else { &instance.annotations };
    let is_short = |(_, value): &(&String, &String)| value.len() <= LONGEST;
    let told = instance.labels.iter().chain(own).filter(is_short);
    let mut all: BTreeMap<_, _> = told.map(|(key, value)| (key.clone(), value.clone())).collect();
    let Some(workload) = workload(instance, node) else { return all };
    all.insert(pullpiri::MODEL.to_owned(), workload.to_owned());
    all.extend(spec.into_iter().flat_map(pullpiri::annotations));
    // An init container has ended while its model runs, so that it is not counted among the model's.
    let is_counted = !instance.labels.contains_key(labels::ROLE);
    for key in STATE_MODELS {
        if is_counted {
            all.insert(key.to_owned(), workload.to_owned())
        } else {
            all.remove(key)
        };
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::state::Health;

    const NODE: &str = "ecu";

    fn container(status: ContainerStatus, own: &[(&str, &str)]) -> ContainerInstance {
        ContainerInstance {
            id: "i".into(),
            name: "w_main".into(),
            engine: "sim".into(),
            status,
            image: "img:1".into(),
            labels: texts(own),
            annotations: BTreeMap::new(),
            ports: Vec::new(),
            ips: Vec::new(),
            pid: 7,
            cgroup_path: String::new(),
            created_ms: 1000,
            started_ms: 1500,
            finished_ms: 0,
        }
    }

    fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn told(instance: &ContainerInstance) -> ContainerReport {
        report(instance, &BTreeMap::new(), None, NODE)
    }

    const OURS: [(&str, &str); 3] = [(labels::NODE, NODE), (labels::WORKLOAD, "w"), ("model", "of the document")];

    #[test]
    fn state_has_the_keys_and_forms_of_podmans_inspect() {
        let running = told(&container(ContainerStatus::Running { health: Health::None }, &[]));
        let expected = texts(&[
            ("Status", "running"),
            ("Running", "true"),
            ("Paused", "false"),
            ("Restarting", "false"),
            ("OOMKilled", "false"),
            ("Dead", "false"),
            ("Pid", "7"),
            ("ExitCode", "0"),
            ("Error", ""),
            ("StartedAt", "1970-01-01T00:00:01.5Z"),
            ("FinishedAt", "0001-01-01T00:00:00Z"),
        ]);
        assert_eq!(running.state, expected);
        assert_eq!(running.config, texts(&[("Hostname", NODE), ("Image", "img:1")]));
        assert_eq!((running.names, running.image), (vec!["w_main".to_owned()], "img:1".to_owned()));
        assert!(running.stats.is_empty());
    }

    #[test]
    fn failure_is_an_exit_with_its_code_and_not_a_death() {
        for (code, oom, expected) in [(Some(137), true, "137"), (Some(0), false, "0"), (None, false, "-1")] {
            let state = told(&container(ContainerStatus::Exited { code, oom }, &[])).state;
            assert_eq!((state["Status"].as_str(), state["ExitCode"].as_str()), ("exited", expected));
            assert_eq!((state["OOMKilled"].as_str(), state["Dead"].as_str()), (oom.to_string().as_str(), "false"));
        }
        let failed = told(&container(ContainerStatus::Failed { reason: "no room".into() }, &[])).state;
        assert_eq!((failed["Status"].as_str(), failed["Error"].as_str()), ("unknown", "no room"));
    }

    #[test]
    fn every_status_is_a_word_that_state_manager_reads() {
        let known = ["running", "paused", "exited", "dead", "created", "initialized", "unknown"];
        for status in [
            ContainerStatus::Created,
            ContainerStatus::Starting,
            ContainerStatus::Paused,
            ContainerStatus::Hibernating,
            ContainerStatus::Hibernated,
            ContainerStatus::Waking,
            ContainerStatus::Restarting,
            ContainerStatus::Stopping,
        ] {
            assert!(known.contains(&word(&status)), "{status:?}");
        }
    }

    #[test]
    fn ours_carry_their_model_and_foreign_ones_what_they_have() {
        let running = || ContainerStatus::Running { health: Health::None };
        let ours = told(&container(running(), &OURS)).annotations;
        for key in ["model", "pullpiri.model", "io.pullpiri.annotations.model"] {
            assert_eq!(ours[key], "w", "{key}");
        }
        let own = texts(&[("a", "b"), ("long", &"x".repeat(LONGEST + 1))]);
        let foreign = report(&container(running(), &[("model", "theirs")]), &own, None, NODE).annotations;
        assert_eq!(foreign, texts(&[("model", "theirs"), ("a", "b")]));
        let other_node = [(labels::NODE, "other"), (labels::WORKLOAD, "w")];
        assert!(!told(&container(running(), &other_node)).annotations.contains_key("model"));
    }

    #[test]
    fn init_container_is_not_counted_among_its_models() {
        let done = ContainerStatus::Exited { code: Some(0), oom: false };
        let init = told(&container(done, &[&OURS[..], &[(labels::ROLE, "init")]].concat())).annotations;
        assert!(STATE_MODELS.iter().all(|key| !init.contains_key(*key)));
        assert_eq!(init[pullpiri::MODEL], "w");
    }

    #[test]
    fn what_belongs_to_a_package_tells_scenario_and_package() {
        let spec: WorkloadSpec = serde_json::from_value(serde_json::json!({
            "name": "w", "package": "p", "scenario": "s", "policy": "", "node": "", "engine": "", "format": "pullpiri",
            "labels": {}, "annotations": {}, "network": {"mode": "none"}, "hostname": "", "host_ipc": false,
            "host_pid": false, "init_containers": [], "containers": [], "volumes": {}, "restart_policy": "never",
            "grace_ms": null,
        }))
        .unwrap();
        let ours = container(ContainerStatus::Created, &OURS);
        let told = report(&ours, &BTreeMap::new(), Some(&spec), NODE).annotations;
        assert_eq!((told[pullpiri::PACKAGE].as_str(), told[pullpiri::SCENARIO].as_str()), ("p", "s"));
        assert!(!told.contains_key(pullpiri::POLICY));
    }

    #[test]
    fn stats_alone_are_no_change() {
        let one = told(&container(ContainerStatus::Paused, &[]));
        let busier = ContainerReport { stats: texts(&[("MemoryUsage", "1")]), ..one.clone() };
        let other = ContainerReport { image: "img:2".into(), ..one.clone() };
        let (one, other, busier) = ([one], [other], [busier]);
        assert!(!differ(&one, &busier));
        assert!(differ(&one, &other));
        assert!(differ(&one, &[one.clone(), busier].concat()));
    }
}
