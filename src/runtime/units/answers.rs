//! What requests about units may take, how they fail, and how jobs end.

use std::fmt::{self, Display};
use std::time::Duration;

use super::status::{has_run, is_at_rest, number, text};
use crate::cancel::Urge;
use crate::runtime::adapter::{Call, RtResult, RuntimeError};
use crate::transport::dbus::{DbusError, Limits, Properties};

/// What ends a request that is for this call.
pub fn limits<'a>(call: &'a Call) -> Limits<'a> {
    Limits { deadline: call.deadline, cancel: call.cancel }
}

/// Waits a little; fails where the call is cancelled.
pub fn pause(call: &Call, op: &str, time: Duration) -> RtResult<()> {
    match call.cancel.wait(Urge::Cancel, call.deadline.at_most(time)) {
        Urge::Cancel => Err(RuntimeError::Cancelled { op: op.to_owned() }),
        _ => Ok(()),
    }
}

/// What a failure of the wire, or a refusal, means for a call to this engine.
pub fn failure(engine: &str, op: &str, error: DbusError) -> RuntimeError {
    let op = op.to_owned();
    match error {
        DbusError::Away(reason) => RuntimeError::EngineNotAvailable { engine: engine.to_owned(), reason },
        DbusError::Timeout(after) => RuntimeError::Timeout { op, after },
        DbusError::Cancelled => RuntimeError::Cancelled { op },
        DbusError::Closed(reason) => RuntimeError::Connection { engine: engine.to_owned(), op, reason },
        DbusError::Protocol(reason) => garbled(engine, &op, &reason),
        DbusError::Refused { name, message } => refusal(engine, &op, &name, message),
    }
}

fn refusal(engine: &str, op: &str, name: &str, message: String) -> RuntimeError {
    match name.rsplit('.').next().unwrap_or_default() {
        "NoSuchUnit" | "NoSuchUnitFile" | "FileNotFound" | "UnknownObject" | "NoSuchProcess" | "NoSuchJob" => {
            RuntimeError::NotFound { what: format!("{op}: {message}") }
        }
        "UnitExists" => RuntimeError::AlreadyExists { what: format!("{op}: {message}"), detail: String::new() },
        "AccessDenied" | "InteractiveAuthorizationRequired" => {
            RuntimeError::PermissionDenied { reason: format!("{engine} refuses {op}: {message}") }
        }
        "InvalidArgs" | "BadUnitSetting" => {
            RuntimeError::InvalidSpec { reason: format!("{engine} refuses {op}: {message}") }
        }
        _ => RuntimeError::Engine { engine: engine.to_owned(), op: op.to_owned(), code: 0, message },
    }
}

/// The error of an answer that is not what was agreed.
pub fn garbled(engine: &str, op: &str, error: &dyn Display) -> RuntimeError {
    let (engine, op) = (engine.to_owned(), op.to_owned());
    RuntimeError::Engine { engine, op, code: 0, message: format!("the answer cannot be read: {error}") }
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEnd {
    /// It did what it was for.
    Done,
    /// It did not; systemd's word: `failed`, `timeout`, `canceled`, `dependency`, `skipped`.
    Other(String),
    /// It is not there any more, and nobody said how it ended: what came of it is for the unit's state to tell.
    Vanished,
}

impl Display for JobEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "done",
            Self::Other(result) => result,
            Self::Vanished => "vanished",
        })
    }
}

impl JobEnd {
    /// The end that systemd tells by this word.
    pub fn of(result: &str) -> Self {
        if result == "done" { Self::Done } else { Self::Other(result.to_owned()) }
    }

