//! [`EngineRegistry`]: the engines of this node by name, whether they answer, and which one an action gets.
//!
//! One registry per process, built in `daemon.rs`. It asks engines nothing but their probe and their abilities; one
//! that hangs delays neither the others nor more than its own selection. Once a workload is known its engine is stored
//! with it, and nothing is selected again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::adapter::{Probe, RtResult, RuntimeAdapter, RuntimeCapabilities, RuntimeError};
use super::probes::Probes;
use super::{names, sim};
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::model::workload::ManifestFormat;

/// The order in which engines are tried when nothing names one.
const DEFAULT_PREFERENCE: &[&str] = &["podman", "docker", "containerd", "oci"];

/// An ability that an action needs of its engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Need {
    /// Several containers that share a network namespace.
    Pods,
    /// Named networks.
    UserNetworks,
    /// Fetching images.
    ImagePull,
    /// Limits on CPU, memory and processes.
    ResourceLimits,
    /// Pause and resume.
    Pause,
    /// Hibernate and wake.
    Checkpoint,
    /// A folder in place of an image.
    Rootfs,
    /// Units of systemd.
    Units,
    /// Running on other nodes.
    Remote,
}

impl Need {
    /// The need in words.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::UserNetworks => "networks",
            Self::ImagePull => "image pull",
            Self::ResourceLimits => "resource limits",
            Self::Pause => "pause",
            Self::Checkpoint => "checkpoint",
            Self::Rootfs => "rootfs",
            Self::Units => "services",
            Self::Remote => "remote",
        }
    }

    fn is_met(self, capabilities: &RuntimeCapabilities) -> bool {
        match self {
            Self::Pods => capabilities.supports_pods,
            Self::UserNetworks => capabilities.supports_user_networks,
            Self::ImagePull => capabilities.supports_image_pull,
            Self::ResourceLimits => capabilities.supports_resource_limits,
            Self::Pause => capabilities.supports_pause,
            Self::Checkpoint => capabilities.supports_checkpoint,
            Self::Rootfs => capabilities.supports_rootfs,
            Self::Units => capabilities.supports_service_management,
            Self::Remote => capabilities.supports_remote_execution,
        }
    }
}

/// What an action says about the engine it wants.
#[derive(Debug, Clone)]
pub struct SelectionRequest<'a> {
    /// Named by the caller, in any word for it; empty or `auto` for none. It or a failure.
    pub requested: &'a str,
    /// Named by the document's annotation, likewise. Where it is away or lacks an ability, another is taken.
    pub annotation: &'a str,
    /// The annotation is an order too: it or a failure.
    pub require: bool,
    /// The document's format.
    pub format: ManifestFormat,
    /// Whether the document names a node.
    pub names_node: bool,
    /// What the engine has to be able to do.
    pub needs: &'a [Need],
}

/// Why an engine was selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SelectionReason {
    /// The caller named it.
    Requested,
    /// The document named it.
    Annotation,
    /// The configuration names it as the default, or it is the only one.
    Default,
    /// It fits the document's format.
    Format,
    /// It is the first in order of preference.
    Preference,
}

impl fmt::Display for SelectionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Requested => "requested",
            Self::Annotation => "annotation",
            Self::Default => "default",
            Self::Format => "format",
            Self::Preference => "preference",
        })
    }
}

/// The engine that an action gets.
#[derive(Clone)]
pub struct Selection {
    /// It.
    pub engine: Arc<dyn RuntimeAdapter>,
    /// Why it.
    pub reason: SelectionReason,
    /// The engines that would have come first, each with why it did not.
    pub skipped: Vec<(String, String)>,
}

impl fmt::Debug for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Selection");
        out.field("engine", &self.engine.name()).field("reason", &self.reason).field("skipped", &self.skipped).finish()
    }
}

