//! CPUs that a workload asks for alone, by annotations:
//!
//! | annotation | meaning |
//! |---|---|
//! | `actioncontroller.io/exclusive-cpus` | these: `2-3,6` |
//! | `actioncontroller.io/exclusive-cpu-count` | so many, at least 1 |
//! | `actioncontroller.io/cores-mode` | `required`, the default: what cannot be enforced fails; `best-effort`: it is a warning |
//! | `actioncontroller.io/hibernate-with-cores` | `true`: it may be hibernated, and keeps them; `false` is the default |
//!
//! A unit of systemd says the same in its section `[X-ActionController]`.

use crate::model::cores::{CoreRequest, MAX_CPU, WantedCores};
use crate::model::text::shown;

/// The CPUs by their numbers.
pub(super) const CPUS: &str = "actioncontroller.io/exclusive-cpus";
/// How many.
pub(super) const COUNT: &str = "actioncontroller.io/exclusive-cpu-count";
/// What it means that they cannot be enforced.
pub(super) const MODE: &str = "actioncontroller.io/cores-mode";
/// Whether it may be hibernated.
pub(super) const HIBERNATE: &str = "actioncontroller.io/hibernate-with-cores";

/// What the annotations say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cores {
    wanted: Option<WantedCores>,
    best_effort: Option<bool>,
    may_hibernate: Option<bool>,
}

impl Cores {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Reads the value of one of the four.
    pub fn read(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            MODE => {
                self.best_effort = Some(match value {
                    "required" => false,
                    "best-effort" => true,
                    other => return Err(format!("must be required or best-effort, not '{}'", shown(other))),
                });
            }
            HIBERNATE => {
                self.may_hibernate = Some(match value {
                    "true" => true,
                    "false" => false,
                    other => return Err(format!("must be true or false, not '{}'", shown(other))),
                });
            }
            _ => {
                let wanted = if key == CPUS { listed(value) } else { count(value) }?;
                if self.wanted.replace(wanted).is_some() {
                    return Err(format!("CPUs are asked for twice: give {CPUS} or {COUNT}, and once"));
                }
            }
        }
        Ok(())
    }

    /// Takes what is missing here from `other`.
    pub fn complete(&mut self, other: &Self) {
        self.wanted = self.wanted.take().or_else(|| other.wanted.clone());
        self.best_effort = self.best_effort.or(other.best_effort);
        self.may_hibernate = self.may_hibernate.or(other.may_hibernate);
    }

    /// What is asked for; `None` for nothing.
    pub fn request(self) -> Result<Option<CoreRequest>, String> {
        let Some(wanted) = self.wanted else {
            let in_vain = [(self.best_effort, MODE), (self.may_hibernate, HIBERNATE)];
            let in_vain = in_vain.into_iter().find(|(given, _)| given.is_some());
            return match in_vain {
                Some((_, key)) => Err(format!("{key} is given, and neither {CPUS} nor {COUNT}")),
                None => Ok(None),
            };
        };
        let best_effort = self.best_effort.unwrap_or(false);
        Ok(Some(CoreRequest { wanted, best_effort, may_hibernate: self.may_hibernate.unwrap_or(false) }))
    }
}

fn listed(value: &str) -> Result<WantedCores, String> {
    let cpus: crate::model::cores::CpuSet = value.parse()?;
    if cpus.is_empty() {
        return Err("must name a CPU, such as 2-3,6".to_owned());
    }
    Ok(WantedCores::Listed(cpus))
}

fn count(value: &str) -> Result<WantedCores, String> {
    let count = Some(value).filter(|value| value.bytes().all(|byte| byte.is_ascii_digit()));
    let count = count.and_then(|value| value.parse().ok()).filter(|count| (1..=MAX_CPU).contains(count));
    count.map(WantedCores::Count).ok_or_else(|| format!("must be 1 to {MAX_CPU}, not '{}'", shown(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(entries: &[(&str, &str)]) -> Result<Option<CoreRequest>, String> {
        let mut cores = Cores::default();
        for (key, value) in entries {
            cores.read(key, value)?;
        }
        cores.request()
    }

    #[test]
    fn list_or_count_is_read_with_how_strict_it_is() {
        let request = read(&[(CPUS, "2-3,6")]).unwrap().unwrap();
        assert_eq!(request.wanted, WantedCores::Listed("2-3,6".parse().unwrap()));
        assert!(!request.best_effort && !request.may_hibernate);
        let request = read(&[(MODE, "best-effort"), (COUNT, "2"), (HIBERNATE, "true")]).unwrap().unwrap();
        assert_eq!(request, CoreRequest { wanted: WantedCores::Count(2), best_effort: true, may_hibernate: true });
        assert_eq!(read(&[]), Ok(None));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let cases: [(&[(&str, &str)], &str); 8] = [
            (&[(CPUS, "1"), (COUNT, "1")], "asked for twice"),
            (&[(CPUS, "")], "must name a CPU"),
            (&[(CPUS, "3-1")], "no CPU or range"),
            (&[(COUNT, "0")], "must be 1 to 1023, not '0'"),
            (&[(COUNT, "+1")], "must be 1 to"),
            (&[(MODE, "maybe"), (COUNT, "1")], "required or best-effort"),
            (&[(HIBERNATE, "yes"), (COUNT, "1")], "true or false"),
            (&[(HIBERNATE, "true")], "neither"),
        ];
        for (entries, why) in cases {
            assert!(read(entries).unwrap_err().contains(why), "{entries:?}");
        }
    }
}
