//! Which room may name which: the dependency direction of ARCHITECTURE.md, read off every path that begins with
//! `crate::` or `super::`, grouped imports included.

use std::collections::BTreeSet;

use super::files::{code_lines, is_generated, is_test_file, module_of, written_rust};

/// A room, and what it may not name. Both are modules with everything below them.
struct Rule {
    room: &'static str,
    never: &'static [&'static str],
    except: &'static [&'static str],
}

/// Rooms that only front ends and the composition root name.
const FRONT: &[&str] = &["grpc", "http", "daemon"];

const RULES: &[Rule] = &[
    Rule { room: "error", never: &[""], except: &["error"] },
    Rule { room: "clock", never: &[""], except: &["clock"] },
    Rule { room: "cancel", never: &[""], except: &["cancel", "clock"] },
    Rule { room: "model", never: &[""], except: &["model", "error", "clock"] },
    Rule { room: "manifest", never: &[""], except: &["manifest", "model", "error"] },
    Rule { room: "security", never: &[""], except: &["security", "model", "error"] },
    Rule {
        room: "action",
        never: &[""],
        except: &[
            "action",
            "model",
            "manifest",
            "security",
            "error",
            "clock",
            "cancel",
            "limited",
            "logging",
            "hooks",
            "networks",
            "nodes",
            "policy",
            "realtime",
            "runtime::adapter",
            "runtime::names",
            "runtime::registry",
            "runtime::search",
            "storage",
        ],
    },
    Rule { room: "action", never: STORES, except: &[] },
    Rule {
        room: "dispatch",
        never: &["grpc", "http", "daemon", "proto", "transport", "config", "manifest"],
        except: &[],
    },
    Rule { room: "dispatch", never: STORES, except: &[] },
    Rule { room: "dispatch", never: ENGINES, except: &[] },
    Rule { room: "policy", never: FRONT, except: &[] },
    Rule { room: "nodes", never: FRONT, except: &[] },
    Rule { room: "networks", never: &[""], except: &["networks", "model", "error", "clock", "cancel"] },
    Rule { room: "realtime", never: FRONT, except: &[] },
    Rule {
        room: "runtime",
        never: &["grpc", "http", "daemon", "dispatch", "action", "manifest", "config", "storage", "policy"],
        except: &[],
    },
    Rule {
        room: "storage",
        never: &["grpc", "http", "daemon", "dispatch", "action", "manifest", "config", "runtime", "policy"],
        except: &["runtime::adapter"],
    },
    Rule { room: "transport", never: &[""], except: &["transport", "clock", "cancel", "error", "limited", "logging"] },
    Rule {
        room: "config",
        never: &["grpc", "http", "daemon", "dispatch", "action", "proto", "transport"],
        except: &[],
    },
    Rule {
        room: "grpc",
        never: &["daemon", "storage", "transport", "action", "manifest"],
        except: &["transport::channel", "transport::wait"],
    },
    Rule { room: "grpc", never: ENGINES, except: &[] },
    Rule { room: "logging", never: &[""], except: &["logging", "config::settings"] },
    Rule { room: "signals", never: &[""], except: &["signals", "limited"] },
    Rule { room: "supervisor", never: &[""], except: &["supervisor", "limited"] },
];

const ENGINES: &[&str] = &[
    "runtime::podman",
    "runtime::docker",
    "runtime::containerd",
    "runtime::oci",
    "runtime::systemd",
    "runtime::bluechi",
    "runtime::sim",
];

const STORES: &[&str] = &["storage::embedded", "storage::memory", "storage::etcd", "storage::rocksdb_service"];

/// Generated wire types: the front end and adapters of gRPC peers alone see them.
const SEES_PROTO: &[&str] =
    &["grpc", "proto", "runtime::containerd", "storage::etcd", "storage::rocksdb_service", "policy", "realtime"];

fn is_within(path: &str, room: &str) -> bool {
    room.is_empty() || path == room || path.strip_prefix(room).is_some_and(|rest| rest.starts_with("::"))
}

/// Whether naming `target` in `module` breaks the direction.
fn breaks(module: &str, target: &str) -> bool {
    let by_rule = RULES.iter().any(|rule| {
        let applies = is_within(module, rule.room) && rule.never.iter().any(|room| is_within(target, room));
        applies && !rule.except.iter().any(|room| is_within(target, room))
    });
    let adapter = |path: &str| ENGINES.iter().position(|engine| is_within(path, engine));
    let other_engine = matches!((adapter(module), adapter(target)), (Some(own), Some(other)) if own != other);
    let proto = is_within(target, "proto") && !SEES_PROTO.iter().any(|room| is_within(module, room));
    by_rule || other_engine || proto
}

