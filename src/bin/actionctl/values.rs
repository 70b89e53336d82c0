//! Values of options: durations, sizes, signals, ports, volumes. Each parser names what is wrong and what is allowed.

use std::str::FromStr;
use std::time::Duration;

use nix::sys::signal::Signal;

/// What a duration looks like, for messages.
const DURATION_FORM: &str = "write a number with its unit, for example 500ms, 30s, 1m30s or 2h";

/// Parses `500ms`, `30s`, `1m30s`, `2h`, `1d`. A number without a unit is refused, because it could mean either.
pub fn duration(text: &str) -> Result<Duration, String> {
    let mut rest = text;
    let mut total_ms: u64 = 0;
    if rest.is_empty() {
        return Err(format!("is empty; {DURATION_FORM}"));
    }
    while !rest.is_empty() {
        let (number, after) = split_where(rest, |c| !c.is_ascii_digit());
        let (unit, after) = split_where(after, |c| c.is_ascii_digit());
        let scale = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(format!("unit '{unit}' is not known; {DURATION_FORM}")),
        };
        let number: u64 = number.parse().map_err(|_| format!("'{number}' is no whole number; {DURATION_FORM}"))?;
        total_ms = number
            .checked_mul(scale)
            .and_then(|ms| total_ms.checked_add(ms))
            .ok_or_else(|| String::from("is too long"))?;
        rest = after;
    }
    Ok(Duration::from_millis(total_ms))
}

/// As [`duration`], but not zero.
pub fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err(String::from("must be longer than nothing")),
        longer => Ok(longer),
    }
}

/// Splits before the first character that `ends` the run.
fn split_where(text: &str, ends: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(ends).unwrap_or(text.len()))
}

/// Milliseconds of a duration.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Parses a size in bytes as container tools write it: `256m`, `1g`, `64k`, `256Mi`, `1Gi`, `1048576`. All are powers
/// of 1,024, as in podman and docker. Kubernetes' `m` for thousandths has no meaning for memory and is not taken so.
pub fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split_where(text, |c| !c.is_ascii_digit());
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "ki" | "kib" => 10,
        "m" | "mb" | "mi" | "mib" => 20,
        "g" | "gb" | "gi" | "gib" => 30,
        _ => return Err(format!("unit '{unit}' is not known; write for example 256m, 1g or 256Mi")),
    };
    let number: u64 = number.parse().map_err(|_| String::from("is no size; write for example 256m, 1g or 256Mi"))?;
    number.checked_mul(1 << shift).filter(|bytes| *bytes > 0).ok_or_else(|| String::from("is out of range"))
}

/// Parses a number of CPUs, `1.5` or `500m`, and gives it as a Kubernetes quantity.
pub fn cpus(text: &str) -> Result<String, String> {
    let (digits, scale) = text.strip_suffix('m').map_or((text, 1.0), |digits| (digits, 0.001));
    let plain = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit() || c == '.');
    let number: f64 = if plain { digits.parse().unwrap_or(0.0) } else { 0.0 };
    if number * scale < 0.001 {
        return Err(String::from("is no number of CPUs; write for example 1.5 or 500m"));
    }
    Ok(text.to_owned())
}

/// Parses a new limit of bytes, in which 0 is none.
pub fn limit_bytes(text: &str) -> Result<u64, String> {
    if text == "0" { Ok(0) } else { bytes(text) }
}

/// Parses a new limit of CPUs, in which 0 is none.
pub fn limit_cpus(text: &str) -> Result<String, String> {
    if text == "0" { Ok(text.to_owned()) } else { cpus(text) }
}

