//! Workloads, actions and the node as they are told to those who ask and to those who are told by themselves. Nothing here
//! changes anything but through an action: [`restarts`] asks for one where a container has ended, [`overruns`] where tasks
//! miss their deadlines. [`cores`] looks after the ledger of exclusive CPUs where no action does.

pub mod audience;
pub mod cores;
pub mod faults;
pub mod health;
pub mod history;
pub mod overruns;
pub mod publish;
pub mod report;
pub mod restarts;
pub mod status;
pub mod teller;