/// All modules or items of this crate that a file's code names, as paths from the crate's root.
fn targets(module: &[String], code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (start, word) in code.match_indices("crate::").chain(code.match_indices("super::")) {
        let before = code[..start].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | ':' | '$')) {
            continue;
        }
        let mut rest = &code[start + word.len()..];
        let mut base: Vec<String> = if word == "super::" { module.to_vec() } else { Vec::new() };
        if word == "super::" {
            base.pop();
            while let Some(further) = rest.strip_prefix("super::") {
                base.pop();
                rest = further;
            }
        }
        found.extend(paths(rest).into_iter().map(|path| {
            let parts: Vec<&str> =
                base.iter().map(String::as_str).chain((!path.is_empty()).then_some(&*path)).collect();
            parts.join("::")
        }));
    }
    found
}

/// The paths that a use tree begins: `a::{b, c::d}` are `a::b` and `a::c::d`.
fn paths(tree: &str) -> Vec<String> {
    let tree = tree.trim_start();
    if let Some(group) = tree.strip_prefix('{') {
        return members(group).into_iter().flat_map(paths).collect();
    }
    let end = tree.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(tree.len());
    let (name, rest) = tree.split_at(end);
    match rest.strip_prefix("::") {
        Some(below) if !name.is_empty() => {
            let below = paths(below).into_iter();
            below.map(|path| if path.is_empty() { name.to_owned() } else { format!("{name}::{path}") }).collect()
        }
        Some(_) | None => vec![if name == "self" { String::new() } else { name.to_owned() }],
    }
}

/// The members of a group up to its closing brace.
fn members(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut members) = (0, 0, Vec::new());
    for (index, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                members.push(&group[start..index]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                members.push(&group[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    members.into_iter().filter(|member| !member.trim().is_empty()).collect()
}

#[test]
fn rooms_name_only_what_lies_below_them() {
    let mut broken = Vec::new();
    let is_library = |path: &String| path.starts_with("src/") && !path.starts_with("src/bin/") && path != "src/main.rs";
    for path in written_rust().into_iter().filter(is_library).filter(|path| !is_test_file(path) && !is_generated(path))
    {
        let module = module_of(&path);
        let code: String = code_lines(&path).into_iter().flat_map(|(_, line)| [line, "\n".into()]).collect();
        for target in targets(&module, &code) {
            if breaks(&module.join("::"), &target) {
                broken.push(format!("{path} names '{target}'"));
            }
        }
    }
    assert!(broken.is_empty(), "against the dependency direction: {broken:#?}");
}

#[test]
fn grouped_and_relative_paths_are_understood() {
    let module = ["runtime".to_owned(), "podman".to_owned()];
    let code = "use crate::{model::{action, workload::Spec}, clock};\nuse super::{adapter, sim::Sim};\n\
                super::super::grpc::x(); let a = $crate::not; mycrate::no;";
    let found: Vec<_> = targets(&module, code).into_iter().collect();
    let expected =
        ["clock", "grpc::x", "model::action", "model::workload::Spec", "runtime::adapter", "runtime::sim::Sim"];
    assert_eq!(found, expected);
}

#[test]
fn direction_is_what_architecture_says() {
    for (module, target) in [
        ("model::action", "grpc"),
        ("action::plan", "config::settings"),
        ("action", "runtime::podman::client"),
        ("action", "storage::embedded"),
        ("runtime::podman", "runtime::sim"),
        ("clock", "model"),
        ("dispatch::queue", "proto::actions"),
        ("transport::http", "model::workload"),
    ] {
        assert!(breaks(module, target), "{module} -> {target}");
    }
    for (module, target) in [
        ("daemon", "runtime::podman"),
        ("grpc::convert", "proto::actions"),
        ("action", "runtime::adapter::RuntimeAdapter"),
        ("dispatch::worker", "action"),
        ("runtime::podman::spec", "runtime::podman::client"),
        ("storage::records", "model::action"),
    ] {
        assert!(!breaks(module, target), "{module} -> {target}");
    }
}
