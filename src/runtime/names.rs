//! Names of engines: those that are known everywhere, and the words that people use for them.

/// Names that documents may use for an engine, whether this node has it or not.
pub const KNOWN: &[&str] = &["bluechi", "containerd", "docker", "oci", "podman", super::sim::NAME, "systemd"];

/// Leaves the choice to the node.
pub const AUTO: &str = "auto";

/// Usual words for engines.
const ALIASES: &[(&str, &str)] = &[
    ("crun", "oci"),
    ("dockerd", "docker"),
    ("hirte", "bluechi"),
    ("libpod", "podman"),
    ("moby", "docker"),
    ("nerdctl", "containerd"),
    ("runc", "oci"),
    ("simulator", super::sim::NAME),
];

/// The engine's name for a word in any case, its usual other words included; empty for `auto`. A word that is not known
/// stays as it is, in lower case: a node may have an engine that nobody else has.
pub fn resolve(word: &str) -> String {
    let word = word.trim().to_ascii_lowercase();
    if word == AUTO {
        return String::new();
    }
    let alias = ALIASES.iter().find(|(alias, _)| *alias == word);
    alias.map_or(word, |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    // req: KO-01
    #[test]
    fn words_in_any_case_are_the_engines_that_they_stand_for() {
        for (word, name) in
            [("Podman", "podman"), (" DOCKER ", "docker"), ("runc", "oci"), ("Hirte", "bluechi"), ("auto", "")]
        {
            assert_eq!(resolve(word), name);
        }
        assert_eq!(resolve("Firecracker"), "firecracker");
    }

    #[test]
    fn every_alias_stands_for_a_known_engine_and_is_none() {
        for (alias, name) in ALIASES {
            assert!(KNOWN.contains(name) && !KNOWN.contains(alias), "{alias}");
        }
    }
}
