//! The wire's messages as trees for programs: one field of a message, one line here.

use std::collections::BTreeMap;

use super::tree::{Node, ToNode, object};
use super::words::{time, word};
use crate::api::{
    Action, CancelActionResponse, CheckPolicyResponse, Container, ContainerStats, Core, DeadlineMisses, EngineHealth,
    ErrorDetail, Event, FailedWorkload, ForeignProcess, InstalledService, ListActionsResponse, ListCoresResponse,
    ListNodesResponse, ListServicesResponse, ListWorkloadsResponse, ManagerState, NodeHealthResponse, Outcome, Phases,
    Plan, PolicyVerdict, Progress, PublishedPort, Resources, ServiceNode, ServiceState, StatsResponse, Step,
    StepResult, StoreHealth, UnitFileChange, UnitFilesResponse, Warning, WatchActionResponse, Workload, WorkloadResult,
};

impl ToNode for Outcome {
    fn node(&self) -> Node {
        object! {
            action_id: &self.action_id,
            verb: word(self.verb),
            target: &self.target,
            state: word(self.state),
            changed: self.changed,
            message: &self.message,
            error: self.error.as_ref(),
            warnings: Node::list(&self.warnings),
            left: &self.left,
            workloads: Node::list(&self.workloads),
            engine: &self.engine,
            engine_reason: &self.engine_reason,
            steps: Node::list(&self.steps),
            phases: self.phases.as_ref(),
            accepted_at: time(self.accepted_at.as_ref()),
            ended_at: time(self.ended_at.as_ref()),
            recovered: &self.recovered,
            plan: self.plan.as_ref(),
            failed: Node::list(&self.failed),
        }
    }
}

impl ToNode for ListNodesResponse {
    fn node(&self) -> Node {
        object! { nodes: Node::list(&self.nodes), managers: Node::list(&self.managers), problem: &self.problem }
    }
}

impl ToNode for ServiceNode {
    fn node(&self) -> Node {
        object! { name: &self.name, own: self.own, online: self.online, address: &self.address }
    }
}

impl ToNode for ManagerState {
    fn node(&self) -> Node {
        object! {
            manager: word(self.manager),
            unit: &self.unit,
            active: &self.active,
            status: &self.status,
            controller_address: &self.controller_address,
        }
    }
}

impl ToNode for ServiceState {
    fn node(&self) -> Node {
        object! { node: &self.node, unit: &self.unit, active: &self.active, sub: &self.sub }
    }
}

impl ToNode for ListServicesResponse {
    fn node(&self) -> Node {
        object! { services: Node::list(&self.services) }
    }
}

impl ToNode for InstalledService {
    fn node(&self) -> Node {
        let state = self.state.get_or_default();
        object! { node: &state.node, unit: &state.unit, active: &state.active, sub: &state.sub, start: &self.start }
    }
}

impl ToNode for UnitFilesResponse {
    fn node(&self) -> Node {
        object! { changed: self.changed, changes: Node::list(&self.changes) }
    }
}

impl ToNode for UnitFileChange {
    fn node(&self) -> Node {
        object! { kind: &self.kind, path: &self.path, target: &self.target }
    }
}

impl ToNode for FailedWorkload {
    fn node(&self) -> Node {
        object! { name: &self.name, error: self.error.as_ref() }
    }
}

impl ToNode for ErrorDetail {
    fn node(&self) -> Node {
        object! {
            code: &self.code,
            message: &self.message,
            field: &self.field,
            hint: &self.hint,
            status: self.status,
        }
    }
}

impl ToNode for Warning {
    fn node(&self) -> Node {
        object! { path: &self.path, line: self.line, message: &self.message }
    }
}

impl ToNode for WorkloadResult {
    fn node(&self) -> Node {
        // In the order of the names, so that the same answer always looks the same.
        let ids: BTreeMap<_, _> = self.container_ids.iter().collect();
        let ids = ids.into_iter().map(|(name, id)| (name.clone(), Node::from(id))).collect();
        object! { name: &self.name, container_ids: Node::Object(ids) }
    }
}

