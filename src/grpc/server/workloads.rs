//! The service `actioncontroller.v1.Workloads`.

use std::sync::Arc;

use grpcio::{RpcContext, ServerStreamingSink, UnarySink};

use super::calls::{Calls, Served, Subject};
use crate::clock::Clock;
use crate::grpc::convert::{requests as decode, workloads as encode};
use crate::proto::workloads::{
    ExecRequest, ExecResponse, GetWorkloadRequest, ListWorkloadsRequest, ListWorkloadsResponse, LogsRequest,
    LogsResponse, StatsRequest, StatsResponse, WaitRequest, WaitResponse, Workload,
};
use crate::proto::workloads_grpc::Workloads as Contract;

/// Handlers of the calls about workloads.
#[derive(Clone)]
pub(super) struct Workloads {
    pub calls: Arc<Calls>,
    /// Says when statistics were read.
    pub clock: Arc<dyn Clock>,
}

impl Contract for Workloads {
    fn list_workloads(
        &self,
        context: RpcContext<'_>,
        request: ListWorkloadsRequest,
        sink: UnarySink<ListWorkloadsResponse>,
    ) {
        let about = request.package.clone();
        let begin = |service: &Served| {
            let (page, package) = decode::list_workloads(request)?;
            Ok(service.list_workloads(page, &package))
        };
        self.calls.answer(&context, sink, about, begin, |page| Ok(encode::workload_page(page)));
    }

    fn get_workload(&self, context: RpcContext<'_>, request: GetWorkloadRequest, sink: UnarySink<Workload>) {
        let about = request.name.clone();
        let begin = |service: &Served| Ok(service.get_workload(&decode::name(request.name, "name")?));
        self.calls.answer(&context, sink, about, begin, |view| Ok(encode::workload(view)));
    }

    fn logs(&self, context: RpcContext<'_>, request: LogsRequest, sink: ServerStreamingSink<LogsResponse>) {
        let subject = Subject::new(request.workload.clone(), request.follow);
        let begin = |service: &Served| Ok(service.logs(decode::logs(request)?));
        self.calls.stream(&context, sink, subject, begin, |chunk| chunk.map(encode::log_chunk));
    }

    fn exec(&self, context: RpcContext<'_>, request: ExecRequest, sink: UnarySink<ExecResponse>) {
        let about = request.workload.clone();
        let begin = |service: &Served| Ok(service.exec(decode::exec(request)?));
        self.calls.answer(&context, sink, about, begin, |outcome| Ok(encode::exec_outcome(outcome)));
    }

    fn stats(&self, context: RpcContext<'_>, request: StatsRequest, sink: UnarySink<StatsResponse>) {
        let about = request.workload.clone();
        let clock = Arc::clone(&self.clock);
        let begin = |service: &Served| Ok(service.stats(&decode::name(request.workload, "workload")?));
        self.calls.answer(&context, sink, about, begin, move |stats| Ok(encode::stats(stats, clock.now_ms())));
    }

    fn wait(&self, context: RpcContext<'_>, request: WaitRequest, sink: UnarySink<WaitResponse>) {
        let subject = Subject::new(request.workload.clone(), true);
        let begin = |service: &Served| Ok(service.wait(decode::wait(request)?));
        self.calls.answer(&context, sink, subject, begin, |view| Ok(encode::waited(view)));
    }
}