    /// Of a job that starts a unit which is kept after its end: `Ok` where it did, also where nobody said so, and where the
    /// first process had ended by then, which fails the job of a process that ends badly. Otherwise why not, as far as the
    /// properties tell, which are those of after the job.
    pub fn check_start(&self, engine: &str, properties: &Properties) -> RtResult<()> {
        let is_active = text(properties, "ActiveState") == "active";
        match self {
            // systemd's jobs of units whose conditions are not met are done as well.
            Self::Done if is_at_rest(properties) => {
                let message = "the unit was not started: a condition that it names is not met".to_owned();
                return Err(RuntimeError::Engine {
                    engine: engine.to_owned(),
                    op: "start".to_owned(),
                    code: 0,
                    message,
                });
            }
            Self::Done => return Ok(()),
            Self::Vanished if has_run(properties) || is_active => return Ok(()),
            Self::Other(result) if result == "failed" && has_run(properties) => return Ok(()),
            Self::Vanished | Self::Other(_) => {}
        }
        let status = number(properties, "ExecMainStatus").unwrap_or(0);
        let message = match (text(properties, "LoadState"), status) {
            // EXIT_CHDIR, EXIT_EXEC, EXIT_USER and EXIT_NAMESPACE of systemd.exec(5).
            ("loaded", 200) => "the working directory is not there".to_owned(),
            ("loaded", 203) => "the command cannot be run".to_owned(),
            ("loaded", 217) => "there is no such user".to_owned(),
            ("loaded", 226) => "its file systems cannot be set up".to_owned(),
            ("loaded", _) => format!("the job ended as '{self}', the process with status {status}"),
            (state, _) => format!("the unit is '{state}': systemd's log says what is wrong in it"),
        };
        Err(RuntimeError::Engine { engine: engine.to_owned(), op: "start".to_owned(), code: status, message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::dbus::{OwnedValue, Value};

    #[test]
    fn refusals_are_told_apart_by_their_names() {
        let refused = |name: &str| failure("e", "op", DbusError::Refused { name: name.into(), message: "m".into() });
        assert!(matches!(refused("org.freedesktop.systemd1.NoSuchUnit"), RuntimeError::NotFound { .. }));
        assert!(matches!(refused("org.freedesktop.DBus.Error.AccessDenied"), RuntimeError::PermissionDenied { .. }));
        assert!(matches!(refused("org.freedesktop.DBus.Error.InvalidArgs"), RuntimeError::InvalidSpec { .. }));
        assert!(matches!(refused("org.freedesktop.systemd1.UnitExists"), RuntimeError::AlreadyExists { .. }));
        assert!(matches!(refused("org.freedesktop.systemd1.LoadFailed"), RuntimeError::Engine { .. }));
    }

    #[test]
    fn job_is_done_or_says_why_not() {
        let text = |value: &'static str| OwnedValue::try_from(Value::from(value)).unwrap();
        let properties = Properties::from([
            ("LoadState".to_owned(), text("loaded")),
            ("ExecMainStatus".to_owned(), OwnedValue::from(203_i32)),
        ]);
        let check = |end: JobEnd, properties: &Properties| end.check_start("e", properties);
        assert_eq!(check(JobEnd::of("done"), &properties), Ok(()));
        for end in [JobEnd::Vanished, JobEnd::of("failed")] {
            let error = check(end, &properties).unwrap_err().to_string();
            assert!(error.contains("cannot be run"), "{error}");
        }
        let with = |more: &[(&str, OwnedValue)]| {
            let mut properties = properties.clone();
            properties.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
            properties
        };
        let lives = with(&[("ActiveState", text("active")), ("SubState", text("running"))]);
        assert_eq!(check(JobEnd::Vanished, &lives), Ok(()));
        assert!(check(JobEnd::of("timeout"), &lives).is_err());
        let rests = with(&[("ActiveState", text("inactive"))]);
        assert!(check(JobEnd::of("done"), &rests).unwrap_err().to_string().contains("condition"));
        assert!(check(JobEnd::Vanished, &with(&[("ActiveState", text("activating"))])).is_err());
        let over = |code: i32| {
            let ended = [("ExecMainCode", OwnedValue::from(1_i32)), ("ExecMainStatus", OwnedValue::from(code))];
            with(&[&ended[..], &[("Type", text("exec")), ("Result", text("exit-code"))]].concat())
        };
        assert_eq!(check(JobEnd::of("failed"), &over(3)), Ok(()), "it ran, and ended before its job did");
        assert!(check(JobEnd::of("failed"), &over(203)).is_err());
        assert!(check(JobEnd::of("dependency"), &over(3)).is_err());
        let unloaded = Properties::from([("LoadState".to_owned(), text("bad-setting"))]);
        let error = check(JobEnd::of("failed"), &unloaded).unwrap_err().to_string();
        assert!(error.contains("bad-setting"), "{error}");
    }
}
