//! Limits, as the wire has them.

use crate::error::{Error, Result};
use crate::model::quantity;
use crate::model::resources::Resources;
use crate::proto::resources as wire;

/// The least and the most relative weight.
const SHARES: std::ops::RangeInclusive<u64> = 2..=262_144;

/// A change of limits.
pub fn change(asked: &wire::Resources, at: &str) -> Result<Resources> {
    let read = |text: &str, field: &str, read: fn(&str) -> std::result::Result<u64, String>| match text {
        "" => Ok(None),
        text => read(text).map(Some).map_err(|why| Error::invalid(format!("{at}.{field}"), format!("'{text}' {why}"))),
    };
    if let Some(shares) = asked.cpu_shares.filter(|shares| *shares != 0 && !SHARES.contains(shares)) {
        let message = format!("{shares} is not from {} to {}", SHARES.start(), SHARES.end());
        return Err(Error::invalid(format!("{at}.cpu_shares"), message));
    }
    Ok(Resources {
        cpu_millis: read(&asked.cpu, "cpu", quantity::millis)?,
        cpu_shares: asked.cpu_shares,
        memory_bytes: read(&asked.memory, "memory", quantity::bytes)?,
        memory_reservation_bytes: read(&asked.memory_reservation, "memory_reservation", quantity::bytes)?,
        pids: asked.pids,
    })
}

/// Limits as they are told.
pub fn limits(limits: &Resources) -> wire::Resources {
    let text = |number: Option<u64>, unit: &str| number.map(|number| format!("{number}{unit}")).unwrap_or_default();
    wire::Resources {
        cpu: text(limits.cpu_millis, "m"),
        cpu_shares: limits.cpu_shares,
        memory: text(limits.memory_bytes, ""),
        memory_reservation: text(limits.memory_reservation_bytes, ""),
        pids: limits.pids,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_and_what_is_none_is_refused_by_field() {
        let asked = wire::Resources {
            cpu: "1.5".to_owned(),
            memory: "256Mi".to_owned(),
            pids: Some(0),
            ..wire::Resources::default()
        };
        let read = change(&asked, "p.resources").unwrap();
        let expected =
            Resources { cpu_millis: Some(1500), memory_bytes: Some(256 << 20), pids: Some(0), ..Resources::default() };
        assert_eq!(read, expected);
        let told = limits(&read);
        assert_eq!((told.cpu.as_str(), told.memory.as_str(), told.pids), ("1500m", "268435456", Some(0)));
        let field = |asked: &wire::Resources| change(asked, "p.resources").unwrap_err().field;
        let no_number = wire::Resources { memory: "much".to_owned(), ..wire::Resources::default() };
        assert_eq!(field(&no_number), "p.resources.memory");
        let one_share = wire::Resources { cpu_shares: Some(1), ..wire::Resources::default() };
        assert_eq!(field(&one_share), "p.resources.cpu_shares");
    }
}
