//! A daemon's double on the real wire: a gRPC server on a private unix socket whose answers depend on what is named.
//! Each misbehaviour has a name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use actioncontroller::proto::actions::watch_action_response::Event;
use actioncontroller::proto::actions::*;
use actioncontroller::proto::actions_grpc::{ActionController, create_action_controller};
use actioncontroller::proto::health::health_check_response::ServingStatus;
use actioncontroller::proto::health::{HealthCheckRequest, HealthCheckResponse};
use actioncontroller::proto::health_grpc::{Health, create_health};
use actioncontroller::proto::rpc_status::Status;
use actioncontroller::proto::workloads::*;
use actioncontroller::proto::workloads_grpc::{Workloads, create_workloads};
use futures_util::SinkExt;
use grpcio::{
    EnvBuilder, RpcContext, RpcStatus, RpcStatusCode, Server, ServerBuilder, ServerCredentials, ServerStreamingSink,
    UnarySink, WriteFlags,
};
use protobuf::well_known_types::any::Any;
use protobuf::{Message, MessageField};
use tempfile::TempDir;

/// What the double remembers.
#[derive(Default)]
struct Memory {
    executed: Vec<ExecuteActionRequest>,
    specs: HashMap<String, ActionSpec>,
}

/// The services.
#[derive(Clone, Default)]
struct Services {
    memory: Arc<Mutex<Memory>>,
    /// Knows no call that came after the first version.
    is_old: bool,
    // Calls that are never answered. A future that nobody wakes would be dropped, which ends its call.
    unanswered: Arc<Mutex<Vec<Box<dyn std::any::Any + Send>>>>,
}

/// A running double; it ends when dropped.
pub struct Double {
    services: Services,
    // Before the folder, so that the socket is closed when its folder goes.
    _server: Server,
    folder: TempDir,
}

impl Double {
    pub fn start() -> Self {
        Self::with(Services::default())
    }

    /// Of a version that does not know the calls `CheckPolicy` and `NodeHealth`.
    pub fn old() -> Self {
        Self::with(Services { is_old: true, ..Services::default() })
    }

    fn with(services: Services) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let environment = Arc::new(EnvBuilder::new().cq_count(1).name_prefix("double").build());
        let mut server = ServerBuilder::new(environment)
            .register_service(create_action_controller(services.clone()))
            .register_service(create_workloads(services.clone()))
            .register_service(create_health(services.clone()))
            .build()
            .unwrap();
        let address = format!("unix:{}", folder.path().join("double.sock").display());
        server.add_listening_port(address, ServerCredentials::insecure()).unwrap();
        server.start();
        Self { services, _server: server, folder }
    }

    /// Where it listens, as `--address` takes it.
    pub fn address(&self) -> String {
        format!("unix://{}", self.folder.path().join("double.sock").display())
    }

    /// The actions that were asked for, in this order.
    pub fn executed(&self) -> Vec<ExecuteActionRequest> {
        self.services.memory.lock().unwrap().executed.clone()
    }
}

fn detail(code: RpcStatusCode, name: &str, message: &str) -> ErrorDetail {
    ErrorDetail {
        code: name.to_owned(),
        message: message.to_owned(),
        field: "spec.containers[0].image".to_owned(),
        hint: "name another image".to_owned(),
        status: code.into(),
        ..Default::default()
    }
}

/// A failed call as the daemon sends it.
fn failure(detail: ErrorDetail, outcome: Option<&Outcome>) -> RpcStatus {
    let any = |name: &str, message: &dyn Fn() -> Vec<u8>| Any {
        type_url: format!("type.googleapis.com/actioncontroller.v1.{name}"),
        value: message(),
        ..Default::default()
    };
    let mut details = vec![any("ErrorDetail", &|| detail.write_to_bytes().unwrap())];
    details.extend(outcome.map(|outcome| any("Outcome", &|| outcome.write_to_bytes().unwrap())));
    let status = Status { code: detail.status, message: detail.message.clone(), details, ..Default::default() };
    let bytes = status.write_to_bytes().unwrap();
    RpcStatus::with_details(RpcStatusCode::from(detail.status), detail.message, bytes)
}

