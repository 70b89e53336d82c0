//! The janitor's thread: ends what waits beyond its deadline or was cancelled meanwhile, retries recoveries, records
//! what the store did not take, prunes old outcomes. It sleeps until the next of these is due.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::worker::Shared;
use crate::application::history::History;
use crate::clock::Deadline;
use crate::error::Error;

/// Between two prunings while no action ends.
const PRUNE_INTERVAL: Duration = Duration::from_secs(600);

/// The time of one pruning, and of the reading after it: short, because the daemon's end waits for it. What is left
/// goes the next time.
const PRUNE_BUDGET: Duration = Duration::from_secs(5);

/// Between two tries to record what could not be recorded.
const RECORD_INTERVAL: Duration = Duration::from_secs(1);

/// The time that such a try has.
const RECORD_BUDGET: Duration = Duration::from_secs(5);

/// Prunes old outcomes where that is due, told how many came since the last call; gives how many went.
pub type Prune = Box<dyn Fn(usize, Deadline) -> Result<usize, Error> + Send>;

/// The thread's handle.
pub struct Janitor {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Janitor {
    /// Starts the thread.
    pub fn start(shared: Arc<Shared>, prune: Prune, history: Arc<History>) -> io::Result<Self> {
        let own = Arc::clone(&shared);
        let pruning = Pruning { prune, history };
        let thread = thread::Builder::new().name("janitor".to_owned()).spawn(move || run(&own, &pruning))?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Ends the thread and joins it.
    pub fn stop(&self) {
        self.shared.alarm.end();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            log::error!("the janitor's thread panicked");
        }
    }
}

struct Pruning {
    prune: Prune,
    history: Arc<History>,
}

impl Pruning {
    /// Prunes where that is due, and forgets the ids of what went.
    fn run(&self, shared: &Shared) {
        let newly_ended = shared.ended.take_newly();
        let pruned = (self.prune)(newly_ended, Deadline::after(PRUNE_BUDGET)).and_then(|count| {
            if count > 0 {
                shared.ended.recount(|| self.history.ids(Deadline::after(PRUNE_BUDGET)))?;
            }
            Ok(count)
        });
        match pruned {
            Ok(0) => {}
            Ok(count) => log::debug!("{count} old outcomes were forgotten"),
            Err(error) => crate::limited!(log::Level::Warn, "old outcomes were not forgotten: {error}"),
        }
    }
}

fn run(shared: &Shared, pruning: &Pruning) {
    while shared.alarm.wait() {
        // Deadlines and recoveries hang on this thread: it goes on.
        if catch_unwind(AssertUnwindSafe(|| look(shared, pruning))).is_err() {
            log::error!("the janitor met a fault in this daemon");
            shared.alarm.no_later_than(Instant::now() + RECORD_INTERVAL);
        }
    }
}

fn look(shared: &Shared, pruning: &Pruning) {
    shared.end_overdue();
    shared.retry_due();
    pruning.run(shared);
    let next_prune = Instant::now() + PRUNE_INTERVAL;
    shared.alarm.no_later_than(shared.next_due().map_or(next_prune, |due| due.min(next_prune)));
    if shared.act.record_unrecorded(Deadline::after(RECORD_BUDGET)) > 0 {
        shared.alarm.no_later_than(Instant::now() + RECORD_INTERVAL);
    }
}