impl ToNode for StepResult {
    fn node(&self) -> Node {
        object! {
            index: self.index,
            title: &self.title,
            state: word(self.state),
            duration_us: self.duration_us,
            message: &self.message,
        }
    }
}

impl ToNode for Phases {
    fn node(&self) -> Node {
        object! {
            queue_us: self.queue_us,
            policy_us: self.policy_us,
            plan_us: self.plan_us,
            run_us: self.run_us,
            store_us: self.store_us,
            total_us: self.total_us,
        }
    }
}

impl ToNode for Plan {
    fn node(&self) -> Node {
        object! {
            steps: Node::list(&self.steps),
            stage_count: self.stage_count,
            warnings: Node::list(&self.warnings),
            errors: Node::list(&self.errors),
        }
    }
}

impl ToNode for Step {
    fn node(&self) -> Node {
        object! {
            index: self.index,
            title: &self.title,
            operation: &self.operation,
            object: &self.object,
            workload: &self.workload,
            after: Node::List(self.after.iter().map(|index| Node::from(*index)).collect()),
            stage: self.stage,
            state: word(self.state),
            duration_us: self.duration_us,
            message: &self.message,
        }
    }
}

impl ToNode for Action {
    fn node(&self) -> Node {
        object! {
            action_id: &self.action_id,
            verb: word(self.verb),
            target: &self.target,
            progress: self.progress.as_ref(),
            accepted_at: time(self.accepted_at.as_ref()),
            outcome: self.outcome.as_ref(),
        }
    }
}

impl ToNode for Progress {
    fn node(&self) -> Node {
        object! {
            state: word(self.state),
            percent: self.percent,
            current_step: &self.current_step,
            steps_done: self.steps_done,
            steps_total: self.steps_total,
            bytes_done: self.bytes_done,
            bytes_total: self.bytes_total,
            detail: &self.detail,
        }
    }
}

impl ToNode for WatchActionResponse {
    fn node(&self) -> Node {
        match &self.event {
            Some(Event::Snapshot(action)) => object! { snapshot: action },
            Some(Event::Step(event)) => {
                object! { step: object! { step: event.step.as_ref(), progress: event.progress.as_ref() } }
            }
            Some(Event::Progress(progress)) => object! { progress: progress },
            Some(Event::Outcome(outcome)) => object! { outcome: outcome },
            None => Node::Object(Vec::new()),
        }
    }
}

impl ToNode for CancelActionResponse {
    fn node(&self) -> Node {
        object! { cancelled: self.cancelled, outcome: self.outcome.as_ref() }
    }
}

impl ToNode for ListActionsResponse {
    fn node(&self) -> Node {
        object! { actions: Node::list(&self.actions), next_page_token: &self.next_page_token }
    }
}

impl ToNode for CheckPolicyResponse {
    fn node(&self) -> Node {
        object! {
            verdicts: Node::list(&self.verdicts),
            allowed: self.allowed,
            warnings: Node::list(&self.warnings),
        }
    }
}

impl ToNode for PolicyVerdict {
    fn node(&self) -> Node {
        object! {
            workload: &self.workload,
            allowed: self.allowed,
            rule: &self.rule,
            reason: &self.reason,
            suggested_node: &self.suggested_node,
            moves: self.moves,
            unanswered: &self.unanswered,
        }
    }
}

impl ToNode for NodeHealthResponse {
    fn node(&self) -> Node {
        object! {
            serving: self.serving,
            node: &self.node,
            version: &self.version,
            engines: Node::list(&self.engines),
            store: self.store.as_ref(),
            deadline_misses: Node::list(&self.deadline_misses),
        }
    }
}

impl ToNode for ListCoresResponse {
    fn node(&self) -> Node {
        object! {
            cores: Node::list(&self.cores),
            foreign: Node::list(&self.foreign),
            problems: Node::List(self.problems.iter().map(Node::from).collect()),
        }
    }
}

