//! The Yocto layer: its list of crates is the one of Cargo.lock, and what the recipe names is there.

use std::fmt::Write;
use std::fs;
use std::process::Command;

use super::tidy::files::{project, read};

const RECIPES: &str = "yocto/meta-actioncontroller/recipes-core/actioncontroller";

/// A package of Cargo.lock that comes from the registry.
struct Crate<'a> {
    name: &'a str,
    version: &'a str,
    checksum: &'a str,
}

fn crates(lock: &str) -> Vec<Crate<'_>> {
    lock.split("[[package]]")
        .skip(1)
        .filter(|package| field(package, "source").is_some())
        .map(|package| Crate {
            name: field(package, "name").unwrap(),
            version: field(package, "version").unwrap(),
            checksum: field(package, "checksum").expect("crates of a registry have a checksum"),
        })
        .collect()
}

fn field<'a>(package: &'a str, key: &str) -> Option<&'a str> {
    let line = package.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "))?;
    Some(line.trim_matches('"'))
}

fn include_file() -> String {
    let lock = read("Cargo.lock");
    let crates = crates(&lock);
    let mut text = String::from("# Made from Cargo.lock by the test `crates_include_is_that_of_cargo_lock`.\n\n");
    text.push_str("SRC_URI += \" \\\n");
    for Crate { name, version, .. } in &crates {
        writeln!(text, "    crate://crates.io/{name}/{version} \\").unwrap();
    }
    text.push_str("\"\n\n");
    for Crate { name, version, checksum } in &crates {
        writeln!(text, "SRC_URI[{name}-{version}.sha256sum] = \"{checksum}\"").unwrap();
    }
    text
}

#[test]
fn crates_include_is_that_of_cargo_lock() {
    let path = format!("{RECIPES}/actioncontroller-crates.inc");
    let expected = include_file();
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::write(project().join(&path), &expected).unwrap();
    }
    let found = fs::read_to_string(project().join(&path)).unwrap_or_default();
    assert!(found == expected, "{path} is not that of Cargo.lock; run the test again with UPDATE_GENERATED=1");
}

#[test]
fn recipe_is_of_this_version_and_names_files_that_exist() {
    let version = env!("CARGO_PKG_VERSION");
    let recipe = read(&format!("{RECIPES}/actioncontroller_{version}.bb"));
    for line in recipe.lines().filter_map(|line| line.trim().strip_prefix("file://")) {
        let name = line.split(';').next().unwrap();
        assert!(project().join(name).exists(), "SRC_URI names '{name}'");
    }
    for word in recipe.split_whitespace().filter_map(|word| word.strip_prefix("${S}/")) {
        let parent = word.strip_suffix("/*.yaml").unwrap_or(word);
        assert!(project().join(parent).exists(), "do_install names '{word}'");
    }
    let sum = Command::new("md5sum").arg(project().join("LICENSE")).output().unwrap().stdout;
    let sum = String::from_utf8(sum).unwrap();
    let (sum, _) = sum.split_once(' ').unwrap();
    assert!(recipe.contains(&format!("file://LICENSE;md5={sum}\"")), "LIC_FILES_CHKSUM: the file's sum is {sum}");
}