fn outcome(spec: &ActionSpec, state: ActionState) -> Outcome {
    Outcome {
        action_id: spec.action_id.clone(),
        verb: spec.verb,
        target: spec.target.clone(),
        state: state.into(),
        changed: spec.target != "same",
        ..Default::default()
    }
}

/// What the action comes to in the end, by its target.
fn end(spec: &ActionSpec) -> Outcome {
    let failed = |state, code, name, message| Outcome {
        error: MessageField::some(detail(code, name, message)),
        left: vec!["container bad_main".to_owned()],
        steps: vec![StepResult {
            title: "start bad_main".to_owned(),
            state: StepState::STEP_STATE_FAILED.into(),
            message: "exited with 1".to_owned(),
            ..Default::default()
        }],
        ..outcome(spec, state)
    };
    match spec.target.as_str() {
        "failing" => {
            failed(ActionState::ACTION_STATE_FAILED, RpcStatusCode::INTERNAL, "ENGINE_FAILED", "the engine failed")
        }
        "late" => failed(
            ActionState::ACTION_STATE_FAILED,
            RpcStatusCode::DEADLINE_EXCEEDED,
            "DEADLINE_EXCEEDED",
            "the action's time was over",
        ),
        "cancelled" => {
            failed(ActionState::ACTION_STATE_CANCELLED, RpcStatusCode::CANCELLED, "CANCELLED", "cancelled by ops")
        }
        "partly" => Outcome {
            failed: vec![FailedWorkload {
                name: "log".to_owned(),
                error: MessageField::some(detail(
                    RpcStatusCode::NOT_FOUND,
                    "IMAGE_UNAVAILABLE",
                    "the image is nowhere",
                )),
                ..Default::default()
            }],
            ..failed(
                ActionState::ACTION_STATE_FAILED,
                RpcStatusCode::NOT_FOUND,
                "IMAGE_UNAVAILABLE",
                "1 of 2 workloads failed: log: the image is nowhere",
            )
        },
        "differs" => failed(
            ActionState::ACTION_STATE_REFUSED,
            RpcStatusCode::FAILED_PRECONDITION,
            "WORKLOAD_DIFFERS",
            "another image runs",
        ),
        _ => Outcome {
            warnings: vec![Warning {
                path: "spec.restartPolicy".to_owned(),
                line: 4,
                message: "has no effect yet".to_owned(),
                ..Default::default()
            }],
            phases: MessageField::some(Phases { total_us: 1_240_000, ..Default::default() }),
            ..outcome(spec, ActionState::ACTION_STATE_SUCCEEDED)
        },
    }
}

fn plan() -> Plan {
    let step = |index, stage, title: &str, after: &[u32]| Step {
        index,
        stage,
        title: title.to_owned(),
        after: after.to_vec(),
        ..Default::default()
    };
    Plan {
        steps: vec![step(0, 0, "pull web:1", &[]), step(1, 1, "create web_main", &[0])],
        stage_count: 2,
        ..Default::default()
    }
}

fn events(spec: &ActionSpec) -> Vec<WatchActionResponse> {
    let progress = |done| Progress {
        state: ActionState::ACTION_STATE_RUNNING.into(),
        steps_done: done,
        steps_total: 1,
        current_step: "start web_main".to_owned(),
        ..Default::default()
    };
    let step = |state: StepState, duration_us| StepEvent {
        step: MessageField::some(Step {
            title: "start web_main".to_owned(),
            state: state.into(),
            duration_us,
            ..Default::default()
        }),
        progress: MessageField::some(progress(u32::from(duration_us > 0))),
        ..Default::default()
    };
    let snapshot = Action {
        action_id: spec.action_id.clone(),
        verb: spec.verb,
        target: spec.target.clone(),
        progress: MessageField::some(progress(0)),
        ..Default::default()
    };
    [
        Event::Snapshot(snapshot),
        Event::Step(step(StepState::STEP_STATE_RUNNING, 0)),
        Event::Step(step(StepState::STEP_STATE_CHANGED, 12_300)),
    ]
    .map(|event| WatchActionResponse { event: Some(event), ..Default::default() })
    .into()
}

