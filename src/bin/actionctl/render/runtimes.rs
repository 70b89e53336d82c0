//! Engines for people: a line each, what they can do, and why one is not there.

use super::table::table;
use crate::api::EngineHealth;

/// The names alone, those that answer.
pub fn names(engines: &[EngineHealth]) -> String {
    let answering: Vec<_> =
        engines.iter().filter(|engine| engine.available).map(|engine| engine.name.as_str()).collect();
    answering.join("\n")
}

/// A table; `wide` has the API's version too.
pub fn engines(engines: &[EngineHealth], wide: bool) -> String {
    let mut head = vec!["NAME", "ORDER", "STATE", "VERSION", "ABILITIES"];
    if wide {
        head.insert(4, "API");
    }
    let row = |engine: &EngineHealth| {
        let order = if engine.order == 0 { "by name".to_owned() } else { engine.order.to_string() };
        let state = if engine.available { "available" } else { "unavailable" };
        let can = if engine.available { engine.capabilities.join(" ") } else { engine.reason.clone() };
        let mut row = vec![engine.name.clone(), order, state.to_owned(), engine.version.clone(), can];
        if wide {
            row.insert(4, engine.api.clone());
        }
        row
    };
    table(&head, engines.iter().map(row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engine_that_is_away_has_its_reason_where_others_have_their_abilities() {
        let podman = EngineHealth {
            name: "podman".to_owned(),
            available: true,
            version: "5.4.2".to_owned(),
            api: "5.0".to_owned(),
            capabilities: vec!["pause".to_owned(), "pods".to_owned()],
            order: 1,
            ..Default::default()
        };
        let reason = "no such socket".to_owned();
        let sim = EngineHealth { name: "sim".to_owned(), reason, ..Default::default() };
        let all = [podman, sim];
        assert_eq!(
            engines(&all, false),
            "NAME     ORDER     STATE         VERSION   ABILITIES\npodman   1         available     5.4.2     pause pods\n\
             sim      by name   unavailable   -         no such socket"
        );
        assert!(engines(&all, true).contains("API") && engines(&all, true).contains("5.0"));
        assert_eq!(names(&all), "podman");
    }
}
