//! Words for the wire's enums, times and amounts, the same in tables, texts, JSON and YAML.

use std::time::Duration;

use jiff::Timestamp as Instant;
use protobuf::{Enum, EnumOrUnknown};

use crate::api::Timestamp;

/// The value's name on the wire without its type's prefix, lower case: `ACTION_STATE_RUNNING` is `running`. A value of
/// a newer daemon is its number.
pub fn word<E: Enum + std::fmt::Debug>(value: EnumOrUnknown<E>) -> String {
    match value.enum_value() {
        // A generated enum's Debug is its variant, which is the name in the contract.
        Ok(known) => {
            let name = format!("{known:?}");
            name.strip_prefix(&prefix(E::NAME)).unwrap_or(&name).to_ascii_lowercase()
        }
        Err(number) => number.to_string(),
    }
}

/// `ActionState` as `ACTION_STATE_`.
fn prefix(name: &str) -> String {
    let mut prefix = String::new();
    for (index, letter) in name.chars().enumerate() {
        if letter.is_ascii_uppercase() && index > 0 {
            prefix.push('_');
        }
        prefix.push(letter.to_ascii_uppercase());
    }
    prefix.push('_');
    prefix
}

/// A time of the wire; `None` where it is absent or not on the calendar.
pub fn instant(time: Option<&Timestamp>) -> Option<Instant> {
    time.and_then(|time| Instant::new(time.seconds, time.nanos).ok())
}

/// A time as RFC 3339 in UTC.
pub fn time(time: Option<&Timestamp>) -> Option<String> {
    instant(time).map(|instant| instant.to_string())
}

/// How long ago, in its one or two largest units; `-` where the time is not known.
pub fn age(time: Option<&Timestamp>, now: Instant) -> String {
    let Some(then) = instant(time) else {
        return String::from("-");
    };
    let seconds = u64::try_from(now.duration_since(then).as_secs()).unwrap_or(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        172_800.. => format!("{}d", seconds / 86_400),
    }
}

/// A span of time with three digits or so: `850 us`, `12.3 ms`, `1.24 s`, `2m05s`.
pub fn span(span: Duration) -> String {
    let micros = span.as_micros();
    match micros {
        0..1_000 => format!("{micros} us"),
        1_000..1_000_000 => format!("{:.1} ms", span.as_secs_f64() * 1e3),
        1_000_000..60_000_000 => format!("{:.2} s", span.as_secs_f64()),
        60_000_000.. => format!("{}m{:02}s", span.as_secs() / 60, span.as_secs() % 60),
    }
}

/// Bytes in powers of 1,024: `512 B`, `1.5 MiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    // Precise enough to show.
    #[allow(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let mut amount = bytes as f64 / 1_024.0;
    let mut unit = 0;
    while amount >= 1_023.95 && unit + 1 < UNITS.len() {
        amount /= 1_024.0;
        unit += 1;
    }
    format!("{amount:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{ActionState, StepState, Verb, WorkloadState};

    #[test]
    fn words_are_the_wire_names_without_their_prefix() {
        assert_eq!(word(EnumOrUnknown::new(Verb::VERB_LAUNCH)), "launch");
        assert_eq!(word(EnumOrUnknown::new(StepState::STEP_STATE_UNDO_FAILED)), "undo_failed");
        assert_eq!(word(EnumOrUnknown::new(WorkloadState::WORKLOAD_STATE_RUNNING)), "running");
        for state in ActionState::VALUES {
            assert!(!word(EnumOrUnknown::new(*state)).contains("state"), "{state:?}");
        }
    }

    #[test]
    fn value_of_a_newer_daemon_is_its_number() {
        assert_eq!(word(EnumOrUnknown::<Verb>::from_i32(77)), "77");
    }

    #[test]
    fn ages_have_one_unit_and_never_go_below_zero() {
        let now = Instant::from_second(1_000_000).unwrap();
        let at = |seconds: i64| Timestamp { seconds: 1_000_000 - seconds, ..Default::default() };
        let shown: Vec<_> =
            [0, 119, 120, 7_200, 172_800, -50].into_iter().map(|ago| age(Some(&at(ago)), now)).collect();
        assert_eq!(shown, ["0s", "119s", "2m", "2h", "2d", "0s"]);
        assert_eq!(age(None, now), "-");
        assert_eq!(age(Some(&Timestamp { seconds: i64::MAX, ..Default::default() }), now), "-");
    }

    #[test]
    fn spans_and_sizes_stay_short() {
        let spans = [850, 12_300, 1_240_000, 125_000_000].map(|us| span(Duration::from_micros(us)));
        assert_eq!(spans, ["850 us", "12.3 ms", "1.24 s", "2m05s"]);
        let sizes = [0, 1_023, 1_536, 5 << 20, (1 << 30) - 1, u64::MAX].map(size);
        assert_eq!(sizes, ["0 B", "1023 B", "1.5 KiB", "5.0 MiB", "1.0 GiB", "16384.0 PiB"]);
    }
}
