//! What policy says, as the wire has it.

use super::actions::warning;
use crate::dispatch::service::PolicyAnswer;
use crate::policy::{Ruling, WorkloadRuling};
use crate::proto::actions as wire;

/// What policy says of an action.
pub fn answer(answer: PolicyAnswer) -> wire::CheckPolicyResponse {
    wire::CheckPolicyResponse {
        allowed: answer.rulings.iter().all(|ruled| ruled.ruling.is_allowed()),
        verdicts: answer.rulings.into_iter().map(verdict).collect(),
        warnings: answer.warnings.into_iter().map(warning).collect(),
        ..Default::default()
    }
}

fn verdict(WorkloadRuling { workload, ruling }: WorkloadRuling) -> wire::PolicyVerdict {
    let verdict = wire::PolicyVerdict { workload, allowed: ruling.is_allowed(), ..Default::default() };
    match ruling {
        Ruling::Allowed => verdict,
        Ruling::Moved { rule, reason, node } => {
            wire::PolicyVerdict { rule, reason, suggested_node: node, moves: true, ..verdict }
        }
        Ruling::Denied { rule, reason, suggested_node } => {
            wire::PolicyVerdict { rule, reason, suggested_node, ..verdict }
        }
        Ruling::Unasked(error) => wire::PolicyVerdict { unanswered: error.to_string(), ..verdict },
        // It is the reason of the refusal as well.
        Ruling::Unanswered(error) => {
            let unanswered = error.to_string();
            wire::PolicyVerdict { reason: unanswered.clone(), unanswered, ..verdict }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::PolicyError;

    fn told(ruling: Ruling) -> wire::PolicyVerdict {
        let rulings = vec![WorkloadRuling { workload: "w".into(), ruling }];
        let answer = answer(PolicyAnswer { rulings, warnings: Vec::new() });
        assert_eq!(answer.allowed, answer.verdicts[0].allowed);
        answer.verdicts.into_iter().next().unwrap()
    }

    #[test]
    fn each_ruling_is_told_with_all_that_is_known() {
        let away = || PolicyError::Timeout { gate: "remote".into() };
        let (rule, reason) = ("r".to_owned(), "why".to_owned());
        let verdict = told(Ruling::Denied { rule: rule.clone(), reason: reason.clone(), suggested_node: "z".into() });
        assert_eq!((verdict.allowed, verdict.moves, &*verdict.suggested_node), (false, false, "z"));
        assert_eq!((&verdict.rule, &verdict.reason), (&rule, &reason));
        let verdict = told(Ruling::Moved { rule, reason, node: "z".into() });
        assert_eq!((verdict.allowed, verdict.moves, &*verdict.suggested_node), (true, true, "z"));
        let verdict = told(Ruling::Unanswered(away()));
        assert_eq!((verdict.allowed, &verdict.reason), (false, &verdict.unanswered));
        let verdict = told(Ruling::Unasked(away()));
        assert_eq!((verdict.allowed, &*verdict.reason), (true, ""));
        assert!(verdict.unanswered.contains("did not answer in time"));
        assert!(told(Ruling::Allowed).allowed);
    }
}
