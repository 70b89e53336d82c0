//! Networks, volumes and pods: made once, removed when they are ours and nobody is in them; what is not ours stays.

use actioncontroller::model::workload::NetworkMode;
use actioncontroller::runtime::adapter::{
    Change, ContainerConfig, Mount, MountSource, NetworkSpec, PodSpec, RuntimeCapabilities, RuntimeError, StopOptions,
    VolumeSpec,
};

use super::behaviour::Behaviour;
use super::subject::{Foreign, Made, Subject};
use super::suite::{Case, case, with};

pub const CASES: &[Case] = &[
    with(has_networks, "network_goes_with_its_last_member", network_goes_with_its_last_member),
    with(has_networks, "foreign_network_is_neither_taken_nor_removed", foreign_network),
    with(has_networks, "container_in_a_network_that_is_not_there_is_refused", absent_network),
    case("volume_and_its_content_outlive_the_container", volume_outlives),
    case("volume_that_a_container_has_is_not_removed", volume_in_use),
    case("foreign_volume_is_neither_taken_nor_removed", foreign_volume),
    with(has_pods, "pod_is_made_once_and_removed_after_its_members", pod_life),
    with(has_pods, "stopped_pod_comes_back_with_its_first_member", stopped_pod),
    with(has_pods, "foreign_pod_is_neither_taken_nor_removed", foreign_pod),
    case("name_of_a_foreign_container_is_taken", foreign_container),
    with(has_pods, "leftovers_are_those_of_the_workload", leftovers),
];

fn has_networks(capabilities: &RuntimeCapabilities, _: &Subject) -> bool {
    capabilities.supports_user_networks
}

fn has_pods(capabilities: &RuntimeCapabilities, _: &Subject) -> bool {
    capabilities.supports_pods
}

fn network(subject: &Subject, name: &str) -> NetworkSpec {
    subject.remember(Made::Network(name.to_owned()));
    NetworkSpec { name: name.to_owned(), labels: subject.labels("w") }
}

fn volume(subject: &Subject, name: &str) -> VolumeSpec {
    subject.remember(Made::Volume(name.to_owned()));
    VolumeSpec { name: name.to_owned(), labels: subject.labels("w"), tmpfs_bytes: None }
}

fn pod(subject: &Subject, name: &str) -> PodSpec {
    subject.remember(Made::Pod(name.to_owned()));
    subject.pod_spec(name)
}

fn in_network(subject: &Subject, network: &str) -> ContainerConfig {
    let mut config = subject.config(&subject.name("member"), &Behaviour::Stay);
    config.network = NetworkMode::Named(vec![network.to_owned()]);
    config
}

fn assert_taken<T: std::fmt::Debug>(outcome: Result<T, RuntimeError>, name: &str) {
    let error = outcome.unwrap_err();
    assert!(matches!(error, RuntimeError::AlreadyExists { .. }), "{error}");
    assert!(error.to_string().contains(name), "{error}");
}

fn network_goes_with_its_last_member(subject: &Subject) {
    let name = subject.name("net");
    let (adapter, spec) = (&subject.adapter, network(subject, &name));
    assert_eq!(adapter.ensure_network(&subject.call(), &spec), Ok(Change::Changed));
    assert_eq!(adapter.ensure_network(&subject.call(), &spec), Ok(Change::Unchanged));
    // One that runs, and one that was only created: both are in it.
    let members = [subject.start(&in_network(subject, &name)), subject.create(&in_network(subject, &name))];
    for member in members {
        assert_eq!(adapter.remove_network(&subject.call(), &name), Ok(Change::Unchanged), "it still has a member");
        assert_eq!(adapter.remove_container(&subject.call(), &member, true), Ok(Change::Changed));
    }
    assert_eq!(adapter.remove_network(&subject.call(), &name), Ok(Change::Changed));
    assert_eq!(adapter.remove_network(&subject.call(), &name), Ok(Change::Unchanged));
}

fn foreign_network(subject: &Subject) {
    let name = subject.name("net");
    (subject.foreign)(subject, Foreign::Network, &name);
    let spec = NetworkSpec { name: name.clone(), labels: subject.labels("w") };
    assert_taken(subject.adapter.ensure_network(&subject.call(), &spec), &name);
    assert_eq!(subject.adapter.remove_network(&subject.call(), &name), Ok(Change::Unchanged));
    assert_taken(subject.adapter.ensure_network(&subject.call(), &spec), &name);
}

