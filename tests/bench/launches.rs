//! Launch and terminate on the simulator, where an action costs what the daemon itself costs: one caller, many
//! callers, and how often the disk is made to keep something.

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use actioncontroller::proto::actions::{ActionSpec, ExecuteActionRequest, Outcome, Verb};
use actioncontroller::proto::actions_grpc::ActionControllerClient;
use protobuf::MessageField;

use super::calls::channel;
use super::report::Report;
use super::samples::Samples;
use super::support::daemon::{DaemonProcess, launch, on_target, options, pod};

/// Launches one after the other.
const ROUNDS: usize = 150;

/// Callers at the same time.
const CALLERS: usize = 16;

/// Launches of each of them.
const ROUNDS_OF_EACH: usize = 12;

/// Settings that put the simulator in Podman's place; `more` is YAML of `runtimes.sim`, one mapping's inside.
pub fn settings(more: &str) -> String {
    format!(
        "log: {{level: info}}\nruntimes:\n  preference: [sim]\n  podman: {{enabled: false}}\n  \
         sim: {{enabled: true{more}}}\n"
    )
}

/// An action's round trip.
pub fn execute(client: &ActionControllerClient, action: ActionSpec) -> Outcome {
    let request = ExecuteActionRequest { action: MessageField::some(action), ..Default::default() };
    let answer = client.execute_action(&request, options()).expect("the action succeeds");
    answer.outcome.unwrap_or_default()
}

/// The Pod of `name`, which sleeps.
pub fn sleeper(name: &str) -> String {
    pod(name, "localhost/busybox:1", "sleep 1000")
}

pub fn measure(report: &mut Report) {
    report.part("launches");
    let mut daemon = DaemonProcess::start(|_| settings(""));
    let at_rest = syncs_until_now(&mut daemon);
    one_caller(report, &daemon);
    let alone = syncs_until_now(&mut daemon).saturating_sub(at_rest);
    many_callers(report, &daemon);
    let together = syncs_until_now(&mut daemon).saturating_sub(at_rest);
    let per_action = |syncs: u64, launches: usize| format!("{:.2}", syncs as f64 / (2 * launches) as f64);
    report.value("syncs per action, one caller", per_action(alone, ROUNDS), "each is an intent and an outcome");
    let note = "less than 1 where half of the writes go together";
    report.value(&format!("syncs per action, {CALLERS} callers"), per_action(together, CALLERS * ROUNDS_OF_EACH), note);
}

fn one_caller(report: &mut Report, daemon: &DaemonProcess) {
    let client = ActionControllerClient::new(channel(&daemon.address()));
    let mut disk = File::create(daemon.path("synced")).unwrap();
    let [mut launches, mut stores, mut ends, mut syncs] = [(); 4].map(|()| Samples::default());
    for _ in 0..ROUNDS {
        let launched = launches.time(|| execute(&client, launch(&sleeper("alone"))));
        stores.push(Duration::from_micros(launched.phases.store_us));
        ends.time(|| execute(&client, on_target(Verb::VERB_TERMINATE, "alone")));
        syncs.time(|| {
            disk.write_all(&[1; 4096]).unwrap();
            disk.sync_data().unwrap();
        });
    }
    report.beside("launch, one container (sim)", &launches, "4 KiB written and synced", &syncs);
    report.beside("of which its two writes to the store", &stores, "4 KiB written and synced", &syncs);
    report.beside("terminate (sim)", &ends, "4 KiB written and synced", &syncs);
    let median = (launches.median() + ends.median()) / 2;
    report.value("actions per second, one caller", format!("{:.0}", median.as_secs_f64().recip()), "by the medians");
}

fn many_callers(report: &mut Report, daemon: &DaemonProcess) {
    let begun = Instant::now();
    let times = std::thread::scope(|scope| {
        let call = |number: usize| {
            let client = ActionControllerClient::new(channel(&daemon.address()));
            let (name, mut times) = (format!("caller-{number}"), Samples::default());
            for _ in 0..ROUNDS_OF_EACH {
                times.time(|| execute(&client, launch(&sleeper(&name))));
                times.time(|| execute(&client, on_target(Verb::VERB_TERMINATE, &name)));
            }
            times
        };
        let callers: Vec<_> = (0..CALLERS).map(|number| scope.spawn(move || call(number))).collect();
        let mut all = Samples::default();
        callers.into_iter().for_each(|caller| all.extend(caller.join().expect("the caller ends")));
        all
    });
    let rate = times.count() as f64 / begun.elapsed().as_secs_f64();
    report.time(&format!("launch or terminate of {CALLERS} callers (sim)"), &times);
    report.value(&format!("actions per second, {CALLERS} callers"), format!("{rate:.0}"), "four workers");
}

/// Ends the daemon, which then says how often it made the disk keep something since its start, and starts it again.
fn syncs_until_now(daemon: &mut DaemonProcess) -> u64 {
    let status = daemon.terminate();
    assert!(status.success(), "the daemon ended with {status}");
    let log = daemon.log();
    let line = log.lines().rev().find(|line| line.contains(" commits with ")).expect("the daemon tells its syncs");
    let before = line.split(" syncs").next().expect("split gives at least one part");
    let syncs = before.rsplit(' ').next().and_then(|word| word.parse().ok());
    let syncs = syncs.unwrap_or_else(|| panic!("no number of syncs in '{line}'"));
    daemon.start_again();
    wait_for_idle(daemon);
    syncs
}

/// After its start the daemon answers once before anything is timed.
fn wait_for_idle(daemon: &DaemonProcess) {
    let health = actioncontroller::proto::health_grpc::HealthClient::new(channel(&daemon.address()));
    super::calls::check(&health);
    // What that set off has ended by then.
    std::thread::sleep(Duration::from_millis(50));
}
