//! [`Client`]: the calls of the API, each with its time limit and with failures in the words of [`Failure`].

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use grpcio::{
    CallOption, ChannelBuilder, ClientSStreamReceiver, ClientUnaryReceiver, ConnectivityState, EnvBuilder, Environment,
    RpcStatusCode,
};

use crate::address::Address;
use crate::api::{
    Action, ActionControllerClient, ActionSpec, CancelActionRequest, CancelActionResponse, CheckPolicyRequest,
    CheckPolicyResponse, ControlManagerRequest, ControlManagerResponse, ExecRequest, ExecResponse,
    ExecuteActionRequest, ExecuteActionResponse, GetActionRequest, GetWorkloadRequest, HealthCheckRequest,
    HealthClient, ListActionsRequest, ListActionsResponse, ListCoresRequest, ListCoresResponse, ListNodesRequest,
    ListNodesResponse, ListServicesRequest, ListServicesResponse, ListWorkloadsRequest, ListWorkloadsResponse,
    LogsRequest, LogsResponse, NodeHealthRequest, NodeHealthResponse, Outcome, Plan, PlanRequest, ReloadUnitsRequest,
    ServiceState, ServicesClient, ServingStatus, StatsRequest, StatsResponse, UnitFilesRequest, UnitFilesResponse,
    WaitRequest, WaitResponse, WatchActionRequest, WatchActionResponse, WatchServicesRequest, Workload,
    WorkloadsClient,
};
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::wait;

/// A daemon on this machine takes a connection at once, and one on the vehicle's network within a round trip; who has
/// not answered by then does not.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// For answers that the daemon has at hand, or that need one look at an engine.
const QUERY_LIMIT: Duration = Duration::from_secs(30);

/// What a call may take beyond the time that the daemon itself was given for it.
const MARGIN: Duration = Duration::from_secs(5);

/// An idle connection is probed this often, so that a daemon that vanished from the network ends a stream. More often
/// than every five minutes gRPC servers take for an attack.
const KEEPALIVE: Duration = Duration::from_secs(360);

/// For the answer to such a probe.
const KEEPALIVE_LIMIT: Duration = Duration::from_secs(20);

/// The most bytes of one answer: a page of workloads with many containers is larger than gRPC's default.
const MAX_ANSWER: i32 = 64 << 20;

/// For a manager of services to start or stop, which the daemon gives a minute.
const CONTROL_LIMIT: Duration = Duration::from_secs(65);

/// A page when all of a list is read.
const PAGE: u32 = 200;

/// A connection to the daemon.
pub struct Client {
    address: Address,
    timeout: Option<Duration>,
    actions: ActionControllerClient,
    workloads: WorkloadsClient,
    services: ServicesClient,
    health: HealthClient,
    environment: Arc<Environment>,
}

impl Client {
    /// Connects, or says within [`CONNECT_LIMIT`] why not. `timeout` replaces the limit of each call.
    pub fn connect(address: &Address, timeout: Option<Duration>) -> Result<Self> {
        // The C core would write to stderr by itself. Sent to a `log` without a logger, its lines end there.
        log::set_max_level(log::LevelFilter::Error);
        grpcio::redirect_log();
        let environment = Arc::new(EnvBuilder::new().cq_count(1).name_prefix("grpc").build());
        let channel = ChannelBuilder::new(Arc::clone(&environment))
            .enable_http_proxy(false)
            .max_receive_message_len(MAX_ANSWER)
            .keepalive_time(KEEPALIVE)
            .keepalive_timeout(KEEPALIVE_LIMIT)
            .connect(&address.target());
        await_connection(&channel, address, timeout.unwrap_or(CONNECT_LIMIT).min(CONNECT_LIMIT))?;
        Ok(Self {
            address: address.clone(),
            timeout,
            actions: ActionControllerClient::new(channel.clone()),
            workloads: WorkloadsClient::new(channel.clone()),
            services: ServicesClient::new(channel.clone()),
            health: HealthClient::new(channel),
            environment,
        })
    }

