//! Workloads, actions and the node as they are told to those who ask: nothing here changes anything.

pub mod audience;
pub mod faults;
pub mod health;
pub mod history;
pub mod publish;
pub mod report;
pub mod restarts;
pub mod status;
pub mod teller;
