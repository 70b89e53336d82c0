//! Ranges of IPv4 addresses, and the networks of 256 that are made of one.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// The bits of a network's own part.
const ROOM_BITS: u8 = 24;

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    first: u32,
    bits: u8,
}

impl Subnet {
    /// The network that begins with this address.
    pub const fn of(first: Ipv4Addr) -> Self {
        Self { first: u32::from_be_bytes(first.octets()), bits: ROOM_BITS }
    }

    /// The addresses that begin with the first `bits` of this one.
    pub const fn new(first: u32, bits: u8) -> Self {
        Self { first, bits }
    }

    /// From `10.90.0.0/16`; `None` where it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let first = u32::from(address.parse::<Ipv4Addr>().ok()?);
        let bits = bits.parse().ok().filter(|bits| *bits <= 32)?;
        let subnet = Self { first, bits };
        (first & !subnet.mask() == 0).then_some(subnet)
    }

    fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0)
    }

    /// Whether networks can be made of it.
    pub fn has_rooms(self) -> bool {
        (8..=ROOM_BITS).contains(&self.bits)
    }

    /// How many networks can be made of it.
    pub fn rooms(self) -> u32 {
        1 << (ROOM_BITS.saturating_sub(self.bits))
    }

    /// The network of this number.
    pub fn room(self, number: u32) -> Self {
        Self { first: self.first + (number << (32 - u32::from(ROOM_BITS))), bits: ROOM_BITS }
    }

    /// The host's own address in it.
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from(self.first + 1)
    }

    /// The addresses for containers.
    pub fn hosts(self) -> impl Iterator<Item = Ipv4Addr> {
        (self.first + 2..self.first | !self.mask()).map(Ipv4Addr::from)
    }

    /// Whether they have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        let mask = self.mask() & other.mask();
        self.first & mask == other.first & mask
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> Self {
        format!("{}/{}", Ipv4Addr::from(subnet.first), subnet.bits)
    }
}

impl TryFrom<String> for Subnet {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("'{text}' is no range of addresses"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pool_has_networks_and_these_have_addresses() {
        let pool = Subnet::parse("10.90.0.0/16").unwrap();
        assert_eq!(pool.rooms(), 256);
        let third = pool.room(3);
        assert_eq!(String::from(third), "10.90.3.0/24");
        assert_eq!(third.gateway().to_string(), "10.90.3.1");
        let hosts: Vec<_> = third.hosts().collect();
        assert_eq!((hosts.len(), hosts[0].to_string()), (253, "10.90.3.2".to_owned()));
        assert_eq!(hosts[252].to_string(), "10.90.3.254");
        assert!(pool.overlaps(&third) && third.overlaps(&pool) && !third.overlaps(&pool.room(4)));
        for text in ["", "10.90.0.0", "10.90.0.1/16", "10.90.0.0/33", "x/8"] {
            assert_eq!(Subnet::parse(text), None, "{text}");
        }
        assert_eq!(Subnet::parse("0.0.0.0/0").map(Subnet::has_rooms), Some(false));
    }
}
