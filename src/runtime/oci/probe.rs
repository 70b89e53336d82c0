//! Whether containers run here: the runtime and conmon are found, and something tiny is run by them.
//!
//! That a program is there proves nothing: crun before 1.14 refuses a machine that mounts both versions of control groups.
//! What was proved holds until the programs are others; what failed is tried again after a while.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::PoisonError;
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;
use uuid::Uuid;

use super::{ENGINE, Engine, MOST_SAID, said};
use crate::cancel::CancelToken;
use crate::cgroup::Cgroups;
use crate::clock::Deadline;
use crate::runtime::adapter::{Call, NoProgress, Probe, RtResult, RuntimeCapabilities, RuntimeError};
use crate::runtime::shared::calls::apart;
use crate::runtime::shared::program;
use crate::runtime::shared::tiny::{self, TinyRoot};

/// The runtimes that are looked for, the faster first.
const RUNTIMES: [&str; 2] = ["crun", "runc"];

/// Where programs are, beside `PATH`: a daemon's may lack the last two.
const USUAL_FOLDERS: [&str; 4] = ["/usr/bin", "/usr/local/bin", "/usr/sbin", "/usr/local/sbin"];

/// What the ids of proofs begin with.
const PROOF_OF_STARTS: &str = "proof-";
pub(super) const PROOF_OF_CHECKPOINTS: &str = "checkpoint-proof-";

/// How long a proof may take.
const PROOF: Duration = Duration::from_millis(1_900);

/// How long what failed is not tried again.
const PATIENCE: Duration = Duration::from_secs(10);

/// The programs that are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Programs {
    pub(super) runtime: PathBuf,
    pub(super) conmon: PathBuf,
    /// When each was last changed: others have to be proved anew.
    changed: [Option<SystemTime>; 2],
    is_crun: bool,
}

impl Programs {
    /// What a checkpoint and a restore are told of control groups. By itself CRIU makes a copy of all groups below the one of
    /// version 2 that the container is in: with a crun that has joined none there, of the whole machine's, copies of earlier
    /// restores included. crun puts what it restores into its groups itself. runc joins one, and before 1.2 knows no such
    /// word.
    pub(super) fn words_on_groups(&self) -> &'static [&'static str] {
        if self.is_crun { &["--manage-cgroups-mode=ignore"] } else { &[] }
    }
}

/// What the last proof came to.
#[derive(Debug, Clone)]
pub(super) struct Known {
    outcome: Result<(Programs, String), String>,
    at: Instant,
    capabilities: RuntimeCapabilities,
}

/// The program's path: as it is configured, or where it is found.
fn find(configured: &Path, name: &str, path: Option<&OsStr>) -> Option<PathBuf> {
    let name = if configured.as_os_str().is_empty() { Path::new(name) } else { configured };
    if name.is_absolute() {
        return name.is_file().then(|| name.to_owned());
    }
    let path = path.map(OsStr::to_owned).or_else(|| std::env::var_os("PATH")).unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(USUAL_FOLDERS.iter().map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|found| found.modified()).ok()
}

