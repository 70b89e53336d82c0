//! gRPC's poll threads: named, counted, and waited for at the end.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use grpcio::{EnvBuilder, Environment};

use crate::clock::Deadline;

/// How the threads are called, with a number.
const NAME: &str = "grpc-poll";

/// The number of threads that have not ended, and who waits for that.
#[derive(Default)]
struct Running {
    count: Mutex<usize>,
    ended: Condvar,
}

/// The threads that carry calls. They end when this is stopped and no server uses them any more.
pub(super) struct PollThreads {
    environment: Arc<Environment>,
    running: Arc<Running>,
}

impl PollThreads {
    /// Starts `count` threads.
    pub fn start(count: usize) -> Self {
        let running = Arc::new(Running { count: Mutex::new(count), ended: Condvar::new() });
        let told = Arc::clone(&running);
        let before_stop = move || {
            *told.count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
            told.ended.notify_all();
        };
        let environment = EnvBuilder::new().cq_count(count).name_prefix(NAME).before_stop(before_stop).build();
        Self { environment: Arc::new(environment), running }
    }

    /// What gRPC calls the threads.
    pub fn environment(&self) -> Arc<Environment> {
        Arc::clone(&self.environment)
    }

    /// Ends the threads and waits for them. gRPC keeps their handles to itself, so they are counted instead of joined.
    pub fn stop(self, deadline: Deadline) {
        let Self { environment, running } = self;
        drop(environment);
        let mut count = running.count.lock().unwrap_or_else(PoisonError::into_inner);
        while *count > 0 && !deadline.is_over() {
            let waited = running.ended.wait_timeout(count, deadline.remaining());
            count = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if *count > 0 {
            log::error!("{count} threads of gRPC have not ended");
        }
    }
}
