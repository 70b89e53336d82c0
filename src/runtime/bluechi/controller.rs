//! What BlueChi's controller is asked.
//!
//! A job is awaited by `JobRemoved`, whose rule is there before the call. It never comes where the node or the controller
//! was lost meanwhile, which their own signals tell; the unit's state tells then what came of it, once its node is back.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{BluechiConfig, ENGINE};
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::model::resources::Resources;
use crate::runtime::adapter::{Call, ContainerConfig, RtResult, RuntimeCapabilities, RuntimeError, unsupported};
use crate::runtime::nodes::ServiceState;
use crate::runtime::shared::calls::late;
use crate::runtime::units::answers::{JobEnd, failure, garbled, limits, pause};
use crate::runtime::units::files::UnitFiles;
use crate::runtime::units::installed::{self, ListedUnit};
use crate::runtime::units::manager::{Answers, Changes, Told, Unit, UnitManager};
use crate::runtime::units::status::{number, text};
use crate::runtime::units::text::is_transient;
use crate::runtime::units::{OWN_UNITS, groups, name_of_path, path_element, transient, unit_owned};
use crate::transport::dbus::{
    Bus, DbusError, Limits, Message, OwnedObjectPath, OwnedValue, Properties, Signals, Target, Value, member, path,
    zvariant,
};

const NAME: &str = "org.eclipse.bluechi";
pub(super) const OBJECT: &str = "/org/eclipse/bluechi";
const CONTROLLER: Target<'static> =
    Target { destination: NAME, path: OBJECT, interface: "org.eclipse.bluechi.Controller" };
const NODE: &str = "org.eclipse.bluechi.Node";
const MONITOR: &str = "org.eclipse.bluechi.Monitor";

/// Interfaces of systemd's.
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";

/// Between two looks whether a job is still there.
const LOOK: Duration = Duration::from_secs(1);

/// Between two looks whether a node is back.
const POLL: Duration = Duration::from_millis(50);

/// How long a node may take to come back, whose job nobody knows of any more: agents call again within 2 s.
const RETURN: Duration = Duration::from_secs(10);

/// How long closing a monitor may take.
const CLOSE: Duration = Duration::from_secs(1);

/// Ends of jobs.
const JOBS: &str = "type='signal',sender='org.eclipse.bluechi',interface='org.eclipse.bluechi.Controller',\
    member='JobRemoved'";

/// Nodes that were lost, or came back.
const NODES: &str = "type='signal',sender='org.eclipse.bluechi',path_namespace='/org/eclipse/bluechi/node',\
    interface='org.freedesktop.DBus.Properties',member='PropertiesChanged'";

/// The controller under another name on the bus, or none.
const OWNER: &str = "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',\
    member='NameOwnerChanged',arg0='org.eclipse.bluechi'";

/// A node as it is listed: name, object, status, address.
pub(super) type Listed = (String, OwnedObjectPath, String, String);

/// BlueChi's controller on a bus.
pub struct Controller {
    bus: Bus,
    /// What BlueChi calls this node.
    own: String,
    /// What everybody else calls it.
    here: String,
    files: UnitFiles,
}

impl Controller {
    /// The one on this bus.
    pub(super) fn new(bus: Bus, config: &BluechiConfig) -> Self {
        let (own, here) = (config.own.clone(), config.node.clone());
        Self { bus, own, here, files: UnitFiles::new(config.unit_dir.clone()) }
    }

    /// Whether it is this node that is named so, here or by BlueChi; nothing names it as well.
    pub(super) fn is_here(&self, node: &str) -> bool {
        node.is_empty() || node == self.own || node == self.here
    }

    fn node<'a>(&'a self, unit: &'a Unit) -> &'a str {
        if unit.is_here() { &self.own } else { &unit.node }
    }

