//! Foreign texts and paths in the form in which they are compared and shown.

/// Text of a caller as it is shown in a message: control characters escaped, cut after 80 characters.
pub fn shown(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut short: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push('…');
    }
    short
}

/// A path without double and trailing slashes and `.` parts.
pub fn normalized(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_text_is_short_and_printable() {
        assert_eq!(shown("a\nb"), "a\\nb");
        assert!(shown(&"x".repeat(4096)).chars().count() <= 81);
    }

    #[test]
    fn normalized_path_has_no_empty_parts() {
        assert_eq!(normalized("//a/./b/"), "/a/b");
        assert_eq!(normalized(""), "/");
    }
}
