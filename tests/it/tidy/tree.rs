//! Rules for the project as a whole: what lies at its top, what it depends on, what it is built with.

use std::collections::BTreeSet;
use std::process::Command;

use super::files::{project, read, tracked};

/// What may lie at the top level: six parts and plain files.
const TOP_LEVEL: [&str; 18] = [
    ".ci",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "Makefile",
    "README.md",
    "clippy.toml",
    "config",
    "deny.toml",
    "proto",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "src",
    "tests",
    "yocto",
];

/// Packages that bring or need an async runtime, or a second OpenSSL.
const BANNED: [&str; 6] = ["tokio", "async-std", "hyper", "smol", "openssl-src", "serde_yaml"];

#[test]
fn top_level_holds_the_six_parts_and_plain_files() {
    let tracked = tracked();
    let top: BTreeSet<&str> = tracked.iter().filter_map(|path| path.split('/').next()).collect();
    let more: Vec<_> = top.into_iter().filter(|name| !TOP_LEVEL.contains(name)).collect();
    assert!(more.is_empty(), "{more:?} belong into one of the parts");
}

// req: XC-04
#[test]
fn no_async_runtime_is_in_the_dependency_tree() {
    let lock = read("Cargo.lock");
    let locked: Vec<_> = BANNED.iter().filter(|name| lock.contains(&format!("\nname = \"{name}\"\n"))).collect();
    assert!(locked.is_empty(), "Cargo.lock holds {locked:?}");

    // The lock file is what could be built, the tree is what is, on every platform and with every feature.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let tree = Command::new(cargo)
        .args(["tree", "--locked", "--offline", "--target", "all", "--edges", "all", "--prefix", "none"])
        .args(["--format", "{p}"])
        .current_dir(project())
        .output()
        .expect("cargo is installed");
    assert!(tree.status.success(), "cargo tree: {}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).unwrap();
    let names: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains("grpcio"), "this is no tree of ours: {names:?}");
    let found: Vec<_> = BANNED.iter().filter(|name| names.contains(**name)).collect();
    assert!(found.is_empty(), "cargo tree holds {found:?}");
}

#[test]
fn oldest_compiler_is_that_of_the_oldest_yocto_release() {
    let manifest = read("Cargo.toml");
    assert!(manifest.contains("\nrust-version = \"1.90\"\n"), "whinlatter has Rust 1.90");
    assert!(manifest.contains("\nresolver = \"3\"\n"), "which keeps dependencies within rust-version");
}

#[test]
fn jobs_are_answered_after_a_panic_too() {
    let unwinding = read("Cargo.toml").matches("\npanic = \"unwind\"\n").count();
    assert_eq!(unwinding, 2, "both profiles unwind, or a lost worker could not answer");
}
