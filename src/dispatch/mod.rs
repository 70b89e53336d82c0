//! Where actions wait and run. The way of a request, with its threads:
//!
//! 1. A front end calls [`service::Service`]; nothing there blocks (`dispatcher`).
//! 2. The action is entered under its id, or attached to the one that runs (`inflight`, `entry`), and put into its
//!    lane, or refused: full, or stopping (`lanes`).
//! 3. A worker takes it: urgent before normal; one worker at least takes nothing but urgent ones (`worker`).
//! 4. The worker has its documents loaded and claims its workloads. Another action on one of them: it is parked, and
//!    queued again when that one has ended. An urgent one has come since: it is cancelled (`inflight`).
//! 5. The worker runs it through [`crate::action::Act`], the one door to what actions mean.
//! 6. The outcome goes to everyone who waits for it, exactly once, after a panic too (`entry`).
//!
//! Beside: `readers` answers what changes nothing, `batch_run` drives batches from the ends of their actions,
//! `scenarios` answers what Pullpiri's services ask, `recoveries` brings what a crash or a failed undo left to its end, and `janitor`, woken by `alarm`, ends what waits too
//! long, retries recoveries, records what the store did not take, and prunes old outcomes.

mod alarm;
mod batch_run;
mod dispatcher;
#[cfg(test)]
mod double;
mod ended;
mod entry;
mod feed;
mod inflight;
mod janitor;
mod lanes;
mod readers;
mod recoveries;
mod scenarios;
pub mod service;
mod services;
mod shares;
mod worker;

pub use dispatcher::{DispatchConfig, DispatchPorts, Dispatcher};
pub use janitor::Prune;
pub use scenarios::Told;
pub use services::ServiceDesk;
