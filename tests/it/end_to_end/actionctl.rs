//! `actionctl` against the real daemon on a real Podman: what it prints, and the exit codes that scripts rely on.

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::{RUNS, Rig, entry, one, pod};
use crate::support::daemon::DaemonProcess;
use crate::support::podman::{IMAGE, PodmanServer};

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a command that has to end with this code.
fn ctl(rig: &Rig, code: i32, arguments: &[&str]) -> Output {
    let output = rig.daemon.ctl(arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{}\n{}", out(&output), err(&output));
    output
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", out(output)))
}

#[test]
fn run_shows_its_workload_output_and_use_and_ends_it() {
    let rig = Rig::new();
    let script = format!("echo to-out; echo to-err >&2; {RUNS}");
    ctl(&rig, 0, &["run", "--name", "w", "-e", "A=b", "--memory", "64m", IMAGE, "sh", "-c", &script]);
    let listed = out(&ctl(&rig, 0, &["ps"]));
    assert!(listed.contains('w') && listed.contains("running"), "{listed}");
    let workload = json(&ctl(&rig, 0, &["get", "workload", "w", "-o", "json"]));
    assert_eq!(workload["state"], "running", "{workload}");
    assert_eq!(workload["containers"].as_array().map(Vec::len), Some(1), "{workload}");
    let shown = out(&ctl(&rig, 0, &["get", "workload", "w"]));
    assert!(shown.contains(IMAGE), "{shown}");

    let inside = ctl(&rig, 7, &["exec", "w", "--", "sh", "-c", "echo $A; echo e >&2; exit 7"]);
    assert_eq!((out(&inside).as_str(), err(&inside).as_str()), ("b\n", "e\n"));
    let logs = ctl(&rig, 0, &["logs", "w"]);
    assert_eq!((out(&logs).as_str(), err(&logs).as_str()), ("to-out\n", "to-err\n"));
    assert!(out(&ctl(&rig, 0, &["stats", "w"])).contains("main") || out(&ctl(&rig, 0, &["stats"])).contains('w'));
    let stats = json(&ctl(&rig, 0, &["stats", "w", "-o", "json"]));
    assert_eq!(stats["workloads"][0]["workload"], "w", "{stats}");

    assert!(out(&ctl(&rig, 0, &["wait", "w", "--for", "running"])).contains("is running"));
    ctl(&rig, 0, &["pause", "w"]);
    ctl(&rig, 0, &["resume", "w"]);
    ctl(&rig, 0, &["restart", "w"]);
    ctl(&rig, 0, &["stop", "w", "--grace", "5s"]);
    ctl(&rig, 0, &["start", "w"]);
    ctl(&rig, 0, &["kill", "w"]);
    ctl(&rig, 0, &["rm", "w"]);
    rig.assert_nothing_left();
    let actions = json(&ctl(&rig, 0, &["actions", "-o", "json"]));
    assert_eq!(actions["actions"].as_array().map(Vec::len), Some(8), "{actions}");
}

#[test]
fn exit_codes_tell_refusal_failure_timeout_and_unreachable_apart() {
    let mut rig = Rig::new();
    fs::write(rig.daemon.path("w.yaml"), one("w", RUNS, "")).unwrap();
    let file = rig.daemon.path("w.yaml").display().to_string();
    ctl(&rig, 0, &["apply", "-f", &file]);
    fs::write(rig.daemon.path("w.yaml"), one("w", "sleep 7", "")).unwrap();
    let refused = err(&ctl(&rig, 3, &["apply", "-f", &file]));
    assert!(refused.contains("spec.containers[0].command[2]") && refused.contains("update"), "{refused}");
    assert!(err(&ctl(&rig, 3, &["stop", "unknown"])).contains("not known"));
    assert!(err(&ctl(&rig, 3, &["rm", "w"])).contains("stop it first"));

    let failing = format!("initContainers:\n{}containers:\n{}", entry("i", "exit 9", ""), entry("m", RUNS, ""));
    fs::write(rig.daemon.path("f.yaml"), pod("f", &failing)).unwrap();
    let file = rig.daemon.path("f.yaml").display().to_string();
    assert!(err(&ctl(&rig, 1, &["apply", "-f", &file])).contains("code 9"));

    ctl(&rig, 4, &["wait", "w", "--for", "exited", "--timeout", "300ms"]);
    let endless = pod("e", &format!("initContainers:\n{}containers:\n{}", entry("i", RUNS, ""), entry("m", RUNS, "")));
    fs::write(rig.daemon.path("e.yaml"), endless).unwrap();
    let file = rig.daemon.path("e.yaml").display().to_string();
    ctl(&rig, 4, &["apply", "-f", &file, "--deadline", "3s"]);
    assert_eq!(rig.everything().containers, ["w_main"], "what was late is undone");

    rig.server.stop_service();
    let away = ctl(&rig, 5, &["run", "--name", "v", IMAGE]);
    assert!(err(&away).contains("podman"), "{}", err(&away));
    assert!(out(&ctl(&rig, 0, &["ps"])).contains("unknown"));
    rig.server.start_service();
    rig.daemon.terminate();
    ctl(&rig, 5, &["ps"]);
    ctl(&rig, 125, &["exec", "w", "true"]);
}

#[test]
fn apply_takes_a_folder_and_standard_input_and_plans_without_touching_anything() {
    let rig = Rig::new();
    let folder = rig.daemon.path("documents");
    fs::create_dir(&folder).unwrap();
    let package = "apiVersion: v1\nkind: Package\nmetadata: {name: pack}\nspec:\n  pattern: [{type: plain}]\n  \
         models:\n  - {name: one, node: test, resources: {}}\n  - {name: two, node: test, resources: {}}\n";
    fs::write(folder.join("package.yaml"), package).unwrap();
    for name in ["one", "two"] {
        let model = one(name, RUNS, "").replace("kind: Pod", "kind: Model");
        fs::write(folder.join(format!("{name}.yml")), model).unwrap();
    }
    let folder = folder.display().to_string();
    let planned = out(&ctl(&rig, 0, &["plan", "-f", &folder]));
    assert!(planned.contains("create one_main") && planned.contains("start two_main"), "{planned}");
    rig.assert_nothing_left();
    let outcome = json(&ctl(&rig, 0, &["apply", "-f", &folder, "-o", "json"]));
    let outcome = outcome.get("outcomes").and_then(|all| all.get(0)).unwrap_or(&outcome).clone();
    assert_eq!((&outcome["state"], &outcome["target"]), (&Value::from("succeeded"), &Value::from("pack")), "{outcome}");
    assert_eq!(rig.everything().containers, ["one_main", "two_main"]);

    let mut command = Command::new(env!("CARGO_BIN_EXE_actionctl"));
    command.args(["--address", &rig.daemon.address(), "apply", "-f", "-", "-o", "json"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(one("piped", RUNS, "").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", err(&output));
    assert!(rig.everything().containers.contains(&"piped_main".to_owned()));
    let listed = json(&ctl(&rig, 0, &["ps", "-o", "json"]));
    let names: Vec<_> = listed["workloads"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
    assert_eq!(names, ["one", "piped", "two"]);
}

#[test]
fn daemon_without_an_engine_serves_and_says_so() {
    let mut server = PodmanServer::start();
    server.stop_service();
    let daemon = DaemonProcess::start(|_| crate::support::daemon::with_podman(&server.socket()));
    assert_eq!(daemon.ctl(&["health"]).status.code(), Some(0));
    let refused = daemon.ctl(&["run", "--name", "w", IMAGE]);
    assert_eq!(refused.status.code(), Some(5), "{}", err(&refused));
    assert!(err(&refused).contains(&server.socket().display().to_string()), "{}", err(&refused));
}
