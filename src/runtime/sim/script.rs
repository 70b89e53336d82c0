//! The tiny language that says how a simulated container behaves, and [`Program`], what it says once read.
//!
//! The words are the container's command and arguments, or, where the environment has [`SCRIPT_VARIABLE`], its value
//! with `;` between words. The words of the language are listed in the door of this folder. A command that is none of
//! them runs until it is stopped. Nothing here knows clocks or containers; times count from the start of the program.

use serde::{Deserialize, Serialize};

use super::shell;

/// The environment variable whose words come before the command's.
pub(super) const SCRIPT_VARIABLE: &str = "SIM_SCRIPT";

/// The longest text of a line; with its end it fits one log chunk.
const MAX_TEXT: usize = 60 * 1024;

/// The longest time of a script, nanoseconds: ten years.
const MAX_NS: u64 = 10 * 365 * 24 * 3600 * NS_PER_S;

/// Nanoseconds per second.
pub(super) const NS_PER_S: u64 = 1_000_000_000;

/// Nanoseconds per millisecond.
pub(super) const NS_PER_MS: u64 = 1_000_000;

/// One word of the language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Directive {
    /// Ends by itself.
    End(Ending),
    /// What SIGTERM does.
    OnTerm(OnTerm),
    /// Prints a line once.
    Log(Line),
    /// Prints a line again and again, the first at once.
    Every {
        /// Between two lines, nanoseconds, at least a millisecond.
        interval: u64,
        /// To standard error.
        stderr: bool,
        /// `{n}` is the line's number from 0.
        text: String,
    },
    /// The start fails.
    FailStart(String),
    /// Something that looks at or changes the inside, at once.
    Inside(InsideDirective),
}

/// What a program can do inside its container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum InsideDirective {
    /// Prints a variable's value.
    PrintEnv(String),
    /// Prints `uid:gid`.
    PrintUser,
    /// Prints the names of its network interfaces, one a line.
    PrintInterfaces,
    /// Writes a file.
    Write(String, String),
    /// Prints a file.
    Read(String),
}

/// How and when a program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ending {
    /// Nanoseconds of its own time.
    pub at: u64,
    /// The exit code, 128 + n after signal n.
    pub code: i32,
    /// For want of memory.
    pub oom: bool,
}

/// What SIGTERM does to a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum OnTerm {
    /// Ends it at once, with 143.
    Die,
    /// Nothing.
    Ignore,
    /// Ends it after so many nanoseconds, with this code.
    End(u64, i32),
}

/// A line that is printed once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Line {
    /// Nanoseconds of the program's own time.
    pub at: u64,
    /// To standard error.
    pub stderr: bool,
    /// Without its end.
    pub text: String,
}

/// What [`InsideDirective`]s look at.
pub(super) trait Inside {
    /// A variable's value.
    fn env(&self, name: &str) -> Option<String>;
    /// `uid:gid`.
    fn user(&self) -> String;
    /// The network interfaces' names.
    fn interfaces(&self) -> Vec<String>;
    /// A file's text, or the system's words.
    fn read(&self, path: &str) -> Result<String, String>;
    /// Writes a file, or gives the system's words.
    fn write(&mut self, path: &str, text: &str) -> Result<(), String>;
}

/// A container's behaviour from its start on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Program {
    once: Vec<Line>,
    every: Vec<(u64, bool, String)>,
    /// How it ends by itself.
    pub end: Option<Ending>,
    /// What SIGTERM does.
    pub on_term: OnTerm,
}

impl Program {
    /// The program of these words, with what it does inside done. `Err` is why it cannot start.
    pub fn start(directives: &[Directive], inside: &mut dyn Inside) -> Result<Self, String> {
        let mut program = Self { once: Vec::new(), every: Vec::new(), end: None, on_term: OnTerm::Die };
        for directive in directives {
            match directive {
                Directive::End(end) => program.end = Some(*end),
                Directive::OnTerm(on_term) => program.on_term = *on_term,
                Directive::Log(line) => program.once.push(line.clone()),
                Directive::Every { interval, stderr, text } => program.every.push((*interval, *stderr, text.clone())),
                Directive::FailStart(reason) => return Err(reason.clone()),
                Directive::Inside(what) => {
                    if let Err(reason) = program.act(what, inside) {
                        program.print(&reason, true);
                        program.end = Some(Ending { at: 0, code: 1, oom: false });
                        break;
                    }
                }
            }
        }
        Ok(program)
    }

    fn act(&mut self, what: &InsideDirective, inside: &mut dyn Inside) -> Result<(), String> {
        match what {
            InsideDirective::PrintEnv(name) => {
                let value = inside.env(name).ok_or_else(|| format!("{name}: not set"))?;
                self.print(&value, false);
            }
            InsideDirective::PrintUser => self.print(&inside.user(), false),
            InsideDirective::PrintInterfaces => self.print(&inside.interfaces().join("\n"), false),
            InsideDirective::Write(path, text) => inside.write(path, text)?,
            InsideDirective::Read(path) => self.print(&inside.read(path)?, false),
        }
        Ok(())
    }

