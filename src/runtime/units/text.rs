//! Unit files: what a container comes to, and what is said to systemd beside the text that a document gives.
//!
//! Every field of the configuration is in the text or is refused by name.

use std::collections::BTreeSet;

use nix::unistd::{Gid, Group, Uid, User};

use super::quadlets::{self, is_quadlet};
use crate::model::resources::Resources;
use crate::model::security::SecurityContext;
use crate::model::workload::NetworkMode;
use crate::runtime::adapter::{ContainerConfig, RtResult, RuntimeError, unsupported};
use crate::runtime::shared::fields::{self, Limits, limits, published_ports};
use crate::runtime::specification::{Bind, capability_sets};

/// What systemd accounts of a unit for, where it has the controllers: it does so by itself for units with limits alone.
pub const ACCOUNTS: [&str; 4] = ["CPUAccounting", "IOAccounting", "MemoryAccounting", "TasksAccounting"];

/// What is beside a unit's own text: systemd keeps the unit after its end, and with it the exit code; what it uses is
/// counted.
pub fn drop_in() -> String {
    let accounts: String = ACCOUNTS.iter().map(|name| format!("{name}=yes\n")).collect();
    format!("[Service]\nRemainAfterExit=yes\n{accounts}")
}

/// The whole of `/` is the node's own.
const NODE_ROOT: &str = "/";

/// The unit file for this engine. A document's own text goes to systemd as it is.
pub fn unit(engine: &str, config: &ContainerConfig, binds: &[Bind]) -> RtResult<String> {
    check(engine, config)?;
    if !config.spec.unit.is_empty() {
        return Ok(config.spec.unit.clone());
    }
    let spec = &config.spec;
    let mut text = format!("[Unit]\nDescription={}\n\n[Service]\nType=exec\n", plain(&config.name));
    // Its end is for this daemon to bring about, with the grace that was asked for.
    text.push_str("TimeoutStopSec=infinity\nRestart=no\n");
    // What its first process leaves behind is killed when that fails, and before the next start: no time limits the wait.
    text.push_str("KillMode=mixed\n");
    let mut set = |key: &str, value: &str| text.extend([key, "=", value, "\n"]);
    let command: Vec<_> = spec.command.iter().chain(&spec.args).map(|word| quoted(word, true)).collect();
    set("ExecStart", &command.join(" "));
    for variable in &spec.env {
        set("Environment", &quoted(&format!("{}={}", variable.name, variable.value), false));
    }
    if !spec.working_dir.is_empty() {
        set("WorkingDirectory", &plain(&spec.working_dir));
    }
    if spec.rootfs != NODE_ROOT {
        set("RootDirectory", &plain(&spec.rootfs));
        set("MountAPIVFS", "yes");
        // Of devices those alone that every container has.
        set("PrivateDevices", "yes");
    }
    if config.network == NetworkMode::None {
        set("PrivateNetwork", "yes");
    }
    for bind in binds {
        let key = if bind.read_only { "BindReadOnlyPaths" } else { "BindPaths" };
        set(key, &mount(bind)?);
    }
    for (key, value) in security(engine, &spec.security, binds)? {
        set(key, &value);
    }
    for (key, value) in limit_settings(&limits(&spec.resources)?) {
        set(key, &value);
    }
    Ok(text)
}

/// Whether what the first process leaves behind ends with it: so it is with containers, and with units that do not say
/// otherwise. systemd itself leaves it alone where it keeps the unit.
pub fn ends_with_its_first_process(config: &ContainerConfig) -> bool {
    let is_otherwise = |setting: &Setting| match (setting.section.as_str(), setting.key.as_str()) {
        ("Service", "RemainAfterExit") => is_true(&setting.value),
        ("Service", "KillMode") => matches!(setting.value.as_str(), "none" | "process"),
        _ => false,
    };
    !settings(&config.spec.unit).iter().any(is_otherwise)
}

/// A truth as systemd writes it.
pub fn is_true(value: &str) -> bool {
    ["1", "yes", "y", "true", "t", "on"].iter().any(|word| value.eq_ignore_ascii_case(word))
}

