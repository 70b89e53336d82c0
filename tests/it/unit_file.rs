//! What is installed beside the programs, as systemd's own tools read it.

use std::fs;
use std::process::Command;
use std::time::Duration;

use actioncontroller::config::settings::Shutdown;
use actioncontroller::config::{Config, units};

use super::tidy::files::{project, read};

const UNIT: &str = "config/systemd/actioncontroller.service";

/// The value of a setting of the unit.
fn setting(name: &str) -> String {
    let unit = read(UNIT);
    let line = unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned);
    line.unwrap_or_else(|| panic!("the unit has no {name}"))
}

#[test]
fn systemd_takes_the_unit_without_complaint() {
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("actioncontroller.service");
    // The program is not installed where tests run.
    fs::write(&unit, read(UNIT).replace("/usr/bin/actioncontroller", "/bin/true")).unwrap();
    let checked = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output().unwrap();
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    let ours: Vec<_> = said.lines().filter(|line| line.contains("actioncontroller.service")).collect();
    assert!(checked.status.success() && ours.is_empty(), "{said}");
}

#[test]
fn drop_in_for_containers_of_the_daemon_s_own_takes_back_all_that_they_would_inherit() {
    let drop_in = read("config/systemd/oci.conf");
    // Seccomp filters, file systems and the mark of no new privileges are inherited; limits of the unit's life are not.
    let inherited = |name: &str| {
        ["NoNewPrivileges", "LockPersonality", "MemoryDenyWriteExecute", "SystemCallArchitectures"].contains(&name)
            || name.starts_with("Protect")
            || name.starts_with("Restrict") && name != "RestartPreventExitStatus"
    };
    let unit = read(UNIT);
    let names = unit.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name);
    for name in names.filter(|name| inherited(name)) {
        assert!(drop_in.lines().any(|line| line.starts_with(&format!("{name}="))), "{name}");
    }
}

#[test]
fn systemd_waits_longer_than_the_daemon_drains() {
    let patience = units::parse_duration(&format!("{}s", setting("TimeoutStopSec"))).unwrap();
    assert!(patience >= Shutdown::default().drain + Duration::from_secs(5));
    assert_eq!(setting("KillMode"), "process", "containers go on without the daemon");
}

#[test]
fn folders_of_the_unit_are_those_of_the_settings() {
    let config = Config::default();
    let runtime = format!("/run/{}", setting("RuntimeDirectory"));
    assert_eq!(config.listen.unix.parent().unwrap().to_str(), Some(&*runtime));
    assert_eq!(config.state_dir.to_str(), Some(&*format!("/var/lib/{}", setting("StateDirectory"))));
}

#[test]
fn shipped_drop_ins_and_examples_are_accepted() {
    for folder in ["config/config.d", "config/examples"] {
        let is_drop_in = |name: &str| name.starts_with(|c: char| c.is_ascii_digit());
        for entry in fs::read_dir(project().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if is_drop_in(path.file_name().unwrap().to_str().unwrap()) {
                let loaded = Config::load(std::slice::from_ref(&path)).unwrap();
                // Pullpiri has neither TLS nor users, which is warned of.
                let is_expected = |warning: &&String| warning.starts_with("listen.insecure: ");
                let wrong: Vec<_> = loaded.warnings.iter().filter(|warning| !is_expected(warning)).collect();
                assert!(wrong.is_empty(), "{}: {wrong:?}", path.display());
            }
        }
    }
}
