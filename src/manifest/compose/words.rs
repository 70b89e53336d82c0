//! Values as Compose writes them in one text: command lines, durations, amounts of bytes and of CPUs.
//!
//! Source: the Compose Specification, "Extensions" (durations, byte values); command lines are split as Docker Compose 2
//! does, which is not what a shell does.

use crate::model::quantity;

/// The longest duration that is taken, milliseconds: a day.
const LONGEST_MS: u64 = 24 * 3600 * 1000;

/// The words of a command line. Quotes hold words together, a backslash takes the next character as it is (`\n` and `\t`
/// are a line's end and a tab). Docker Compose drops what is behind an unquoted `;`, `&`, `|`, `<` or `>`; that is refused
/// here, and what it refuses is refused as well.
pub(super) fn command(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(one) = characters.next() {
        match (one, quote) {
            ('\\', None | Some('"')) => {
                let next = characters.next().ok_or("ends with a backslash")?;
                let next = match next {
                    't' => '\t',
                    'n' => '\n',
                    other => other,
                };
                word.get_or_insert_default().push(next);
            }
            ('"' | '\'', None) => {
                quote = Some(one);
                word.get_or_insert_default();
            }
            (_, Some(open)) if one == open => quote = None,
            (_, Some(_)) => word.get_or_insert_default().push(one),
            (' ' | '\t' | '\r' | '\n', None) => words.extend(word.take()),
            (';' | '&' | '|' | '<' | '>' | '(' | ')' | '`', None) => {
                return Err(format!("'{one}' means nothing without a shell: quote it, write a list, or run a shell"));
            }
            (_, None) => word.get_or_insert_default().push(one),
        }
    }
    if quote.is_some() {
        return Err("a quote has no end".to_owned());
    }
    words.extend(word);
    Ok(words)
}

/// Milliseconds of a duration such as `1m30s` or `500ms`.
pub(super) fn milliseconds(text: &str) -> Result<u64, String> {
    const WRONG: &str = "is no duration such as 90s, 1m30s or 500ms";
    let units = [("us", 1), ("ms", 1000), ("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000)];
    let mut rest = text;
    let mut micros: u64 = 0;
    if text.is_empty() {
        return Err(WRONG.to_owned());
    }
    while !rest.is_empty() && text != "0" {
        let digits = rest.find(|one: char| !one.is_ascii_digit()).ok_or(WRONG)?;
        let (number, behind) = rest.split_at(digits);
        let end = behind.find(|one: char| one.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, after) = behind.split_at(end);
        let (_, factor) = units.iter().find(|(word, _)| *word == unit).ok_or(WRONG)?;
        let number: u64 = number.parse().map_err(|_| WRONG)?;
        micros = number.checked_mul(*factor).and_then(|part| micros.checked_add(part)).ok_or("is too long")?;
        rest = after;
    }
    match micros / 1000 {
        _ if !micros.is_multiple_of(1000) => Err("is no whole number of milliseconds".to_owned()),
        millis if millis > LONGEST_MS => Err("is longer than a day".to_owned()),
        millis => Ok(millis),
    }
}

/// Bytes: a number, or one with `b`, `k`, `kb`, `m`, `mb`, `g` or `gb` behind it, which are powers of 1,024.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let end = lower.find(|one: char| !one.is_ascii_digit() && one != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(end);
    let unit = match unit {
        "" | "b" => "",
        "k" | "kb" => "Ki",
        "m" | "mb" => "Mi",
        "g" | "gb" => "Gi",
        _ => return Err("is no amount of bytes such as 64m or 1gb".to_owned()),
    };
    quantity::bytes(&format!("{number}{unit}"))
}

/// Thousandths of a CPU: `0.5` is 500.
pub(super) fn cpu_millis(text: &str) -> Result<u64, String> {
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return quantity::millis(text);
    }
    Err("is no number of CPUs such as 0.5".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_are_split_as_compose_does() {
        for (text, expected) in [
            ("sleep 10", vec!["sleep", "10"]),
            ("  a\tb\n c ", vec!["a", "b", "c"]),
            (r#"sh -c 'echo "x; y" | cat'"#, vec!["sh", "-c", r#"echo "x; y" | cat"#]),
            (r#"a "b c"d '' \"#, vec![]),
            (r#"a "b \" c" '\' "#, vec!["a", "b \" c", "\\"]),
            (r"a\ b\n", vec!["a b\n"]),
            ("''", vec![""]),
            ("a=$HOME", vec!["a=$HOME"]),
            ("", vec![]),
        ] {
            if text.ends_with(r"'' \") {
                assert!(command(text).unwrap_err().contains("backslash"));
                continue;
            }
            assert_eq!(command(text).unwrap(), expected, "{text}");
        }
        for text in ["a; b", "a && b", "a > b", "a | b", "a (b)", "a `b`", "'a", "\"a"] {
            assert!(command(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_whole_milliseconds_below_a_day() {
        for (text, expected) in [
            ("10ms", 10),
            ("40s", 40_000),
            ("1m30s", 90_000),
            ("1h5m30s20ms", 3_930_020),
            ("1000us", 1),
            ("0s", 0),
            ("0", 0),
            ("24h", LONGEST_MS),
        ] {
            assert_eq!(milliseconds(text), Ok(expected), "{text}");
        }
        for text in
            ["", "10", "s", "1x", "-1s", "1.5s", "1s2", "1us", "25h", "99999999999999999999s", "18446744073709h"]
        {
            assert!(milliseconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn bytes_and_cpus_are_exact() {
        for (text, expected) in
            [("2b", 2), ("1024kb", 1 << 20), ("2048k", 2 << 20), ("300M", 300 << 20), ("1gb", 1 << 30)]
        {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        assert_eq!((bytes("64"), bytes("0.5g")), (Ok(64), Ok(512 << 20)));
        for text in ["", "x", "1x", "-1", "1tb", "1Mi", "0.3k"] {
            assert!(bytes(text).is_err(), "{text}");
        }
        assert_eq!((cpu_millis("0.5"), cpu_millis("2"), cpu_millis("1.50")), (Ok(500), Ok(2000), Ok(1500)));
        assert!(["", "500m", "1e3", "0.0001", "x"].iter().all(|text| cpu_millis(text).is_err()));
    }
}
