//! CPUs: sets of them, what a workload asks for alone, and what it holds.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The highest number of a CPU that is taken: what the kernel's fixed masks hold.
pub const MAX_CPU: u32 = 1023;

/// The longest text of a set that is read, bytes.
const MAX_TEXT: usize = 8192;

/// A set of CPUs by their numbers. Its text is the kernel's list form, `0-3,6`; empty is no CPU.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuSet(BTreeSet<u32>);

impl CpuSet {
    /// No CPU.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this one is in it.
    pub fn contains(&self, cpu: u32) -> bool {
        self.0.contains(&cpu)
    }

    /// Adds one.
    pub fn insert(&mut self, cpu: u32) {
        self.0.insert(cpu);
    }

    /// The CPUs, the lowest first.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().copied()
    }

    /// Those of either.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self(self.0.union(&other.0).copied().collect())
    }

    /// Those of both.
    #[must_use]
    pub fn within(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).copied().collect())
    }

    /// Those that the other has not.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        Self(self.0.difference(&other.0).copied().collect())
    }

    /// Whether they have one in common.
    pub fn meets(&self, other: &Self) -> bool {
        !self.0.is_disjoint(&other.0)
    }

    /// Whether the other has all of these.
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.is_subset(&other.0)
    }

    /// The text for people: a set without a CPU is a word.
    pub fn shown(&self) -> String {
        if self.is_empty() { "none".to_owned() } else { self.to_string() }
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        Self(cpus.into_iter().collect())
    }
}

impl FromStr for CpuSet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |part: &str| format!("'{}' is no CPU or range such as 0-3,6", super::text::shown(part));
        if text.len() > MAX_TEXT {
            return Err(format!("a list of CPUs has at most {MAX_TEXT} bytes"));
        }
        let mut found = Self::new();
        if text.trim().is_empty() {
            return Ok(found);
        }
        for part in text.trim().split(',').map(str::trim) {
            let number = |text: &str| -> Result<u32, String> {
                // A sign is taken by the parser of the language and by no list of CPUs.
                let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                let number = if is_number { text.parse().ok() } else { None };
                let number = number.ok_or_else(|| wrong(part))?;
                if number > MAX_CPU {
                    return Err(format!("CPU {number} is beyond {MAX_CPU}, the highest that is taken"));
                }
                Ok(number)
            };
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(wrong(part));
            }
            found.0.extend(first..=last);
        }
        Ok(found)
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.iter().peekable();
        let mut separator = "";
        while let Some(first) = rest.next() {
            let mut last = first;
            while let Some(next) = rest.next_if(|next| *next == last + 1) {
                last = next;
            }
            match last - first {
                0 => write!(f, "{separator}{first}")?,
                _ => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

impl fmt::Debug for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CpuSet({self})")
    }
}

impl Serialize for CpuSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CpuSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Which CPUs are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WantedCores {
    /// These.
    Listed(CpuSet),
    /// So many, whichever fit best; at least one.
    Count(u32),
}

/// What a workload asks for: CPUs on which nothing else of this node's runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoreRequest {
    /// Which.
    #[serde(flatten)]
    pub wanted: WantedCores,
    /// Where they can be reserved and not be enforced, that is a warning and no failure.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub best_effort: bool,
    /// It may be hibernated, and keeps its CPUs meanwhile.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_hibernate: bool,
}

impl CoreRequest {
    /// Whether these are what is asked for.
    pub fn is_met_by(&self, cpus: &CpuSet) -> bool {
        match &self.wanted {
            WantedCores::Listed(listed) => listed == cpus,
            WantedCores::Count(count) => usize::try_from(*count).is_ok_and(|count| count == cpus.len()),
        }
    }
}

/// The CPUs that a workload holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// They.
    pub cpus: CpuSet,
    /// The action that took them.
    pub action_id: String,
    /// Milliseconds since the epoch of that.
    pub since_ms: u64,
    /// What it held before, while the action that took others in its place is under way: an undoing returns to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<CpuSet>,
}

impl Holding {
    /// All CPUs that nobody else may have now.
    pub fn taken(&self) -> CpuSet {
        self.before.as_ref().map_or_else(|| self.cpus.clone(), |before| self.cpus.and(before))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(text: &str) -> CpuSet {
        text.parse().unwrap()
    }

    #[test]
    fn lists_are_read_and_written_as_the_kernel_has_them() {
        for (text, written) in
            [("", ""), ("0", "0"), ("0-3,6", "0-3,6"), ("6,0-1,2\n", "0-2,6"), (" 1 , 3 ", "1,3"), ("5,4", "4-5")]
        {
            assert_eq!(set(text).to_string(), written);
        }
        assert_eq!(set("1023").len(), 1);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in ["a", "-1", "1-", "3-1", "1,,2", "+1", "0x1", "1024", "0-99999999999", "1;2"] {
            assert!(text.parse::<CpuSet>().is_err(), "{text}");
        }
        let long = "1,".repeat(MAX_TEXT);
        assert!(long.parse::<CpuSet>().unwrap_err().contains("8192"));
    }

    #[test]
    fn request_and_holding_are_stored_in_few_words_and_read_back() {
        let request = CoreRequest { wanted: WantedCores::Listed(set("2-3")), best_effort: false, may_hibernate: false };
        assert_eq!(serde_json::to_string(&request).unwrap(), r#"{"listed":"2-3"}"#);
        let request = CoreRequest { wanted: WantedCores::Count(2), best_effort: true, may_hibernate: true };
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<CoreRequest>(&text).unwrap(), request);
        let holding = Holding { cpus: set("1"), action_id: "a".into(), since_ms: 7, before: Some(set("2")) };
        let text = serde_json::to_string(&holding).unwrap();
        assert_eq!(serde_json::from_str::<Holding>(&text).unwrap(), holding);
        assert_eq!(holding.taken(), set("1-2"));
    }

    proptest! {
        #[test]
        fn every_set_comes_back_from_its_text(cpus in proptest::collection::btree_set(0..=MAX_CPU, 0..64)) {
            let set: CpuSet = cpus.iter().copied().collect();
            prop_assert_eq!(set.to_string().parse::<CpuSet>().unwrap(), set);
        }
    }
}