/// An engine as told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineOverview {
    /// Whether it answers.
    pub probe: Probe,
    /// What it can do, as its last probe proved it.
    pub capabilities: RuntimeCapabilities,
    /// Its place in the order in which engines are tried where nothing names one, from 1 on; `None` for one that has to
    /// be named.
    pub place: Option<usize>,
}

/// The engines of this node.
pub struct EngineRegistry {
    engines: BTreeMap<String, Arc<dyn RuntimeAdapter>>,
    first: Option<String>,
    /// Set by configuration, as against the first registered.
    explicit_default: Option<String>,
    preference: Vec<String>,
    probes: Probes,
}

impl Default for EngineRegistry {
    fn default() -> Self {
        Self::new()
    }
}

impl EngineRegistry {
    /// A registry without engines.
    pub fn new() -> Self {
        Self {
            engines: BTreeMap::new(),
            first: None,
            explicit_default: None,
            preference: DEFAULT_PREFERENCE.iter().map(|name| (*name).to_owned()).collect(),
            probes: Probes::default(),
        }
    }

    /// Adds an engine. The first is the default until another is set. A taken name is `AlreadyExists`.
    pub fn register(&mut self, engine: Arc<dyn RuntimeAdapter>) -> RtResult<()> {
        let name = engine.name().to_owned();
        if self.engines.contains_key(&name) {
            return Err(RuntimeError::AlreadyExists { what: format!("engine '{name}'"), detail: String::new() });
        }
        self.first.get_or_insert_with(|| name.clone());
        self.engines.insert(name, engine);
        Ok(())
    }

    /// The engine of this name.
    pub fn get(&self, name: &str) -> Option<Arc<dyn RuntimeAdapter>> {
        self.engines.get(name).cloned()
    }

    /// The names of all, sorted.
    pub fn names(&self) -> Vec<&str> {
        self.engines.keys().map(String::as_str).collect()
    }

    /// The default: the one that was set, otherwise the first registered.
    pub fn default_engine(&self) -> Option<Arc<dyn RuntimeAdapter>> {
        self.get(self.explicit_default.as_ref().or(self.first.as_ref())?)
    }

    /// Makes an engine the default. One that is not registered is `EngineNotAvailable`.
    pub fn set_default(&mut self, name: &str) -> RtResult<()> {
        if !self.engines.contains_key(name) {
            return Err(RuntimeError::EngineNotAvailable { engine: name.to_owned(), reason: self.not_here() });
        }
        self.explicit_default = Some(name.to_owned());
        Ok(())
    }

    /// Sets the order in which engines are tried when nothing names one. Those it leaves out come last, by name; the
    /// simulator never comes by order.
    pub fn set_preference(&mut self, order: Vec<String>) {
        self.preference = order;
    }

    /// Whether each engine answers: asked in parallel, within 2 s, or known from the last 5 s.
    pub fn availability(&self) -> BTreeMap<String, Probe> {
        self.probes.all(&self.engines)
    }

    /// Every engine with whether it answers, what it can do, and whether it is the one that is asked first.
    pub fn overview(&self) -> BTreeMap<String, EngineOverview> {
        let order = self.candidates("", ManifestFormat::Kubernetes, false);
        let probes = self.availability().into_iter();
        let overview = |(name, probe): (String, Probe)| {
            let capabilities = self.get(&name).map(|engine| engine.capabilities()).unwrap_or_default();
            let place = order.iter().position(|(candidate, _)| *candidate == name).map(|place| place + 1);
            (name, EngineOverview { probe, capabilities, place })
        };
        probes.map(overview).collect()
    }

