//! The wire contract's types under short names: the one place where the generated modules are named.

pub use actioncontroller::proto::actions::watch_action_response::Event;
pub use actioncontroller::proto::actions::{
    Action, ActionSpec, ActionState, CancelActionRequest, CancelActionResponse, CheckPolicyRequest,
    CheckPolicyResponse, Core, DeadlineMisses, EngineHealth, ErrorDetail, ExecuteActionRequest, ExecuteActionResponse,
    FailedWorkload, ForeignProcess, GetActionRequest, Ignorable, ListActionsRequest, ListActionsResponse,
    ListCoresRequest, ListCoresResponse, NodeHealthRequest, NodeHealthResponse, Outcome, Parameters, Phases, Plan,
    PlanRequest, PolicyVerdict, Progress, Step, StepResult, StepState, StoreHealth, Verb, Warning, WatchActionRequest,
    WatchActionResponse, WorkloadResult,
};
pub use actioncontroller::proto::actions_grpc::ActionControllerClient;
pub use actioncontroller::proto::health::HealthCheckRequest;
pub use actioncontroller::proto::health::health_check_response::ServingStatus;
pub use actioncontroller::proto::health_grpc::HealthClient;
pub use actioncontroller::proto::resources::Resources;
pub use actioncontroller::proto::rpc_status::Status;
pub use actioncontroller::proto::services::{
    ControlManagerRequest, ControlManagerResponse, InstalledService, ListNodesRequest, ListNodesResponse,
    ListServicesRequest, ListServicesResponse, ManagerState, ManagerVerb, ReloadUnitsRequest, ServiceManager,
    ServiceNode, ServiceState, UnitFileChange, UnitFilesRequest, UnitFilesResponse, WatchServicesRequest,
};
pub use actioncontroller::proto::services_grpc::ServicesClient;
#[cfg(test)]
pub use actioncontroller::proto::workloads::WorkloadState;
pub use actioncontroller::proto::workloads::{
    Condition, Container, ContainerState, ContainerStats, ExecRequest, ExecResponse, GetWorkloadRequest, Health,
    ListWorkloadsRequest, ListWorkloadsResponse, LogsRequest, LogsResponse, OutputStream, PublishedPort, StatsRequest,
    StatsResponse, WaitRequest, WaitResponse, Workload,
};
pub use actioncontroller::proto::workloads_grpc::WorkloadsClient;
pub use protobuf::well_known_types::timestamp::Timestamp;
