//! `logs` and `exec`: the output of containers and of commands inside them, byte for byte.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;

use super::Context;
use crate::api::{ExecRequest, LogsRequest, LogsResponse, OutputStream, Timestamp};
use crate::client::Next;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::render::words;
use crate::screen::Screen;
use crate::values::{Since, millis, since};

/// How often a quiet stream is looked after.
const LOOK: Duration = Duration::from_secs(60);

/// How long a command may take unless told otherwise, as the API has it.
const EXEC: Duration = Duration::from_secs(60);

/// Options of `logs`.
#[derive(Debug, Clone, Args)]
pub struct LogsArgs {
    /// Go on until the container ends
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last so many lines
    #[arg(short = 'n', long, value_name = "NUMBER")]
    pub tail: Option<u32>,
    /// Only what is newer: so long ago (5m), or a time (2026-01-31T12:00:00Z)
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub since: Option<Since>,
    /// Put its time before each line
    #[arg(short, long)]
    pub timestamps: bool,
    /// The workload
    #[arg(value_name = "WORKLOAD")]
    pub workload: String,
    /// The container within it, where it has several
    #[arg(value_name = "CONTAINER", default_value_t, hide_default_value = true)]
    pub container: String,
}

/// Shows a container's output: its stdout on stdout, its stderr on stderr.
pub fn logs(args: LogsArgs, context: &mut Context) -> Result<Exit> {
    context.screen.only_text("logs")?;
    let request = LogsRequest {
        workload: args.workload,
        container: args.container,
        follow: args.follow,
        tail: args.tail,
        since: args.since.map(start).into(),
        ..Default::default()
    };
    let mut messages = context.connect()?.logs(&request)?;
    let mut printer = Printer { timestamps: args.timestamps, ..Printer::default() };
    while !context.screen.is_closed() {
        match messages.next(LOOK)? {
            Next::Message(piece) => printer.print(&piece, &mut context.screen)?,
            Next::Quiet => {}
            Next::End => break,
        }
    }
    Ok(Exit::Ok)
}

/// The time from which on output is wanted, by this machine's clock.
fn start(since: Since) -> Timestamp {
    let (seconds, nanos) = match since {
        Since::At(time) => (time.as_second(), time.subsec_nanosecond()),
        Since::Ago(ago) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let then = now.saturating_sub(ago);
            // Both are in range: fewer nanoseconds than a second has, and a time before now.
            (i64::try_from(then.as_secs()).unwrap_or(i64::MAX), i32::try_from(then.subsec_nanos()).unwrap_or(0))
        }
    };
    Timestamp { seconds, nanos, ..Default::default() }
}

/// Prints pieces of output; a time goes before each line, and a line may come in several pieces.
#[derive(Default)]
struct Printer {
    timestamps: bool,
    inside_stdout_line: bool,
    inside_stderr_line: bool,
}

impl Printer {
    fn print(&mut self, piece: &LogsResponse, screen: &mut Screen) -> Result<()> {
        let bytes = self.dressed(piece);
        match piece.stream.enum_value_or_default() {
            OutputStream::OUTPUT_STREAM_STDERR => screen.error_bytes(&bytes),
            OutputStream::OUTPUT_STREAM_STDOUT | OutputStream::OUTPUT_STREAM_UNSPECIFIED => screen.bytes(&bytes),
        }
    }

    /// The piece, with its time before each line that begins in it.
    fn dressed(&mut self, piece: &LogsResponse) -> Vec<u8> {
        if !self.timestamps {
            return piece.data.clone();
        }
        let inside_line = match piece.stream.enum_value_or_default() {
            OutputStream::OUTPUT_STREAM_STDERR => &mut self.inside_stderr_line,
            OutputStream::OUTPUT_STREAM_STDOUT | OutputStream::OUTPUT_STREAM_UNSPECIFIED => {
                &mut self.inside_stdout_line
            }
        };
        let time = words::time(piece.time.as_ref()).unwrap_or_else(|| String::from("-"));
        let mut bytes = Vec::with_capacity(piece.data.len() + time.len() + 1);
        for line in piece.data.split_inclusive(|byte| *byte == b'\n') {
            if !*inside_line {
                bytes.extend_from_slice(time.as_bytes());
                bytes.push(b' ');
            }
            bytes.extend_from_slice(line);
            *inside_line = !line.ends_with(b"\n");
        }
        bytes
    }
}

/// Options of `exec`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "The command has 60s unless --timeout says otherwise, no terminal and no input. actionctl ends \
    with its exit code; failures of actionctl itself are 121 failed, 122 usage, 123 refused, 124 timeout, \
    125 unreachable, 126 cancelled."
)]
pub struct ExecArgs {
    /// The container within the workload, where it has several
    #[arg(short, long, value_name = "CONTAINER", default_value_t, hide_default_value = true)]
    pub container: String,
    /// The workload
    #[arg(value_name = "WORKLOAD")]
    pub workload: String,
    /// The program and its arguments; no shell is put in between
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// Runs a command in a container.
pub fn exec(args: ExecArgs, context: &mut Context) -> Result<Exit> {
    context.screen.only_text("exec")?;
    let client = context.connect()?;
    let request = ExecRequest {
        workload: args.workload,
        container: args.container,
        argv: args.command,
        timeout_ms: millis(client.timeout().unwrap_or(EXEC)),
        ..Default::default()
    };
    let answer = client.exec(&request)?;
    context.screen.bytes(&answer.stdout_data)?;
    context.screen.error_bytes(&answer.stderr_data)?;
    if answer.truncated {
        context.screen.warning("the output is longer than 1 MiB; its rest was dropped");
    }
    match u8::try_from(answer.exit_code) {
        Ok(code) => Ok(Exit::Command(code)),
        Err(_) => Err(Failure::new(Exit::Failed, format!("the command ended with code {}", answer.exit_code))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(stream: OutputStream, data: &str) -> LogsResponse {
        let time = Timestamp { seconds: 1_767_225_600, ..Default::default() };
        LogsResponse {
            stream: stream.into(),
            time: Some(time).into(),
            data: data.as_bytes().to_vec(),
            ..Default::default()
        }
    }

    #[test]
    fn time_goes_before_lines_and_not_into_them() {
        let mut printer = Printer { timestamps: true, ..Printer::default() };
        let mut shown = |stream, data| String::from_utf8(printer.dressed(&piece(stream, data))).unwrap();
        let (out, err) = (OutputStream::OUTPUT_STREAM_STDOUT, OutputStream::OUTPUT_STREAM_STDERR);
        assert_eq!(shown(out, "a\nb"), "2026-01-01T00:00:00Z a\n2026-01-01T00:00:00Z b");
        assert_eq!(shown(err, "x\n"), "2026-01-01T00:00:00Z x\n");
        assert_eq!(shown(out, "c\n"), "c\n");
        assert_eq!(shown(out, "d\n"), "2026-01-01T00:00:00Z d\n");
    }

    #[test]
    fn without_times_bytes_are_as_they_came() {
        let mut raw = piece(OutputStream::OUTPUT_STREAM_STDOUT, "");
        raw.data = vec![0xff, 0x00, b'\n', 0x1b];
        assert_eq!(Printer::default().dressed(&raw), raw.data);
    }

    #[test]
    fn since_counts_back_from_now_and_not_before_the_epoch() {
        let ago = start(Since::Ago(Duration::from_secs(60)));
        let now = jiff::Timestamp::now().as_second();
        assert!((now - 65..=now - 55).contains(&ago.seconds), "{ago:?}");
        assert_eq!(start(Since::Ago(Duration::MAX)).seconds, 0);
    }
}
