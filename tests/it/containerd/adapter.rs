//! The adapter on a real containerd that hangs, dies, has damaged content, or is told to do what fails.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use actioncontroller::cancel::CancelToken;
use actioncontroller::clock::Deadline;
use actioncontroller::model::resources::Resources;
use actioncontroller::model::state::ContainerStatus;
use actioncontroller::model::workload::{PullPolicy, labels};
use actioncontroller::runtime::adapter::{
    BlockingStream, Call, Change, CheckpointImage, CheckpointOptions, ContainerConfig, EngineEventKind, ListFilter,
    LogChunk, LogOptions, NoProgress, Probe, ProgressSink, RestoreTo, RtResult, RuntimeAdapter, RuntimeError,
    StopOptions,
};
use actioncontroller::runtime::containerd::Containerd;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::containerd::{ContainerdServer, NODE};
use crate::support::rig::{BUSYBOX, container};
use crate::support::wait::until;

const LIMIT: Duration = Duration::from_secs(60);

/// What calls on an engine that hangs are given.
const SHORT: Duration = Duration::from_millis(700);

const RUNS: &str = "trap \"exit 7\" TERM; echo up; while :; do sleep 0.05; done";

const KILLED: ContainerStatus = ContainerStatus::Exited { code: Some(137), oom: false };

const ALL: ListFilter = ListFilter { all: true, labels: BTreeMap::new() };

const EVERYTHING: LogOptions = LogOptions { follow: false, tail: None, since_ms: 0, stdout: true, stderr: true };

/// A containerd and its adapter.
struct Rig {
    server: ContainerdServer,
    adapter: Arc<Containerd>,
    token: CancelToken,
}

impl Rig {
    fn new() -> Self {
        Self::on(ContainerdServer::start())
    }

    fn on(server: ContainerdServer) -> Self {
        let adapter = Arc::new(server.adapter());
        Self { server, adapter, token: CancelToken::new() }
    }

    fn call(&self) -> Call<'_> {
        self.within(LIMIT)
    }

    fn within(&self, limit: Duration) -> Call<'_> {
        Call { deadline: Deadline::after(limit), cancel: &self.token, progress: &NoProgress }
    }

    fn started(&self, name: &str, script: &str) -> String {
        let id = self.adapter.create_container(&self.call(), &config(name, script)).unwrap().id;
        assert_eq!(self.adapter.start_container(&self.call(), &id), Ok(Change::Changed));
        id
    }

    fn status(&self, id: &str) -> ContainerStatus {
        self.adapter.inspect_container(&self.call(), id).unwrap().status
    }

    /// What a create or a removal must not leave: of the image alone there may be something.
    fn assert_nothing_is_left(&self) {
        for listing in [&["containers", "ls", "-q"][..], &["tasks", "ls", "-q"], &["leases", "ls", "-q"]] {
            assert_eq!(self.server.run(listing), "", "{listing:?}");
        }
        let snapshots = self.server.run(&["snapshots", "ls"]);
        assert!(snapshots.lines().skip(1).all(|line| line.contains("Committed")), "{snapshots}");
        self.assert_no_process("containerd-shim");
        self.assert_no_process("container-log");
        let folders = fs::read_dir(self.server.config().dir.join("containers"));
        assert_eq!(folders.map_or(0, Iterator::count), 0);
    }

    fn assert_no_process(&self, word: &str) {
        until("the end of helpers", LIMIT, || self.server.pids_with(word).is_empty().then_some(()));
    }

    fn removed(&self, id: &str) {
        assert_eq!(self.adapter.remove_container(&self.call(), id, true), Ok(Change::Changed));
        self.assert_nothing_is_left();
    }
}

fn config(name: &str, script: &str) -> ContainerConfig {
    let mut config = container(name, script);
    config.labels.insert(labels::NODE.to_owned(), NODE.to_owned());
    config
}

fn is_away<T: std::fmt::Debug>(answer: RtResult<T>) -> bool {
    matches!(answer, Err(RuntimeError::EngineNotAvailable { .. }))
}

