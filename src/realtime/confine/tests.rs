//! Scenes on machines in folders, of both versions of control groups, whose files behave as the kernel's do.

use std::sync::Arc;

use super::*;

fn set(text: &str) -> CpuSet {
    text.parse().unwrap()
}

fn error(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

/// A machine of four CPUs in a folder.
struct Fake {
    dir: tempfile::TempDir,
    is_unified: bool,
}

impl Fake {
    fn new(is_unified: bool) -> Arc<Self> {
        let fake = Arc::new(Self { dir: tempfile::tempdir().unwrap(), is_unified });
        fs::create_dir_all(fake.group("/")).unwrap();
        fs::create_dir(fake.dir.path().join("proc")).unwrap();
        let files = if is_unified { ["cpuset.cpus.effective"; 2] } else { [CPUS, "cpuset.effective_cpus"] };
        files.iter().for_each(|file| fs::write(fake.group("/").join(file), "0-3\n").unwrap());
        fake
    }

    fn machine(self: &Arc<Self>) -> Machine {
        let kind = if self.is_unified { "cgroup2 rw" } else { "cgroup rw,cpuset" };
        let groups = Cgroups::of(&format!("c {} {kind} 0 0\n", self.group("/").display()));
        let (devices, proc) = (self.dir.path().join("sys"), self.dir.path().join("proc"));
        Machine { devices, proc, groups: Some(groups), kernel: Box::new(Arc::clone(self)), own: 10 }
    }

    fn group(&self, path: &str) -> PathBuf {
        self.dir.path().join("groups").join(path.trim_start_matches('/'))
    }

    fn make_group(&self, path: &str) {
        let dir = self.group(path);
        if dir.exists() {
            return;
        }
        let parent = dir.parent().unwrap().to_owned();
        let (name, _) = path.rsplit_once('/').unwrap();
        self.make_group(if name.is_empty() { "/" } else { name });
        fs::create_dir(&dir).unwrap();
        if self.is_unified {
            fs::write(dir.join(CPUS), "\n").unwrap();
            fs::write(dir.join("cpuset.cpus.effective"), self.effective(&parent).to_string()).unwrap();
        } else {
            let cpus = self.effective(&parent).to_string();
            [CPUS, "cpuset.effective_cpus"].iter().for_each(|file| fs::write(dir.join(file), &cpus).unwrap());
        }
    }

    fn effective(&self, dir: &Path) -> CpuSet {
        let file = if self.is_unified { "cpuset.cpus.effective" } else { "cpuset.effective_cpus" };
        Group::read(dir, file).unwrap()
    }

    /// A process with two threads in a group; the mask is what it was given before it came there.
    fn run(&self, pid: i32, parent: i32, name: &str, group: &str, mask: &str) {
        self.make_group(group);
        let folder = self.dir.path().join(format!("proc/{pid}"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("stat"), format!("{pid} ({name}) S {parent} 1 1 0 -1 4194560 0\n")).unwrap();
        let line = if self.is_unified { format!("0::{group}\n") } else { format!("3:cpuset:{group}\n0::/\n") };
        fs::write(folder.join("cgroup"), line).unwrap();
        for thread in [pid, pid + 1000] {
            let folder = folder.join(format!("task/{thread}"));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("mask"), mask).unwrap();
        }
        self.update(&self.group(group));
    }

    /// What the kernel makes of masks and groups: nobody is left without a CPU.
    fn update(&self, changed: &Path) {
        for pid in fs::read_dir(self.dir.path().join("proc")).unwrap().flatten() {
            let line = fs::read_to_string(pid.path().join("cgroup")).unwrap();
            let path = line.lines().next().unwrap().rsplit_once(':').unwrap().1.to_owned();
            if !self.group(&path).starts_with(changed) {
                continue;
            }
            let effective = self.effective(&self.group(&path));
            for thread in fs::read_dir(pid.path().join("task")).unwrap().flatten() {
                let mask: CpuSet = fs::read_to_string(thread.path().join("mask")).unwrap().parse().unwrap();
                let both = mask.within(&effective);
                let allowed = if both.is_empty() { effective.clone() } else { both };
                fs::write(thread.path().join("status"), format!("Name:\tx\nCpus_allowed_list:\t{allowed}\n")).unwrap();
            }
        }
    }

    fn allowed(&self, pid: i32) -> String {
        let threads = census::threads(&self.dir.path().join("proc"), pid);
        let allowed: BTreeSet<_> = threads.iter().map(|(_, folder)| census::allowed(folder).unwrap()).collect();
        assert_eq!(allowed.len(), 1, "all threads of {pid}: {allowed:?}");
        allowed.first().unwrap().to_string()
    }

    fn spread(&self, dir: &Path) {
        for (folder, own) in below(dir) {
            let parent = self.effective(dir);
            let both = own.within(&parent);
            let effective = if both.is_empty() { parent } else { both };
            fs::write(folder.join("cpuset.cpus.effective"), effective.to_string()).unwrap();
            self.spread(&folder);
        }
    }
}

impl Kernel for Arc<Fake> {
    fn write(&self, file: &Path, text: &str) -> io::Result<()> {
        let (dir, cpus) = (file.parent().unwrap(), set(text));
        if self.is_unified {
            fs::write(file, text)?;
            self.spread(dir.parent().unwrap());
        } else {
            if cpus.is_empty() {
                return Err(error(nix::libc::ENOSPC));
            }
            if !cpus.is_within(&self.effective(dir.parent().unwrap())) {
                return Err(error(nix::libc::EACCES));
            }
            if below(dir).iter().any(|(_, below)| !below.is_within(&cpus)) {
                return Err(error(nix::libc::EBUSY));
            }
            fs::write(file, text)?;
            fs::write(dir.join("cpuset.effective_cpus"), text)?;
        }
        self.update(dir);
        Ok(())
    }

    fn set_affinity(&self, thread: i32, cpus: &CpuSet) -> io::Result<()> {
        let folder = self.dir.path().join(format!("proc/{}/task/{thread}", thread % 1000));
        let line = fs::read_to_string(folder.join("../../cgroup"))?;
        let path = line.lines().next().unwrap().rsplit_once(':').unwrap().1.to_owned();
        let group = self.group(&path);
        if !cpus.meets(&self.effective(&group)) {
            return Err(error(nix::libc::EINVAL));
        }
        fs::write(folder.join("mask"), cpus.to_string())?;
        self.update(&group);
        Ok(())
    }
}

fn occupant(workload: &str, pid: i32, group: &str) -> Occupant {
    Occupant { workload: workload.into(), container: format!("{workload}_c"), pid, group: group.into() }
}

/// The scene of some holdings on four CPUs.
fn scene(occupants: &[Occupant], holdings: &[(&str, &str)], withheld: &str) -> Scene {
    let holdings: BTreeMap<_, _> = holdings.iter().map(|(workload, cpus)| ((*workload).into(), set(cpus))).collect();
    let exclusive = holdings.values().fold(CpuSet::new(), |all, cpus| all.and(cpus));
    let withheld = set(withheld).and(&exclusive);
    let (occupants, online) = (occupants.to_vec(), set("0-3"));
    Scene { occupants, holdings, exclusive, withheld, online, fresh: BTreeSet::new() }
}

#[test]
fn holder_gets_its_cpus_and_everybody_else_leaves_and_comes_back() {
    for is_unified in [false, true] {
        let fake = Fake::new(is_unified);
        let machine = fake.machine();
        fake.run(10, 1, "actioncontroll", "/", "0-3");
        fake.run(20, 1, "conmon", "/", "0-3");
        fake.run(21, 20, "holder", "/engine/a", "0-3");
        fake.run(30, 1, "conmon", "/", "0-3");
        fake.run(31, 30, "other", "/engine/b", "0-3");
        fake.run(32, 31, "within", "/engine/b/below", "0-3");
        fake.run(33, 31, "choosy", "/engine/b", "1");
        fake.run(40, 1, "sshd", "/", "0-3");
        let occupants = [occupant("a", 21, "/engine/a"), occupant("b", 31, "/engine/b")];
        let of = |pids: &[i32]| pids.iter().map(|pid| fake.allowed(*pid)).collect::<Vec<_>>();
        let taken = scene(&occupants, &[("a", "2-3")], "");
        assert_eq!(machine.settle(&taken), Problems::new());
        assert_eq!(of(&[21, 31, 32, 33, 10, 20, 30]), ["2-3", "0-1", "0-1", "1", "0-1", "0-1", "0-1"], "{is_unified}");
        assert_eq!(fake.allowed(40), "0-3", "foreign processes are let be");
        let foreign = machine.foreign(&taken);
        assert_eq!(foreign, [Foreign { pid: 40, name: "sshd".into(), cpus: set("2-3") }]);
        // One of the two is freed, and later the other.
        assert_eq!(machine.settle(&scene(&occupants, &[("a", "3")], "2-3")), Problems::new());
        assert_eq!(of(&[21, 31, 32, 33, 10, 20]), ["3", "0-2", "0-2", "1", "0-2", "0-2"], "{is_unified}");
        assert_eq!(machine.settle(&scene(&occupants, &[], "3")), Problems::new());
        assert_eq!(of(&[21, 31, 32, 33, 10, 20]), ["0-3", "0-3", "0-3", "1", "0-3", "0-3"], "{is_unified}");
    }
}

#[test]
fn mask_of_an_ancestor_is_no_wish_of_what_was_just_started() {
    for is_unified in [false, true] {
        let fake = Fake::new(is_unified);
        fake.run(21, 1, "holder", "/a", "0-2");
        let occupants = [occupant("a", 21, "/a")];
        let mut taken = scene(&occupants, &[("a", "2-3")], "");
        assert_eq!(fake.machine().settle(&taken), Problems::new());
        assert_eq!(fake.allowed(21), "2", "a mask of its own may be less than what it holds");
        taken.fresh.insert("a_c".into());
        assert_eq!(fake.machine().settle(&taken), Problems::new());
        assert_eq!(fake.allowed(21), "2-3");
    }
}

#[test]
fn without_a_cpuset_threads_are_told_alone() {
    let fake = Fake::new(true);
    fake.run(10, 1, "actioncontroll", "/", "0-3");
    fake.run(21, 1, "holder", "/", "0-3");
    fake.run(22, 21, "child", "/", "0-3");
    fake.run(31, 1, "other", "/", "0-3");
    // Their groups are not told, and the root is nobody's own.
    let occupants = [occupant("a", 21, ""), occupant("b", 99, "/")];
    assert_eq!(fake.machine().settle(&scene(&occupants[..1], &[("a", "1")], "")), Problems::new());
    assert_eq!([21, 22, 10, 31].map(|pid| fake.allowed(pid)), ["1", "1", "0,2-3", "0-3"]);
    let problems = fake.machine().settle(&scene(&occupants, &[("b", "1")], ""));
    assert_eq!(problems, [("b".into(), "container 'b_c' has no process on this machine".into())].into());
}

#[test]
fn what_the_group_above_does_not_have_is_a_problem_that_is_named() {
    for is_unified in [false, true] {
        let fake = Fake::new(is_unified);
        fake.make_group("/engine");
        Arc::clone(&fake).write(&fake.group("/engine").join(CPUS), "0-1").unwrap();
        fake.run(21, 1, "holder", "/engine/a", "0-3");
        let problems = fake.machine().settle(&scene(&[occupant("a", 21, "/engine/a")], &[("a", "2-3")], ""));
        assert!(problems["a"].contains("cpuset.cpus") || problems["a"].contains("thread"), "{is_unified} {problems:?}");
        assert_eq!(fake.allowed(21), "0-1");
    }
}

#[test]
fn holders_change_places_with_those_who_had_their_cpus() {
    for is_unified in [false, true] {
        let fake = Fake::new(is_unified);
        fake.run(21, 1, "first", "/a", "0-3");
        fake.run(22, 21, "below", "/a/below", "0-3");
        fake.run(31, 1, "second", "/b", "0-3");
        let occupants = [occupant("a", 21, "/a"), occupant("b", 31, "/b")];
        let settle = |holdings: &[(&str, &str)], withheld: &str| {
            assert_eq!(fake.machine().settle(&scene(&occupants, holdings, withheld)), Problems::new());
            [21, 22, 31].map(|pid| fake.allowed(pid))
        };
        assert_eq!(settle(&[("a", "1"), ("b", "2")], ""), ["1", "1", "2"]);
        assert_eq!(settle(&[("a", "2"), ("b", "1")], "1-2"), ["2", "2", "1"]);
        // Who has nothing any more has none of what was somebody's alone.
        assert_eq!(settle(&[("b", "2-3")], "1-2"), ["0-1", "0-1", "2-3"]);
    }
}