    /// Asks a unit's node.
    pub(super) fn ask<B, A>(&self, call: &Call, unit: &Unit, member: &str, body: &B) -> RtResult<A>
    where
        B: Serialize + zvariant::DynamicType,
        A: DeserializeOwned + zvariant::Type,
    {
        let node = self.node(unit);
        let path = node_path(node);
        let asked =
            self.bus.call(limits(call), Target { destination: NAME, path: &path, interface: NODE }, member, body);
        asked.map_err(|error| node_failure(node, member, error))
    }

    fn get(&self, call: &Call, path: &str, interface: &str, property: &str) -> Result<OwnedValue, DbusError> {
        self.bus.property(limits(call), Target { destination: NAME, path, interface }, property)
    }

    /// Whether the node's agent is connected; fails where the node is not known.
    pub(super) fn is_online(&self, call: &Call, node: &str) -> RtResult<bool> {
        let status = self.get(call, &node_path(node), NODE, "Status");
        let status = status.map_err(|error| node_failure(node, "Status", error))?;
        let status = String::try_from(status).map_err(|error| garbled(ENGINE, "Status", &error))?;
        Ok(status == "online")
    }

    /// Fails where the node is not known, or is away.
    fn check_node(&self, call: &Call, node: &str) -> RtResult<()> {
        if self.is_online(call, node)? { Ok(()) } else { Err(away(node, "is offline")) }
    }

    /// Its own status: `up`, `degraded` or `down`.
    pub(super) fn status(&self, call: &Call) -> RtResult<String> {
        let status = self.get(call, OBJECT, CONTROLLER.interface, "Status");
        let status = status.map_err(|error| failure(ENGINE, "Status", error))?;
        String::try_from(status).map_err(|error| garbled(ENGINE, "Status", &error))
    }

    /// All nodes that may connect.
    pub(super) fn list_nodes(&self, call: &Call) -> RtResult<Vec<Listed>> {
        let listed = self.bus.call(limits(call), CONTROLLER, "ListNodes", &());
        listed.map_err(|error| failure(ENGINE, "ListNodes", error))
    }

    /// The units of all nodes that are connected.
    pub(super) fn list_units(&self, call: &Call) -> RtResult<Vec<ServiceState>> {
        let listed: Result<BTreeMap<String, Vec<ListedUnit>>, _> =
            self.bus.call(limits(call), CONTROLLER, "ListUnits", &());
        let listed = listed.map_err(|error| failure(ENGINE, "ListUnits", error))?;
        let of_node = |(node, units): (String, Vec<ListedUnit>)| {
            units.into_iter().map(|unit| installed::state(&node, unit)).collect::<Vec<_>>()
        };
        Ok(listed.into_iter().flat_map(of_node).collect())
    }

    /// Asks for what a node cannot answer, because it goes away by it; waits until it has.
    pub(super) fn lose_node(&self, call: &Call, method: &str, unit: &Unit) -> RtResult<()> {
        let begun = Instant::now();
        let at = node_path(&unit.node);
        let signals = self.signals(call, &[NODES, OWNER], |message| {
            matches!(member(message).as_str(), "PropertiesChanged" | "NameOwnerChanged")
        })?;
        let target = Target { destination: NAME, path: &at, interface: NODE };
        let job: Result<OwnedObjectPath, _> =
            signals.call(limits(call), target, method, &(unit.name.as_str(), "replace"));
        if let Err(error) = job {
            // It may be gone before it has answered.
            return match self.is_online(call, &unit.node) {
                Ok(false) => Ok(()),
                _ => Err(node_failure(&unit.node, method, error)),
            };
        }
        loop {
            match signals.next(limits(call), None).map_err(|error| failure(ENGINE, method, error))? {
                Some(message) if member(&message) == "NameOwnerChanged" => return Err(moved(method)),
                Some(message) if path(&message) == at && status_of(&message) == "offline" => return Ok(()),
                Some(_) => {}
                None => return Err(late(method, begun)),
            }
        }
    }

