//! Bundles of the OCI runtime specification and systemd units through the real daemon.

use actioncontroller::proto::actions::{ActionSpec, Verb};
use grpcio::RpcStatusCode;

use super::{created, launched, on_engine, refusal};
use crate::support::daemon::{DaemonProcess, launch, on_target, with_sim};

const LAMP: &str = include_str!("../../fixtures/bundle.json");
const UNIT: &str = "[Unit]\nDescription=Lamp\n[Service]\nExecStart=/bin/sleep 1000\n";

// req: BM-03
#[test]
fn bundle_runs_under_its_name_with_its_root() {
    let settings = "security: {devices: [/dev/fuse]}\n";
    let daemon = DaemonProcess::start(|folder| format!("{}{settings}", with_sim(folder)));
    // The rig's own folder is all that may be mounted there.
    let (code, refused) = refusal(daemon.launch(LAMP));
    assert_eq!((code, refused.error.code.as_str()), (RpcStatusCode::PERMISSION_DENIED, "SECURITY_DENIED"));
    assert!(refused.error.message.contains("/var/lib/lamp/rootfs"), "{}", refused.error.message);
    let root = daemon.path("lamp").display().to_string();
    let text = LAMP.replace("/var/lib/lamp", &root);
    let done = launched(&daemon, &text);
    assert_eq!((done.target.as_str(), done.workloads[0].name.as_str()), ("lamp", "lamp"));
    let made = created(&daemon, "lamp_main");
    assert_eq!(made["spec"]["rootfs"], format!("{root}/rootfs"));
    assert_eq!((&made["network"]["mode"], &made["spec"]["command"][1]), (&"none".into(), &"--bright".into()));
    assert!(done.steps.iter().all(|step| !step.title.contains("pull")), "{:?}", done.steps);
    assert!(!launched(&daemon, &text).changed);
    let (_, refused) = refusal(daemon.launch(&text.replace("--bright", "--dim")));
    assert_eq!(refused.error.code, "WORKLOAD_DIFFERS");
    daemon.execute(on_target(Verb::VERB_TERMINATE, "lamp")).unwrap();
    assert!(daemon.execute(on_target(Verb::VERB_LAUNCH, "lamp")).unwrap().changed);
}

#[test]
fn unit_is_handed_on_as_it_is_where_the_ceiling_allows_units() {
    let named = ActionSpec { target: "lamp".to_owned(), ..launch(UNIT) };
    let strict = DaemonProcess::on_sim();
    let (code, refused) = refusal(strict.execute(named.clone()));
    assert_eq!((code, refused.error.code.as_str()), (RpcStatusCode::PERMISSION_DENIED, "SECURITY_DENIED"));

    let daemon = DaemonProcess::start(|folder| format!("{}security: {{units: true}}\n", with_sim(folder)));
    let (_, refused) = refusal(daemon.launch(UNIT));
    assert_eq!(refused.error.field, "X-ActionController.Name");
    assert!(daemon.execute(named).unwrap().changed);
    assert_eq!(created(&daemon, "lamp_unit")["spec"]["unit"], UNIT);
    daemon.execute(on_target(Verb::VERB_TERMINATE, "lamp")).unwrap();
    assert!(on_engine(&daemon).is_empty());
    // It is kept without a name of its own, under the one that it was given.
    assert!(daemon.execute(on_target(Verb::VERB_LAUNCH, "lamp")).unwrap().changed);
    let (_, refused) = refusal(daemon.launch("[Service]\nExecStart\n"));
    assert!(refused.error.message.contains("line 2"), "{}", refused.error.message);
    // Another node's systemd is out of the simulator's reach.
    let elsewhere = format!("{UNIT}[X-ActionController]\nName=far\nNode=ZONE1\n");
    let (_, refused) = refusal(daemon.launch(&elsewhere));
    assert!(refused.error.message.contains("remote"), "{:?}", refused.error);
}