/// Refuses by name what takes no effect.
pub fn check(engine: &str, config: &ContainerConfig) -> RtResult<()> {
    let spec = &config.spec;
    let refused = [
        (config.pod.is_some(), "pods"),
        (!spec.image.is_empty(), "images"),
        (spec.stdin, "stdin"),
        (spec.tty, "tty"),
        (!config.hostname.is_empty(), "hostname"),
        (!config.aliases.is_empty(), "aliases"),
        (!spec.devices.is_empty(), "devices"),
        (spec.security.privileged, "security.privileged"),
        (spec.security.seccomp_profile.is_some(), "security.seccomp_profile"),
        (spec.security.add_capabilities.contains("ALL"), "security.add_capabilities: ALL"),
        (matches!(config.network, NetworkMode::Named(_)), "networks"),
    ];
    if let Some((_, what)) = refused.into_iter().find(|(is_refused, _)| *is_refused) {
        return Err(unsupported(engine, what));
    }
    if spec.unit.is_empty() { check_rootfs(engine, config) } else { check_text(engine, config) }
}

fn check_rootfs(engine: &str, config: &ContainerConfig) -> RtResult<()> {
    if config.network == NetworkMode::Bridge {
        return Err(unsupported(engine, "networks other than none and host"));
    }
    published_ports(engine, &config.network, &config.ports)?;
    let invalid = |reason: &str| Err(RuntimeError::InvalidSpec { reason: reason.to_owned() });
    if !config.spec.rootfs.starts_with('/') {
        return invalid("rootfs: is no absolute path, and there is no unit");
    }
    let Some(program) = config.spec.command.first() else { return invalid("command: is empty") };
    // Also within quotes systemd takes these for words of its own: with `+` the user and the capabilities would not hold.
    if program.starts_with(PREFIXES) {
        return Err(RuntimeError::InvalidSpec {
            reason: format!("command: '{program}' begins with a sign of systemd's"),
        });
    }
    for (field, path) in [("rootfs", &config.spec.rootfs), ("working_dir", &config.spec.working_dir)] {
        check_path(field, path)?;
    }
    // systemd drops others without a word.
    if let Some(variable) = config.spec.env.iter().find(|variable| !is_env_name(&variable.name)) {
        let reason = format!("env: '{}' is no name that systemd takes", variable.name);
        return Err(RuntimeError::InvalidSpec { reason });
    }
    let texts = config.spec.command.iter().chain(&config.spec.args).chain(config.spec.env.iter().map(|one| &one.value));
    if texts.into_iter().any(|text| text.contains('\0')) {
        return invalid("command, args, env: a NUL character");
    }
    Ok(())
}

/// Signs before a program that systemd has a meaning for.
const PREFIXES: [char; 6] = ['@', '-', ':', '+', '!', '|'];

/// A path that is a whole line of a unit file, which knows neither quotes nor escapes there.
fn check_path(field: &str, path: &str) -> RtResult<()> {
    let is_plain = path.trim() == path && !path.ends_with('\\') && !path.contains(char::is_control);
    let is_usable = path.is_empty() || (path.starts_with('/') && is_plain);
    if !is_usable {
        return Err(RuntimeError::InvalidSpec { reason: format!("{field}: '{path}' is no path that a unit can have") });
    }
    Ok(())
}

fn is_env_name(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && !name.starts_with(|first: char| first.is_ascii_digit()) && name.bytes().all(is_inner)
}

