//! Quantities as Kubernetes writes them (`500m`, `1.5`, `256Mi`, `1e3`), in exact integer arithmetic.
//!
//! A quantity that is no whole number of the wanted unit, or does not fit, is an error; nothing is rounded.

/// A number as digits and a power of ten and of two: `mantissa * 10^ten * 2^two`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Exact {
    mantissa: u128,
    ten: i32,
    two: u32,
}

/// Thousandths of one CPU: `500m` is 500, `1.5` is 1,500.
pub fn millis(text: &str) -> Result<u64, String> {
    whole(text, 3, "thousandths of a CPU (1m is the smallest)")
}

/// Bytes: `256Mi` is 268,435,456, `1e3` is 1,000.
pub fn bytes(text: &str) -> Result<u64, String> {
    whole(text, 0, "bytes")
}

fn whole(text: &str, scale: i32, unit: &str) -> Result<u64, String> {
    let exact = parse(text).ok_or("is no quantity such as 500m, 1.5, 256Mi or 1e3")?;
    let overflow = || "is too large".to_owned();
    if exact.mantissa == 0 {
        return Ok(0);
    }
    let mut number = exact.mantissa.checked_mul(1 << exact.two).ok_or_else(overflow)?;
    let mut ten = exact.ten + scale;
    // Zeros at the end of a fraction (`1.50`) take nothing away.
    while ten < 0 && number.is_multiple_of(10) {
        number /= 10;
        ten += 1;
    }
    let Ok(ten) = u32::try_from(ten) else { return Err(format!("is no whole number of {unit}")) };
    let factor = 10_u128.checked_pow(ten).ok_or_else(overflow)?;
    number.checked_mul(factor).and_then(|number| u64::try_from(number).ok()).ok_or_else(overflow)
}

fn parse(text: &str) -> Option<Exact> {
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    let end =
        unsigned.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (integer, fraction) = number.split_once('.').unwrap_or((number, ""));
    if integer.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    // Longer than any number that fits once its zeros are away.
    let fraction = fraction.trim_end_matches('0');
    let digits = format!("{integer}{fraction}");
    let digits = digits.trim_start_matches('0');
    let mantissa = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    let (ten, two) = factors(suffix)?;
    let ten = ten.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    Some(Exact { mantissa, ten, two })
}

/// The powers of ten and of two that a suffix stands for.
fn factors(suffix: &str) -> Option<(i32, u32)> {
    Some(match suffix {
        "" => (0, 0),
        "n" => (-9, 0),
        "u" => (-6, 0),
        "m" => (-3, 0),
        "k" => (3, 0),
        "M" => (6, 0),
        "G" => (9, 0),
        "T" => (12, 0),
        "P" => (15, 0),
        "E" => (18, 0),
        "Ki" => (0, 10),
        "Mi" => (0, 20),
        "Gi" => (0, 30),
        "Ti" => (0, 40),
        "Pi" => (0, 50),
        "Ei" => (0, 60),
        _ => (exponent(suffix.strip_prefix(['e', 'E'])?)?, 0),
    })
}

/// A power of ten of at most three digits.
fn exponent(text: &str) -> Option<i32> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_short = (1..=3).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_short.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities_of_every_form_are_read() {
        for (text, expected) in
            [("500m", 500), ("1.5", 1500), ("2", 2000), ("0.001", 1), ("1.50", 1500), (".5", 500), ("2.", 2000)]
        {
            assert_eq!(millis(text), Ok(expected), "{text}");
        }
        for (text, expected) in [
            ("256Mi", 256 << 20),
            ("4Gi", 4 << 30),
            ("1e3", 1000),
            ("1E3", 1000),
            ("1.5e3", 1500),
            ("12e-1", 0),
            ("1k", 1000),
            ("1E", 1_000_000_000_000_000_000),
            ("1.5Ki", 1536),
            ("0", 0),
            ("0.0Ei", 0),
            ("3000m", 3),
            ("15Ei", 15 << 60),
        ] {
            if text == "12e-1" {
                assert!(bytes(text).unwrap_err().contains("whole number"));
            } else {
                assert_eq!(bytes(text), Ok(expected), "{text}");
            }
        }
    }

    #[test]
    fn fractions_below_the_unit_and_overflows_are_errors() {
        for text in ["0.0001", "100u", "1n"] {
            assert!(millis(text).unwrap_err().contains("whole number"), "{text}");
        }
        for text in ["16Ei", "1e30", "99999999999999999999", "1e999", "340282366920938463463374607431768211455Ei"] {
            assert!(bytes(text).is_err(), "{text}");
        }
        assert!(bytes("0.3Ki").unwrap_err().contains("whole number"));
    }

    #[test]
    fn what_is_no_quantity_is_an_error() {
        for text in ["", ".", "-1", "1 Mi", "1mi", "1KB", "1.2.3", "Mi", "1e", "1e+", "0x10", "１", "1e1000"] {
            assert!(bytes(text).unwrap_err().contains("no quantity"), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_number_reads_back_with_every_suffix(number in 0_u64..=u64::MAX, small in 0_u64..1_000_000) {
            prop_assert_eq!(bytes(&number.to_string()), Ok(number));
            prop_assert_eq!(millis(&format!("{number}m")), Ok(number));
            prop_assert_eq!(bytes(&format!("{small}Mi")), Ok(small << 20));
            prop_assert_eq!(millis(&format!("{}.{:03}", small / 1000, small % 1000)), Ok(small));
            prop_assert_eq!(bytes(&format!("{small}e3")), Ok(small * 1000));
        }

        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,60}", digits in "[0-9.eEinmkKMG+-]{0,60}") {
            let _ = (bytes(&text), millis(&digits));
        }
    }
}
