//! The ledger's rules, on machines of many kinds.

use proptest::prelude::*;

use super::*;
use crate::realtime::fake;

fn set(text: &str) -> CpuSet {
    text.parse().unwrap()
}

/// A machine with so many CPUs, threads of a core and CPUs near one memory; CPU 0 is the system's.
fn machine(count: u32, threads: u32, per_node: u32) -> Grounds {
    let root = tempfile::tempdir().unwrap();
    fake::write(root.path(), count, threads, per_node);
    let policy = CorePolicy { reserved: set("0"), isolated: set("") };
    Grounds { topology: Topology::read(root.path()).unwrap(), policy }
}

fn listed(text: &str) -> CoreRequest {
    CoreRequest { wanted: WantedCores::Listed(set(text)), best_effort: false, may_hibernate: false }
}

fn count(count: u32) -> CoreRequest {
    CoreRequest { wanted: WantedCores::Count(count), best_effort: false, may_hibernate: false }
}

fn take(ledger: &mut Ledger, workload: &str, request: CoreRequest, grounds: &Grounds) -> Result<String, String> {
    let taken = ledger.reserve(workload, &request, grounds, ("action", 7));
    taken.map(|cpus| cpus.to_string()).map_err(|refusal| refusal.to_string())
}

#[test]
fn list_is_taken_as_it_is_and_conflicts_are_named_with_what_is_free_and_who_holds_the_rest() {
    let (mut grounds, mut ledger) = (machine(6, 1, 6), Ledger::default());
    assert_eq!(take(&mut ledger, "a", listed("1-2"), &grounds), Ok("1-2".into()));
    assert_eq!(take(&mut ledger, "a", listed("1-2"), &grounds), Ok("1-2".into()));
    let before = ledger.clone();
    let refused = take(&mut ledger, "b", listed("2-3"), &grounds).unwrap_err();
    let expected = "workload 'b' asks for CPUs 2-3 alone: CPU 2 is held by 'a'; free: 3-5; held: 1-2 by 'a'";
    assert_eq!(refused, expected);
    let refused = take(&mut ledger, "b", count(4), &grounds).unwrap_err();
    let expected = "workload 'b' asks for 4 exclusive CPUs: 3 can be had; free: 3-5; held: 1-2 by 'a'";
    assert_eq!(refused, expected);
    grounds.topology.online = set("0-4");
    grounds.topology.offline = set("5");
    let mut why = |request| take(&mut ledger, "b", request, &grounds).unwrap_err();
    assert!(why(listed("0")).contains("CPU 0 is reserved for the system; free: 3-4"));
    assert!(why(listed("5")).contains("CPU 5 is offline"));
    assert!(why(listed("9")).contains("there is no CPU 9, but 0-4"));
    assert_eq!(ledger, before, "nothing changed");
}

#[test]
fn one_cpu_stays_for_everybody_else() {
    let (mut grounds, mut ledger) = (machine(2, 1, 2), Ledger::default());
    grounds.policy.reserved = set("");
    assert_eq!(take(&mut ledger, "a", count(1), &grounds), Ok("0".into()));
    assert!(take(&mut ledger, "b", listed("1"), &grounds).unwrap_err().contains("has to stay for everybody else"));
    assert_eq!(ledger.release("a").map(|holding| holding.cpus), Some(set("0")));
    assert!(take(&mut ledger, "a", count(2), &grounds).unwrap_err().contains("none is held"));
    assert_eq!(take(&mut ledger, "b", listed("1"), &grounds), Ok("1".into()));
}

#[test]
fn number_gets_whole_cores_of_one_memory_and_breaks_up_as_little_as_it_can() {
    let (grounds, mut ledger) = (machine(16, 2, 8), Ledger::default());
    // Of the first core one thread is the system's: what asks for one thread gets the other.
    assert_eq!(take(&mut ledger, "one", count(1), &grounds), Ok("1".into()));
    assert_eq!(take(&mut ledger, "two", count(2), &grounds), Ok("2-3".into()));
    // Three do not fit better anywhere: one core whole, one broken.
    assert_eq!(take(&mut ledger, "three", count(3), &grounds), Ok("4-6".into()));
    // The thread that was left of it comes before any whole core.
    assert_eq!(take(&mut ledger, "again", count(1), &grounds), Ok("7".into()));
    // The other memory is whole; a number that does not fit into what is left of the first one is taken from there.
    assert_eq!(take(&mut ledger, "far", count(4), &grounds), Ok("8-11".into()));
    assert_eq!(take(&mut ledger, "all", count(4), &grounds), Ok("12-15".into()));
}

#[test]
fn memory_with_least_left_over_is_taken_and_several_only_where_no_single_one_has_enough() {
    let (grounds, mut ledger) = (machine(12, 1, 4), Ledger::default());
    take(&mut ledger, "a", listed("4-5"), &grounds).unwrap();
    // Memory 0 has three free, memory 1 two, memory 2 four.
    assert_eq!(take(&mut ledger, "b", count(2), &grounds), Ok("6-7".into()));
    assert_eq!(take(&mut ledger, "c", count(3), &grounds), Ok("1-3".into()));
    ledger.release("b");
    assert_eq!(take(&mut ledger, "d", count(5), &grounds), Ok("6-10".into()));
}

