//! The contracts byte by byte: what is written by hand here, from the numbers of the contracts, is what the generated
//! code writes and reads. A stand-in that shares a wrong number with a client would not be noticed otherwise.

use actioncontroller::proto::{
    actioncontroller as ac, actioncontroller_grpc as ac_grpc, monitoringserver as monitoring, monitoringserver_grpc,
    nodeagent_grpc, nodeagent_workload, pharos, pharos_grpc, policymanager, policymanager_grpc,
    rocksdbservice as rocks, rocksdbservice_grpc as rocks_grpc, schedinfo, schedinfo_grpc, statemanager,
    statemanager_grpc, timpani_scheduler as v1, timpani_scheduler_grpc as v1_grpc,
};
use protobuf::Message;

/// A field that holds a text of one letter: its key, the length 1, the letter.
pub const fn text(number: u8, letter: u8) -> [u8; 3] {
    [number << 3 | 2, 1, letter]
}

/// A field that holds a small number.
pub const fn number(field: u8, value: u8) -> [u8; 2] {
    [field << 3, value]
}

/// The message and its bytes are each other's.
pub fn check<M: Message + PartialEq + std::fmt::Debug>(message: M, parts: &[&[u8]]) {
    let golden = parts.concat();
    assert_eq!(message.write_to_bytes().unwrap(), golden, "{message:?}");
    assert_eq!(M::parse_from_bytes(&golden).unwrap(), message);
}

/// A text of one letter.
pub fn t(letter: &str) -> String {
    letter.to_owned()
}

// req: AC-01
#[test]
fn messages_of_action_controller_connection() {
    check(ac::TriggerActionRequest { scenario_name: t("a"), ..Default::default() }, &[&text(1, b'a')]);
    check(
        ac::TriggerActionResponse { status: 1, desc: t("a"), ..Default::default() },
        &[&number(1, 1), &text(2, b'a')],
    );
    check(
        ac::ReconcileRequest {
            scenario_name: t("a"),
            current: ac::PodStatus::FAILED.into(),
            desired: ac::PodStatus::RUNNING.into(),
            ..Default::default()
        },
        &[&text(1, b'a'), &number(2, 5), &number(3, 3)],
    );
    check(ac::ReconcileResponse { status: 2, desc: t("a"), ..Default::default() }, &[&number(1, 2), &text(2, b'a')]);
    check(
        ac::CompleteNetworkSettingRequest {
            request_id: t("a"),
            network_status: ac::NetworkStatus::TIMEOUT.into(),
            pod_status: ac::PodStatus::UNKNOWN.into(),
            details: t("b"),
            ..Default::default()
        },
        &[&text(1, b'a'), &number(2, 2), &number(3, 6), &text(4, b'b')],
    );
    check(ac::CompleteNetworkSettingResponse { acknowledged: true, ..Default::default() }, &[&number(1, 1)]);
    check(
        ac::OffloadModelRequest {
            scenario_name: t("a"),
            package_name: t("b"),
            model_name: t("c"),
            source_node: t("d"),
            target_node: t("e"),
            policy_name: t("f"),
            reason: t("g"),
            ..Default::default()
        },
        &[
            &text(1, b'a'),
            &text(2, b'b'),
            &text(3, b'c'),
            &text(4, b'd'),
            &text(5, b'e'),
            &text(6, b'f'),
            &text(7, b'g'),
        ],
    );
    check(
        ac::OffloadModelResponse { success: true, message: t("a"), transition_id: t("b"), ..Default::default() },
        &[&number(1, 1), &text(2, b'a'), &text(3, b'b')],
    );
    check(
        ac::StopWorkloadRequest {
            package_name: t("a"),
            model_name: t("b"),
            node_name: t("c"),
            reason: t("d"),
            workload_id: t("e"),
            ..Default::default()
        },
        &[&text(1, b'a'), &text(2, b'b'), &text(3, b'c'), &text(4, b'd'), &text(5, b'e')],
    );
    check(
        ac::StopWorkloadResponse { success: true, message: t("a"), ..Default::default() },
        &[&number(1, 1), &text(2, b'a')],
    );
}