impl ToNode for Core {
    fn node(&self) -> Node {
        object! {
            cpu: self.cpu,
            numa_node: self.numa_node,
            siblings: &self.siblings,
            online: self.online,
            isolated: self.isolated,
            reserved: self.reserved,
            offered: self.offered,
            holder: &self.holder,
        }
    }
}

impl ToNode for ForeignProcess {
    fn node(&self) -> Node {
        object! {
            pid: self.pid,
            name: &self.name,
            cpus: &self.cpus,
        }
    }
}

impl ToNode for EngineHealth {
    fn node(&self) -> Node {
        object! {
            name: &self.name,
            available: self.available,
            version: &self.version,
            reason: &self.reason,
            api: &self.api,
            capabilities: Node::List(self.capabilities.iter().map(Node::from).collect()),
            order: self.order,
        }
    }
}

impl ToNode for StoreHealth {
    fn node(&self) -> Node {
        object! {
            backend: &self.backend,
            problem: &self.problem,
            outcomes_waiting: self.outcomes_waiting,
            outcomes_bound: self.outcomes_bound,
            states_waiting: self.states_waiting,
            outcomes_owed: self.outcomes_owed,
            set_aside: self.set_aside,
        }
    }
}

impl ToNode for DeadlineMisses {
    fn node(&self) -> Node {
        object! {
            schedule: &self.schedule,
            node: &self.node,
            task: &self.task,
            count: self.count,
            last_at: time(self.last_at.as_ref()),
        }
    }
}

impl ToNode for Workload {
    fn node(&self) -> Node {
        object! {
            name: &self.name,
            state: word(self.state),
            desired: &self.desired,
            package: &self.package,
            engine: &self.engine,
            revision: &self.revision,
            containers: Node::list(&self.containers),
            last_action_id: &self.last_action_id,
            updated_at: time(self.updated_at.as_ref()),
            message: &self.message,
        }
    }
}

impl ToNode for Container {
    fn node(&self) -> Node {
        object! {
            id: &self.id,
            engine_name: &self.engine_name,
            name: &self.name,
            image: &self.image,
            state: word(self.state),
            health: word(self.health),
            exit_code: self.exit_code,
            out_of_memory: self.out_of_memory,
            pid: self.pid,
            cgroup_path: &self.cgroup_path,
            ports: Node::list(&self.ports),
            ips: &self.ips,
            created_at: time(self.created_at.as_ref()),
            started_at: time(self.started_at.as_ref()),
            finished_at: time(self.finished_at.as_ref()),
            init: self.init,
            message: &self.message,
            limits: self.limits.as_ref(),
            limits_in_force: self.limits_in_force.as_ref(),
            limits_drifted: &self.limits_drifted,
        }
    }
}

impl ToNode for Resources {
    fn node(&self) -> Node {
        object! {
            cpu: &self.cpu,
            cpu_shares: self.cpu_shares,
            memory: &self.memory,
            memory_reservation: &self.memory_reservation,
            pids: self.pids,
        }
    }
}

impl ToNode for PublishedPort {
    fn node(&self) -> Node {
        object! {
            host_ip: &self.host_ip,
            host_port: self.host_port,
            container_port: self.container_port,
            protocol: &self.protocol,
        }
    }
}

impl ToNode for ListWorkloadsResponse {
    fn node(&self) -> Node {
        object! { workloads: Node::list(&self.workloads), next_page_token: &self.next_page_token }
    }
}

impl ToNode for StatsResponse {
    fn node(&self) -> Node {
        object! { containers: Node::list(&self.containers), time: time(self.time.as_ref()) }
    }
}

