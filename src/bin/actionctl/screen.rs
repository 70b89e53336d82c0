//! [`Screen`]: everything that is printed. Answers go to stdout in the form asked for; progress, warnings and errors go
//! to stderr. A reader that has gone (`| head`) ends the output quietly.

use std::io::{self, ErrorKind, IsTerminal, Write};

use clap::ValueEnum;

use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::render::text::clean;
use crate::render::tree::Node;

/// How answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For people, with more columns.
    Wide,
    /// JSON; its fields are stable.
    Json,
    /// YAML with the fields of the JSON.
    Yaml,
    /// Names or ids alone, one a line.
    Name,
}

/// Where output goes, and how.
pub struct Screen {
    format: Format,
    quiet: bool,
    colour: bool,
    closed: bool,
}

impl Screen {
    /// The process's own stdout and stderr. Colour needs a terminal and no `NO_COLOR`.
    pub fn new(format: Format, quiet: bool) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Self { format, quiet, colour: io::stderr().is_terminal() && !refused && !dumb, closed: false }
    }

    /// The form asked for.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether only errors are to be told.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether live progress can be drawn.
    pub fn is_live(&self) -> bool {
        io::stderr().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
    }

    /// Whether the reader of stdout has gone: what streams can stop.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Refuses `-o` forms that a command does not have.
    pub fn only_text(&self, command: &str) -> Result<()> {
        match self.format {
            Format::Text => Ok(()),
            Format::Wide | Format::Json | Format::Yaml | Format::Name => {
                Err(Failure::usage(format!("{command} has no other output than its own")).hint("leave -o out"))
            }
        }
    }

    /// Prints an answer for programs, where that form is asked for; otherwise what `people` makes of it.
    pub fn answer(&mut self, node: impl FnOnce() -> Node, people: impl FnOnce(Format) -> String) -> Result<()> {
        let text = match self.format {
            Format::Json => node().json(),
            Format::Yaml => node().yaml(),
            Format::Text | Format::Wide | Format::Name => people(self.format),
        };
        if text.is_empty() { Ok(()) } else { self.line(&text) }
    }

    /// Prints one of several documents of a stream: a line of JSON, or a YAML document with its end.
    pub fn document(&mut self, node: &Node) -> Result<()> {
        match self.format {
            Format::Yaml => self.line(&format!("---\n{}", node.yaml())),
            Format::Json | Format::Text | Format::Wide | Format::Name => self.line(&node.json_line()),
        }
    }

    /// Prints a line to stdout.
    pub fn line(&mut self, text: &str) -> Result<()> {
        self.bytes(format!("{text}\n").as_bytes())
    }

    /// Prints bytes to stdout as they are, at once.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        if self.closed {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        let written = out.write_all(bytes).and_then(|()| out.flush());
        self.note_end(written)
    }

    /// Prints bytes to stderr as they are, at once.
    pub fn error_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let written = io::stderr().lock().write_all(bytes);
        self.note_end(written)
    }

    /// Remembers a reader that has gone; any other failure to write is told.
    fn note_end(&mut self, written: io::Result<()>) -> Result<()> {
        match written {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            Err(error) => Err(Failure::new(Exit::Failed, format!("cannot write the output: {error}"))),
        }
    }

    /// Tells something beside the answer, on stderr.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            tell(text);
        }
    }

    /// Tells a warning, on stderr.
    pub fn warning(&self, text: &str) {
        self.note(&format!("{} {}", self.label("warning:"), clean(text)));
    }

    /// Tells why a command did not do what was asked, on stderr.
    pub fn failure(&self, failure: &Failure) {
        tell(&failure.render(|label| self.label(label)));
    }

    /// A label in its colour.
    fn label(&self, label: &str) -> String {
        let colour = match label {
            "error:" => "31;1",
            "warning:" => "33;1",
            _ => "2",
        };
        if self.colour { format!("\u{1b}[{colour}m{label}\u{1b}[0m") } else { label.to_owned() }
    }
}

/// Writes a line to stderr. There is nowhere to tell that it failed.
fn tell(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
