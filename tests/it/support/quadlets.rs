//! A [`SystemdServer`] with Podman's generator: the real one with a real Podman 5 where the environment asks for that, else a
//! stand-in. Containers write to its journal.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::systemd::{SystemdServer, prepare_journal};

/// Stands in for Podman's generator: of a `.container` file it makes a service that runs what `Exec=` says, on the node itself.
const STAND_IN: &str = r#"#!/bin/sh
out=$1; code=0; IFS=:
for dir in $QUADLET_UNIT_DIRS; do
    for file in "$dir"/*.container; do
        [ -e "$file" ] || continue
        name=$(basename "$file" .container)
        echo "stand-in[$$]: Loading source unit file $file" >&2
        if ! grep -q '^\(Image\|Rootfs\)=' "$file"; then
            echo "stand-in[$$]: converting \"$name.container\": no Image or Rootfs key specified" >&2
            code=1
            continue
        fi
        text="[Unit]
SourcePath=$file
[Service]
Type=exec
ExecStart=$(sed -n 's/^Exec=//p' "$file")"
        case $out in
            -dryrun) printf -- '---%s.service---\n%s\n\n' "$name" "$text" ;;
            *) printf '%s\n' "$text" >"$out/$name.service" ;;
        esac
    done
done
exit $code
"#;

/// Where the real one is below an unpacked Podman.
const REAL: &str = "lib/systemd/user-generators/podman-user-generator";

/// A systemd whose unit files Podman's generator is asked about.
pub struct QuadletRig {
    pub server: SystemdServer,
    pub generator: PathBuf,
    /// Whether it is Podman's own.
    pub is_real: bool,
}

impl QuadletRig {
    pub fn start() -> Self {
        let usr = match std::env::var("ACTIONCONTROLLER_PODMAN").as_deref() {
            Ok("5") => Some(super::podman::unpacked_v5().expect("tests/rig/podman5.sh has run")),
            _ => None,
        };
        let server = SystemdServer::start_with(|dir| prepare(dir, usr.as_deref()));
        let generator = match &usr {
            Some(usr) => usr.join(REAL),
            None => server.files().join("generators/podman-user-generator"),
        };
        Self { server, generator, is_real: usr.is_some() }
    }

    /// Where files are put for it.
    pub fn dir(&self) -> PathBuf {
        self.server.files().join("quadlets")
    }
}

fn prepare(dir: &Path, usr: Option<&Path>) {
    prepare_journal(dir);
    let path = |name: &str| dir.join(name).display().to_string();
    fs::create_dir(dir.join("quadlets")).expect("a folder");
    let mut environment = format!("QUADLET_UNIT_DIRS={}", path("quadlets"));
    match usr {
        None => {
            let generator = dir.join("generators/podman-user-generator");
            fs::create_dir(dir.join("generators")).expect("a folder");
            fs::write(&generator, STAND_IN).expect("a file");
            fs::set_permissions(&generator, fs::Permissions::from_mode(0o755)).expect("a program");
            environment.push_str(&format!(" SYSTEMD_GENERATOR_PATH={}", path("generators")));
        }
        Some(usr) => {
            fs::write(dir.join("usr"), usr.display().to_string()).expect("a file");
            let (root, run) = (path("storage/root"), path("storage/run"));
            let storage = format!("[storage]\ndriver = \"overlay\"\ngraphroot = \"{root}\"\nrunroot = \"{run}\"\n");
            fs::write(dir.join("storage.conf"), storage).expect("a file");
            let containers = "[engine]\nruntime = \"crun\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n\
                [containers]\nlog_driver = \"journald\"\npids_limit = 0\n\
                default_ulimits = [\"nofile=1024:1024\", \"nproc=1000:1000\"]\n\
                [network]\nnetwork_backend = \"netavark\"\n";
            fs::write(dir.join("containers.conf"), containers).expect("a file");
            environment.push_str(&format!(
                " CONTAINERS_CONF={} CONTAINERS_STORAGE_CONF={}",
                path("containers.conf"),
                path("storage.conf")
            ));
            // A user's containers wait for the machine's network, which nobody brings up here.
            let network = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n";
            fs::write(dir.join("units/podman-user-wait-network-online.service"), network).expect("a unit");
        }
    }
    fs::write(dir.join("environment"), environment).expect("a file");
}
