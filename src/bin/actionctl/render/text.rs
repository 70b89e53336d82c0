//! Foreign texts made fit for a terminal.

use std::fmt::Write as _;

/// The text with its control characters shown rather than obeyed; a line break stays one, and what follows is
/// indented.
pub fn clean(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.trim_end().chars() {
        match letter {
            '\n' => shown.push_str("\n    "),
            '\t' => shown.push(' '),
            control if control.is_control() => {
                // Writing to a String cannot fail.
                let _ = write!(shown, "{}", control.escape_unicode());
            }
            plain => shown.push(plain),
        }
    }
    shown
}

/// The text on one line, for a table's cell; `-` where it is empty.
pub fn cell(text: &str) -> String {
    let one_line: Vec<&str> = text.split_whitespace().collect();
    or_dash(&clean(&one_line.join(" "))).to_owned()
}

/// The text, or `-` where it is empty.
pub fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_have_one_line_and_no_controls() {
        assert_eq!(cell("a\n b\tc\u{7}"), "a b c\\u{7}");
        assert_eq!(cell("  "), "-");
    }
}
