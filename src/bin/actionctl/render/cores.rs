//! CPUs for people: a line for each, those of one memory together, and what should be known below.

use super::table::table;
use super::text::cell;
use crate::api::{Core, ListCoresResponse};

/// The most processes of others that are named; the rest is counted.
const MOST_FOREIGN: usize = 10;

/// The numbers of the CPUs that may be had alone and that nobody has.
pub fn numbers(told: &ListCoresResponse) -> String {
    let free = told.cores.iter().filter(|core| core.online && core.offered && core.holder.is_empty());
    free.map(|core| core.cpu.to_string()).collect::<Vec<_>>().join("\n")
}

/// All that is told.
pub fn drawn(told: &ListCoresResponse) -> String {
    let mut cores: Vec<&Core> = told.cores.iter().collect();
    cores.sort_by_key(|core| (core.numa_node, core.cpu));
    let rows = cores.into_iter().map(|core| {
        let numa = core.numa_node.to_string();
        vec![core.cpu.to_string(), numa, core.siblings.clone(), state(core), core.holder.clone()]
    });
    let mut text = table(&["CPU", "NUMA", "CORE", "STATE", "HELD BY"], rows);
    if !told.foreign.is_empty() {
        let named = told.foreign.iter().take(MOST_FOREIGN);
        let named = named.map(|foreign| format!("{} ({}) on {}", cell(&foreign.name), foreign.pid, foreign.cpus));
        let mut named: Vec<_> = named.collect();
        let rest = told.foreign.len().saturating_sub(MOST_FOREIGN);
        named.extend((rest > 0).then(|| format!("{rest} more")));
        text.push_str(&format!("\n\nof no workload, and may run there: {}", named.join(", ")));
    }
    for problem in &told.problems {
        text.push_str(&format!("\n\nproblem: {}", cell(problem)));
    }
    text
}

fn state(core: &Core) -> String {
    let use_of_it = match (core.online, core.holder.is_empty(), core.reserved, core.offered) {
        (false, _, _, _) => "offline",
        (true, false, _, _) => "held",
        (true, true, true, _) => "reserved",
        (true, true, false, true) => "free",
        (true, true, false, false) => "shared",
    };
    if core.isolated { format!("{use_of_it}, isolated") } else { use_of_it.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ForeignProcess;

    #[test]
    fn cpus_are_drawn_by_memory_with_holders_and_what_is_wrong() {
        let core = |cpu, numa_node, siblings: &str| Core {
            cpu,
            numa_node,
            siblings: siblings.to_owned(),
            online: true,
            offered: true,
            ..Default::default()
        };
        let told = ListCoresResponse {
            cores: vec![
                Core { reserved: true, offered: false, ..core(0, 0, "0,4") },
                Core { holder: "lane".to_owned(), isolated: true, ..core(1, 1, "1") },
                Core { online: false, ..core(3, 0, "") },
                core(4, 0, "0,4"),
            ],
            foreign: vec![ForeignProcess { pid: 7, name: "sshd".into(), cpus: "1".into(), ..Default::default() }; 12],
            problems: vec!["CPUs 3 are held and offline".to_owned()],
            ..Default::default()
        };
        let text = drawn(&told);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["CPU", "NUMA", "CORE", "STATE", "HELD", "BY"]);
        assert!(lines[1].starts_with("0     0      0,4    reserved"), "{text}");
        assert!(lines[2].contains("offline") && lines[3].contains("free"), "{text}");
        assert!(lines[4].contains("held, isolated   lane"), "{text}");
        assert!(text.contains("sshd (7) on 1, 2 more"), "{text}");
        assert!(text.ends_with("problem: CPUs 3 are held and offline"), "{text}");
        assert_eq!(numbers(&told), "4");
    }
}