impl Engine {
    /// The programs that were proved; they are not proved where nobody has asked yet.
    pub(super) fn programs(&self) -> RtResult<Programs> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // What was proved is used until somebody probes again; what failed is tried again here too, so that whoever only
        // lists and watches learns that it has come.
        let is_settled = |known: &Known| known.outcome.is_ok() || known.holds();
        let outcome = match known.filter(is_settled) {
            Some(known) => known.outcome,
            None => self.prove_anew().outcome,
        };
        let away = |reason| RuntimeError::EngineNotAvailable { engine: ENGINE.to_owned(), reason };
        outcome.map(|(programs, _)| programs).map_err(away)
    }

    /// Fails where nothing runs here, or the call is cancelled. `op` is the call as errors name it.
    pub(super) fn check(&self, call: &Call, op: &str) -> RtResult<()> {
        if call.cancel.is_cancelled() {
            return Err(RuntimeError::Cancelled { op: op.to_owned() });
        }
        self.programs().map(drop)
    }

    /// What the last proof proved.
    pub(super) fn proved(&self) -> RuntimeCapabilities {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().map(|known| known.capabilities).unwrap_or_default()
    }

    /// Proves it, unless it is known.
    pub(super) fn prove(&self) -> Probe {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        known.filter(Known::holds).unwrap_or_else(|| self.prove_anew()).probe()
    }

    fn prove_anew(&self) -> Known {
        let outcome = self.try_each();
        let capabilities = if outcome.is_ok() { self.abilities() } else { RuntimeCapabilities::default() };
        let known = Known { outcome, at: Instant::now(), capabilities };
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(known.clone());
        known
    }

    /// Takes down proofs that a daemon left when it was killed.
    pub(super) fn clear_proofs(&self) {
        let names = |dir: &Path| -> Vec<String> {
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
        };
        let is_proof = |name: &String| name.starts_with(PROOF_OF_STARTS) || name.starts_with(PROOF_OF_CHECKPOINTS);
        for id in names(&self.settings.run_dir).iter().filter(|name| is_proof(name)) {
            let deleted = apart(|call| self.order(call, "remove", &["delete", "--force", id]));
            if let Err(error) = deleted {
                log::warn!("container '{id}' of an old proof stays: {error}");
            }
        }
        for name in names(&self.settings.dir) {
            let path = self.settings.dir.join(&name);
            if is_proof(&name) {
                Cgroups::read().unwrap_or_default().remove(&self.group(&name));
                let _ = fs::remove_dir_all(&path);
            } else if tiny::is_root(&name) {
                // What it binds is bound in its container alone.
                drop(TinyRoot::left_at(path));
            }
        }
    }

    /// What can be done where containers run.
    fn abilities(&self) -> RuntimeCapabilities {
        let groups = Cgroups::read().unwrap_or_default();
        let is_there = |controller: &str| groups.has(controller);
        RuntimeCapabilities {
            supports_pause: is_there("freezer"),
            supports_exec: true,
            supports_stats: is_there("cpuacct") && is_there("memory"),
            supports_logs: true,
            supports_events: true,
            supports_image_pull: true,
            supports_resource_limits: is_there("cpu") && is_there("memory") && is_there("pids"),
            supports_user_networks: self.has_bridges(),
            supports_rootfs: true,
            ..RuntimeCapabilities::default()
        }
    }

    fn has_bridges(&self) -> bool {
        let cancel = CancelToken::new();
        let proved =
            self.bridges.prove(&Call { deadline: Deadline::after(PROOF), cancel: &cancel, progress: &NoProgress });
        if let Err(error) = &proved {
            log::info!("{error}");
        }
        proved.is_ok()
    }

    /// The first runtime that works.
    fn try_each(&self) -> Result<(Programs, String), String> {
        let conmon =
            find(&self.settings.conmon, "conmon", self.settings.path.as_deref()).ok_or("conmon is not installed")?;
        let configured = self.settings.runtime.as_path();
        let names = if configured.as_os_str().is_empty() { RUNTIMES.as_slice() } else { &[""] };
        let mut reasons = Vec::new();
        for name in names {
            let Some(runtime) = find(configured, name, self.settings.path.as_deref()) else {
                let name = if name.is_empty() { configured.display().to_string() } else { (*name).to_owned() };
                reasons.push(format!("{name} is not installed"));
                continue;
            };
            let cancel = CancelToken::new();
            let call = Call { deadline: Deadline::after(PROOF), cancel: &cancel, progress: &NoProgress };
            match self.try_one(&call, &runtime) {
                Ok(version) => {
                    let changed = [changed(&runtime), changed(&conmon)];
                    let is_crun = version.starts_with("crun");
                    return Ok((Programs { runtime, conmon, changed, is_crun }, version));
                }
                Err(error) => reasons.push(format!("{}: {error}", runtime.display())),
            }
        }
        Err(reasons.join("; "))
    }

    /// Runs something tiny to its end; the runtime's version.
    fn try_one(&self, call: &Call, runtime: &Path) -> RtResult<String> {
        let version = program::run(Command::new(runtime).arg("--version"), call, "probe", MOST_SAID)?;
        let text = String::from_utf8_lossy(&version.stdout);
        let version = text.lines().next().unwrap_or_default().replace(" version", "");
        let root = TinyRoot::make(&self.settings.dir)?;
        let id = format!("{PROOF_OF_STARTS}{}", Uuid::now_v7().simple());
        let group = self.group(&id);
        let bundle = self.settings.dir.join(&id);
        write_bundle(&bundle, root.path(), &group, &["/bin/true"])?;
        let mut command = Command::new(runtime);
        command.arg("--root").arg(&self.settings.run_dir).args(["run", "--bundle"]).arg(&bundle).arg(&id);
        let ran = program::run(&mut command, call, "probe", MOST_SAID);
        if !matches!(&ran, Ok(ended) if ended.status.success()) {
            // What is left of it; there may be nothing.
            let mut delete = Command::new(runtime);
            delete.arg("--root").arg(&self.settings.run_dir).args(["delete", "--force", &id]);
            let _ = program::run(&mut delete, call, "probe", MOST_SAID);
        }
        if let Ok(groups) = Cgroups::read() {
            groups.remove(&group);
        }
        let _ = fs::remove_dir_all(&bundle);
        let ran = ran?;
        if ran.status.success() {
            return Ok(version);
        }
        let code = i64::from(ran.status.code().unwrap_or(-1));
        Err(RuntimeError::Engine { engine: ENGINE.to_owned(), op: "run".to_owned(), code, message: said(&ran) })
    }
}

/// The bundle of a container that consists of the host's own programs.
pub(super) fn write_bundle(bundle: &Path, root: &Path, group: &str, args: &[&str]) -> RtResult<()> {
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc"}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]}),
    ];
    let bind = |folder| json!({"destination": folder, "type": "bind", "source": folder, "options": ["rbind", "ro"]});
    mounts.extend(tiny::programs().map(bind));
    let namespaces: Vec<_> =
        ["pid", "ipc", "uts", "mount", "network"].iter().map(|kind| json!({ "type": kind })).collect();
    let spec = json!({
        "ociVersion": "1.0.2",
        "process": {"args": args, "cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["PATH=/usr/bin:/bin"]},
        "root": {"path": root, "readonly": false},
        "mounts": mounts,
        "linux": {"namespaces": namespaces, "cgroupsPath": group},
    });
    let written = fs::create_dir(bundle).and_then(|()| fs::write(bundle.join("config.json"), spec.to_string()));
    written.map_err(|error| crate::runtime::shared::durable::kept("writing", bundle, &error))
}

impl Known {
    fn holds(&self) -> bool {
        match &self.outcome {
            Ok((programs, _)) => programs.changed == [changed(&programs.runtime), changed(&programs.conmon)],
            Err(_) => self.at.elapsed() < PATIENCE,
        }
    }

    fn probe(&self) -> Probe {
        match &self.outcome {
            Ok((_, version)) => Probe::Available { version: version.clone(), api: "1.0.2".to_owned() },
            Err(reason) => Probe::Unavailable { reason: reason.clone() },
        }
    }
}
