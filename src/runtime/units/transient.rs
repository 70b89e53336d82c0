//! A unit's text as the properties of a transient unit: what systemd is given where there is to be no file, or where none can
//! be brought to.
//!
//! Each setting has a property of its own with a type of its own. Those of `SETTINGS` are known here, any other is refused
//! by name, as is what only systemd itself could fill in: specifiers (`%`), and signs before a command but `-`.
//!
//! Sources: `systemd.syntax(7)`, `systemd.time(7)`, `systemd.service(5)`; the properties' types are
//! `org.freedesktop.systemd1(5)`'s.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::answers::pause;
use super::text::{ACCOUNTS, Setting, is_true, settings};
use crate::runtime::adapter::{Call, RtResult, RuntimeError, unsupported};
use crate::transport::dbus::Value;

/// How a setting's value is read, and what type it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Truth,
    Words,
    /// Names of units, whose backslashes are their own. What was given before cannot be taken back.
    Units,
    /// Assignments of variables.
    Variables,
    Command,
    /// A span of time, microseconds; 0 is without end.
    Time,
    Bytes,
    Number,
    Signed,
    /// Hundredths of the time of one CPU, microseconds per second.
    Quota,
    /// A set of CPUs, a bit each.
    Cpus,
    /// A policy of `sched(7)`.
    Policy,
    Signal,
}

/// The settings that can be given, with their properties.
const SETTINGS: &[(&str, &str, &str, Kind)] = &[
    ("Unit", "After", "After", Kind::Units),
    ("Unit", "Before", "Before", Kind::Units),
    ("Unit", "BindsTo", "BindsTo", Kind::Units),
    ("Unit", "Conflicts", "Conflicts", Kind::Units),
    ("Unit", "DefaultDependencies", "DefaultDependencies", Kind::Truth),
    ("Unit", "Description", "Description", Kind::Text),
    ("Unit", "PartOf", "PartOf", Kind::Units),
    ("Unit", "Requires", "Requires", Kind::Units),
    ("Unit", "Wants", "Wants", Kind::Units),
    ("Service", "AllowedCPUs", "AllowedCPUs", Kind::Cpus),
    ("Service", "CPUAffinity", "CPUAffinity", Kind::Cpus),
    ("Service", "CPUQuota", "CPUQuotaPerSecUSec", Kind::Quota),
    ("Service", "CPUSchedulingPolicy", "CPUSchedulingPolicy", Kind::Policy),
    ("Service", "CPUSchedulingPriority", "CPUSchedulingPriority", Kind::Signed),
    ("Service", "CPUWeight", "CPUWeight", Kind::Number),
    ("Service", "Delegate", "Delegate", Kind::Truth),
    ("Service", "Environment", "Environment", Kind::Variables),
    ("Service", "ExecReload", "ExecReload", Kind::Command),
    ("Service", "ExecStart", "ExecStart", Kind::Command),
    ("Service", "ExecStartPost", "ExecStartPost", Kind::Command),
    ("Service", "ExecStartPre", "ExecStartPre", Kind::Command),
    ("Service", "ExecStop", "ExecStop", Kind::Command),
    ("Service", "ExecStopPost", "ExecStopPost", Kind::Command),
    ("Service", "Group", "Group", Kind::Text),
    ("Service", "IOWeight", "IOWeight", Kind::Number),
    ("Service", "KillMode", "KillMode", Kind::Text),
    ("Service", "KillSignal", "KillSignal", Kind::Signal),
    ("Service", "LimitMEMLOCK", "LimitMEMLOCK", Kind::Bytes),
    ("Service", "LimitNOFILE", "LimitNOFILE", Kind::Number),
    ("Service", "LimitRTPRIO", "LimitRTPRIO", Kind::Number),
    ("Service", "MemoryHigh", "MemoryHigh", Kind::Bytes),
    ("Service", "MemoryLow", "MemoryLow", Kind::Bytes),
    ("Service", "MemoryMax", "MemoryMax", Kind::Bytes),
    ("Service", "MemorySwapMax", "MemorySwapMax", Kind::Bytes),
    ("Service", "Nice", "Nice", Kind::Signed),
    ("Service", "NoNewPrivileges", "NoNewPrivileges", Kind::Truth),
    ("Service", "NotifyAccess", "NotifyAccess", Kind::Text),
    ("Service", "OOMScoreAdjust", "OOMScoreAdjust", Kind::Signed),
    ("Service", "PrivateDevices", "PrivateDevices", Kind::Truth),
    ("Service", "PrivateNetwork", "PrivateNetwork", Kind::Truth),
    ("Service", "PrivateTmp", "PrivateTmp", Kind::Truth),
    ("Service", "ProtectHome", "ProtectHome", Kind::Text),
    ("Service", "ProtectSystem", "ProtectSystem", Kind::Text),
    ("Service", "ReadOnlyPaths", "ReadOnlyPaths", Kind::Words),
    ("Service", "ReadWritePaths", "ReadWritePaths", Kind::Words),
    ("Service", "RemainAfterExit", "RemainAfterExit", Kind::Truth),
    ("Service", "RootDirectory", "RootDirectory", Kind::Text),
    ("Service", "RuntimeDirectory", "RuntimeDirectory", Kind::Words),
    ("Service", "Slice", "Slice", Kind::Text),
    ("Service", "StandardError", "StandardError", Kind::Text),
    ("Service", "StandardOutput", "StandardOutput", Kind::Text),
    ("Service", "StateDirectory", "StateDirectory", Kind::Words),
    ("Service", "SupplementaryGroups", "SupplementaryGroups", Kind::Words),
    ("Service", "SyslogIdentifier", "SyslogIdentifier", Kind::Text),
    ("Service", "TasksMax", "TasksMax", Kind::Number),
    ("Service", "TimeoutStartSec", "TimeoutStartUSec", Kind::Time),
    ("Service", "TimeoutStopSec", "TimeoutStopUSec", Kind::Time),
    ("Service", "Type", "Type", Kind::Text),
    ("Service", "User", "User", Kind::Text),
    ("Service", "WorkingDirectory", "WorkingDirectory", Kind::Text),
];

