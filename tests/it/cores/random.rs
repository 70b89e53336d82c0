//! Random starts, stops, kills and deaths of the daemon: never are two workloads on one exclusive CPU.

use actioncontroller::proto::actions::Verb;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Rig, cpus_of, on_target, set, tree};

/// Steps of one run.
const STEPS: usize = 40;

/// A generator whose numbers are the same in each run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// The processes of a workload that runs.
fn running(rig: &Rig, name: &str) -> Vec<i32> {
    let found = rig.daemon.workloads().get_workload(&super::named(name), super::options());
    let pids = found.map(|found| found.containers.iter().map(|container| container.pid).collect::<Vec<_>>());
    pids.unwrap_or_default().into_iter().filter(|pid| *pid > 0).flat_map(tree).collect()
}

#[test]
fn exclusive_cpus_never_overlap_whatever_happens() {
    let (mut rig, mut numbers) = (Rig::on_oci(), Numbers(0x2545_F491_4F6C_DD1D));
    let names = ["a", "b", "c"];
    let mut done = Vec::new();
    for step in 0..STEPS {
        let name = names[usize::try_from(numbers.below(3)).unwrap()];
        // The third never asks for any.
        let wanted: &[_] = if name == "c" { &[] } else { &[("exclusive-cpu-count", "1")] };
        let (what, went_well) = match numbers.below(8) {
            0..=2 => ("launch", rig.daemon.execute(rig.asking(name, wanted)).is_ok()),
            3 => ("stop", rig.daemon.execute(on_target(Verb::VERB_STOP, name)).is_ok()),
            4 => ("restart", rig.daemon.execute(on_target(Verb::VERB_RESTART, name)).is_ok()),
            5 => ("terminate", rig.daemon.execute(on_target(Verb::VERB_TERMINATE, name)).is_ok()),
            6 => {
                let pids = running(&rig, name);
                if let Some(pid) = pids.first() {
                    let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
                }
                ("kill -9", !pids.is_empty())
            }
            _ => {
                rig.kill_and_start_again();
                ("death of the daemon", true)
            }
        };
        done.push(format!("{step}: {what} {name}: {went_well}"));
        let holder = rig.holder();
        for name in names {
            let pids = running(&rig, name);
            let cpus = cpus_of(&pids);
            let is_holder = holder == name;
            // Who has ended meanwhile runs nowhere; who was freed meanwhile is not looked at.
            if pids.is_empty() || cpus.is_empty() || rig.holder() != holder {
                continue;
            }
            if !holder.is_empty() {
                let wanted = if is_holder { "1" } else { "0" };
                let is_so = || cpus_of(&running(&rig, name)) == set(wanted) || rig.holder() != holder;
                crate::support::wait::until(&format!("{name} on {wanted} after {done:#?}"), super::LIMIT, || {
                    is_so().then_some(())
                });
            }
        }
    }
    assert!(done.iter().any(|line| line.ends_with("launch a: true") || line.ends_with("launch b: true")), "{done:#?}");
    assert!(done.iter().any(|line| line.contains("launch") && line.ends_with("false")), "{done:#?}");
}