#[test]
fn messages_of_policy_manager_and_node_agent() {
    check(
        policymanager::CheckNodePolicyRequest { policy_name: t("a"), target_node: t("b"), ..Default::default() },
        &[&text(1, b'a'), &text(2, b'b')],
    );
    check(
        policymanager::CheckNodePolicyResponse {
            allowed: true,
            suggested_node: t("a"),
            message: t("b"),
            ..Default::default()
        },
        &[&number(1, 1), &text(2, b'a'), &text(3, b'b')],
    );
    for (command, value) in [
        (nodeagent_workload::WorkloadCommand::WORKLOAD_COMMAND_START, 1),
        (nodeagent_workload::WorkloadCommand::WORKLOAD_COMMAND_STOP, 4),
        (nodeagent_workload::WorkloadCommand::WORKLOAD_COMMAND_RESTART, 5),
    ] {
        check(
            nodeagent_workload::HandleWorkloadRequest {
                workload_command: command.into(),
                pod: t("a"),
                ..Default::default()
            },
            &[&number(1, value), &text(2, b'a')],
        );
    }
    check(
        nodeagent_workload::HandleWorkloadResponse { status: true, desc: t("a"), ..Default::default() },
        &[&number(1, 1), &text(2, b'a')],
    );
}

#[test]
fn messages_of_state_manager_and_timpani() {
    check(
        statemanager::StateChange {
            resource_type: statemanager::ResourceType::RESOURCE_TYPE_SCENARIO.into(),
            resource_name: t("a"),
            current_state: t("b"),
            target_state: t("c"),
            transition_id: t("d"),
            timestamp_ns: 5,
            source: t("e"),
            ..Default::default()
        },
        &[&number(1, 1), &text(2, b'a'), &text(3, b'b'), &text(4, b'c'), &text(5, b'd'), &number(6, 5), &text(7, b'e')],
    );
    check(
        statemanager::StateChangeResponse {
            message: t("a"),
            transition_id: t("b"),
            timestamp_ns: 5,
            error_code: statemanager::ErrorCode::INVALID_STATE_TRANSITION.into(),
            error_details: t("c"),
            ..Default::default()
        },
        &[&text(1, b'a'), &text(2, b'b'), &number(3, 5), &number(4, 4), &text(5, b'c')],
    );
    let task = schedinfo::TaskInfo {
        name: t("a"),
        priority: 2,
        policy: schedinfo::SchedPolicy::FIFO.into(),
        cpu_affinity: 4,
        period: 5,
        release_time: 6,
        runtime: 7,
        deadline: 8,
        node_id: t("b"),
        max_dmiss: 10,
        ..Default::default()
    };
    let golden = [
        &text(1, b'a')[..],
        &number(2, 2),
        &number(3, 1),
        &number(4, 4),
        &number(5, 5),
        &number(6, 6),
        &number(7, 7),
        &number(8, 8),
        &text(9, b'b'),
        &number(10, 10),
    ]
    .concat();
    check(
        schedinfo::SchedInfo {
            workload_id: t("w"),
            tasks: vec![task],
            temporal_class: schedinfo::TemporalClass::TEMPORAL_SPORADIC.into(),
            ..Default::default()
        },
        &[&text(1, b'w'), &[0x12, u8::try_from(golden.len()).unwrap()], &golden, &number(3, 1)],
    );
    for (policy, value) in [
        (schedinfo::RecoveryPolicy::STOP, 1),
        (schedinfo::RecoveryPolicy::RESTART, 2),
        (schedinfo::RecoveryPolicy::TERMINATE, 3),
    ] {
        check(
            schedinfo::RecoveryCommand { workload_id: t("w"), recovery_policy: policy.into(), ..Default::default() },
            &[&text(1, b'w'), &number(2, value)],
        );
    }
    check(
        schedinfo::FaultInfo {
            workload_id: t("a"),
            node_id: t("b"),
            task_name: t("c"),
            type_: schedinfo::FaultType::DMISS.into(),
            ..Default::default()
        },
        &[&text(1, b'a'), &text(2, b'b'), &text(3, b'c'), &number(4, 1)],
    );
    // A refusal is -1: ten bytes.
    let minus_one = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01];
    check(schedinfo::Response { status: -1, ..Default::default() }, &[&[0x08], &minus_one]);
}