/// Properties of limits, with the setting and the controller of version 2 that it takes: systemd takes them without a word, and
/// without an effect, where it has no controller.
const LIMITS: &[(&str, &str, &str)] = &[
    ("AllowedCPUs", "AllowedCPUs", "cpuset"),
    ("CPUQuotaPerSecUSec", "CPUQuota", "cpu"),
    ("CPUWeight", "CPUWeight", "cpu"),
    ("IOWeight", "IOWeight", "io"),
    ("MemoryHigh", "MemoryHigh", "memory"),
    ("MemoryLow", "MemoryLow", "memory"),
    ("MemoryMax", "MemoryMax", "memory"),
    ("MemorySwapMax", "MemorySwapMax", "memory"),
    ("TasksMax", "TasksMax", "pids"),
];

/// How long systemd may take to forget a transient unit that was stopped.
const FORGET: Duration = Duration::from_secs(2);

/// Between two tries to start one.
const AGAIN: Duration = Duration::from_millis(50);

/// Without end, as systemd has it on the bus.
const INFINITE: u64 = u64::MAX;

/// A property with its value.
pub type Property = (&'static str, Value<'static>);

/// A command: the program, all its words, and whether its failure is none.
type Command = (String, Vec<String>, bool);

/// What is given so far.
#[derive(Default)]
struct Given {
    single: BTreeMap<&'static str, Value<'static>>,
    words: BTreeMap<&'static str, Vec<String>>,
    commands: BTreeMap<&'static str, Vec<Command>>,
}

/// The properties of a transient unit with this text. It is kept after its end, as a unit with a file of ours is.
pub fn properties(engine: &str, text: &str) -> RtResult<Vec<Property>> {
    let mut given = Given::default();
    for Setting { section, key, value } in settings(text) {
        // How it is enabled, and what is none of systemd's.
        if section == "Install" || section.starts_with("X-") || key.starts_with("X-") {
            continue;
        }
        // What is refused elsewhere is `Restart=` with a value.
        if (section.as_str(), key.as_str()) == ("Service", "Restart") {
            continue;
        }
        let known = SETTINGS.iter().find(|(of, name, _, _)| *of == section && *name == key);
        let Some((_, _, property, kind)) = known else {
            return Err(unsupported(engine, format!("{key}= of [{section}], which transient units do not take here")));
        };
        set(&mut given, property, *kind, &value)
            .map_err(|why| RuntimeError::InvalidSpec { reason: format!("unit: {key}={value}: {why}") })?;
    }
    if !given.commands.contains_key("ExecStart") {
        return Err(RuntimeError::InvalidSpec { reason: "unit: there is no ExecStart=".to_owned() });
    }
    given.single.insert("RemainAfterExit", Value::Bool(true));
    given.single.extend(ACCOUNTS.map(|name| (name, Value::Bool(true))));
    let mut all: Vec<Property> = given.single.into_iter().collect();
    all.extend(given.words.into_iter().map(|(name, words)| (name, Value::from(words))));
    all.extend(given.commands.into_iter().map(|(name, commands)| (name, Value::from(commands))));
    Ok(all)
}

