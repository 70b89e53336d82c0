//! What settings of engines have to be.

use super::{Violation, not_absolute, within};
use crate::config::runtimes::Runtimes;
use crate::config::units::size_text;
use crate::model::subnet::Subnet;

/// Engines that can be named in `runtimes.preference`, each with what switches it on.
const ENGINES: [(&str, &str); 7] = [
    ("podman", "runtimes.podman.enabled"),
    ("docker", "runtimes.docker.enabled"),
    ("containerd", "runtimes.containerd.enabled"),
    ("oci", "runtimes.oci.enabled"),
    ("systemd", "runtimes.systemd.enabled"),
    ("bluechi", "runtimes.bluechi.enabled"),
    ("sim", "runtimes.sim.enabled"),
];

fn names() -> String {
    ENGINES.map(|(name, _)| name).join(", ")
}

/// Checks the settings of engines.
pub(super) fn check(runtimes: &Runtimes, warnings: &mut Vec<String>) -> Result<(), Violation> {
    const PREFERENCE: &str = "runtimes.preference";
    if runtimes.preference.is_empty() {
        return Err(Violation::of(PREFERENCE, format!("must name an engine: {}", names())));
    }
    for (index, name) in runtimes.preference.iter().enumerate() {
        let Some((_, switch)) = ENGINES.into_iter().find(|(engine, _)| engine == name) else {
            let what = format!("there is no engine '{name}'; the engines are {}", names());
            return Err(Violation::of(PREFERENCE, what));
        };
        let is_on = match name.as_str() {
            "podman" => runtimes.podman.enabled,
            "docker" => runtimes.docker.enabled,
            "containerd" => runtimes.containerd.enabled,
            "oci" => runtimes.oci.enabled,
            "systemd" => runtimes.systemd.enabled,
            "bluechi" => runtimes.bluechi.enabled,
            _ => runtimes.sim.enabled,
        };
        if !is_on {
            let what = format!("{PREFERENCE} names '{name}', which is off; switch it on with {switch}, or take it out");
            return Err(Violation { keys: vec![PREFERENCE, switch], what });
        }
        if runtimes.preference[..index].contains(name) {
            return Err(Violation::of(PREFERENCE, format!("names '{name}' twice")));
        }
    }
    let paths = [
        ("runtimes.podman.socket", &runtimes.podman.socket),
        ("runtimes.docker.socket", &runtimes.docker.socket),
        ("runtimes.containerd.socket", &runtimes.containerd.socket),
        ("runtimes.oci.run_dir", &runtimes.oci.run_dir),
        ("runtimes.systemd.unit_dir", &runtimes.systemd.unit_dir),
        ("runtimes.systemd.journal_root", &runtimes.systemd.journal_root),
        ("runtimes.systemd.quadlet_dir", &runtimes.systemd.quadlet_dir),
        ("runtimes.systemd.quadlet_generator", &runtimes.systemd.quadlet_generator),
        ("runtimes.bluechi.unit_dir", &runtimes.bluechi.unit_dir),
    ];
    let given = paths.into_iter().filter(|(_, path)| !path.as_os_str().is_empty());
    let folders = runtimes.oci.image_folders.iter().map(|folder| ("runtimes.oci.image_folders", folder));
    if let Some((key, path)) = given.chain(folders).find(|(_, path)| !path.is_absolute()) {
        return Err(not_absolute(key, path));
    }
    check_namespace(&runtimes.containerd.namespace)?;
    for (key, bus) in [("runtimes.systemd.bus", &runtimes.systemd.bus), ("runtimes.bluechi.bus", &runtimes.bluechi.bus)]
    {
        if !bus.is_empty() && !bus.starts_with('/') && !bus.split(';').any(|address| address.starts_with("unix:")) {
            let what = format!("'{bus}' is neither an absolute path nor an address of a unix socket (unix:path=)");
            return Err(Violation::of(key, what));
        }
    }
    let address = &runtimes.bluechi.controller_address;
    if !address.is_empty() && !address.starts_with("tcp:host=") && !address.starts_with("unix:path=") {
        let what = format!("'{address}' is no address of a controller (tcp:host=HOST,port=842, unix:path=PATH)");
        return Err(Violation::of("runtimes.bluechi.controller_address", what));
    }
    within("runtimes.oci.image_bytes", runtimes.oci.image_bytes, 1 << 20..=1 << 40, size_text)?;
    if !Subnet::parse(&runtimes.oci.bridge_pool).is_some_and(Subnet::has_rooms) {
        let what =
            format!("'{}' is no range of IPv4 addresses from /8 to /24, as 10.90.0.0/16", runtimes.oci.bridge_pool);
        return Err(Violation::of("runtimes.oci.bridge_pool", what));
    }
    if runtimes.sim.enabled {
        warnings.push("runtimes.sim: the simulator is on; what it is given to run does not run".into());
    }
    Ok(())
}

/// What containerd takes for the name of a namespace (`identifiers/validate.go` there); Kubernetes' own would have ours
/// deleted by the kubelet.
fn check_namespace(name: &str) -> Result<(), Violation> {
    const KEY: &str = "runtimes.containerd.namespace";
    let is_plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if name.len() > 76 || !name.split(['-', '_', '.']).all(is_plain) {
        let what = format!("must be 1 to 76 letters and digits with single '-', '.' or '_' between them, not '{name}'");
        return Err(Violation::of(KEY, what));
    }
    if name == "k8s.io" {
        return Err(Violation::of(KEY, "must not be 'k8s.io': what is in it is Kubernetes' own to delete".to_owned()));
    }
    Ok(())
}