/// Parses a signal's name or number (`INT`, `SIGINT`, `2`, `SIGRTMIN+3`) and gives its full name.
pub fn signal(text: &str) -> Result<String, String> {
    if let Ok(number) = text.parse::<i32>() {
        let signal = Signal::try_from(number).map_err(|_| format!("there is no signal {number}"))?;
        return Ok(signal.as_str().to_owned());
    }
    let upper = text.to_ascii_uppercase();
    let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    let is_real_time = name.starts_with("SIGRTMIN") || name.starts_with("SIGRTMAX");
    if is_real_time || Signal::from_str(&name).is_ok() {
        return Ok(name);
    }
    Err(String::from("is no signal; write for example SIGTERM, INT or 9"))
}

/// A point in the past: how long ago, or a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// So long before now.
    Ago(Duration),
    /// This time.
    At(jiff::Timestamp),
}

/// Parses `5m` or `2026-01-31T12:00:00Z`.
pub fn since(text: &str) -> Result<Since, String> {
    if text.contains('T') {
        return text.parse().map(Since::At).map_err(|error| format!("is no time: {error}"));
    }
    duration(text).map(Since::Ago).map_err(|error| format!("{error}, or a time such as 2026-01-31T12:00:00Z"))
}

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// Empty: all addresses.
    pub host_ip: String,
    /// The host's port.
    pub host_port: u16,
    /// The container's port.
    pub container_port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: &'static str,
}

/// What a published port looks like, for messages.
const PUBLISH_FORM: &str = "write [ADDRESS:]HOST_PORT:CONTAINER_PORT[/udp]";

impl FromStr for Publish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = match protocol {
            "tcp" => "TCP",
            "udp" => "UDP",
            "sctp" => "SCTP",
            other => return Err(format!("protocol '{other}' is not known; tcp, udp and sctp are")),
        };
        let (rest, container) = ports.rsplit_once(':').ok_or_else(|| format!("names one port; {PUBLISH_FORM}"))?;
        let (host_ip, host) = rest.rsplit_once(':').unwrap_or(("", rest));
        let host_ip = host_ip.trim_start_matches('[').trim_end_matches(']');
        if !host_ip.is_empty() && host_ip.parse::<std::net::IpAddr>().is_err() {
            return Err(format!("'{host_ip}' is no IP address; {PUBLISH_FORM}"));
        }
        Ok(Self { host_ip: host_ip.to_owned(), host_port: port(host)?, container_port: port(container)?, protocol })
    }
}

/// A port number from 1.
fn port(text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|port| *port > 0).ok_or_else(|| format!("'{text}' is no port; {PUBLISH_FORM}"))
}

/// A volume and where it is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// An absolute path of the host, or the name of a volume.
    pub source: String,
    /// Absolute path inside.
    pub path: String,
    /// Writes are refused.
    pub read_only: bool,
}

/// What a volume looks like, for messages.
const VOLUME_FORM: &str = "write /HOST/PATH:/PATH[:ro] or NAME:/PATH[:ro]";

impl Volume {
    /// Whether the source is a path of the host.
    pub fn is_host_path(&self) -> bool {
        self.source.starts_with('/')
    }
}

impl FromStr for Volume {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let (source, path, option) = match parts.as_slice() {
            [source, path] => (*source, *path, "rw"),
            [source, path, option] => (*source, *path, *option),
            _ => return Err(format!("is no volume; {VOLUME_FORM}")),
        };
        let read_only = match option {
            "ro" => true,
            "rw" => false,
            other => return Err(format!("option '{other}' is not known; ro and rw are")),
        };
        if source.is_empty() || (source.contains('/') && !source.starts_with('/')) {
            return Err(format!("'{source}' is neither an absolute path nor a name; {VOLUME_FORM}"));
        }
        if !path.starts_with('/') {
            return Err(format!("'{path}' is no absolute path; {VOLUME_FORM}"));
        }
        Ok(Self { source: source.to_owned(), path: path.to_owned(), read_only })
    }
}

