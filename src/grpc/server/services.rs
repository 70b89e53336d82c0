//! The service `actioncontroller.v1.Services`.

use std::sync::Arc;

use grpcio::{RpcContext, ServerStreamingSink, UnarySink};

use super::calls::{Calls, ServedServices, Subject};
use crate::grpc::convert::services as convert;
use crate::proto::services::{
    ControlManagerRequest, ControlManagerResponse, ListNodesRequest, ListNodesResponse, ListServicesRequest,
    ListServicesResponse, ReloadUnitsRequest, ReloadUnitsResponse, ServiceState, UnitFilesRequest, UnitFilesResponse,
    WatchServicesRequest,
};
use crate::proto::services_grpc::Services as Contract;
use crate::runtime::nodes::UnitFilesVerb;

/// Handlers of the calls about services of several nodes.
#[derive(Clone)]
pub(super) struct Services(pub Arc<Calls<ServedServices>>);

impl Services {
    fn arrange(
        &self,
        context: &RpcContext<'_>,
        verb: UnitFilesVerb,
        request: UnitFilesRequest,
        sink: UnarySink<UnitFilesResponse>,
    ) {
        let about = request.units.first().cloned().unwrap_or_default();
        let begin = |services: &ServedServices| Ok(services.arrange_units(convert::unit_files(verb, request)?));
        self.0.answer(context, sink, about, begin, |changes| Ok(convert::arranged(changes)));
    }
}

impl Contract for Services {
    fn list_nodes(&self, context: RpcContext<'_>, _: ListNodesRequest, sink: UnarySink<ListNodesResponse>) {
        let begin = |services: &ServedServices| Ok(services.list_nodes());
        self.0.answer(&context, sink, String::new(), begin, |nodes| Ok(convert::nodes(nodes)));
    }

    fn control_manager(
        &self,
        context: RpcContext<'_>,
        request: ControlManagerRequest,
        sink: UnarySink<ControlManagerResponse>,
    ) {
        let about = request.node.clone();
        let begin = |services: &ServedServices| Ok(services.control_manager(convert::order(request)?));
        self.0.answer(&context, sink, about, begin, |change| Ok(convert::controlled(change)));
    }

    fn watch_services(
        &self,
        context: RpcContext<'_>,
        request: WatchServicesRequest,
        sink: ServerStreamingSink<ServiceState>,
    ) {
        let subject = Subject::new(request.node.clone(), true);
        let begin = |services: &ServedServices| Ok(services.watch_services(convert::filter(request)?));
        self.0.stream(&context, sink, subject, begin, |state| state.map(convert::state));
    }

    fn list_services(
        &self,
        context: RpcContext<'_>,
        request: ListServicesRequest,
        sink: UnarySink<ListServicesResponse>,
    ) {
        let about = request.node.clone();
        let begin = |services: &ServedServices| Ok(services.list_services(convert::listed(request)?));
        self.0.answer(&context, sink, about, begin, |services| Ok(convert::services(services)));
    }

    fn enable_units(&self, context: RpcContext<'_>, request: UnitFilesRequest, sink: UnarySink<UnitFilesResponse>) {
        self.arrange(&context, UnitFilesVerb::Enable, request, sink);
    }

    fn disable_units(&self, context: RpcContext<'_>, request: UnitFilesRequest, sink: UnarySink<UnitFilesResponse>) {
        self.arrange(&context, UnitFilesVerb::Disable, request, sink);
    }

    fn reload_units(&self, context: RpcContext<'_>, request: ReloadUnitsRequest, sink: UnarySink<ReloadUnitsResponse>) {
        let about = request.node.clone();
        let begin = |services: &ServedServices| Ok(services.reload_units(convert::reload(request)?));
        self.0.answer(&context, sink, about, begin, |()| Ok(ReloadUnitsResponse::default()));
    }
}
