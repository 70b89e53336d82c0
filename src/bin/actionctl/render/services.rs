//! Nodes, managers of services, and services for people.

use super::table::table;
use super::words::word;
use crate::api::{
    InstalledService, ListNodesResponse, ListServicesResponse, ServiceState, UnitFileChange, UnitFilesResponse,
};

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
    if found.managers.is_empty() {
        return nodes;
    }
    let managers = table(&["ON THIS NODE", "UNIT", "SAYS", "CONTROLLER AT"], managers);
    format!("{nodes}\n\n{managers}")
}

/// Names of services alone.
pub fn units(found: &ListServicesResponse) -> String {
    let names: Vec<_> = found.services.iter().map(|service| service.state.get_or_default().unit.as_str()).collect();
    names.join("\n")
}

/// Services, one a line.
pub fn list(found: &ListServicesResponse) -> String {
    let service = |service: &InstalledService| {
        let ServiceState { node, unit, active, sub, .. } = service.state.get_or_default();
        vec![node.clone(), unit.clone(), format!("{active} ({sub})"), service.start.clone()]
    };
    table(&["NODE", "UNIT", "STATE", "STARTS"], found.services.iter().map(service))
}

/// What was done with files of units.
pub fn arranged(done: &UnitFilesResponse, units: &[String], word: &str) -> String {
    let change = |UnitFileChange { kind, path, target, .. }: &UnitFileChange| match target.as_str() {
        "" => format!("{kind} {path}"),
        target => format!("{kind} {path} -> {target}"),
    };
    let mut lines: Vec<_> = done.changes.iter().map(change).collect();
    lines.extend(units.iter().map(|unit| format!("{unit} {word}")));
    lines.join("\n")
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
        found.managers.clear();
        assert_eq!(nodes(&found), "no nodes are told of: nobody answers");
    }

    #[test]
    fn services_are_listed_with_what_starts_them_and_changes_with_their_links() {
        let state = ServiceState {
            node: "a".into(),
            unit: "x.service".into(),
            active: "inactive".into(),
            ..Default::default()
        };
        let service = InstalledService { state: Some(state).into(), start: "disabled".into(), ..Default::default() };
        let found = ListServicesResponse { services: vec![service], ..Default::default() };
        assert!(list(&found).contains("a      x.service   inactive ()   disabled"), "{}", list(&found));
        assert_eq!(units(&found), "x.service");
        let change =
            UnitFileChange { kind: "symlink".into(), path: "/l".into(), target: "/t".into(), ..Default::default() };
        let done = UnitFilesResponse { changed: true, changes: vec![change], ..Default::default() };
        assert_eq!(arranged(&done, &["x.service".into()], "enabled"), "symlink /l -> /t\nx.service enabled");
    }
}
