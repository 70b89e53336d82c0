//! systemd units.

use super::*;
use crate::model::cores::WantedCores;
use crate::model::workload::ManifestFormat;

const UNIT: &str = "# A lamp.\n[Unit]\nDescription=Lamp\n\n[Service]\nExecStart=/bin/lamp \\\n  --bright\n; so it is\n\
    Environment=A=b\n\n[X-ActionController]\nName=lamp\nNode=ZONE1\n\n[Install]\nWantedBy=multi-user.target\n";

#[test]
fn unit_is_a_workload_whose_container_is_its_text() {
    let spec = one(UNIT);
    assert_eq!((spec.name.as_str(), spec.node.as_str(), spec.format), ("lamp", "ZONE1", ManifestFormat::Unit));
    assert_eq!((spec.containers.len(), spec.containers[0].unit.as_str()), (1, UNIT));
    for section in ["[Container]\nImage=i\n", "[Kube]\nYaml=a.yaml\n", "\u{feff}\n[Service]\nType=oneshot\n"] {
        let named = Bundle::parse_named(section, "file", &Limits::default()).unwrap();
        assert_eq!(expand(&named, "file").unwrap().workloads[0].containers[0].unit, section);
    }
    let mut kept = bundle("");
    kept.add(Kind::Unit, "lamp", &stored(UNIT)).unwrap();
    assert_eq!(expand(&kept, "lamp").unwrap().workloads[0], spec);
}

#[test]
fn unit_says_which_cpus_it_has_alone() {
    let spec = one(&UNIT.replace("Name=lamp\n", "Name=lamp\nExclusiveCpus=2-3\nCoresMode=best-effort\n"));
    let cores = spec.cores.unwrap();
    assert_eq!(cores.wanted, WantedCores::Listed("2-3".parse().unwrap()));
    assert!(cores.best_effort && !cores.may_hibernate);
}

#[test]
fn malformed_units_are_refused_with_their_line() {
    for (text, line, words) in [
        ("[Service]\nExecStart\n", 2, "no KEY=VALUE"),
        ("[Service]\n=x\n", 2, "no key"),
        ("[Service]\nExec Start=x\n", 2, "no key"),
        ("[Unit]\nA=b\n[Serv\nX=1\n", 3, "no header"),
        ("[Service]\nA=b\n---\nkind: Pod\n", 3, "no KEY=VALUE"),
        ("[Service]\nA=b\\\n", 2, "goes on"),
        ("[Unit]\nDescription=x\n", 1, "none of the sections"),
        ("[Service]\nA=b\0\n", 2, "NUL"),
        ("[Service]\n[X-ActionController]\nNam=x\n", 3, "none of Name, Node, Transient, ExclusiveCpus"),
        ("[Service]\n[X-ActionController]\nTransient=maybe\n", 3, "'maybe' is neither yes nor no"),
        ("[Service]\n[X-ActionController]\nName=\n", 3, "empty"),
        ("[Service]\n[X-ActionController]\nName=a\nExclusiveCpus=2-\n", 4, "no CPU or range"),
        ("[Service]\n[X-ActionController]\nName=a\nExclusiveCpus=2\nExclusiveCpuCount=1\n", 5, "twice"),
        ("[Service]\n[X-ActionController]\nName=a\nCoresMode=required\n", 4, "neither"),
        ("[Service]\n[X-ActionController]\nName=a\nName=b\n", 4, "twice"),
        ("[Service]\n[X-ActionController]\nName=A_b\n", 3, "a-z"),
        ("[Service]\n[X-ActionController]\nName=a\nNode=-\n", 4, "letters"),
    ] {
        let error = refusal(text);
        assert_eq!((error.line, error.document.as_str()), (line, "Unit"), "{error}");
        assert!(error.message.contains(words), "{error}");
    }
    let error = refusal("[Service]\nExecStart=x\n");
    assert!(error.message.contains("no name") && error.hint.contains("Name="), "{error:?}");
    let long = format!("[Service]\nA={}\n", "x".repeat(4 * 1024 * 1024));
    assert_eq!(refusal(&long).kind, ManifestErrorKind::Limit);
}

proptest! {
    #[test]
    fn arbitrary_units_never_panic(text in "(\\[[A-Za-z-]{0,9}\\]?|[ -~]{0,20}|[;#=\\\\])(\n[ -~\\\\]{0,20}){0,8}") {
        let _ = Bundle::parse_named(&text, "u", &Limits::default());
    }
}
