//! Requirements and their tests: every claimed ID has a test that says so, and no test proves what is not claimed.

use std::collections::{BTreeMap, BTreeSet};

use super::files::{read, written_rust};

/// Starts the comment at a test. Put together here, so that this file holds none.
const MARK: &str = concat!("// ", "req: ");

fn claimed() -> Vec<String> {
    let list = read("tests/requirements.txt");
    list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// IDs with the places that prove them.
fn proved() -> BTreeMap<String, Vec<String>> {
    let mut proved: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in written_rust() {
        for (index, line) in read(&path).lines().enumerate() {
            let Some((_, ids)) = line.split_once(MARK) else { continue };
            for id in ids.split([',', ' ']).filter(|id| !id.is_empty()) {
                proved.entry(id.to_owned()).or_default().push(format!("{path}:{}", index + 1));
            }
        }
    }
    proved
}

#[test]
fn every_claimed_requirement_has_a_test() {
    let proved = proved();
    let bare: Vec<_> = claimed().into_iter().filter(|id| !proved.contains_key(id)).collect();
    assert!(bare.is_empty(), "claimed in tests/requirements.txt, with no '{MARK}ID' at a test: {bare:?}");
}

#[test]
fn no_test_proves_a_requirement_that_is_not_claimed() {
    let claimed: BTreeSet<_> = claimed().into_iter().collect();
    let unknown: Vec<_> = proved().into_iter().filter(|(id, _)| !claimed.contains(id)).collect();
    assert!(unknown.is_empty(), "not in tests/requirements.txt: {unknown:#?}");
}

#[test]
fn requirements_are_listed_once_and_in_order() {
    let listed = claimed();
    let ordered: Vec<_> = listed.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect();
    assert_eq!(listed, ordered);
}
