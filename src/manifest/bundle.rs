//! [`Bundle`]: the documents of one request, with those that were fetched because they are named.

use std::collections::BTreeSet;

use super::document::{self, Body, Document};
use super::error::{ManifestError, ManifestErrorKind, ManifestResult};
use super::expand::{self, ExpandOptions, Expansion, Root};
use super::kind::Kind;
use super::pod::Reading;
use super::pullpiri::Reference;
use super::{Limits, parse, unit};
use crate::model::action::Verb;
use crate::model::schedule::MissPolicy;
use crate::model::text::shown;

/// Documents that belong together. Every one in it has been read; no two have the same kind and name, and no two
/// describe a workload of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    limits: Limits,
    containers: usize,
    replaced: usize,
    /// Those of the request first.
    documents: Vec<Document>,
    /// How many are of the request.
    given: usize,
}

/// A document of the request as it is to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DocumentText<'b> {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: &'b str,
    /// Its text as it came.
    pub text: &'b str,
}

/// A document that somebody has kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its text; of a Model of which only the Pod is there, empty.
    pub text: String,
    /// Of a Model: the Pod that Pullpiri has made of it, whose specification counts.
    pub pod: Option<String>,
}

/// A document that is named and not there: the first of these kinds that is found under this name is wanted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    /// Kinds in order of preference.
    pub kinds: Vec<Kind>,
    /// The name.
    pub name: String,
}

/// A document before it is read.
enum Text<'t> {
    /// Of YAML or JSON.
    Tree(parse::Parsed),
    /// A unit.
    Unit(&'t str),
}

impl Bundle {
    /// Reads the documents of a text; empty ones are skipped, and a text without any is an empty bundle.
    pub fn parse(text: &str, limits: &Limits) -> Result<Self, ManifestError> {
        Self::parse_named(text, "", limits)
    }

    /// The same; a document that may be without a name of its own (a Compose project, a bundle, a unit) has this one
    /// then.
    pub fn parse_named(text: &str, name: &str, limits: &Limits) -> Result<Self, ManifestError> {
        let mut bundle = Self { limits: limits.clone(), containers: 0, replaced: 0, documents: Vec::new(), given: 0 };
        if unit::is_unit(text) {
            bundle.insert(Text::Unit(text), name)?;
        } else {
            for parsed in parse::documents(text, limits)? {
                bundle.insert(Text::Tree(parsed), name)?;
            }
        }
        bundle.given = bundle.documents.len();
        Ok(bundle)
    }

