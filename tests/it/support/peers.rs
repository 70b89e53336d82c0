//! Stand-ins for the services that the daemon calls: gRPC on the real wire, on a free port of 127.0.0.1, with named ways
//! to misbehave. They deal in bytes, so that a test can look at what was sent and answer what no stub would.
//!
//! In front of each is a relay that counts connections and can cut them.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use actioncontroller::proto::monitoringserver::{SendContainerListResponse, SendNodeInfoResponse};
use actioncontroller::proto::nodeagent_workload::{HandleWorkloadRequest, HandleWorkloadResponse, WorkloadCommand};
use actioncontroller::proto::pharos::{RequestNetworkPodRequest, RequestNetworkPodResponse};
use actioncontroller::proto::policy::{ValidateActionRequest, ValidateActionResponse};
use actioncontroller::proto::policymanager::{CheckNodePolicyRequest, CheckNodePolicyResponse};
use actioncontroller::proto::rocksdbservice as rocks;
use actioncontroller::proto::schedinfo;
use actioncontroller::proto::statemanager::{ErrorCode, StateChange, StateChangeResponse};
use actioncontroller::proto::timpani_scheduler as v1;
use grpcio::{
    ChannelBuilder, EnvBuilder, Environment, GrpcSlice, Marshaller, MessageReader, Method, MethodType, RpcContext,
    RpcStatus, RpcStatusCode, Server, ServerBuilder, ServerCredentials, ServiceBuilder, UnarySink,
};
use protobuf::Message;

/// How a stand-in answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// As the real one.
    Well,
    /// Never.
    Silent,
    /// As the real one, so much later.
    Slow(Duration),
    /// With a gRPC error.
    Refusing,
    /// With bytes that are no message.
    Garbled,
    /// Not, and the connection is cut.
    Closing,
    /// Not: the connection is cut, and from then on nobody listens.
    Vanishing,
}

type Bytes = Vec<u8>;

fn bytes_out(bytes: &Bytes, out: &mut GrpcSlice) -> grpcio::Result<()> {
    *out = GrpcSlice::from(bytes.clone());
    Ok(())
}

fn bytes_in(mut reader: MessageReader) -> grpcio::Result<Bytes> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).expect("a message in memory");
    Ok(bytes)
}

fn raw(name: &'static str) -> Method<Bytes, Bytes> {
    let marshaller = || Marshaller { ser: bytes_out, de: bytes_in };
    Method { ty: MethodType::Unary, name, req_mar: marshaller(), resp_mar: marshaller() }
}

/// A call that was received: its method and its bytes.
pub type Seen = (String, Bytes);

struct Shared {
    behaviour: Mutex<Behaviour>,
    seen: Mutex<Vec<Seen>>,
    relay: Relay,
    /// Calls that are never answered.
    unanswered: Mutex<Vec<UnarySink<Bytes>>>,
}

/// A running stand-in.
pub struct StandIn {
    shared: Arc<Shared>,
    server: Option<Server>,
    _environment: Arc<Environment>,
}

impl StandIn {
    /// Serves these methods; `answer` gives the answer's bytes.
    pub fn start(methods: &[&'static str], answer: impl Fn(&str, &[u8]) -> Bytes + Send + Sync + 'static) -> Self {
        let environment = Arc::new(EnvBuilder::new().cq_count(1).build());
        let relay = Relay::start();
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(Behaviour::Well),
            seen: Mutex::default(),
            relay,
            unanswered: Mutex::default(),
        });
        let answer = Arc::new(answer);
        let mut service = ServiceBuilder::new();
        for &name in methods {
            let (own, answer) = (Arc::clone(&shared), Arc::clone(&answer));
            let handler = move |context: RpcContext<'_>, request: Bytes, sink: UnarySink<Bytes>| {
                own.handle(&context, name, request, sink, &*answer);
            };
            service = service.add_unary_handler(&raw(name), handler);
        }
        let arguments = ChannelBuilder::new(Arc::clone(&environment)).reuse_port(false).build_args();
        let builder = ServerBuilder::new(Arc::clone(&environment)).channel_args(arguments);
        let mut server = builder.register_service(service.build()).build().unwrap();
        let port = server.add_listening_port("127.0.0.1:0", ServerCredentials::insecure()).unwrap();
        server.start();
        shared.relay.lead_to(port);
        Self { shared, server: Some(server), _environment: environment }
    }

    /// Its address.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.shared.relay.port)
    }

    /// Answers like this from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock().unwrap() = behaviour;
        if behaviour == Behaviour::Well {
            self.shared.unanswered.lock().unwrap().clear();
        }
    }

    /// The calls received since the last time.
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.shared.seen.lock().unwrap())
    }

    /// How many calls were received and not taken.
    pub fn count(&self) -> usize {
        self.shared.seen.lock().unwrap().len()
    }

    /// How many connections were made so far.
    pub fn connections(&self) -> usize {
        self.shared.relay.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.shared.unanswered.lock().unwrap().clear();
        self.shared.relay.stop();
        if let Some(mut server) = self.server.take() {
            server.cancel_all_calls();
            let _ = futures_executor::block_on(server.shutdown());
        }
    }
}

