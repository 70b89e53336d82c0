//! `actionctl` as a user has it: the real binary, against a daemon's double on the real wire.

mod double;
mod looks;
mod verbs;

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use actioncontroller::proto::actions::{Ignorable, Verb};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use double::Double;

/// No command of these tests takes nearly as long.
const LIMIT: Duration = Duration::from_secs(30);

/// What a command printed and how it ended.
struct Ended {
    code: Option<i32>,
    out: Vec<u8>,
    err: String,
}

impl Ended {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }
}

/// A command whose stdout and stderr go to files, so that it never waits for a reader.
struct Running {
    child: Child,
    folder: tempfile::TempDir,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| File::create(folder.path().join(name)).unwrap();
        let child = command.stdin(Stdio::null()).stdout(file("out")).stderr(file("err")).spawn().unwrap();
        Self { child, folder }
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.path().join(name)).unwrap()
    }

    fn err(&self) -> String {
        String::from_utf8_lossy(&self.read("err")).into_owned()
    }

    fn until_err_has(&self, text: &str) {
        wait_for(&format!("'{text}' on stderr"), || self.err().contains(text).then_some(()));
    }

    fn interrupt(&self) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    }

    fn end(mut self) -> Ended {
        let status = wait_for("the end", || self.child.try_wait().unwrap());
        Ended { code: status.code(), out: self.read("out"), err: self.err() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Ended already, unless a test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < LIMIT, "{what} did not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn actionctl(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_actionctl"));
    command.args(arguments).env_remove("ACTIONCONTROLLER_ADDRESS").env("NO_COLOR", "1");
    command
}

fn run(arguments: &[&str]) -> Ended {
    Running::start(&mut actionctl(arguments)).end()
}

/// Runs a command against the double.
fn ask(double: &Double, arguments: &[&str]) -> Ended {
    Running::start(actionctl(arguments).env("ACTIONCONTROLLER_ADDRESS", double.address())).end()
}

#[test]
fn help_lists_every_command_and_exit_code() {
    let ended = run(&["--help"]);
    assert_eq!(ended.code, Some(0));
    let text = ended.text();
    for command in [
        "apply",
        "update",
        "rollback",
        "run",
        "start",
        "stop",
        "restart",
        "rm",
        "terminate",
        "pause",
        "resume",
        "kill",
        "scale",
        "offload",
        "cancel",
        "plan",
        "ps",
        "get",
        "logs",
        "exec",
        "stats",
        "wait",
        "actions",
        "policy",
        "health",
        "runtimes",
        "cores",
        "completions",
        "man",
    ] {
        assert!(text.lines().any(|line| line.starts_with(&format!("  {command} "))), "{command}\n{text}");
    }
    assert!(text.contains("refused before any effect"), "{text}");
}