fn absent_network(subject: &Subject) {
    let config = in_network(subject, &subject.name("no-net"));
    subject.remember(Made::Container(config.name.clone()));
    let error = subject.adapter.create_container(&subject.call(), &config).unwrap_err();
    let name = config.network;
    let NetworkMode::Named(names) = name else { panic!("{name:?}") };
    assert!(error.to_string().contains(&names[0]), "{error}");
    let gone = subject.adapter.inspect_container(&subject.call(), &config.name);
    assert!(matches!(gone, Err(RuntimeError::NotFound { .. })), "{gone:?}");
}

fn volume_outlives(subject: &Subject) {
    let name = subject.name("vol");
    let (adapter, spec) = (&subject.adapter, volume(subject, &name));
    assert_eq!(adapter.ensure_volume(&subject.call(), &spec), Ok(Change::Changed));
    assert_eq!(adapter.ensure_volume(&subject.call(), &spec), Ok(Change::Unchanged));
    let with_volume = |behaviour: &Behaviour| {
        let mut config = subject.config(&subject.name("user"), behaviour);
        let source = MountSource::Volume(name.clone(), String::new());
        config.mounts = vec![Mount { source, path: "/data".into(), read_only: false }];
        config
    };
    let writer = subject.run_to_end(&with_volume(&Behaviour::Write("/data/file", "kept")));
    assert_eq!(writer.code, Some(0), "{}", writer.stderr);
    assert_eq!(adapter.remove_container(&subject.call(), &writer.id, true), Ok(Change::Changed));
    let reader = subject.run_to_end(&with_volume(&Behaviour::Read("/data/file")));
    assert_eq!(reader.stdout.trim(), "kept", "{}", reader.stderr);
    assert_eq!(adapter.remove_container(&subject.call(), &reader.id, true), Ok(Change::Changed));
    assert_eq!(adapter.remove_volume(&subject.call(), &name), Ok(Change::Changed));
    assert_eq!(adapter.remove_volume(&subject.call(), &name), Ok(Change::Unchanged));
    assert_eq!(adapter.ensure_volume(&subject.call(), &spec), Ok(Change::Changed));
    let empty = subject.run_to_end(&with_volume(&Behaviour::Read("/data/file")));
    assert_ne!(empty.code, Some(0), "a volume that was removed and made again has its old content");
    assert_eq!(adapter.remove_container(&subject.call(), &empty.id, true), Ok(Change::Changed));
}

fn volume_in_use(subject: &Subject) {
    let name = subject.name("vol");
    let adapter = &subject.adapter;
    adapter.ensure_volume(&subject.call(), &volume(subject, &name)).unwrap();
    let mut config = subject.config(&subject.name("user"), &Behaviour::Write("/data/file", "kept"));
    let source = MountSource::Volume(name.clone(), String::new());
    config.mounts = vec![Mount { source, path: "/data".into(), read_only: false }];
    let user = subject.run_to_end(&config);
    // Also where the container has ended: it may be started again.
    let refused = adapter.remove_volume(&subject.call(), &name);
    assert!(matches!(refused, Err(RuntimeError::InvalidState { .. })), "{refused:?}");
    assert_eq!(adapter.remove_container(&subject.call(), &user.id, true), Ok(Change::Changed));
    config.name = subject.name("reader");
    config.spec.command = (subject.command)(&Behaviour::Read("/data/file"));
    let reader = subject.run_to_end(&config);
    assert_eq!(reader.stdout.trim(), "kept", "{}", reader.stderr);
    assert_eq!(adapter.remove_container(&subject.call(), &reader.id, true), Ok(Change::Changed));
    assert_eq!(adapter.remove_volume(&subject.call(), &name), Ok(Change::Changed));
}

fn foreign_volume(subject: &Subject) {
    let name = subject.name("vol");
    (subject.foreign)(subject, Foreign::Volume, &name);
    let spec = VolumeSpec { name: name.clone(), labels: subject.labels("w"), tmpfs_bytes: None };
    assert_taken(subject.adapter.ensure_volume(&subject.call(), &spec), &name);
    assert_eq!(subject.adapter.remove_volume(&subject.call(), &name), Ok(Change::Unchanged));
    assert_taken(subject.adapter.ensure_volume(&subject.call(), &spec), &name);
}