#[test]
fn cpus_that_the_kernel_isolates_are_handed_out_alone_and_named_ones_before_them() {
    let mut grounds = machine(8, 1, 4);
    grounds.topology.isolated = set("3,6-7");
    assert_eq!(grounds.offered(), set("3,6-7"));
    let mut ledger = Ledger::default();
    assert_eq!(take(&mut ledger, "a", count(2), &grounds), Ok("6-7".into()));
    grounds.policy.isolated = set("0-3");
    assert_eq!(grounds.offered(), set("1-3"));
    assert_eq!(take(&mut ledger, "b", count(1), &grounds), Ok("3".into()), "the kernel's first");
    let refused = take(&mut ledger, "c", listed("5"), &grounds).unwrap_err();
    assert!(refused.contains("CPU 5 is not among those that are handed out; free: 1-2"), "{refused}");
}

#[test]
fn workload_that_asks_for_others_keeps_what_it_has_until_that_is_settled() {
    let (grounds, mut ledger) = (machine(6, 1, 6), Ledger::default());
    take(&mut ledger, "a", listed("1-2"), &grounds).unwrap();
    assert_eq!(take(&mut ledger, "a", listed("2-3"), &grounds), Ok("2-3".into()));
    assert_eq!(ledger.taken(), set("1-3"));
    assert!(take(&mut ledger, "b", listed("1"), &grounds).is_err());
    let mut undone = ledger.clone();
    assert!(undone.settle("a", true) && !undone.settle("a", true));
    assert_eq!(undone.taken(), set("1-2"));
    assert!(ledger.settle("a", false));
    assert_eq!(ledger.taken(), set("2-3"));
    assert!(!ledger.settle("nobody", true));
}

#[test]
fn holdings_that_overlap_are_not_believed() {
    let holding = |cpus: &str| Holding { cpus: set(cpus), action_id: String::new(), since_ms: 0, before: None };
    let stored = BTreeMap::from([("a".into(), holding("1-2")), ("b".into(), holding("2")), ("c".into(), holding("3"))]);
    let (ledger, doubled) = Ledger::of(stored);
    assert_eq!(ledger.taken(), set("1-3"));
    assert_eq!(doubled.keys().collect::<Vec<_>>(), ["b"]);
}

/// What can happen to a ledger.
#[derive(Debug, Clone)]
enum Event {
    Count(u8, u32),
    Listed(u8, CpuSet),
    Settle(u8, bool),
    Release(u8),
    Online(CpuSet),
    Restart,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let cpus =
        || proptest::collection::btree_set(0_u32..16, 0..5).prop_map(|cpus| cpus.into_iter().collect::<CpuSet>());
    let event = prop_oneof![
        (0_u8..6, 0_u32..7).prop_map(|(who, count)| Event::Count(who, count)),
        (0_u8..6, cpus()).prop_map(|(who, cpus)| Event::Listed(who, cpus)),
        (0_u8..6, any::<bool>()).prop_map(|(who, back)| Event::Settle(who, back)),
        (0_u8..6).prop_map(Event::Release),
        proptest::collection::btree_set(0_u32..16, 1..16).prop_map(|cpus| Event::Online(cpus.into_iter().collect())),
        Just(Event::Restart),
    ];
    proptest::collection::vec(event, 1..60)
}

proptest! {
    #[test]
    fn no_cpu_is_ever_held_twice_whatever_happens(events in events(), threads in prop_oneof![Just(1_u32), Just(2), Just(4)]) {
        let (mut grounds, mut ledger) = (machine(16, threads, 8), Ledger::default());
        for event in events {
            let before = ledger.clone();
            match event {
                Event::Count(who, wanted) => {
                    if let Ok(cpus) = ledger.reserve(&who.to_string(), &count(wanted), &grounds, ("a", 0)) {
                        prop_assert_eq!(cpus.len(), wanted as usize);
                    } else {
                        prop_assert_eq!(&ledger, &before);
                    }
                }
                Event::Listed(who, cpus) => {
                    match ledger.reserve(&who.to_string(), &listed(&cpus.to_string()), &grounds, ("a", 0)) {
                        Ok(taken) => prop_assert_eq!(taken, cpus),
                        Err(_) => prop_assert_eq!(&ledger, &before),
                    }
                }
                Event::Settle(who, back) => drop(ledger.settle(&who.to_string(), back)),
                Event::Release(who) => drop(ledger.release(&who.to_string())),
                Event::Online(cpus) => {
                    let all: CpuSet = (0..16).collect();
                    (grounds.topology.offline, grounds.topology.online) = (all.without(&cpus), cpus);
                }
                Event::Restart => {
                    let text = serde_json::to_string(ledger.holdings()).unwrap();
                    let (read, doubled) = Ledger::of(serde_json::from_str(&text).unwrap());
                    prop_assert!(doubled.is_empty());
                    prop_assert_eq!(&read, &ledger);
                }
            }
            let holdings: Vec<_> = ledger.holdings().values().map(Holding::taken).collect();
            let together: usize = holdings.iter().map(CpuSet::len).sum();
            prop_assert_eq!(together, ledger.taken().len(), "{:?}", ledger);
            let gained = ledger.taken().without(&before.taken());
            prop_assert!(gained.is_within(&grounds.offered()), "only what is offered is newly taken");
            prop_assert!(gained.is_empty() || !grounds.left(&ledger.taken()).is_empty(), "somebody is left without");
        }
    }
}
