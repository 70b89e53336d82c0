//! One run of a simulated container as a function of time: what it has printed and whether it has ended, computed from
//! when it was started, frozen and signalled. No clock, no thread: the caller says what time it is.
//!
//! A run has a time of its own, which stands still while it is frozen; times of its program are of that kind.

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::model::resources::Resources;

use super::script::{Ending, Line, OnTerm, Program};

/// A run that has not been found ended yet. Times are nanoseconds; `now` since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Run {
    /// The first process. Above every number that Linux gives, so that nobody takes it for a real one.
    pub pid: i32,
    /// When it was started.
    pub started_ns: u64,
    /// Limits that it was given since.
    #[serde(default)]
    pub resized: Resources,
    program: Program,
    frozen_ns: u64,
    frozen_since: Option<u64>,
    /// Its end by a signal, in its own time.
    signalled: Option<Ending>,
    /// Up to where its lines have been taken, in its own time. Not kept: a new process takes them again.
    #[serde(skip)]
    taken: Option<u64>,
    /// A stop waits for it to end. Not kept: a stop does not outlive its process.
    #[serde(skip)]
    pub stopping: u32,
}

impl Run {
    /// A run that starts now.
    pub fn new(pid: i32, now: u64, program: Program) -> Self {
        Self {
            pid,
            started_ns: now,
            resized: Resources::default(),
            program,
            frozen_ns: 0,
            frozen_since: None,
            signalled: None,
            taken: None,
            stopping: 0,
        }
    }

    /// Its own time.
    pub fn own(&self, now: u64) -> u64 {
        self.frozen_since.unwrap_or(now).saturating_sub(self.started_ns).saturating_sub(self.frozen_ns)
    }

    /// When its own time is (or was, since it was last frozen) `own`.
    fn wall(&self, own: u64) -> u64 {
        self.started_ns.saturating_add(self.frozen_ns).saturating_add(own)
    }

    /// Whether it is frozen.
    pub fn is_frozen(&self) -> bool {
        self.frozen_since.is_some()
    }

    /// Stops its time.
    pub fn freeze(&mut self, now: u64) {
        self.frozen_since.get_or_insert(now);
    }

    /// Lets its time go on.
    pub fn thaw(&mut self, now: u64) {
        if let Some(since) = self.frozen_since.take() {
            self.frozen_ns += now.saturating_sub(since);
        }
    }

    /// Up to where its lines have been taken, in its own time.
    pub fn taken_up_to(&self) -> Option<u64> {
        self.taken
    }

    /// Goes on as another process, with the lines up to `taken` printed already.
    pub fn revive(&mut self, pid: i32, taken: Option<u64>) {
        (self.pid, self.taken, self.stopping) = (pid, taken, 0);
    }

    /// Delivers a signal. As with any first process of a container, what it has no handler for is ignored, except that
    /// the simulator's dies of those that ask it to end (SIGINT, SIGQUIT) and of crashes.
    pub fn signal(&mut self, now: u64, signal: Signal) {
        let own = self.own(now);
        let dies = Some(Ending { at: own, code: 128 + signal as i32, oom: false });
        let ending = match signal {
            Signal::SIGKILL | Signal::SIGSEGV | Signal::SIGABRT | Signal::SIGBUS | Signal::SIGFPE | Signal::SIGILL => {
                dies
            }
            Signal::SIGTERM | Signal::SIGINT | Signal::SIGQUIT => match self.program.on_term {
                OnTerm::Die => dies,
                OnTerm::Ignore => None,
                OnTerm::End(after, code) => Some(Ending { at: own.saturating_add(after), code, oom: false }),
            },
            _ => None,
        };
        self.signalled = earlier(self.signalled, ending);
    }

    /// How it has ended; `None` while it goes on. What is frozen does not end, whatever signal it was sent.
    pub fn ended(&self, now: u64) -> Option<Ending> {
        self.ending().filter(|ending| !self.is_frozen() && ending.at <= self.own(now))
    }

    /// The wall-clock time of an end of this run.
    pub fn end_time(&self, ending: Ending) -> u64 {
        self.wall(ending.at)
    }

    fn ending(&self) -> Option<Ending> {
        earlier(self.signalled, self.program.end)
    }

    /// When it will end unless something happens to it.
    pub fn end_due(&self) -> Option<u64> {
        self.ending().filter(|_| !self.is_frozen()).map(|ending| self.wall(ending.at))
    }

    /// When it will print its next line unless something happens to it.
    pub fn line_due(&self, now: u64) -> Option<u64> {
        let next = self.program.next_line(self.own(now)).filter(|_| !self.is_frozen())?;
        self.ending().is_none_or(|ending| next <= ending.at).then(|| self.wall(next))
    }