    /// A monitor of units, `*` for all, of a node, `*` for all. Of what it tells those units are queued that are wanted.
    pub(super) fn monitor(
        &self,
        call: &Call,
        node: &str,
        unit: &str,
        is_wanted: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> RtResult<Watched> {
        // Others' signals come by the same connection.
        let own = Arc::new(OnceLock::<String>::new());
        let known = Arc::clone(&own);
        let signals = self.signals(call, &[NODES, OWNER], move |message| match member(message).as_str() {
            "PropertiesChanged" | "NameOwnerChanged" => true,
            "UnitStateChanged" => {
                known.get().is_some_and(|own| *own == path(message))
                    && state_of(message).is_some_and(|state| is_wanted(&state.unit))
            }
            _ => false,
        })?;
        let refused = |op: &'static str| move |error| failure(ENGINE, op, error);
        // Its signals come to who has made it.
        let monitor: OwnedObjectPath =
            signals.call(limits(call), CONTROLLER, "CreateMonitor", &()).map_err(refused("CreateMonitor"))?;
        own.get_or_init(|| monitor.as_str().to_owned());
        let watched = Watched { signals, monitor, cancel: call.cancel.clone() };
        let _subscription: u32 = watched.ask(limits(call), "Subscribe", &(node, unit)).map_err(refused("Subscribe"))?;
        Ok(watched)
    }

    fn signals(
        &self,
        call: &Call,
        rules: &[&str],
        wanted: impl Fn(&Message) -> bool + Send + Sync + 'static,
    ) -> RtResult<Signals> {
        self.bus.subscribe(limits(call), NAME, rules, wanted).map_err(|error| failure(ENGINE, "AddMatch", error))
    }

    /// Starts or stops the unit and waits for the job's end.
    fn run_job(&self, call: &Call, method: &str, unit: &Unit) -> RtResult<JobEnd> {
        let begun = Instant::now();
        let node = self.node(unit);
        let at = node_path(node);
        let signals = self.signals(call, &[JOBS, NODES, OWNER], |message| {
            matches!(member(message).as_str(), "JobRemoved" | "PropertiesChanged" | "NameOwnerChanged")
        })?;
        let target = Target { destination: NAME, path: &at, interface: NODE };
        let job: OwnedObjectPath = signals
            .call(limits(call), target, method, &(unit.name.as_str(), "replace"))
            .map_err(|error| node_failure(node, method, error))?;
        let (mut is_missed, mut looked) = (false, Instant::now());
        loop {
            let limits = Limits { deadline: call.deadline.at_most(LOOK), cancel: call.cancel };
            let told = signals.next(limits, None).map_err(|error| failure(ENGINE, method, error))?;
            let mut is_lost = match &told {
                Some(message) => match member(message).as_str() {
                    "JobRemoved" => {
                        let removed = message.body().deserialize::<(u32, OwnedObjectPath, String, String, String)>();
                        match removed {
                            Ok((_, path, of, name, result)) if path == job && of == node && name == unit.name => {
                                return Ok(JobEnd::of(&result));
                            }
                            _ => false,
                        }
                    }
                    "PropertiesChanged" => path(message) == at && status_of(message) == "offline",
                    // Job ids start again at 1 with the next one.
                    _ => true,
                },
                None => false,
            };
            if call.deadline.is_over() {
                return Err(late(method, begun));
            }
            if !is_lost && looked.elapsed() >= LOOK {
                // It was over at the last look already, and the signals from before that have been read.
                is_lost = is_missed;
                (is_missed, looked) = (!self.is_there(call, &job)?, Instant::now());
            }
            if is_lost {
                self.await_return(call, node)?;
                return Ok(JobEnd::Vanished);
            }
        }
    }

    fn is_there(&self, call: &Call, job: &OwnedObjectPath) -> RtResult<bool> {
        match self.get(call, job.as_str(), "org.eclipse.bluechi.Job", "Id") {
            Ok(_) => Ok(true),
            Err(DbusError::Refused { name, .. }) if name.ends_with(".UnknownObject") => Ok(false),
            Err(error) => Err(failure(ENGINE, "Id", error)),
        }
    }

    /// Waits until the node is there again; fails as it is away where it does not come back in time.
    pub(super) fn await_return(&self, call: &Call, node: &str) -> RtResult<()> {
        let deadline = call.deadline.at_most(RETURN);
        loop {
            match self.check_node(call, node) {
                Err(RuntimeError::EngineNotAvailable { .. } | RuntimeError::Connection { .. })
                    if !deadline.is_over() => {}
                other => return other,
            }
            pause(call, "wait for the node", POLL)?;
        }
    }

    fn interface(&self, call: &Call, unit: &Unit, interface: &str) -> RtResult<Properties> {
        self.ask(call, unit, "GetUnitProperties", &(unit.name.as_str(), interface))
    }

    /// systemd's own scope on this node: a group like those of services, and there with every systemd.
    fn scope(&self, call: &Call) -> RtResult<Properties> {
        let scope = Unit { node: String::new(), name: "init.scope".to_owned() };
        let mut properties = self.interface(call, &scope, UNIT)?;
        properties.extend(self.interface(call, &scope, "org.freedesktop.systemd1.Scope")?);
        Ok(properties)
    }

    /// What can be done on this node.
    fn abilities(&self, call: &Call) -> RtResult<RuntimeCapabilities> {
        let scope = self.scope(call)?;
        Ok(RuntimeCapabilities {
            supports_service_management: true,
            supports_dependencies: true,
            supports_remote_execution: true,
            supports_node_isolation: true,
            supports_pause: matches!(scope.get("CanFreeze").map(|can| &**can), Some(Value::Bool(true))),
            supports_stats: accounts(&scope, "pids"),
            supports_events: true,
            supports_resource_limits: accounts(&scope, "memory") || accounts(&scope, "pids"),
            supports_rootfs: true,
            ..RuntimeCapabilities::default()
        })
    }
}

/// Whether systemd has the controller for the group with these properties. That of CPUs is not told: whether a limit of it
/// took effect is seen after the start.
fn accounts(group: &Properties, controller: &str) -> bool {
    let property = match controller {
        "memory" => "MemoryCurrent",
        "pids" => "TasksCurrent",
        _ => return true,
    };
    // What is not accounted for is the largest number, which `number` has no room for.
    number(group, property).is_some()
}

impl UnitManager for Controller {
    fn engine(&self) -> &'static str {
        ENGINE
    }