impl Shared {
    fn handle(
        &self,
        context: &RpcContext<'_>,
        name: &str,
        request: Bytes,
        sink: UnarySink<Bytes>,
        answer: &(dyn Fn(&str, &[u8]) -> Bytes + Send + Sync),
    ) {
        self.seen.lock().unwrap().push((name.to_owned(), request.clone()));
        let behaviour = *self.behaviour.lock().unwrap();
        let reply = match behaviour {
            Behaviour::Silent => return self.unanswered.lock().unwrap().push(sink),
            Behaviour::Closing => {
                self.unanswered.lock().unwrap().push(sink);
                return self.relay.cut();
            }
            Behaviour::Vanishing => {
                self.unanswered.lock().unwrap().push(sink);
                return self.relay.stop();
            }
            Behaviour::Refusing => {
                let status = RpcStatus::with_message(RpcStatusCode::INTERNAL, "as scripted".to_owned());
                context.spawn(async move { drop(sink.fail(status).await) });
                return;
            }
            Behaviour::Garbled => vec![0xFF; 7],
            Behaviour::Slow(time) => {
                thread::sleep(time);
                answer(name, &request)
            }
            Behaviour::Well => answer(name, &request),
        };
        context.spawn(async move { drop(sink.success(reply).await) });
    }
}

/// Passes bytes on to the server behind it.
struct Relay {
    port: u16,
    target: Arc<AtomicUsize>,
    accepted: Arc<AtomicUsize>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    is_over: Arc<AtomicBool>,
}

