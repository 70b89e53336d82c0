//! The built-in gate: rules from YAML files in drop-in folders.
//!
//! ```yaml
//! default: allow            # for what no rule speaks of; allow where no file says otherwise
//! rules:
//!   - name: only-our-images
//!     effect: deny          # deny or allow
//!     reason: images come from the vehicle's registry
//!     verbs: [launch]       # any of them; absent: every verb
//!     targets: ["lane-*"]   # the action's target; * is any text, ? one character
//!     callers: ["uid:*"]    # who asks
//!     images: ["docker.io/*"]
//!     packages: ["*-pkg"]   # the workload's Package
//!     labels: {app: "lane*"}# all of them, the workload's
//! ```
//!
//! A rule matches where everything that it gives matches. It is held against each container of each workload on its
//! own; rules with `images`, `packages` or `labels` match no action whose workloads are not known. **Deny wins**: one
//! matching deny rule refuses the whole action, whatever the files' order. What no deny rule matches is allowed by a
//! matching allow rule or by the default, and every container has to be. The default `deny` does not hold for stop,
//! kill, remove and terminate: only a deny rule refuses those.
//!
//! Files end in `.yaml` or `.yml`. One of the same name in a later folder takes the place of that in an earlier one;
//! an empty one switches it off. Unknown keys are refused.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use serde::Deserialize;

use super::glob::matches;
use super::{PolicyError, PolicyGate, PolicyQuestion, Verdict};
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::model::action::{Lane, Verb};
use crate::model::workload::{ContainerSpec, WorkloadSpec};

/// The largest file.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// The most rules of all files.
const MAX_RULES: usize = 1000;
/// The most files.
const MAX_FILES: usize = 256;

/// What a rule, or the default, says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Effect {
    Allow,
    Deny,
}

/// One file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    default: Option<Effect>,
    rules: Vec<Rule>,
}

/// One rule as it stands in its file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    name: String,
    effect: Effect,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    verbs: Vec<Verb>,
    #[serde(default)]
    targets: Vec<String>,
    #[serde(default)]
    callers: Vec<String>,
    #[serde(default)]
    images: Vec<String>,
    #[serde(default)]
    packages: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// The file; set after reading.
    #[serde(skip)]
    file: String,
}

/// Every rule of every file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Rules {
    /// The default with the file that says it.
    default: Option<(Effect, String)>,
    rules: Vec<Rule>,
}

/// The built-in gate. Without files it allows everything.
#[derive(Debug, Default)]
pub struct BuiltinPolicy {
    rules: RwLock<Arc<Rules>>,
}

impl BuiltinPolicy {
    /// Reads the rules of these folders, later ones over earlier ones; a folder that does not exist has none.
    pub fn load(folders: &[PathBuf]) -> Result<Self, PolicyError> {
        Ok(Self { rules: RwLock::new(Arc::new(Rules::load(folders)?)) })
    }

    /// Reads the rules anew. On an error those in force stay.
    pub fn reload(&self, folders: &[PathBuf]) -> Result<(), PolicyError> {
        let rules = Arc::new(Rules::load(folders)?);
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
        Ok(())
    }

    /// How many rules are in force.
    pub fn rule_count(&self) -> usize {
        self.rules().rules.len()
    }

