//! Third stage: values and combinations that their types allow and that make no sense. Pure, except for the host name.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

mod peers;
mod runtimes;

use super::settings::{Actions, Config, Dispatch, Hibernation, Limits, Listen};
use super::units::{duration_text, size_text};

/// The longest path that fits a unix socket's address, without the zero at its end.
const MAX_SOCKET_PATH: usize = 107;

/// Bounds of a queue: a longer one only delays the refusal that a caller needs to hear.
const QUEUE: RangeInclusive<usize> = 1..=65_536;

/// Bounds of a number of threads.
const THREADS: RangeInclusive<usize> = 1..=64;

/// No action or outcome is meant to last longer: ten years.
const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A rule that is broken.
#[derive(Debug, PartialEq, Eq)]
pub struct Violation {
    /// The keys that the rule is about, the likeliest to be wrong first.
    pub keys: Vec<&'static str>,
    /// What is wrong, and what would be right; names the keys where there are several.
    pub what: String,
}

impl Violation {
    fn of(key: &'static str, what: impl Into<String>) -> Self {
        Self { keys: vec![key], what: what.into() }
    }
}

/// Checks the settings and fills in the node's name. Adds to `warnings` what is allowed but should be known.
pub fn validate(mut config: Config, warnings: &mut Vec<String>) -> Result<Config, Violation> {
    if config.node.is_empty() {
        config.node = host_name()?;
    }
    check_node(&config.node)?;
    check_listen(&config.listen, warnings)?;
    if !config.state_dir.is_absolute() {
        return Err(not_absolute("state_dir", &config.state_dir));
    }
    check_dispatch(&config.dispatch)?;
    check_actions(&config.actions)?;
    check_limits(&config.limits)?;
    runtimes::check(&config.runtimes, warnings)?;
    peers::check(&config)?;
    check_hibernation(&config.hibernation)?;
    within("shutdown.drain", config.shutdown.drain, Duration::ZERO..=Duration::from_secs(600), duration_text)?;
    Ok(config)
}

fn check_hibernation(hibernation: &Hibernation) -> Result<(), Violation> {
    let Hibernation { folder, checkpoint_timeout, restore_timeout, .. } = hibernation;
    if !folder.as_os_str().is_empty() && !folder.is_absolute() {
        return Err(not_absolute("hibernation.folder", folder));
    }
    let limits = Duration::from_secs(1)..=Duration::from_secs(3600);
    within("hibernation.checkpoint_timeout", *checkpoint_timeout, limits.clone(), duration_text)?;
    within("hibernation.restore_timeout", *restore_timeout, limits, duration_text)
}

fn host_name() -> Result<String, Violation> {
    let name = nix::unistd::gethostname()
        .map_err(|error| Violation::of("node", format!("is empty, and the host has no name: {error}")))?;
    Ok(name.to_string_lossy().into_owned())
}

fn check_node(name: &str) -> Result<(), Violation> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if name.is_empty() || name.len() > 253 || !name.chars().all(allowed) {
        let what = format!("must be 1 to 253 letters, digits, '-', '.' or '_', not '{}'", name.escape_debug());
        return Err(Violation::of("node", what));
    }
    Ok(())
}

fn check_listen(listen: &Listen, warnings: &mut Vec<String>) -> Result<(), Violation> {
    if listen.unix.as_os_str().is_empty() {
        if listen.tcp.is_empty() {
            let keys = vec!["listen.unix", "listen.tcp"];
            return Err(Violation {
                keys,
                what: "listen.unix and listen.tcp are both empty: nobody could ask for anything".into(),
            });
        }
    } else if !listen.unix.is_absolute() {
        return Err(not_absolute("listen.unix", &listen.unix));
    } else if listen.unix.as_os_str().len() > MAX_SOCKET_PATH {
        let what = format!("must be at most {MAX_SOCKET_PATH} bytes long, which is what a socket's address holds");
        return Err(Violation::of("listen.unix", what));
    }
    for address in &listen.tcp {
        let host = host_of(address)?;
        if is_loopback(host) {
            continue;
        }
        if !listen.insecure {
            let what = format!(
                "'{address}' can be reached from other machines, without encryption and by unknown callers; \
                 take 127.0.0.1, or say 'insecure: true' where that is meant"
            );
            return Err(Violation { keys: vec!["listen.tcp", "listen.insecure"], what });
        }
        warnings.push(format!(
            "listen.insecure: '{address}' takes actions from anybody who reaches it, without encryption"
        ));
    }
    Ok(())
}