impl ToNode for ContainerStats {
    fn node(&self) -> Node {
        object! {
            name: &self.name,
            cpu_ns: self.cpu_ns,
            memory_bytes: self.memory_bytes,
            memory_limit_bytes: self.memory_limit_bytes,
            pids: self.pids,
            rx_bytes: self.rx_bytes,
            tx_bytes: self.tx_bytes,
            read_bytes: self.read_bytes,
            write_bytes: self.write_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use protobuf::well_known_types::timestamp::Timestamp;

    use super::*;
    use crate::api::{ActionState, Verb};

    /// The field names of every message of our contract, in their order.
    fn contract() -> BTreeMap<String, Vec<String>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
        let parsed = protobuf_parse::Parser::new()
            .pure()
            .include(&root)
            .inputs(
                ["actions.proto", "resources.proto", "workloads.proto"]
                    .map(|name| root.join("actioncontroller/v1").join(name)),
            )
            .parse_and_typecheck()
            .unwrap();
        let files = parsed.file_descriptors.into_iter().filter(|file| file.package() == "actioncontroller.v1");
        files
            .flat_map(|file| file.message_type)
            .map(|message| {
                let fields = message.field.iter().map(|field| field.name().to_owned()).collect();
                (message.name().to_owned(), fields)
            })
            .collect()
    }

    fn names(node: &Node) -> Vec<String> {
        match node {
            Node::Object(fields) => fields.iter().map(|(name, _)| name.clone()).collect(),
            other => panic!("no object: {other:?}"),
        }
    }

    #[test]
    fn every_field_of_the_contract_is_shown_under_its_name() {
        let contract = contract();
        let shown = [
            ("Outcome", Outcome::default().node()),
            ("ErrorDetail", ErrorDetail::default().node()),
            ("Warning", Warning::default().node()),
            ("FailedWorkload", FailedWorkload::default().node()),
            ("WorkloadResult", WorkloadResult::default().node()),
            ("StepResult", StepResult::default().node()),
            ("Phases", Phases::default().node()),
            ("Plan", Plan::default().node()),
            ("Step", Step::default().node()),
            ("Action", Action::default().node()),
            ("Progress", Progress::default().node()),
            ("CancelActionResponse", CancelActionResponse::default().node()),
            ("ListActionsResponse", ListActionsResponse::default().node()),
            ("CheckPolicyResponse", CheckPolicyResponse::default().node()),
            ("PolicyVerdict", PolicyVerdict::default().node()),
            ("NodeHealthResponse", NodeHealthResponse::default().node()),
            ("ListCoresResponse", ListCoresResponse::default().node()),
            ("Core", Core::default().node()),
            ("ForeignProcess", ForeignProcess::default().node()),
            ("EngineHealth", EngineHealth::default().node()),
            ("StoreHealth", StoreHealth::default().node()),
            ("DeadlineMisses", DeadlineMisses::default().node()),
            ("Workload", Workload::default().node()),
            ("Container", Container::default().node()),
            ("PublishedPort", PublishedPort::default().node()),
            ("Resources", Resources::default().node()),
            ("ListWorkloadsResponse", ListWorkloadsResponse::default().node()),
            ("StatsResponse", StatsResponse::default().node()),
            ("ContainerStats", ContainerStats::default().node()),
        ];
        for (message, node) in shown {
            assert_eq!(names(&node), contract[message], "{message}");
        }
    }

    #[test]
    fn outcome_in_json_is_stable() {
        let outcome = Outcome {
            action_id: "a-1".to_owned(),
            verb: Verb::VERB_LAUNCH.into(),
            target: "web".to_owned(),
            state: ActionState::ACTION_STATE_SUCCEEDED.into(),
            changed: true,
            workloads: vec![WorkloadResult {
                name: "web".to_owned(),
                container_ids: [("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())].into(),
                ..Default::default()
            }],
            accepted_at: Some(Timestamp { seconds: 1_767_225_600, ..Default::default() }).into(),
            ..Default::default()
        };
        let expected = concat!(
            r#"{"action_id":"a-1","verb":"launch","target":"web","state":"succeeded","changed":true,"message":"","#,
            r#""error":null,"warnings":[],"left":[],"workloads":[{"name":"web","container_ids":{"a":"1","b":"2"}}],"#,
            r#""engine":"","engine_reason":"","steps":[],"phases":null,"accepted_at":"2026-01-01T00:00:00Z","#,
            r#""ended_at":null,"recovered":"","plan":null,"failed":[]}"#
        );
        assert_eq!(outcome.node().json_line(), expected);
    }
}
