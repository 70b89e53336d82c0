//! Whether a NodeAgent is on this node, which reports by itself: somebody takes connections on its port.
//!
//! It binds the address that its own settings name, so that every address of this node is tried; a connection to one's
//! own addresses is made or refused at once.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::board::Board;
use super::proc::addresses;

/// Between two looks, at least.
const PAUSE: Duration = Duration::from_secs(5);

/// How long one connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_millis(200);

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Addresses that are tried, at most.
const MOST: usize = 16;

/// Looks every so often, and has told only while there is none, until the board is closed.
pub(super) fn watch(board: &Arc<Board>, port: u16, every: Duration) {
    let mut is_first = true;
    loop {
        let agent = find(port, &addresses());
        let is_new = board.tell(agent.is_none());
        match agent {
            Some(at) if is_new || is_first => {
                log::info!("containers and node are not reported: a NodeAgent answers at '{at}', which does so");
            }
            None if is_new => log::info!("containers and node are reported: no NodeAgent answers on port {port}"),
            Some(_) | None => {}
        }
        is_first = false;
        let next = Instant::now() + every.max(PAUSE);
        if board.wait(Some(next), |_| None::<()>).is_err() {
            return;
        }
    }
}

/// Where somebody takes connections on this port.
fn find(port: u16, own: &[IpAddr]) -> Option<SocketAddr> {
    // The scope that a link-local address needs is not known here, and no NodeAgent is bound to one.
    let is_usable = |ip: &IpAddr| match ip {
        IpAddr::V4(_) => true,
        IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    };
    let others = own.iter().copied().filter(|ip| is_usable(ip) && *ip != LOCALHOST);
    let mut all = std::iter::once(LOCALHOST).chain(others).take(MOST).map(|ip| SocketAddr::new(ip, port));
    all.find(|address| TcpStream::connect_timeout(address, CONNECT_LIMIT).is_ok())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn listener_is_found_while_it_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(find(address.port(), &[]), Some(address));
        drop(listener);
        assert_eq!(find(address.port(), &addresses()), None);
    }

    #[test]
    fn listener_on_another_address_of_this_node_is_found() {
        let listener = TcpListener::bind("127.0.0.2:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(find(address.port(), &[]), None);
        assert_eq!(find(address.port(), &[address.ip()]), Some(address));
    }
}