/// A text says all by itself: what else is asked for would have no place in it.
fn check_text(engine: &str, config: &ContainerConfig) -> RtResult<()> {
    let spec = &config.spec;
    let beside = [
        (!spec.rootfs.is_empty(), "rootfs"),
        (!config.mounts.is_empty(), "mounts"),
        (!spec.env.is_empty(), "env"),
        (!spec.command.is_empty() || !spec.args.is_empty(), "a command"),
        (!spec.working_dir.is_empty(), "working_dir"),
        (!config.ports.is_empty(), "ports"),
        (spec.resources != Resources::default(), "resources"),
        (spec.security != SecurityContext::default(), "security"),
    ];
    if let Some((_, what)) = beside.into_iter().find(|(is_refused, _)| *is_refused) {
        return Err(unsupported(engine, format!("a unit with {what} beside it")));
    }
    let settings = settings(&spec.unit);
    if is_quadlet(&spec.unit) {
        quadlets::check_text(engine, &spec.unit)?;
    } else if !settings.iter().any(|setting| setting.section == "Service") {
        return Err(unsupported(engine, "a unit without [Service], or [Container] of Podman's Quadlet files"));
    }
    // A line ends there for systemd, and for nobody else.
    if spec.unit.replace("\r\n", "").contains('\r') {
        return Err(RuntimeError::InvalidSpec { reason: "unit: a carriage return within a line".to_owned() });
    }
    let restarts = |setting: &&Setting| match (setting.section.as_str(), setting.key.as_str()) {
        ("Service", "Restart") => !matches!(setting.value.as_str(), "" | "no"),
        ("Service", "RestartForceExitStatus") => !setting.value.is_empty(),
        _ => false,
    };
    match settings.iter().find(restarts) {
        Some(Setting { key, value, .. }) => {
            Err(unsupported(engine, format!("{key}={value}: no engine restarts by itself")))
        }
        None => Ok(()),
    }
}

/// A setting of a unit's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its section, `Service` say.
    pub section: String,
    /// Its name.
    pub key: String,
    /// Its value; lines that go on are one.
    pub value: String,
}

/// Whether it is to be given to systemd without a file: `Transient=yes` in the section of ours.
pub fn is_transient(text: &str) -> bool {
    let is_it = |one: &Setting| (one.section.as_str(), one.key.as_str()) == ("X-ActionController", "Transient");
    settings(text).iter().rev().find(|one| is_it(one)).is_some_and(|one| is_true(&one.value))
}

/// The settings of a unit's text. Source: `systemd.syntax(7)`.
pub fn settings(text: &str) -> Vec<Setting> {
    let mut joined = String::new();
    let lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines();
    // No comment goes on, and one between lines that do is left out.
    for line in lines.filter(|line| !line.trim_start().starts_with(['#', ';'])) {
        match line.trim_end().strip_suffix('\\') {
            Some(goes_on) => joined.extend([goes_on, " "]),
            None => joined.extend([line, "\n"]),
        }
    }
    let mut section = "";
    let mut all = Vec::new();
    for line in joined.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        } else if let Some((key, value)) = line.split_once('=') {
            let [section, key, value] = [section, key.trim(), value.trim()].map(str::to_owned);
            all.push(Setting { section, key, value });
        }
    }
    all
}

fn security(engine: &str, security: &SecurityContext, binds: &[Bind]) -> RtResult<Vec<(&'static str, String)>> {
    let mut settings = Vec::new();
    let user = fields::user(security, "")?;
    known_user(security)?;
    if let Some((user, group)) = user.split_once(':') {
        settings.push(("User", user.to_owned()));
        settings.push(("Group", group.to_owned()));
    } else if !user.is_empty() {
        settings.push(("User", user));
    }
    if !security.supplemental_groups.is_empty() {
        let groups: Vec<_> = security.supplemental_groups.iter().map(u32::to_string).collect();
        settings.push(("SupplementaryGroups", groups.join(" ")));
    }
    if security.no_new_privileges == Some(true) {
        settings.push(("NoNewPrivileges", "yes".to_owned()));
    }
    if security.read_only_root {
        settings.push(("ProtectSystem", "strict".to_owned()));
        let writable = binds.iter().filter(|bind| !bind.read_only);
        settings.extend(writable.map(|bind| ("ReadWritePaths", quoted(&bind.path, false))));
    }
    // systemd's own usual set is all that there are.
    let (bounding, added) = capability_sets(security, engine)?;
    let named = |set: BTreeSet<String>| set.iter().map(|name| format!("CAP_{name}")).collect::<Vec<_>>().join(" ");
    settings.push(("CapabilityBoundingSet", named(bounding)));
    if !added.is_empty() {
        settings.push(("AmbientCapabilities", named(added)));
    }
    Ok(settings)
}

