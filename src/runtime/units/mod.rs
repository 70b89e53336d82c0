//! What engines that run units of systemd do alike, on this node or on others; no adapter.
//!
//! `text` is what a container comes to as a unit file, `status` what a unit's properties say of it, `answers` how requests
//! are refused and jobs end. Enters: what is systemd's own, whoever is asked for it. Stays out: whom to ask, and what is
//! kept of containers.
//!
//! Sources: `org.freedesktop.systemd1(5)`, `systemd.exec(5)`, `systemd.service(5)`, `systemd.resource-control(5)` of systemd
//! 252; what it does was seen there.

pub mod answers;
pub mod status;
pub mod text;

/// The unit of the container of this name.
pub fn unit_of(container: &str) -> String {
    format!("actioncontroller-{container}.service")
}

/// A name as the last part of an object's path: what is no letter and no digit is escaped, as `sd_bus_path_encode(3)` does.
pub fn path_element(name: &str) -> String {
    if name.is_empty() {
        return "_".to_owned();
    }
    let escaped = |(index, byte): (usize, u8)| {
        let is_plain = byte.is_ascii_alphabetic() || (byte.is_ascii_digit() && index > 0);
        if is_plain { char::from(byte).to_string() } else { format!("_{byte:02x}") }
    };
    name.bytes().enumerate().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_as_systemd_does_it() {
        assert_eq!(path_element("ac-a.service"), "ac_2da_2eservice");
        assert_eq!(path_element("7_a"), "_37_5fa");
        assert_eq!(path_element(""), "_");
    }
}