    fn probe(&self, call: &Call) -> RtResult<Answers> {
        self.check(call)?;
        let usual = RuntimeCapabilities {
            supports_service_management: true,
            supports_dependencies: true,
            supports_remote_execution: true,
            supports_events: true,
            ..RuntimeCapabilities::default()
        };
        // Other nodes are there where this one is not.
        let capabilities = match self.abilities(call) {
            Ok(found) => found,
            Err(RuntimeError::EngineNotAvailable { .. }) => usual,
            Err(error) => return Err(error),
        };
        // The controller does not tell its version.
        Ok(Answers { version: "not told".to_owned(), api: NAME.to_owned(), capabilities })
    }

    fn check(&self, call: &Call) -> RtResult<()> {
        self.status(call).map(drop)
    }

    fn check_limits(&self, call: &Call, resources: &Resources) -> RtResult<()> {
        if *resources == Resources::default() {
            return Ok(());
        }
        let scope = self.scope(call)?;
        groups::check_limits(ENGINE, resources, |controller| accounts(&scope, controller))
    }

    fn unit_name(&self, owner: &str, container: &str) -> String {
        unit_owned(owner, container)
    }

    fn has_nodes(&self) -> bool {
        true
    }

    fn node_of(&self, config: &ContainerConfig) -> RtResult<String> {
        if self.is_here(&config.node) {
            if is_transient(&config.spec.unit) {
                // The controller does not tell which limits would have an effect.
                return Err(unsupported(ENGINE, "Transient=yes on this node, which the runtime systemd takes"));
            }
            return Ok(String::new());
        }
        if config.spec.unit.is_empty() {
            return Err(unsupported(ENGINE, "a folder as the root on another node"));
        }
        transient::properties(ENGINE, &config.spec.unit)?;
        Ok(config.node.clone())
    }

