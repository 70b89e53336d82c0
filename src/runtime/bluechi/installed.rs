//! All services of nodes: which there are, and which of them start with the boot.
//!
//! This node's systemd is asked itself, whether BlueChi answers or not; other nodes' by way of the controller, which passes
//! systemd's methods on as they are.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ENGINE;
use super::services::Services;
use crate::runtime::adapter::{Call, RtResult, RuntimeError};
use crate::runtime::nodes::{
    InstalledService, ServiceFilter, UnitFileChange, UnitFilesOrder, log_arranged, log_reloaded,
};
use crate::runtime::units::installed::{self, Asked};
use crate::runtime::units::local::Direct;
use crate::runtime::units::manager::Unit;
use crate::transport::dbus::zvariant;

/// A node's systemd, for one call.
struct Side<'a> {
    services: &'a Services,
    call: &'a Call<'a>,
    /// The node; empty for this one.
    node: String,
}

impl Asked for Side<'_> {
    fn ask<B, A>(&self, member: &str, body: &B) -> RtResult<A>
    where
        B: Serialize + zvariant::DynamicType,
        A: DeserializeOwned + zvariant::Type,
    {
        if self.node.is_empty() {
            return Direct { systemd: &self.services.systemd, call: self.call }.ask(member, body);
        }
        let unit = Unit { node: self.node.clone(), name: String::new() };
        self.services.controller.ask(self.call, &unit, member, body)
    }
}

impl Services {
    fn side<'a>(&'a self, call: &'a Call<'a>, node: &str) -> Side<'a> {
        let node = if self.controller.is_here(node) { String::new() } else { node.to_owned() };
        Side { services: self, call, node }
    }

    fn named<'a>(&'a self, node: &'a str) -> &'a str {
        if self.controller.is_here(node) { &self.own } else { node }
    }

    fn check_manage(&self) -> RtResult<()> {
        if self.settings.may_control {
            return Ok(());
        }
        let reason = "changing which units start, and reading their files anew, is off (runtimes.bluechi.manage)";
        Err(RuntimeError::PermissionDenied { reason: reason.to_owned() })
    }

    /// The nodes that are meant: the one that is named, which has to be there, or all that are connected.
    fn meant(&self, call: &Call, node: &str) -> RtResult<Vec<String>> {
        if !node.is_empty() {
            return Ok(vec![self.named(node).to_owned()]);
        }
        let listed = self.controller.list_nodes(call)?.into_iter();
        Ok(listed.filter(|(_, _, status, _)| status == "online").map(|(name, ..)| name).collect())
    }

    pub(super) fn listed(&self, call: &Call, filter: &ServiceFilter) -> RtResult<Vec<InstalledService>> {
        let wanted = ServiceFilter { node: String::new(), unit: filter.unit.clone() };
        let mut all = Vec::new();
        for node in self.meant(call, &filter.node)? {
            let services = match installed::services(&self.side(call, &node), &node) {
                // It went away meanwhile.
                Err(RuntimeError::EngineNotAvailable { engine, .. }) if filter.node.is_empty() && engine == ENGINE => {
                    continue;
                }
                other => other?,
            };
            all.extend(services.into_iter().filter(|service| wanted.takes(&node, &service.state.unit)));
        }
        all.sort_by(|a, b| (&a.state.node, &a.state.unit).cmp(&(&b.state.node, &b.state.unit)));
        Ok(all)
    }

    pub(super) fn arranged(&self, call: &Call, order: &UnitFilesOrder) -> RtResult<Vec<UnitFileChange>> {
        self.check_manage()?;
        let done = installed::arrange(&self.side(call, &order.node), order);
        log_arranged(order, self.named(&order.node), &done);
        done
    }

    pub(super) fn reloaded(&self, call: &Call, node: &str) -> RtResult<()> {
        self.check_manage()?;
        let done = self.side(call, node).ask("Reload", &());
        log_reloaded(self.named(node), &done);
        done
    }
}