    /// The limit given on the command line.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Has an action accepted; the answer's state says how far it is already.
    pub fn accept(&self, spec: &ActionSpec) -> Result<Outcome> {
        let request = ExecuteActionRequest { no_wait: true, ..execution(spec) };
        self.told(self.actions.execute_action(&request, self.within(QUERY_LIMIT))).and_then(outcome_of)
    }

    /// What an action would do.
    pub fn dry_run(&self, spec: &ActionSpec) -> Result<Outcome> {
        let request = ExecuteActionRequest { dry_run: true, ..execution(spec) };
        self.told(self.actions.execute_action(&request, self.within(QUERY_LIMIT))).and_then(outcome_of)
    }

    /// The end of an action that runs already from the same request.
    pub fn attend(&self, spec: &ActionSpec) -> Result<Attendance> {
        // Bounded by who waits, as a stream is, and by the action's own deadline.
        let call = self.actions.execute_action_async(&execution(spec), CallOption::default());
        let environment = Arc::clone(&self.environment);
        Ok(Attendance { call: self.told(call)?, address: self.address.clone(), _environment: environment })
    }

    /// Follows an action; the stream ends after its outcome.
    pub fn watch(&self, action_id: &str) -> Result<Messages<WatchActionResponse>> {
        let request = WatchActionRequest { action_id: action_id.to_owned(), ..Default::default() };
        // Bounded by who reads: `--timeout` is checked there, between the messages.
        self.stream(self.actions.watch_action(&request, CallOption::default()))
    }

    /// Cancels an action; waits for its end unless `no_wait`.
    pub fn cancel(&self, request: &CancelActionRequest) -> Result<CancelActionResponse> {
        let option = if request.no_wait { self.within(QUERY_LIMIT) } else { self.unbounded() };
        self.told(self.actions.cancel_action(request, option))
    }

    /// One action.
    pub fn action(&self, action_id: &str) -> Result<Action> {
        let request = GetActionRequest { action_id: action_id.to_owned(), ..Default::default() };
        self.told(self.actions.get_action(&request, self.within(QUERY_LIMIT)))
    }

