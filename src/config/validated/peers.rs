//! What is checked of the settings of stores and peers: addresses, times, and what belongs together. Pure.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use super::{Violation, duration_text, not_absolute, number, within};
use crate::config::settings::{Backend, Config, OtherNode, Store, TimpaniDialect, TimpaniRecovery};

/// How long one call to a peer may be given.
const CALL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);

/// Checks the sections `store`, `policy.server`, `pullpiri`, `nodes` and `timpani`.
pub(super) fn check(config: &Config) -> Result<(), Violation> {
    check_store(&config.store)?;
    optional("policy.server.address", &config.policy.server.address)?;
    within("policy.server.timeout", config.policy.server.timeout, CALL, duration_text)?;
    let pullpiri = &config.pullpiri;
    for (key, address) in [
        ("pullpiri.state_manager", &pullpiri.state_manager),
        ("pullpiri.monitoring_server", &pullpiri.monitoring_server),
        ("pullpiri.pharos", &pullpiri.pharos),
        ("pullpiri.faults", &pullpiri.faults),
        ("timpani.address", &config.timpani.address),
    ] {
        optional(key, address)?;
    }
    let ten_minutes = Duration::from_secs(600);
    within("pullpiri.network_wait", pullpiri.network_wait, Duration::ZERO..=ten_minutes, duration_text)?;
    within("pullpiri.node_agent_port", pullpiri.node_agent_port, 1..=u16::MAX, number)?;
    within("pullpiri.timeout", pullpiri.timeout, CALL, duration_text)?;
    let hour = Duration::from_secs(3600);
    within("pullpiri.start_timeout", pullpiri.start_timeout, *CALL.start()..=hour, duration_text)?;
    within("pullpiri.report_every", pullpiri.report_every, *CALL.start()..=hour, duration_text)?;
    within("timpani.timeout", config.timpani.timeout, CALL, duration_text)?;
    if config.timpani.dialect == TimpaniDialect::V1 && config.timpani.recovery != TimpaniRecovery::Never {
        let what = "timpani.recovery is of dialect schedinfo: v1 releases cores in any case".to_owned();
        return Err(Violation { keys: vec!["timpani.recovery", "timpani.dialect"], what });
    }
    within("timpani.cpu_limit", config.timpani.cpu_limit, 1..=100, number)?;
    within("timpani.cooldown", config.timpani.cooldown, Duration::from_secs(1)..=hour, duration_text)?;
    config.nodes.iter().try_for_each(|(name, node)| check_node(name, node))
}

fn check_store(store: &Store) -> Result<(), Violation> {
    within("store.timeout", store.timeout, CALL, duration_text)?;
    within("store.backlog.entries", store.backlog.entries, 16..=100_000, number)?;
    within("store.backlog.reserve", store.backlog.reserve, 0..=100_000, number)?;
    let etcd = &store.etcd;
    let lease = Duration::from_secs(5)..=Duration::from_secs(600);
    within("store.etcd.lease", etcd.lease, lease, duration_text)?;
    etcd.endpoints.iter().try_for_each(|endpoint| address("store.etcd.endpoints", endpoint))?;
    if store.backend == Backend::Etcd && etcd.endpoints.is_empty() {
        return Err(Violation::of("store.etcd.endpoints", "must name a member, such as 127.0.0.1:2379"));
    }
    for (key, path) in [
        ("store.etcd.password_file", &etcd.password_file),
        ("store.etcd.ca_file", &etcd.ca_file),
        ("store.etcd.cert_file", &etcd.cert_file),
        ("store.etcd.key_file", &etcd.key_file),
    ] {
        if !path.as_os_str().is_empty() && !path.is_absolute() {
            return Err(not_absolute(key, path));
        }
    }
    together("store.etcd.user", !etcd.user.is_empty(), "store.etcd.password_file", is_given(&etcd.password_file))?;
    together("store.etcd.cert_file", is_given(&etcd.cert_file), "store.etcd.key_file", is_given(&etcd.key_file))?;
    if is_given(&etcd.cert_file) && !is_given(&etcd.ca_file) {
        let what = "store.etcd.cert_file needs store.etcd.ca_file: without it connections are plain";
        return Err(Violation { keys: vec!["store.etcd.cert_file", "store.etcd.ca_file"], what: what.into() });
    }
    address("store.rocksdb.address", &store.rocksdb.address)
}

