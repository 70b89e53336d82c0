//! What the daemon costs by being there: its start, its memory, its wake-ups, its size on disk.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use actioncontroller::proto::actions_grpc::ActionControllerClient;
use actioncontroller::proto::health_grpc::HealthClient;

use super::calls::{channel, check};
use super::launches::{execute, settings, sleeper};
use super::report::Report;
use super::samples::Samples;
use super::support::daemon::{DaemonProcess, launch};

/// Starts that are timed.
const STARTS: usize = 5;

/// How long wake-ups are counted.
const IDLE: Duration = Duration::from_secs(5);

/// Workloads for the second look at the memory.
const WORKLOADS: usize = 100;

pub fn measure(report: &mut Report) {
    report.part("footprint");
    sizes(report);
    let mut daemon = DaemonProcess::start(|_| settings(""));
    starts(report, &mut daemon);
    wake_ups(report, &daemon);
    memory(report, &daemon, "idle");
    let client = ActionControllerClient::new(channel(&daemon.address()));
    for number in 0..WORKLOADS {
        execute(&client, launch(&sleeper(&format!("kept-{number}"))));
    }
    memory(report, &daemon, &format!("after {WORKLOADS} launches"));
}

fn sizes(report: &mut Report) {
    let folder = tempfile::tempdir().unwrap();
    for (name, program) in
        [("actioncontroller", env!("CARGO_BIN_EXE_actioncontroller")), ("actionctl", env!("CARGO_BIN_EXE_actionctl"))]
    {
        let stripped = folder.path().join(name);
        let done = Command::new("strip").arg("-o").arg(&stripped).arg(program).status().expect("strip is installed");
        assert!(done.success(), "strip {program}");
        let bytes = fs::metadata(&stripped).unwrap().len();
        report.value(&format!("size of {name}"), format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)), "stripped");
    }
}

fn starts(report: &mut Report, daemon: &mut DaemonProcess) {
    let mut times = Samples::default();
    for _ in 0..STARTS {
        assert!(daemon.terminate().success(), "the daemon ends");
        let (socket, begun) = (daemon.socket(), Instant::now());
        times.time(|| {
            daemon.spawn();
            while UnixStream::connect(&socket).is_err() {
                assert!(begun.elapsed() < Duration::from_secs(30), "the daemon does not start:\n{}", daemon.log());
                std::thread::sleep(Duration::from_millis(1));
            }
            check(&HealthClient::new(channel(&daemon.address())));
        });
    }
    report.time("start of the process to its first answer", &times);
}

/// How often each thread went to sleep, and so was woken, by the thread's name. Of `/proc/PID/task/TID/status`, since
/// `/proc/PID/status` speaks of the first thread alone.
fn switches(pid: i32) -> BTreeMap<String, u64> {
    let mut switches = BTreeMap::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task")).expect("the daemon runs").flatten() {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let name = field(&status, "Name").to_owned();
        *switches.entry(name).or_default() += field(&status, "voluntary_ctxt_switches").parse().unwrap_or(0);
    }
    switches
}

fn wake_ups(report: &mut Report, daemon: &DaemonProcess) {
    // What the start set off has ended by then.
    std::thread::sleep(Duration::from_secs(1));
    let before = switches(daemon.pid());
    std::thread::sleep(IDLE);
    let after = switches(daemon.pid());
    let woken = after.iter().map(|(name, count)| (count - before.get(name).unwrap_or(&0), name));
    let mut woken: Vec<_> = woken.filter(|(count, _)| *count > 0).collect();
    woken.sort_unstable_by(|one, other| other.cmp(one));
    let per_second = |count: u64| format!("{:.1}", count as f64 / IDLE.as_secs_f64());
    let by_thread: Vec<_> = woken.iter().map(|(count, name)| format!("{name} {}", per_second(*count))).collect();
    let note = format!("per second, {} threads: {}", threads(daemon.pid()), by_thread.join(", "));
    report.value("wake-ups while idle", per_second(woken.iter().map(|(count, _)| count).sum()), &note);
}

fn threads(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).expect("the daemon runs").count()
}

fn memory(report: &mut Report, daemon: &DaemonProcess, when: &str) {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("the daemon runs");
    for (name, note) in [("VmRSS", "with what is mapped from files"), ("RssAnon", "its own alone")] {
        let kilobytes: f64 = field(&status, name).trim_end_matches(" kB").parse().expect("a number of kB");
        report.value(&format!("{name}, {when}"), format!("{:.1} MiB", kilobytes / 1024.0), note);
    }
}

/// A field of a `/proc` status.
fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let lines = status.lines().filter_map(|line| line.split_once(':'));
    lines.filter(|(key, _)| *key == name).map(|(_, value)| value.trim()).next().unwrap_or_default()
}
