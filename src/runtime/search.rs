//! [`EngineRegistry::search`]: which engine has containers that fit, where nothing says so; all are asked at once.
//!
//! An engine that hangs delays an action on another once, by `DOUBT` and `PATIENCE` together, and from then on not at all:
//! for everybody it counts as away until a probe of it comes back.
//!
//! Passing over an engine that lives is the worse mistake: it may be the one that has the workload, which then is started
//! a second time elsewhere. So silence alone passes nobody over: an engine whose list is slow is asked for the least that
//! there is, a probe, and one that answers it is waited for to the end of `LIST_BUDGET`, by every action anew. What does
//! neither hangs, as far as anybody can tell. Who has to be sure of every engine, because none is wanted before others,
//! waits for each as long as a probe may take. The engines that did not tell are named to the caller.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

use super::adapter::{Call, ListFilter, NoProgress, RuntimeAdapter};
use super::probes::{self, Begun};
use super::registry::{EngineRegistry, check};
use crate::cancel::CancelToken;
use crate::error::{Error, Result};

/// The time of one engine's list. One that is slow and lives is waited for so long.
const LIST_BUDGET: Duration = Duration::from_secs(5);

/// After so long without its list an engine is probed. Where that is too early it costs a probe and nothing else: a list
/// takes some 10 to 100 ms, and on a busy machine more.
const DOUBT: Duration = Duration::from_millis(250);

/// The time of that probe where the action could go on without the engine. A greeting is a few milliseconds of work, and
/// what an engine is asked beside it some 200 ms. It begins when the wanted engine has answered, so that all have more
/// where everything is slow.
const PATIENCE: Duration = Duration::from_millis(750);

/// Beyond the end of the last list: what ends it has to be told.
const SLACK: Duration = Duration::from_secs(1);

/// What a search came to.
#[derive(Default)]
pub struct Search {
    /// The engine that has such containers; where several have, the one that said so first.
    pub found: Option<Arc<dyn RuntimeAdapter>>,
    /// The engines that did not tell, each with why: they may have some.
    pub unknown: Vec<(String, Error)>,
}

/// Whether an engine has such containers.
type Told = (String, Result<bool>);

/// An engine that is being asked. Dropping it ends that.
struct Asked {
    engine: Arc<dyn RuntimeAdapter>,
    cancel: CancelToken,
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.cancel.cancel("its list is not waited for");
    }
}

/// What is waited for.
enum Stage {
    /// Lists, which should be here soon.
    Lists,
    /// Probes, too, of those that are slow.
    Probes { since: Instant, of: BTreeMap<String, Begun> },
    /// The lists of those that are slow and live.
    Living,
}

impl EngineRegistry {
    /// The engine that has containers which fit the filter. Ends with the first that has; otherwise once every engine
    /// has told or is passed over. `wanted` is the engine that serves where none has any: once it has answered, or
    /// another has and it is away, the rest are waited for briefly; `None` where each has to tell.
    ///
    /// Fails only where the call is cancelled or late. No thread outlives it.
    pub fn search(&self, call: &Call, filter: &ListFilter, wanted: Option<&str>) -> Result<Search> {
        let (mut search, mut waiting) = (Search::default(), BTreeMap::new());
        for engine in self.all() {
            let name = engine.name().to_owned();
            let known = self.probes().known(engine).map_or(Ok(()), |probe| check(engine.as_ref(), probe));
            match known {
                Ok(()) => drop(waiting.insert(name, Asked { engine: Arc::clone(engine), cancel: call.cancel.child() })),
                Err(error) => search.unknown.push((name, error)),
            }
        }
        let (tell, told) = bounded::<Told>(waiting.len());
        thread::scope(|scope| {
            for (name, asked) in &waiting {
                let (engine, cancel, own) = (Arc::clone(&asked.engine), asked.cancel.clone(), tell.clone());
                let deadline = call.deadline.at_most(LIST_BUDGET);
                let list = move || {
                    let call = Call { deadline, cancel: &cancel, progress: &NoProgress };
                    // Nobody hears it where it comes too late.
                    let _ = own.send((engine.name().to_owned(), has_any(engine.as_ref(), &call, filter)));
                };
                if let Err(error) = thread::Builder::new().name(format!("search-{name}")).spawn_scoped(scope, list) {
                    let error = Error::internal(format!("no thread to ask runtime '{name}': {error}"));
                    let _ = tell.send((name.clone(), Err(error)));
                }
            }
            drop(tell);
            self.gather(call, wanted, waiting, &told, &mut search)
        })?;
        Ok(search)
    }

