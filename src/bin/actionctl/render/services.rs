//! Nodes, managers of services, and services for people.

use super::table::table;
use super::words::word;
use crate::api::{ListNodesResponse, ServiceState};

/// The nodes' names alone, those that are connected.
pub fn names(found: &ListNodesResponse) -> String {
    let online: Vec<_> = found.nodes.iter().filter(|node| node.online).map(|node| node.name.as_str()).collect();
    online.join("\n")
}

/// The nodes, then what manages services on this one.
pub fn nodes(found: &ListNodesResponse) -> String {
    let state = |is_online: bool| if is_online { "online" } else { "offline" }.to_owned();
    let nodes = found.nodes.iter().map(|node| {
        let own = if node.own { "this node" } else { "" };
        vec![node.name.clone(), state(node.online), node.address.clone(), own.to_owned()]
    });
    let nodes = match found.problem.as_str() {
        "" => table(&["NODE", "STATE", "ADDRESS", "NOTE"], nodes),
        problem => format!("no nodes are told of: {problem}"),
    };
    let managers = found.managers.iter().map(|manager| {
        let name = word(manager.manager);
        vec![name, manager.active.clone(), manager.status.clone(), manager.controller_address.clone()]
    });
    let managers = table(&["ON THIS NODE", "UNIT", "SAYS", "CONTROLLER AT"], managers);
    format!("{nodes}\n\n{managers}")
}

/// A service in a line.
pub fn state(ServiceState { node, unit, active, sub, .. }: &ServiceState) -> String {
    format!("{node}  {unit}  {active} ({sub})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{ManagerState, ServiceManager, ServiceNode};

    #[test]
    fn nodes_and_managers_are_shown_and_why_there_are_none() {
        let node = |name: &str, own, online| ServiceNode { name: name.to_owned(), own, online, ..Default::default() };
        let agent = ManagerState {
            manager: ServiceManager::SERVICE_MANAGER_AGENT.into(),
            active: "active".to_owned(),
            status: "online".to_owned(),
            controller_address: "tcp:host=h,port=842".to_owned(),
            ..Default::default()
        };
        let mut found = ListNodesResponse {
            nodes: vec![node("main", true, true), node("z", false, false)],
            managers: vec![agent],
            ..Default::default()
        };
        let text = nodes(&found);
        assert!(text.contains("main   online    -         this node"), "{text}");
        assert!(text.contains("agent          active   online   tcp:host=h,port=842"), "{text}");
        assert_eq!(names(&found), "main");
        (found.nodes, found.problem) = (Vec::new(), "nobody answers".to_owned());
        assert!(nodes(&found).starts_with("no nodes are told of: nobody answers"));
    }
}
