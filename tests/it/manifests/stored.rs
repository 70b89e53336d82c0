//! Documents that were launched once are kept, and launched again by name alone.

use actioncontroller::proto::actions::{ActionSpec, Verb};
use grpcio::RpcStatusCode;

use super::{PULLPIRI, created, launched, pod, refusal, without_schedule};
use crate::support::daemon::{DaemonProcess, launch, on_target, with_sim};

fn by_name(target: &str) -> ActionSpec {
    on_target(Verb::VERB_LAUNCH, target)
}

fn end(daemon: &DaemonProcess, target: &str) {
    let ended = daemon.execute(on_target(Verb::VERB_TERMINATE, target)).unwrap();
    assert!(ended.changed, "{ended:?}");
}

#[test]
fn scenario_package_and_model_are_launched_again_by_their_names() {
    let settings = "security: {host_paths: [{path: /var/lib/lane}]}\n";
    let mut daemon = DaemonProcess::start(|folder| format!("{}{settings}", with_sim(folder)));
    daemon.execute(without_schedule(launch(PULLPIRI))).unwrap();
    let first = created(&daemon, "lane-core_core")["spec"].clone();
    end(&daemon, "lane-keep");
    for target in ["lane-keep", "lane-keep-pkg", "lane-core"] {
        // What a Package gives up is given up by each launch.
        if target != "lane-core" {
            let (_, refused) = refusal(daemon.execute(by_name(target)));
            assert_eq!(refused.error.field, "spec.schedule");
        }
        let done = daemon.execute(without_schedule(by_name(target))).unwrap();
        assert!(done.changed);
        assert_eq!((done.target.as_str(), done.workloads[0].name.as_str()), (target, "lane-core"));
        assert_eq!(created(&daemon, "lane-core_core")["spec"], first);
        end(&daemon, target);
        // They outlive the daemon too.
        assert!(daemon.terminate().success());
        daemon.start_again();
    }
}

#[test]
fn pod_is_launched_again_by_its_name_as_it_was_last_given() {
    let daemon = DaemonProcess::on_sim();
    let text = |value: &str| pod("web", &format!(", env: [{{name: COLOUR, value: {value}}}]"), "");
    launched(&daemon, &text("red"));
    end(&daemon, "web");
    launched(&daemon, &text("green"));
    end(&daemon, "web");
    assert!(daemon.execute(by_name("web")).unwrap().changed);
    assert_eq!(created(&daemon, "web_main")["spec"]["env"][0]["value"], "green");
}

#[test]
fn name_that_is_nowhere_is_not_found() {
    let daemon = DaemonProcess::on_sim();
    let (code, refused) = refusal(daemon.execute(by_name("nothing")));
    assert_eq!((code, refused.error.code.as_str()), (RpcStatusCode::NOT_FOUND, "WORKLOAD_NOT_FOUND"));
    assert!(refused.error.message.contains("'nothing'") && !refused.error.hint.is_empty(), "{:?}", refused.error);
    // A document that another one names has to be there as well, and is told by the place that names it.
    let parts: Vec<&str> = PULLPIRI.split_inclusive("---\n").collect();
    let (_, refused) = refusal(daemon.execute(without_schedule(launch(&parts[..2].concat()))));
    assert_eq!(
        (refused.error.code.as_str(), refused.error.field.as_str()),
        ("DOCUMENT_NOT_FOUND", "spec.models[0].name")
    );
}
