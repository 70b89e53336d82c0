//! What systemd is asked.
//!
//! A job is awaited by `JobRemoved`, whose rule is there before the call; one that vanishes without (systemd was executed
//! anew, or the bus was) is missed by asking for it now and then.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ENGINE;
use crate::cancel::CancelToken;
use crate::runtime::adapter::{Call, RtResult, RuntimeError};
use crate::runtime::shared::calls::late;
use crate::runtime::units::answers::{JobEnd, failure, garbled};
use crate::runtime::units::path_element;
use crate::transport::dbus::{
    Bus, DRIVER, DbusError, Limits, Message, OwnedObjectPath, OwnedValue, Properties, Signals, Target, Value, member,
    path, zvariant,
};

const NAME: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
const MANAGER: Target<'static> =
    Target { destination: NAME, path: OBJECT, interface: "org.freedesktop.systemd1.Manager" };
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

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

/// systemd on a bus.
pub(super) struct Manager {
    bus: Bus,
}

impl Manager {
    pub(super) fn new(bus: Bus) -> Self {
        Self { bus }
    }

    /// Its version and process.
    pub(super) fn version(&self, call: &Call) -> RtResult<(String, i32)> {
        let version: OwnedValue = self.get(call, OBJECT, MANAGER.interface, "Version")?;
        let pid: u32 = self.ask_of(call, DRIVER, "GetConnectionUnixProcessID", &NAME)?;
        let version = String::try_from(version).map_err(|error| garbled(ENGINE, "Version", &error))?;
        Ok((version.split(' ').next().unwrap_or_default().to_owned(), i32::try_from(pid).unwrap_or(0)))
    }

    /// Fails where systemd does not answer.
    pub(super) fn check(&self, call: &Call) -> RtResult<()> {
        self.get(call, OBJECT, MANAGER.interface, "Version").map(drop)
    }

    /// Starts or stops the unit and waits for the job's end.
    pub(super) fn run_job(&self, call: &Call, method: &str, unit: &str) -> RtResult<JobEnd> {
        let begun = Instant::now();
        let signals = self.signals(call, &[JOBS], |message| member(message) == "JobRemoved")?;
        // On the connection that the signal comes by.
        subscribe_by(&signals, call)?;
        let job: OwnedObjectPath = signals
            .call(limits(call), MANAGER, method, &(unit, "replace"))
            .map_err(|error| failure(ENGINE, method, error))?;
        let mut is_missed = false;
        loop {
            let limits = Limits { deadline: call.deadline.at_most(LOOK), cancel: call.cancel };
            match signals.next(limits, None).map_err(|error| failure(ENGINE, method, error))? {
                Some(message) => {
                    let removed = message.body().deserialize::<(u32, OwnedObjectPath, String, String)>();
                    if let Ok((_, path, _, result)) = removed
                        && path == job
                    {
                        return Ok(JobEnd::of(&result));
                    }
                }
                None if call.deadline.is_over() => return Err(late(method, begun)),
                // It was over at the last look already, and all signals from before that have been read.
                None if is_missed => return Ok(JobEnd::Vanished),
                None => is_missed = !self.is_there(call, &job)?,
            }
        }
    }

    fn is_there(&self, call: &Call, job: &OwnedObjectPath) -> RtResult<bool> {
        match self.get(call, job.as_str(), "org.freedesktop.systemd1.Job", "Id") {
            Ok(_) => Ok(true),
            Err(RuntimeError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads unit files anew.
    pub(super) fn reload(&self, call: &Call) -> RtResult<()> {
        self.ask(call, "Reload", &())
    }

    /// Sends a signal to the first process, or to all.
    pub(super) fn kill(&self, call: &Call, unit: &str, whom: &str, signal: i32) -> RtResult<()> {
        self.ask(call, "KillUnit", &(unit, whom, signal))
    }

    pub(super) fn freeze(&self, call: &Call, unit: &str) -> RtResult<()> {
        self.ask(call, "FreezeUnit", &unit)
    }

    pub(super) fn thaw(&self, call: &Call, unit: &str) -> RtResult<()> {
        self.ask(call, "ThawUnit", &unit)
    }

    /// Takes back that it failed; nothing where systemd does not know it.
    pub(super) fn reset_failed(&self, call: &Call, unit: &str) -> RtResult<()> {
        match self.ask(call, "ResetFailedUnit", &unit) {
            Err(RuntimeError::NotFound { .. }) => Ok(()),
            other => other,
        }
    }

    /// Changes properties until the next boot.
    pub(super) fn set_properties(&self, call: &Call, unit: &str, properties: &[(&str, Value<'_>)]) -> RtResult<()> {
        self.ask(call, "SetUnitProperties", &(unit, true, properties))
    }

    /// All properties of a unit, those of a service among them.
    pub(super) fn properties(&self, call: &Call, unit: &str) -> RtResult<Properties> {
        let path = unit_path(unit);
        self.ask_of(call, Target { destination: NAME, path: &path, interface: PROPERTIES }, "GetAll", &"")
    }

    /// Changes of units from now on, and the end of systemd's name.
    pub(super) fn watch(&self, call: &Call) -> RtResult<Signals> {
        let signals = self.signals(call, &[UNITS, OWNER], |message| {
            matches!(member(message).as_str(), "PropertiesChanged" | "NameOwnerChanged")
        })?;
        subscribe_by(&signals, call)?;
        Ok(signals)
    }

    fn signals(&self, call: &Call, rules: &[&str], wanted: fn(&Message) -> bool) -> RtResult<Signals> {
        self.bus.subscribe(limits(call), rules, wanted).map_err(|error| failure(ENGINE, "AddMatch", error))
    }

    fn get(&self, call: &Call, path: &str, interface: &str, property: &str) -> RtResult<OwnedValue> {
        self.ask_of(call, Target { destination: NAME, path, interface: PROPERTIES }, "Get", &(interface, property))
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
        self.bus.call(limits(call), target, member, body).map_err(|error| failure(ENGINE, member, error))
    }
}

/// systemd tells nothing before somebody has asked for it, once for each connection.
fn subscribe_by(signals: &Signals, call: &Call) -> RtResult<()> {
    match signals.call(limits(call), MANAGER, "Subscribe", &()) {
        Err(DbusError::Refused { name, .. }) if name.ends_with(".AlreadySubscribed") => Ok(()),
        other => other.map_err(|error| failure(ENGINE, "Subscribe", error)),
    }
}

fn limits<'a>(call: &'a Call) -> Limits<'a> {
    Limits { deadline: call.deadline, cancel: call.cancel }
}

/// What is over when the stream's token is.
pub(super) fn until<'a>(deadline: crate::clock::Deadline, cancel: &'a CancelToken) -> Limits<'a> {
    Limits { deadline, cancel }
}

/// Whether systemd left the bus, or came back under another name.
pub(super) fn has_moved(message: &Message) -> bool {
    member(message) == "NameOwnerChanged"
}

/// The path of the unit that a message is about.
pub(super) fn about(message: &Message) -> String {
    path(message)
}

/// A unit's object.
pub(super) fn unit_path(unit: &str) -> String {
    format!("{OBJECT}/unit/{}", path_element(unit))
}