#[test]
fn messages_of_our_own_schedulers() {
    let thread = v1::ScheduledThread {
        name: t("a"),
        node: t("b"),
        policy: v1::TaskPolicy::TASK_POLICY_ROUND_ROBIN.into(),
        priority: 4,
        cpu_mask: 5,
        period_us: 6,
        release_us: 7,
        runtime_us: 8,
        deadline_us: 9,
        max_misses: 10,
        sporadic: true,
        ..Default::default()
    };
    let texts = [&text(1, b'a')[..], &text(2, b'b')].concat();
    let numbers: Vec<u8> = [(3, 3), (4, 4), (5, 5), (6, 6), (7, 7), (8, 8), (9, 9), (10, 10), (11, 1)]
        .iter()
        .flat_map(|(field, value)| number(*field, *value))
        .collect();
    let length = u8::try_from(texts.len() + numbers.len()).unwrap();
    check(
        v1::ApplySchedulingRequest { workload_id: t("w"), threads: vec![thread], ..Default::default() },
        &[&text(1, b'w'), &[0x12, length], &texts, &numbers],
    );
    check(
        v1::AllocateCoresRequest { workload_id: t("w"), node: t("n"), cpu_mask: 5, ..Default::default() },
        &[&text(1, b'w'), &text(2, b'n'), &number(3, 5)],
    );
    check(v1::ReleaseCoresRequest { workload_id: t("w"), ..Default::default() }, &[&text(1, b'w')]);
    let answer = [&number(1, 1)[..], &text(2, b'r')].concat();
    let (accepted, reason) = (true, t("r"));
    check(v1::ApplySchedulingResponse { accepted, reason: reason.clone(), ..Default::default() }, &[&answer]);
    check(v1::AllocateCoresResponse { accepted, reason: reason.clone(), ..Default::default() }, &[&answer]);
    check(v1::ReleaseCoresResponse { accepted, reason, ..Default::default() }, &[&answer]);
}

#[test]
fn messages_of_pharos() {
    check(
        pharos::RequestNetworkPodRequest {
            node_yaml: t("a"),
            pod_name: t("b"),
            networkYamls: t("c"),
            ..Default::default()
        },
        &[&text(1, b'a'), &text(2, b'b'), &text(3, b'c')],
    );
    check(
        pharos::RequestNetworkPodResponse { request_id: t("a"), accepted: true, message: t("b"), ..Default::default() },
        &[&text(1, b'a'), &number(2, 1), &text(3, b'b')],
    );
}