/// Refuses, by name, limits for which there is no controller.
pub fn check_limits(engine: &str, properties: &[Property], has: impl Fn(&str) -> bool) -> RtResult<()> {
    let is_given = |name: &str| properties.iter().any(|(property, _)| *property == name);
    match LIMITS.iter().find(|(property, _, controller)| is_given(property) && !has(controller)) {
        Some((_, setting, controller)) => {
            Err(unsupported(engine, format!("{setting}= of [Service]: systemd has no controller '{controller}' here")))
        }
        None => Ok(()),
    }
}

/// Has a transient unit started by `ask`, again as long as the last one of its name, which was stopped, is not gone.
pub fn start<T>(call: &Call, mut ask: impl FnMut() -> RtResult<T>) -> RtResult<T> {
    let deadline = call.deadline.at_most(FORGET);
    loop {
        match ask() {
            Err(RuntimeError::AlreadyExists { .. }) if !deadline.is_over() => pause(call, "start", AGAIN)?,
            other => return other,
        }
    }
}

/// Sets a property. What is empty takes back what was given before.
fn set(given: &mut Given, property: &'static str, kind: Kind, value: &str) -> Result<(), String> {
    if value.is_empty() && kind != Kind::Units {
        given.single.remove(property);
        given.words.remove(property);
        given.commands.remove(property);
        return Ok(());
    }
    let single = match kind {
        Kind::Words | Kind::Variables => {
            let words = words(value)?;
            let is_assignment = |word: &String| word.split_once('=').is_some_and(|(name, _)| !name.is_empty());
            if kind == Kind::Variables && !words.iter().all(is_assignment) {
                return Err("is not all NAME=VALUE".to_owned());
            }
            given.words.entry(property).or_default().extend(words);
            return Ok(());
        }
        Kind::Units => {
            let names = value.split_whitespace().map(unspecified).collect::<Result<Vec<_>, _>>()?;
            given.words.entry(property).or_default().extend(names);
            return Ok(());
        }
        Kind::Command => {
            given.commands.entry(property).or_default().push(command(value)?);
            return Ok(());
        }
        Kind::Text => Value::from(unspecified(value)?),
        Kind::Truth => Value::Bool(truth(value)?),
        Kind::Time => Value::U64(Some(time(value)?).filter(|time| *time > 0).unwrap_or(INFINITE)),
        Kind::Bytes => Value::U64(bytes(value)?),
        Kind::Number => Value::U64(number(value)?),
        Kind::Signed => Value::I32(value.parse().map_err(|_| "is no number".to_owned())?),
        Kind::Quota => Value::U64(quota(value)?),
        Kind::Cpus => Value::from(cpus(value)?),
        Kind::Policy => Value::I32(policy(value)?),
        Kind::Signal => Value::I32(signal(value)?),
    };
    given.single.insert(property, single);
    Ok(())
}

/// The value without specifiers, of which there may be none but that of the percent sign.
fn unspecified(value: &str) -> Result<String, String> {
    if value.replace("%%", "").contains('%') {
        return Err("specifiers (%) are for a node's own files alone".to_owned());
    }
    Ok(value.replace("%%", "%"))
}

fn truth(value: &str) -> Result<bool, String> {
    let is_false = ["0", "no", "n", "false", "f", "off"].iter().any(|word| value.eq_ignore_ascii_case(word));
    if is_true(value) || is_false { Ok(is_true(value)) } else { Err("is neither yes nor no".to_owned()) }
}

fn number(value: &str) -> Result<u64, String> {
    if value == "infinity" { Ok(INFINITE) } else { value.parse().map_err(|_| "is no number".to_owned()) }
}

/// Bytes, with K, M, G or T for powers of 1,024.
fn bytes(value: &str) -> Result<u64, String> {
    let (digits, power) = match value.char_indices().last() {
        Some((at, unit)) if unit.is_ascii_alphabetic() && value != "infinity" => {
            let power = "BKMGT".find(unit).ok_or("has a unit other than K, M, G and T")?;
            (&value[..at], power)
        }
        _ => (value, 0),
    };
    let count = number(digits.trim())?;
    (0..power).try_fold(count, |bytes, _| bytes.checked_mul(1024)).ok_or_else(|| "is too large".to_owned())
}

