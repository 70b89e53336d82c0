//! Where a bus is: a socket's path, or an address as D-Bus writes them.
//!
//! Source: "Server Addresses" of the D-Bus specification 0.41. Of its transports unix sockets alone, by path or abstract:
//! the others start programs or leave the node.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use nix::sys::socket::UnixAddr;

/// A bus's socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    text: String,
    socket: UnixAddr,
}

impl Address {
    /// The socket's path; `None` for one that has none.
    pub fn path(&self) -> Option<&Path> {
        self.socket.path()
    }

    /// The socket.
    pub(super) fn socket(&self) -> &UnixAddr {
        &self.socket
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Address {
    type Err = String;

    /// An absolute path, or addresses with `;` between them, of which the first that can be used is taken.
    fn from_str(text: &str) -> Result<Self, String> {
        let socket = if text.starts_with('/') { by_path(text.as_bytes()) } else { first_of(text) };
        socket.map(|socket| Self { text: text.to_owned(), socket }).map_err(|why| format!("'{text}': {why}"))
    }
}

fn by_path(path: &[u8]) -> Result<UnixAddr, String> {
    UnixAddr::new(path).map_err(|error| format!("is no path of a socket: {}", error.desc()))
}

fn first_of(text: &str) -> Result<UnixAddr, String> {
    let mut why = "is neither an absolute path nor an address of D-Bus".to_owned();
    for address in text.split(';').filter(|address| !address.is_empty()) {
        match one(address) {
            Ok(socket) => return Ok(socket),
            Err(error) => why = error,
        }
    }
    Err(why)
}

fn one(address: &str) -> Result<UnixAddr, String> {
    let keys = address.strip_prefix("unix:").ok_or("is no address of a unix socket (unix:path=, unix:abstract=)")?;
    for (key, value) in keys.split(',').filter_map(|pair| pair.split_once('=')) {
        match key {
            "path" => return by_path(&unescaped(value)?),
            "abstract" => {
                return UnixAddr::new_abstract(&unescaped(value)?)
                    .map_err(|error| format!("is no name of a socket: {}", error.desc()));
            }
            _ => {}
        }
    }
    Err("names neither path= nor abstract=".to_owned())
}

/// A value of an address: `%` and two digits stand for a byte.
fn unescaped(value: &str) -> Result<Vec<u8>, String> {
    let mut bytes = value.bytes();
    let mut plain = Vec::new();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            plain.push(byte);
            continue;
        }
        let mut digit =
            || bytes.next().and_then(|byte| char::from(byte).to_digit(16)).and_then(|one| u8::try_from(one).ok());
        match (digit(), digit()) {
            (Some(high), Some(low)) => plain.push(high * 16 + low),
            _ => return Err("has a % without two digits after it".to_owned()),
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_addresses_name_the_same_socket() {
        for text in [
            "/run/a b",
            "unix:path=/run/a%20b",
            "unix:path=/run/a%20b,guid=0123",
            "tcp:host=localhost,port=1;unix:path=/run/a%20b",
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.path(), address.to_string().as_str()), (Some(Path::new("/run/a b")), text));
        }
        let hidden: Address = "unix:abstract=/tmp/dbus-x".parse().unwrap();
        assert_eq!(hidden.socket().as_abstract(), Some(b"/tmp/dbus-x".as_slice()));
    }

    #[test]
    fn what_is_no_socket_s_address_is_named() {
        let long = format!("/{}", "x".repeat(200));
        for text in
            ["", "run/bus", "tcp:host=localhost,port=1", "unix:tmpdir=/tmp", "unix:path=/a%2", "autolaunch:", &long]
        {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.starts_with(&format!("'{text}': ")), "{error}");
        }
    }
}
