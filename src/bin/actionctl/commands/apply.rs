//! `apply`: launches what documents describe.

use clap::{Args, ValueEnum};

use super::Context;
use super::verbs::ActionArgs;
use crate::api::{ActionSpec, Ignorable, Verb};
use crate::bundle::{self, Bundle};
use crate::exit::Exit;
use crate::failure::Result;
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
        Ok(bundle::group(&sources).into_iter().map(|bundle| self.job(verb, action, bundle)).collect())
    }

    fn job(&self, verb: Verb, action: &ActionArgs, bundle: Bundle) -> Job {
        let mut spec: ActionSpec = action.spec(verb, &bundle.target);
        spec.manifest.clone_from(&bundle.text);
        spec.parameters.mut_or_insert_default().ignore =
            self.ignore.iter().map(|ignored| Ignorable::from(*ignored).into()).collect();
        Job::of_bundle(spec, bundle)
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
    /// Options of every action.
    #[command(flatten)]
    pub action: ActionArgs,
}

/// Launches what the documents describe.
pub fn apply(verb: Verb, args: ApplyArgs, context: &mut Context) -> Result<Exit> {
    let jobs = args.files.jobs(verb, &args.action)?;
    let manner = args.action.manner(jobs.len())?;
    jobs::carry_out(jobs, manner, context)
}