    /// Selects the engine for an action. The simulator only where it is named, is the default that was set, or is the
    /// only engine. Fails where a name is unknown, and where no engine fits, naming each with why.
    pub fn select(&self, request: &SelectionRequest) -> Result<Selection> {
        let (requested, annotation) = (names::resolve(request.requested), names::resolve(request.annotation));
        if !requested.is_empty() {
            return self.select_requested(&requested, request.needs);
        }
        self.check_annotation(&annotation)?;
        let mut skipped = Vec::new();
        for (name, reason) in self.candidates(&annotation, request.format, request.names_node) {
            match self.fitting(&name, request.needs) {
                Ok(engine) => return Ok(Selection { engine, reason, skipped }),
                Err(error) if reason == SelectionReason::Annotation && request.require => return Err(error),
                Err(error) => skipped.push((name, error.message)),
            }
        }
        let why: Vec<_> = skipped.iter().map(|(_, why)| why.as_str()).collect();
        let why = if why.is_empty() { "none is configured".to_owned() } else { why.join("; ") };
        let error = unavailable(format!("no runtime engine can take this: {why}"));
        let hint = "the simulator is used only where it is asked for by name, or set as the default";
        Err(if self.engines.contains_key(sim::NAME) { error.hint(hint) } else { error })
    }

    /// The engine that [`Self::select`] would ask first, without asking it.
    pub fn likely(&self, request: &SelectionRequest) -> Option<String> {
        let requested = names::resolve(request.requested);
        if !requested.is_empty() {
            return Some(requested);
        }
        let annotation = names::resolve(request.annotation);
        let candidates = self.candidates(&annotation, request.format, request.names_node).into_iter();
        candidates.map(|(name, _)| name).find(|name| self.engines.contains_key(name))
    }

    fn select_requested(&self, name: &str, needs: &[Need]) -> Result<Selection> {
        if !self.engines.contains_key(name) {
            let message = if names::KNOWN.contains(&name) {
                format!("runtime engine '{name}' is not configured: {}", self.not_here())
            } else {
                let known = names::KNOWN.join(", ");
                format!("no runtime engine is called '{name}': known are {known}; {}", self.not_here())
            };
            return Err(Error::new(ErrorKind::InvalidArgument, ErrorCode::UnknownEngine, message));
        }
        let engine = self.fitting(name, needs)?;
        Ok(Selection { engine, reason: SelectionReason::Requested, skipped: Vec::new() })
    }

    /// An annotation may name an engine that another node has, but not one that nobody has.
    fn check_annotation(&self, name: &str) -> Result<()> {
        if name.is_empty() || names::KNOWN.contains(&name) || self.engines.contains_key(name) {
            return Ok(());
        }
        let mut known: BTreeSet<&str> = names::KNOWN.iter().copied().collect();
        known.extend(self.names());
        let known: Vec<_> = known.into_iter().collect();
        let message = format!("the document names the runtime '{name}'; known are {}", known.join(", "));
        Err(Error::new(ErrorKind::InvalidArgument, ErrorCode::UnknownEngine, message))
    }

    /// The engines to try, in order, each once.
    fn candidates(&self, annotation: &str, format: ManifestFormat, names_node: bool) -> Vec<(String, SelectionReason)> {
        let mut order = Vec::new();
        if !annotation.is_empty() {
            order.push((annotation, SelectionReason::Annotation));
        }
        let only = self.names().first().copied().filter(|_| self.engines.len() == 1);
        order.extend(self.explicit_default.as_deref().or(only).map(|name| (name, SelectionReason::Default)));
        let by_format = match format {
            ManifestFormat::Kubernetes | ManifestFormat::Pullpiri => "podman",
            ManifestFormat::Compose => "docker",
            ManifestFormat::Bundle => "oci",
            ManifestFormat::Unit if names_node => "bluechi",
            ManifestFormat::Unit => "systemd",
        };
        let here = |name: &&str| self.engines.contains_key(*name) && *name != sim::NAME;
        order.extend(Some(by_format).filter(here).map(|name| (name, SelectionReason::Format)));
        let preferred = self.preference.iter().map(String::as_str).chain(self.names()).filter(here);
        order.extend(preferred.map(|name| (name, SelectionReason::Preference)));
        let mut seen = BTreeSet::new();
        order.retain(|(name, _)| seen.insert(*name));
        order.into_iter().map(|(name, reason)| (name.to_owned(), reason)).collect()
    }

