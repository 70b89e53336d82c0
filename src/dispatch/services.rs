//! What is asked about services of several nodes, on readers' threads.

use std::sync::Arc;
use std::time::Duration;

use super::dispatcher::Dispatcher;
use super::feed;
use super::service::{Later, Services, Stepwise};
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::error::Result;
use crate::runtime::adapter::{Call, Change, NoProgress};
use crate::runtime::nodes::{
    InstalledService, ManagerOrder, NodeServices, ServiceFilter, ServiceNodes, ServiceState, UnitFileChange,
    UnitFilesOrder,
};

/// How long a look at the nodes, or opening a monitor, may take.
const READ_BUDGET: Duration = Duration::from_secs(10);

/// How long a manager may take to start or stop, and a node to read its unit files anew.
const CONTROL_BUDGET: Duration = Duration::from_secs(60);

fn call(budget: Duration, cancel: &CancelToken) -> Call<'_> {
    Call { deadline: Deadline::after(budget), cancel, progress: &NoProgress }
}

/// Asks what manages services, by the threads of the dispatcher's reads.
pub struct ServiceDesk {
    /// Whose threads.
    pub dispatcher: Arc<Dispatcher>,
    /// What is asked.
    pub nodes: Arc<dyn NodeServices>,
}

impl Services for ServiceDesk {
    fn list_nodes(&self) -> Later<ServiceNodes> {
        let nodes = Arc::clone(&self.nodes);
        self.dispatcher.readers.engine(move |token| Ok(nodes.nodes(&call(READ_BUDGET, token))?))
    }

    fn control_manager(&self, order: ManagerOrder) -> Later<Change> {
        let nodes = Arc::clone(&self.nodes);
        self.dispatcher.readers.long(move |token| Ok(nodes.control(&call(CONTROL_BUDGET, token), &order)?))
    }

    fn watch_services(&self, filter: ServiceFilter) -> Later<Stepwise<Result<ServiceState>>> {
        let nodes = Arc::clone(&self.nodes);
        let open = move |token: &CancelToken| Ok(nodes.watch(&call(READ_BUDGET, token), &filter)?);
        feed::open(&self.dispatcher.readers, open)
    }

    fn list_services(&self, filter: ServiceFilter) -> Later<Vec<InstalledService>> {
        let nodes = Arc::clone(&self.nodes);
        self.dispatcher.readers.engine(move |token| Ok(nodes.list(&call(READ_BUDGET, token), &filter)?))
    }

    fn arrange_units(&self, order: UnitFilesOrder) -> Later<Vec<UnitFileChange>> {
        let nodes = Arc::clone(&self.nodes);
        self.dispatcher.readers.long(move |token| Ok(nodes.arrange(&call(CONTROL_BUDGET, token), &order)?))
    }

    fn reload_units(&self, node: String) -> Later<()> {
        let nodes = Arc::clone(&self.nodes);
        self.dispatcher.readers.long(move |token| Ok(nodes.reload(&call(CONTROL_BUDGET, token), &node)?))
    }
}
