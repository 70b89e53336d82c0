//! Which system calls a container may make.
//!
//! Without a profile of its own a container gets the list below: what container engines commonly refuse, each with the
//! capability that allows it. A profile is a file of the node with the OCI runtime specification's `linux.seccomp`.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

use nix::libc::O_NONBLOCK;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompOperator, LinuxSyscall,
};
use serde_json::Value;

use super::invalid;
use crate::model::security::SecurityContext;
use crate::runtime::adapter::{RtResult, unsupported};

/// The word for no profile.
const UNCONFINED: &str = "unconfined";

/// The largest profile that is read, bytes.
const MOST: u64 = 1024 * 1024;

/// `EPERM`.
const NOT_PERMITTED: u32 = 1;

/// `ENOSYS`, upon which libraries take an older call.
const NOT_THERE: u32 = 38;

/// Calls that are refused unless the container has one of the capabilities; with none named, always.
const REFUSED: &[(&[&str], &[&str])] = &[
    (
        &[
            "_sysctl",
            "add_key",
            "create_module",
            "get_kernel_syms",
            "io_uring_enter",
            "io_uring_register",
            "io_uring_setup",
            "keyctl",
            "nfsservctl",
            "query_module",
            "request_key",
            "sysfs",
            "uselib",
            "userfaultfd",
            "ustat",
            "vm86",
            "vm86old",
        ],
        &[],
    ),
    (
        &[
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "pivot_root",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "swapoff",
            "swapon",
            "umount",
            "umount2",
            "unshare",
        ],
        &["SYS_ADMIN"],
    ),
    (&["bpf"], &["BPF", "SYS_ADMIN"]),
    (&["perf_event_open"], &["PERFMON", "SYS_ADMIN"]),
    (&["syslog"], &["SYSLOG", "SYS_ADMIN"]),
    (&["open_by_handle_at"], &["DAC_READ_SEARCH"]),
    (&["kexec_file_load", "kexec_load", "reboot"], &["SYS_BOOT"]),
    (&["delete_module", "finit_module", "init_module"], &["SYS_MODULE"]),
    (&["acct"], &["SYS_PACCT"]),
    (&["kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev"], &["SYS_PTRACE"]),
    (&["ioperm", "iopl"], &["SYS_RAWIO"]),
    (&["clock_adjtime64", "clock_settime", "clock_settime64", "settimeofday", "stime"], &["SYS_TIME"]),
    (&["vhangup"], &["SYS_TTY_CONFIG"]),
    (
        &["get_mempolicy", "mbind", "migrate_pages", "move_pages", "set_mempolicy", "set_mempolicy_home_node"],
        &["SYS_NICE"],
    ),
];

/// The flags of `clone` that make namespaces (`linux/sched.h`): mount, cgroup, UTS, IPC, user, PID and network.
const NEW_NAMESPACES: [u64; 7] =
    [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];

/// The profile; `None` leaves the container unconfined.
pub(super) fn profile(security: &SecurityContext, engine: &str) -> RtResult<Option<LinuxSeccomp>> {
    match security.seccomp_profile.as_deref() {
        Some(UNCONFINED) => Ok(None),
        Some(path) => from_file(path, engine).map(Some),
        None if security.privileged => Ok(None),
        None => usual(security).map(Some),
    }
}

fn usual(security: &SecurityContext) -> RtResult<LinuxSeccomp> {
    let has = |name: &str| security.add_capabilities.iter().any(|added| added == "ALL" || added == name);
    let refused = REFUSED.iter().filter(|(_, capabilities)| !capabilities.iter().any(|name| has(name)));
    let names: Vec<String> = refused.flat_map(|(calls, _)| calls.iter().map(|call| (*call).to_owned())).collect();
    let mut rules = vec![rule(names, NOT_PERMITTED, None)];
    if !has("SYS_ADMIN") {
        for flag in NEW_NAMESPACES {
            rules.push(rule(vec!["clone".to_owned()], NOT_PERMITTED, Some(vec![flag_is_set(flag)?])));
        }
        // Its flags are in memory, where no filter sees them.
        rules.push(rule(vec!["clone3".to_owned()], NOT_THERE, None));
    }
    let mut profile = LinuxSeccomp::default();
    profile
        .set_default_action(LinuxSeccompAction::ScmpActAllow)
        .set_architectures(architectures())
        .set_syscalls(Some(rules));
    Ok(profile)
}

fn rule(names: Vec<String>, errno: u32, args: Option<Vec<LinuxSeccompArg>>) -> LinuxSyscall {
    let mut rule = LinuxSyscall::default();
    rule.set_names(names).set_action(LinuxSeccompAction::ScmpActErrno).set_errno_ret(Some(errno)).set_args(args);
    rule
}

/// Of the first argument.
fn flag_is_set(flag: u64) -> RtResult<LinuxSeccompArg> {
    let arg = LinuxSeccompArgBuilder::default().index(0_usize).value(flag).value_two(flag);
    let arg = arg.op(LinuxSeccompOperator::ScmpCmpMaskedEq).build();
    arg.map_err(|error| invalid(format!("security.seccomp_profile: {error}")))
}

/// The machine's own with those of its older programs, so that the same rules hold for them.
fn architectures() -> Option<Vec<Arch>> {
    match std::env::consts::ARCH {
        "x86_64" => Some(vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32]),
        "aarch64" => Some(vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm]),
        _ => None,
    }
}

/// Reads a profile. Fields that the runtime specification does not have are refused: other tools' profiles have some
/// whose meaning would be lost.
fn from_file(path: &str, engine: &str) -> RtResult<LinuxSeccomp> {
    let wrong = |why: String| invalid(format!("security.seccomp_profile: '{path}': {why}"));
    let opened = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path);
    let file = opened.map_err(|error| wrong(error.to_string()))?;
    if !file.metadata().map_err(|error| wrong(error.to_string()))?.is_file() {
        return Err(wrong("it is no file".to_owned()));
    }
    let mut text = Vec::new();
    file.take(MOST + 1).read_to_end(&mut text).map_err(|error| wrong(error.to_string()))?;
    if text.len() as u64 > MOST {
        return Err(wrong(format!("it has more than {MOST} bytes")));
    }
    let value: Value = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    if let Some(field) = foreign_field(&value) {
        return Err(unsupported(engine, format!("security.seccomp_profile: '{field}' in '{path}'")));
    }
    serde_json::from_value(value).map_err(|error| wrong(error.to_string()))
}

/// The first field that is none of the runtime specification's.
fn foreign_field(profile: &Value) -> Option<String> {
    const PROFILE: [&str; 7] =
        ["defaultAction", "defaultErrnoRet", "architectures", "flags", "listenerPath", "listenerMetadata", "syscalls"];
    const RULE: [&str; 4] = ["names", "action", "errnoRet", "args"];
    let foreign =
        |value: &Value, known: &[&str]| value.as_object()?.keys().find(|key| !known.contains(&key.as_str())).cloned();
    let rules = profile.get("syscalls").and_then(Value::as_array).into_iter().flatten();
    foreign(profile, &PROFILE).or_else(|| {
        rules.enumerate().find_map(|(index, rule)| Some(format!("syscalls[{index}].{}", foreign(rule, &RULE)?)))
    })
}