#[test]
fn messages_of_monitoring_server_and_changed_container_lists() {
    let map = |key: &str, value: &str| [(t(key), t(value))].into();
    // An entry of a map is a message of a key and a value: six bytes here.
    let entry = |field: u8, key: u8, value: u8| [&[field << 3 | 2, 6][..], &text(1, key), &text(2, value)].concat();
    let container = monitoring::ContainerInfo {
        id: t("a"),
        names: vec![t("b"), t("c")],
        image: t("d"),
        state: map("e", "f"),
        config: map("g", "h"),
        annotation: map("i", "j"),
        stats: map("k", "l"),
        ..Default::default()
    };
    let golden = [
        &text(1, b'a')[..],
        &text(2, b'b'),
        &text(2, b'c'),
        &text(3, b'd'),
        &entry(4, b'e', b'f'),
        &entry(5, b'g', b'h'),
        &entry(6, b'i', b'j'),
        &entry(7, b'k', b'l'),
    ]
    .concat();
    check(container.clone(), &[&golden]);
    check(
        monitoring::ContainerList { node_name: t("n"), containers: vec![container], ..Default::default() },
        &[&text(1, b'n'), &[0x12, u8::try_from(golden.len()).unwrap()], &golden],
    );
    check(monitoring::SendContainerListResponse { resp: t("a"), ..Default::default() }, &[&text(1, b'a')]);
    // Doubles are eight bytes, the least first: 1.5 and 2.0.
    let (one_and_a_half, two) = ([0, 0, 0, 0, 0, 0, 0xF8, 0x3F], [0, 0, 0, 0, 0, 0, 0, 0x40]);
    check(
        monitoring::NodeInfo {
            node_name: t("a"),
            cpu_usage: 1.5,
            cpu_count: 3,
            gpu_count: 4,
            used_memory: 5,
            total_memory: 6,
            mem_usage: 2.0,
            rx_bytes: 8,
            tx_bytes: 9,
            read_bytes: 10,
            write_bytes: 11,
            os: t("b"),
            arch: t("c"),
            ip: t("d"),
            ..Default::default()
        },
        &[
            &text(1, b'a'),
            &[0x11],
            &one_and_a_half,
            &number(3, 3),
            &number(4, 4),
            &number(5, 5),
            &number(6, 6),
            &[0x39],
            &two,
            &number(8, 8),
            &number(9, 9),
            &number(10, 10),
            &number(11, 11),
            &text(12, b'b'),
            &text(13, b'c'),
            &text(14, b'd'),
        ],
    );
    check(monitoring::SendNodeInfoResponse { resp: t("a"), ..Default::default() }, &[&text(1, b'a')]);
    check(monitoring::StressMonitoringMetric { json: t("a"), ..Default::default() }, &[&text(1, b'a')]);
    check(monitoring::StressMonitoringMetricResponse { resp: t("a"), ..Default::default() }, &[&text(1, b'a')]);
}

#[test]
fn messages_of_rocksdb_service() {
    check(rocks::HealthRequest::default(), &[]);
    check(
        rocks::HealthResponse { status: t("a"), version: t("b"), database_path: t("c"), ..Default::default() },
        &[&text(1, b'a'), &text(2, b'b'), &text(3, b'c')],
    );
    check(rocks::PutRequest { key: t("a"), value: t("b"), ..Default::default() }, &[&text(1, b'a'), &text(2, b'b')]);
    check(rocks::PutResponse { success: true, error: t("a"), ..Default::default() }, &[&number(1, 1), &text(2, b'a')]);
    check(rocks::GetRequest { key: t("a"), ..Default::default() }, &[&text(1, b'a')]);
    check(
        rocks::GetResponse { success: true, value: t("a"), message: t("b"), ..Default::default() },
        &[&number(1, 1), &text(2, b'a'), &text(3, b'b')],
    );
    check(rocks::DeleteRequest { key: t("a"), ..Default::default() }, &[&text(1, b'a')]);
    check(
        rocks::DeleteResponse { success: true, error: t("a"), ..Default::default() },
        &[&number(1, 1), &text(2, b'a')],
    );
    let pair = rocks::KeyValue { key: t("a"), value: t("b"), ..Default::default() };
    let golden = [text(1, b'a'), text(2, b'b')].concat();
    check(rocks::BatchPutRequest { pairs: vec![pair.clone()], ..Default::default() }, &[&[0x0A, 6], &golden]);
    check(
        rocks::BatchPutResponse { success: true, processed_count: 2, error: t("a"), ..Default::default() },
        &[&number(1, 1), &number(2, 2), &text(3, b'a')],
    );
    check(
        rocks::GetByPrefixRequest { prefix: t("a"), limit: 2, ..Default::default() },
        &[&text(1, b'a'), &number(2, 2)],
    );
    check(
        rocks::GetByPrefixResponse { pairs: vec![pair], total_count: 2, error: t("a"), ..Default::default() },
        &[&[0x0A, 6], &golden, &number(2, 2), &text(3, b'a')],
    );
}