    fn rules(&self) -> Arc<Rules> {
        // Nothing can panic under the lock: it is held for a copy of a pointer.
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl PolicyGate for BuiltinPolicy {
    fn check(
        &self,
        question: &PolicyQuestion<'_>,
        _deadline: Deadline,
        _cancel: &CancelToken,
    ) -> Result<Verdict, PolicyError> {
        // Rules are in memory and bounded; there is nothing to wait for.
        Ok(self.rules().check(question))
    }
}

impl Rules {
    fn load(folders: &[PathBuf]) -> Result<Self, PolicyError> {
        let mut rules = Self::default();
        for path in files(folders)? {
            rules.add(&path, &read(&path)?)?;
        }
        Ok(rules)
    }

    fn add(&mut self, path: &Path, text: &str) -> Result<(), PolicyError> {
        let name = path.display().to_string();
        let fail = |line: u64, reason: String| PolicyError::File { file: name.clone(), line, reason };
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return Ok(());
        }
        let file: File = serde_saphyr::from_str_with_options(text, options()).map_err(|error| {
            let line = error.location().map_or(0, |location| location.line());
            fail(line, error.without_snippet().to_string())
        })?;
        if let Some(default) = file.default {
            match &self.default {
                Some((known, other)) if *known != default => {
                    return Err(fail(0, format!("its default is not that of '{other}'")));
                }
                Some(_) | None => self.default = Some((default, name.clone())),
            }
        }
        for mut rule in file.rules {
            if rule.name.trim().is_empty() {
                return Err(fail(0, "a rule has an empty name".to_owned()));
            }
            if self.rules.iter().any(|known| known.file == name && known.name == rule.name) {
                return Err(fail(0, format!("rule '{}' is given twice", rule.name)));
            }
            let patterns = rule.targets.iter().chain(&rule.callers).chain(&rule.images).chain(&rule.packages);
            if patterns.into_iter().any(String::is_empty) {
                return Err(fail(0, format!("rule '{}' has an empty pattern, which matches nothing", rule.name)));
            }
            rule.file.clone_from(&name);
            self.rules.push(rule);
        }
        if self.rules.len() > MAX_RULES {
            return Err(fail(0, format!("there are more than {MAX_RULES} rules with it")));
        }
        Ok(())
    }

    fn check(&self, question: &PolicyQuestion<'_>) -> Verdict {
        let subjects = subjects(question);
        for subject in &subjects {
            if let Some(rule) = self.matching(Effect::Deny, question, subject) {
                return rule.denial(subject);
            }
        }
        let Some((Effect::Deny, file)) = &self.default else { return Verdict::Allow };
        if question.verb.lane() == Lane::Urgent {
            return Verdict::Allow;
        }
        match subjects.iter().find(|subject| self.matching(Effect::Allow, question, subject).is_none()) {
            Some(subject) => Verdict::Deny {
                rule: format!("the default of {file}"),
                reason: format!("no rule allows it{}", words(subject)),
                suggested_node: String::new(),
            },
            None => Verdict::Allow,
        }
    }

    fn matching(&self, effect: Effect, question: &PolicyQuestion<'_>, subject: &Subject<'_>) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.effect == effect && rule.is_match(question, subject))
    }
}

/// One container of one workload; `None` where an action's workloads are not known.
type Subject<'a> = Option<(&'a WorkloadSpec, &'a ContainerSpec)>;

fn subjects<'a>(question: &PolicyQuestion<'a>) -> Vec<Subject<'a>> {
    let pairs = question.workloads.iter().flat_map(|spec| spec.all_containers().map(move |one| Some((spec, one))));
    let subjects: Vec<Subject<'a>> = pairs.collect();
    if subjects.is_empty() { vec![None] } else { subjects }
}

fn words(subject: &Subject<'_>) -> String {
    subject.map_or_else(String::new, |(spec, container)| {
        format!(" (workload '{}', container '{}', image '{}')", spec.name, container.name, container.image)
    })
}

impl Rule {
    fn is_match(&self, question: &PolicyQuestion<'_>, subject: &Subject<'_>) -> bool {
        let any = |patterns: &[String], text: &str| {
            patterns.is_empty() || patterns.iter().any(|pattern| matches(pattern, text))
        };
        let of_action = (self.verbs.is_empty() || self.verbs.contains(&question.verb))
            && any(&self.targets, question.target)
            && any(&self.callers, question.caller);
        let of_workload = match subject {
            Some((spec, container)) => {
                let label = |(key, pattern): (&String, &String)| {
                    spec.labels.get(key).is_some_and(|value| matches(pattern, value))
                };
                any(&self.images, &container.image)
                    && any(&self.packages, &spec.package)
                    && self.labels.iter().all(label)
            }
            None => self.images.is_empty() && self.packages.is_empty() && self.labels.is_empty(),
        };
        of_action && of_workload
    }

    fn denial(&self, subject: &Subject<'_>) -> Verdict {
        let reason = if self.reason.is_empty() { "no reason is given" } else { &self.reason };
        Verdict::Deny {
            rule: format!("rule '{}' of {}", self.name, self.file),
            reason: format!("{reason}{}", words(subject)),
            suggested_node: String::new(),
        }
    }
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! { with_snippet: false, strict_booleans: true }
}

/// The files of the folders by name, each from the last folder that has it.
fn files(folders: &[PathBuf]) -> Result<Vec<PathBuf>, PolicyError> {
    let mut files = BTreeMap::new();
    for folder in folders {
        let fail = |error: std::io::Error| failure(folder, error.to_string());
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(fail(error)),
        };
        for entry in entries {
            let path = entry.map_err(fail)?.path();
            let is_rules = path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
            let name = path.file_name().unwrap_or_default().to_owned();
            if is_rules && !name.as_encoded_bytes().starts_with(b".") {
                files.insert(name, path);
            }
            if files.len() > MAX_FILES {
                return Err(failure(folder, format!("there are more than {MAX_FILES} files")));
            }
        }
    }
    Ok(files.into_values().collect())
}