fn answer<T: Send + 'static>(context: &RpcContext<'_>, sink: UnarySink<T>, result: Result<T, RpcStatus>) {
    context.spawn(async move {
        // The client may have gone; the double does not mind.
        let _ = match result {
            Ok(message) => sink.success(message).await,
            Err(status) => sink.fail(status).await,
        };
    });
}

impl Services {
    /// The answer, or that the call is not known.
    fn unless_old<T>(&self, told: T) -> Result<T, RpcStatus> {
        if self.is_old { Err(RpcStatus::new(RpcStatusCode::UNIMPLEMENTED)) } else { Ok(told) }
    }
}

impl ActionController for Services {
    fn execute_action(
        &self,
        context: RpcContext<'_>,
        request: ExecuteActionRequest,
        sink: UnarySink<ExecuteActionResponse>,
    ) {
        let spec = request.action.clone().unwrap_or_default();
        {
            let mut memory = self.memory.lock().unwrap();
            memory.executed.push(request.clone());
            memory.specs.insert(spec.action_id.clone(), spec.clone());
        }
        let done = |outcome| Ok(ExecuteActionResponse { outcome: MessageField::some(outcome), ..Default::default() });
        let result = match spec.target.as_str() {
            "refused" => {
                let detail = detail(RpcStatusCode::INVALID_ARGUMENT, "INVALID_MANIFEST", "the image is no reference");
                Err(failure(detail, None))
            }
            "unbuilt" => Err(failure(detail(RpcStatusCode::UNIMPLEMENTED, "NOT_IMPLEMENTED", "not built yet"), None)),
            "silent" | "full" if spec.target == "silent" || !request.no_wait => {
                self.unanswered.lock().unwrap().push(Box::new(sink));
                return;
            }
            _ if request.dry_run => done(Outcome {
                plan: MessageField::some(plan()),
                ..outcome(&spec, ActionState::ACTION_STATE_SUCCEEDED)
            }),
            _ if request.no_wait => done(outcome(&spec, ActionState::ACTION_STATE_QUEUED)),
            _ => done(end(&spec)),
        };
        answer(&context, sink, result);
    }

    fn cancel_action(
        &self,
        context: RpcContext<'_>,
        request: CancelActionRequest,
        sink: UnarySink<CancelActionResponse>,
    ) {
        let known = self.memory.lock().unwrap().specs.contains_key(&request.action_id);
        let result = match known {
            true => Ok(CancelActionResponse { cancelled: true, ..Default::default() }),
            false => Err(failure(detail(RpcStatusCode::NOT_FOUND, "ACTION_NOT_FOUND", "no such action"), None)),
        };
        answer(&context, sink, result);
    }

    fn execute_batch(&self, context: RpcContext<'_>, _: ExecuteBatchRequest, sink: UnarySink<ExecuteBatchResponse>) {
        answer(&context, sink, Err(RpcStatus::new(RpcStatusCode::UNIMPLEMENTED)));
    }

    fn get_action(&self, context: RpcContext<'_>, request: GetActionRequest, sink: UnarySink<Action>) {
        let spec = self.memory.lock().unwrap().specs.get(&request.action_id).cloned();
        let result = spec
            .map(|spec| Action {
                action_id: spec.action_id.clone(),
                verb: spec.verb,
                target: spec.target.clone(),
                outcome: MessageField::some(end(&spec)),
                ..Default::default()
            })
            .ok_or_else(|| failure(detail(RpcStatusCode::NOT_FOUND, "ACTION_NOT_FOUND", "no such action"), None));
        answer(&context, sink, result);
    }

