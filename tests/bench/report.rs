//! [`Report`]: the tables at the end, and whether every firm aim is met.

use std::fs;
use std::time::{Duration, Instant};

use comfy_table::{CellAlignment, Table, presets};

use super::samples::Samples;

/// What was measured so far.
pub struct Report {
    begun: Instant,
    loads: Vec<String>,
    times: Table,
    values: Table,
    missed: Vec<String>,
}

impl Report {
    /// A report of nothing yet.
    pub fn begin() -> Self {
        let mut times = Table::new();
        times.load_preset(presets::ASCII_MARKDOWN);
        times.set_header(["time", "n", "median ms", "p99 ms", "beside", "median ms", "p99 ms", "x median", "x p99"]);
        for column in times.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let mut values = Table::new();
        values.load_preset(presets::ASCII_MARKDOWN).set_header(["value", "", "note"]);
        for column in values.column_iter_mut().skip(1).take(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        Self { begun: Instant::now(), loads: Vec::new(), times, values, missed: Vec::new() }
    }

    /// A part begins; says so, and notes the machine's load.
    pub fn part(&mut self, name: &str) {
        let load = load();
        eprintln!("{:6.1} s  {name} (load {load})", self.begun.elapsed().as_secs_f64());
        self.loads.push(format!("{name} {load}"));
    }

    /// Times on their own.
    pub fn time(&mut self, what: &str, samples: &Samples) {
        let dashes = [const { String::new() }; 5];
        self.times.add_row(own(what, samples).into_iter().chain(dashes));
    }

    /// Times beside those of something else, taken in turns with it.
    pub fn beside(&mut self, what: &str, samples: &Samples, other: &str, others: &Samples) {
        let ratio = |a: Duration, b: Duration| format!("{:.2}", a.as_secs_f64() / b.as_secs_f64());
        let more = [
            other.to_owned(),
            millis(others.median()),
            millis(others.p99()),
            ratio(samples.median(), others.median()),
            ratio(samples.p99(), others.p99()),
        ];
        self.times.add_row(own(what, samples).into_iter().chain(more));
    }

    /// A firm aim: not one sample may be longer.
    pub fn aim(&mut self, what: &str, samples: &Samples, limit: Duration) {
        let longest = samples.longest();
        let is_met = longest <= limit;
        let note = format!("aim: at most {} ms{}", limit.as_millis(), if is_met { "" } else { ", MISSED" });
        self.value(&format!("{what}, longest"), format!("{} ms", millis(longest)), &note);
        if !is_met {
            self.missed.push(format!("{what} took {} ms, the aim is {} ms", millis(longest), limit.as_millis()));
        }
    }

    /// Anything else.
    pub fn value(&mut self, what: &str, value: impl ToString, note: &str) {
        self.values.add_row([what.to_owned(), value.to_string(), note.to_owned()]);
    }

    /// Prints all of it.
    pub fn print(&mut self) {
        let build = if cfg!(debug_assertions) { "unoptimised build" } else { "optimised build" };
        let cpus = std::thread::available_parallelism().map_or(0, usize::from);
        println!("\nactioncontroller {}, {build}, {cpus} CPUs", env!("CARGO_PKG_VERSION"));
        println!("load average over 1 minute: {}; at the end {}\n", self.loads.join(", "), load());
        println!("{}\n\n{}\n", self.times, self.values);
        for missed in &self.missed {
            println!("MISSED: {missed}");
        }
        println!("measured in {:.0} s", self.begun.elapsed().as_secs_f64());
    }

    /// Whether no firm aim was missed.
    pub fn is_met(&self) -> bool {
        self.missed.is_empty()
    }
}

fn own(what: &str, samples: &Samples) -> [String; 4] {
    [what.to_owned(), samples.count().to_string(), millis(samples.median()), millis(samples.p99())]
}

/// Milliseconds with microseconds behind the point.
fn millis(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64() * 1000.0)
}

fn load() -> String {
    let averages = fs::read_to_string("/proc/loadavg").expect("/proc is mounted");
    averages.split(' ').next().unwrap_or_default().to_owned()
}
