//! The connection against a real dbus-daemon of the test's own, and against sockets on which nobody answers.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

/// A name that a test's connection takes.
const NAME: &str = "org.example.Test";

/// Names that change hands.
const OWNERS: &str = "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged'";

struct Daemon {
    dir: tempfile::TempDir,
    child: Child,
}

impl Daemon {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = format!(
            "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" \
             \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\"><busconfig><type>session</type>\
             <listen>unix:path={}</listen><policy context=\"default\"><allow send_destination=\"*\"/>\
             <allow receive_sender=\"*\"/><allow own=\"*\"/></policy></busconfig>",
            dir.path().join("bus").display()
        );
        fs::write(dir.path().join("config"), config).unwrap();
        let child = Self::spawn(dir.path());
        Self { dir, child }
    }

    fn spawn(dir: &Path) -> Child {
        let mut command = Command::new("dbus-daemon");
        command.arg(format!("--config-file={}", dir.join("config").display()));
        command.args(["--nofork", "--nopidfile", "--nosyslog", "--print-address"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut address).unwrap();
        assert!(address.starts_with("unix:path="), "{address}");
        child
    }

    fn bus(&self) -> Bus {
        bus_at(&self.dir.path().join("bus"))
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    fn restart(&mut self) {
        self.end();
        let _ = fs::remove_file(self.dir.path().join("bus"));
        self.child = Self::spawn(self.dir.path());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}

fn bus_at(path: &Path) -> Bus {
    Bus::new(path.display().to_string().parse().unwrap())
}

fn within(time: Duration, cancel: &CancelToken) -> Limits<'_> {
    Limits { deadline: Deadline::after(time), cancel }
}

fn id(bus: &Bus) -> Result<String, DbusError> {
    bus.call(within(MINUTE, &CancelToken::new()), DRIVER, "GetId", &())
}

fn take(bus: &Bus, name: &str) {
    let taken: u32 = bus.call(within(MINUTE, &CancelToken::new()), DRIVER, "RequestName", &(name, 4_u32)).unwrap();
    assert_eq!(taken, 1, "its owner");
}

fn give_up(bus: &Bus, name: &str) {
    let given: u32 = bus.call(within(MINUTE, &CancelToken::new()), DRIVER, "ReleaseName", &name).unwrap();
    assert_eq!(given, 1, "released");
}

/// What nobody answers: the connection that has the name ignores calls.
fn unanswered(bus: &Bus, limits: Limits) -> Result<(), DbusError> {
    bus.call(limits, Target { destination: NAME, path: "/", interface: "org.example.Test" }, "Hang", &())
}

/// Threads of this module that there are in this process.
fn threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = tasks.map(|task| fs::read_to_string(task.path().join("comm")).unwrap_or_default());
    names.filter(|name| name.starts_with("dbus-") || name.starts_with("zbus")).count()
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let limit = Deadline::after(Duration::from_secs(20));
    while !is_so() {
        assert!(!limit.is_over(), "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn calls_go_by_one_connection() {
    let daemon = Daemon::start();
    let (bus, cancel) = (daemon.bus(), CancelToken::new());
    assert!(!id(&bus).unwrap().is_empty());
    take(&bus, NAME);
    let names: Vec<String> = bus.call(within(MINUTE, &cancel), DRIVER, "ListNames", &()).unwrap();
    assert_eq!(names.iter().filter(|name| name.starts_with(':')).count(), 1, "{names:?}");
}

#[test]
fn refusals_keep_their_names_and_absent_peers_are_away() {
    let daemon = Daemon::start();
    let (bus, cancel) = (daemon.bus(), CancelToken::new());
    let limits = within(MINUTE, &cancel);
    let refused = bus.call::<_, ()>(limits, DRIVER, "Nothing", &()).unwrap_err();
    let is_it = |name: &str| name == "org.freedesktop.DBus.Error.UnknownMethod";
    assert!(matches!(&refused, DbusError::Refused { name, .. } if is_it(name)), "{refused}");
    assert!(matches!(unanswered(&bus, limits).unwrap_err(), DbusError::Away(_)));
    let garbled = bus.call::<_, u32>(limits, DRIVER, "GetId", &()).unwrap_err();
    assert!(matches!(&garbled, DbusError::Protocol(text) if text.contains("GetId")), "{garbled}");
    let unsendable = bus.call::<_, ()>(limits, Target { path: "no path", ..DRIVER }, "GetId", &()).unwrap_err();
    assert!(matches!(&unsendable, DbusError::Protocol(text) if text.contains("no path")), "{unsendable}");
}

#[test]
fn call_that_is_not_answered_ends_with_its_deadline_and_with_its_token() {
    let daemon = Daemon::start();
    let (bus, silent, cancel) = (daemon.bus(), daemon.bus(), CancelToken::new());
    take(&silent, NAME);
    let late = unanswered(&bus, within(Duration::from_millis(50), &cancel)).unwrap_err();
    assert!(matches!(late, DbusError::Timeout(_)), "{late}");
    thread::scope(|scope| {
        let call = scope.spawn(|| unanswered(&bus, within(MINUTE, &cancel)));
        thread::sleep(Duration::from_millis(20));
        cancel.cancel("test");
        assert_eq!(call.join().unwrap(), Err(DbusError::Cancelled));
    });
    assert!(id(&bus).is_ok(), "the connection stays");
}

#[test]
fn peer_that_leaves_fails_the_call_that_it_owes() {
    let daemon = Daemon::start();
    let (bus, silent, cancel) = (daemon.bus(), daemon.bus(), CancelToken::new());
    take(&silent, NAME);
    thread::scope(|scope| {
        let call = scope.spawn(|| unanswered(&bus, within(MINUTE, &cancel)));
        thread::sleep(Duration::from_millis(50));
        drop(silent);
        let error = call.join().unwrap().unwrap_err();
        assert!(matches!(error, DbusError::Closed(_) | DbusError::Away(_)), "{error}");
    });
}

#[test]
fn bus_that_accepts_and_says_nothing_costs_a_call_its_time_and_no_thread() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bus");
    let _listener = UnixListener::bind(&path).unwrap();
    let (bus, cancel) = (bus_at(&path), CancelToken::new());
    for _ in 0..3 {
        let late = bus.call::<_, String>(within(Duration::from_millis(50), &cancel), DRIVER, "GetId", &()).unwrap_err();
        assert!(matches!(late, DbusError::Timeout(_)), "{late}");
    }
    until("the threads end", || threads() == 0);
}

#[test]
fn bus_that_hangs_later_fills_no_more_than_its_bounds_and_keeps_no_thread() {
    let daemon = Daemon::start();
    let (bus, cancel) = (daemon.bus(), CancelToken::new());
    id(&bus).unwrap();
    daemon.signal(Signal::SIGSTOP);
    let big = "x".repeat(200_000);
    let begun = Instant::now();
    for _ in 0..MOST_UNSENT_AND_MORE {
        let limits = within(Duration::from_millis(5), &cancel);
        let late = bus.call::<_, ()>(limits, DRIVER, "GetNameOwner", &big.as_str()).unwrap_err();
        assert!(matches!(late, DbusError::Timeout(_)), "{late}");
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    drop(bus);
    until("the threads end", || threads() == 0);
    daemon.signal(Signal::SIGCONT);
}

/// More calls than the outbox and the socket have room for.
const MOST_UNSENT_AND_MORE: usize = 100;

#[test]
fn absent_bus_is_away_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bus");
    let error = id(&bus_at(&path)).unwrap_err();
    assert!(matches!(&error, DbusError::Away(text) if text.contains(path.to_str().unwrap())), "{error}");
    fs::write(&path, "no socket").unwrap();
    assert!(matches!(id(&bus_at(&path)).unwrap_err(), DbusError::Away(_)));
}

#[test]
fn lost_connection_is_told_to_subscribers_and_made_anew_by_the_next_call() {
    let mut daemon = Daemon::start();
    let (bus, cancel) = (daemon.bus(), CancelToken::new());
    let signals = bus.subscribe(within(MINUTE, &cancel), DRIVER.destination, &[OWNERS], |_| false).unwrap();
    let before = id(&bus).unwrap();
    daemon.restart();
    assert!(matches!(signals.next(within(MINUTE, &cancel), None), Err(DbusError::Closed(_))));
    let after = id(&bus).unwrap();
    assert_ne!(before, after);
    let signals = bus.subscribe(within(MINUTE, &cancel), DRIVER.destination, &[OWNERS], |message| {
        member(message) == "NameOwnerChanged"
    });
    take(&bus, NAME);
    assert!(signals.unwrap().next(within(MINUTE, &cancel), None).unwrap().is_some(), "the rule was told anew");
}

#[test]
fn each_subscriber_gets_what_it_wants_from_the_call_on() {
    let daemon = Daemon::start();
    let (bus, cancel) = (daemon.bus(), CancelToken::new());
    let limits = within(MINUTE, &cancel);
    let about = |message: &Message| message.body().deserialize::<(String, String, String)>().unwrap().0;
    let all =
        bus.subscribe(limits, DRIVER.destination, &[OWNERS], |message| member(message) == "NameOwnerChanged").unwrap();
    let one = bus.subscribe(limits, DRIVER.destination, &[OWNERS], move |message| {
        member(message) == "NameOwnerChanged" && about(message) == "org.example.B"
    });
    let one = one.unwrap();
    take(&bus, "org.example.A");
    take(&bus, "org.example.B");
    let next = |signals: &Signals| signals.next(limits, None).unwrap().map(|message| about(&message));
    assert_eq!((next(&all).as_deref(), next(&all).as_deref()), (Some("org.example.A"), Some("org.example.B")));
    assert_eq!(next(&one).as_deref(), Some("org.example.B"));
    let none = one.next(within(Duration::from_millis(10), &cancel), None).unwrap();
    assert!(none.is_none() && !one.has_lost());
    let (wake, woken) = bounded(1);
    wake.send(()).unwrap();
    assert!(one.next(limits, Some(&woken)).unwrap().is_none());
    cancel.cancel("test");
    assert_eq!(one.next(limits, None).unwrap_err(), DbusError::Cancelled);
}

#[test]
fn subscriber_that_does_not_read_loses_signals_is_told_so_and_holds_up_nobody() {
    let daemon = Daemon::start();
    let (bus, cancel) = (daemon.bus(), CancelToken::new());
    let limits = within(MINUTE, &cancel);
    let signals =
        bus.subscribe(limits, DRIVER.destination, &[OWNERS], |message| member(message) == "NameOwnerChanged").unwrap();
    for _ in 0..=MOST_SIGNALS / 2 {
        take(&bus, NAME);
        give_up(&bus, NAME);
    }
    assert!(signals.has_lost() && !signals.has_lost());
    let read = (0..).take_while(|_| signals.next(within(Duration::ZERO, &cancel), None).unwrap().is_some()).count();
    assert_eq!(read, MOST_SIGNALS);
    take(&bus, NAME);
    assert!(signals.next(limits, None).unwrap().is_some());
}

#[test]
fn connection_ends_with_who_has_it() {
    let daemon = Daemon::start();
    let (bus, cancel) = (daemon.bus(), CancelToken::new());
    let signals = bus.subscribe(within(MINUTE, &cancel), DRIVER.destination, &[OWNERS], |_| true).unwrap();
    drop(bus);
    assert!(threads() > 0);
    drop(signals);
    until("the threads end", || threads() == 0);
}
