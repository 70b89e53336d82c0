//! A Docker Compose project on a real Docker, by the real daemon.

use std::fs;
use std::time::Duration;

use actioncontroller::grpc::status::details;
use actioncontroller::proto::actions::{ActionSpec, Outcome, Verb};

use crate::support::daemon::{DaemonProcess, launch, on_target, with_sim};
use crate::support::docker::DockerServer;
use crate::support::rig::BUSYBOX;
use crate::support::wait::until;

const LIMIT: Duration = Duration::from_secs(60);

/// A store that serves what is on its volume, and a client that has to start after it.
fn project(greeting: &str) -> String {
    let serves = "trap 'exit 0' TERM; mkdir -p /data; echo here > /data/page; cd /data; httpd -f -p 8000 & wait";
    format!(
        "services:\n  client:\n    image: {BUSYBOX}\n    command: [sh, -c, \"trap 'exit 0' TERM; \
         while :; do sleep 0.05; done\"]\n    environment: {{GREETING: {greeting}}}\n    depends_on: [store]\n    \
         volumes: ['data:/data']\n    networks: [back]\n  store:\n    image: {BUSYBOX}\n    command: [sh, -c, \"{serves}\"]\n    \
         expose: [8000]\n    volumes: [{{type: volume, source: data, target: /data}}]\n    networks:\n      back: {{aliases: \
         [files]}}\n    stop_grace_period: 3s\n    mem_limit: 32m\nvolumes: {{data: }}\nnetworks: {{back: }}\n"
    )
}

struct Rig {
    // Ends before its engine does.
    daemon: DaemonProcess,
    server: DockerServer,
}

impl Rig {
    fn new() -> Self {
        let server = DockerServer::start();
        let docker = format!("  docker: {{enabled: true, socket: {}}}\n", server.socket().display());
        let daemon =
            DaemonProcess::start(|folder| with_sim(folder).replacen("runtimes:\n", &format!("runtimes:\n{docker}"), 1));
        Self { daemon, server }
    }

    #[track_caller]
    fn done(&self, action: ActionSpec) -> Outcome {
        self.daemon.done(action)
    }

    /// The names that a listing of Docker's gives, sorted.
    fn listed(&self, arguments: &[&str]) -> Vec<String> {
        let mut names: Vec<String> = self.server.run(arguments).lines().map(str::to_owned).collect();
        names.sort();
        names
    }

    fn containers(&self) -> Vec<String> {
        self.listed(&["ps", "-a", "--format", "{{.Names}} {{.State}}"])
    }

    fn networks(&self) -> Vec<String> {
        self.listed(&["network", "ls", "--filter", "name=shop", "--format", "{{.Name}}"])
    }
}

fn up(text: &str) -> ActionSpec {
    ActionSpec { target: "shop".to_owned(), ..launch(text) }
}

// req: BM-03
#[test]
fn project_comes_up_finds_its_services_by_name_and_leaves_nothing_but_its_volume() {
    let rig = Rig::new();
    let outcome = rig.done(up(&project("hello")));
    assert_eq!((outcome.engine.as_str(), outcome.engine_reason.as_str()), ("docker", "format"), "{outcome:?}");
    assert_eq!(rig.containers(), ["shop-client_client running", "shop-store_store running"]);
    assert_eq!(rig.networks(), ["shop_back"]);
    for name in ["store", "files"] {
        let fetch = format!("wget -q -O - http://{name}:8000/page");
        let page = until("the store's page", LIMIT, || {
            let tried = format!("{fetch} || true");
            Some(rig.server.run(&["exec", "shop-client_client", "sh", "-c", &tried])).filter(|page| !page.is_empty())
        });
        assert_eq!(page, "here");
    }
    // In one form and time zone, so that texts compare as times do.
    let started = |name: &str| rig.server.run(&["inspect", "-f", "{{.State.StartedAt}}", name]);
    assert!(started("shop-store_store") < started("shop-client_client"));
    assert_eq!(rig.server.run(&["inspect", "-f", "{{.HostConfig.Memory}}", "shop-store_store"]), "33554432");

    assert!(!rig.done(up(&project("hello"))).changed, "the same again");
    match rig.daemon.execute(up(&project("bye"))) {
        Err(grpcio::Error::RpcFailure(status)) => {
            assert_eq!(details(&status).expect("details").error.code, "WORKLOAD_DIFFERS");
        }
        other => panic!("{other:?}"),
    }
    let stopped = rig.done(on_target(Verb::VERB_STOP, "shop"));
    let titles: Vec<&str> = stopped.steps.iter().map(|step| step.title.as_str()).collect();
    assert!(titles[0].contains("client") && titles[1].contains("store"), "{titles:?}");
    assert_eq!(rig.containers(), ["shop-client_client exited", "shop-store_store exited"]);
    rig.done(on_target(Verb::VERB_START, "shop"));
    assert_eq!(rig.containers(), ["shop-client_client running", "shop-store_store running"]);
    rig.done(on_target(Verb::VERB_TERMINATE, "shop"));
    assert_eq!((rig.containers(), rig.networks()), (Vec::new(), Vec::new()));
    assert_eq!(rig.listed(&["volume", "ls", "-q"]), ["shop_data"]);
}

#[test]
fn command_line_brings_a_project_up_under_the_name_of_its_folder() {
    let rig = Rig::new();
    let folder = rig.daemon.path("Shop");
    fs::create_dir(&folder).unwrap();
    let file = folder.join("compose.yaml");
    fs::write(&file, project("hello")).unwrap();
    let output = rig.daemon.ctl(&["apply", "-f", &file.display().to_string()]);
    let shown = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && shown.contains("shop launched"), "{shown}");
    assert_eq!(rig.containers(), ["shop-client_client running", "shop-store_store running"]);
    assert!(rig.daemon.ctl(&["terminate", "shop"]).status.success());
    assert_eq!(rig.containers(), Vec::<String>::new());
}