impl Relay {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Self {
            port: listener.local_addr().unwrap().port(),
            target: Arc::default(),
            accepted: Arc::default(),
            open: Arc::default(),
            is_over: Arc::default(),
        };
        let (target, accepted) = (Arc::clone(&relay.target), Arc::clone(&relay.accepted));
        let (open, is_over) = (Arc::clone(&relay.open), Arc::clone(&relay.is_over));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                accepted.fetch_add(1, Ordering::SeqCst);
                let port = u16::try_from(target.load(Ordering::SeqCst)).unwrap();
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                let copies = (client.try_clone().unwrap(), server.try_clone().unwrap());
                open.lock().unwrap().extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                thread::spawn(move || pass(client, server));
                thread::spawn(move || pass(copies.1, copies.0));
            }
        });
        relay
    }

    fn lead_to(&self, port: u16) {
        self.target.store(port.into(), Ordering::SeqCst);
    }

    fn cut(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn stop(&self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.cut();
        // Wakes the listener, which ends then.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

fn parse<M: Message>(bytes: &[u8]) -> M {
    M::parse_from_bytes(bytes).expect("a request of its kind")
}

fn encode(message: &impl Message) -> Bytes {
    message.write_to_bytes().unwrap()
}

/// Pullpiri's store, with these entries.
pub fn rocksdb(entries: Arc<Mutex<BTreeMap<String, String>>>) -> StandIn {
    const METHODS: [&str; 6] = [
        "/rocksdbservice.RocksDbService/Health",
        "/rocksdbservice.RocksDbService/Put",
        "/rocksdbservice.RocksDbService/Get",
        "/rocksdbservice.RocksDbService/Delete",
        "/rocksdbservice.RocksDbService/BatchPut",
        "/rocksdbservice.RocksDbService/GetByPrefix",
    ];
    StandIn::start(&METHODS, move |method, request| {
        let mut all = entries.lock().unwrap();
        match method.rsplit('/').next().unwrap() {
            "Health" => encode(&rocks::HealthResponse { status: "healthy".into(), ..Default::default() }),
            "Put" => {
                let put: rocks::PutRequest = parse(request);
                all.insert(put.key, put.value);
                encode(&rocks::PutResponse { success: true, ..Default::default() })
            }
            "Get" => {
                let found = all.get(&parse::<rocks::GetRequest>(request).key).cloned();
                let message = if found.is_some() { "" } else { "Key not found" }.to_owned();
                let (success, value) = (found.is_some(), found.unwrap_or_default());
                encode(&rocks::GetResponse { success, value, message, ..Default::default() })
            }
            "Delete" => {
                all.remove(&parse::<rocks::DeleteRequest>(request).key);
                encode(&rocks::DeleteResponse { success: true, ..Default::default() })
            }
            "BatchPut" => {
                let batch: rocks::BatchPutRequest = parse(request);
                let processed_count = i32::try_from(batch.pairs.len()).unwrap();
                all.extend(batch.pairs.into_iter().map(|pair| (pair.key, pair.value)));
                encode(&rocks::BatchPutResponse { success: true, processed_count, ..Default::default() })
            }
            _ => {
                let prefix = parse::<rocks::GetByPrefixRequest>(request).prefix;
                let found = all.iter().filter(|(key, _)| key.starts_with(&prefix));
                let pair = |(key, value): (&String, &String)| rocks::KeyValue {
                    key: key.clone(),
                    value: value.clone(),
                    ..Default::default()
                };
                // The real one gives no order that can be relied on.
                let pairs: Vec<_> = found.map(pair).rev().collect();
                let total_count = i32::try_from(pairs.len()).unwrap();
                encode(&rocks::GetByPrefixResponse { pairs, total_count, ..Default::default() })
            }
        }
    })
}

/// A NodeAgent, with the pods that run. As the real one it fails a start of what runs.
pub fn node_agent(running: Arc<Mutex<Vec<String>>>) -> StandIn {
    StandIn::start(&["/nodeagent.NodeAgentConnection/HandleWorkload"], move |_, request| {
        let request: HandleWorkloadRequest = parse(request);
        let name =
            request.pod.lines().find_map(|line| line.trim().strip_prefix("name: ")).unwrap_or_default().to_owned();
        let mut running = running.lock().unwrap();
        let is_running = running.contains(&name);
        let (status, desc) = match request.workload_command.enum_value().unwrap() {
            WorkloadCommand::WORKLOAD_COMMAND_START if is_running => (false, "Failed to get container ID"),
            WorkloadCommand::WORKLOAD_COMMAND_START => {
                running.push(name);
                (true, "")
            }
            WorkloadCommand::WORKLOAD_COMMAND_STOP => {
                running.retain(|other| *other != name);
                (true, "")
            }
            WorkloadCommand::WORKLOAD_COMMAND_RESTART => (true, ""),
            _ => (false, "unimplemented command"),
        };
        encode(&HandleWorkloadResponse { status, desc: desc.to_owned(), ..Default::default() })
    })
}

/// A PolicyManager that allows these nodes, and as the real one suggests the first whatever it answers.
pub fn policy_manager(allowed: Arc<Mutex<Vec<String>>>) -> StandIn {
    StandIn::start(&["/policymanager.PolicyManagerConnection/CheckNodePolicy"], move |_, request| {
        let request: CheckNodePolicyRequest = parse(request);
        let nodes = allowed.lock().unwrap();
        let is_allowed = nodes.contains(&request.target_node);
        encode(&CheckNodePolicyResponse {
            allowed: is_allowed,
            suggested_node: nodes.first().cloned().unwrap_or_default(),
            message: if is_allowed { String::new() } else { format!("{} is not available", request.target_node) },
            ..Default::default()
        })
    })
}

/// What a v1 policy server refuses: verbs, workloads or targets, each with its rule, its reason and the node it suggests.
pub type Refusals = Arc<Mutex<BTreeMap<String, (String, String, String)>>>;

/// A policy server of this daemon's own kind that refuses these and allows everything else.
pub fn policy_server(refusals: Refusals) -> StandIn {
    StandIn::start(&[VALIDATE_ACTION], move |_, request| {
        let request: ValidateActionRequest = parse(request);
        let refusals = refusals.lock().unwrap();
        let names = [&request.verb, &request.workload, &request.target];
        let refused = names.iter().find_map(|name| refusals.get(*name)).cloned();
        // What it suggests it allows.
        let refused = refused.filter(|(_, _, suggested)| suggested.is_empty() || *suggested != request.node);
        let allowed = refused.is_none();
        let (rule, reason, suggested_node) = refused.unwrap_or_default();
        encode(&ValidateActionResponse { allowed, rule, reason, suggested_node, ..Default::default() })
    })
}

/// The method of a v1 policy server.
const VALIDATE_ACTION: &str = "/actioncontroller.v1.PolicyServer/ValidateAction";

/// The questions that a v1 policy server was asked since the last time.
pub fn questions(server: &StandIn) -> Vec<ValidateActionRequest> {
    server.take().iter().map(|(_, bytes)| parse(bytes)).collect()
}

/// A StateManager that takes what the real one takes: texts that are not empty, a time, and scenarios in their order.
pub fn state_manager(states: Arc<Mutex<BTreeMap<String, String>>>) -> StandIn {
    const METHODS: [&str; 2] = [
        "/statemanager.StateManagerConnection/SendStateChange",
        "/statemanager.StateManagerConnection/SendChangedContainerList",
    ];
    StandIn::start(&METHODS, move |method, request| {
        if method == METHODS[1] {
            return encode(&SendContainerListResponse::default());
        }
        let change: StateChange = parse(request);
        let texts = [&change.resource_name, &change.current_state, &change.target_state, &change.transition_id];
        let is_whole =
            texts.iter().all(|text| !text.is_empty()) && !change.source.is_empty() && change.timestamp_ns > 0;
        let order = ["idle", "waiting", "satisfied", "allowed", "completed"];
        let place = |state: &str| order.iter().position(|known| *known == state);
        let is_next = match (place(&change.current_state), place(&change.target_state)) {
            (Some(from), Some(to)) => to == from + 1,
            (Some(2), None) => change.target_state == "denied",
            _ => false,
        };
        let error_code = if !is_whole {
            ErrorCode::INVALID_REQUEST
        } else if !is_next {
            ErrorCode::INVALID_STATE_TRANSITION
        } else {
            states.lock().unwrap().insert(change.resource_name.clone(), change.target_state.clone());
            ErrorCode::SUCCESS
        };
        encode(&StateChangeResponse { error_code: error_code.into(), ..Default::default() })
    })
}

/// A timpani-o that refuses Schedules of this name inside an OK answer, as the real one does. It has the call by which
/// newer ones let go of tasks.
pub fn timpani(refused: &'static str) -> StandIn {
    const METHODS: [&str; 2] =
        ["/schedinfo.v1.SchedInfoService/AddSchedInfo", "/schedinfo.v1.RecoveryService/EnforceRecoveryPolicy"];
    StandIn::start(&METHODS, move |method, request| {
        if method == METHODS[1] {
            return encode(&schedinfo::Response::default());
        }
        let info: schedinfo::SchedInfo = parse(request);
        let status = if info.workload_id == refused { -1 } else { 0 };
        encode(&schedinfo::Response { status, ..Default::default() })
    })
}

/// A scheduler that speaks `timpani.v1`: it has CPUs 0 to 3 of each node, and refuses threads called `unwanted`.
pub fn timpani_scheduler() -> StandIn {
    const METHODS: [&str; 3] = [
        "/timpani.v1.TimpaniScheduler/AllocateCores",
        "/timpani.v1.TimpaniScheduler/ApplyScheduling",
        "/timpani.v1.TimpaniScheduler/ReleaseCores",
    ];
    StandIn::start(&METHODS, |method, request| {
        if method == METHODS[0] {
            let accepted = parse::<v1::AllocateCoresRequest>(request).cpu_mask & !0b1111 == 0;
            let reason = if accepted { "" } else { "it has CPUs 0 to 3" }.to_owned();
            return encode(&v1::AllocateCoresResponse { accepted, reason, ..Default::default() });
        }
        if method == METHODS[1] {
            let request: v1::ApplySchedulingRequest = parse(request);
            let accepted = request.threads.iter().all(|thread| thread.name != "unwanted");
            let reason = if accepted { "" } else { "no such thread" }.to_owned();
            return encode(&v1::ApplySchedulingResponse { accepted, reason, ..Default::default() });
        }
        encode(&v1::ReleaseCoresResponse { accepted: true, ..Default::default() })
    })
}

/// A Pharos that takes every order, under the pod's name, except for pods called `unwanted`. Whoever tests it answers
/// later in its place.
pub fn pharos() -> StandIn {
    StandIn::start(&["/pharos.api.v1.PharosNetworkServiceConnection/RequestNetworkPod"], |_, request| {
        let request: RequestNetworkPodRequest = parse(request);
        let accepted = request.pod_name != "unwanted";
        let message = if accepted { "" } else { "no such network" }.to_owned();
        encode(&RequestNetworkPodResponse { request_id: request.pod_name, accepted, message, ..Default::default() })
    })
}

/// A MonitoringServer, which takes everything.
pub fn monitoring_server() -> StandIn {
    const METHODS: [&str; 2] = [
        "/monitoringserver.MonitoringServerConnection/SendContainerList",
        "/monitoringserver.MonitoringServerConnection/SendNodeInfo",
    ];
    StandIn::start(&METHODS, |method, _| match method == METHODS[0] {
        true => encode(&SendContainerListResponse::default()),
        false => encode(&SendNodeInfoResponse::default()),
    })
}
