//! The few ordinary commands that the simulator knows: `true`, `false`, `echo`, `sleep`, and `sh -c` with a list of
//! these and `exit`, with `;` between them. Anything else is unknown as a whole.

use super::script::{Directive, Ending, Line, NS_PER_MS};

/// The longest sleep, milliseconds: ten years. Longer ones never end.
const LONGEST_SLEEP_MS: f64 = 10.0 * 365.0 * 24.0 * 3600.0 * 1000.0;

/// What has been read so far of a list of commands.
#[derive(Default)]
struct Reading {
    directives: Vec<Directive>,
    at: u64,
    code: i32,
    ends: bool,
    endless: bool,
}

/// The directives of a command line; `None` where it is not known.
pub(super) fn read(words: &[String]) -> Option<Vec<Directive>> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut reading = Reading::default();
    match words.as_slice() {
        [shell, "-c", text] if base(shell) == "sh" => {
            for command in text.split(';').map(str::trim).filter(|command| !command.is_empty()) {
                // Quotes, variables, redirections, pipes and braces are beyond this reader.
                if command.contains(['\'', '"', '$', '>', '<', '|', '&', '`', '(', '{', '\\', '*']) {
                    return None;
                }
                let words: Vec<&str> = command.split_whitespace().collect();
                reading.command(&words, true)?;
            }
        }
        words => reading.command(words, false)?,
    }
    if !reading.endless {
        reading.directives.push(Directive::End(Ending { at: reading.at, code: reading.code, oom: false }));
    }
    Some(reading.directives)
}

impl Reading {
    fn command(&mut self, words: &[&str], in_shell: bool) -> Option<()> {
        if self.ends || self.endless {
            return Some(());
        }
        let (command, arguments) = words.split_first()?;
        match (base(command), arguments) {
            ("true" | ":", []) => self.code = 0,
            ("false", []) => self.code = 1,
            ("echo", texts) => {
                self.directives.push(Directive::Log(Line { at: self.at, stderr: false, text: texts.join(" ") }));
                self.code = 0;
            }
            ("sleep", ["infinity"]) => self.endless = true,
            ("sleep", [seconds]) => self.sleep(seconds.parse().ok()?)?,
            ("exit", []) if in_shell => self.ends = true,
            ("exit", [code]) if in_shell => {
                self.code = code.parse::<u8>().ok()?.into();
                self.ends = true;
            }
            _ => return None,
        }
        Some(())
    }

    fn sleep(&mut self, seconds: f64) -> Option<()> {
        let ms = seconds * 1000.0;
        if ms.is_nan() || ms < 0.0 {
            return None;
        }
        if ms > LONGEST_SLEEP_MS {
            self.endless = true;
            return Some(());
        }
        // Within the bounds just checked.
        self.at = self.at.checked_add(ms as u64 * NS_PER_MS)?;
        self.code = 0;
        Some(())
    }
}

/// The command without its folder.
fn base(command: &str) -> &str {
    command.rsplit('/').next().unwrap_or(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(words: &[&str]) -> Option<Option<(u64, i32)>> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let directives = read(&words)?;
        Some(directives.iter().find_map(|directive| match directive {
            Directive::End(end) => Some((end.at / NS_PER_MS, end.code)),
            _ => None,
        }))
    }

    #[test]
    fn known_commands_end_as_they_do_in_a_shell() {
        assert_eq!(end(&["true"]), Some(Some((0, 0))));
        assert_eq!(end(&["/bin/false"]), Some(Some((0, 1))));
        assert_eq!(end(&["sleep", "0.5"]), Some(Some((500, 0))));
        assert_eq!(end(&["sleep", "infinity"]), Some(None));
        assert_eq!(end(&["sh", "-c", "echo hi; sleep 2; exit 7; echo never"]), Some(Some((2000, 7))));
    }

    #[test]
    fn what_is_beyond_the_reader_is_unknown_as_a_whole() {
        assert_eq!(end(&["sh", "-c", "echo $HOME; exit 1"]), None);
        assert_eq!(end(&["sh", "-c", "trap 'exit 7' TERM; sleep 1"]), None);
        assert_eq!(end(&["exit", "1"]), None);
        assert_eq!(end(&["sleep", "-1"]), None);
        assert_eq!(end(&[]), None);
    }
}