fn is_given(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}

fn together(one: &'static str, has_one: bool, other: &'static str, has_other: bool) -> Result<(), Violation> {
    if has_one == has_other {
        return Ok(());
    }
    Err(Violation { keys: vec![one, other], what: format!("{one} and {other} belong together: one of them is empty") })
}

fn check_node(name: &str, node: &OtherNode) -> Result<(), Violation> {
    let given: Vec<_> =
        [&node.node_agent, &node.action_controller].into_iter().filter(|address| !address.is_empty()).collect();
    match given.as_slice() {
        [only] => address("nodes", only),
        [] => Err(Violation::of("nodes", format!("'{name}' has neither node_agent nor action_controller"))),
        _ => Err(Violation::of("nodes", format!("'{name}' has both node_agent and action_controller: give one"))),
    }
}

fn optional(key: &'static str, text: &str) -> Result<(), Violation> {
    if text.is_empty() { Ok(()) } else { address(key, text) }
}

/// Refuses what is neither `host:port` nor the address of a unix socket.
fn address(key: &'static str, text: &str) -> Result<(), Violation> {
    if text.strip_prefix("unix://").is_some_and(|path| path.starts_with('/')) {
        return Ok(());
    }
    let host = text.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map(|(host, _)| host);
    let is_host = host.is_some_and(|host| {
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        inner.map_or(!host.is_empty() && !host.contains([':', '/', ' ']), |ip| ip.parse::<std::net::Ipv6Addr>().is_ok())
    });
    if is_host {
        return Ok(());
    }
    let what = format!("must be host:port such as 127.0.0.1:47006 or unix:///path, not '{}'", text.escape_debug());
    Err(Violation::of(key, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(change: impl FnOnce(&mut Config)) -> Vec<&'static str> {
        let mut config = Config::default();
        change(&mut config);
        check(&config).map_or_else(|violation| violation.keys, |()| Vec::new())
    }

    #[test]
    fn defaults_and_usual_addresses_are_taken() {
        assert_eq!(broken(|_| ()), [""; 0]);
        for good in ["127.0.0.1:1", "ecu-1:47006", "[::1]:2", "unix:///run/x.sock"] {
            assert_eq!(broken(|config| config.pullpiri.state_manager = good.into()), [""; 0], "{good}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_key() {
        for bad in ["ecu", ":1", "1.2.3.4:99999", "http://x:1", "unix://x"] {
            assert_eq!(broken(|config| config.timpani.address = bad.into()), ["timpani.address"], "{bad}");
        }
        assert_eq!(broken(|c| c.store.timeout = Duration::ZERO), ["store.timeout"]);
        assert_eq!(broken(|c| c.store.etcd.user = "u".into()), ["store.etcd.user", "store.etcd.password_file"]);
        let cert = |c: &mut Config| {
            c.store.etcd.cert_file = "/c".into();
            c.store.etcd.key_file = "/k".into();
        };
        assert_eq!(broken(cert), ["store.etcd.cert_file", "store.etcd.ca_file"]);
        let v1 = |c: &mut Config| (c.timpani.dialect, c.timpani.recovery) = (TimpaniDialect::V1, TimpaniRecovery::Stop);
        assert_eq!(broken(v1), ["timpani.recovery", "timpani.dialect"]);
        assert_eq!(broken(|c| c.timpani.cpu_limit = 0), ["timpani.cpu_limit"]);
        let no_member = |c: &mut Config| {
            c.store.backend = Backend::Etcd;
            c.store.etcd.endpoints.clear();
        };
        assert_eq!(broken(no_member), ["store.etcd.endpoints"]);
        assert_eq!(broken(|c| drop(c.nodes.insert("Z".into(), OtherNode::default()))), ["nodes"]);
    }
}
