//! [`Ledger`]: which workload holds which CPUs, and the rules by which they are handed out. Pure.
//!
//! No CPU is ever held twice, and one that is online always stays for everybody else. A workload that names its CPUs gets
//! those or is refused. One that asks for a number gets what fits best: CPUs that the kernel keeps free before others, all
//! from one memory node, whole cores before single threads of one, and where something is left over, from where the least
//! is broken up.

use std::collections::BTreeMap;

use super::topology::Topology;
use crate::error::{Error, ErrorCode, ErrorKind};
use crate::model::cores::{CoreRequest, CpuSet, Holding, WantedCores};

/// Which CPUs may be handed out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CorePolicy {
    /// Never: they are the system's.
    pub reserved: CpuSet,
    /// These alone; empty: those that the kernel isolates or, where it isolates none, all.
    pub isolated: CpuSet,
}

/// What is handed out from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grounds {
    /// The CPUs.
    pub topology: Topology,
    /// Which of them may be handed out.
    pub policy: CorePolicy,
}

impl Grounds {
    /// The CPUs that may be handed out and are online, held or not.
    pub fn offered(&self) -> CpuSet {
        let Topology { online, isolated, .. } = &self.topology;
        let named = [&self.policy.isolated, isolated].into_iter().find(|set| !set.is_empty()).unwrap_or(online);
        named.within(online).without(&self.policy.reserved)
    }

    /// What is left for everybody while `taken` are held.
    pub fn left(&self, taken: &CpuSet) -> CpuSet {
        self.topology.online.without(taken)
    }
}

/// Why CPUs are not handed out; nothing is changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("workload '{workload}' asks for {asked}: {why}; free: {free}; {held}")]
pub struct Refusal {
    /// Who asks.
    workload: String,
    /// For what.
    asked: String,
    /// What is in the way.
    why: String,
    /// What could be had.
    free: String,
    /// Who holds the rest.
    held: String,
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let error = Self::new(ErrorKind::FailedPrecondition, ErrorCode::CoresTaken, refusal.to_string());
        error.hint("actionctl cores shows who holds what; realtime in the settings says what may be handed out")
    }
}

/// Who holds what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger(BTreeMap<String, Holding>);

impl Ledger {
    /// The ledger with these holdings, which do not overlap: what somebody holds already is left out, and given back as
    /// the second value.
    pub fn of(holdings: BTreeMap<String, Holding>) -> (Self, BTreeMap<String, Holding>) {
        let (mut ledger, mut doubled) = (Self::default(), BTreeMap::new());
        for (workload, holding) in holdings {
            let is_free = !holding.taken().meets(&ledger.taken());
            let place = if is_free { &mut ledger.0 } else { &mut doubled };
            place.insert(workload, holding);
        }
        (ledger, doubled)
    }

    /// Every holding, by workload.
    pub fn holdings(&self) -> &BTreeMap<String, Holding> {
        &self.0
    }

    /// What the workload holds.
    pub fn of_workload(&self, workload: &str) -> Option<&Holding> {
        self.0.get(workload)
    }

    /// Who holds a CPU.
    pub fn holder(&self, cpu: u32) -> Option<&str> {
        self.0.iter().find(|(_, holding)| holding.taken().contains(cpu)).map(|(workload, _)| workload.as_str())
    }

    /// All CPUs that are held.
    pub fn taken(&self) -> CpuSet {
        self.0.values().fold(CpuSet::new(), |taken, holding| taken.and(&holding.taken()))
    }

    /// Takes what is asked for, for the time from `now_ms` on. A workload that holds just that keeps it. One that holds
    /// something else gets what it asks for, and keeps what it had until [`Ledger::settle`].
    pub fn reserve(
        &mut self,
        workload: &str,
        request: &CoreRequest,
        grounds: &Grounds,
        (action_id, now_ms): (&str, u64),
    ) -> Result<CpuSet, Refusal> {
        let own = self.0.get(workload);
        if let Some(own) = own.filter(|own| own.before.is_none() && request.is_met_by(&own.cpus)) {
            return Ok(own.cpus.clone());
        }
        let own = own.map(|own| own.before.clone().unwrap_or_else(|| own.cpus.clone()));
        let mut others = self.clone();
        others.0.remove(workload);
        let others_taken = others.taken();
        let free = grounds.offered().without(&others_taken);
        let refuse = |why: String| others.refusal(workload, request, grounds, why);
        let cpus = match &request.wanted {
            WantedCores::Listed(listed) => {
                others.check_listed(listed, grounds).map_err(refuse)?;
                listed.clone()
            }
            WantedCores::Count(count) => {
                let count = usize::try_from(*count).unwrap_or(usize::MAX);
                let fit = Fit { grounds, free: &free };
                fit.best(count).ok_or_else(|| refuse(format!("{} can be had", free.len())))?
            }
        };
        let taken = others_taken.and(&cpus).and(own.as_ref().unwrap_or(&CpuSet::new()));
        if cpus.is_empty() || grounds.left(&taken).is_empty() {
            return Err(refuse("one CPU has to stay for everybody else".to_owned()));
        }
        let holding = Holding { cpus: cpus.clone(), action_id: action_id.to_owned(), since_ms: now_ms, before: own };
        self.0.insert(workload.to_owned(), holding);
        Ok(cpus)
    }