    /// The engine, if it is here, answers and can do what is needed.
    fn fitting(&self, name: &str, needs: &[Need]) -> Result<Arc<dyn RuntimeAdapter>> {
        let Some(engine) = self.get(name) else {
            return Err(unavailable(format!("{name} is not configured on this node")));
        };
        self.check_answers(&engine)?;
        let capabilities = engine.capabilities();
        let missing: Vec<_> = needs.iter().filter(|need| !need.is_met(&capabilities)).map(|need| need.word()).collect();
        if missing.is_empty() {
            return Ok(engine);
        }
        let message = format!("{name} does not support {}", missing.join(", "));
        Err(Error::new(ErrorKind::Unimplemented, ErrorCode::EngineLacksCapability, message))
    }

    /// Fails where the engine does not answer a probe, within 2 s.
    pub fn check_answers(&self, engine: &Arc<dyn RuntimeAdapter>) -> Result<()> {
        check(engine.as_ref(), self.probes.one(engine))
    }

    /// Every engine, by name.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<dyn RuntimeAdapter>> {
        self.engines.values()
    }

    /// Their probes.
    pub(super) fn probes(&self) -> &Probes {
        &self.probes
    }

    fn not_here(&self) -> String {
        format!("this node has {}", if self.engines.is_empty() { "none".to_owned() } else { self.names().join(", ") })
    }
}

/// Fails where this is the answer of an engine that is away.
pub(super) fn check(engine: &dyn RuntimeAdapter, probe: Probe) -> Result<()> {
    match probe {
        Probe::Available { .. } => Ok(()),
        Probe::Unavailable { reason } => Err(unavailable(format!("{} is not available: {reason}", engine.name()))),
    }
}