/// A span of time, microseconds: seconds, or numbers with units.
fn time(value: &str) -> Result<u64, String> {
    const UNITS: &[(&str, u64)] = &[
        ("us", 1),
        ("ms", 1_000),
        ("s", 1_000_000),
        ("sec", 1_000_000),
        ("min", 60_000_000),
        ("m", 60_000_000),
        ("h", 3_600_000_000),
        ("hr", 3_600_000_000),
        ("", 1_000_000),
    ];
    if value == "infinity" {
        return Ok(INFINITE);
    }
    let no_time = || "is no span of time".to_owned();
    let mut rest = value.trim();
    let mut sum = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let count: u64 = rest[..digits].parse().map_err(|_| no_time())?;
        let after = rest[digits..].trim_start();
        let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == &after[..end]).ok_or_else(no_time)?;
        sum = count.checked_mul(*unit).and_then(|part| sum.checked_add(part)).ok_or_else(no_time)?;
        rest = after[end..].trim_start();
    }
    Ok(sum)
}

/// A share of CPUs in percent, as microseconds per second.
fn quota(value: &str) -> Result<u64, String> {
    let percent: f64 = value
        .strip_suffix('%')
        .and_then(|number| number.trim().parse().ok())
        .filter(|percent: &f64| percent.is_finite() && *percent > 0.0 && *percent < 1e6)
        .ok_or("is no percentage above 0")?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between 0 and 10^10")]
    Ok((percent * 10_000.0).round() as u64)
}

/// CPUs by number and range, as systemd has them on the bus: a bit each, the first in the lowest of the first byte.
fn cpus(value: &str) -> Result<Vec<u8>, String> {
    const MOST: usize = 8_192;
    let mut mask = Vec::new();
    for part in value.split([',', ' ']).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.parse::<usize>().ok().filter(|number| *number < MOST);
        let (first, last) = number(first)
            .zip(number(last))
            .filter(|(first, last)| first <= last)
            .ok_or_else(|| format!("'{part}' is neither a CPU nor a range of them"))?;
        mask.resize(mask.len().max(last / 8 + 1), 0);
        (first..=last).for_each(|cpu| mask[cpu / 8] |= 1 << (cpu % 8));
    }
    Ok(mask)
}

fn policy(value: &str) -> Result<i32, String> {
    let known = [("other", 0), ("fifo", 1), ("rr", 2), ("batch", 3), ("idle", 5)];
    let found = known.iter().find(|(name, _)| *name == value);
    found.map(|(_, number)| *number).ok_or_else(|| "is none of other, batch, idle, fifo and rr".to_owned())
}

fn signal(value: &str) -> Result<i32, String> {
    let name = if value.starts_with("SIG") { value.to_owned() } else { format!("SIG{value}") };
    name.parse::<Signal>().map(|signal| signal as i32).map_err(|_| "is no signal".to_owned())
}

fn command(value: &str) -> Result<Command, String> {
    let (ignores_failure, line) = match value.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    if line.starts_with(['@', '-', ':', '+', '!', '|']) {
        return Err("signs before a command but '-' are for a node's own files alone".to_owned());
    }
    let words = words(line)?;
    if words.iter().any(|word| word == ";") {
        return Err("one command alone can be on a line".to_owned());
    }
    let program = words.first().ok_or("names no program")?.clone();
    Ok((program, words, ignores_failure))
}

/// The words of a line, with quotes and escapes as systemd knows them.
fn words(line: &str) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut rest = line.chars();
    while let Some(one) = rest.next() {
        match (one, quote) {
            ('\\', _) => word.get_or_insert_default().push(escaped(&mut rest)?),
            (one, Some(open)) if one == open => quote = None,
            ('"' | '\'', None) => {
                word.get_or_insert_default();
                quote = Some(one);
            }
            (one, None) if one.is_whitespace() => all.extend(word.take()),
            (one, _) => word.get_or_insert_default().push(one),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".to_owned());
    }
    all.extend(word);
    all.iter().map(|word| unspecified(word)).collect()
}

