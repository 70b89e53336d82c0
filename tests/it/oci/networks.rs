//! Containers on bridges with no engine daemon: published ports and names, through hibernation, crashes and restarts.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use actioncontroller::grpc::status::details;
use actioncontroller::proto::actions::Verb;
use actioncontroller::proto::workloads::ExecRequest;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{LIMIT, RUNS, Rig};
use crate::support::daemon::{launch, on_target, options};
use crate::support::rig::BUSYBOX;
use crate::support::wait::until;

/// A Pod of one container on the bridge, which serves a page on its port 80.
fn serving(name: &str, page: &str, more: &str) -> String {
    let script = format!("mkdir -p /w; echo {page} >/w/index.html; httpd -f -p 80 -h /w & {RUNS}");
    document(name, &script, more, "")
}

fn document(name: &str, script: &str, more: &str, annotations: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, annotations: {{{annotations}}}}}\nspec:\n  \
         restartPolicy: Never\n  containers:\n  \
         - {{name: main, image: '{BUSYBOX}', command: [sh, -c, '{script}']{more}}}\n"
    )
}

/// What a port of this thread's network serves; `None` where nobody does.
fn page(port: u16) -> Option<String> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.contains("200 OK").then(|| text.lines().last().unwrap_or_default().to_owned())
}

fn await_page(port: u16) -> String {
    until("the page", LIMIT, || page(port))
}

/// A port that is free in this thread's network, which is the rig's alone.
const PORT: u16 = 8080;

fn published() -> String {
    format!(", ports: [{{containerPort: 80, hostPort: {PORT}}}]")
}

#[test]
fn published_port_is_served_while_its_container_runs_and_free_otherwise() {
    let mut rig = Rig::new();
    rig.done(launch(&serving("w", "first", &published())));
    assert_eq!(await_page(PORT), "first");
    let container = rig.workload("w").containers[0].clone();
    assert_eq!((container.ports[0].host_port, container.ports[0].container_port), (u32::from(PORT), 80));
    let address = container.ips.first().cloned().expect("an address");
    assert!(address.starts_with("10.90."), "{address}");

    let refused = rig.daemon.execute(launch(&serving("x", "other", &published())));
    match refused {
        Err(grpcio::Error::RpcFailure(status)) => {
            let message = details(&status).expect("details").error.message.clone();
            assert!(message.contains("8080/tcp") && message.contains("w"), "{message}");
        }
        other => panic!("{other:?}"),
    }

    rig.kill_and_start_again();
    assert_eq!(await_page(PORT), "first", "nothing changes with the daemon");
    rig.done(on_target(Verb::VERB_STOP, "w"));
    assert_eq!(page(PORT), None);
    rig.done(launch(&serving("x", "second", &published())));
    assert_eq!(await_page(PORT), "second");
    rig.done(on_target(Verb::VERB_TERMINATE, "x"));
    rig.done(on_target(Verb::VERB_START, "w"));
    assert_eq!(await_page(PORT), "first");

    // It ends by itself, and who looks is the daemon alone.
    kill(Pid::from_raw(rig.pid("w")), Signal::SIGKILL).unwrap();
    until("the port is free", LIMIT, || (!rules().contains("8080")).then_some(()));
    rig.done(on_target(Verb::VERB_TERMINATE, "w"));
    let rules = rules();
    assert!(!rules.contains("10.90."), "{rules}");
}

/// The rules of addresses that are translated, in this thread's network.
fn rules() -> String {
    let listed = Command::new("iptables").args(["-t", "nat", "-S"]).output().expect("iptables is installed");
    String::from_utf8_lossy(&listed.stdout).into_owned()
}

#[test]
fn port_that_another_process_has_is_refused_before_anything_runs() {
    let rig = Rig::new();
    let held = TcpListener::bind(("127.0.0.1", PORT)).unwrap();
    let refused = rig.daemon.execute(launch(&serving("w", "page", &published())));
    match refused {
        Err(grpcio::Error::RpcFailure(status)) => {
            let message = details(&status).expect("details").error.message.clone();
            assert!(message.contains("port 8080/tcp is taken"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    drop(held);
    rig.done(launch(&serving("w", "page", &published())));
    assert_eq!(await_page(PORT), "page");
}

#[test]
fn containers_of_a_named_network_find_each_other_by_name() {
    let rig = Rig::new();
    let annotation = "actioncontroller.io/networks: net";
    let web = format!("mkdir -p /w; echo hello >/w/index.html; httpd -f -p 80 -h /w & {RUNS}");
    rig.done(launch(&document("w", &web, "", annotation)));
    rig.done(launch(&document("x", RUNS, "", annotation)));
    // Not wget with the name: the static busybox of Debian 12 crashes where its C library is to resolve one.
    let ask =
        "w=$(nslookup w | sed -n \"/^Name:/,\\$ s/^Address: //p\"); printf \"GET / HTTP/1.0\\r\\n\\r\\n\" | nc $w 80";
    let told = until("the page by name", LIMIT, || inside(&rig, "x", ask).filter(|told| told.contains("200 OK")));
    assert!(told.ends_with("hello\n"), "{told}");
    let kept = || std::fs::read_dir(rig.daemon.path("state/oci/bridges/networks")).unwrap().count();
    assert_eq!(kept(), 1);
    rig.done(on_target(Verb::VERB_TERMINATE, "w"));
    assert_eq!(kept(), 1, "one is in it still");
    rig.done(on_target(Verb::VERB_TERMINATE, "x"));
    assert_eq!(kept(), 0, "it is gone with its last member");
}

/// What a script inside prints; `None` where it fails.
fn inside(rig: &Rig, workload: &str, script: &str) -> Option<String> {
    let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
    let request = ExecRequest { workload: workload.to_owned(), argv, ..Default::default() };
    let output = rig.daemon.workloads().exec(&request, options()).ok()?;
    (output.exit_code == 0).then(|| String::from_utf8_lossy(&output.stdout_data).into_owned())
}

#[test]
fn woken_container_has_its_address_and_its_port() {
    let mut rig = Rig::new();
    // It listens only once it is woken: CRIU 4.1 dumps no sockets of the Internet on kernels of 2025.
    rig.done(launch(&document("w", RUNS, &published(), "")));
    let before = rig.workload("w").containers[0].ips.clone();
    rig.done(on_target(Verb::VERB_HIBERNATE, "w"));
    assert_eq!(page(PORT), None);
    rig.kill_and_start_again();
    rig.done(on_target(Verb::VERB_WAKE, "w"));
    inside(&rig, "w", "mkdir -p /w; echo page >/w/index.html; httpd -p 80 -h /w").expect("it serves");
    assert_eq!(await_page(PORT), "page");
    assert_eq!(rig.workload("w").containers[0].ips, before);
    rig.done(on_target(Verb::VERB_TERMINATE, "w"));
    assert!(!rules().contains("8080"));
}

#[test]
fn port_of_a_hibernated_container_that_is_stopped_is_free() {
    let rig = Rig::new();
    rig.done(launch(&document("w", RUNS, &published(), "")));
    rig.done(on_target(Verb::VERB_HIBERNATE, "w"));
    let refused = rig.daemon.execute(launch(&serving("x", "page", &published())));
    assert!(refused.is_err(), "it is to have it again once it is woken");
    rig.done(on_target(Verb::VERB_STOP, "w"));
    assert!(!rules().contains("8080"));
    rig.done(launch(&serving("x", "page", &published())));
    assert_eq!(await_page(PORT), "page");
}