    /// Ends the time in which a workload holds what it had and what it has asked for: it keeps the latter, or the former
    /// where that came to nothing. Whether anything changed.
    pub fn settle(&mut self, workload: &str, came_to_nothing: bool) -> bool {
        let Some(holding) = self.0.get_mut(workload) else { return false };
        match holding.before.take() {
            Some(before) if came_to_nothing => holding.cpus = before,
            Some(_) => {}
            None => return false,
        }
        true
    }

    /// Frees what the workload holds.
    pub fn release(&mut self, workload: &str) -> Option<Holding> {
        self.0.remove(workload)
    }

    /// What is in the way of the first CPU of a list that cannot be had.
    fn check_listed(&self, listed: &CpuSet, grounds: &Grounds) -> Result<(), String> {
        let (topology, offered) = (&grounds.topology, grounds.offered());
        let problem = |cpu: u32| {
            if let Some(holder) = self.holder(cpu) {
                return Some(format!("CPU {cpu} is held by '{holder}'"));
            }
            if topology.offline.contains(cpu) {
                return Some(format!("CPU {cpu} is offline"));
            }
            if !topology.online.contains(cpu) {
                return Some(format!("there is no CPU {cpu}, but {}", topology.online));
            }
            if grounds.policy.reserved.contains(cpu) {
                return Some(format!("CPU {cpu} is reserved for the system"));
            }
            (!offered.contains(cpu)).then(|| format!("CPU {cpu} is not among those that are handed out"))
        };
        listed.iter().find_map(problem).map_or(Ok(()), Err)
    }

    fn refusal(&self, workload: &str, request: &CoreRequest, grounds: &Grounds, why: String) -> Refusal {
        let asked = match &request.wanted {
            WantedCores::Listed(listed) if listed.len() == 1 => format!("CPU {listed} alone"),
            WantedCores::Listed(listed) => format!("CPUs {} alone", listed.shown()),
            WantedCores::Count(1) => "1 exclusive CPU".to_owned(),
            WantedCores::Count(count) => format!("{count} exclusive CPUs"),
        };
        let free = grounds.offered().without(&self.taken()).shown();
        let holders = self.0.iter().map(|(holder, holding)| format!("{} by '{holder}'", holding.taken()));
        let holders: Vec<_> = holders.collect();
        let held = if holders.is_empty() { "none is held".to_owned() } else { format!("held: {}", holders.join(", ")) };
        Refusal { workload: workload.to_owned(), asked, why, free, held }
    }
}

/// The choice of CPUs for a number.
struct Fit<'a> {
    grounds: &'a Grounds,
    free: &'a CpuSet,
}

impl Fit<'_> {
    /// The best `count`; `None` where there are not so many.
    fn best(&self, count: usize) -> Option<CpuSet> {
        if count == 0 || count > self.free.len() {
            return None;
        }
        let mut by_node: BTreeMap<u32, CpuSet> = BTreeMap::new();
        for cpu in self.free.iter() {
            by_node.entry(self.grounds.topology.node_of(cpu)).or_default().insert(cpu);
        }
        let near = by_node.values().filter(|pool| pool.len() >= count).map(|pool| self.choose(pool, count));
        // From all memories together where no single one has enough, or has too few that the kernel isolates.
        let anywhere = self.choose(self.free, count);
        near.chain([anywhere]).min_by_key(|chosen| self.cost(chosen, &by_node))
    }

    /// The least is the best: CPUs that are not isolated, memories that are mixed, cores that are broken up, what is left of
    /// a memory that is used, and at last the lowest numbers.
    fn cost(&self, chosen: &CpuSet, by_node: &BTreeMap<u32, CpuSet>) -> (usize, usize, usize, usize, CpuSet) {
        let Topology { isolated, .. } = &self.grounds.topology;
        let used = || by_node.values().filter(|pool| pool.meets(chosen));
        let broken = chosen.iter().filter(|cpu| {
            let core = self.grounds.topology.core_of(*cpu);
            core.is_within(self.free) && !core.is_within(chosen)
        });
        let left = used().map(|pool| pool.without(chosen).len()).sum();
        (chosen.without(isolated).len(), used().count(), broken.count(), left, chosen.clone())
    }

    /// `count` of a pool that has so many: isolated cores before others and whole ones before what is left of broken ones,
    /// as long as they are needed whole; the rest from the smallest of what is broken already, or else from a whole one.
    fn choose(&self, pool: &CpuSet, count: usize) -> CpuSet {
        let topology = &self.grounds.topology;
        let mut blocks: Vec<CpuSet> = Vec::new();
        for cpu in pool.iter() {
            let block = topology.core_of(cpu).within(pool);
            if !blocks.contains(&block) {
                blocks.push(block);
            }
        }
        let is_whole =
            |block: &CpuSet| block.iter().next().is_some_and(|cpu| topology.core_of(cpu).len() == block.len());
        let is_other = |block: &CpuSet| !block.is_within(&topology.isolated);
        let mut chosen = CpuSet::new();
        while chosen.len() < count {
            let missing = count - chosen.len();
            let rank = |block: &CpuSet| {
                let is_too_large = block.len() > missing;
                // What is needed whole is best large; what is needed in part is best small.
                let size = if is_too_large { block.len() } else { usize::MAX - block.len() };
                (is_other(block), is_too_large, !is_too_large && !is_whole(block), size, block.clone())
            };
            let Some(index) = (0..blocks.len()).min_by_key(|index| rank(&blocks[*index])) else { break };
            let block = blocks.swap_remove(index);
            chosen = chosen.and(&block.iter().take(missing).collect());
        }
        chosen
    }
}

#[cfg(test)]
mod tests;