/// Parses `NAME=VALUE`, or `NAME` for the caller's own value of it.
pub fn env_var(text: &str) -> Result<(String, String), String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, value.to_owned()),
        None => (text, std::env::var(text).map_err(|_| format!("'{text}' is not set here; write {text}=VALUE"))?),
    };
    if name.is_empty() {
        return Err(String::from("has no name; write NAME=VALUE"));
    }
    Ok((name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_add_their_units_up() {
        for (text, ms) in [("500ms", 500), ("30s", 30_000), ("1m30s", 90_000), ("2h", 7_200_000), ("0s", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn duration_without_unit_or_with_a_foreign_one_is_refused_with_the_form() {
        for text in ["", "30", "5 m", "1.5s", "10y", "s", "-3s", "1m30"] {
            let error = duration(text).unwrap_err();
            assert!(error.contains("500ms"), "{text}: {error}");
        }
        assert!(duration("99999999999999999999s").is_err());
        assert!(duration("18446744073709551615h").is_err());
        assert!(positive_duration("0s").is_err());
    }

    #[test]
    fn sizes_are_powers_of_1024_in_either_spelling() {
        for (text, size) in [("256m", 256 << 20), ("256Mi", 256 << 20), ("1g", 1 << 30), ("64k", 65_536), ("42", 42)] {
            assert_eq!(bytes(text), Ok(size), "{text}");
        }
        for text in ["", "m", "1t", "0", "-1m", "99999999999999g"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn cpus_are_whole_fractional_or_thousandths() {
        for text in ["1", "1.5", "500m", "0.25"] {
            assert_eq!(cpus(text), Ok(text.to_owned()));
        }
        for text in ["", "0", "m", "-1", "1e3", "nan", "1.2.3"] {
            assert!(cpus(text).is_err(), "{text}");
        }
    }

    #[test]
    fn signals_are_named_in_full() {
        for text in ["INT", "int", "SIGINT", "2"] {
            assert_eq!(signal(text).as_deref(), Ok("SIGINT"), "{text}");
        }
        assert_eq!(signal("SIGRTMIN+3").as_deref(), Ok("SIGRTMIN+3"));
        assert!(signal("NOPE").is_err());
        assert!(signal("99").is_err());
    }

    #[test]
    fn since_is_a_duration_or_a_time() {
        assert_eq!(since("5m"), Ok(Since::Ago(Duration::from_secs(300))));
        assert!(matches!(since("2026-01-31T12:00:00Z"), Ok(Since::At(_))));
        assert!(since("yesterday").is_err());
        assert!(since("2026-13-31T12:00:00Z").is_err());
    }

    #[test]
    fn ports_are_published_with_address_and_protocol() {
        let plain: Publish = "8080:80".parse().unwrap();
        assert_eq!((plain.host_ip.as_str(), plain.host_port, plain.container_port), ("", 8080, 80));
        let full: Publish = "127.0.0.1:53:5353/udp".parse().unwrap();
        assert_eq!((full.host_ip.as_str(), full.protocol), ("127.0.0.1", "UDP"));
        let six: Publish = "[::1]:80:80".parse().unwrap();
        assert_eq!(six.host_ip, "::1");
        for text in ["80", "0:80", "80:70000", "host:80:80", "80:80/icmp", ":80"] {
            assert!(text.parse::<Publish>().is_err(), "{text}");
        }
    }

    #[test]
    fn volumes_are_host_paths_or_names() {
        let path: Volume = "/data:/d:ro".parse().unwrap();
        assert!(path.is_host_path() && path.read_only);
        let named: Volume = "cache:/c".parse().unwrap();
        assert!(!named.is_host_path() && !named.read_only);
        for text in ["/data", "./x:/x", "/a:b", "/a:/b:Z", ":/x"] {
            assert!(text.parse::<Volume>().is_err(), "{text}");
        }
    }

    #[test]
    fn environment_without_a_value_has_to_be_set_here() {
        assert_eq!(env_var("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert!(env_var("PATH").is_ok());
        assert!(env_var("NOT_SET_ANYWHERE_AT_ALL").is_err());
        assert!(env_var("=x").is_err());
    }
}
