//! The stand-in of BlueChi does what BlueChi 1.3.0 was seen doing, misbehaviour included: a client of its own on its bus, in
//! plain messages.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use zbus::Message;
use zbus::zvariant::{OwnedObjectPath, OwnedValue, Structure, Value};

use crate::support::bluechi::client::{Client, all_said, path_in, removed, said};
use crate::support::bluechi::wire::{
    AGENT, CONTROLLER, DRIVER, Fault, JOB, MONITOR, NAME, NODE, PROPERTIES, ROOT, text,
};
use crate::support::bluechi::{AGENT_UNIT, BluechiStandIn};
use crate::support::wait::until;

const LIMIT: Duration = Duration::from_secs(20);

const MAIN: &str = "/org/eclipse/bluechi/node/main";
const WORKER: &str = "/org/eclipse/bluechi/node/worker_2d1";

/// Starts at once and runs on.
const LAMP: &str = "[Service]\nType=exec\nExecStart=/bin/sleep infinity\n";

/// Takes its time to start.
const SLOW: &str = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sleep 1\n";

/// Never has started.
const NEVER: &str = "[Service]\nType=oneshot\nExecStart=/bin/sleep infinity\n";

fn started() -> (BluechiStandIn, Client) {
    let stand_in = BluechiStandIn::start(&["main", "worker-1"]);
    for node in ["main", "worker-1"] {
        for (name, text) in [("lamp", LAMP), ("slow", SLOW), ("never", NEVER)] {
            fs::write(stand_in.server(node).units().join(format!("{name}.service")), text).unwrap();
        }
    }
    let client = Client::new(&stand_in.socket());
    (stand_in, client)
}

#[test]
fn job_is_told_before_its_answer_and_its_end_after() {
    let (_stand_in, client) = started();
    client.job(MAIN, "StartUnit", "slow.service");
    let end = client.await_signal("JobRemoved");
    assert_eq!(removed(&end), (1, format!("{ROOT}/job/1"), "main".into(), "slow.service".into(), "done".into()));
    client.drain();

    let call = Message::method_call(MAIN, "RestartUnit").unwrap().destination(NAME).unwrap().interface(NODE).unwrap();
    client.link.connection.send(&call.build(&("slow.service", "replace")).unwrap()).unwrap();
    let mut heard = vec![client.await_signal("JobNew")];
    let made: (u32, OwnedObjectPath) = heard[0].body().deserialize().unwrap();
    assert_eq!((made.0, made.1.as_str()), (2, "/org/eclipse/bluechi/job/2"));
    while said(heard.last().unwrap()) != "JobRemoved" {
        heard.push(client.await_message("the job's end", |_| true));
    }
    let mut order = all_said(&heard);
    assert_eq!((order.pop().as_deref(), order[1].as_str()), (Some("JobRemoved"), "reply"), "{order:?}");
    assert!(order[2..].iter().all(|state| state == "PropertiesChanged"), "{order:?}");
    let states = heard.iter().filter(|message| said(message) == "PropertiesChanged").map(|message| {
        let (interface, changed, _): (String, HashMap<String, OwnedValue>, Vec<String>) =
            message.body().deserialize().unwrap();
        assert_eq!(interface, JOB);
        text(&changed["State"]).unwrap()
    });
    assert!(states.collect::<Vec<_>>().contains(&"running".to_owned()), "{order:?}");
    let gone = client.property("/org/eclipse/bluechi/job/2", JOB, "State").unwrap_err();
    assert_eq!(gone.name, "org.freedesktop.DBus.Error.UnknownObject");
}

#[test]
fn results_are_systemd_s_words_and_a_cancelled_job_has_one_l() {
    let (stand_in, client) = started();
    fs::write(
        stand_in.server("main").units().join("broken.service"),
        "[Service]\nType=oneshot\nExecStart=/bin/false\n",
    )
    .unwrap();
    assert_eq!(client.run(MAIN, "StartUnit", "lamp.service").1, "done");
    assert_eq!(client.run(MAIN, "StartUnit", "lamp.service").1, "done", "it is active already");
    assert_eq!(client.run(MAIN, "StopUnit", "lamp.service").1, "done");
    assert_eq!(client.run(MAIN, "StartUnit", "broken.service").1, "failed");
    let job = client.job(MAIN, "StartUnit", "never.service");
    let shown = client.ask(&job, PROPERTIES, "GetAll", &JOB).unwrap();
    let shown: HashMap<String, OwnedValue> = shown.body().deserialize().unwrap();
    let words = ["Node", "Unit", "JobType"].map(|name| text(&shown[name]).unwrap());
    assert_eq!(words, ["main", "never.service", "start"], "{shown:?}");
    client.drain();
    client.ask(&job, JOB, "Cancel", &()).unwrap();
    assert_eq!(removed(&client.await_signal("JobRemoved")).4, "canceled");
    assert_eq!(client.ask(&job, JOB, "Cancel", &()).unwrap_err().name, "org.freedesktop.DBus.Error.UnknownObject");
}