fn unavailable(message: String) -> Error {
    Error::new(ErrorKind::Unavailable, ErrorCode::EngineUnavailable, message)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::time::{Duration, Instant};

    use super::super::double::{Engine, engine};
    use super::*;

    fn registry(engines: Vec<Engine>) -> EngineRegistry {
        let mut registry = EngineRegistry::new();
        for engine in engines {
            registry.register(Arc::new(engine)).unwrap();
        }
        registry
    }

    fn request<'a>(requested: &'a str, annotation: &'a str) -> SelectionRequest<'a> {
        let format = ManifestFormat::Pullpiri;
        SelectionRequest { requested, annotation, require: false, format, names_node: false, needs: &[Need::Pods] }
    }

    fn selected(registry: &EngineRegistry, request: &SelectionRequest) -> (String, SelectionReason) {
        let selection = registry.select(request).unwrap();
        (selection.engine.name().to_owned(), selection.reason)
    }

    // req: BM-01
    #[test]
    fn first_registered_is_the_default_and_a_taken_name_is_refused() {
        let mut registry = registry(vec![engine("podman"), engine("docker")]);
        assert_eq!(registry.names(), ["docker", "podman"]);
        assert_eq!(registry.default_engine().unwrap().name(), "podman");
        registry.set_default("docker").unwrap();
        assert_eq!(registry.default_engine().unwrap().name(), "docker");
        let again = registry.register(Arc::new(engine("podman")));
        assert!(matches!(again, Err(RuntimeError::AlreadyExists { .. })));
        let unknown = registry.set_default("crio").unwrap_err();
        assert!(matches!(unknown, RuntimeError::EngineNotAvailable { .. }));
        assert!(unknown.to_string().contains("docker, podman"), "{unknown}");
    }

    // req: BM-02
    #[test]
    fn selection_follows_request_annotation_default_format_and_preference() {
        let mut registry = registry(vec![engine("sim"), engine("docker"), engine("podman"), engine("oci")]);
        assert_eq!(selected(&registry, &request("oci", "docker")), ("oci".into(), SelectionReason::Requested));
        assert_eq!(selected(&registry, &request("sim", "")), ("sim".into(), SelectionReason::Requested));
        assert_eq!(selected(&registry, &request("", "sim")), ("sim".into(), SelectionReason::Annotation));
        assert_eq!(selected(&registry, &request("", "docker")), ("docker".into(), SelectionReason::Annotation));
        assert_eq!(selected(&registry, &request("", "")), ("podman".into(), SelectionReason::Format));
        registry.set_default("sim").unwrap();
        assert_eq!(selected(&registry, &request("", "")), ("sim".into(), SelectionReason::Default));
    }

    // req: BM-02
    #[test]
    fn format_prefers_its_own_engine_and_falls_back() {
        let all = ["sim", "bluechi", "docker", "oci", "podman", "systemd"];
        let registry = registry(all.map(engine).into_iter().collect());
        for (format, names_node, name) in [
            (ManifestFormat::Kubernetes, true, "podman"),
            (ManifestFormat::Pullpiri, false, "podman"),
            (ManifestFormat::Compose, false, "docker"),
            (ManifestFormat::Bundle, false, "oci"),
            (ManifestFormat::Unit, false, "systemd"),
            (ManifestFormat::Unit, true, "bluechi"),
        ] {
            let asked = SelectionRequest { format, names_node, ..request("", "") };
            assert_eq!(selected(&registry, &asked), (name.to_owned(), SelectionReason::Format), "{format:?}");
            assert_eq!(registry.likely(&asked).as_deref(), Some(name));
        }
        let fewer = self::registry(vec![engine("podman"), engine("sim")]);
        let asked = SelectionRequest { format: ManifestFormat::Compose, ..request("", "") };
        assert_eq!(selected(&fewer, &asked), ("podman".into(), SelectionReason::Preference));
        let remote = SelectionRequest { format: ManifestFormat::Unit, needs: &[Need::Remote], ..request("", "") };
        let error = fewer.select(&remote).unwrap_err();
        assert!(error.message.contains("does not support remote"), "{error}");
    }

    #[test]
    fn order_of_preference_is_configurable() {
        let engines = || vec![engine("docker"), engine("oci")];
        assert_eq!(selected(&registry(engines()), &request("", "")), ("docker".into(), SelectionReason::Preference));
        let mut registry = registry(engines());
        registry.set_preference(vec!["oci".into(), "docker".into()]);
        assert_eq!(selected(&registry, &request("", "")), ("oci".into(), SelectionReason::Preference));
    }

    // req: BM-02
    #[test]
    fn annotated_engine_that_is_away_is_skipped_with_its_reason_or_required() {
        let registry = registry(vec![engine("podman"), Engine { away: true, ..engine("docker") }]);
        let fallback = registry.select(&request("", "docker")).unwrap();
        assert_eq!(fallback.engine.name(), "podman");
        assert_eq!(fallback.skipped, [("docker".into(), "docker is not available: no such socket".into())]);
        let elsewhere = registry.select(&request("", "containerd")).unwrap();
        assert_eq!(elsewhere.skipped[0].1, "containerd is not configured on this node");
        let required = registry.select(&SelectionRequest { require: true, ..request("", "docker") }).unwrap_err();
        assert_eq!((required.kind, required.code), (ErrorKind::Unavailable, ErrorCode::EngineUnavailable));
    }

    #[test]
    fn requested_engine_that_is_away_or_lacks_an_ability_is_no_fallback() {
        let lacking = Engine { pods: false, ..engine("oci") };
        let registry = registry(vec![engine("podman"), Engine { away: true, ..engine("docker") }, lacking]);
        let away = registry.select(&request("docker", "")).unwrap_err();
        assert_eq!(away.code, ErrorCode::EngineUnavailable);
        let lacks = registry.select(&request("oci", "")).unwrap_err();
        assert_eq!((lacks.kind, lacks.code), (ErrorKind::Unimplemented, ErrorCode::EngineLacksCapability));
        assert!(lacks.message.contains("pods"), "{lacks}");
    }

    // req: KO-01
    #[test]
    fn unknown_name_is_refused_with_the_known_ones() {
        let registry = registry(vec![engine("podman"), engine("sim")]);
        for request in [request("podmann", ""), request("", "podmann")] {
            let error = registry.select(&request).unwrap_err();
            assert_eq!((error.kind, error.code), (ErrorKind::InvalidArgument, ErrorCode::UnknownEngine));
            assert!(error.message.contains("podman, sim"), "{error}");
        }
    }

    // req: KO-01
    #[test]
    fn engine_is_named_in_any_case_and_by_its_usual_words_and_auto_takes_the_first_that_answers() {
        let registry = registry(vec![Engine { away: true, ..engine("podman") }, engine("docker"), engine("oci")]);
        assert_eq!(selected(&registry, &request("Docker", "")).0, "docker");
        assert_eq!(selected(&registry, &request("crun", "")).0, "oci");
        assert_eq!(selected(&registry, &request("", "RunC")), ("oci".into(), SelectionReason::Annotation));
        for auto in [request("auto", ""), request("", "Auto")] {
            assert_eq!(selected(&registry, &auto), ("docker".into(), SelectionReason::Preference));
        }
        let here = registry.select(&request("containerd", "")).unwrap_err();
        assert!(here.message.contains("is not configured"), "{here}");
    }

    // req: BM-02
    #[test]
    fn simulator_is_no_fallback_but_serves_where_it_is_all_there_is() {
        let beside = registry(vec![engine("sim"), Engine { away: true, ..engine("podman") }]);
        let error = beside.select(&request("", "")).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable);
        assert!(error.message.contains("podman is not available: no such socket"), "{error}");
        assert!(error.hint.contains("simulator"), "{error:?}");
        assert_eq!(
            selected(&registry(vec![engine("sim")]), &request("", "")),
            ("sim".into(), SelectionReason::Default)
        );
        assert!(registry(vec![]).select(&request("", "")).unwrap_err().message.contains("none is configured"));
    }

    // req: BM-01
    #[test]
    fn engine_that_hangs_is_away_after_two_seconds_and_delays_no_other() {
        let hanging = Engine { hangs: Duration::from_secs(5), ..engine("docker") };
        let probes = Arc::clone(&hanging.probes);
        let registry = registry(vec![hanging, engine("podman")]);
        let began = Instant::now();
        assert_eq!(selected(&registry, &request("", "")).0, "podman");
        assert!(began.elapsed() < Duration::from_secs(1));
        let all = registry.availability();
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        assert!(matches!(all["podman"], Probe::Available { .. }));
        assert!(matches!(all["docker"], Probe::Unavailable { .. }));
        let began = Instant::now();
        assert!(matches!(registry.availability()["docker"], Probe::Unavailable { .. }));
        assert!(began.elapsed() < Duration::from_secs(1), "waited again for a probe that hangs");
        assert_eq!(probes.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn engine_that_hung_is_taken_to_hang_until_it_answers() {
        let hanging = Engine { hangs: Duration::from_millis(1200), away: true, ..engine("docker") };
        let registry = registry(vec![hanging, engine("podman")]);
        let docker = registry.get("docker").unwrap();
        assert!(registry.check_answers(&docker).is_err());
        // Longer than that holds.
        std::thread::sleep(Duration::from_millis(5_100));
        let began = Instant::now();
        assert!(registry.check_answers(&docker).is_err());
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }

    #[test]
    fn answers_hold_for_a_while() {
        let podman = engine("podman");
        let probes = Arc::clone(&podman.probes);
        let registry = registry(vec![podman]);
        registry.availability();
        registry.select(&request("", "")).unwrap();
        assert_eq!(probes.load(Ordering::SeqCst), 1);
    }
}