    /// Whether it holds no document.
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    /// The documents of the request, without those that were added.
    pub fn documents(&self) -> impl Iterator<Item = DocumentText<'_>> {
        self.documents.iter().take(self.given).map(|document| DocumentText {
            kind: document.kind,
            name: &document.name,
            text: &document.text,
        })
    }

    /// Adds a document that was wanted. Each text has to hold exactly this one.
    pub fn add(&mut self, kind: Kind, name: &str, stored: &Stored) -> Result<(), ManifestError> {
        let only = |text: &str| {
            let mut parsed = parse::documents(text, &self.limits)?.into_iter();
            let (Some(first), None) = (parsed.next(), parsed.next()) else {
                let message = format!("the kept text of {kind} '{}' is not one document", shown(name));
                return Err(ManifestError::new(ManifestErrorKind::Invalid, message));
            };
            Ok(first)
        };
        let text = match &stored.pod {
            Some(pod) if stored.text.is_empty() => Text::Tree(only(pod)?.into_model()),
            Some(pod) => Text::Tree(only(&stored.text)?.with_specification_of(only(pod)?)),
            None if kind == Kind::Unit => Text::Unit(&stored.text),
            None => Text::Tree(only(&stored.text)?),
        };
        self.insert(text, name)?;
        if let Some(document) = self.documents.last_mut() {
            document.pod.clone_from(&stored.pod);
        }
        match self.documents.last() {
            Some(document) if document.kind == kind && document.name == name => Ok(()),
            Some(_) | None => {
                self.documents.pop();
                let message = format!("the kept text of {kind} '{}' describes something else", shown(name));
                Err(ManifestError::new(ManifestErrorKind::Invalid, message))
            }
        }
    }

    /// Documents that the target needs and that are not there yet. Adding them may name more. An ambiguous target
    /// wants nothing; [`Self::expand`] says why.
    pub fn missing(&self, target: &str) -> Vec<Wanted> {
        match expand::root(self, target) {
            Ok(Some(root)) => self.missing_of(&root),
            Ok(None) if target.is_empty() => Vec::new(),
            Ok(None) => vec![Wanted { kinds: expand::TARGETS.to_vec(), name: target.to_owned() }],
            Err(_) => Vec::new(),
        }
    }

    /// Adds what the target needs, as far as `find` gives it, which is asked for several documents at once and answers in
    /// their order. What is still missing then is an error of [`Self::expand`]. Asks for each document once.
    pub fn complete<E: From<ManifestError>>(
        &mut self,
        target: &str,
        mut find: impl FnMut(&[(Kind, &str)]) -> Result<Vec<Option<Stored>>, E>,
    ) -> Result<(), E> {
        let mut asked: BTreeSet<Wanted> = BTreeSet::new();
        loop {
            let new: Vec<Wanted> = self.missing(target).into_iter().filter(|wanted| !asked.contains(wanted)).collect();
            if new.is_empty() {
                return Ok(());
            }
            let mut candidates: Vec<(Kind, String)> = Vec::new();
            for wanted in &new {
                candidates.extend(wanted.kinds.iter().map(|kind| (*kind, wanted.name.clone())));
            }
            let asked_for: Vec<_> = candidates.iter().map(|(kind, name)| (*kind, name.as_str())).collect();
            let mut found = candidates.iter().zip(find(&asked_for)?);
            for wanted in new {
                let of_wanted: Vec<_> = found.by_ref().take(wanted.kinds.len()).collect();
                let first = of_wanted.into_iter().find_map(|((kind, _), stored)| stored.map(|stored| (*kind, stored)));
                if let Some((kind, stored)) = first {
                    self.add(kind, &wanted.name, &stored)?;
                }
                asked.insert(wanted);
            }
        }
    }

    /// What a Scenario that is here does with which Package.
    pub fn action_of(&self, scenario: &str) -> Option<(Verb, &str)> {
        match &self.find(Kind::Scenario, scenario)?.body {
            Body::Scenario(scenario) => Some((scenario.action, &scenario.target.name)),
            Body::Workload { .. }
            | Body::Whole(_)
            | Body::Package(_)
            | Body::Volume(_)
            | Body::Network(_)
            | Body::Schedule(_)
            | Body::Policy(_)
            | Body::Kept => None,
        }
    }

    /// What a Policy that is here says of missed deadlines.
    pub fn miss_policy(&self, policy: &str) -> Option<&MissPolicy> {
        self.find(Kind::Policy, policy)?.body.as_miss_policy()
    }

    /// The workloads of the target, ready to be planned. Pure.
    pub fn expand(&self, options: &ExpandOptions<'_>) -> Result<Expansion, ManifestError> {
        expand::expand(self, options)
    }

    /// The document of this kind and name.
    pub(super) fn find(&self, kind: Kind, name: &str) -> Option<&Document> {
        self.documents.iter().find(|document| document.kind == kind && document.name == name)
    }

    /// Every document.
    pub(super) fn all(&self) -> &[Document] {
        &self.documents
    }

    fn insert(&mut self, text: Text<'_>, given: &str) -> ManifestResult<()> {
        if self.documents.len() >= self.limits.max_documents {
            return Err(ManifestError::limit("max_documents", self.limits.max_documents, "documents"));
        }
        let mut reading = Reading { limits: &self.limits, containers: self.containers, replaced: self.replaced };
        let (document, line) = match text {
            Text::Unit(text) => (document::read_unit(text, given, &mut reading)?, 1),
            Text::Tree(parsed) => {
                let line = parsed.root.line;
                (document::read(parsed, given, &mut reading)?, line)
            }
        };
        (self.containers, self.replaced) = (reading.containers, reading.replaced);
        let clash = self.documents.iter().find(|known| {
            let same_kind = known.kind == document.kind || (known.kind.is_workload() && document.kind.is_workload());
            same_kind && known.name == document.name
        });
        if let Some(known) = clash {
            let message = format!("{} has this name already", known.notes.title);
            let error = ManifestError::new(ManifestErrorKind::Invalid, message).at("metadata.name", line);
            return Err(error.within(&document.notes.title));
        }
        self.documents.push(document);
        Ok(())
    }

    fn missing_of(&self, root: &Root<'_>) -> Vec<Wanted> {
        let mut missing = Vec::new();
        let mut seen = BTreeSet::new();
        let mut want = |kind: Kind, name: &str| {
            let wanted = Wanted { kinds: vec![kind], name: name.to_owned() };
            if self.find(kind, name).is_none() && seen.insert(wanted.clone()) {
                missing.push(wanted);
            }
        };
        let networks_of = |document: &Document, want: &mut dyn FnMut(Kind, &str)| {
            if let Some(draft) = document.body.as_draft().filter(|_| document.kind == Kind::Model) {
                draft.networks.iter().for_each(|network| want(Kind::Network, network));
            }
        };
        let package = match root {
            Root::Scenario(_, scenario) => {
                want(Kind::Package, &scenario.target.name);
                self.package(&scenario.target)
            }
            Root::Package(_, package) => Some(*package),
            Root::Workloads(documents) => {
                documents.iter().for_each(|document| networks_of(document, &mut want));
                None
            }
        };
        if let Some(schedule) = package.as_ref().and_then(|package| package.schedule.as_ref()) {
            want(Kind::Schedule, &schedule.name);
        }
        for model in package.iter().flat_map(|package| &package.models) {
            want(Kind::Model, &model.model.name);
            model.volume.iter().for_each(|volume| want(Kind::Volume, &volume.name));
            model.network.iter().for_each(|network| want(Kind::Network, &network.name));
            if let Some(document) = self.find(Kind::Model, &model.model.name) {
                networks_of(document, &mut want);
            }
        }
        missing
    }

    fn package(&self, reference: &Reference) -> Option<&super::pullpiri::Package> {
        self.find(Kind::Package, &reference.name)?.body.as_package()
    }
}
