//! The systemd of this node, and what it is asked.
//!
//! A job is awaited by `JobRemoved`, whose rule is there before the call; one that vanishes without (systemd was executed
//! anew, or the bus was) is missed by asking for it now and then.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::answers::{JobEnd, failure, garbled, limits};
use super::files::UnitFiles;
use super::installed::Asked;
use super::journal::{self, Journal};
use super::manager::{Answers, Changes, Told, Unit, UnitManager};
use super::quadlets::{QuadletFiles, is_quadlet};
use super::text::is_transient;
use super::{groups, name_of_path, path_element, status, transient, unit_of};
use crate::cancel::CancelToken;
use crate::cgroup::Cgroups;
use crate::clock::Deadline;
use crate::model::resources::Resources;
use crate::runtime::adapter::{Call, ContainerConfig, RtResult, RuntimeCapabilities, RuntimeError, unsupported};
use crate::runtime::shared::calls::late;
use crate::transport::dbus::{
    Bus, DRIVER, DbusError, Limits, Message, OwnedObjectPath, OwnedValue, PROPERTIES, Properties, Signals, Target,
    Value, member, path, zvariant,
};

const NAME: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
const MANAGER: Target<'static> =
    Target { destination: NAME, path: OBJECT, interface: "org.freedesktop.systemd1.Manager" };

/// Between two looks whether a job is still there.
const LOOK: Duration = Duration::from_secs(1);

/// Signals of jobs.
const JOBS: &str = "type='signal',sender='org.freedesktop.systemd1',interface='org.freedesktop.systemd1.Manager',\
    member='JobRemoved'";

/// Changes of units.
const UNITS: &str = "type='signal',sender='org.freedesktop.systemd1',path_namespace='/org/freedesktop/systemd1/unit',\
    interface='org.freedesktop.DBus.Properties',member='PropertiesChanged'";

/// systemd under another name on the bus: it was executed anew.
const OWNER: &str = "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',\
    member='NameOwnerChanged',arg0='org.freedesktop.systemd1'";