    /// Takes the answers. What is still being asked when this returns is ended.
    fn gather(
        &self,
        call: &Call,
        wanted: Option<&str>,
        mut waiting: BTreeMap<String, Asked>,
        told: &Receiver<Told>,
        search: &mut Search,
    ) -> Result<()> {
        let (began, mut stage) = (Instant::now(), Stage::Lists);
        // Whether one has answered, and since when the rest are no longer needed.
        let (mut has_answer, mut could_go_on) = (false, None);
        while !waiting.is_empty() {
            let until = match (&stage, could_go_on) {
                (Stage::Lists, _) => began + DOUBT,
                (Stage::Probes { since, .. }, Some(ready)) => (*since).max(ready) + PATIENCE,
                (Stage::Probes { since, .. }, None) => *since + probes::TIMEOUT,
                (Stage::Living, _) => began + LIST_BUDGET + SLACK,
            };
            match told.recv_deadline(until) {
                Ok((name, answer)) => {
                    // One that was passed over tells that it was ended.
                    let Some(asked) = waiting.remove(&name) else { continue };
                    match answer {
                        Ok(true) => {
                            search.found = Some(Arc::clone(&asked.engine));
                            return Ok(());
                        }
                        Ok(false) => has_answer = true,
                        Err(error) if call.cancel.is_cancelled() || call.deadline.is_over() => return Err(error),
                        Err(error) => search.unknown.push((name, error)),
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => match stage {
                    Stage::Lists => {
                        let probe = |(name, asked): (&String, &Asked)| {
                            (name.clone(), self.probes().afresh(&asked.engine, began))
                        };
                        let of = waiting.iter().map(probe).collect();
                        stage = Stage::Probes { since: Instant::now(), of };
                    }
                    Stage::Probes { of, .. } => {
                        for (name, probe) in of {
                            pass_over(&mut waiting, search, name, &probe);
                        }
                        stage = Stage::Living;
                    }
                    Stage::Living => break,
                },
            }
            if has_answer && wanted.is_some_and(|wanted| !waiting.contains_key(wanted)) {
                could_go_on.get_or_insert_with(Instant::now);
            }
        }
        let silent = |name: &String| (name.clone(), Error::internal(format!("asking runtime '{name}' did not end")));
        search.unknown.extend(waiting.keys().map(silent));
        Ok(())
    }
}

/// Waits for an engine no longer, unless it lives.
fn pass_over(waiting: &mut BTreeMap<String, Asked>, search: &mut Search, name: String, probe: &Begun) {
    let Some(asked) = waiting.get(&name) else { return };
    if let Err(error) = check(asked.engine.as_ref(), probe.by_now()) {
        waiting.remove(&name);
        search.unknown.push((name, error));
    }
}

fn has_any(engine: &dyn RuntimeAdapter, call: &Call, filter: &ListFilter) -> Result<bool> {
    let listed = catch_unwind(AssertUnwindSafe(|| engine.list_containers(call, filter)));
    match listed {
        Ok(listed) => Ok(!listed?.is_empty()),
        Err(_) => Err(Error::internal(format!("asking runtime '{}' met a fault in this daemon", engine.name()))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::double::{self, Engine, engine};
    use super::*;
    use crate::error::ErrorCode;

    /// The whole of what an engine that hangs costs an action on another, with room for a busy machine.
    const ONCE: Duration = Duration::from_millis(2_500);

    /// What it costs later ones.
    const LATER: Duration = Duration::from_millis(800);

    fn registry(engines: Vec<Engine>) -> EngineRegistry {
        let mut registry = EngineRegistry::new();
        for engine in engines {
            registry.register(Arc::new(engine)).unwrap();
        }
        // What is known of them now holds for a while, whatever becomes of them.
        registry.availability();
        registry
    }

    struct Ended {
        found: Option<String>,
        /// Names and codes.
        unknown: Vec<(String, ErrorCode)>,
        took: Duration,
    }

    fn search(registry: &EngineRegistry, wanted: Option<&str>) -> Ended {
        let (began, token) = (Instant::now(), CancelToken::new());
        let call = double::call(&token, Duration::from_secs(30));
        let search = registry.search(&call, &ListFilter::default(), wanted).unwrap();
        Ended {
            found: search.found.map(|engine| engine.name().to_owned()),
            unknown: search.unknown.into_iter().map(|(name, error)| (name, error.code)).collect(),
            took: began.elapsed(),
        }
    }

    fn away(name: &str) -> Vec<(String, ErrorCode)> {
        vec![(name.to_owned(), ErrorCode::EngineUnavailable)]
    }

    /// An engine that answered just now and hangs from now on, beside others.
    fn beside_one_that_hangs(others: Vec<Engine>) -> (EngineRegistry, Arc<AtomicUsize>) {
        let hanging = engine("podman");
        let (lists, is_frozen) = (Arc::clone(&hanging.lists), Arc::clone(&hanging.is_frozen));
        let registry = registry([hanging].into_iter().chain(others).collect());
        is_frozen.store(true, Ordering::SeqCst);
        (registry, lists)
    }

    // req: BM-06
    #[test]
    fn engine_that_hangs_is_waited_for_once_and_briefly() {
        let (registry, lists) = beside_one_that_hangs(vec![engine("docker"), engine("oci")]);
        let first = search(&registry, Some("docker"));
        assert_eq!((first.found, first.unknown), (None, away("podman")));
        assert!(first.took < ONCE, "{:?}", first.took);
        for _ in 0..5 {
            let later = search(&registry, Some("docker"));
            assert_eq!(later.unknown, away("podman"));
            assert!(later.took < LATER, "{:?}", later.took);
        }
        assert_eq!(lists.load(Ordering::SeqCst), 1);
        // Whoever wants it is told at once, too.
        let began = Instant::now();
        assert!(registry.check_answers(&registry.get("podman").unwrap()).is_err());
        assert!(began.elapsed() < LATER, "{:?}", began.elapsed());
    }

    #[test]
    fn wanted_engine_that_is_slow_is_waited_for_while_another_hangs() {
        let slow = Engine { lists_after: Duration::from_millis(2_700), ..engine("docker") };
        let (registry, _) = beside_one_that_hangs(vec![slow]);
        let ended = search(&registry, Some("docker"));
        assert_eq!((ended.found, ended.unknown), (None, away("podman")));
        assert!(ended.took >= Duration::from_millis(2_700), "{:?}", ended.took);
        assert!(ended.took < Duration::from_millis(4_000), "{:?}", ended.took);
    }

    #[test]
    fn slow_engine_that_lives_is_waited_for_and_has_the_workload() {
        let slow = Engine { has_any: true, lists_after: Duration::from_millis(2_000), ..engine("docker") };
        let probes = Arc::clone(&slow.probes);
        let registry = registry(vec![engine("podman"), slow]);
        let ended = search(&registry, Some("podman"));
        assert_eq!((ended.found.as_deref(), ended.unknown), (Some("docker"), Vec::new()));
        assert_eq!(probes.load(Ordering::SeqCst), 2, "that it answered before is not enough");
    }

    #[test]
    fn slow_list_ends_in_time() {
        let slow = Engine { lists_after: Duration::from_secs(20), ..engine("docker") };
        let ended = search(&registry(vec![engine("podman"), slow]), Some("podman"));
        assert_eq!(ended.unknown.len(), 1);
        assert!(ended.took < LIST_BUDGET + SLACK, "{:?}", ended.took);
    }

    #[test]
    fn engine_that_has_it_is_enough() {
        let (registry, _) = beside_one_that_hangs(vec![Engine { has_any: true, ..engine("docker") }]);
        let ended = search(&registry, None);
        assert_eq!(ended.found.as_deref(), Some("docker"));
        assert!(ended.took < LATER, "{:?}", ended.took);
    }

    #[test]
    fn where_each_has_to_tell_a_probe_has_its_whole_time() {
        let thawing = Engine { has_any: true, ..engine("docker") };
        let is_frozen = Arc::clone(&thawing.is_frozen);
        let registry = registry(vec![engine("podman"), thawing]);
        is_frozen.store(true, Ordering::SeqCst);
        let thaw = thread::Builder::new().spawn(move || {
            thread::sleep(DOUBT + PATIENCE + Duration::from_millis(300));
            is_frozen.store(false, Ordering::SeqCst);
        });
        assert_eq!(search(&registry, None).found.as_deref(), Some("docker"));
        thaw.unwrap().join().unwrap();
    }

    #[test]
    fn engine_that_comes_back_is_asked_again() {
        let hanging = Engine { has_any: true, ..engine("podman") };
        let is_frozen = Arc::clone(&hanging.is_frozen);
        let registry = registry(vec![hanging, engine("docker")]);
        is_frozen.store(true, Ordering::SeqCst);
        assert_eq!(search(&registry, Some("docker")).unknown, away("podman"));
        is_frozen.store(false, Ordering::SeqCst);
        let began = Instant::now();
        while search(&registry, Some("docker")).found.as_deref() != Some("podman") {
            assert!(began.elapsed() < Duration::from_secs(10), "it is never asked again");
            thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn wanted_engine_that_hangs_is_given_the_time_of_a_probe() {
        let (registry, _) = beside_one_that_hangs(vec![engine("docker")]);
        let ended = search(&registry, Some("podman"));
        assert_eq!((ended.found, ended.unknown), (None, away("podman")));
        assert!(ended.took < Duration::from_millis(3_200), "{:?}", ended.took);
    }

    #[test]
    fn cancelled_search_ends() {
        let slow = Engine { lists_after: Duration::from_secs(20), ..engine("podman") };
        let (registry, token) = (registry(vec![slow, engine("docker")]), CancelToken::new());
        let (own, began) = (token.clone(), Instant::now());
        let cancel = thread::Builder::new().spawn(move || {
            thread::sleep(Duration::from_millis(50));
            own.cancel("as asked");
        });
        let call = double::call(&token, Duration::from_secs(30));
        assert!(registry.search(&call, &ListFilter::default(), Some("docker")).is_err());
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        cancel.unwrap().join().unwrap();
    }
}
