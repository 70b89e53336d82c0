//! The service `actioncontroller.v1.ActionController`.

use std::sync::Arc;

use grpcio::{RpcContext, RpcStatus, ServerStreamingSink, UnarySink};

use super::HealthState;
use super::calls::{Calls, Served};
use crate::dispatch::service::NodeHealth;
use crate::grpc::convert::{actions as encode, cores, health, policy, requests as decode};
use crate::grpc::status;
use crate::model::action::{ActionState, Outcome};
use crate::proto::actions::{
    Action, CancelActionRequest, CancelActionResponse, CheckPolicyRequest, CheckPolicyResponse, ExecuteActionRequest,
    ExecuteActionResponse, ExecuteBatchRequest, ExecuteBatchResponse, GetActionRequest, ListActionsRequest,
    ListActionsResponse, ListCoresRequest, ListCoresResponse, NodeHealthRequest, NodeHealthResponse, PlanRequest,
    PlanResponse, WatchActionRequest, WatchActionResponse,
};
use crate::proto::actions_grpc::ActionController;

/// Handlers of the calls about actions.
#[derive(Clone)]
pub(super) struct Actions {
    pub calls: Arc<Calls>,
    /// What the daemon says of its own end.
    pub health: Arc<HealthState>,
}

impl ActionController for Actions {
    fn execute_action(
        &self,
        context: RpcContext<'_>,
        request: ExecuteActionRequest,
        sink: UnarySink<ExecuteActionResponse>,
    ) {
        let about = request.action.action_id.clone();
        let no_wait = request.no_wait;
        let begin = |service: &Served| {
            let (action, wait) = decode::execute(request)?;
            Ok(if wait { service.execute(action) } else { service.accept(action) })
        };
        self.calls.answer(&context, sink, about, begin, move |outcome| reply(outcome, no_wait));
    }

    fn cancel_action(
        &self,
        context: RpcContext<'_>,
        request: CancelActionRequest,
        sink: UnarySink<CancelActionResponse>,
    ) {
        let about = request.action_id.clone();
        let begin = |service: &Served| {
            let (id, reason, wait) = decode::cancel(request)?;
            Ok(service.cancel(&id, &reason, wait))
        };
        self.calls.answer(&context, sink, about, begin, |answer| Ok(encode::cancelled(answer)));
    }

    fn execute_batch(
        &self,
        context: RpcContext<'_>,
        request: ExecuteBatchRequest,
        sink: UnarySink<ExecuteBatchResponse>,
    ) {
        let about = format!("{} actions", request.entries.len());
        let finish = |outcomes: Vec<Outcome>| {
            let outcomes = outcomes.into_iter().map(encode::outcome).collect();
            Ok(ExecuteBatchResponse { outcomes, ..Default::default() })
        };
        self.calls.answer(&context, sink, about, |service| Ok(service.batch(decode::batch(request)?)), finish);
    }

    fn get_action(&self, context: RpcContext<'_>, request: GetActionRequest, sink: UnarySink<Action>) {
        let about = request.action_id.clone();
        let begin = |service: &Served| Ok(service.get_action(&decode::action_id(request.action_id)?));
        self.calls.answer(&context, sink, about, begin, |view| Ok(encode::action(view)));
    }

    fn watch_action(
        &self,
        context: RpcContext<'_>,
        request: WatchActionRequest,
        sink: ServerStreamingSink<WatchActionResponse>,
    ) {
        let about = request.action_id.clone();
        let begin = |service: &Served| Ok(service.watch(&decode::action_id(request.action_id)?));
        self.calls.stream(&context, sink, about, begin, |event| Ok(encode::event(event)));
    }

    fn list_actions(&self, context: RpcContext<'_>, request: ListActionsRequest, sink: UnarySink<ListActionsResponse>) {
        let about = request.target.clone();
        let begin = |service: &Served| Ok(service.list_actions(decode::list_actions(request)?));
        self.calls.answer(&context, sink, about, begin, |page| Ok(encode::action_page(page)));
    }

    fn plan(&self, context: RpcContext<'_>, request: PlanRequest, sink: UnarySink<PlanResponse>) {
        let about = format!("{} actions", request.actions.len());
        let finish = |plan| Ok(PlanResponse { plan: Some(encode::plan_view(plan)).into(), ..Default::default() });
        self.calls.answer(&context, sink, about, |service| Ok(service.plan(decode::plan(request)?)), finish);
    }

    fn check_policy(&self, context: RpcContext<'_>, request: CheckPolicyRequest, sink: UnarySink<CheckPolicyResponse>) {
        let about = request.action.target.clone();
        let begin = |service: &Served| Ok(service.check_policy(decode::check_policy(request)?));
        self.calls.answer(&context, sink, about, begin, |answer| Ok(policy::answer(answer)));
    }

    fn node_health(&self, context: RpcContext<'_>, _: NodeHealthRequest, sink: UnarySink<NodeHealthResponse>) {
        let state = Arc::clone(&self.health);
        // A daemon that is ending says so before the service does.
        let finish = move |told: NodeHealth| {
            let serving = told.serving && !state.is_ending();
            Ok(health::node(NodeHealth { serving, ..told }))
        };
        self.calls.answer(&context, sink, String::new(), |service| Ok(service.node_health()), finish);
    }

    fn list_cores(&self, context: RpcContext<'_>, _: ListCoresRequest, sink: UnarySink<ListCoresResponse>) {
        let begin = |service: &Served| Ok(service.list_cores());
        self.calls.answer(&context, sink, String::new(), begin, |told| Ok(cores::list(told)));
    }
}

/// The answer to an action: OK with its outcome where it succeeded, has not ended, or was not waited for; otherwise the
/// failure as the call's own, with the outcome in the details.
fn reply(outcome: Outcome, no_wait: bool) -> Result<ExecuteActionResponse, RpcStatus> {
    let well = no_wait || !outcome.state.is_final() || outcome.state == ActionState::Succeeded;
    let outcome = encode::outcome(outcome);
    if !well {
        return Err(status::of_outcome(outcome));
    }
    Ok(ExecuteActionResponse { outcome: Some(outcome).into(), ..Default::default() })
}