    fn print(&mut self, text: &str, stderr: bool) {
        self.once.extend(text.lines().map(|line| Line { at: 0, stderr, text: line.to_owned() }));
    }

    /// The lines printed after `done` and up to `to`, in order; of each repeated line at most the last `most`.
    pub fn lines(&self, done: Option<u64>, to: u64, most: u64) -> Vec<Line> {
        let is_new = |at: u64| at <= to && done.is_none_or(|done| at > done);
        let mut lines: Vec<Line> = self.once.iter().filter(|line| is_new(line.at)).cloned().collect();
        for (interval, stderr, text) in &self.every {
            let last = to / interval;
            let first = done.map_or(0, |done| done / interval + 1).max((last + 1).saturating_sub(most));
            lines.extend((first..=last).map(|n| Line {
                at: n * interval,
                stderr: *stderr,
                text: text.replace("{n}", &n.to_string()),
            }));
        }
        lines.sort_by_key(|line| line.at);
        lines
    }

    /// Lets a program that would only stay on end after its last line. One that prints on and on stays.
    pub fn end_with_output(&mut self) {
        if self.end.is_none() && self.every.is_empty() {
            let at = self.once.iter().map(|line| line.at).max().unwrap_or(0);
            self.end = Some(Ending { at, code: 0, oom: false });
        }
    }

    /// When the first line after `done` is printed.
    pub fn next_line(&self, done: u64) -> Option<u64> {
        let once = self.once.iter().map(|line| line.at).filter(|at| *at > done);
        let every = self.every.iter().map(|(interval, ..)| (done / interval + 1) * interval);
        once.chain(every).min()
    }
}

/// Reads a container's words. `None` is a command that the simulator does not know. `Err` names the word.
pub(super) fn read(words: &[String]) -> Result<Option<Vec<Directive>>, String> {
    if words.iter().any(|word| is_directive(word)) {
        return words.iter().map(|word| directive(word)).collect::<Result<_, _>>().map(Some);
    }
    Ok(shell::read(words))
}

/// Reads the value of [`SCRIPT_VARIABLE`].
pub(super) fn read_variable(text: &str) -> Result<Vec<Directive>, String> {
    text.split(';').map(str::trim).filter(|word| !word.is_empty()).map(directive).collect()
}

const NAMES: &[&str] = &[
    "exit-after",
    "oom-after",
    "crash-after",
    "ignore-term",
    "on-term",
    "log",
    "every",
    "fail-start",
    "print-env",
    "print-user",
    "print-interfaces",
    "write",
    "read",
];

/// Whether the word is of the language: a bare name that takes values is an ordinary command (`read`, `write`).
fn is_directive(word: &str) -> bool {
    let bare = matches!(word, "ignore-term" | "print-user" | "print-interfaces");
    bare || word.split_once(':').is_some_and(|(name, _)| NAMES.contains(&name))
}

fn directive(word: &str) -> Result<Directive, String> {
    let (name, rest) = word.split_once(':').unwrap_or((word, ""));
    parse(name, rest).map_err(|reason| format!("simulator script, '{word}': {reason}"))
}

fn parse(name: &str, rest: &str) -> Result<Directive, String> {
    let two = || rest.split_once(':').ok_or_else(|| "two values are needed".to_owned());
    let ending = |at, code| Directive::End(Ending { at, code, oom: false });
    Ok(match name {
        "exit-after" => ending(duration(two()?.0)?, code(two()?.1)?),
        "crash-after" => ending(duration(two()?.0)?, 128 + signal(two()?.1)? as i32),
        "oom-after" => Directive::End(Ending { at: duration(rest)?, code: 137, oom: true }),
        "ignore-term" => Directive::OnTerm(OnTerm::Ignore),
        "on-term" => Directive::OnTerm(OnTerm::End(duration(two()?.0)?, code(two()?.1)?)),
        "log" => {
            let (stderr, at, text) = output(rest)?;
            Directive::Log(Line { at, stderr, text })
        }
        "every" => {
            let (stderr, interval, text) = output(rest)?;
            if interval < NS_PER_MS {
                return Err("the interval must be at least 1ms".to_owned());
            }
            Directive::Every { interval, stderr, text }
        }
        "fail-start" => Directive::FailStart(rest.to_owned()),
        "print-env" => Directive::Inside(InsideDirective::PrintEnv(rest.to_owned())),
        "print-user" => Directive::Inside(InsideDirective::PrintUser),
        "print-interfaces" => Directive::Inside(InsideDirective::PrintInterfaces),
        "write" => Directive::Inside(InsideDirective::Write(two()?.0.to_owned(), bounded(two()?.1)?)),
        "read" => Directive::Inside(InsideDirective::Read(rest.to_owned())),
        _ => return Err(format!("not one of {}", NAMES.join(", "))),
    })
}

