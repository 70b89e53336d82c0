//! The log: one line per record on stderr, in the journal's form where stderr is the journal.
//!
//! Levels by meaning: `error`, someone has to act; `warn`, something is not as it should be and the daemon goes on;
//! `info`, one line per action, start, end and change of settings; `debug`, each step; `trace`, each message to and from
//! engines. Values stand in single quotes. What an outsider can cause at will is written through [`limited!`](crate::limited).
//! Only this program's records follow the configured level; those of libraries are written from `warn` on.

use std::env;
use std::fmt;
use std::io::{self, Write};
use std::panic;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use env_logger::{Builder, Env};
use log::{Level, LevelFilter, Record, SetLoggerError};

use crate::config::settings::LogLevel;

/// Records of one place in the code that may come at once.
const BURST: u32 = 10;

/// After a burst, one more record of the same place per this time.
const REFILL: Duration = Duration::from_secs(5);

/// Installs the log of this process, and a panic hook that writes a panic as an error with its thread's name. A second
/// call is an error and changes nothing.
pub fn start(level: LogLevel) -> Result<(), SetLoggerError> {
    let journal = stderr_is_journal(env::var("JOURNAL_STREAM").ok().as_deref());
    let mut builder = Builder::from_env(Env::new().write_style("ACTIONCONTROLLER_LOG_STYLE"));
    // Everything of ours passes the filter; `log::set_max_level` alone decides, so that it can change.
    builder.filter_level(LevelFilter::Warn).filter_module(env!("CARGO_CRATE_NAME"), LevelFilter::Trace);
    if journal {
        builder.format(|out, record| write_line(out, &journal_prefix(record.level()), record));
    } else {
        builder.format(|out, record| {
            let prefix = format!("{} {:5} ", out.timestamp_millis(), record.level());
            write_line(out, &prefix, record)
        });
    }
    builder.try_init()?;
    set_level(level);
    panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Changes the level from now on, for a reload.
pub fn set_level(level: LogLevel) {
    log::set_max_level(match level {
        LogLevel::Error => LevelFilter::Error,
        LogLevel::Warn => LevelFilter::Warn,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Debug => LevelFilter::Debug,
        LogLevel::Trace => LevelFilter::Trace,
    });
}

/// Whether stderr is the stream that `JOURNAL_STREAM` (`device:inode`, systemd.exec(5)) names. The variable alone is no
/// proof: it is inherited when stderr has long been redirected.
fn stderr_is_journal(variable: Option<&str>) -> bool {
    let Some((device, inode)) = variable.and_then(|text| text.split_once(':')) else { return false };
    let (Ok(device), Ok(inode)) = (device.parse::<u64>(), inode.parse::<u64>()) else { return false };
    nix::sys::stat::fstat(io::stderr()).is_ok_and(|stat| stat.st_dev == device && stat.st_ino == inode)
}

/// The priority prefix of sd-daemon(3); the journal has the time itself.
fn journal_prefix(level: Level) -> String {
    let priority = match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    format!("<{priority}>")
}

/// One record is one line: what an outsider names cannot forge another one, nor send control codes to a terminal.
fn write_line(out: &mut impl Write, prefix: &str, record: &Record<'_>) -> io::Result<()> {
    let text = record.args().to_string();
    let mut line = String::with_capacity(prefix.len() + text.len() + 1);
    line.push_str(prefix);
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line.push('\n');
    out.write_all(line.as_bytes())
}

fn log_panic(info: &panic::PanicHookInfo<'_>) {
    let thread = thread::current();
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let text = info.payload().downcast_ref::<&str>().copied();
    let text = text.or_else(|| info.payload().downcast_ref::<String>().map(String::as_str));
    let reason = text.unwrap_or("no text");
    log::error!("thread '{}' panicked at {place}: {reason}", thread.name().unwrap_or("unnamed"));
}

/// How much of one kind of record is written: a burst, then one per five seconds. What was held back is counted and
/// told with the next that is written.
#[derive(Debug)]
pub struct RateLimit(Mutex<Bucket>);

#[derive(Debug)]
struct Bucket {
    left: u32,
    refilled: Option<Instant>,
    held_back: u64,
}

/// Leave to write a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leave {
    /// How many of the same place were held back since the last one.
    pub held_back: u64,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self::new()
    }
}

