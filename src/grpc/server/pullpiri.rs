//! The services that Eclipse Pullpiri and TIMPANI expect of an ActionController: `ActionControllerConnection`, and
//! `FaultService` where it is configured.
//!
//! Texts and codes are upstream's where it has any that can be relied on (Pullpiri of July 2026). A fault of the request
//! is a gRPC error, except for OffloadModel and StopWorkload, which tell failures in their answers.

use std::sync::Arc;

use grpcio::{RpcContext, UnarySink};

use super::calls::{Calls, ServedPullpiri};
use crate::dispatch::service::Later;
use crate::error::Result;
use crate::grpc::convert::pullpiri as convert;
use crate::proto::actioncontroller::{
    CompleteNetworkSettingRequest, CompleteNetworkSettingResponse, OffloadModelRequest, OffloadModelResponse,
    ReconcileRequest, ReconcileResponse, StopWorkloadRequest, StopWorkloadResponse, TriggerActionRequest,
    TriggerActionResponse,
};
use crate::proto::actioncontroller_grpc::ActionControllerConnection;
use crate::proto::schedinfo::{FaultInfo, Response};
use crate::proto::schedinfo_grpc::FaultService;

/// Handlers of both services.
#[derive(Clone)]
pub(super) struct PullpiriCalls(pub Arc<Calls<ServedPullpiri>>);

/// An answer in which failures are told.
fn told<T: Send + 'static>(later: Later<T>) -> Later<Result<T>> {
    Box::pin(async move { Ok(later.await) })
}

impl ActionControllerConnection for PullpiriCalls {
    fn trigger_action(
        &self,
        context: RpcContext<'_>,
        request: TriggerActionRequest,
        sink: UnarySink<TriggerActionResponse>,
    ) {
        let about = request.scenario_name.clone();
        let begin = |pullpiri: &ServedPullpiri| Ok(pullpiri.trigger(&request.scenario_name));
        self.0.answer(&context, sink, about, begin, |triggered| Ok(convert::trigger_answer(triggered)));
    }

    fn reconcile(&self, context: RpcContext<'_>, request: ReconcileRequest, sink: UnarySink<ReconcileResponse>) {
        let about = request.scenario_name.clone();
        let begin = |pullpiri: &ServedPullpiri| {
            let (current, desired) = convert::states(&request)?;
            Ok(pullpiri.reconcile(&request.scenario_name, current, desired))
        };
        self.0.answer(&context, sink, about, begin, |triggered| Ok(convert::reconcile_answer(triggered)));
    }

    fn complete_network_setting(
        &self,
        context: RpcContext<'_>,
        request: CompleteNetworkSettingRequest,
        sink: UnarySink<CompleteNetworkSettingResponse>,
    ) {
        let about = request.request_id.clone();
        let begin = |pullpiri: &ServedPullpiri| Ok(pullpiri.network_set(convert::network(request)));
        let acknowledge =
            |()| Ok(CompleteNetworkSettingResponse { acknowledged: true, ..CompleteNetworkSettingResponse::default() });
        self.0.answer(&context, sink, about, begin, acknowledge);
    }

    fn offload_model(
        &self,
        context: RpcContext<'_>,
        request: OffloadModelRequest,
        sink: UnarySink<OffloadModelResponse>,
    ) {
        let about = request.model_name.clone();
        let begin = |pullpiri: &ServedPullpiri| Ok(told(pullpiri.offload(convert::offload(request))));
        self.0.answer(&context, sink, about, begin, |offloaded| Ok(convert::offload_answer(offloaded)));
    }

    fn stop_workload(
        &self,
        context: RpcContext<'_>,
        request: StopWorkloadRequest,
        sink: UnarySink<StopWorkloadResponse>,
    ) {
        let about = request.model_name.clone();
        let begin = |pullpiri: &ServedPullpiri| Ok(told(pullpiri.stop_workload(convert::stop(request))));
        self.0.answer(&context, sink, about, begin, |stopped| Ok(convert::stop_answer(stopped)));
    }
}

impl FaultService for PullpiriCalls {
    fn notify_fault(&self, context: RpcContext<'_>, request: FaultInfo, sink: UnarySink<Response>) {
        let about = request.task_name.clone();
        let begin = |pullpiri: &ServedPullpiri| Ok(pullpiri.fault(convert::fault(request)?));
        self.0.answer(&context, sink, about, begin, |()| Ok(Response::default()));
    }
}
