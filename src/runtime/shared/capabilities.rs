//! Capabilities by name and number, and what a process may have of them.

use std::fs;

/// This daemon's own bounding set.
pub fn own_bounding_set() -> Option<u64> {
    told("self")
}

/// The bounding set of a process; `None` where it has ended.
pub fn bounding_set(pid: i32) -> Option<u64> {
    told(&pid.to_string())
}

fn told(process: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// Capabilities by their numbers (`linux/capability.h`).
pub const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Whether a set has the capability; one that is not known here counts as had, as the engine has taken its name.
pub fn has_capability(set: u64, name: &str) -> bool {
    CAPABILITIES.iter().position(|known| *known == name).is_none_or(|number| set >> number & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_known_by_their_numbers() {
        assert!(has_capability(1 << 24, "SYS_RESOURCE") && !has_capability(1 << 23, "SYS_RESOURCE"));
        assert!(has_capability(0, "FROM_THE_FUTURE"));
        assert_eq!(CAPABILITIES[40], "CHECKPOINT_RESTORE");
    }
}