#[test]
fn wrong_command_line_ends_with_2_and_one_of_exec_with_its_own_code() {
    for arguments in [&["nonsense"][..], &["stop"], &["apply", "-f", "/nonexistent.yaml"], &["-o", "json", "logs", "x"]]
    {
        let ended = run(arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {}", ended.err);
        assert!(ended.err.starts_with("error: "), "{}", ended.err);
    }
    assert_eq!(run(&["exec", "web"]).code, Some(122));
}

#[test]
fn unreachable_daemon_is_told_within_three_seconds_and_why() {
    let folder = tempfile::tempdir().unwrap();
    let absent = format!("unix://{}", folder.path().join("absent.sock").display());
    let listener = std::os::unix::net::UnixListener::bind(folder.path().join("silent.sock")).unwrap();
    let silent = format!("unix://{}", folder.path().join("silent.sock").display());
    for (address, cause) in
        [(&absent, "does not exist"), (&silent, "no gRPC server"), (&"127.0.0.1:1".to_owned(), "127.0.0.1:1")]
    {
        let started = Instant::now();
        let ended = run(&["--address", address, "ps"]);
        assert!(started.elapsed() < Duration::from_secs(3), "{address}: {:?}", started.elapsed());
        assert_eq!(ended.code, Some(5), "{}", ended.err);
        assert!(ended.err.contains(&format!("cannot reach the daemon at {address}")), "{}", ended.err);
        assert!(ended.err.contains(cause), "{}", ended.err);
        assert!(ended.err.contains("hint: is the daemon running? systemctl status actioncontroller"), "{}", ended.err);
        assert_eq!(ended.err.lines().count(), 3, "nothing but the error: {}", ended.err);
    }
    assert_eq!(run(&["--address", &absent, "exec", "web", "true"]).code, Some(125));
    drop(listener);
}

#[test]
fn completions_and_manual_pages_are_made() {
    for shell in ["bash", "zsh", "fish"] {
        let ended = run(&["completions", shell]);
        assert_eq!(ended.code, Some(0));
        for word in ["actionctl", "update", "rollback", "offload", "partial"] {
            assert!(ended.text().contains(word), "{shell}: {word}");
        }
    }
    assert!(run(&["man"]).text().contains(".TH actionctl 1"));
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(run(&["man", folder.path().to_str().unwrap()]).code, Some(0));
    for page in
        ["actionctl.1", "actionctl-stop.1", "actionctl-get-workload.1", "actionctl-update.1", "actionctl-scale.1"]
    {
        assert!(std::fs::read_to_string(folder.path().join(page)).unwrap().contains(".TH"), "{page}");
    }
}

#[test]
fn action_is_followed_with_a_line_for_each_step_event_when_piped() {
    let double = Double::start();
    let ended = ask(&double, &["start", "web"]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!(ended.text(), "web started in 1.24 s\n");
    let expected = "web: start web_main: running\nweb: start web_main: changed in 12.3 ms\n\
                    warning: has no effect yet (line 4, spec.restartPolicy)\n";
    assert_eq!(ended.err, expected);
}

/// Runs a command on a terminal of its own, against the double.
fn ask_on_terminal(double: &Double, line: &str) -> Ended {
    let line = format!("'{}' {line}", env!("CARGO_BIN_EXE_actionctl"));
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).env("ACTIONCONTROLLER_ADDRESS", double.address());
    Running::start(command.env("TERM", "xterm").env("COLUMNS", "100").env_remove("NO_COLOR")).end()
}

#[test]
fn action_is_followed_with_a_bar_on_a_terminal() {
    let double = Double::start();
    let ended = ask_on_terminal(&double, "start web");
    let text = ended.text();
    assert_eq!(ended.code, Some(0), "{text}");
    assert!(text.contains("start web ["), "the bar: {text:?}");
    assert!(text.contains("  start web_main: changed in 12.3 ms"), "{text:?}");
    assert!(text.contains("\u{1b}[33;1mwarning:\u{1b}[0m has no effect yet"), "{text:?}");
    assert!(text.ends_with("web started in 1.24 s\r\n"), "{text:?}");
    let endless = ask_on_terminal(&double, "start endless --timeout 500ms");
    assert_eq!(endless.code, Some(4));
    assert!(endless.text().contains("1/1"), "{:?}", endless.text());
}

#[test]
fn quiet_action_says_nothing_and_unchanged_one_says_so() {
    let double = Double::start();
    let quiet = ask(&double, &["-q", "start", "web"]);
    assert_eq!((quiet.code, quiet.text().as_str(), quiet.err.as_str()), (Some(0), "", ""));
    assert_eq!(ask(&double, &["start", "same"]).text(), "same unchanged\n");
}

#[test]
fn options_of_a_stop_arrive_at_the_daemon() {
    let double = Double::start();
    let line = ["stop", "web", "--grace", "500ms", "--signal", "int", "--id", "a-1", "--deadline", "1m30s"];
    assert_eq!(ask(&double, &line).code, Some(0));
    let executed = double.executed();
    let spec = executed[0].action.as_ref().unwrap();
    assert_eq!(spec.verb.enum_value(), Ok(Verb::VERB_STOP));
    assert_eq!((spec.action_id.as_str(), spec.deadline_ms), ("a-1", 90_000));
    assert_eq!((spec.parameters.grace_ms, spec.parameters.signal.as_str()), (Some(500), "SIGINT"));
}

#[test]
fn refusal_shows_field_and_hint_and_ends_with_3() {
    let double = Double::start();
    let ended = ask(&double, &["start", "refused"]);
    assert_eq!(ended.code, Some(3));
    assert!(ended.err.contains("the image is no reference (INVALID_MANIFEST)\n  at: spec.containers[0].image\n"));
    assert!(ended.err.contains("  hint: name another image"), "{}", ended.err);
    assert_eq!(ask(&double, &["start", "differs"]).code, Some(3));
}

#[test]
fn failed_late_and_cancelled_actions_have_codes_of_their_own() {
    let double = Double::start();
    let failed = ask(&double, &["start", "failing"]);
    assert_eq!(failed.code, Some(1));
    assert!(failed.err.contains("error: start of failing failed: the engine failed (ENGINE_FAILED)"), "{}", failed.err);
    assert!(failed.err.contains("  step: start bad_main (failed): exited with 1"), "{}", failed.err);
    assert!(failed.err.contains("  left: container bad_main"), "{}", failed.err);
    assert_eq!(ask(&double, &["start", "late"]).code, Some(4));
    assert_eq!(ask(&double, &["start", "cancelled"]).code, Some(6));
}

#[test]
fn verb_that_is_not_implemented_is_refused_in_the_daemons_words() {
    let double = Double::start();
    let ended = ask(&double, &["scale", "unbuilt", "--pids", "9"]);
    assert_eq!(ended.code, Some(3));
    assert!(ended.err.contains("not built yet (NOT_IMPLEMENTED)"), "{}", ended.err);
}

#[test]
fn several_targets_are_each_told_and_the_first_failure_gives_the_code() {
    let double = Double::start();
    let ended = ask(&double, &["start", "web", "refused", "failing"]);
    assert_eq!(ended.code, Some(3), "{}", ended.err);
    assert_eq!(ended.text(), "web started in 1.24 s\n");
    assert!(ended.err.contains("start of refused refused:") && ended.err.contains("start of failing failed:"));
    let json = ask(&double, &["-o", "json", "start", "web", "refused"]);
    let value: serde_json::Value = serde_json::from_slice(&json.out).unwrap();
    assert_eq!(value["outcomes"][0]["state"], "succeeded");
    assert_eq!(value["outcomes"][1]["error"]["code"], "INVALID_MANIFEST");
}

#[test]
fn action_without_waiting_prints_its_id() {
    let double = Double::start();
    let ended = ask(&double, &["start", "web", "--async", "-o", "name"]);
    assert_eq!(ended.code, Some(0));
    let id = double.executed()[0].action.action_id.clone();
    assert_eq!(ended.text(), format!("{id}\n"));
    assert!(!id.is_empty());
    assert_eq!(ask(&double, &["cancel", &id]).text(), format!("{id} is being cancelled\n"));
    assert_eq!(ask(&double, &["cancel", "unheard-of"]).code, Some(3));
}

#[test]
fn outcome_is_json_and_yaml_of_the_same_fields() {
    let double = Double::start();
    let json: serde_json::Value =
        serde_json::from_slice(&ask(&double, &["start", "failing", "--id", "a-1", "-o", "json"]).out).unwrap();
    assert_eq!((&json["state"], &json["left"][0]), (&"failed".into(), &"container bad_main".into()));
    let yaml = ask(&double, &["start", "failing", "--id", "a-1", "-o", "yaml"]).text();
    assert_eq!(serde_saphyr::from_str::<serde_json::Value>(&yaml).unwrap(), json, "{yaml}");
}

#[test]
fn daemon_without_a_stream_left_still_gives_the_outcome() {
    let double = Double::start();
    let ended = ask(&double, &["start", "crowded"]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!(ended.text(), "crowded started in 1.24 s\n");
    let ids: Vec<_> = double.executed().iter().map(|request| request.action.action_id.clone()).collect();
    assert_eq!(ids.len(), 2);
    assert_eq!(ids[0], ids[1], "the same action is attended");
}

#[test]
fn stream_that_ends_without_an_outcome_is_looked_up() {
    let double = Double::start();
    let ended = ask(&double, &["start", "untold"]);
    assert_eq!((ended.code, ended.text().as_str()), (Some(0), "untold started in 1.24 s\n"), "{}", ended.err);
}

#[test]
fn lost_daemon_ends_with_5_and_tells_how_to_find_the_action() {
    let double = Double::start();
    let ended = ask(&double, &["start", "dropped", "--id", "a-1"]);
    assert_eq!(ended.code, Some(5), "{}", ended.err);
    assert!(ended.err.contains("actionctl actions --watch a-1"), "{}", ended.err);
}

#[test]
fn what_was_reached_is_told_and_what_goes_on_is_named_when_the_daemon_is_lost_between() {
    let double = Double::start();
    let ended = ask(&double, &["start", "web", "dropped", "same"]);
    assert_eq!(ended.code, Some(5), "{}", ended.err);
    assert_eq!(ended.text(), "web started in 1.24 s\n");
    let ids: Vec<_> = double.executed().iter().map(|request| request.action.action_id.clone()).collect();
    for id in &ids[1..] {
        assert!(ended.err.contains(&format!("  action: {id}\n")), "{id}: {}", ended.err);
    }
    assert!(!ended.err.contains(&ids[0]), "it has ended: {}", ended.err);
}

#[test]
fn timeout_ends_the_wait_and_not_the_action() {
    let double = Double::start();
    let ended = ask(&double, &["start", "endless", "--id", "a-1", "--timeout", "300ms"]);
    assert_eq!(ended.code, Some(4), "{}", ended.err);
    assert!(ended.err.contains("it goes on") && ended.err.contains("actionctl cancel a-1"), "{}", ended.err);
    let events = ask(&double, &["actions", "--watch", "a-1", "-o", "json", "--timeout", "300ms"]);
    assert_eq!((events.code, events.text().lines().count()), (Some(4), 3), "{}", events.err);
    let silent = ask(&double, &["start", "silent", "--timeout", "300ms"]);
    assert_eq!(silent.code, Some(4), "{}", silent.err);
}

#[test]
fn first_interrupt_tells_the_ways_back_and_the_second_leaves() {
    let double = Double::start();
    let mut command = actionctl(&["start", "endless", "--id", "a-1"]);
    let running = Running::start(command.env("ACTIONCONTROLLER_ADDRESS", double.address()));
    running.until_err_has("changed in 12.3 ms");
    running.interrupt();
    running.until_err_has("Follow it: actionctl actions --watch a-1. Cancel it: actionctl cancel a-1.");
    running.interrupt();
    let ended = running.end();
    assert_eq!(ended.code, Some(130), "{}", ended.err);

    // Without a stream as well.
    let mut command = actionctl(&["start", "full", "--id", "a-2"]);
    let running = Running::start(command.env("ACTIONCONTROLLER_ADDRESS", double.address()));
    wait_for("the second request", || double.executed().iter().filter(|asked| !asked.no_wait).last().map(|_| ()));
    running.interrupt();
    running.until_err_has("actionctl cancel a-2");
    running.interrupt();
    assert_eq!(running.end().code, Some(130));
}

#[test]
fn ended_action_is_followed_to_its_outcome() {
    let double = Double::start();
    ask(&double, &["start", "failing", "--async", "--id", "a-1"]);
    let ended = ask(&double, &["actions", "--watch", "a-1"]);
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    let events = ask(&double, &["actions", "--watch", "a-1", "-o", "json"]).text();
    let last: serde_json::Value = serde_json::from_str(events.lines().last().unwrap()).unwrap();
    assert_eq!(events.lines().count(), 4);
    assert_eq!(last["outcome"]["state"], "failed");
    assert!(ask(&double, &["actions"]).text().contains("a-1   start   failing"));
    assert!(ask(&double, &["get", "action", "a-1"]).text().contains("Code:         ENGINE_FAILED"));
}

#[test]
fn documents_of_a_folder_become_one_action_for_each_target() {
    let double = Double::start();
    let folder = tempfile::tempdir().unwrap();
    let pod = |name: &str| format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{}}\n");
    write(folder.path(), "b.yaml", &pod("two"));
    write(folder.path(), "a.yaml", &pod("one"));
    write(folder.path(), "note.txt", "no document");
    let ended = ask(&double, &["apply", "-f", folder.path().to_str().unwrap(), "--ignore", "schedule"]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!(ended.text(), "one launched in 1.24 s\ntwo launched in 1.24 s\n");
    let warning =
        format!("warning: has no effect yet ({}:4, spec.restartPolicy)", folder.path().join("a.yaml").display());
    assert!(ended.err.contains(&warning), "{}", ended.err);
    let executed = double.executed();
    assert_eq!(executed.len(), 2);
    assert_eq!(executed[0].action.manifest, pod("one"));
    assert_eq!(executed[0].action.parameters.ignore, [Ignorable::IGNORABLE_SCHEDULE.into()]);
}

#[test]
fn documents_come_from_stdin_too() {
    let double = Double::start();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "in", "kind: Pod\nmetadata: {name: piped}\n");
    let child = actionctl(&["apply", "-f", "-", "-o", "name"])
        .env("ACTIONCONTROLLER_ADDRESS", double.address())
        .stdin(File::open(folder.path().join("in")).unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let output = child.unwrap().wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "piped\n");
    assert_eq!(double.executed()[0].action.manifest, "kind: Pod\nmetadata: {name: piped}\n");
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

#[test]
fn dry_run_and_plan_show_stages_and_touch_nothing() {
    let double = Double::start();
    let table = "STAGE   STEP   WORKLOAD   WHAT              AFTER\n\
                 0       0      -          pull web:1        -\n\
                 1       1      -          create web_main   0\n";
    let dry = ask(&double, &["run", "web:1", "--dry-run"]);
    assert_eq!((dry.code, dry.text().as_str()), (Some(0), table), "{}", dry.err);
    assert!(double.executed().iter().all(|request| request.dry_run));
    assert_eq!(ask(&double, &["plan", "stop", "web"]).text(), table);
    let refused = ask(&double, &["plan", "stop", "refused"]);
    assert_eq!(refused.code, Some(3));
    assert!(refused.err.contains("no such workload (WORKLOAD_NOT_FOUND)"), "{}", refused.err);
}

#[test]
fn lists_are_read_to_their_last_page() {
    let double = Double::start();
    assert_eq!(ask(&double, &["ps", "-o", "name"]).text(), "lane\nweb\n");
    let table = ask(&double, &["ps"]).text();
    assert_eq!(table.lines().next(), Some("NAME   STATE     READY   PACKAGE   ENGINE   AGE"));
    assert!(ask(&double, &["ps", "-c", "-o", "wide"]).text().contains("CGROUP"));
    let json: serde_json::Value = serde_json::from_slice(&ask(&double, &["ps", "-o", "json"]).out).unwrap();
    assert_eq!(json["workloads"][1]["containers"][0]["state"], "running");
    assert!(ask(&double, &["stats"]).text().contains("3.0 MiB"));
}

#[test]
fn unknown_workload_is_refused_with_the_daemons_hint() {
    let double = Double::start();
    let ended = ask(&double, &["get", "workload", "nobody"]);
    assert_eq!(ended.code, Some(3));
    let expected = "error: workload 'nobody' is not known (WORKLOAD_NOT_FOUND)\n  hint: see actionctl ps\n";
    assert_eq!(ended.err, expected);
}

#[test]
fn logs_keep_streams_apart_and_every_byte() {
    let double = Double::start();
    let ended = ask(&double, &["logs", "web"]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!(ended.out, b"out \xff\x00\n");
    assert_eq!(ended.err, "err\n");
}

#[test]
fn reader_that_goes_away_ends_the_logs_quietly() {
    let double = Double::start();
    let folder = tempfile::tempdir().unwrap();
    let err = folder.path().join("err");
    let mut child = actionctl(&["logs", "-f", "talkative"])
        .env("ACTIONCONTROLLER_ADDRESS", double.address())
        .stdout(Stdio::piped())
        .stderr(File::create(&err).unwrap())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut [0; 16]).unwrap();
    drop(out);
    let status = wait_for("the end", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    assert_eq!(std::fs::read_to_string(err).unwrap(), "");
}

#[test]
fn command_in_a_container_gives_its_own_code() {
    let double = Double::start();
    let ended = ask(&double, &["exec", "web", "--", "ls", "-l"]);
    assert_eq!((ended.code, ended.text().as_str(), ended.err.as_str()), (Some(7), "ls -l", "said\n"));
    assert_eq!(ask(&double, &["exec", "nobody", "ls"]).code, Some(123));
}

#[test]
fn wait_answers_with_its_code() {
    let double = Double::start();
    assert_eq!(ask(&double, &["wait", "web", "--for", "running"]).text(), "web is running\n");
    let late = ask(&double, &["wait", "web", "--for", "gone", "--timeout", "300ms"]);
    assert_eq!(late.code, Some(4));
    assert!(late.err.contains("not so within 300 ms"), "{}", late.err);
}
