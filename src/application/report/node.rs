//! A node's use of its resources, from the texts of `/proc`: parsing, and the difference between two looks. Pure.
//!
//! Source: proc(5), os-release(5). A line that is not understood counts as absent: a report with a hole is better than
//! none.

use std::net::IpAddr;

use crate::model::report::{NodeReport, percent};

/// The unit of `/proc/diskstats`, bytes, whatever the disk's own sectors are.
const SECTOR: u64 = 512;

/// Block devices that are no disks, or lie on other ones and would be counted twice.
const NO_DISKS: [&str; 8] = ["loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd"];

/// Counters that only grow, as of one look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counters {
    /// Time that all cores did something, ticks.
    busy: u64,
    /// All time of all cores, ticks.
    time: u64,
    rx_bytes: u64,
    tx_bytes: u64,
    read_bytes: u64,
    write_bytes: u64,
}

/// The texts of one look.
#[derive(Debug, Clone, Default)]
pub(super) struct Texts {
    /// `/proc/stat`.
    pub stat: String,
    /// `/proc/meminfo`.
    pub meminfo: String,
    /// `/proc/net/dev`.
    pub net_dev: String,
    /// `/proc/diskstats`.
    pub diskstats: String,
    /// `/etc/os-release`.
    pub os_release: String,
    /// The names below `/sys/class/drm`.
    pub drm: Vec<String>,
    /// The addresses of interfaces that are up, in the kernel's order.
    pub addresses: Vec<IpAddr>,
}

/// The report of a look, with what has grown since `before`; and the counters for the next one.
pub(super) fn report(node: &str, texts: &Texts, before: Option<Counters>) -> (NodeReport, Counters) {
    let now = counters(texts);
    // What was reset, as when an interface goes and comes, has not grown.
    let grown = |of: fn(&Counters) -> u64| before.map_or(0, |before| of(&now).saturating_sub(of(&before)));
    let (used_memory, total_memory) = memory(&texts.meminfo);
    let report = NodeReport {
        node: node.to_owned(),
        cpu_percent: percent(grown(|c| c.busy), grown(|c| c.time)),
        cpus: cpus(&texts.stat),
        gpus: count(&texts.drm, |name| is_numbered(name, "card")),
        used_memory,
        total_memory,
        rx_bytes: grown(|c| c.rx_bytes),
        tx_bytes: grown(|c| c.tx_bytes),
        read_bytes: grown(|c| c.read_bytes),
        write_bytes: grown(|c| c.write_bytes),
        os: os(&texts.os_release),
        arch: std::env::consts::ARCH.to_owned(),
        ip: address(&texts.addresses).map(|ip| ip.to_string()).unwrap_or_default(),
    };
    (report, now)
}

fn counters(texts: &Texts) -> Counters {
    let (busy, time) = cpu(&texts.stat);
    let (rx_bytes, tx_bytes) = network(&texts.net_dev);
    let (read_bytes, write_bytes) = disks(&texts.diskstats);
    Counters { busy, time, rx_bytes, tx_bytes, read_bytes, write_bytes }
}

/// Busy and all ticks of the line that sums up all cores.
fn cpu(stat: &str) -> (u64, u64) {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    // user, nice, system, idle, iowait, irq, softirq, steal; the time of guests behind them is in user already.
    let ticks: Vec<u64> = line.split_whitespace().take(8).map_while(|field| field.parse().ok()).collect();
    let all: u64 = ticks.iter().sum();
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    (all - idle, all)
}

fn cpus(stat: &str) -> u64 {
    let names: Vec<_> = stat.lines().filter_map(|line| line.split_whitespace().next()).collect();
    count(&names, |name| is_numbered(name, "cpu"))
}

/// Used and all memory, bytes. What could be had at once, caches among it, is not used.
fn memory(meminfo: &str) -> (u64, u64) {
    let kib = |key: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    let total = kib("MemTotal");
    (total.saturating_sub(kib("MemAvailable")) * 1024, total * 1024)
}

