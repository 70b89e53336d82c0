//! [`Address`]: where the daemon listens, and, when it does not answer there, why.

use std::fmt;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where the daemon listens unless told otherwise.
pub const DEFAULT: &str = "unix:///run/actioncontroller/actioncontroller.sock";

/// The variable of the environment that replaces [`DEFAULT`].
pub const VARIABLE: &str = "ACTIONCONTROLLER_ADDRESS";

/// Where the daemon listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A unix socket by its path.
    Unix(PathBuf),
    /// `host:port`.
    Tcp(String),
}

impl Address {
    /// As gRPC's core names its targets.
    pub fn target(&self) -> String {
        match self {
            Self::Unix(path) => format!("unix:{}", path.display()),
            Self::Tcp(host_port) => host_port.clone(),
        }
    }

    /// Why nobody answers, in words; `None` where this end cannot tell.
    pub fn diagnose(&self) -> Option<String> {
        match self {
            Self::Unix(path) => Some(diagnose_socket(path)),
            Self::Tcp(_) => None,
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "write unix:///PATH or HOST:PORT";
        if text.contains('\0') {
            return Err(format!("holds a NUL byte; {form}"));
        }
        if let Some(path) = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:")) {
            return match path {
                "" => Err(format!("has no path; {form}")),
                path => Ok(Self::Unix(PathBuf::from(path))),
            };
        }
        if text.starts_with('/') {
            return Ok(Self::Unix(PathBuf::from(text)));
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(format!("scheme '{scheme}' is not known; {form}"));
        }
        match text.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => {
                Ok(Self::Tcp(text.to_owned()))
            }
            _ => Err(format!("'{text}' is no address; {form}")),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(host_port) => f.write_str(host_port),
        }
    }
}

/// Looks at the socket's file and knocks once.
fn diagnose_socket(path: &Path) -> String {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return String::from("the socket does not exist"),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            return String::from("permission denied on the way to the socket");
        }
        Err(error) => return format!("the socket cannot be looked at: {error}"),
    };
    if !metadata.file_type().is_socket() {
        return String::from("the file is no socket");
    }
    match UnixStream::connect(path) {
        Ok(_) => String::from("the socket takes connections, but no gRPC server answers on it"),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            String::from("the socket exists, but nobody listens on it")
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            format!("permission denied: the socket is for {}", owners(metadata.uid(), metadata.gid()))
        }
        Err(error) => format!("the socket does not take connections: {error}"),
    }
}

/// The user and group of a file, by name where they have one.
fn owners(uid: u32, gid: u32) -> String {
    let user = nix::unistd::User::from_uid(uid.into()).ok().flatten().map_or(uid.to_string(), |user| user.name);
    let group = nix::unistd::Group::from_gid(gid.into()).ok().flatten().map_or(gid.to_string(), |group| group.name);
    format!("user {user} and group {group}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_sockets_or_host_and_port() {
        let socket = Address::Unix(PathBuf::from("/run/a.sock"));
        for text in ["unix:///run/a.sock", "unix:/run/a.sock", "/run/a.sock"] {
            assert_eq!(text.parse(), Ok(socket.clone()), "{text}");
        }
        for text in ["127.0.0.1:50051", "ecu-1:50051", "[::1]:50051"] {
            assert_eq!(text.parse(), Ok(Address::Tcp(text.to_owned())), "{text}");
        }
        for text in ["", "unix://", "http://host:80", "host", "host:", ":80", "host:0", "host:port"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn default_address_is_shown_as_it_is_written() {
        assert_eq!(DEFAULT.parse::<Address>().unwrap().to_string(), DEFAULT);
    }

    #[test]
    fn diagnosis_tells_absent_foreign_and_deserted_apart() {
        let folder = tempfile::tempdir().unwrap();
        let absent = folder.path().join("absent.sock");
        assert!(diagnose_socket(&absent).contains("does not exist"));

        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(diagnose_socket(&file).contains("no socket"));

        let deserted = folder.path().join("deserted.sock");
        let listener = std::os::unix::net::UnixListener::bind(&deserted).unwrap();
        assert!(diagnose_socket(&deserted).contains("no gRPC server"));
        drop(listener);
        assert!(diagnose_socket(&deserted).contains("nobody listens"));
    }
}
