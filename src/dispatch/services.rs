//! What is asked about services of several nodes, on readers' threads.

use std::sync::Arc;
use std::time::Duration;

use super::dispatcher::Dispatcher;
use super::feed;
use super::service::{Later, Services, Stepwise};
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::runtime::adapter::{Call, Change, NoProgress};
use crate::runtime::nodes::{ManagerOrder, NodeServices, ServiceFilter, ServiceNodes, ServiceState};

/// How long a look at the nodes, or opening a monitor, may take.
const READ_BUDGET: Duration = Duration::from_secs(10);

/// How long a manager may take to start or stop.
const CONTROL_BUDGET: Duration = Duration::from_secs(60);

fn call(budget: Duration, cancel: &CancelToken) -> Call<'_> {
    Call { deadline: Deadline::after(budget), cancel, progress: &NoProgress }
}

impl Dispatcher {
    fn nodes(&self) -> Result<Arc<dyn NodeServices>> {
        self.nodes.clone().ok_or_else(|| {
            let message = "nothing here manages services of several nodes";
            let error = Error::new(ErrorKind::Unimplemented, ErrorCode::EngineLacksCapability, message);
            error.hint("BlueChi does, where it is switched on with runtimes.bluechi.enabled")
        })
    }
}

impl Services for Dispatcher {
    fn list_nodes(&self) -> Later<ServiceNodes> {
        match self.nodes() {
            Ok(nodes) => self.readers.engine(move |token| Ok(nodes.nodes(&call(READ_BUDGET, token))?)),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn control_manager(&self, order: ManagerOrder) -> Later<Change> {
        match self.nodes() {
            Ok(nodes) => self.readers.long(move |token| Ok(nodes.control(&call(CONTROL_BUDGET, token), &order)?)),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn watch_services(&self, filter: ServiceFilter) -> Later<Stepwise<Result<ServiceState>>> {
        match self.nodes() {
            Ok(nodes) => feed::open(&self.readers, move |token| Ok(nodes.watch(&call(READ_BUDGET, token), &filter)?)),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }
}