/// The text of a file. A link to `/dev/null` is an empty file; nothing else that is no file is opened, since it could
/// block.
fn read(path: &Path) -> Result<String, PolicyError> {
    let fail = |error: std::io::Error| failure(path, error.to_string());
    let kind = fs::metadata(path).map_err(fail)?.file_type();
    if !kind.is_file() && !kind.is_char_device() {
        return Err(failure(path, "is no file".to_owned()));
    }
    let mut bytes = Vec::new();
    fs::File::open(path).map_err(fail)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(failure(path, format!("is larger than {MAX_FILE_BYTES} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| failure(path, "is no UTF-8".to_owned()))
}

fn failure(path: &Path, reason: String) -> PolicyError {
    PolicyError::File { file: path.display().to_string(), line: 0, reason }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::manifest::{Bundle, ExpandOptions, Limits};

    fn workloads(images: &[&str]) -> Vec<WorkloadSpec> {
        let mut text = String::from(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: lane, labels: {app: lane-core}}\nspec:\n  containers:\n",
        );
        for (index, image) in images.iter().enumerate() {
            text.push_str(&format!("  - {{name: c{index}, image: \"{image}\"}}\n"));
        }
        let bundle = Bundle::parse(&text, &Limits::default()).unwrap();
        let ignore = BTreeSet::new();
        let options = ExpandOptions::new(Verb::Launch, "", "n", &ignore);
        let mut specs = bundle.expand(&options).unwrap().workloads;
        specs[0].package = "lane-pkg".into();
        specs
    }

    fn rules(text: &str) -> Rules {
        let mut rules = Rules::default();
        rules.add(Path::new("/p/a.yaml"), text).unwrap();
        rules
    }

    fn is_allowed(rules: &Rules, verb: Verb, target: &str, workloads: &[WorkloadSpec]) -> bool {
        rules.check(&PolicyQuestion { verb, target, workloads, caller: "uid:7" }) == Verdict::Allow
    }

    fn refusal(text: &str) -> PolicyError {
        Rules::default().add(Path::new("/p/a.yaml"), text).unwrap_err()
    }

    #[test]
    fn every_matcher_has_to_match() {
        let specs = workloads(&["reg.local/a:1"]);
        for (matcher, matches) in [
            ("verbs: [launch, start]", true),
            ("verbs: [stop]", false),
            ("targets: [\"x\", \"la*\"]", true),
            ("targets: [\"a*\"]", false),
            ("callers: [\"uid:*\"]", true),
            ("callers: [\"tcp:*\"]", false),
            ("images: [\"reg.local/*\"]", true),
            ("images: [\"docker.io/*\"]", false),
            ("packages: [\"*-pkg\"]", true),
            ("packages: [other]", false),
            ("labels: {app: \"lane-*\"}", true),
            ("labels: {app: \"lane-*\", tier: \"*\"}", false),
            ("verbs: [launch]\n    images: [\"other*\"]", false),
        ] {
            let rules = rules(&format!("rules:\n  - name: r\n    effect: deny\n    {matcher}\n"));
            assert_eq!(!is_allowed(&rules, Verb::Launch, "lane", &specs), matches, "{matcher}");
        }
    }

    #[test]
    fn deny_wins_over_allow_and_names_rule_file_and_container() {
        let rules = rules("rules:\n  - {name: all, effect: allow}\n  - {name: none, effect: deny, reason: why}\n");
        let specs = workloads(&["a"]);
        let question = PolicyQuestion { verb: Verb::Launch, target: "lane", workloads: &specs, caller: "" };
        let Verdict::Deny { rule, reason, .. } = rules.check(&question) else { panic!() };
        assert_eq!(rule, "rule 'none' of /p/a.yaml");
        assert!(reason.starts_with("why") && reason.contains("container 'c0', image 'a'"), "{reason}");
    }

    #[test]
    fn with_default_deny_every_container_has_to_be_allowed() {
        let rules = rules("default: deny\nrules:\n  - {name: ours, effect: allow, images: [\"reg.local/*\"]}\n");
        assert!(is_allowed(&rules, Verb::Launch, "lane", &workloads(&["reg.local/a", "reg.local/b"])));
        assert!(!is_allowed(&rules, Verb::Launch, "lane", &workloads(&["reg.local/a", "docker.io/b"])));
        assert!(!is_allowed(&rules, Verb::Launch, "lane", &[]));
    }

    #[test]
    fn default_deny_does_not_keep_workloads_from_being_ended() {
        let deny = rules("default: deny\n");
        for verb in Verb::ALL {
            assert_eq!(is_allowed(&deny, *verb, "lane", &[]), verb.lane() == Lane::Urgent, "{verb}");
        }
        let explicit = rules("rules: [{name: r, effect: deny, verbs: [stop]}]\n");
        assert!(!is_allowed(&explicit, Verb::Stop, "lane", &[]));
    }

    #[test]
    fn without_rules_everything_is_allowed() {
        let gate = BuiltinPolicy::load(&[PathBuf::from("/nonexistent/policy.d")]).unwrap();
        let question = PolicyQuestion { verb: Verb::Launch, target: "a", workloads: &[], caller: "" };
        let deadline = Deadline::after(Duration::from_secs(1));
        assert_eq!(gate.check(&question, deadline, &CancelToken::new()), Ok(Verdict::Allow));
    }

    #[test]
    fn wrong_files_are_refused_with_file_and_line() {
        for (text, line, words) in [
            ("rules:\n  - name: r\n    effect: deny\n    image: [x]\n", 4, "image"),
            ("rules:\n  - name: r\n    effect: forbid\n", 3, "forbid"),
            ("rules:\n  - name: r\n    effect: deny\n    verbs: [lunch]\n", 4, "lunch"),
            ("defualt: deny\n", 1, "defualt"),
            ("rules:\n  - effect: deny\n", 2, "name"),
            ("rules: [\n", 2, ""),
        ] {
            let error = refusal(text);
            let PolicyError::File { file, line: found, .. } = &error else { panic!() };
            assert_eq!(file, "/p/a.yaml");
            assert!(found.abs_diff(line) <= 1 && *found > 0, "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn rules_that_say_nothing_or_twice_the_same_are_refused() {
        assert!(refusal("rules: [{name: '', effect: deny}]").to_string().contains("empty name"));
        assert!(refusal("rules: [{name: a, effect: deny}, {name: a, effect: allow}]").to_string().contains("twice"));
        assert!(refusal("rules: [{name: a, effect: deny, images: ['']}]").to_string().contains("empty pattern"));
        let mut both = rules("default: deny\n");
        let error = both.add(Path::new("/p/b.yaml"), "default: allow\n").unwrap_err();
        assert!(error.to_string().contains("'/p/a.yaml'"), "{error}");
    }

    #[test]
    fn later_folders_replace_files_of_the_same_name_and_empty_ones_switch_off() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let deny = |name: &str| format!("rules: [{{name: {name}, effect: deny, targets: [{name}]}}]\n");
        fs::write(first.path().join("10-a.yaml"), deny("a")).unwrap();
        fs::write(first.path().join("20-b.yml"), deny("b")).unwrap();
        fs::write(first.path().join("30-c.yaml"), deny("c")).unwrap();
        fs::write(first.path().join("notes.txt"), "no rules").unwrap();
        fs::write(first.path().join(".hidden.yaml"), "no: rules").unwrap();
        fs::write(second.path().join("10-a.yaml"), deny("z")).unwrap();
        std::os::unix::fs::symlink("/dev/null", second.path().join("20-b.yml")).unwrap();
        let gate = BuiltinPolicy::load(&[first.path().into(), second.path().into()]).unwrap();
        let rules = gate.rules();
        let denied: Vec<&str> =
            ["a", "b", "c", "z"].into_iter().filter(|name| !is_allowed(&rules, Verb::Start, name, &[])).collect();
        assert_eq!(denied, ["c", "z"]);
    }

    #[test]
    fn bad_file_at_a_reload_leaves_the_rules_in_force() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        fs::write(&file, "rules: [{name: a, effect: deny}]\n").unwrap();
        let gate = BuiltinPolicy::load(&[folder.path().into()]).unwrap();
        fs::write(&file, "rules: [{nam: a}]\n").unwrap();
        assert!(gate.reload(&[folder.path().into()]).is_err());
        assert_eq!(gate.rule_count(), 1);
        fs::write(&file, "").unwrap();
        gate.reload(&[folder.path().into()]).unwrap();
        assert_eq!(gate.rule_count(), 0);
    }

    #[test]
    fn what_is_no_file_or_too_large_is_refused_without_blocking() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        let load = || BuiltinPolicy::load(&[folder.path().into()]).unwrap_err().to_string();
        assert!(load().contains("is no file"), "{}", load());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "#".repeat(1024 * 1024 + 1)).unwrap();
        assert!(load().contains("larger than"), "{}", load());
    }
}