/// `STREAM:TIME:TEXT`, where the text is all the rest.
fn output(rest: &str) -> Result<(bool, u64, String), String> {
    let mut parts = rest.splitn(3, ':');
    let (Some(stream), Some(time), Some(text)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("stream, time and text are needed".to_owned());
    };
    let stderr = match stream {
        "stdout" => false,
        "stderr" => true,
        _ => return Err(format!("'{stream}' is neither stdout nor stderr")),
    };
    Ok((stderr, duration(time)?, bounded(text)?))
}

fn bounded(text: &str) -> Result<String, String> {
    if text.len() > MAX_TEXT {
        return Err(format!("the text has {} bytes, more than {MAX_TEXT}", text.len()));
    }
    Ok(text.to_owned())
}

/// `500ms`, `2s` or `1m`, as nanoseconds.
fn duration(text: &str) -> Result<u64, String> {
    let units = [("ms", NS_PER_MS), ("s", NS_PER_S), ("m", 60 * NS_PER_S)];
    let found = units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?.parse::<u64>().ok()?, factor)));
    let (number, factor) = found.ok_or_else(|| format!("'{text}' is no time such as 500ms, 2s or 1m"))?;
    number.checked_mul(*factor).filter(|ns| *ns <= MAX_NS).ok_or_else(|| format!("'{text}' is more than ten years"))
}

fn code(text: &str) -> Result<i32, String> {
    text.parse::<u8>().map(i32::from).map_err(|_| format!("'{text}' is no exit code from 0 to 255"))
}

/// A signal by name, with or without `SIG`.
pub(super) fn signal(text: &str) -> Result<nix::sys::signal::Signal, String> {
    let name = if text.starts_with("SIG") { text.to_owned() } else { format!("SIG{text}") };
    name.parse().map_err(|_| format!("'{text}' is no signal"))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl Inside for Nothing {
        fn env(&self, _name: &str) -> Option<String> {
            None
        }
        fn user(&self) -> String {
            "0:0".into()
        }
        fn interfaces(&self) -> Vec<String> {
            vec!["lo".into()]
        }
        fn read(&self, path: &str) -> Result<String, String> {
            Err(format!("{path}: No such file or directory"))
        }
        fn write(&mut self, _path: &str, _text: &str) -> Result<(), String> {
            Ok(())
        }
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn program(text: &[&str]) -> Program {
        Program::start(&read(&words(text)).unwrap().unwrap(), &mut Nothing).unwrap()
    }

    #[test]
    fn text_of_a_line_may_have_colons() {
        let lines = program(&["log:stderr:5ms:a:b: c"]).lines(None, 5 * NS_PER_MS, 9);
        assert_eq!(lines, [Line { at: 5 * NS_PER_MS, stderr: true, text: "a:b: c".into() }]);
    }

    #[test]
    fn lines_come_once_whatever_the_pieces_they_are_taken_in() {
        let program = program(&["every:stdout:10ms:{n}", "log:stdout:15ms:x"]);
        let whole: Vec<_> = program.lines(None, 30 * NS_PER_MS, 99).into_iter().map(|line| line.text).collect();
        assert_eq!(whole, ["0", "1", "x", "2", "3"]);
        let mut pieces = program.lines(None, 12 * NS_PER_MS, 99);
        pieces.extend(program.lines(Some(12 * NS_PER_MS), 30 * NS_PER_MS, 99));
        assert_eq!(pieces.into_iter().map(|line| line.text).collect::<Vec<_>>(), whole);
        assert_eq!(program.next_line(10 * NS_PER_MS), Some(15 * NS_PER_MS));
    }

    #[test]
    fn years_of_lines_are_cut_to_the_last() {
        let lines = program(&["every:stdout:1ms:{n}"]).lines(None, MAX_NS, 2);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1].at, MAX_NS);
    }

    #[test]
    fn wrong_word_among_right_ones_is_named() {
        for bad in ["exit-afer:1s:0", "exit-after:1s", "exit-after:1:0", "exit-after:1s:256", "log:both:1s:x"] {
            let error = read(&words(&["ignore-term", bad])).unwrap_err();
            assert!(error.contains(bad), "{error}");
        }
    }

    #[test]
    fn failed_look_inside_ends_the_program_with_1_and_its_reason_on_stderr() {
        let program = program(&["read:/x", "exit-after:0ms:0"]);
        assert_eq!(program.end.unwrap().code, 1);
        assert!(program.lines(None, 0, 9)[0].stderr);
    }

    #[test]
    fn crash_has_128_and_the_signal() {
        assert_eq!(program(&["crash-after:0ms:SIGSEGV"]).end.unwrap().code, 139);
    }

    #[test]
    fn unknown_command_is_left_to_the_caller() {
        assert_eq!(read(&words(&["nginx", "-g", "daemon off;"])), Ok(None));
    }
}
