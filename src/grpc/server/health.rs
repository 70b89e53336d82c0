//! The standard health service, and [`HealthState`], by which the daemon says that it no longer serves.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_util::Stream;
use grpcio::{RpcContext, ServerStreamingSink, UnarySink};
use protobuf::EnumOrUnknown;

use super::calls::{Calls, Served};
use crate::dispatch::service::{Later, Stepwise};
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::proto::health::health_check_response::ServingStatus;
use crate::proto::health::{HealthCheckRequest, HealthCheckResponse};
use crate::proto::health_grpc::Health as Contract;
use crate::proto::{actions_grpc, workloads_grpc};

/// The services whose health is told; empty is the server as a whole. They live and die together.
const SERVICES: [&str; 3] = ["", actions_grpc::ACTION_CONTROLLER, workloads_grpc::WORKLOADS];

#[derive(Default)]
struct State {
    not_serving: bool,
    ended: bool,
    watchers: BTreeMap<u64, Waker>,
    next: u64,
}

/// What the daemon says of its own health, shared with those who watch it.
#[derive(Default)]
pub struct HealthState(Mutex<State>);

impl HealthState {
    /// Serving as long as the service says so.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// NOT_SERVING from now on, whatever the service says. The first thing that a stopping daemon does.
    pub fn not_serving(&self) {
        self.lock().not_serving = true;
        self.changed();
    }

    /// Whether NOT_SERVING was said.
    pub(super) fn is_ending(&self) -> bool {
        self.lock().not_serving
    }

    /// Makes watchers look again. To be called by whoever changes what `Service::is_serving` answers.
    pub fn changed(&self) {
        let watchers = std::mem::take(&mut self.lock().watchers);
        watchers.into_values().for_each(Waker::wake);
    }

    /// Ends the streams of all watchers, after NOT_SERVING.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.not_serving();
    }
}

/// Handlers of the health service.
#[derive(Clone)]
pub(super) struct Health {
    pub calls: Arc<Calls>,
    pub state: Arc<HealthState>,
}

impl Health {
    fn status(&self) -> ServingStatus {
        let serving = !self.state.is_ending() && self.calls.service().is_ok_and(|service| service.is_serving());
        if serving { ServingStatus::SERVING } else { ServingStatus::NOT_SERVING }
    }

    fn status_of(&self, service: &str) -> Result<ServingStatus> {
        if SERVICES.contains(&service) {
            return Ok(self.status());
        }
        let message = format!("no service '{}' is here", service.chars().take(64).collect::<String>());
        Err(Error::new(ErrorKind::NotFound, ErrorCode::InvalidField, message).at("service"))
    }
}

impl Contract for Health {
    fn check(&self, context: RpcContext<'_>, request: HealthCheckRequest, sink: UnarySink<HealthCheckResponse>) {
        let checked = self.status_of(&request.service);
        let begin = |_: &Served| {
            let later: Later<ServingStatus> = Box::pin(std::future::ready(checked));
            Ok(later)
        };
        self.calls.answer(&context, sink, request.service, begin, |status| Ok(response(status)));
    }

    fn watch(
        &self,
        context: RpcContext<'_>,
        request: HealthCheckRequest,
        sink: ServerStreamingSink<HealthCheckResponse>,
    ) {
        let known = SERVICES.contains(&request.service.as_str());
        let watch: Stepwise<ServingStatus> = Box::pin(Watch { health: self.clone(), known, told: None, id: None });
        let begin = |_: &Served| {
            let later: Later<Stepwise<ServingStatus>> = Box::pin(std::future::ready(Ok(watch)));
            Ok(later)
        };
        self.calls.stream(&context, sink, request.service, begin, |status| Ok(response(status)));
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: EnumOrUnknown::new(status), ..Default::default() }
}

/// The status now and at each change.
struct Watch {
    health: Health,
    known: bool,
    told: Option<ServingStatus>,
    id: Option<u64>,
}

impl Watch {
    /// Registers to be woken at the next change; says whether the streams end.
    fn register(&mut self, waker: &Waker) -> bool {
        let mut state = self.health.state.lock();
        let id = self.id.unwrap_or(state.next);
        state.next = state.next.max(id + 1);
        state.watchers.insert(id, waker.clone());
        let ended = state.ended;
        drop(state);
        self.id = Some(id);
        ended
    }
}

impl Stream for Watch {
    type Item = ServingStatus;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ServingStatus>> {
        // Registered before the status is read: a change between the two is not missed.
        let ended = self.register(cx.waker());
        let status = if self.known { self.health.status() } else { ServingStatus::SERVICE_UNKNOWN };
        if self.told != Some(status) {
            self.told = Some(status);
            return Poll::Ready(Some(status));
        }
        if ended { Poll::Ready(None) } else { Poll::Pending }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.health.state.lock().watchers.remove(&id);
        }
    }
}