/// Received and sent bytes of all interfaces but loopback.
fn network(net_dev: &str) -> (u64, u64) {
    let of_line = |line: &str| {
        let (name, counts) = line.split_once(':')?;
        let counts: Vec<u64> = counts.split_whitespace().map_while(|field| field.parse().ok()).collect();
        // Eight columns of what is received, then those of what is sent; bytes are the first of each.
        (name.trim() != "lo").then_some((*counts.first()?, *counts.get(8)?))
    };
    sum(net_dev.lines().filter_map(of_line))
}

/// Read and written bytes of whole disks: what their partitions do is counted in them.
fn disks(diskstats: &str) -> (u64, u64) {
    let lines: Vec<Vec<&str>> = diskstats.lines().map(|line| line.split_whitespace().collect()).collect();
    let names: Vec<&str> = lines.iter().filter_map(|fields| fields.get(2).copied()).collect();
    let is_disk = |name: &str| {
        !NO_DISKS.iter().any(|prefix| name.starts_with(prefix)) && !names.iter().any(|disk| is_part(name, disk))
    };
    let of_fields = |fields: &Vec<&str>| {
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        fields.get(2).filter(|name| is_disk(name))?;
        Some((number(5)?.saturating_mul(SECTOR), number(9)?.saturating_mul(SECTOR)))
    };
    sum(lines.iter().filter_map(of_fields))
}

/// Whether `name` is a partition of `disk`: `sda1` of `sda`, `mmcblk0p1` of `mmcblk0`.
fn is_part(name: &str, disk: &str) -> bool {
    let infix = if disk.ends_with(|last: char| last.is_ascii_digit()) { "p" } else { "" };
    name.strip_prefix(disk).is_some_and(|rest| is_numbered(rest, infix))
}

