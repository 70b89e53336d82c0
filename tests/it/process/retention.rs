//! Outcomes are kept as many as configured, and listed from the latest on.

use actioncontroller::proto::actions::{GetActionRequest, ListActionsRequest, Verb};

use crate::recovery::{LONG, must, sim, target, with_id};
use crate::support::daemon::{DaemonProcess, launch, options, pod};
use crate::support::wait::until;

/// The ids of ended actions, in pages of this size.
fn ids(daemon: &DaemonProcess, page_size: u32) -> Vec<String> {
    let client = daemon.actions();
    let (mut ids, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListActionsRequest { page_size, page_token, ..ListActionsRequest::default() };
        let page = client.list_actions(&request, options()).unwrap();
        assert!(page.actions.len() <= page_size as usize);
        ids.extend(page.actions.into_iter().map(|action| action.action_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return ids;
        }
    }
}

#[test]
fn outcomes_beyond_the_configured_number_go_the_oldest_first() {
    let mut daemon = DaemonProcess::start(|folder| format!("{}actions: {{keep_outcomes: 5}}\n", sim(folder, 0, "")));
    must(&daemon, with_id(launch(&pod("w", "localhost/busybox:1", "sleep 1000")), "a00"));
    for number in 1..=20 {
        let verb = if number % 2 == 1 { Verb::VERB_STOP } else { Verb::VERB_START };
        must(&daemon, with_id(target(verb, "w"), &format!("a{number:02}")));
    }
    let latest = ["a20", "a19", "a18", "a17", "a16"];
    until("five are kept", LONG, || (ids(&daemon, 100) == latest).then_some(()));
    for page_size in [1, 2, 3, 5] {
        assert_eq!(ids(&daemon, page_size), latest);
    }
    let request = GetActionRequest { action_id: "a15".to_owned(), ..GetActionRequest::default() };
    assert!(daemon.actions().get_action(&request, options()).is_err());
    assert!(daemon.terminate().success());
    daemon.start_again();
    assert_eq!(ids(&daemon, 100), latest);
    // Its outcome is forgotten: the id is new.
    must(&daemon, with_id(target(Verb::VERB_STOP, "w"), "a01"));
    until("the next oldest went", LONG, || (ids(&daemon, 100) == ["a01", "a20", "a19", "a18", "a17"]).then_some(()));
}
