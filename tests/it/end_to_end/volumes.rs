//! Volumes: of the host, of the workload, and such as outlive it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use actioncontroller::proto::actions::Verb;

use super::{RUNS, Rig, entry, one, pod};
use crate::support::daemon::launch;

// req: AC-17, LS-01
#[test]
fn each_kind_of_volume_holds_what_is_written_as_long_as_it_should() {
    let rig = Rig::new();
    let (made, here) = (rig.daemon.path("made"), rig.daemon.path("here"));
    fs::create_dir(&here).unwrap();
    fs::write(here.join("f"), "of the host").unwrap();
    let mounts = ", volumeMounts: [{name: made, mountPath: /made}, {name: here, mountPath: /here, readOnly: true}, \
        {name: disk, mountPath: /disk}, {name: memory, mountPath: /memory}, {name: kept, mountPath: /kept}]";
    let volumes = format!(
        "volumes:\n- {{name: made, hostPath: {{path: '{}', type: DirectoryOrCreate}}}}\n\
         - {{name: here, hostPath: {{path: '{}', type: Directory}}}}\n\
         - {{name: disk, emptyDir: {{}}}}\n- {{name: memory, emptyDir: {{medium: Memory, sizeLimit: 1Mi}}}}\n\
         - {{name: kept, persistentVolumeClaim: {{claimName: lasting}}}}\n",
        made.display(),
        here.display()
    );
    let spec = format!("containers:\n{}{}{volumes}", entry("a", RUNS, mounts), entry("b", RUNS, mounts));
    rig.launch(&pod("w", &spec));
    assert_eq!(fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o755);
    let script = "echo m > /made/x; echo d > /disk/x; echo e > /memory/x; echo k > /kept/x; cat /here/f; \
        touch /here/g 2>&1";
    assert_eq!(rig.shell("w", "a", script), "of the hosttouch: /here/g: Read-only file system");
    assert_eq!(rig.shell("w", "b", "cat /made/x /disk/x /memory/x /kept/x"), "m\nd\ne\nk");
    assert_eq!(
        rig.shell("w", "a", "grep ' /memory ' /proc/mounts | cut -d' ' -f3; df -k /memory | awk 'END {print $2}'"),
        "tmpfs\n1024"
    );
    assert_eq!(rig.everything().volumes.len(), 3);
    assert_eq!(fs::read_to_string(made.join("x")).unwrap(), "m\n");

    rig.verb(Verb::VERB_RESTART, "w");
    assert_eq!(rig.shell("w", "b", "cat /disk/x"), "d", "it lasts as long as the workload");
    rig.verb(Verb::VERB_TERMINATE, "w");
    let left = rig.everything();
    assert_eq!((left.volumes.as_slice(), left.containers.len()), (&["lasting".to_owned()][..], 0), "{left:?}");
    assert!(made.join("x").exists() && here.join("f").exists());
    // The next one finds what was kept, and nothing of what was the first one's own.
    rig.launch(&pod("w", &spec));
    assert_eq!(rig.shell("w", "a", "cat /kept/x; ls /disk /memory"), "k\n/disk:\n\n/memory:");
}

#[test]
fn failed_launch_takes_back_the_folders_that_it_made_and_no_others() {
    let rig = Rig::new();
    let (made, here) = (rig.daemon.path("made"), rig.daemon.path("here"));
    fs::create_dir(&here).unwrap();
    let mounts = ", volumeMounts: [{name: made, mountPath: /made}, {name: here, mountPath: /here}, \
        {name: kept, mountPath: /kept}]";
    let kind = "type: DirectoryOrCreate";
    let volumes = format!(
        "volumes:\n- {{name: made, hostPath: {{path: '{}', {kind}}}}}\n\
         - {{name: here, hostPath: {{path: '{}', {kind}}}}}\n\
         - {{name: kept, persistentVolumeClaim: {{claimName: lasting}}}}\n",
        made.display(),
        here.display()
    );
    let containers =
        format!("initContainers:\n{}containers:\n{}", entry("i", "exit 1", mounts), entry("a", RUNS, mounts));
    let spec = format!("{containers}{volumes}");
    rig.server.run(&["volume", "create", "--label", "actioncontroller.io/node=test", "lasting"]);
    let failed = rig.fails(launch(&pod("w", &spec)));
    assert!(failed.outcome.unwrap().left.is_empty());
    assert!(!made.exists());
    assert!(here.exists(), "it was there before");
    assert_eq!(rig.everything().volumes, ["lasting"], "what is kept is not taken back");
}

#[test]
fn path_that_is_not_what_the_document_says_fails_the_launch_and_names_it() {
    let rig = Rig::new();
    let path = rig.daemon.path("file");
    fs::write(&path, "x").unwrap();
    let mount = ", volumeMounts: [{name: v, mountPath: /v}]";
    let volume = format!("volumes: [{{name: v, hostPath: {{path: '{}', type: Directory}}}}]\n", path.display());
    let document = format!("{}  {volume}", one("w", RUNS, mount));
    let failed = rig.fails(launch(&document));
    assert!(failed.error.message.contains(&path.display().to_string()), "{failed:?}");
    assert!(failed.error.message.contains("no directory"), "{failed:?}");
    rig.assert_nothing_left();
    assert!(path.exists());
}