/// The units beside a transient one, which may be started with it.
const NO_OTHERS: [(&str, Vec<(&str, Value<'_>)>); 0] = [];

/// The systemd of this node on a bus.
pub struct LocalManager {
    engine: &'static str,
    bus: Bus,
    files: UnitFiles,
    journal: Option<Journal>,
    quadlets: Option<QuadletFiles>,
}

impl LocalManager {
    /// The one on this bus, that looks for units in this folder. Errors are the engine's of this name.
    pub fn new(engine: &'static str, bus: Bus, unit_dir: PathBuf) -> Self {
        Self { engine, bus, files: UnitFiles::new(unit_dir), journal: None, quadlets: None }
    }

    /// The same, with the journal that its units write to.
    pub fn with_journal(self, journal: Journal) -> Self {
        Self { journal: Some(journal), ..self }
    }

    /// The bus that it is on.
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// The same, with a place for Podman's Quadlet files.
    pub fn with_quadlets(self, quadlets: QuadletFiles) -> Self {
        Self { quadlets: Some(quadlets), ..self }
    }

    /// Where Quadlet files are, which are taken with a generator alone.
    fn quadlets(&self) -> RtResult<&QuadletFiles> {
        let quadlets = self.quadlets.as_ref();
        let quadlets = quadlets.ok_or_else(|| unsupported(self.engine, "Podman's Quadlet files ([Container])"))?;
        quadlets.check_generator(self.engine)?;
        Ok(quadlets)
    }

    /// Has Podman's generator make the unit; nothing is left where it does not.
    fn install_quadlet(&self, call: &Call, unit: &Unit, text: &str) -> RtResult<()> {
        let quadlets = self.quadlets()?;
        quadlets.prove(call, &unit.name, text)?;
        self.files.write_beside(&unit.name)?;
        quadlets.write(&unit.name, text)?;
        self.reload(call)?;
        let properties = self.properties(call, unit)?;
        match status::text(&properties, "LoadState") {
            "loaded" => Ok(()),
            state => {
                let (engine, op) = (self.engine.to_owned(), "Reload".to_owned());
                let message = format!("unit '{}' is '{state}', and was to be made by Podman's generator", unit.name);
                Err(RuntimeError::Engine { engine, op, code: 0, message })
            }
        }
    }

    /// Starts or stops the unit and waits for the job's end.
    pub fn run_job(&self, call: &Call, method: &str, unit: &str) -> RtResult<JobEnd> {
        self.run(call, method, &(unit, "replace"))
    }

    /// Asks for a job and waits for its end.
    fn run(&self, call: &Call, method: &str, body: &(impl Serialize + zvariant::DynamicType)) -> RtResult<JobEnd> {
        let begun = Instant::now();
        let signals = self.signals(call, &[JOBS], |message| member(message) == "JobRemoved")?;
        // On the connection that the signal comes by.
        self.subscribe_by(&signals, call)?;
        let job: OwnedObjectPath =
            signals.call(limits(call), MANAGER, method, body).map_err(|error| failure(self.engine, method, error))?;
        let (mut is_missed, mut looked) = (false, Instant::now());
        loop {
            let limits = Limits { deadline: call.deadline.at_most(LOOK), cancel: call.cancel };
            let told = signals.next(limits, None).map_err(|error| failure(self.engine, method, error))?;
            let removed =
                told.and_then(|told| told.body().deserialize::<(u32, OwnedObjectPath, String, String)>().ok());
            if let Some((_, path, _, result)) = removed
                && path == job
            {
                return Ok(JobEnd::of(&result));
            }
            if call.deadline.is_over() {
                return Err(late(method, begun));
            }
            if looked.elapsed() >= LOOK {
                // It was over at the last look already, and the signals from before that have been read.
                if is_missed {
                    return Ok(JobEnd::Vanished);
                }
                (is_missed, looked) = (!self.is_there(call, &job)?, Instant::now());
            }
        }
    }

    /// Its process.
    fn pid(&self, call: &Call) -> RtResult<i32> {
        let pid: u32 = self.ask_of(call, DRIVER, "GetConnectionUnixProcessID", &NAME)?;
        Ok(i32::try_from(pid).unwrap_or(0))
    }

    fn is_there(&self, call: &Call, job: &OwnedObjectPath) -> RtResult<bool> {
        match self.get(call, job.as_str(), "org.freedesktop.systemd1.Job", "Id") {
            Ok(_) => Ok(true),
            Err(RuntimeError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether it has a controller for its services.
    fn controllers(&self, call: &Call) -> RtResult<impl Fn(&str) -> bool> {
        let (mounted, pid) = (Cgroups::read().unwrap_or_default(), self.pid(call)?);
        Ok(move |controller: &str| groups::has_controller(&mounted, pid, controller))
    }

    /// What a transient unit with this text is started with. Limits without an effect are refused.
    fn properties_of(&self, call: &Call, text: &str) -> RtResult<Vec<transient::Property>> {
        let properties = transient::properties(self.engine, text)?;
        transient::check_limits(self.engine, &properties, self.controllers(call)?)?;
        Ok(properties)
    }

    /// Reads unit files anew.
    pub fn reload(&self, call: &Call) -> RtResult<()> {
        self.ask(call, "Reload", &())
    }

    fn signals(&self, call: &Call, rules: &[&str], wanted: fn(&Message) -> bool) -> RtResult<Signals> {
        self.bus.subscribe(limits(call), NAME, rules, wanted).map_err(|error| failure(self.engine, "AddMatch", error))
    }

    fn get(&self, call: &Call, path: &str, interface: &str, property: &str) -> RtResult<OwnedValue> {
        let read = self.bus.property(limits(call), Target { destination: NAME, path, interface }, property);
        read.map_err(|error| failure(self.engine, property, error))
    }

    fn ask<B, A>(&self, call: &Call, member: &str, body: &B) -> RtResult<A>
    where
        B: Serialize + zvariant::DynamicType,
        A: DeserializeOwned + zvariant::Type,
    {
        self.ask_of(call, MANAGER, member, body)
    }

    fn ask_of<B, A>(&self, call: &Call, target: Target, member: &str, body: &B) -> RtResult<A>
    where
        B: Serialize + zvariant::DynamicType,
        A: DeserializeOwned + zvariant::Type,
    {
        self.bus.call(limits(call), target, member, body).map_err(|error| failure(self.engine, member, error))
    }

    /// systemd tells nothing before somebody has asked for it, once for each connection.
    fn subscribe_by(&self, signals: &Signals, call: &Call) -> RtResult<()> {
        match signals.call(limits(call), MANAGER, "Subscribe", &()) {
            Err(DbusError::Refused { name, .. }) if name.ends_with(".AlreadySubscribed") => Ok(()),
            other => other.map_err(|error| failure(self.engine, "Subscribe", error)),
        }
    }

    /// Whether what units write goes into a journal, and can be read there.
    fn has_journal(&self, call: &Call) -> bool {
        let Some(journal) = &self.journal else { return false };
        let writer = Unit { node: String::new(), name: journal::WRITER.to_owned() };
        let is_written = || Ok(status::text(&self.properties(call, &writer)?, "ActiveState") == "active");
        let proved =
            is_written().and_then(|is_written| if is_written { journal.prove(call).map(|()| true) } else { Ok(false) });
        proved.unwrap_or_else(|error| {
            log::debug!("there is no output of units: {error}");
            false
        })
    }

    /// What can be done where the systemd of this process has these controllers.
    fn abilities(mounted: &Cgroups, manager_pid: i32) -> RuntimeCapabilities {
        let has = |controller: &str| groups::has_controller(mounted, manager_pid, controller);
        RuntimeCapabilities {
            supports_service_management: true,
            supports_dependencies: true,
            supports_pause: groups::has_freezer(mounted, manager_pid),
            supports_stats: has("cpu"),
            supports_events: true,
            supports_resource_limits: has("memory") || has("cpu") || has("pids"),
            supports_rootfs: true,
            ..RuntimeCapabilities::default()
        }
    }
}

impl UnitManager for LocalManager {
    fn engine(&self) -> &'static str {
        self.engine
    }

    fn probe(&self, call: &Call) -> RtResult<Answers> {
        let version: OwnedValue = self.get(call, OBJECT, MANAGER.interface, "Version")?;
        let capabilities = RuntimeCapabilities {
            supports_logs: self.has_journal(call),
            ..Self::abilities(&Cgroups::read().unwrap_or_default(), self.pid(call)?)
        };
        let version = String::try_from(version).map_err(|error| garbled(self.engine, "Version", &error))?;
        let version = version.split(' ').next().unwrap_or_default().to_owned();
        Ok(Answers { version, api: NAME.to_owned(), capabilities })
    }

    fn check(&self, call: &Call) -> RtResult<()> {
        self.get(call, OBJECT, MANAGER.interface, "Version").map(drop)
    }

    fn check_limits(&self, call: &Call, resources: &Resources) -> RtResult<()> {
        if *resources == Resources::default() {
            return Ok(());
        }
        groups::check_limits(self.engine, resources, self.controllers(call)?)
    }

    fn unit_name(&self, _owner: &str, container: &str) -> String {
        unit_of(container)
    }

    fn node_of(&self, _config: &ContainerConfig) -> RtResult<String> {
        // What is for another node is not given to this engine.
        Ok(String::new())
    }

    fn check_text(&self, text: &str) -> RtResult<()> {
        if is_quadlet(text) { self.quadlets().map(drop) } else { Ok(()) }
    }

    fn install(&self, call: &Call, unit: &Unit, text: &str) -> RtResult<()> {
        if is_transient(text) {
            // It gets the text with its start.
            return self.properties_of(call, text).map(drop);
        }
        if is_quadlet(text) {
            return self.install_quadlet(call, unit, text);
        }
        self.files.write(&unit.name, text)?;
        self.reload(call)
    }

    fn uninstall(&self, call: &Call, unit: &Unit) -> RtResult<()> {
        self.files.delete(&unit.name)?;
        self.quadlets.as_ref().map_or(Ok(()), |quadlets| quadlets.delete(&unit.name))?;
        self.reload(call)
    }

    fn start(&self, call: &Call, unit: &Unit, text: &str) -> RtResult<JobEnd> {
        if is_transient(text) {
            let (properties, others) = (self.properties_of(call, text)?, NO_OTHERS);
            let body = (unit.name.as_str(), "replace", properties, &others[..]);
            return transient::start(call, || self.run(call, "StartTransientUnit", &body));
        }
        // Gone with the last boot.
        self.install(call, unit, text)?;
        self.run_job(call, "StartUnit", &unit.name)
    }

    fn stop(&self, call: &Call, unit: &Unit) -> RtResult<JobEnd> {
        self.run_job(call, "StopUnit", &unit.name)
    }

    fn kill(&self, call: &Call, unit: &Unit, whom: &str, signal: i32) -> RtResult<()> {
        self.ask(call, "KillUnit", &(unit.name.as_str(), whom, signal))
    }

    fn freeze(&self, call: &Call, unit: &Unit) -> RtResult<()> {
        self.ask(call, "FreezeUnit", &unit.name)
    }

    fn thaw(&self, call: &Call, unit: &Unit) -> RtResult<()> {
        self.ask(call, "ThawUnit", &unit.name)
    }

    fn reset_failed(&self, call: &Call, unit: &Unit) -> RtResult<()> {
        match self.ask(call, "ResetFailedUnit", &unit.name) {
            Err(RuntimeError::NotFound { .. }) => Ok(()),
            other => other,
        }
    }

    fn set_properties(&self, call: &Call, unit: &Unit, properties: &[(&str, Value<'_>)]) -> RtResult<()> {
        self.ask(call, "SetUnitProperties", &(unit.name.as_str(), true, properties))
    }

    fn properties(&self, call: &Call, unit: &Unit) -> RtResult<Properties> {
        let path = format!("{OBJECT}/unit/{}", path_element(&unit.name));
        self.ask_of(call, Target { destination: NAME, path: &path, interface: PROPERTIES }, "GetAll", &"")
    }

    fn journal(&self) -> Option<&Journal> {
        self.journal.as_ref()
    }

    fn watch(&self, call: &Call) -> RtResult<Box<dyn Changes>> {
        let signals = self.signals(call, &[UNITS, OWNER], |message| {
            matches!(member(message).as_str(), "PropertiesChanged" | "NameOwnerChanged")
        })?;
        self.subscribe_by(&signals, call)?;
        Ok(Box::new(Watched { engine: self.engine, signals, cancel: call.cancel.clone() }))
    }
}

/// The systemd of this node, for one call.
pub struct Direct<'a> {
    /// It.
    pub systemd: &'a LocalManager,
    /// The call.
    pub call: &'a Call<'a>,
}

impl Asked for Direct<'_> {
    fn ask<B, A>(&self, member: &str, body: &B) -> RtResult<A>
    where
        B: Serialize + zvariant::DynamicType,
        A: DeserializeOwned + zvariant::Type,
    {
        self.systemd.ask(self.call, member, body)
    }
}

/// Changes that the bus tells of.
struct Watched {
    engine: &'static str,
    signals: Signals,
    cancel: CancelToken,
}

impl Changes for Watched {
    fn next(&mut self, deadline: Deadline, woken: &Receiver<()>) -> RtResult<Told> {
        let limits = Limits { deadline, cancel: &self.cancel };
        let signal = self.signals.next(limits, Some(woken)).map_err(|error| failure(self.engine, "events", error))?;
        let Some(signal) = signal else { return Ok(Told::Nothing) };
        if member(&signal) == "NameOwnerChanged" {
            let (engine, op) = (self.engine.to_owned(), "events".to_owned());
            let reason = "systemd left the bus or came back".to_owned();
            return Err(RuntimeError::Connection { engine, op, reason });
        }
        if self.signals.has_lost() {
            return Ok(Told::Any);
        }
        Ok(name_of_path(&path(&signal)).map_or(Told::Any, Told::Unit))
    }
}