    fn watch_action(
        &self,
        context: RpcContext<'_>,
        request: WatchActionRequest,
        mut sink: ServerStreamingSink<WatchActionResponse>,
    ) {
        let spec = self.memory.lock().unwrap().specs.get(&request.action_id).cloned().unwrap_or_default();
        let unanswered = Arc::clone(&self.unanswered);
        context.spawn(async move {
            if spec.target == "crowded" || spec.target == "full" {
                let detail = detail(RpcStatusCode::RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS", "too many streams");
                let _ = sink.fail(failure(detail, None)).await;
                return;
            }
            for event in events(&spec) {
                let _ = sink.send((event, WriteFlags::default())).await;
            }
            match spec.target.as_str() {
                "endless" => {
                    unanswered.lock().unwrap().push(Box::new(sink));
                    return;
                }
                "dropped" => {
                    let _ = sink.fail(RpcStatus::new(RpcStatusCode::UNAVAILABLE)).await;
                    return;
                }
                "untold" => {}
                _ => {
                    let event = Some(Event::Outcome(end(&spec)));
                    let last = WatchActionResponse { event, ..Default::default() };
                    let _ = sink.send((last, WriteFlags::default())).await;
                }
            }
            let _ = sink.close().await;
        });
    }

    fn list_actions(&self, context: RpcContext<'_>, _: ListActionsRequest, sink: UnarySink<ListActionsResponse>) {
        let memory = self.memory.lock().unwrap();
        let actions = memory.specs.values().map(|spec| Action {
            action_id: spec.action_id.clone(),
            verb: spec.verb,
            target: spec.target.clone(),
            ..Default::default()
        });
        let actions = actions.collect();
        answer(&context, sink, Ok(ListActionsResponse { actions, ..Default::default() }));
    }

    fn plan(&self, context: RpcContext<'_>, request: PlanRequest, sink: UnarySink<PlanResponse>) {
        let mut plan = plan();
        if request.actions.iter().any(|action| action.target == "refused") {
            plan.errors = vec![detail(RpcStatusCode::NOT_FOUND, "WORKLOAD_NOT_FOUND", "no such workload")];
        }
        answer(&context, sink, Ok(PlanResponse { plan: MessageField::some(plan), ..Default::default() }));
    }

    fn check_policy(&self, context: RpcContext<'_>, request: CheckPolicyRequest, sink: UnarySink<CheckPolicyResponse>) {
        let spec = request.action.unwrap_or_default();
        let refused = PolicyVerdict {
            workload: "log".to_owned(),
            rule: "rule 'night' of /p.yaml".to_owned(),
            reason: format!("no {} at night", spec.parameters.target_node),
            suggested_node: "ZONE1".to_owned(),
            ..Default::default()
        };
        let allowed = PolicyVerdict { allowed: true, ..Default::default() };
        let is_refused = spec.target == "refused";
        let verdicts = if is_refused { vec![allowed, refused] } else { vec![allowed] };
        let told = CheckPolicyResponse { verdicts, allowed: !is_refused, ..Default::default() };
        answer(&context, sink, self.unless_old(told));
    }

    fn node_health(&self, context: RpcContext<'_>, _: NodeHealthRequest, sink: UnarySink<NodeHealthResponse>) {
        let store = StoreHealth { backend: "etcd".to_owned(), outcomes_bound: 1000, ..Default::default() };
        let podman = EngineHealth {
            name: "podman".to_owned(),
            available: true,
            version: "5.4".to_owned(),
            capabilities: vec!["pause".to_owned()],
            order: 1,
            ..Default::default()
        };
        let reason = "no such socket".to_owned();
        let away = EngineHealth { name: "docker".to_owned(), order: 2, reason, ..Default::default() };
        let told = NodeHealthResponse {
            serving: true,
            node: "HPC".to_owned(),
            version: "0.1.0".to_owned(),
            engines: vec![podman, away],
            store: MessageField::some(store),
            ..Default::default()
        };
        answer(&context, sink, self.unless_old(told));
    }

    fn list_cores(&self, context: RpcContext<'_>, _: ListCoresRequest, sink: UnarySink<ListCoresResponse>) {
        let free = Core { cpu: 0, online: true, offered: true, siblings: "0".to_owned(), ..Default::default() };
        let held = Core { cpu: 1, holder: "lane".to_owned(), siblings: "1".to_owned(), ..free.clone() };
        let told = ListCoresResponse { cores: vec![free, held], ..Default::default() };
        answer(&context, sink, self.unless_old(told));
    }
}

fn workload(name: &str) -> Workload {
    Workload {
        name: name.to_owned(),
        state: WorkloadState::WORKLOAD_STATE_RUNNING.into(),
        engine: "sim".to_owned(),
        containers: vec![Container {
            name: "main".to_owned(),
            image: "web:1".to_owned(),
            state: ContainerState::CONTAINER_STATE_RUNNING.into(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn unknown_workload() -> RpcStatus {
    let detail = ErrorDetail {
        code: "WORKLOAD_NOT_FOUND".to_owned(),
        message: "workload 'nobody' is not known".to_owned(),
        hint: "see actionctl ps".to_owned(),
        status: RpcStatusCode::NOT_FOUND.into(),
        ..Default::default()
    };
    failure(detail, None)
}

impl Workloads for Services {
    fn list_workloads(
        &self,
        context: RpcContext<'_>,
        request: ListWorkloadsRequest,
        sink: UnarySink<ListWorkloadsResponse>,
    ) {
        // Two pages, so that a client that reads just one is found out.
        let (name, next_page_token) = match request.page_token.as_str() {
            "" => ("lane", "second".to_owned()),
            _ => ("web", String::new()),
        };
        let workloads = vec![workload(name)];
        answer(&context, sink, Ok(ListWorkloadsResponse { workloads, next_page_token, ..Default::default() }));
    }

    fn get_workload(&self, context: RpcContext<'_>, request: GetWorkloadRequest, sink: UnarySink<Workload>) {
        let result = if request.name == "nobody" { Err(unknown_workload()) } else { Ok(workload(&request.name)) };
        answer(&context, sink, result);
    }

    fn logs(&self, context: RpcContext<'_>, request: LogsRequest, mut sink: ServerStreamingSink<LogsResponse>) {
        context.spawn(async move {
            let piece = |stream: OutputStream, data: &[u8]| LogsResponse {
                stream: stream.into(),
                data: data.to_vec(),
                ..Default::default()
            };
            if request.workload == "talkative" {
                let line = piece(OutputStream::OUTPUT_STREAM_STDOUT, &[b'x'; 4096]);
                while sink.send((line.clone(), WriteFlags::default())).await.is_ok() {}
                return;
            }
            for message in [
                piece(OutputStream::OUTPUT_STREAM_STDOUT, b"out \xff\x00\n"),
                piece(OutputStream::OUTPUT_STREAM_STDERR, b"err\n"),
            ] {
                let _ = sink.send((message, WriteFlags::default())).await;
            }
            let _ = sink.close().await;
        });
    }

    fn exec(&self, context: RpcContext<'_>, request: ExecRequest, sink: UnarySink<ExecResponse>) {
        let result = match request.workload.as_str() {
            "nobody" => Err(unknown_workload()),
            _ => Ok(ExecResponse {
                exit_code: 7,
                stdout_data: request.argv.join(" ").into_bytes(),
                stderr_data: b"said\n".to_vec(),
                ..Default::default()
            }),
        };
        answer(&context, sink, result);
    }

    fn stats(&self, context: RpcContext<'_>, _: StatsRequest, sink: UnarySink<StatsResponse>) {
        let stats = ContainerStats { name: "main".to_owned(), memory_bytes: 3 << 20, ..Default::default() };
        answer(&context, sink, Ok(StatsResponse { containers: vec![stats], ..Default::default() }));
    }

    fn wait(&self, context: RpcContext<'_>, request: WaitRequest, sink: UnarySink<WaitResponse>) {
        let result = match request.condition.enum_value_or_default() {
            Condition::CONDITION_RUNNING => {
                Ok(WaitResponse { workload: MessageField::some(workload(&request.workload)), ..Default::default() })
            }
            _ => {
                let message = format!("not so within {} ms", request.timeout_ms);
                Err(failure(detail(RpcStatusCode::DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", &message), None))
            }
        };
        answer(&context, sink, result);
    }
}

impl Health for Services {
    fn check(&self, context: RpcContext<'_>, _: HealthCheckRequest, sink: UnarySink<HealthCheckResponse>) {
        let status = ServingStatus::SERVING.into();
        answer(&context, sink, Ok(HealthCheckResponse { status, ..Default::default() }));
    }

    fn watch(&self, context: RpcContext<'_>, _: HealthCheckRequest, sink: ServerStreamingSink<HealthCheckResponse>) {
        context.spawn(async move {
            let _ = sink.fail(RpcStatus::new(RpcStatusCode::UNIMPLEMENTED)).await;
        });
    }
}
