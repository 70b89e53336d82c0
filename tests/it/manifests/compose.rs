//! Docker Compose through the real daemon.

use actioncontroller::proto::actions::{ActionSpec, Outcome, Verb};
use serde_json::json;

use super::{created, launched, on_engine, refusal, warning};
use crate::support::daemon::{DaemonProcess, launch, on_target};

const SHOP: &str = include_str!("../../fixtures/compose.yaml");

/// Where the first step of this title is among those of the outcome.
#[track_caller]
fn place(outcome: &Outcome, title: &str) -> usize {
    let titles: Vec<&str> = outcome.steps.iter().map(|step| step.title.as_str()).collect();
    titles.iter().position(|found| *found == title).unwrap_or_else(|| panic!("no '{title}' in {titles:?}"))
}

// req: BM-03
#[test]
fn project_starts_in_the_order_of_its_needs_and_ends_in_reverse() {
    let daemon = DaemonProcess::on_sim();
    let done = launched(&daemon, SHOP);
    assert_eq!(done.target, "shop");
    assert_eq!(done.workloads.len(), 4);
    let order = ["start shop-migrate_migrate", "start shop-store_store", "start shop-web-1_web"];
    let places: Vec<usize> = order.iter().map(|title| place(&done, title)).collect();
    assert!(places.is_sorted(), "{places:?}");
    let ended =
        done.steps.iter().find(|step| step.title.contains("shop-migrate_migrate") && step.title.contains("await"));
    assert!(ended.is_some(), "{:?}", done.steps);
    assert_eq!(warning(&done, "services.web.healthcheck").line, 18);
    let web = created(&daemon, "shop-web-2_web");
    assert_eq!(web["network"], json!({"mode": "named", "networks": ["shop_default", "shop_back"]}));
    assert_eq!((&web["aliases"], &web["spec"]["env"][0]["value"]), (&json!(["web", "front"]), &json!("green")));
    assert_eq!(created(&daemon, "shop-store_store")["mounts"][0]["source"]["volume"][0], "shop_data");

    let stopped = daemon.execute(on_target(Verb::VERB_STOP, "shop")).unwrap();
    assert!(place(&stopped, "stop shop-web-1_web") < place(&stopped, "stop shop-store_store"), "{:?}", stopped.steps);
    let started = daemon.execute(on_target(Verb::VERB_START, "shop")).unwrap();
    assert!(place(&started, "start shop-store_store") < place(&started, "start shop-web-1_web"));
    let ended = daemon.execute(on_target(Verb::VERB_TERMINATE, "shop")).unwrap();
    let network = ended.steps.iter().filter(|step| step.title.contains("network")).count();
    assert_eq!(network, 2, "{:?}", ended.steps);
    assert!(on_engine(&daemon).is_empty());
    // Kept under its name, like any other document.
    assert!(daemon.execute(on_target(Verb::VERB_LAUNCH, "shop")).unwrap().changed);
}

#[test]
fn project_that_is_given_again_is_unchanged_and_a_changed_one_takes_an_update() {
    let daemon = DaemonProcess::on_sim();
    let text = SHOP.replace("    command: sh -c 'exit 0'\n", "    command: sleep 1000\n").replace(
        "      migrate: {condition: service_completed_successfully}",
        "      migrate: {condition: service_started}",
    );
    launched(&daemon, &text);
    assert!(!launched(&daemon, &text).changed);
    let changed = text.replace("${COLOUR:-green}", "red");
    let (_, refused) = refusal(daemon.launch(&changed));
    assert_eq!(refused.error.code, "WORKLOAD_DIFFERS");
    let update = ActionSpec { verb: Verb::VERB_UPDATE.into(), ..launch(&changed) };
    let done = daemon.execute(update).unwrap();
    assert!(done.steps.iter().all(|step| !step.title.contains("shop-store_")), "{:?}", done.steps);
    assert_eq!(created(&daemon, "shop-web-1_web")["spec"]["env"][0]["value"], "red");
    // A service that is gone from the document is not left to itself.
    let fewer = changed.replace("replicas: 2", "replicas: 1");
    let (_, refused) = refusal(daemon.launch(&fewer));
    assert!(refused.error.message.contains("the document has it no more"), "{:?}", refused.error);
}

#[test]
fn first_failure_takes_down_what_was_started() {
    let daemon = DaemonProcess::on_sim();
    let (_, failed) = refusal(daemon.launch(&SHOP.replace("'exit 0'", "'exit 3'")));
    assert_eq!(failed.error.code, "CONTAINER_EXITED", "{:?}", failed.error);
    assert!(on_engine(&daemon).is_empty());
}

#[test]
fn project_without_a_name_takes_that_of_its_target_and_what_it_cannot_is_refused_with_its_place() {
    let daemon = DaemonProcess::on_sim();
    let nameless = SHOP.replace("name: shop\n", "");
    let (_, refused) = refusal(daemon.launch(&nameless));
    assert_eq!(refused.error.field, "name");
    let done = daemon.execute(ActionSpec { target: "corner".to_owned(), ..launch(&nameless) }).unwrap();
    assert_eq!((done.target.as_str(), done.workloads[0].name.as_str()), ("corner", "corner-migrate"));
    let (_, refused) = refusal(daemon.launch(&SHOP.replace("    expose: [\"80\"]\n", "    build: .\n")));
    assert_eq!(
        (refused.error.code.as_str(), refused.error.field.as_str()),
        ("UNSUPPORTED_FIELD", "services.web.build")
    );
    assert!(refused.error.message.contains("line 13"), "{}", refused.error.message);
}
