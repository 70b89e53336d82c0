//! The only place that reads `/proc`, `/sys` and the node's addresses for reports. What cannot be read is empty.

use std::fs;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

use super::node::Texts;

/// Looks at everything.
pub(super) fn read() -> Texts {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let os_release = match text("/etc/os-release") {
        // Where an image keeps it read-only, os-release(5).
        empty if empty.is_empty() => text("/usr/lib/os-release"),
        found => found,
    };
    let cards = fs::read_dir("/sys/class/drm").into_iter().flatten().flatten();
    Texts {
        stat: text("/proc/stat"),
        meminfo: text("/proc/meminfo"),
        net_dev: text("/proc/net/dev"),
        diskstats: text("/proc/diskstats"),
        os_release,
        drm: cards.map(|card| card.file_name().to_string_lossy().into_owned()).collect(),
        addresses: addresses(),
    }
}

/// The addresses of interfaces that are up, in the kernel's order.
pub(super) fn addresses() -> Vec<IpAddr> {
    let up = getifaddrs().into_iter().flatten().filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP));
    let ip = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    };
    up.filter_map(ip).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::application::report::node;

    #[test]
    fn this_machine_is_understood() {
        let texts = read();
        let (report, _) = node::report("here", &texts, None);
        assert!(report.cpus > 0 && report.total_memory > report.used_memory && report.used_memory > 0, "{report:?}");
        assert!(addresses().iter().any(IpAddr::is_loopback), "{texts:?}");
    }
}
