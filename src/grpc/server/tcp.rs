//! TCP addresses: which may be listened on, and why one could not be.

use std::net::{IpAddr, TcpListener};

use super::ServerError;

/// Refuses what is no `host:port`, and without `insecure` what others than this machine reach: the connection is plain
/// and its callers are not known.
pub(super) fn check(address: &str, insecure: bool) -> Result<(), ServerError> {
    let malformed = |reason: &str| ServerError::Address { address: address.to_owned(), reason: reason.to_owned() };
    let (host, port) = address.rsplit_once(':').ok_or_else(|| malformed("it is no host:port"))?;
    port.parse::<u16>().map_err(|_| malformed("its port is no number up to 65535"))?;
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if host.is_empty() || (bare.is_none() && host.contains(':')) {
        return Err(malformed("its host is missing or an IPv6 address without brackets"));
    }
    let loopback = host == "localhost" || bare.unwrap_or(host).parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    if loopback || insecure { Ok(()) } else { Err(ServerError::Insecure { address: address.to_owned() }) }
}

/// Why `address` cannot be bound, in the system's words. gRPC's core only says that it cannot.
pub(super) fn reason(address: &str) -> String {
    match TcpListener::bind(address) {
        Err(error) => error.to_string(),
        Ok(_) => "gRPC does not say why".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_needs_no_consent_and_the_rest_does() {
        for loopback in ["127.0.0.1:0", "[::1]:47001", "localhost:1", "127.8.8.8:1"] {
            check(loopback, false).unwrap();
        }
        for open in ["0.0.0.0:47001", "[::]:47001", "10.0.0.1:1", "ecu-1:1"] {
            assert!(matches!(check(open, false), Err(ServerError::Insecure { .. })), "{open}");
            check(open, true).unwrap();
        }
    }

    #[test]
    fn malformed_address_is_named() {
        for bad in ["", "47001", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:65536", ":1", "::1:1"] {
            let error = check(bad, true).unwrap_err();
            assert!(error.to_string().contains(&format!("'{bad}'")), "{error}");
        }
    }
}