#[test]
fn every_verb_gives_a_hanging_containerd_up_at_its_deadline() {
    type Ask = fn(&Containerd, &Call, &str) -> RtResult<()>;
    let verbs: [(&str, Ask); 20] = [
        ("image", |it, call, _| it.ensure_image(call, BUSYBOX, PullPolicy::Always).map(drop)),
        ("create", |it, call, _| it.create_container(call, &config("other", RUNS)).map(drop)),
        ("start", |it, call, id| it.start_container(call, id).map(drop)),
        ("stop", |it, call, id| it.stop_container(call, id, &StopOptions::kill()).map(drop)),
        ("signal", |it, call, id| it.signal_container(call, id, "SIGHUP")),
        ("remove", |it, call, id| it.remove_container(call, id, true).map(drop)),
        ("inspect", |it, call, id| it.inspect_container(call, id).map(drop)),
        ("list", |it, call, _| it.list_containers(call, &ALL).map(drop)),
        ("wait", |it, call, id| it.wait_container(call, id).map(drop)),
        ("pause", |it, call, id| it.pause_container(call, id).map(drop)),
        ("resume", |it, call, id| it.resume_container(call, id).map(drop)),
        ("stats", |it, call, id| it.container_stats(call, id).map(drop)),
        ("resize", |it, call, id| it.update_resources(call, id, &Resources::default(), false).map(drop)),
        ("exec", |it, call, id| it.exec_in_container(call, id, &["true".to_owned()]).map(drop)),
        ("logs", |it, call, id| it.container_logs(call, id, &EVERYTHING).map(drop)),
        ("events", |it, call, _| it.watch_events(call).map(drop)),
        ("proof", |it, call, _| it.prove_checkpoint(call)),
        ("checkpoint", |it, call, id| {
            it.checkpoint_container(call, id, &CheckpointOptions { dir: "/nowhere".into() }).map(drop)
        }),
        ("restore", |it, call, id| {
            let image = CheckpointImage { root: "/nowhere".into(), parts: Vec::new() };
            it.restore_container(call, id, &image, RestoreTo::Running).map(drop)
        }),
        ("volume", |it, call, _| it.remove_volume(call, "v").map(drop)),
    ];
    let rig = Rig::new();
    let id = rig.started("w", RUNS);
    let pid = rig.adapter.inspect_container(&rig.call(), &id).unwrap().pid;
    rig.server.signal_containerd(Signal::SIGSTOP);
    for (name, ask) in verbs {
        let begun = Instant::now();
        let answer = ask(&rig.adapter, &rig.within(SHORT), &id);
        assert!(matches!(answer, Err(RuntimeError::Timeout { .. })), "{name}: {answer:?}");
        assert!(begun.elapsed() < SHORT + Duration::from_secs(2), "{name}: {:?}", begun.elapsed());
    }
    let begun = Instant::now();
    assert!(matches!(rig.adapter.probe(), Probe::Unavailable { .. }));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    rig.server.signal_containerd(Signal::SIGCONT);
    // What hung is not carried out afterwards.
    let now = rig.adapter.inspect_container(&rig.call(), &id).unwrap();
    assert_eq!((now.status.is_running(), now.pid), (true, pid));
    assert_eq!(rig.adapter.list_containers(&rig.call(), &ALL).unwrap().len(), 1);
    rig.removed(&id);
}

#[test]
fn watch_ends_with_containerd_and_the_next_one_tells_what_comes_after() {
    let mut rig = Rig::new();
    let id = rig.started("w", RUNS);
    let adapter = Arc::clone(&rig.adapter);
    let (opened, is_open) = crossbeam_channel::bounded(1);
    let watching = thread::spawn(move || {
        let token = CancelToken::new();
        let call = Call { deadline: Deadline::after(LIMIT), cancel: &token, progress: &NoProgress };
        let events = adapter.watch_events(&call).unwrap();
        opened.send(()).unwrap();
        events.collect::<Vec<_>>()
    });
    is_open.recv_timeout(LIMIT).unwrap();
    rig.server.kill_containerd();
    let told = watching.join().unwrap();
    assert!(told.last().is_some_and(Result::is_err), "{told:?}");
    assert!(is_away(rig.adapter.watch_events(&rig.call()).map(drop)));
    assert!(is_away(rig.adapter.inspect_container(&rig.call(), &id)));
    assert!(is_away(rig.adapter.create_container(&rig.call(), &config("other", RUNS))));
    rig.server.start_containerd();
    let mut events = rig.adapter.watch_events(&rig.call()).unwrap();
    assert_eq!(rig.adapter.stop_container(&rig.call(), &id, &StopOptions::kill()), Ok(Change::Changed));
    let event = events.next().unwrap().unwrap();
    assert_eq!((event.kind, event.name.as_str()), (EngineEventKind::Died { exit_code: Some(137) }, "w"));
    assert_eq!(rig.status(&id), KILLED);
    rig.removed(&id);
}

/// The files of the content store, largest first: the layer, then documents.
fn blobs(rig: &Rig) -> Vec<PathBuf> {
    let folder = rig.server.files().join("root/io.containerd.content.v1.content/blobs/sha256");
    let mut blobs: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    blobs.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).unwrap().len()));
    blobs
}

