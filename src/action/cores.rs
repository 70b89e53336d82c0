//! CPUs that workloads have alone, over the life of an action: asked for when it is planned, taken in the very commit that
//! records its intent, and kept, freed or returned to what was held before in the one that records its outcome.
//!
//! What ends without an action, or was left undecided, is freed by `application::cores` once no intent and no repair is
//! about it.

use std::collections::BTreeMap;

use super::pipeline::{Meaning, success_means};
use super::plan::View;
use crate::error::{Error, Result};
use crate::model::action::Verb;
use crate::model::cores::{CoreRequest, CpuSet, WantedCores};
use crate::realtime::cores::{Grounds, Ledger};
use crate::realtime::keeper::{CoreKeeper, Read};
use crate::storage::StoreError;
use crate::storage::records::{Changes, Desired, Intent};

/// How often CPUs are looked for again because others took some meanwhile.
const TRIES: usize = 64;

/// What the workloads of an action ask for, those first that name their CPUs: what asks for a number takes none of these.
pub(super) type Asked = Vec<(String, CoreRequest)>;

/// What is asked for by those workloads that an action has run on this node.
pub(super) fn asked(verb: Verb, views: &[View]) -> Asked {
    let runs = match verb {
        Verb::Launch | Verb::Start | Verb::Restart | Verb::Update | Verb::Rollback | Verb::Wake => true,
        Verb::Stop
        | Verb::Remove
        | Verb::Terminate
        | Verb::Pause
        | Verb::Resume
        | Verb::Hibernate
        | Verb::Kill
        | Verb::Scale
        | Verb::Offload => false,
    };
    let own = |view: &View| {
        let spec = view.spec.as_ref().filter(|spec| spec.delegate.is_none())?;
        Some((view.name.clone(), spec.cores.clone()?))
    };
    let mut asked: Asked = views.iter().filter(|_| runs).filter_map(own).collect();
    asked.sort_by_key(|(_, request)| matches!(request.wanted, WantedCores::Count(_)));
    asked
}

/// Whether all that is asked for can be had, without taking it. Gives who is refused, with why.
pub(super) fn check(keeper: &CoreKeeper, asked: &Asked) -> Result<BTreeMap<String, Error>> {
    let mut refused = BTreeMap::new();
    if asked.is_empty() {
        return Ok(refused);
    }
    let (grounds, Read { mut ledger, .. }) = (keeper.grounds()?, keeper.read()?);
    for (workload, request) in asked {
        if let Err(refusal) = ledger.reserve(workload, request, &grounds, ("", 0)) {
            refused.insert(workload.clone(), refusal.into());
        }
    }
    Ok(refused)
}

/// Takes what is asked for with `commit`, which is given the changes and what each workload holds then. It is done again
/// where somebody else took CPUs meanwhile.
pub(super) fn take(
    keeper: &CoreKeeper,
    asked: &Asked,
    (action_id, now_ms): (&str, u64),
    mut commit: impl FnMut(Changes, BTreeMap<String, CpuSet>) -> std::result::Result<(), StoreError>,
) -> Result<()> {
    if asked.is_empty() {
        return Ok(commit(Changes::new(), BTreeMap::new())?);
    }
    let mut tries = 0;
    loop {
        tries += 1;
        let (grounds, Read { mut ledger, revision, .. }) = (keeper.grounds()?, keeper.read()?);
        let mut changes = Changes::new();
        let taken = reserve(&mut ledger, asked, &grounds, (action_id, now_ms))?;
        for workload in taken.keys() {
            if let Some(holding) = ledger.of_workload(workload) {
                changes.put_holding(workload, holding)?;
            }
        }
        changes.take_cores(revision, action_id);
        match commit(changes, taken) {
            Ok(()) => return Ok(()),
            // Anything else that moved is not for here to judge.
            Err(StoreError::RevisionMoved { key, .. }) if key == crate::storage::keys::CORES && tries < TRIES => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn reserve(ledger: &mut Ledger, asked: &Asked, grounds: &Grounds, by: (&str, u64)) -> Result<BTreeMap<String, CpuSet>> {
    let mut taken = BTreeMap::new();
    for (workload, request) in asked {
        taken.insert(workload.clone(), ledger.reserve(workload, request, grounds, by)?);
    }
    Ok(taken)
}

/// What the end of an action means for the CPUs of its workloads, as changes beside its outcome. `has_failed` tells of a
/// workload whether the action came to nothing there; what is still to be undone (`is_open`) is decided later. Where the
/// ledger cannot be read nothing is changed, and all of it is decided later.
pub(super) fn conclude(
    keeper: &CoreKeeper,
    intent: &Intent,
    has_failed: impl Fn(&str) -> bool,
    is_open: bool,
    changes: &mut Changes,
) {
    let ends = match success_means(&intent.request) {
        Meaning::Forgotten | Meaning::Desired(Desired::Stopped) => true,
        Meaning::AsBefore
        | Meaning::Scaled
        | Meaning::Desired(Desired::Running | Desired::Paused | Desired::Hibernated) => false,
    };
    let specs = intent.before.values().map(|record| &record.spec).chain(intent.specs.values());
    if specs.into_iter().all(|spec| spec.cores.is_none()) {
        return;
    }
    let asks =
        |workload: &str| intent.specs.get(workload).is_some_and(|spec| spec.cores.is_some() && spec.delegate.is_none());
    keeper.note_change();
    let Ok(Read { mut ledger, .. }) = keeper.read() else { return };
    for workload in intent.existed.keys() {
        let failed = has_failed(workload);
        if !failed && (ends || !asks(workload)) {
            changes.delete_holding(workload);
            continue;
        }
        if ends || (failed && is_open) || !intent.cores.contains_key(workload) {
            continue;
        }
        let is_own = ledger.of_workload(workload).is_some_and(|holding| holding.action_id == intent.request.id);
        let had_others = ledger.settle(workload, failed);
        if had_others && let Some(holding) = ledger.of_workload(workload) {
            // What cannot be written is decided later, like what cannot be read.
            let _ = changes.put_holding(workload, holding);
        } else if failed && is_own {
            changes.delete_holding(workload);
        }
    }
}