#[test]
fn refused_start_is_an_error_and_uses_up_a_number() {
    let (_stand_in, client) = started();
    assert_eq!(client.run(MAIN, "StartUnit", "lamp.service").0, 1);
    client.drain();
    let refused = client.ask(MAIN, NODE, "StartUnit", &("nothing.service", "replace")).unwrap_err();
    assert_eq!(refused.name, "org.freedesktop.systemd1.NoSuchUnit", "{refused:?}");
    assert!(refused.text.contains("nothing.service"), "{refused:?}");
    let refused = client.ask(MAIN, NODE, "StartUnit", &("lamp.service", "sideways")).unwrap_err();
    assert_eq!(refused.name, "org.freedesktop.DBus.Error.InvalidArgs", "{refused:?}");
    let refused = client.ask(MAIN, NODE, "ReloadUnit", &("lamp.service", "replace")).unwrap_err();
    assert_eq!(refused.name, "org.freedesktop.systemd1.JobTypeNotApplicable", "{refused:?}");
    let heard = all_said(&client.rest());
    assert!(!heard.iter().any(|said| said.starts_with("Job")), "{heard:?}");
    assert_eq!(client.run(MAIN, "StopUnit", "lamp.service").0, 5);
}

#[test]
fn transient_unit_is_started_by_a_job_of_systemd_of_which_nothing_is_told() {
    let (_stand_in, client) = started();
    client.drain();
    let command = vec![("/bin/sleep", vec!["sleep", "infinity"], false)];
    let properties = vec![("ExecStart", Value::from(command)), ("Type", Value::from("exec"))];
    let none: Vec<(&str, Vec<(&str, Value<'_>)>)> = Vec::new();
    let job = client.ask(MAIN, NODE, "StartTransientUnit", &("passing.service", "replace", properties, none)).unwrap();
    assert!(path_in(&job).starts_with("/org/freedesktop/systemd1/job/"), "{job:?}");
    until("the unit is active", LIMIT, || {
        let asked = ("passing.service", "org.freedesktop.systemd1.Unit", "ActiveState");
        let state = client.ask(MAIN, NODE, "GetUnitProperty", &asked).ok()?.body().deserialize::<OwnedValue>().ok()?;
        text(&state).filter(|state| state == "active")
    });
    let heard = all_said(&client.rest());
    assert!(!heard.iter().any(|said| said.starts_with("Job")), "{heard:?}");
}

#[test]
fn what_is_put_to_systemd_comes_back_as_its_own() {
    let (_stand_in, client) = started();
    assert_eq!(client.run(MAIN, "StartUnit", "lamp.service").1, "done");
    let asked = ("lamp.service", "org.freedesktop.systemd1.Service");
    let answer = client.ask(MAIN, NODE, "GetUnitProperties", &asked).unwrap();
    let service: HashMap<String, OwnedValue> = answer.body().deserialize().unwrap();
    assert!(service["MainPID"].downcast_ref::<u32>().unwrap() > 0);
    client.ask(MAIN, NODE, "FreezeUnit", &"lamp.service").unwrap();
    client.ask(MAIN, NODE, "ThawUnit", &"lamp.service").unwrap();
    let properties = vec![("Description", Value::from("Bright"))];
    client.ask(MAIN, NODE, "SetUnitProperties", &("lamp.service", true, properties)).unwrap();
    client.ask(MAIN, NODE, "KillUnit", &("lamp.service", "all", 9_i32)).unwrap();
    client.ask(MAIN, NODE, "ResetFailed", &()).unwrap();
    client.ask(MAIN, NODE, "Reload", &()).unwrap();
    let state: String =
        client.ask(MAIN, NODE, "GetUnitFileState", &"lamp.service").unwrap().body().deserialize().unwrap();
    assert_eq!(state, "static");
    let enabled = client.ask(MAIN, NODE, "EnableUnitFiles", &(vec!["lamp.service"], true, false)).unwrap();
    let (carries, _): (bool, Vec<(String, String, String)>) = enabled.body().deserialize().unwrap();
    assert!(!carries, "it has no [Install]");
    let target: String = client.ask(MAIN, NODE, "GetDefaultTarget", &()).unwrap().body().deserialize().unwrap();
    assert_eq!(target, "default.target");
    let files: HashMap<String, Vec<(String, String)>> =
        client.ask(ROOT, CONTROLLER, "ListUnitFiles", &()).unwrap().body().deserialize().unwrap();
    assert!(files["main"].iter().any(|(path, _)| path.ends_with("/lamp.service")), "{files:?}");
    let unfit = client.ask(MAIN, NODE, "StartUnit", &"lamp.service").unwrap_err();
    assert_eq!(unfit.name, "org.freedesktop.DBus.Error.InvalidArgs");
    let unknown = client.ask(MAIN, NODE, "NoSuchMethod", &()).unwrap_err();
    assert_eq!(unknown.name, "org.freedesktop.DBus.Error.UnknownMethod");
}

#[test]
fn jobs_of_a_lost_node_vanish_and_its_units_go_on() {
    let (stand_in, client) = started();
    client.monitor("*", "*");
    let job = client.job(WORKER, "StartUnit", "slow.service");
    client.drain();
    stand_in.lose("worker-1");
    // Mounts of the machine come and go meanwhile.
    let of_all = |message: &Message, name: &str, words: &[&str]| {
        said(message) == name
            && message.body().deserialize::<Structure<'_>>().unwrap().fields()
                == words.iter().map(|word| Value::from(*word)).collect::<Vec<_>>()
    };
    let state = ["worker-1", "*", "inactive", "agent-offline", "virtual"];
    client.await_message("its state", |message| of_all(message, "UnitStateChanged", &state));
    client.await_message("its end", |message| of_all(message, "UnitRemoved", &["worker-1", "*", "virtual"]));

    assert_eq!(client.property(&job, JOB, "Id").unwrap_err().name, "org.freedesktop.DBus.Error.UnknownObject");
    assert_eq!(
        (client.status(WORKER, NODE).as_str(), client.status(ROOT, CONTROLLER).as_str()),
        ("offline", "degraded")
    );
    let offline = client.ask(WORKER, NODE, "ListUnits", &()).unwrap_err();
    assert_eq!(offline, Fault::new("org.eclipse.bluechi.Offline", "Node is offline"));
    let listed: HashMap<String, Vec<UnitRow>> =
        client.ask(ROOT, CONTROLLER, "ListUnits", &()).unwrap().body().deserialize().unwrap();
    assert_eq!(listed.keys().collect::<Vec<_>>(), ["main"]);

    stand_in.bring_back("worker-1");
    client.await_message("its return", |message| of_all(message, "UnitNew", &["worker-1", "*", "virtual"]));
    until("the unit has started all the same", LIMIT, || {
        let asked = ("slow.service", "org.freedesktop.systemd1.Unit", "ActiveState");
        let state =
            client.ask(WORKER, NODE, "GetUnitProperty", &asked).ok()?.body().deserialize::<OwnedValue>().ok()?;
        text(&state).filter(|state| state == "active")
    });
    let order = all_said(&client.rest());
    assert!(!order.contains(&"JobRemoved".to_owned()), "{order:?}");
    assert_eq!(client.status(ROOT, CONTROLLER), "up");
}

/// A unit as `ListUnits` has it.
type UnitRow = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

#[test]
fn monitor_tells_its_owner_and_peers_alone_and_goes_with_its_owner() {
    let (stand_in, client) = started();
    let (peer, stranger) = (Client::new(&stand_in.socket()), Client::new(&stand_in.socket()));
    let monitor = client.monitor("main", "lamp.service");
    let entry = client.ask(&monitor, MONITOR, "AddPeer", &peer.link.name()).unwrap();
    let entry: u32 = entry.body().deserialize().unwrap();
    let refused = client.ask(&monitor, MONITOR, "AddPeer", &client.link.name()).unwrap_err();
    assert_eq!(refused.name, "org.freedesktop.DBus.Error.InvalidArgs");
    let refused = client.ask(&monitor, MONITOR, "Unsubscribe", &9999_u32).unwrap_err();
    assert_eq!(refused.name, "org.freedesktop.DBus.Error.Failed");
    client.ask(&monitor, MONITOR, "Subscribe", &("nowhere", "*")).unwrap();

    stranger.drain();
    assert_eq!(client.run(MAIN, "StartUnit", "slow.service").1, "done");
    let quiet = all_said(&peer.rest());
    assert!(!quiet.iter().any(|said| said.starts_with("Unit")), "another unit: {quiet:?}");
    client.job(MAIN, "StartUnit", "lamp.service");
    for told in [&client, &peer] {
        let is_active = |message: &Message| {
            said(message) == "UnitStateChanged"
                && message.body().deserialize::<(String, String, String, String, String)>().unwrap()
                    == ["main", "lamp.service", "active", "running", "real"].map(str::to_owned).into()
        };
        told.await_message("its state", is_active);
    }
    let overheard = all_said(&stranger.rest());
    assert!(!overheard.iter().any(|said| said.starts_with("Unit")), "{overheard:?}");
    client.ask(&monitor, MONITOR, "RemovePeer", &(entry, "enough")).unwrap();
    let reason: String = peer.await_signal("PeerRemoved").body().deserialize().unwrap();
    assert_eq!(reason, "enough");

    let others = peer.monitor("*", "*");
    client.ask(&monitor, MONITOR, "Close", &()).unwrap();
    let closed = client.ask(&monitor, MONITOR, "Close", &()).unwrap_err();
    assert_eq!(closed.name, "org.freedesktop.DBus.Error.UnknownObject");
    drop(peer);
    until("the monitor is gone", LIMIT, || {
        client.ask(&others, MONITOR, "Unsubscribe", &0_u32).err().filter(|fault| fault.name.ends_with("UnknownObject"))
    });
}

#[test]
fn controller_that_is_started_anew_counts_from_one_and_has_no_monitors() {
    let (stand_in, client) = started();
    assert_eq!(client.run(MAIN, "StartUnit", "lamp.service").0, 1);
    assert_eq!(client.run(MAIN, "StopUnit", "lamp.service").0, 2);
    let monitor = client.monitor("*", "*");
    client.drain();
    stand_in.restart_controller();
    let mut owners = Vec::new();
    while owners.len() < 2 {
        let (name, before, after): (String, String, String) =
            client.await_signal("NameOwnerChanged").body().deserialize().unwrap();
        if name == NAME {
            owners.push((before.is_empty(), after.is_empty()));
        }
    }
    assert_eq!(owners, [(false, true), (true, false)], "gone, and there again");
    assert_eq!(client.status(WORKER, NODE), "online");
    let gone = client.ask(&monitor, MONITOR, "Close", &()).unwrap_err();
    assert_eq!(gone.name, "org.freedesktop.DBus.Error.UnknownObject");
    assert_eq!(client.run(MAIN, "StartUnit", "lamp.service").0, 1);
}

#[test]
fn nodes_are_listed_and_some_properties_only_told_by_name() {
    let (_stand_in, client) = started();
    let listed: Vec<(String, OwnedObjectPath, String, String)> =
        client.ask(ROOT, CONTROLLER, "ListNodes", &()).unwrap().body().deserialize().unwrap();
    let worker = &listed[1];
    let words = (worker.0.as_str(), worker.1.as_str(), worker.2.as_str(), worker.3.as_str());
    assert_eq!(words, ("worker-1", WORKER, "online", "::ffff:127.0.0.1"));
    assert_eq!(path_in(&client.ask(ROOT, CONTROLLER, "GetNode", &"main").unwrap()).as_str(), MAIN);
    let unknown = client.ask(ROOT, CONTROLLER, "GetNode", &"nobody").unwrap_err();
    assert_eq!(unknown, Fault::of_bus("ServiceUnknown", "Node not found"));
    let all: HashMap<String, OwnedValue> =
        client.ask(WORKER, PROPERTIES, "GetAll", &NODE).unwrap().body().deserialize().unwrap();
    let mut names: Vec<_> = all.keys().collect();
    names.sort();
    assert_eq!(names, ["Name", "Status"]);
    assert_eq!(text(&client.property(WORKER, NODE, "PeerIp").unwrap()).as_deref(), Some("::ffff:127.0.0.1"));
    assert_eq!(text(&client.property(ROOT, CONTROLLER, "LogLevel").unwrap()).as_deref(), Some("INFO"));
    client.ask(ROOT, CONTROLLER, "EnableMetrics", &()).unwrap();
    let twice = client.ask(ROOT, CONTROLLER, "EnableMetrics", &()).unwrap_err();
    assert_eq!(twice, Fault::of_bus("InconsistentMessage", "Metrics already enabled"));
}

#[test]
fn controller_that_hangs_keeps_its_name_and_answers_afterwards() {
    let (stand_in, client) = started();
    stand_in.hang(true);
    client.drain();
    let call = Message::method_call(MAIN, "ListUnits").unwrap().destination(NAME).unwrap().interface(NODE).unwrap();
    client.link.connection.send(&call.build(&()).unwrap()).unwrap();
    assert_eq!(all_said(&client.rest()), Vec::<String>::new());
    let owner = client.link.ask(DRIVER, "/org/freedesktop/DBus", DRIVER, "GetNameOwner", &NAME);
    assert!(owner.is_ok());
    client.drain();
    stand_in.hang(false);
    client.await_signal("reply");
    client.job(MAIN, "StartUnit", "slow.service");
    client.drain();
    stand_in.hang(true);
    stand_in.lose("worker-1");
    stand_in.bring_back("worker-1");
    stand_in.lose("worker-1");
    let is_of_it = |message: &Message| message.header().sender().is_none_or(|sender| sender.as_str() != DRIVER);
    assert!(!client.rest().iter().any(is_of_it), "nothing is said");
    stand_in.hang(false);
    client.await_signal("JobRemoved");
    assert_eq!(client.status(WORKER, NODE), "offline");
    stand_in.hang(true);
    stand_in.restart_controller();
    assert_eq!(client.status(ROOT, CONTROLLER), "degraded", "it was another that hung");
}

#[test]
fn agent_is_on_its_node_s_bus_as_long_as_its_unit_is_active() {
    let (mut stand_in, client) = started();
    let local = Client::new(&stand_in.server("worker-1").socket());
    let status = || {
        let answer = local.link.ask(AGENT, ROOT, PROPERTIES, "Get", &(AGENT, "Status"))?;
        Ok::<_, Fault>(text(&answer.body().deserialize::<OwnedValue>().unwrap()).unwrap())
    };
    assert_eq!(status().unwrap(), "online");
    stand_in.link("worker-1", false);
    assert_eq!((status().unwrap(), client.status(WORKER, NODE)), ("offline".into(), "offline".into()));
    stand_in.link("worker-1", true);
    local.link.ask(AGENT, ROOT, AGENT, "SwitchController", &"tcp:host=192.0.2.10,port=842").unwrap();
    assert_eq!(client.status(WORKER, NODE), "offline", "it is with another controller");
    stand_in.link("worker-1", true);
    local.link.ask_systemd("StopUnit", &(AGENT_UNIT, "replace")).unwrap();
    until("the node is offline", LIMIT, || (client.status(WORKER, NODE) == "offline").then_some(()));
    assert_eq!(status().unwrap_err().name, "org.freedesktop.DBus.Error.ServiceUnknown");
    stand_in.bring_back("worker-1");
    stand_in.stop_controller();
    assert_eq!(status().unwrap(), "offline");
    stand_in.start_controller();
    assert_eq!(status().unwrap(), "online");
    stand_in.server_mut("worker-1").kill();
    until("the node is offline", LIMIT, || (client.status(WORKER, NODE) == "offline").then_some(()));
    stand_in.lose("main");
    assert_eq!(client.status(ROOT, CONTROLLER), "down");
}

#[test]
fn unit_of_another_node_starts_with_its_dependant_and_stays_after_it() {
    let stand_in = BluechiStandIn::start(&["main", "worker1"]);
    let dependant = "[Unit]\nWants=bluechi-proxy@worker1_lamp.service\nAfter=bluechi-proxy@worker1_lamp.service\n";
    fs::write(stand_in.server("main").units().join("car.service"), dependant.to_owned() + LAMP).unwrap();
    fs::write(stand_in.server("worker1").units().join("lamp.service"), LAMP).unwrap();
    let client = Client::new(&stand_in.socket());
    let lamp = || {
        let asked = ("lamp.service", "org.freedesktop.systemd1.Unit", "ActiveState");
        let answer = client.ask("/org/eclipse/bluechi/node/worker1", NODE, "GetUnitProperty", &asked).unwrap();
        text(&answer.body().deserialize::<OwnedValue>().unwrap()).unwrap()
    };
    assert_eq!(client.run(MAIN, "StartUnit", "car.service").1, "done");
    assert_eq!(lamp(), "inactive", "the controller's configuration does not allow it");
    client.run(MAIN, "StopUnit", "car.service");
    client.run(MAIN, "StopUnit", "bluechi-proxy@worker1_lamp.service");
    stand_in.allow_dependencies("main", "worker1");
    assert_eq!(client.run(MAIN, "StartUnit", "car.service").1, "done");
    assert_eq!(lamp(), "active");
    client.run(MAIN, "StopUnit", "car.service");
    client.run(MAIN, "StopUnit", "bluechi-proxy@worker1_lamp.service");
    assert_eq!(lamp(), "active");
}
