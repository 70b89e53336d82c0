//! What is refused before any effect: requests whose values do not fit, and documents beyond the node's ceiling. Pure.

use super::Settings;
use crate::error::{Error, ErrorCode, Result};
use crate::model::action::{ActionRequest, Verb};
use crate::model::workload::WorkloadSpec;

/// The longest grace that is taken: one hour.
pub const MAX_GRACE_MS: u64 = 3_600_000;

/// Signals that a stop or kill may be asked for.
const SIGNALS: [&str; 14] = [
    "SIGHUP", "SIGINT", "SIGQUIT", "SIGABRT", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGTERM", "SIGCONT", "SIGSTOP",
    "SIGWINCH", "SIGPWR", "SIGALRM", "SIGURG",
];

/// Brings a request into its one form: signal names upper case with `SIG`. Refuses values that cannot be meant.
pub fn normalize(request: &mut ActionRequest) -> Result<()> {
    let parameters = &mut request.parameters;
    if parameters.grace_ms.is_some_and(|grace| grace > MAX_GRACE_MS) {
        let message = format!("a grace is at most {MAX_GRACE_MS} ms");
        return Err(Error::invalid("parameters.grace_ms", message));
    }
    if let Some(signal) = &mut parameters.signal {
        let upper = signal.to_ascii_uppercase();
        *signal = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
        if !SIGNALS.contains(&signal.as_str()) {
            let message = format!("'{signal}' is not a signal that can be asked for; known are {}", SIGNALS.join(", "));
            return Err(Error::invalid("parameters.signal", message));
        }
        if !matches!(request.verb, Verb::Stop | Verb::Kill | Verb::Terminate | Verb::Restart) {
            let message = format!("the verb '{}' takes no signal", request.verb);
            return Err(Error::invalid("parameters.signal", message));
        }
    }
    if parameters.force && !matches!(request.verb, Verb::Remove | Verb::Scale) {
        return Err(Error::invalid("parameters.force", format!("the verb '{}' takes no force", request.verb)));
    }
    if !parameters.resources.is_empty() && request.verb != Verb::Scale {
        let message = format!("the verb '{}' changes no limits", request.verb);
        return Err(Error::invalid("parameters.resources", message));
    }
    if !parameters.containers.is_empty() && !matches!(request.verb, Verb::Start | Verb::Scale) {
        let message = format!("the verb '{}' is for all containers of a workload", request.verb);
        return Err(Error::invalid("parameters.containers", message));
    }
    check_nodes(request)?;
    let parameters = &request.parameters;
    if !parameters.ignore.is_empty() && !matches!(request.verb, Verb::Launch | Verb::Update) {
        return Err(Error::invalid("parameters.ignore", format!("the verb '{}' ignores nothing", request.verb)));
    }
    Ok(())
}

/// Nodes belong to an offload, and the one it goes to has to be given; a model of a Package may be looked for on one.
fn check_nodes(request: &ActionRequest) -> Result<()> {
    let (verb, parameters) = (request.verb, &request.parameters);
    if verb == Verb::Offload && parameters.target_node.is_none() {
        let error = Error::invalid("parameters.target_node", "an offload needs the node that it goes to");
        return Err(Error { code: ErrorCode::MissingField, ..error });
    }
    for (field, given) in [("target_node", &parameters.target_node), ("source_node", &parameters.source_node)] {
        let is_of_package = field == "source_node" && parameters.package.is_some();
        if verb != Verb::Offload && given.is_some() && !is_of_package {
            return Err(Error::invalid(format!("parameters.{field}"), format!("the verb '{verb}' takes no node")));
        }
    }
    Ok(())
}

/// Holds a workload against the node's ceiling.
pub fn check_ceiling(settings: &Settings, spec: &WorkloadSpec) -> Result<()> {
    settings.ceiling.check(spec).map_err(|violations| crate::security::ceiling::refusal(&spec.name, &violations))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::model::action::Parameters;

    fn request(verb: Verb, parameters: Parameters) -> ActionRequest {
        ActionRequest {
            id: "a".into(),
            verb,
            target: "w".into(),
            manifest: String::new(),
            parameters,
            deadline_ms: None,
            priority: 0,
            dry_run: false,
        }
    }

    #[test]
    fn signal_is_taken_in_any_case_with_and_without_its_prefix() {
        for word in ["term", "SIGTERM", "Term", "sigterm"] {
            let mut asked = request(Verb::Stop, Parameters { signal: Some(word.to_owned()), ..Parameters::default() });
            normalize(&mut asked).unwrap();
            assert_eq!(asked.parameters.signal.as_deref(), Some("SIGTERM"));
        }
    }

    #[test]
    fn parameters_that_mean_nothing_are_refused_with_their_field() {
        let nine = crate::model::resources::Resources { pids: Some(9), ..Default::default() };
        let one = ["main".to_owned()].into();
        let parameters = [
            ("parameters.signal", Verb::Stop, Parameters { signal: Some("FOO".into()), ..Parameters::default() }),
            ("parameters.signal", Verb::Launch, Parameters { signal: Some("TERM".into()), ..Parameters::default() }),
            ("parameters.grace_ms", Verb::Stop, Parameters { grace_ms: Some(u64::MAX), ..Parameters::default() }),
            ("parameters.force", Verb::Stop, Parameters { force: true, ..Parameters::default() }),
            ("parameters.resources", Verb::Update, Parameters { resources: nine, ..Parameters::default() }),
            ("parameters.containers", Verb::Stop, Parameters { containers: one, ..Parameters::default() }),
        ];
        for (field, verb, given) in parameters {
            let error = normalize(&mut request(verb, given)).unwrap_err();
            assert_eq!((error.kind, error.field.as_str()), (ErrorKind::InvalidArgument, field));
        }
    }
}