#[test]
fn image_with_damaged_content_is_refused_by_name_and_nothing_of_it_is_left() {
    let rig = Rig::new();
    let mut refused = 0;
    for blob in blobs(&rig) {
        // The index of the archive, which the image's name does not lead to, is collected some time.
        let Ok(whole) = fs::read(&blob) else { continue };
        let mut damaged = whole.clone();
        damaged[whole.len() / 2] ^= 1;
        fs::write(&blob, &damaged).unwrap();
        let made = rig.adapter.create_container(&rig.call(), &config("w", RUNS));
        fs::write(&blob, &whole).unwrap();
        match made {
            Ok(made) => rig.removed(&made.id),
            Err(error) => {
                refused += 1;
                let digest = blob.file_name().unwrap().to_string_lossy();
                assert!(matches!(error, RuntimeError::InvalidSpec { .. }), "{error}");
                assert!(error.to_string().contains(&*digest), "{error}");
                rig.assert_nothing_is_left();
            }
        }
    }
    assert_eq!(refused, 3, "the manifest, the configuration and the layer");
    let id = rig.started("w", RUNS);
    rig.removed(&id);
}

/// The largest file below.
fn largest_file(dir: &Path) -> PathBuf {
    let mut folders = vec![dir.to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
}

#[test]
fn pull_of_what_the_registry_has_damaged_is_refused_and_a_later_one_works() {
    let rig = Rig::on(ContainerdServer::start_with_registry());
    let image = rig.server.remote_image();
    let pull = || rig.adapter.ensure_image(&rig.call(), &image, PullPolicy::IfNotPresent);
    let layer = largest_file(&rig.server.files().join("registry"));
    let whole = fs::read(&layer).unwrap();
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    fs::write(&layer, &damaged).unwrap();
    let refused = pull().unwrap_err();
    assert!(matches!(&refused, RuntimeError::ImagePull { reason, .. } if reason.contains("digest")), "{refused}");
    fs::write(&layer, &whole).unwrap();
    assert_eq!((pull(), pull()), (Ok(Change::Changed), Ok(Change::Unchanged)));
    rig.assert_nothing_is_left();
}

#[test]
fn image_of_which_the_cri_keeps_no_layers_says_which_setting_does_that() {
    let rig = Rig::on(ContainerdServer::start_with_registry_and_no_layers());
    let image = rig.server.remote_image();
    let refused = until("the layers are collected", LIMIT, || {
        match rig.adapter.ensure_image(&rig.call(), &image, PullPolicy::IfNotPresent) {
            // Those of a pull just now are there still, and are shared.
            Ok(_) => {
                rig.server.run(&["images", "rm", "--sync", &image]);
                None
            }
            Err(error) => Some(error),
        }
    });
    let is_told = |reason: &str| reason.contains("discard_unpacked_layers");
    assert!(matches!(&refused, RuntimeError::ImagePull { reason, .. } if is_told(reason)), "{refused}");
    rig.assert_nothing_is_left();
}

#[test]
fn pull_without_the_plugin_for_it_says_what_is_off() {
    let rig = Rig::on(ContainerdServer::start_without_cri());
    let refused = rig.adapter.ensure_image(&rig.call(), "localhost/other:1", PullPolicy::IfNotPresent).unwrap_err();
    assert!(matches!(&refused, RuntimeError::ImagePull { reason, .. } if reason.contains("CRI plugin")), "{refused}");
    let id = rig.started("a.b-c_main", RUNS);
    let found = rig.adapter.inspect_container(&rig.call(), "a.b-c_main").unwrap();
    assert_eq!((found.id, found.name.as_str()), (id.clone(), "a.b-c_main"), "what is there needs no pull");
    rig.removed(&id);
}

#[test]
fn start_of_a_program_that_is_not_there_fails_and_leaves_a_container_that_never_ran() {
    let rig = Rig::new();
    let mut absent = config("w", RUNS);
    absent.spec.command = vec!["/no/such/program".to_owned()];
    let id = rig.adapter.create_container(&rig.call(), &absent).unwrap().id;
    for _ in 0..2 {
        let error = rig.adapter.start_container(&rig.call(), &id).unwrap_err();
        assert!(matches!(&error, RuntimeError::Engine { message, .. } if message.contains("no such file")), "{error}");
        assert_eq!(rig.status(&id), ContainerStatus::Created);
        assert_eq!(rig.server.run(&["tasks", "ls", "-q"]), "");
        rig.assert_no_process("containerd-shim");
        rig.assert_no_process("container-log");
    }
    rig.removed(&id);
}

/// Cancels the call once it is told of this.
struct CancelAt<'a>(&'static str, &'a CancelToken);

impl ProgressSink for CancelAt<'_> {
    fn bytes(&self, what: &str, _done: u64, _total: u64) {
        if what == self.0 {
            self.1.cancel("enough");
        }
    }
}