    /// At most `limit` actions, those under way first, then the ended from the latest on.
    pub fn actions(&self, target: &str, running_only: bool, limit: u32) -> Result<ListActionsResponse> {
        let mut request = ListActionsRequest { target: target.to_owned(), running_only, ..Default::default() };
        let mut all = ListActionsResponse::default();
        loop {
            let have = u32::try_from(all.actions.len()).unwrap_or(u32::MAX);
            request.page_size = limit.saturating_sub(have).clamp(1, PAGE);
            let page = self.told(self.actions.list_actions(&request, self.within(QUERY_LIMIT)))?;
            let is_empty = page.actions.is_empty();
            all.actions.extend(page.actions);
            all.next_page_token.clone_from(&page.next_page_token);
            if is_empty || page.next_page_token.is_empty() || all.actions.len() >= limit as usize {
                return Ok(all);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// What actions would do together.
    pub fn plan(&self, actions: Vec<ActionSpec>) -> Result<Plan> {
        let request = PlanRequest { actions, ..Default::default() };
        let answer = self.told(self.actions.plan(&request, self.within(QUERY_LIMIT)))?;
        Ok(answer.plan.unwrap_or_default())
    }

    /// What policy says of an action.
    pub fn check_policy(&self, spec: &ActionSpec) -> Result<CheckPolicyResponse> {
        let request = CheckPolicyRequest { action: Some(spec.clone()).into(), ..Default::default() };
        self.told(self.actions.check_policy(&request, self.within(QUERY_LIMIT)))
    }

    /// All workloads, of one Package where one is named.
    pub fn workloads(&self, package: &str) -> Result<ListWorkloadsResponse> {
        let mut request = ListWorkloadsRequest { page_size: PAGE, package: package.to_owned(), ..Default::default() };
        let mut all = ListWorkloadsResponse::default();
        loop {
            let page = self.told(self.workloads.list_workloads(&request, self.within(QUERY_LIMIT)))?;
            let is_last = page.workloads.is_empty() || page.next_page_token.is_empty();
            all.workloads.extend(page.workloads);
            if is_last {
                return Ok(all);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// One workload.
    pub fn workload(&self, name: &str) -> Result<Workload> {
        let request = GetWorkloadRequest { name: name.to_owned(), ..Default::default() };
        self.told(self.workloads.get_workload(&request, self.within(QUERY_LIMIT)))
    }

    /// A container's output. It takes as long as there is some.
    pub fn logs(&self, request: &LogsRequest) -> Result<Messages<LogsResponse>> {
        self.stream(self.workloads.logs(request, self.unbounded()))
    }

    /// Runs a command in a container.
    pub fn exec(&self, request: &ExecRequest) -> Result<ExecResponse> {
        let limit = Duration::from_millis(request.timeout_ms) + MARGIN;
        self.told(self.workloads.exec(request, CallOption::default().timeout(limit)))
    }

    /// A workload's use of the node.
    pub fn stats(&self, workload: &str) -> Result<StatsResponse> {
        let request = StatsRequest { workload: workload.to_owned(), ..Default::default() };
        self.told(self.workloads.stats(&request, self.within(QUERY_LIMIT)))
    }

    /// Waits until a workload is as asked for.
    pub fn wait(&self, request: &WaitRequest) -> Result<WaitResponse> {
        let limit = Duration::from_millis(request.timeout_ms) + MARGIN;
        self.told(self.workloads.wait(request, CallOption::default().timeout(limit)))
    }

    /// Nodes whose services are managed from one place.
    pub fn nodes(&self) -> Result<ListNodesResponse> {
        self.told(self.services.list_nodes(&ListNodesRequest::default(), self.within(QUERY_LIMIT)))
    }

    /// Starts or stops what manages services.
    pub fn control_manager(&self, request: &ControlManagerRequest) -> Result<ControlManagerResponse> {
        self.told(self.services.control_manager(request, self.within(CONTROL_LIMIT)))
    }

    /// Services that are loaded or installed.
    pub fn list_services(&self, request: &ListServicesRequest) -> Result<ListServicesResponse> {
        self.told(self.services.list_services(request, self.within(QUERY_LIMIT)))
    }

    /// Has units start with the boot.
    pub fn enable_units(&self, request: &UnitFilesRequest) -> Result<UnitFilesResponse> {
        self.told(self.services.enable_units(request, self.within(CONTROL_LIMIT)))
    }

    /// Takes that back.
    pub fn disable_units(&self, request: &UnitFilesRequest) -> Result<UnitFilesResponse> {
        self.told(self.services.disable_units(request, self.within(CONTROL_LIMIT)))
    }

    /// Has a node read its unit files anew.
    pub fn reload_units(&self, node: String) -> Result<()> {
        let request = ReloadUnitsRequest { node, ..Default::default() };
        self.told(self.services.reload_units(&request, self.within(CONTROL_LIMIT))).map(drop)
    }

    /// Services as they change.
    pub fn watch_services(&self, request: &WatchServicesRequest) -> Result<Messages<ServiceState>> {
        self.stream(self.services.watch_services(request, self.unbounded()))
    }

    /// Whether the daemon takes requests.
    pub fn health(&self) -> Result<ServingStatus> {
        let answer = self.told(self.health.check(&HealthCheckRequest::default(), self.within(QUERY_LIMIT)))?;
        Ok(answer.status.enum_value_or_default())
    }

    /// How the node is; `None` from a daemon that does not know the question.
    pub fn node_health(&self) -> Result<Option<NodeHealthResponse>> {
        match self.actions.node_health(&NodeHealthRequest::default(), self.within(QUERY_LIMIT)) {
            Err(grpcio::Error::RpcFailure(status)) if status.code() == RpcStatusCode::UNIMPLEMENTED => Ok(None),
            answer => self.told(answer).map(Some),
        }
    }

    /// The CPUs of the node, and who has them alone.
    pub fn list_cores(&self) -> Result<ListCoresResponse> {
        self.told(self.actions.list_cores(&ListCoresRequest::default(), self.within(QUERY_LIMIT)))
    }

    /// The limit given on the command line, or else this one.
    fn within(&self, limit: Duration) -> CallOption {
        CallOption::default().timeout(self.timeout.unwrap_or(limit))
    }

    /// The limit given on the command line, or none: the daemon ends such a call.
    fn unbounded(&self) -> CallOption {
        match self.timeout {
            Some(limit) => CallOption::default().timeout(limit),
            None => CallOption::default(),
        }
    }

    fn told<T>(&self, answer: grpcio::Result<T>) -> Result<T> {
        answer.map_err(|error| Failure::of_rpc(error, &self.address))
    }

    fn stream<T>(&self, stream: grpcio::Result<ClientSStreamReceiver<T>>) -> Result<Messages<T>> {
        let _environment = Arc::clone(&self.environment);
        Ok(Messages { stream: self.told(stream)?, address: self.address.clone(), _environment })
    }
}

/// The request for an action.
fn execution(spec: &ActionSpec) -> ExecuteActionRequest {
    ExecuteActionRequest { action: Some(spec.clone()).into(), ..Default::default() }
}

fn outcome_of(answer: ExecuteActionResponse) -> Result<Outcome> {
    answer.outcome.into_option().ok_or_else(|| Failure::new(Exit::Failed, "the daemon's answer has no outcome"))
}

/// Waits until the channel is connected. gRPC would go on trying; the first refusal ends it here.
fn await_connection(channel: &grpcio::Channel, address: &Address, limit: Duration) -> Result<()> {
    let started = std::time::Instant::now();
    let mut state = channel.check_connectivity_state(true);
    loop {
        let rest = limit.saturating_sub(started.elapsed());
        match state {
            ConnectivityState::GRPC_CHANNEL_READY => return Ok(()),
            ConnectivityState::GRPC_CHANNEL_TRANSIENT_FAILURE | ConnectivityState::GRPC_CHANNEL_SHUTDOWN => {
                return match address.diagnose() {
                    Some(cause) => Err(Failure::unreachable(address, cause)),
                    // The first call fails at once, with the cause in gRPC's words.
                    None => Ok(()),
                };
            }
            ConnectivityState::GRPC_CHANNEL_IDLE | ConnectivityState::GRPC_CHANNEL_CONNECTING if rest.is_zero() => {
                let silent = format!("no answer within {} s", limit.as_secs_f32());
                return Err(Failure::unreachable(address, address.diagnose().unwrap_or(silent)));
            }
            ConnectivityState::GRPC_CHANNEL_IDLE | ConnectivityState::GRPC_CHANNEL_CONNECTING => {
                // Ends by itself at its deadline; the margin only lets it.
                wait::within(rest + CONNECT_LIMIT, channel.wait_for_state_change(state, rest));
                state = channel.check_connectivity_state(true);
            }
        }
    }
}

/// The messages of a stream, one by one.
pub struct Messages<T> {
    stream: ClientSStreamReceiver<T>,
    address: Address,
    /// Without it nobody would poll the stream, should the client go first.
    _environment: Arc<Environment>,
}

/// What came of waiting for a message.
#[derive(Debug)]
pub enum Next<T> {
    /// This one.
    Message(T),
    /// None in that time.
    Quiet,
    /// The stream has ended well.
    End,
}

/// An action whose end is waited for without its progress.
pub struct Attendance {
    call: ClientUnaryReceiver<ExecuteActionResponse>,
    address: Address,
    /// As with [`Messages`].
    _environment: Arc<Environment>,
}

impl Attendance {
    /// The outcome, waited for at most so long. After one it is not to be asked again.
    pub fn outcome(&mut self, limit: Duration) -> Result<Option<Outcome>> {
        match wait::within(limit, &mut self.call) {
            None => Ok(None),
            Some(Ok(answer)) => outcome_of(answer).map(Some),
            Some(Err(error)) => Err(Failure::of_rpc(error, &self.address)),
        }
    }
}

impl<T> Messages<T> {
    /// The next message, waited for at most so long. Dropping the stream ends the call.
    pub fn next(&mut self, limit: Duration) -> Result<Next<T>> {
        match wait::within(limit, self.stream.next()) {
            None => Ok(Next::Quiet),
            Some(None) => Ok(Next::End),
            Some(Some(Ok(message))) => Ok(Next::Message(message)),
            Some(Some(Err(error))) => Err(Failure::of_rpc(error, &self.address)),
        }
    }
}
