//! Patterns with `*` (any text, `/` too) and `?` (one character). Takes time in proportion to both lengths at most.

/// Whether the whole text matches the pattern.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut at, mut read) = (0, 0);
    // Where to go on when what follows the last `*` does not match: that star, and one character further.
    let mut back: Option<(usize, usize)> = None;
    while read < text.len() {
        match pattern.get(at) {
            Some('*') => {
                back = Some((at, read));
                at += 1;
            }
            Some(expected) if *expected == '?' || *expected == text[read] => {
                at += 1;
                read += 1;
            }
            Some(_) | None => {
                let Some((star, from)) = back else { return false };
                back = Some((star, from + 1));
                at = star + 1;
                read = from + 1;
            }
        }
    }
    pattern[at..].iter().all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn stars_and_question_marks_match() {
        for (pattern, text) in [
            ("*", ""),
            ("a*", "a/b"),
            ("*/core:*", "reg.local/lane/core:1"),
            ("l?ne", "lane"),
            ("a*b*c", "aXbXbXc"),
            ("", ""),
            ("a", "a"),
            ("**", "x"),
            ("ä?", "äö"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("a", "A"), ("a", "ab"), ("?", ""), ("a*b", "a"), ("", "a"), ("*b", "ba")] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_end_in_bounded_time() {
        let begun = Instant::now();
        assert!(!matches(&format!("{}b", "*a".repeat(500)), &"a".repeat(10_000)));
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}