/// What is after a backslash.
fn escaped(rest: &mut std::str::Chars) -> Result<char, String> {
    let unknown = || "has an escape that is not known here".to_owned();
    let plain = match rest.next().ok_or_else(unknown)? {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        's' => ' ',
        same @ ('\\' | '"' | '\'' | ';') => same,
        'u' => {
            let digits: String = rest.by_ref().take(4).collect();
            u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32).ok_or_else(unknown)?
        }
        'x' => {
            let digits: String = rest.by_ref().take(2).collect();
            let byte = u8::from_str_radix(&digits, 16).ok().filter(u8::is_ascii).ok_or_else(unknown)?;
            char::from(byte)
        }
        _ => return Err(unknown()),
    };
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(service: &str) -> RtResult<Vec<Property>> {
        properties(
            "bluechi",
            &format!("[Unit]\nDescription=d\n[Service]\n{service}\n[Install]\nWantedBy=x\n[X-A]\nB=c\n"),
        )
    }

    fn value(service: &str, name: &str) -> Value<'static> {
        let all = of(&format!("ExecStart=/bin/true\n{service}")).unwrap();
        all.into_iter().find(|(property, _)| *property == name).expect(name).1
    }

    #[test]
    fn commands_have_words_as_systemd_reads_them() {
        let command = |line: &str| value(&format!("ExecStart=\nExecStart={line}"), "ExecStart");
        let expected = |words: &[&str], ignored| {
            let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
            Value::from(vec![(words[0].clone(), words, ignored)])
        };
        assert_eq!(
            command(r#"/bin/sh -c 'trap "exit 7" TERM; a  b' "50%% \"x\"\n" $A"#),
            expected(&["/bin/sh", "-c", r#"trap "exit 7" TERM; a  b"#, "50% \"x\"\n", "$A"], false)
        );
        assert_eq!(command("-/bin/false \\\n# no word\n  more"), expected(&["/bin/false", "more"], true));
        assert_eq!(command(r"a\x20b c\u00e9 --x='y z'"), expected(&["a b", "c\u{e9}", "--x=y z"], false));
    }

    #[test]
    fn values_have_their_property_s_type_and_unit() {
        for (setting, name, expected) in [
            ("MemoryMax=64M", "MemoryMax", Value::U64(64 << 20)),
            ("MemoryMax=infinity", "MemoryMax", Value::U64(u64::MAX)),
            ("TasksMax=9", "TasksMax", Value::U64(9)),
            ("TimeoutStopSec=1min 30", "TimeoutStopUSec", Value::U64(90_000_000)),
            ("TimeoutStartSec=500ms", "TimeoutStartUSec", Value::U64(500_000)),
            ("TimeoutStopSec=0", "TimeoutStopUSec", Value::U64(u64::MAX)),
            ("# note \\\nNice=3", "Nice", Value::I32(3)),
            ("[Unit]\nAfter=a\\x2db.service c.service\nAfter=", "After", {
                Value::from(["a\\x2db.service", "c.service"].map(str::to_owned).to_vec())
            }),
            ("CPUQuota=25.5%", "CPUQuotaPerSecUSec", Value::U64(255_000)),
            ("CPUAffinity=0 2-3,9", "CPUAffinity", Value::from(vec![0b1101_u8, 0b10])),
            ("CPUSchedulingPolicy=fifo", "CPUSchedulingPolicy", Value::I32(1)),
            ("Nice=-5", "Nice", Value::I32(-5)),
            ("KillSignal=INT", "KillSignal", Value::I32(2)),
            ("NoNewPrivileges=on", "NoNewPrivileges", Value::Bool(true)),
            ("RemainAfterExit=no", "RemainAfterExit", Value::Bool(true)),
            ("Environment=\"A=b c\" D=e\nEnvironment=F=g", "Environment", {
                Value::from(["A=b c", "D=e", "F=g"].map(str::to_owned).to_vec())
            }),
        ] {
            assert_eq!(value(setting, name), expected, "{setting}");
        }
        assert!(of("ExecStart=/bin/true\nUser=x\nUser=").unwrap().iter().all(|(name, _)| *name != "User"));
    }

    #[test]
    fn what_cannot_be_given_is_refused_by_name() {
        for (setting, what) in [
            ("DynamicUser=yes", "DynamicUser"),
            ("ExecStart=/bin/echo %n", "specifiers"),
            ("ExecStart=+/bin/true", "signs"),
            ("ExecStart='/bin/true", "quote"),
            ("ExecStart=/bin/true x'y", "quote"),
            ("ExecStart=/bin/a ; /bin/b", "one command"),
            ("ExecStart=/bin/\\q", "escape"),
            ("Environment=A", "NAME=VALUE"),
            ("MemoryMax=5%", "MemoryMax=5%"),
            ("MemoryMax=99999999T", "too large"),
            ("TimeoutStopSec=soon", "span of time"),
            ("CPUQuota=-1%", "percentage"),
            ("CPUAffinity=3-1", "'3-1'"),
            ("CPUAffinity=9999999999", "CPU"),
            ("CPUSchedulingPolicy=deadline", "fifo"),
            ("KillSignal=GONE", "signal"),
            ("Nice=much", "number"),
            ("NoNewPrivileges=perhaps", "neither yes nor no"),
        ] {
            let error = of(&format!("ExecStart=/bin/true\n{setting}")).unwrap_err().to_string();
            assert!(error.contains(what), "{setting}: {error}");
        }
        assert!(of("Type=exec").unwrap_err().to_string().contains("ExecStart"));
    }
}
