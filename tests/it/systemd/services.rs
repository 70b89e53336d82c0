//! All services of the node's own systemd: listed, watched, enabled and disabled, their files read anew.

use actioncontroller::proto::services::{ListServicesRequest, WatchServicesRequest};
use actioncontroller::proto::services_grpc::ServicesClient;
use futures_util::StreamExt;
use grpcio::CallOption;

use super::{LIMIT, Rig, UNIT, launch};
use crate::support::systemd::SystemdServer;
use crate::support::wait::until;

const RADIO: &str = "[Service]\nExecStart=/bin/sleep 1000\n[Install]\nWantedBy=default.target\n";

impl Rig {
    fn managing() -> Self {
        let rig = Self::with(SystemdServer::start(), "manage: true");
        rig.install("radio.service", RADIO);
        rig
    }

    fn install(&self, unit: &str, text: &str) {
        std::fs::write(self.server.units().join(unit), text).unwrap();
    }

    /// What the command says, and whether it succeeded.
    fn said(&self, arguments: &[&str]) -> (bool, String) {
        let output = self.daemon.ctl(&[&["services"], arguments].concat());
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap().trim().to_owned())
    }

    /// The state of a service, and whether it starts with the boot.
    fn listed(&self, unit: &str) -> Option<(String, String)> {
        let request = ListServicesRequest { unit: unit.to_owned(), ..Default::default() };
        let client = ServicesClient::new(self.daemon.channel());
        let found = client.list_services(&request, CallOption::default().timeout(LIMIT)).unwrap().services;
        found.into_iter().next().map(|service| (service.state.active.clone(), service.start))
    }
}

#[test]
fn units_are_enabled_and_disabled_once_and_what_runs_goes_on() {
    let rig = Rig::managing();
    assert_eq!(rig.listed("radio.service"), Some(("inactive".into(), "disabled".into())), "it is not loaded yet");
    let (is_done, said) = rig.said(&["enable", "radio.service"]);
    assert!(is_done && said.contains("symlink ") && said.ends_with("radio.service enabled"), "{said}");
    assert_eq!(
        rig.server.show("default.target", "Wants").split(' ').filter(|unit| *unit == "radio.service").count(),
        1
    );
    assert_eq!(rig.listed("radio.service"), Some(("inactive".into(), "enabled".into())), "nothing is started now");
    assert_eq!(rig.said(&["enable", "radio.service"]), (true, "radio.service unchanged".into()));
    assert_eq!(rig.said(&["disable", "radio.service"]).1.lines().last(), Some("radio.service disabled"));
    assert_eq!(rig.said(&["disable", "radio.service"]), (true, "radio.service unchanged".into()));
    assert!(!rig.server.show("default.target", "Wants").contains("radio.service"), "systemd has read it anew");
    let (is_done, said) = rig.said(&["enable", "--runtime", "radio.service"]);
    assert!(is_done && said.contains("symlink ") && said.contains("/run/"), "{said}");
    assert_eq!(rig.listed("radio.service").unwrap().1, "enabled-runtime");
}

#[test]
fn what_cannot_be_enabled_is_told_by_name_and_nothing_is_done() {
    let rig = Rig::managing();
    rig.install("plain.service", "[Service]\nExecStart=/bin/true\n");
    rig.daemon.done(launch(UNIT));
    for (units, why) in [
        (
            vec!["radio.service", "plain.service"],
            "'plain.service' is not possible while it is static: its file has no [Install]",
        ),
        (vec!["radio.service", "nowhere.service"], "nowhere.service"),
        (vec!["radio.service", "/etc/x.service"], "'/etc/x.service' is no name of a unit"),
        (vec!["actioncontroller-lamp_unit.service"], "workload of this daemon"),
    ] {
        let (is_done, said) = rig.said(&[&["enable"], units.as_slice()].concat());
        assert!(!is_done && said.contains(why), "{said}");
    }
    assert_eq!(rig.listed("radio.service").unwrap().1, "disabled", "none of several");
    let (is_done, said) = rig.said(&["enable", "--node", "elsewhere", "radio.service"]);
    assert!(!is_done && said.contains("elsewhere") && said.contains("runtimes.bluechi.enabled"), "{said}");
    let (is_done, said) = rig.said(&["stop", "agent"]);
    assert!(!is_done && said.contains("runtimes.bluechi.enabled"), "{said}");
}

#[test]
fn unit_files_are_read_anew_on_demand() {
    let rig = Rig::managing();
    assert_eq!(rig.listed("radio.service").unwrap().0, "inactive");
    assert_eq!(rig.server.show("radio.service", "Description"), "radio.service");
    rig.install("radio.service", &format!("[Unit]\nDescription=Radio\n{RADIO}"));
    assert_eq!(rig.said(&["reload"]), (true, "unit files read anew".into()));
    assert_eq!(rig.server.show("radio.service", "Description"), "Radio");
}

#[test]
fn services_are_listed_and_watched_without_leave_to_change_any() {
    let rig = Rig::new();
    rig.install("radio.service", RADIO);
    for refused in [vec!["enable", "radio.service"], vec!["disable", "radio.service"], vec!["reload"]] {
        let (is_done, said) = rig.said(&refused);
        assert!(!is_done && said.contains("runtimes.systemd.manage"), "{said}");
    }
    let (is_done, said) = rig.said(&[]);
    assert!(is_done && said.contains("online") && said.contains("this node"), "{said}");
    let client = ServicesClient::new(rig.daemon.channel());
    let watched = WatchServicesRequest { unit: "actioncontroller-lamp_unit.service".into(), ..Default::default() };
    let mut states = client.watch_services(&watched, CallOption::default().timeout(LIMIT)).unwrap();
    rig.daemon.done(launch(UNIT));
    let running = until("it is told of", LIMIT, || {
        let state = futures_executor::block_on(states.next()).unwrap().unwrap();
        (state.sub == "running").then_some(state)
    });
    assert_eq!(running.active, "active");
    let (is_done, said) = rig.said(&["list"]);
    let line = said.lines().find(|line| line.contains("actioncontroller-lamp_unit.service")).unwrap_or_default();
    assert!(is_done && line.contains("active (running)"), "{said}");
    assert!(said.lines().any(|line| line.contains("radio.service") && line.contains("disabled")), "{said}");
    let (_, names) = rig.said(&["list", "-o", "name", "dbus.service"]);
    assert_eq!(names, "dbus.service");
}
