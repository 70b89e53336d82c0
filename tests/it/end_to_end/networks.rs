//! Named networks: made on demand, shared, gone with their last member.

use actioncontroller::proto::actions::Verb;

use super::{IMAGE, RUNS, Rig, entry, one, pod, serves};

fn in_net(name: &str, script: &str) -> String {
    let document = one(name, script, "");
    let plain = format!("{{name: {name}}}");
    document.replacen(&plain, &format!("{{name: {name}, annotations: {{actioncontroller.io/networks: net}}}}"), 1)
}

// req: AC-17
#[test]
fn named_network_is_made_with_its_first_member_and_removed_with_the_last() {
    let rig = Rig::new();
    rig.launch(&in_net("web", &serves("echo hello")));
    assert_eq!(rig.everything().networks, ["net", "podman"]);
    rig.launch(&in_net("client", RUNS));
    let address = rig.container("web", "main").ips.first().cloned().expect("an address");
    rig.await_inside("client", "main", &format!("wget -q -O - http://{address}/ | grep -qx hello"));

    // A member that is stopped is a member still.
    rig.verb(Verb::VERB_STOP, "web");
    rig.verb(Verb::VERB_TERMINATE, "client");
    assert_eq!(rig.everything().networks, ["net", "podman"]);
    rig.verb(Verb::VERB_START, "web");
    rig.verb(Verb::VERB_TERMINATE, "web");
    rig.assert_nothing_left();
}

// req: AC-17
#[test]
fn port_of_a_single_container_is_published_on_the_host() {
    let rig = Rig::new();
    rig.launch(&one("w", &serves("echo published"), ", ports: [{containerPort: 80, hostPort: 8085}]"));
    assert_eq!(rig.await_page(8085), "published");
    let ports = rig.container("w", "main").ports;
    assert_eq!((ports[0].host_port, ports[0].container_port, ports[0].protocol.as_str()), (8085, 80, "tcp"));
    rig.verb(Verb::VERB_STOP, "w");
    assert_eq!(rig.page(8085), None);
    rig.verb(Verb::VERB_START, "w");
    assert_eq!(rig.await_page(8085), "published");
}

// req: AC-17
#[test]
fn container_has_the_host_s_network_or_none_where_the_document_says_so() {
    let rig = Rig::new();
    rig.launch(&pod("host", &format!("hostNetwork: true\ncontainers:\n{}", entry("main", RUNS, ""))));
    let own = rig.server.inside("readlink").arg("/proc/self/ns/net").output().unwrap();
    assert_eq!(rig.shell("host", "", "readlink /proc/self/ns/net"), String::from_utf8_lossy(&own.stdout).trim());
    let script = serde_json::to_string(RUNS).unwrap();
    let service = format!("{{image: '{IMAGE}', command: [sh, -c, {script}], network_mode: none}}");
    rig.launch(&format!("name: p\nservices:\n  none: {service}\n"));
    assert_eq!(rig.shell("p-none", "", "ls /sys/class/net; wc -l </proc/net/route"), "lo\n1");
}