/// The host of `host:port`, where `host` may be an IPv6 address in brackets.
fn host_of(address: &str) -> Result<&str, Violation> {
    let host = address.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map(|(host, _)| host);
    let host = host.and_then(|host| match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().ok().map(|_| inner),
        None => (!host.is_empty() && !host.contains([':', '/', ' '])).then_some(host),
    });
    host.ok_or_else(|| {
        let what = format!("must be host:port such as 127.0.0.1:47001 or [::1]:47001, not '{address}'");
        Violation::of("listen.tcp", what)
    })
}

fn is_loopback(host: &str) -> bool {
    host.parse::<IpAddr>().map_or(host == "localhost", |ip| ip.is_loopback())
}

fn check_dispatch(dispatch: &Dispatch) -> Result<(), Violation> {
    within("dispatch.workers", dispatch.workers, THREADS, number)?;
    within("dispatch.urgent_workers", dispatch.urgent_workers, THREADS, number)?;
    if dispatch.urgent_workers >= dispatch.workers {
        let what = format!(
            "dispatch.workers ({}) must be more than dispatch.urgent_workers ({}), or nobody is left for launches",
            dispatch.workers, dispatch.urgent_workers
        );
        return Err(Violation { keys: vec!["dispatch.workers", "dispatch.urgent_workers"], what });
    }
    within("dispatch.readers", dispatch.readers, THREADS, number)?;
    within("dispatch.urgent_queue", dispatch.urgent_queue, QUEUE, number)?;
    within("dispatch.normal_queue", dispatch.normal_queue, QUEUE, number)
}

fn check_actions(actions: &Actions) -> Result<(), Violation> {
    let second = Duration::from_secs(1);
    within("actions.default_deadline", actions.default_deadline, second..=TEN_YEARS, duration_text)?;
    within("actions.max_deadline", actions.max_deadline, second..=TEN_YEARS, duration_text)?;
    if actions.default_deadline > actions.max_deadline {
        let (default, max) = (duration_text(actions.default_deadline), duration_text(actions.max_deadline));
        let what = format!("actions.default_deadline ({default}) must be at most actions.max_deadline ({max})");
        return Err(Violation { keys: vec!["actions.default_deadline", "actions.max_deadline"], what });
    }
    within("actions.keep_outcomes", actions.keep_outcomes, 1..=1_000_000, number)?;
    within("actions.keep_for", actions.keep_for, second..=TEN_YEARS, duration_text)?;
    let tenth = Duration::from_millis(100);
    within("actions.restart_after", actions.restart_after, tenth..=TEN_YEARS, duration_text)?;
    within("actions.restart_after_most", actions.restart_after_most, actions.restart_after..=TEN_YEARS, duration_text)
}

fn check_limits(limits: &Limits) -> Result<(), Violation> {
    within("limits.message_bytes", limits.message_bytes, 64 << 10..=64 << 20, size_text)?;
    within("limits.documents", limits.documents, 1..=10_000, number)?;
    within("limits.containers", limits.containers, 1..=10_000, number)?;
    within("limits.streams_per_peer", limits.streams_per_peer, 1..=1024, number)?;
    within("limits.streams_unix", limits.streams_unix, 1..=1024, number)
}

fn not_absolute(key: &'static str, path: &Path) -> Violation {
    Violation::of(key, format!("must be a path that starts with '/', not '{}'", path.display()))
}

fn number<T: ToString>(value: T) -> String {
    value.to_string()
}

fn within<T: PartialOrd + Copy>(
    key: &'static str,
    value: T,
    range: RangeInclusive<T>,
    text: impl Fn(T) -> String,
) -> Result<(), Violation> {
    if range.contains(&value) {
        return Ok(());
    }
    let what = format!("must be {} to {}, not {}", text(*range.start()), text(*range.end()), text(value));
    Err(Violation::of(key, what))
}
