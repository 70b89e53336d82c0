//! Limits of what runs.

use super::*;
use crate::model::resources::Resources;

#[test]
fn scale_changes_limits_of_what_runs_and_names_what_it_cannot() {
    let change = Resources { memory_bytes: Some(64), ..Resources::default() };
    let of = |containers: &[&str]| Parameters {
        resources: change.clone(),
        containers: containers.iter().map(|name| (*name).to_owned()).collect(),
        ..Parameters::default()
    };
    let mut view = known("w", RUNNING, ContainerStatus::Paused);
    let record = view.record.as_mut().unwrap();
    record.spec.containers[0].resources = Resources { pids: Some(9), ..Resources::default() };
    record.scaled = [("a".to_owned(), Resources { memory_bytes: Some(32), ..Resources::default() })].into();
    let limits = record.limits("a");
    assert_eq!(limits, Resources { memory_bytes: Some(32), pids: Some(9), ..Resources::default() });
    view.in_force = [("w_a".to_owned(), limits.clone())].into();
    let all = planned(Verb::Scale, &of(&[]), std::slice::from_ref(&view)).unwrap();
    assert_eq!(titles(&all.steps), ["limit w_a to memory_bytes 64", "limit w_b to memory_bytes 64"]);
    let StepOp::Resize { before, .. } = &all.steps[0].op else { panic!("{:?}", all.steps[0]) };
    assert_eq!(*before, limits);
    let one = planned(Verb::Scale, &of(&["b"]), std::slice::from_ref(&view)).unwrap();
    assert_eq!(titles(&one.steps), ["limit w_b to memory_bytes 64"]);
    assert!(one.warnings.is_empty());
    let unrecorded = View { record: None, ..view.clone() };
    let warned = planned(Verb::Scale, &of(&["b"]), &[unrecorded]).unwrap();
    assert!(warned.warnings[0].message.contains("not recorded"), "{:?}", warned.warnings);
    let refused = |parameters: &Parameters, view: &View| {
        let error = planned(Verb::Scale, parameters, std::slice::from_ref(view)).unwrap_err();
        (error.kind, error.message)
    };
    let (kind, message) = refused(&of(&["c"]), &view);
    assert_eq!(kind, ErrorKind::InvalidArgument);
    assert!(message.contains("no container 'c'; it has a, b"), "{message}");
    assert_eq!(refused(&Parameters::default(), &view).0, ErrorKind::InvalidArgument);
    assert_eq!(refused(&of(&[]), &unknown("w")).0, ErrorKind::NotFound);
    let stopped = known("w", RUNNING, ContainerStatus::Exited { code: Some(0), oom: false });
    let (kind, message) = refused(&of(&[]), &stopped);
    assert_eq!(kind, ErrorKind::FailedPrecondition);
    assert!(message.contains("w_b"), "{message}");
}