impl RateLimit {
    /// A limit of which nothing is used up.
    pub const fn new() -> Self {
        Self(Mutex::new(Bucket { left: BURST, refilled: None, held_back: 0 }))
    }

    /// Leave for one record at `now`, or `None` when it is to be held back.
    pub fn leave(&self, now: Instant) -> Option<Leave> {
        // Nothing in here panics half way.
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = now.saturating_duration_since(*bucket.refilled.get_or_insert(now));
        let refills = u32::try_from(since.as_millis() / REFILL.as_millis()).unwrap_or(u32::MAX);
        if refills > 0 {
            bucket.left = bucket.left.saturating_add(refills).min(BURST);
            bucket.refilled = Some(now);
        }
        if bucket.left == 0 {
            bucket.held_back += 1;
            return None;
        }
        bucket.left -= 1;
        Some(Leave { held_back: std::mem::take(&mut bucket.held_back) })
    }
}

impl fmt::Display for Leave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.held_back {
            0 => Ok(()),
            count => write!(f, " ({count} more like this were held back)"),
        }
    }
}

/// Writes a record that an outsider can cause at will, with a rate limit of its own for the place in the code:
/// `limited!(log::Level::Warn, "peer '{peer}' sent nonsense")`.
#[macro_export]
macro_rules! limited {
    ($level:expr, $($text:tt)+) => {{
        static LIMIT: $crate::logging::RateLimit = $crate::logging::RateLimit::new();
        let level: ::log::Level = $level;
        if ::log::log_enabled!(level)
            && let Some(leave) = LIMIT.leave(::std::time::Instant::now())
        {
            ::log::log!(level, "{}{leave}", ::std::format_args!($($text)+));
        }
    }};
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn line(prefix: &str, text: &str) -> String {
        let mut out = Vec::new();
        write_line(&mut out, prefix, &Record::builder().args(format_args!("{text}")).build()).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn record_with_line_breaks_stays_one_line() {
        assert_eq!(line("<3>", "name 'a\n<0>forged\u{1b}[2J'"), "<3>name 'a\\n<0>forged\\u{1b}[2J'\n");
        assert_eq!(line("", "Grüße"), "Grüße\n");
    }

    #[test]
    fn journal_is_known_by_device_and_inode_of_stderr_alone() {
        let stat = nix::sys::stat::fstat(io::stderr().as_fd()).unwrap();
        assert!(stderr_is_journal(Some(&format!("{}:{}", stat.st_dev, stat.st_ino))));
        assert!(!stderr_is_journal(Some(&format!("{}:{}", stat.st_dev, stat.st_ino + 1))));
        for text in [None, Some(""), Some("8"), Some("a:b")] {
            assert!(!stderr_is_journal(text), "{text:?}");
        }
    }

    #[test]
    fn journal_priorities_are_those_of_syslog() {
        let prefixes: Vec<_> = Level::iter().map(journal_prefix).collect();
        assert_eq!(prefixes, ["<3>", "<4>", "<6>", "<7>", "<7>"]);
    }

    #[test]
    fn flood_is_cut_to_a_burst_and_its_size_told_later() {
        let limit = RateLimit::new();
        let start = Instant::now();
        let written = (0..100).filter(|_| limit.leave(start).is_some()).count();
        assert_eq!(written, BURST as usize);
        let leave = limit.leave(start + REFILL).unwrap();
        assert_eq!(leave, Leave { held_back: 90 });
        assert_eq!(leave.to_string(), " (90 more like this were held back)");
        assert_eq!(limit.leave(start + REFILL), None);
        let rested = start + REFILL * 1000;
        assert_eq!((0..100).filter(|_| limit.leave(rested).is_some()).count(), BURST as usize);
    }
}