/// systemd starts services as users and groups that the node knows, and as no others.
fn known_user(security: &SecurityContext) -> RtResult<()> {
    let unknown = |field: &str, id: u32| {
        let reason =
            format!("security.{field}: the node has no {id}, and systemd starts services as who it knows alone");
        Err(RuntimeError::InvalidSpec { reason })
    };
    if let Some(id) = security.run_as_user
        && !matches!(User::from_uid(Uid::from_raw(id)), Ok(Some(_)))
    {
        return unknown("run_as_user", id);
    }
    if let Some(id) = security.run_as_group
        && !matches!(Group::from_gid(Gid::from_raw(id)), Ok(Some(_)))
    {
        return unknown("run_as_group", id);
    }
    Ok(())
}

/// Limits as a unit file has them.
fn limit_settings(limits: &Limits) -> Vec<(&'static str, String)> {
    let quota = limits.cpu.and_then(|(quota, period)| Some((u64::try_from(quota).ok()?, period)));
    let all = [
        ("CPUQuota", quota.map(|(quota, period)| percent(quota.saturating_mul(10_000) / period))),
        ("CPUWeight", limits.cpu_shares.map(|shares| weight(shares).to_string())),
        ("MemoryMax", limits.memory.map(|bytes| bytes.to_string())),
        ("MemoryLow", limits.memory_reservation.map(|bytes| bytes.to_string())),
        ("TasksMax", limits.pids.map(|most| most.to_string())),
    ];
    all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

/// Hundredths of a percent, of which systemd takes two digits.
fn percent(hundredths: u64) -> String {
    format!("{}.{:02}%", hundredths / 100, hundredths % 100)
}

/// Shares of version 1 as a weight of version 2, as runtimes convert them.
pub fn weight(shares: u64) -> u64 {
    (1 + shares.saturating_sub(2).saturating_mul(9_999) / 262_142).min(10_000)
}

/// A value as systemd reads it back: `%` begins a specifier, and in a command line `$` a variable.
fn escaped(value: &str, is_command: bool) -> String {
    let mut text = String::new();
    for one in value.chars() {
        match one {
            '%' => text.push_str("%%"),
            '$' if is_command => text.push_str("$$"),
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            // As a character: `\x` would be one byte of it.
            one if one.is_control() => text.push_str(&format!("\\u{:04x}", u32::from(one))),
            one => text.push(one),
        }
    }
    text
}

/// A value that is the rest of its line as it is, but for specifiers.
fn plain(value: &str) -> String {
    value.replace('%', "%%")
}

fn quoted(value: &str, is_command: bool) -> String {
    format!("\"{}\"", escaped(value, is_command))
}

/// Where a mount comes from and goes to, each in quotes of its own: within them a colon is part of a path. Of escapes systemd
/// knows here that of the quote and that of the backslash.
fn mount(bind: &Bind) -> RtResult<String> {
    let path = |path: &str| {
        if path.contains(char::is_control) {
            return Err(RuntimeError::InvalidSpec {
                reason: format!("mounts: '{path}' is no path that a unit can have"),
            });
        }
        Ok(quoted(path, false))
    };
    Ok(format!("{}:{}", path(&bind.source.display().to_string())?, path(&bind.path)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::workload::EnvVar;
    use crate::runtime::double;

    fn config() -> ContainerConfig {
        let mut config = double::config("w");
        (config.spec.image, config.spec.rootfs) = (String::new(), "/".to_owned());
        config.spec.command = ["/bin/sh", "-c"].map(str::to_owned).to_vec();
        config.spec.args = vec!["echo \"$1 50%\"\n".to_owned()];
        config
    }

    #[test]
    fn fields_are_settings_that_systemd_reads_back() {
        let mut config = config();
        config.spec.env = vec![EnvVar { name: "A".into(), value: "b \"c\" $d %e".into() }];
        config.spec.security.run_as_user = Some(0);
        config.spec.security.run_as_group = Some(0);
        config.spec.working_dir = r#"/a"b\c d%"#.to_owned();
        config.spec.args.push("\u{85}".to_owned());
        config.spec.resources.cpu_millis = Some(250);
        config.spec.resources.pids = Some(9);
        config.spec.security.drop_capabilities = ["ALL".to_owned()].into();
        let bind = Bind { source: "/o:u \"t".into(), path: "/a\\b".to_owned(), read_only: false };
        let text = unit("e", &config, &[bind]).unwrap();
        for line in [
            r#"ExecStart="/bin/sh" "-c" "echo \"$$1 50%%\"\n" "\u0085""#,
            r#"WorkingDirectory=/a"b\c d%%"#,
            "KillMode=mixed",
            r#"BindPaths="/o:u \"t":"/a\\b""#,
            r#"Environment="A=b \"c\" $d %%e""#,
            "User=0",
            "Group=0",
            "PrivateNetwork=yes",
            "CPUQuota=25.00%",
            "TasksMax=9",
            "CapabilityBoundingSet=",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
        }
        assert!(!text.contains("RootDirectory"), "{text}");
    }

    #[test]
    fn what_takes_no_effect_is_refused_by_name() {
        type Change = fn(&mut ContainerConfig);
        let cases: [(Change, &str); 14] = [
            (|config| config.spec.security.run_as_user = Some(4_000_000), "security.run_as_user"),
            (|config| config.spec.image = "i".into(), "images"),
            (|config| config.spec.tty = true, "tty"),
            (|config| config.spec.security.privileged = true, "privileged"),
            (|config| config.network = NetworkMode::Bridge, "networks"),
            (|config| config.spec.unit = "[Container]\nImage=i\n".into(), "unit"),
            (|config| config.spec.rootfs = String::new(), "rootfs"),
            (|config| config.spec.command.clear(), "command"),
            (|config| config.spec.command[0] = "+/bin/sh".into(), "+/bin/sh"),
            (|config| config.spec.command[0] = "@sh".into(), "@sh"),
            (|config| config.spec.working_dir = "~".into(), "working_dir"),
            (|config| config.spec.working_dir = "/a\\".into(), "working_dir"),
            (|config| config.spec.rootfs = "/a\nUser=root".into(), "rootfs"),
            (|config| config.spec.env = vec![EnvVar { name: "a.b".into(), value: "c".into() }], "a.b"),
        ];
        for (change, what) in cases {
            let mut config = config();
            change(&mut config);
            let error = unit("e", &config, &[]).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }

    #[test]
    fn text_of_a_document_stays_as_it_is() {
        let mut config = double::config("w");
        config.spec.image = String::new();
        config.spec.command.clear();
        config.spec.args.clear();
        config.spec.unit = "# mine\n[Service]\nExecStart=/bin/true\n".to_owned();
        config.network = NetworkMode::Bridge;
        assert_eq!(unit("e", &config, &[]), Ok(config.spec.unit.clone()), "its network is its own");
        config.spec.unit.push_str("Restart = always\n");
        let error = unit("e", &config, &[]).unwrap_err().to_string();
        assert!(error.contains("Restart=always"), "{error}");
        for (more, what) in
            [("RestartForceExitStatus=1\n", "RestartForceExitStatus=1"), ("#\rRestart=always\n", "carriage")]
        {
            config.spec.unit = format!("[Service]\nExecStart=/bin/true\n{more}");
            assert!(unit("e", &config, &[]).unwrap_err().to_string().contains(what), "{what}");
        }
        config.spec.unit = "[Unit]\nRestart=always\n[Service]\n#Restart=always\nRestart=no\n".to_owned();
        assert_eq!(unit("e", &config, &[]), Ok(config.spec.unit.clone()));
        // What goes on from the line before is no setting of its own.
        config.spec.unit = "[Service]\nExecStart=/bin/echo \\\n# \\\nRestart=always\n".to_owned();
        assert_eq!(unit("e", &config, &[]), Ok(config.spec.unit.clone()));
        config.spec.env = vec![EnvVar { name: "A".into(), value: "b".into() }];
        assert!(unit("e", &config, &[]).unwrap_err().to_string().contains("env"));
    }
}