    fn install(&self, call: &Call, unit: &Unit, text: &str) -> RtResult<()> {
        if !unit.is_here() {
            // It gets the text with its start.
            return self.check_node(call, &unit.node);
        }
        self.files.write(&unit.name, text)?;
        self.ask(call, unit, "Reload", &())
    }

    fn uninstall(&self, call: &Call, unit: &Unit) -> RtResult<()> {
        if !unit.is_here() {
            return Ok(());
        }
        self.files.delete(&unit.name)?;
        self.ask(call, unit, "Reload", &())
    }

    fn start(&self, call: &Call, unit: &Unit, text: &str) -> RtResult<JobEnd> {
        if unit.is_here() {
            self.install(call, unit, text)?;
            return self.run_job(call, "StartUnit", unit);
        }
        let properties = transient::properties(ENGINE, text)?;
        let others: [(&str, Vec<(&str, Value<'_>)>); 0] = [];
        let body = (unit.name.as_str(), "replace", properties, &others[..]);
        // systemd's own job, of which the controller tells nothing more: it is the unit that tells.
        transient::start(call, || self.ask::<_, OwnedObjectPath>(call, unit, "StartTransientUnit", &body))?;
        Ok(JobEnd::Vanished)
    }

    fn stop(&self, call: &Call, unit: &Unit) -> RtResult<JobEnd> {
        self.run_job(call, "StopUnit", unit)
    }

    fn kill(&self, call: &Call, unit: &Unit, whom: &str, signal: i32) -> RtResult<()> {
        self.ask(call, unit, "KillUnit", &(unit.name.as_str(), whom, signal))
    }

    fn freeze(&self, call: &Call, unit: &Unit) -> RtResult<()> {
        self.ask(call, unit, "FreezeUnit", &unit.name)
    }

    fn thaw(&self, call: &Call, unit: &Unit) -> RtResult<()> {
        self.ask(call, unit, "ThawUnit", &unit.name)
    }

    fn reset_failed(&self, call: &Call, unit: &Unit) -> RtResult<()> {
        match self.ask(call, unit, "ResetFailedUnit", &unit.name) {
            Err(RuntimeError::NotFound { .. }) => Ok(()),
            other => other,
        }
    }

    fn set_properties(&self, call: &Call, unit: &Unit, properties: &[(&str, Value<'_>)]) -> RtResult<()> {
        self.ask(call, unit, "SetUnitProperties", &(unit.name.as_str(), true, properties))
    }

    fn properties(&self, call: &Call, unit: &Unit) -> RtResult<Properties> {
        let mut all = self.interface(call, unit, UNIT)?;
        all.extend(self.interface(call, unit, SERVICE)?);
        Ok(all)
    }

    fn watch(&self, call: &Call) -> RtResult<Box<dyn Changes>> {
        Ok(Box::new(self.monitor(call, "*", "*", |unit| unit == "*" || unit.starts_with(OWN_UNITS))?))
    }
}

/// Changes that a monitor tells of, which is closed with it.
pub(super) struct Watched {
    signals: Signals,
    monitor: OwnedObjectPath,
    cancel: CancelToken,
}

impl Watched {
    fn ask<B, A>(&self, limits: Limits, member: &str, body: &B) -> Result<A, DbusError>
    where
        B: Serialize + zvariant::DynamicType,
        A: DeserializeOwned + zvariant::Type,
    {
        let target = Target { destination: NAME, path: self.monitor.as_str(), interface: MONITOR };
        self.signals.call(limits, target, member, body)
    }

    fn signal(&self, deadline: Deadline, woken: Option<&Receiver<()>>) -> RtResult<Option<Message>> {
        let limits = Limits { deadline, cancel: &self.cancel };
        let signal = self.signals.next(limits, woken).map_err(|error| failure(ENGINE, "events", error))?;
        match signal {
            Some(signal) if member(&signal) == "NameOwnerChanged" => Err(moved("events")),
            other => Ok(other),
        }
    }

    /// What ends it.
    pub(super) fn cancel(&self) -> &CancelToken {
        &self.cancel
    }

    /// The next state of a unit that is told, of `*` where a node was lost or is back; `None` where none is in the time.
    /// Fails where some were lost.
    pub(super) fn next_state(&mut self, deadline: Deadline) -> RtResult<Option<ServiceState>> {
        let Some(signal) = self.signal(deadline, None)? else { return Ok(None) };
        if self.signals.has_lost() {
            let (engine, op) = (ENGINE.to_owned(), "events".to_owned());
            let reason = "more changes came than were read".to_owned();
            return Err(RuntimeError::Connection { engine, op, reason });
        }
        if member(&signal) == "UnitStateChanged" {
            // Monitors of all units alone are told of lost nodes by it.
            return Ok(state_of(&signal).filter(|state| state.unit != "*"));
        }
        let (active, sub) = match status_of(&signal).as_str() {
            "offline" => ("inactive", "agent-offline"),
            "online" => ("active", "agent-online"),
            _ => return Ok(None),
        };
        let state = |node| ServiceState { node, unit: "*".to_owned(), active: active.to_owned(), sub: sub.to_owned() };
        Ok(name_of_path(&path(&signal)).map(state))
    }
}

impl Changes for Watched {
    fn next(&mut self, deadline: Deadline, woken: &Receiver<()>) -> RtResult<Told> {
        let Some(signal) = self.signal(deadline, Some(woken))? else { return Ok(Told::Nothing) };
        match state_of(&signal) {
            Some(state) if state.unit != "*" && !self.signals.has_lost() => Ok(Told::Unit(state.unit)),
            // A node was lost or came back, which no unit of it is told for.
            _ => Ok(Told::Any),
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // The connection outlives it, and the controller keeps monitors as long as that.
        let cancel = CancelToken::new();
        let limits = Limits { deadline: Deadline::after(CLOSE), cancel: &cancel };
        let _ = self.ask::<_, ()>(limits, "Close", &());
    }
}

/// What a monitor tells of a unit.
fn state_of(message: &Message) -> Option<ServiceState> {
    if member(message) != "UnitStateChanged" {
        return None;
    }
    let (node, unit, active, sub, _reason): (String, String, String, String, String) =
        message.body().deserialize().ok()?;
    Some(ServiceState { node, unit, active, sub })
}

/// The error of a controller that is not the one any more that was asked.
fn moved(op: &str) -> RuntimeError {
    let (engine, op) = (ENGINE.to_owned(), op.to_owned());
    RuntimeError::Connection { engine, op, reason: "the controller left the bus or came back".to_owned() }
}

/// What a node's properties say of its status where that changed, otherwise nothing.
fn status_of(message: &Message) -> String {
    let body = message.body();
    let changed = body.deserialize::<(String, Properties, Vec<String>)>().map(|(_, changed, _)| changed);
    changed.map(|changed| text(&changed, "Status").to_owned()).unwrap_or_default()
}

/// What a failure of a request to a node means.
fn node_failure(node: &str, op: &str, error: DbusError) -> RuntimeError {
    match error {
        DbusError::Refused { name, .. } if name == "org.eclipse.bluechi.Offline" => away(node, "is offline"),
        DbusError::Refused { name, .. } if name.ends_with(".UnknownObject") => away(node, "is not known to BlueChi"),
        error => failure(ENGINE, op, error),
    }
}

fn away(node: &str, why: &str) -> RuntimeError {
    RuntimeError::EngineNotAvailable { engine: ENGINE.to_owned(), reason: format!("node '{node}' {why}") }
}

fn node_path(node: &str) -> String {
    format!("{OBJECT}/node/{}", path_element(node))
}