    /// The lines printed since this was last asked, with their wall-clock times; of each repeated line at most the
    /// last `most`. To be asked before a frozen run is thawed.
    pub fn take_lines(&mut self, now: u64, most: u64) -> Vec<(u64, Line)> {
        let to = self.ending().map_or(u64::MAX, |ending| ending.at).min(self.own(now));
        if self.taken.is_some_and(|taken| taken >= to) {
            return Vec::new();
        }
        let lines = self.program.lines(self.taken, to, most);
        self.taken = Some(to);
        lines.into_iter().map(|line| (self.wall(line.at), line)).collect()
    }
}

fn earlier(a: Option<Ending>, b: Option<Ending>) -> Option<Ending> {
    a.into_iter().chain(b).min_by_key(|ending| ending.at)
}

#[cfg(test)]
mod tests {
    use super::super::script::{Inside, NS_PER_MS, read};
    use super::*;

    struct Nothing;

    impl Inside for Nothing {
        fn env(&self, _name: &str) -> Option<String> {
            None
        }
        fn user(&self) -> String {
            String::new()
        }
        fn interfaces(&self) -> Vec<String> {
            Vec::new()
        }
        fn read(&self, _path: &str) -> Result<String, String> {
            Ok(String::new())
        }
        fn write(&mut self, _path: &str, _text: &str) -> Result<(), String> {
            Ok(())
        }
    }

    const START: u64 = 1_000 * NS_PER_MS;

    fn run(words: &[&str]) -> Run {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Run::new(7, START, Program::start(&read(&words).unwrap().unwrap(), &mut Nothing).unwrap())
    }

    fn at(ms: u64) -> u64 {
        START + ms * NS_PER_MS
    }

    fn code(run: &Run, ms: u64) -> Option<i32> {
        run.ended(at(ms)).map(|ending| ending.code)
    }

    #[test]
    fn frozen_time_does_not_count() {
        let mut run = run(&["exit-after:100ms:3"]);
        run.freeze(at(50));
        assert_eq!(code(&run, 500), None);
        assert_eq!(run.end_due(), None);
        run.thaw(at(500));
        assert_eq!(run.end_due(), Some(at(550)));
        assert_eq!(code(&run, 549), None);
        assert_eq!(code(&run, 550), Some(3));
    }

    #[test]
    fn signal_to_a_frozen_run_acts_when_it_is_thawed() {
        let mut run = run(&["on-term:20ms:7"]);
        run.freeze(at(10));
        run.signal(at(100), Signal::SIGTERM);
        assert_eq!(code(&run, 1_000), None);
        run.thaw(at(200));
        assert_eq!(run.end_due(), Some(at(220)));
        assert_eq!(code(&run, 220), Some(7));
    }

    #[test]
    fn deadly_signal_waits_for_the_thaw_too() {
        let mut run = run(&["log:stdout:0ms:x"]);
        run.freeze(at(10));
        run.signal(at(20), Signal::SIGTERM);
        assert_eq!(code(&run, 1_000), None);
        run.thaw(at(1_000));
        assert_eq!(code(&run, 1_000), Some(143));
    }

    #[test]
    fn kill_wins_over_a_handler_that_still_runs() {
        let mut run = run(&["on-term:500ms:0"]);
        run.signal(at(0), Signal::SIGTERM);
        run.signal(at(100), Signal::SIGKILL);
        assert_eq!(code(&run, 100), Some(137));
    }

    #[test]
    fn hangup_ends_nothing_and_termination_does_unless_ignored() {
        let mut plain = run(&["log:stdout:0ms:x"]);
        plain.signal(at(0), Signal::SIGHUP);
        assert_eq!(code(&plain, 10), None);
        plain.signal(at(10), Signal::SIGTERM);
        assert_eq!(code(&plain, 10), Some(143));
        let mut deaf = run(&["ignore-term"]);
        deaf.signal(at(0), Signal::SIGTERM);
        assert_eq!(code(&deaf, 10_000), None);
    }

    #[test]
    fn nothing_is_printed_after_the_end() {
        let mut run = run(&["every:stdout:10ms:{n}", "exit-after:25ms:0"]);
        assert_eq!(run.take_lines(at(12), 99).len(), 2);
        assert_eq!(run.line_due(at(12)), Some(at(20)));
        assert_eq!(run.take_lines(at(1_000), 99).len(), 1);
        assert_eq!(run.line_due(at(22)), None);
        assert!(run.take_lines(at(2_000), 99).is_empty());
    }
}
