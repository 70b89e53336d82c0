//! The CPUs of the node, as the wire has them.

use crate::proto::actions as wire;
use crate::realtime::confine::Foreign;
use crate::realtime::keeper::NodeCores;

/// The CPUs, and who has them alone.
pub fn list(told: NodeCores) -> wire::ListCoresResponse {
    let (topology, offered) = (&told.grounds.topology, told.grounds.offered());
    let holder = |cpu| told.holdings.iter().find(|(_, holding)| holding.taken().contains(cpu));
    // One that was taken out while it was held is told, too.
    let held = told.holdings.values().fold(topology.present(), |all, holding| all.and(&holding.taken()));
    let core = |cpu| {
        let holder = holder(cpu).map(|(workload, _)| workload.clone());
        wire::Core {
            cpu,
            numa_node: topology.node_of(cpu),
            siblings: topology.core_of(cpu).to_string(),
            online: topology.online.contains(cpu),
            isolated: topology.isolated.contains(cpu),
            reserved: told.grounds.policy.reserved.contains(cpu),
            offered: holder.is_some() || offered.contains(cpu),
            holder: holder.unwrap_or_default(),
            ..Default::default()
        }
    };
    let cores = held.iter().map(core).collect();
    let foreign = told.foreign.into_iter().map(foreign).collect();
    wire::ListCoresResponse { cores, foreign, problems: told.problems, ..Default::default() }
}

fn foreign(Foreign { pid, name, cpus }: Foreign) -> wire::ForeignProcess {
    wire::ForeignProcess { pid, name, cpus: cpus.to_string(), ..Default::default() }
}