/// Whether the name is the prefix with a number.
fn is_numbered(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

fn count<T: AsRef<str>>(names: &[T], is_it: impl Fn(&str) -> bool) -> u64 {
    names.iter().filter(|name| is_it(name.as_ref())).map(|_| 1).sum()
}

fn sum(pairs: impl Iterator<Item = (u64, u64)>) -> (u64, u64) {
    pairs.fold((0, 0), |all, one| (all.0.saturating_add(one.0), all.1.saturating_add(one.1)))
}

/// The system's name with its version.
fn os(os_release: &str) -> String {
    let value = os_release.lines().find_map(|line| line.trim().strip_prefix("PRETTY_NAME="));
    let value = value.unwrap_or("Linux").trim();
    let unquoted = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    unquoted('"').or_else(|| unquoted('\'')).unwrap_or(value).to_owned()
}

/// The first address that others can use. MonitoringServer takes IPv4 alone, so that is preferred.
fn address(all: &[IpAddr]) -> Option<IpAddr> {
    let is_link_local = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let usable = || all.iter().filter(|ip| !ip.is_loopback() && !ip.is_unspecified() && !is_link_local(ip));
    usable().find(|ip| ip.is_ipv4()).or_else(|| usable().next()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> Texts {
        Texts {
            stat: "cpu  100 0 50 800 50 0 0 0 40 0\ncpu0 50 0 25 400 25 0 0 0 0 0\ncpu1 50 0 25 400 25 0 0 0 0 0\n\
                   intr 5\nctxt 1\n"
                .into(),
            meminfo: "MemTotal:       1000 kB\nMemFree:   100 kB\nMemAvailable:    750 kB\n".into(),
            net_dev: "Inter-|   Receive                |  Transmit\n face |bytes    packets\n    \
                      lo: 9000 1 0 0 0 0 0 0 9000 1 0 0 0 0 0 0\n  eth0: 100 1 0 0 0 0 0 0 200 1 0 0 0 0 0 0\n\
                      wlan0:10 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0\n"
                .into(),
            diskstats: "   8       0 sda 1 0 10 0 1 0 20 0 0 0 0\n   8       1 sda1 1 0 9 0 1 0 19 0 0 0 0\n\
                        179 0 mmcblk0 1 0 1 0 1 0 2 0 0 0 0\n179 1 mmcblk0p1 1 0 1 0 1 0 2 0 0 0 0\n\
                        7 0 loop0 1 0 99 0 1 0 99 0 0 0 0\n253 0 dm-0 1 0 99 0 1 0 99 0 0 0 0\n"
                .into(),
            os_release: "NAME=\"X\"\nPRETTY_NAME=\"Automotive Linux 9\"\n".into(),
            drm: ["card0", "card0-HDMI-A-1", "renderD128", "version", "card1"].map(str::to_owned).into(),
            addresses: ["127.0.0.1", "::1", "fe80::1", "fd00::2", "10.0.0.2"].map(|ip| ip.parse().unwrap()).into(),
        }
    }

    #[test]
    fn first_report_has_what_holds_now_and_nothing_that_has_grown() {
        let (report, _) = report("ecu", &texts(), None);
        let expected = NodeReport {
            node: "ecu".into(),
            cpus: 2,
            gpus: 2,
            used_memory: 250 * 1024,
            total_memory: 1000 * 1024,
            os: "Automotive Linux 9".into(),
            arch: std::env::consts::ARCH.into(),
            ip: "10.0.0.2".into(),
            ..NodeReport::default()
        };
        assert_eq!(report, expected);
        assert!((report.memory_percent() - 25.0).abs() < 1e-9);
    }

    #[test]
    fn later_report_has_what_has_grown_since_the_one_before() {
        let (_, before) = report("ecu", &texts(), None);
        assert_eq!(before.read_bytes, 11 * SECTOR, "partitions and what lies on disks is not counted again");
        let mut later = texts();
        later.stat = "cpu  130 0 60 850 60 0 0 0 40 0\ncpu0 1\n".into();
        later.net_dev = later.net_dev.replace("eth0: 100", "eth0: 150").replace(" 200 ", " 207 ");
        later.diskstats = later.diskstats.replace("sda 1 0 10 0 1 0 20", "sda 1 0 12 0 1 0 23");
        let (report, now) = report("ecu", &later, Some(before));
        assert!((report.cpu_percent - 40.0).abs() < 1e-9, "{}", report.cpu_percent);
        assert_eq!((report.rx_bytes, report.tx_bytes), (50, 7));
        assert_eq!((report.read_bytes, report.write_bytes), (2 * SECTOR, 3 * SECTOR));
        let (again, _) = super::report("ecu", &texts(), Some(now));
        assert_eq!((again.rx_bytes, again.cpu_percent), (0, 0.0), "what was reset has not grown");
    }

    #[test]
    fn texts_that_are_not_as_expected_leave_holes() {
        let (report, counters) = report("ecu", &Texts::default(), None);
        assert_eq!(counters, Counters::default());
        assert_eq!((report.total_memory, report.cpus, report.os.as_str(), report.ip.as_str()), (0, 0, "Linux", ""));
        assert!(report.memory_percent() == 0.0);
        let odd = Texts {
            stat: "cpu  x\n".into(),
            net_dev: "eth0: 1 2\n:\n".into(),
            diskstats: "8 0\nx y sda 1\n".into(),
            ..Texts::default()
        };
        assert_eq!(super::report("ecu", &odd, None).1, Counters::default());
    }

    #[test]
    fn address_of_version_6_is_told_where_there_is_no_other() {
        let all: Vec<IpAddr> = ["::1", "fe80::1", "fd00::2"].map(|ip| ip.parse().unwrap()).into();
        assert_eq!(address(&all), Some("fd00::2".parse().unwrap()));
        assert_eq!(address(&all[..2]), None);
        assert_eq!(os("PRETTY_NAME='A'"), "A");
        assert_eq!(os("PRETTY_NAME=A"), "A");
    }
}
