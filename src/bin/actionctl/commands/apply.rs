//! `apply`: launches what documents describe; and the options for documents that other commands share.

use clap::{Args, ValueEnum};

use super::Context;
use super::verbs::{ActionArgs, PartialArgs};
use crate::api::{ActionSpec, Ignorable, Verb};
use crate::bundle::{self, Bundle};
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::jobs::{self, Job};
use crate::sources;

/// What a document may ask for and the caller gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Ignored {
    /// A Package's Schedule
    Schedule,
}

impl From<Ignored> for Ignorable {
    fn from(ignored: Ignored) -> Self {
        match ignored {
            Ignored::Schedule => Self::IGNORABLE_SCHEDULE,
        }
    }
}

/// Where documents come from.
#[derive(Debug, Clone, Args)]
pub struct FileArgs {
    /// A file, a folder (its *.yaml, *.yml and *.json by name) or - for stdin; may be given several times
    #[arg(short, long = "filename", value_name = "FILE|FOLDER|-")]
    pub file: Vec<String>,
    /// Look into the folders of a folder as well
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// Give up what a document asks for
    #[arg(long, value_enum, value_name = "WHAT")]
    pub ignore: Vec<Ignored>,
}

impl FileArgs {
    /// The actions that the documents are.
    pub fn jobs(&self, verb: Verb, action: &ActionArgs) -> Result<Vec<Job>> {
        let sources = sources::read(&self.file, self.recursive)?;
        Ok(bundle::group(&sources).into_iter().map(|bundle| self.of_bundle(verb, action, bundle)).collect())
    }

    /// The actions that the documents are or, where none are given, those on `targets` from what is stored of them.
    /// `example` is shown where neither is given.
    pub fn jobs_or_targets(
        &self,
        verb: Verb,
        action: &ActionArgs,
        targets: &[String],
        example: &str,
    ) -> Result<Vec<Job>> {
        match (self.file.is_empty(), targets) {
            (true, []) => Err(Failure::usage("neither documents nor targets are given").hint(example)),
            (true, targets) => Ok(targets.iter().map(|target| Job::new(self.spec(verb, action, target))).collect()),
            (false, []) => self.jobs(verb, action),
            (false, _) => Err(Failure::usage("give either documents with -f or targets, not both")),
        }
    }

    fn of_bundle(&self, verb: Verb, action: &ActionArgs, bundle: Bundle) -> Job {
        let mut spec = self.spec(verb, action, &bundle.target);
        spec.manifest.clone_from(&bundle.text);
        Job::of_bundle(spec, bundle)
    }

    fn spec(&self, verb: Verb, action: &ActionArgs, target: &str) -> ActionSpec {
        let mut spec = action.spec(verb, target);
        spec.parameters.mut_or_insert_default().ignore =
            self.ignore.iter().map(|ignored| Ignorable::from(*ignored).into()).collect();
        spec
    }
}

/// Options of `apply`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "All documents together are one action where they have one target: a Scenario or Package with \
    all that it names, or one Pod, Deployment or Model. Several targets that nothing joins are an action each.",
    mut_arg("file", |file| file.required(true)))]
pub struct ApplyArgs {
    /// Where documents come from.
    #[command(flatten)]
    pub files: FileArgs,
    /// Each workload by itself.
    #[command(flatten)]
    pub each: PartialArgs,
    /// Options of every action.
    #[command(flatten)]
    pub action: ActionArgs,
}

/// Launches what the documents describe.
pub fn apply(args: ApplyArgs, context: &mut Context) -> Result<Exit> {
    let mut jobs = args.files.jobs(Verb::VERB_LAUNCH, &args.action)?;
    for job in &mut jobs {
        job.spec.parameters.mut_or_insert_default().partial = args.each.partial;
    }
    let manner = args.action.manner(jobs.len())?;
    jobs::carry_out(jobs, manner, context)
}
