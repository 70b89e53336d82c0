//! The list of cases, and the run of them over one engine.

use std::collections::BTreeSet;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use actioncontroller::runtime::adapter::RuntimeCapabilities;

use super::subject::Subject;
use super::{events, hibernating, images, lifecycle, observe, ownership, pausing, settings, stopping};

/// One thing that every engine does alike.
pub struct Case {
    /// What holds, as a sentence.
    pub name: &'static str,
    /// Whether the engine has what it is about.
    pub needs: fn(&RuntimeCapabilities, &Subject) -> bool,
    /// Panics where it does not hold.
    pub run: fn(&Subject),
}

/// A case that every engine has to pass.
pub const fn case(name: &'static str, run: fn(&Subject)) -> Case {
    Case { name, needs: |_, _| true, run }
}

/// A case for engines that have an ability.
pub const fn with(needs: fn(&RuntimeCapabilities, &Subject) -> bool, name: &'static str, run: fn(&Subject)) -> Case {
    Case { name, needs, run }
}

/// Every case.
pub fn cases() -> impl Iterator<Item = &'static Case> {
    let all = [
        lifecycle::CASES,
        stopping::CASES,
        pausing::CASES,
        hibernating::CASES,
        observe::CASES,
        events::CASES,
        images::CASES,
        ownership::CASES,
        settings::CASES,
    ];
    all.into_iter().flatten()
}

/// How one case goes: `ok`, `FAIL` or `n.a.`.
fn outcome(case: &Case, capabilities: &RuntimeCapabilities, subject: &Subject) -> &'static str {
    if !(case.needs)(capabilities, subject) {
        return "n.a.";
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| (case.run)(subject)));
    subject.clean();
    if outcome.is_ok() { "ok" } else { "FAIL" }
}

/// How the case of this name goes.
pub fn outcome_of(name: &str, subject: &Subject) -> &'static str {
    let case = cases().find(|case| case.name == name).unwrap_or_else(|| panic!("no case is called {name}"));
    outcome(case, &subject.adapter.capabilities(), subject)
}

/// Runs every case, prints how each went, and panics where one failed, or where one does not apply to the engine
/// though it is not among `not_applicable`, or the other way round.
pub fn run(subject: &Subject, not_applicable: &[&str]) {
    run_as(subject.adapter.name(), subject, not_applicable);
}

/// The same, told under this name.
pub fn run_as(engine: &str, subject: &Subject, not_applicable: &[&str]) {
    let capabilities = subject.adapter.capabilities();
    let (mut table, mut wrong, mut names) = (String::new(), Vec::new(), BTreeSet::new());
    for case in cases() {
        assert!(names.insert(case.name), "two cases are called {}", case.name);
        let result = outcome(case, &capabilities, subject);
        let may_be_absent = not_applicable.contains(&case.name);
        if result == "FAIL" || (result == "n.a.") != may_be_absent {
            wrong.push(format!("{} ({result})", case.name));
        }
        table.push_str(&format!("{engine:10} {result:4} {}\n", case.name));
    }
    let _ = std::fs::remove_dir_all(std::env::temp_dir().join(format!("ac-conformance-{}", std::process::id())));
    std::io::stdout().write_all(table.as_bytes()).unwrap();
    assert!(
        wrong.is_empty(),
        "{engine}: {} of {} cases are not as they should be: {wrong:#?}",
        wrong.len(),
        names.len()
    );
}