fn pod_life(subject: &Subject) {
    let name = subject.name("pod");
    let (adapter, spec) = (&subject.adapter, pod(subject, &name));
    assert_eq!(adapter.ensure_pod(&subject.call(), &spec), Ok(Change::Changed));
    assert_eq!(adapter.ensure_pod(&subject.call(), &spec), Ok(Change::Unchanged));
    let members: Vec<_> = (0..2)
        .map(|_| {
            let mut config = subject.config(&subject.name("member"), &Behaviour::Stay);
            config.pod = Some(name.clone());
            subject.start(&config)
        })
        .collect();
    for member in members {
        assert_eq!(subject.exec(&member, &Behaviour::PrintInterfaces).stdout, b"lo\n");
        assert_eq!(adapter.remove_container(&subject.call(), &member, true), Ok(Change::Changed));
    }
    assert_eq!(adapter.remove_pod(&subject.call(), &name), Ok(Change::Changed));
    assert_eq!(adapter.remove_pod(&subject.call(), &name), Ok(Change::Unchanged));
    let mut config = subject.config(&subject.name("late"), &Behaviour::Stay);
    config.pod = Some(name);
    subject.remember(Made::Container(config.name.clone()));
    adapter.create_container(&subject.call(), &config).expect_err("created in a pod that is gone");
}

fn stopped_pod(subject: &Subject) {
    let name = subject.name("pod");
    let (adapter, spec) = (&subject.adapter, pod(subject, &name));
    assert_eq!(adapter.ensure_pod(&subject.call(), &spec), Ok(Change::Changed));
    let mut config = subject.config(&subject.name("member"), &Behaviour::Stay);
    config.pod = Some(name.clone());
    let member = subject.start(&config);
    assert_eq!(adapter.stop_pod(&subject.call(), &name), Ok(Change::Unchanged), "with a live member");
    assert_eq!(adapter.stop_container(&subject.call(), &member, &StopOptions::kill()), Ok(Change::Changed));
    adapter.stop_pod(&subject.call(), &name).unwrap();
    assert_eq!(adapter.stop_pod(&subject.call(), &name), Ok(Change::Unchanged), "again");
    assert_eq!(adapter.start_container(&subject.call(), &member), Ok(Change::Changed));
    assert_eq!(subject.exec(&member, &Behaviour::PrintInterfaces).stdout, b"lo\n");
    assert_eq!(adapter.stop_pod(&subject.call(), "absent"), Ok(Change::Unchanged));
}

fn foreign_pod(subject: &Subject) {
    let name = subject.name("pod");
    (subject.foreign)(subject, Foreign::Pod, &name);
    assert_taken(subject.adapter.ensure_pod(&subject.call(), &subject.pod_spec(&name)), &name);
    assert_eq!(subject.adapter.remove_pod(&subject.call(), &name), Ok(Change::Unchanged));
    assert_taken(subject.adapter.ensure_pod(&subject.call(), &subject.pod_spec(&name)), &name);
}

fn foreign_container(subject: &Subject) {
    let name = subject.name("their");
    (subject.foreign)(subject, Foreign::Container, &name);
    let before = subject.inspect(&name);
    assert_taken(subject.adapter.create_container(&subject.call(), &subject.config(&name, &Behaviour::Stay)), &name);
    assert_eq!(subject.inspect(&name), before);
}

fn leftovers(subject: &Subject) {
    let (workload, other) = (subject.name("w"), subject.name("w"));
    let (mine, idle, used) = (subject.name("mine"), subject.name("idle"), subject.name("used"));
    let adapter = &subject.adapter;
    let labels = || subject.labels(&workload);
    let call = subject.call();
    adapter.ensure_pod(&call, &PodSpec { labels: labels(), ..pod(subject, &mine) }).unwrap();
    adapter.ensure_volume(&call, &VolumeSpec { labels: labels(), ..volume(subject, &mine) }).unwrap();
    adapter.ensure_volume(&call, &VolumeSpec { labels: subject.labels(&other), ..volume(subject, &other) }).unwrap();
    (subject.foreign)(subject, Foreign::Network, &subject.name("their"));
    for name in [&idle, &used] {
        adapter.ensure_network(&call, &network(subject, name)).unwrap();
    }
    subject.create(&in_network(subject, &used));
    let left = adapter.list_leftovers(&call, &workload).unwrap();
    assert_eq!((left.pods, left.volumes), (vec![mine.clone()], vec![mine]));
    assert!(left.networks.contains(&idle) && !left.networks.contains(&used), "{:?}", left.networks);
    assert!(!left.networks.iter().any(|name| name.contains("their")), "{:?}", left.networks);
}
