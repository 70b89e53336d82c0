//! Networks, ports, pods and what is left of a workload.

use actioncontroller::model::workload::{NetworkMode, PortSpec, Protocol, labels};
use actioncontroller::runtime::adapter::{
    Change, ListFilter, NetworkSpec, PodSpec, RuntimeAdapter, RuntimeError, StopOptions,
};

use super::{LIMIT, Rig, STUBBORN, container, output, tcp};
use crate::support::wait::until;

fn network(name: &str) -> NetworkSpec {
    NetworkSpec { name: name.to_owned(), labels: Default::default() }
}

/// What the page at a published port says to the rig's host side.
fn page(rig: &Rig, port: u16) -> String {
    // Not wget: the static busybox of Debian 12 crashes where an address has a port.
    let ask = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 127.0.0.1 {port}");
    let mut client = container("client", &ask);
    client.network = NetworkMode::Host;
    let id = rig.podman.create_container(&rig.call(), &client).unwrap().id;
    let text = until("the page", LIMIT, || {
        rig.podman.start_container(&rig.call(), &id).unwrap();
        rig.podman.wait_container(&rig.call(), &id).unwrap();
        let chunks = output::read(rig, &id, output::all());
        let text: Vec<u8> = chunks.into_iter().flat_map(|chunk| chunk.bytes).collect();
        String::from_utf8(text).ok().filter(|text| text.contains("200 OK"))
    });
    rig.podman.remove_container(&rig.call(), &id, true).unwrap();
    text.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn named_network_lasts_until_its_last_member_and_publishes_ports() {
    let rig = Rig::new();
    let podman = &rig.podman;
    assert_eq!(podman.ensure_network(&rig.call(), &network("net")).unwrap(), Change::Changed);
    assert_eq!(podman.ensure_network(&rig.call(), &network("net")).unwrap(), Change::Unchanged);
    let mut config = container("web", "mkdir /w; echo hello > /w/index.html; exec httpd -f -p 80 -h /w");
    config.network = NetworkMode::Named(vec!["net".to_owned()]);
    let udp = PortSpec { protocol: Protocol::Udp, ..tcp(8053, 53) };
    config.ports = vec![tcp(8080, 80), udp.clone(), PortSpec { host_port: None, ..tcp(0, 99) }];
    let id = rig.run(&config);
    assert_eq!(page(&rig, 8080), "hello");
    let instance = podman.inspect_container(&rig.call(), &id).unwrap();
    assert_eq!(instance.ips.len(), 1, "{instance:?}");
    assert!(instance.ports.contains(&tcp(8080, 80)) && instance.ports.contains(&udp), "{instance:?}");
    let listed = podman.list_containers(&rig.call(), &ListFilter::default()).unwrap();
    assert!(listed[0].ports.contains(&udp), "{listed:?}");

    // Another member reaches it by address.
    let mut other = container("other", STUBBORN);
    other.network = config.network.clone();
    let other = rig.run(&other);
    assert_eq!(rig.exec(&other, &format!("wget -q -O - http://{}/", instance.ips[0])), "hello");

    assert_eq!(podman.remove_network(&rig.call(), "net").unwrap(), Change::Unchanged);
    podman.remove_container(&rig.call(), &other, true).unwrap();
    podman.stop_container(&rig.call(), &id, &StopOptions::kill()).unwrap();
    assert_eq!(podman.remove_network(&rig.call(), "net").unwrap(), Change::Unchanged, "a stopped member counts");
    podman.remove_container(&rig.call(), &id, false).unwrap();
    assert_eq!(podman.remove_network(&rig.call(), "net").unwrap(), Change::Changed);
    assert_eq!(podman.remove_network(&rig.call(), "net").unwrap(), Change::Unchanged);

    rig.server.run(&["network", "create", "foreign"]);
    let taken = podman.ensure_network(&rig.call(), &network("foreign")).unwrap_err();
    assert!(matches!(taken, RuntimeError::AlreadyExists { .. }), "{taken}");
    assert_eq!(podman.remove_network(&rig.call(), "foreign").unwrap(), Change::Unchanged);
    assert!(rig.server.run(&["network", "ls", "-q"]).contains("foreign"));
}

#[test]
fn containers_of_a_pod_share_localhost_and_the_pod_goes_last() {
    let rig = Rig::new();
    let podman = &rig.podman;
    let labels = [(labels::WORKLOAD.to_owned(), "w".to_owned())];
    let pod = PodSpec {
        name: "w".to_owned(),
        labels: labels.clone().into(),
        network: NetworkMode::Bridge,
        ports: vec![tcp(8081, 80)],
        hostname: "podhost".to_owned(),
    };
    assert_eq!(podman.ensure_pod(&rig.call(), &pod).unwrap(), Change::Changed);
    assert_eq!(podman.ensure_pod(&rig.call(), &pod).unwrap(), Change::Unchanged);
    let member = |name: &str, script: &str| {
        let mut config = container(name, script);
        config.pod = Some("w".to_owned());
        config.labels = labels.clone().into();
        config
    };
    let web = rig.run(&member("w_web", "mkdir /w; hostname > /w/index.html; exec httpd -f -p 80 -h /w"));
    let other = rig.run(&member("w_other", STUBBORN));
    assert_eq!(page(&rig, 8081), "podhost");
    assert_eq!(rig.exec(&other, "wget -q -O - http://127.0.0.1/; hostname"), "podhost\npodhost");
    let listed = podman.list_containers(&rig.call(), &ListFilter { all: true, labels: labels.clone().into() }).unwrap();
    assert_eq!(listed.len(), 2, "the infra container is none: {listed:?}");

    let refused = podman.remove_pod(&rig.call(), "w").unwrap_err();
    assert!(matches!(&refused, RuntimeError::InvalidState { state, .. } if state.contains("w_web")), "{refused}");
    for id in [&web, &other] {
        podman.remove_container(&rig.call(), id, true).unwrap();
    }
    let left = podman.list_leftovers(&rig.call(), "w").unwrap();
    assert_eq!((left.pods.as_slice(), left.volumes.len()), (&["w".to_owned()][..], 0));
    assert_eq!(podman.list_leftovers(&rig.call(), "other").unwrap().pods.len(), 0);
    assert_eq!(podman.remove_pod(&rig.call(), "w").unwrap(), Change::Changed);
    assert_eq!(podman.remove_pod(&rig.call(), "w").unwrap(), Change::Unchanged);
    assert_eq!(rig.server.run(&["ps", "-aq"]), "");

    rig.server.run(&["pod", "create", "--name", "foreign"]);
    let taken = podman.ensure_pod(&rig.call(), &PodSpec { name: "foreign".to_owned(), ..pod }).unwrap_err();
    assert!(matches!(taken, RuntimeError::AlreadyExists { .. }), "{taken}");
    assert_eq!(podman.remove_pod(&rig.call(), "foreign").unwrap(), Change::Unchanged);
}

#[test]
fn pod_survives_the_end_of_its_members_and_is_left_whole_by_nobody() {
    let rig = Rig::new();
    let pod = PodSpec {
        name: "p".to_owned(),
        labels: Default::default(),
        network: NetworkMode::None,
        ports: Vec::new(),
        hostname: String::new(),
    };
    rig.podman.ensure_pod(&rig.call(), &pod).unwrap();
    let mut init = container("init", "exit 0");
    init.pod = Some("p".to_owned());
    let init = rig.run(&init);
    assert_eq!(rig.podman.wait_container(&rig.call(), &init).unwrap(), Some(0));
    let mut main = container("main", STUBBORN);
    main.pod = Some("p".to_owned());
    let main = rig.run(&main);
    assert!(rig.status(&main).is_running());
    // A pod that cannot be made leaves no half of it.
    let bad = PodSpec { name: "bad".to_owned(), network: NetworkMode::Named(vec!["missing".to_owned()]), ..pod };
    assert!(rig.podman.ensure_pod(&rig.call(), &bad).is_err());
    assert!(!rig.server.run(&["pod", "ps", "-q", "--filter", "name=bad"]).contains(|_: char| true));
}
