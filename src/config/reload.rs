//! What of a changed configuration can be applied while the daemon runs.

use std::collections::BTreeSet;

use serde_json::Value;

use super::settings::Config;

/// Keys, or sections with all their keys, that take effect on SIGHUP. Everything else is built once at the start.
const RELOADABLE: [&str; 7] = [
    "log.level",
    "actions.default_deadline",
    "actions.max_deadline",
    "limits.documents",
    "limits.containers",
    "policy.folders",
    "security",
];

/// The keys in which two configurations differ, as paths, ordered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Take effect at once.
    pub now: Vec<String>,
    /// Take effect at the next start.
    pub at_restart: Vec<String>,
}

impl Config {
    /// What differs in `new`.
    pub fn reloadable_difference(&self, new: &Self) -> Difference {
        let mut changed = BTreeSet::new();
        collect(&tree(self), &tree(new), "", &mut changed);
        let (now, at_restart) = changed.into_iter().partition(|path| is_reloadable(path));
        Difference { now, at_restart }
    }

    /// These settings with those of `new` that can be applied while the daemon runs: what is in force after a reload.
    #[must_use]
    pub fn with_reloadable(&self, new: &Self) -> Self {
        let mut result = self.clone();
        result.log.level = new.log.level;
        result.actions.default_deadline = new.actions.default_deadline;
        result.actions.max_deadline = new.actions.max_deadline;
        result.limits.documents = new.limits.documents;
        result.limits.containers = new.limits.containers;
        result.policy.folders = new.policy.folders.clone();
        result.security = new.security.clone();
        result
    }
}

fn tree(config: &Config) -> Value {
    // Maps with text keys, texts, numbers and lists only: there is nothing in it that JSON cannot hold.
    serde_json::to_value(config).unwrap_or_default()
}

fn is_reloadable(path: &str) -> bool {
    RELOADABLE.iter().any(|key| path == *key || path.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
}

fn collect(old: &Value, new: &Value, path: &str, changed: &mut BTreeSet<String>) {
    if let (Value::Object(old), Value::Object(new)) = (old, new) {
        for key in old.keys().chain(new.keys()) {
            let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let absent = Value::Null;
            collect(old.get(key).unwrap_or(&absent), new.get(key).unwrap_or(&absent), &below, changed);
        }
    } else if old != new {
        changed.insert(path.to_owned());
    }
}