#[test]
fn create_that_is_cancelled_while_it_unpacks_leaves_nothing() {
    let rig = Rig::new();
    let token = CancelToken::new();
    let progress = CancelAt("unpack", &token);
    let call = Call { deadline: Deadline::after(LIMIT), cancel: &token, progress: &progress };
    let cancelled = rig.adapter.create_container(&call, &config("w", RUNS));
    assert!(matches!(cancelled, Err(RuntimeError::Cancelled { .. })), "{cancelled:?}");
    rig.assert_nothing_is_left();
    let id = rig.started("w", RUNS);
    rig.removed(&id);
}

#[test]
fn container_whose_shim_is_killed_has_ended_and_can_be_started_again() {
    let rig = Rig::new();
    let id = rig.started("w", RUNS);
    let shims = rig.server.pids_with("containerd-shim");
    assert_eq!(shims.len(), 1);
    kill(Pid::from_raw(shims[0]), Signal::SIGKILL).unwrap();
    let has_ended = || matches!(rig.status(&id), ContainerStatus::Exited { .. }).then_some(());
    until("it has ended", LIMIT, has_ended);
    rig.assert_no_process("container-log");
    assert_eq!(rig.adapter.start_container(&rig.call(), &id), Ok(Change::Changed));
    assert!(rig.status(&id).is_running());
    rig.removed(&id);
}

fn text(log: BlockingStream<LogChunk>) -> String {
    let bytes: Vec<u8> = log.flat_map(|chunk| chunk.unwrap().bytes).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn output_on_a_terminal_is_whole_and_its_logger_ends() {
    let rig = Rig::new();
    let lines = "n=0; while [ $n -lt 500 ]; do echo line $n; n=$((n+1)); done; test -t 1 && exit 4";
    let mut on_terminal = config("w", lines);
    on_terminal.spec.tty = true;
    let id = rig.adapter.create_container(&rig.call(), &on_terminal).unwrap().id;
    rig.adapter.start_container(&rig.call(), &id).unwrap();
    assert_eq!(rig.adapter.wait_container(&rig.call(), &id), Ok(Some(4)));
    rig.assert_no_process("container-log");
    let said = text(rig.adapter.container_logs(&rig.call(), &id, &EVERYTHING).unwrap());
    assert_eq!((said.lines().count(), said.lines().last()), (500, Some("line 499")));
    rig.removed(&id);
}

#[test]
fn logger_that_hangs_holds_nobody_up_for_long() {
    let rig = Rig::new();
    let id = rig.started("w", RUNS);
    until("its output", LIMIT, || {
        let log = rig.adapter.container_logs(&rig.call(), &id, &EVERYTHING).unwrap();
        (text(log) == "up\n").then_some(())
    });
    let loggers = rig.server.pids_with("container-log");
    assert_eq!(loggers.len(), 1);
    kill(Pid::from_raw(loggers[0]), Signal::SIGSTOP).unwrap();
    let soon = |begun: Instant| assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    let begun = Instant::now();
    let options = StopOptions::graceful(Duration::from_secs(10));
    assert_eq!(rig.adapter.stop_container(&rig.call(), &id, &options), Ok(Change::Changed));
    soon(begun);
    let begun = Instant::now();
    assert_eq!(rig.adapter.wait_container(&rig.call(), &id), Ok(Some(7)));
    soon(begun);
    let begun = Instant::now();
    let follow = LogOptions { follow: true, ..EVERYTHING };
    assert_eq!(text(rig.adapter.container_logs(&rig.call(), &id, &follow).unwrap()), "up\n");
    soon(begun);
    kill(Pid::from_raw(loggers[0]), Signal::SIGCONT).unwrap();
    rig.removed(&id);
}

#[test]
fn command_inside_that_is_given_up_takes_what_it_has_started_with_it() {
    let rig = Rig::new();
    let id = rig.started("w", RUNS);
    let argv = ["sh", "-c", "sleep 1000.5; true"].map(str::to_owned);
    let late = rig.adapter.exec_in_container(&rig.within(SHORT), &id, &argv);
    assert!(matches!(late, Err(RuntimeError::Timeout { .. })), "{late:?}");
    let seen = rig.adapter.exec_in_container(&rig.call(), &id, &["ps".to_owned()]).unwrap();
    let seen = String::from_utf8_lossy(&seen.stdout).into_owned();
    assert!(seen.contains("sleep 0.05") || seen.contains("trap"), "{seen}");
    assert!(!seen.contains("1000.5"), "{seen}");
    rig.removed(&id);
}