// req: AC-01
#[test]
fn paths_of_the_methods() {
    for (path, name) in [
        (
            ac_grpc::ACTION_CONTROLLER_CONNECTION_TRIGGER_ACTION.name,
            "/actioncontroller.ActionControllerConnection/TriggerAction",
        ),
        (
            ac_grpc::ACTION_CONTROLLER_CONNECTION_RECONCILE.name,
            "/actioncontroller.ActionControllerConnection/Reconcile",
        ),
        (
            ac_grpc::ACTION_CONTROLLER_CONNECTION_COMPLETE_NETWORK_SETTING.name,
            "/actioncontroller.ActionControllerConnection/CompleteNetworkSetting",
        ),
        (
            ac_grpc::ACTION_CONTROLLER_CONNECTION_OFFLOAD_MODEL.name,
            "/actioncontroller.ActionControllerConnection/OffloadModel",
        ),
        (
            ac_grpc::ACTION_CONTROLLER_CONNECTION_STOP_WORKLOAD.name,
            "/actioncontroller.ActionControllerConnection/StopWorkload",
        ),
        (
            policymanager_grpc::POLICY_MANAGER_CONNECTION_CHECK_NODE_POLICY.name,
            "/policymanager.PolicyManagerConnection/CheckNodePolicy",
        ),
        (
            statemanager_grpc::STATE_MANAGER_CONNECTION_SEND_STATE_CHANGE.name,
            "/statemanager.StateManagerConnection/SendStateChange",
        ),
        (
            statemanager_grpc::STATE_MANAGER_CONNECTION_SEND_CHANGED_CONTAINER_LIST.name,
            "/statemanager.StateManagerConnection/SendChangedContainerList",
        ),
        (
            monitoringserver_grpc::MONITORING_SERVER_CONNECTION_SEND_CONTAINER_LIST.name,
            "/monitoringserver.MonitoringServerConnection/SendContainerList",
        ),
        (
            monitoringserver_grpc::MONITORING_SERVER_CONNECTION_SEND_NODE_INFO.name,
            "/monitoringserver.MonitoringServerConnection/SendNodeInfo",
        ),
        (
            monitoringserver_grpc::MONITORING_SERVER_CONNECTION_SEND_STRESS_MONITORING_METRIC.name,
            "/monitoringserver.MonitoringServerConnection/SendStressMonitoringMetric",
        ),
        (nodeagent_grpc::NODE_AGENT_CONNECTION_HANDLE_WORKLOAD.name, "/nodeagent.NodeAgentConnection/HandleWorkload"),
        (
            pharos_grpc::PHAROS_NETWORK_SERVICE_CONNECTION_REQUEST_NETWORK_POD.name,
            "/pharos.api.v1.PharosNetworkServiceConnection/RequestNetworkPod",
        ),
        (schedinfo_grpc::SCHED_INFO_SERVICE_ADD_SCHED_INFO.name, "/schedinfo.v1.SchedInfoService/AddSchedInfo"),
        (schedinfo_grpc::FAULT_SERVICE_NOTIFY_FAULT.name, "/schedinfo.v1.FaultService/NotifyFault"),
        (
            schedinfo_grpc::RECOVERY_SERVICE_ENFORCE_RECOVERY_POLICY.name,
            "/schedinfo.v1.RecoveryService/EnforceRecoveryPolicy",
        ),
        (v1_grpc::TIMPANI_SCHEDULER_APPLY_SCHEDULING.name, "/timpani.v1.TimpaniScheduler/ApplyScheduling"),
        (v1_grpc::TIMPANI_SCHEDULER_ALLOCATE_CORES.name, "/timpani.v1.TimpaniScheduler/AllocateCores"),
        (v1_grpc::TIMPANI_SCHEDULER_RELEASE_CORES.name, "/timpani.v1.TimpaniScheduler/ReleaseCores"),
        (rocks_grpc::ROCKS_DB_SERVICE_GET.name, "/rocksdbservice.RocksDbService/Get"),
        (rocks_grpc::ROCKS_DB_SERVICE_BATCH_PUT.name, "/rocksdbservice.RocksDbService/BatchPut"),
        (rocks_grpc::ROCKS_DB_SERVICE_GET_BY_PREFIX.name, "/rocksdbservice.RocksDbService/GetByPrefix"),
    ] {
        assert_eq!(path, name);
    }
}
