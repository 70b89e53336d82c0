//! How reading documents fails: [`ManifestError`] names the document, the path in it, the line and what is wrong.

use std::fmt;

use crate::error::{Error, ErrorCode, ErrorKind};

/// What is the matter with a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ManifestErrorKind {
    /// It is no YAML or JSON, or not of its kind's form.
    Invalid,
    /// It asks for something that cannot take effect here.
    Unsupported,
    /// It is larger than configured.
    Limit,
    /// Another document that it names is neither given nor stored.
    DocumentNotFound,
    /// Nothing of the target's name is described.
    TargetNotFound,
}

/// A document that cannot be used, with the place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestError {
    /// What is the matter.
    pub kind: ManifestErrorKind,
    /// The document: `Model 'lane-core'`; empty while that is not known.
    pub document: String,
    /// The path in the document: `spec.containers[0].image`; may be empty.
    pub path: String,
    /// The line from 1 in the text in which the document was given; 0 where there is none.
    pub line: u32,
    /// What is wrong.
    pub message: String,
    /// What to do next; may be empty.
    pub hint: String,
}

/// The result of reading documents.
pub type ManifestResult<T> = Result<T, ManifestError>;

impl ManifestError {
    /// An error without place.
    pub fn new(kind: ManifestErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            document: String::new(),
            path: String::new(),
            line: 0,
            message: message.into(),
            hint: String::new(),
        }
    }

    /// A limit that is passed, with its configured value.
    pub fn limit(name: &str, value: usize, what: &str) -> Self {
        Self::new(ManifestErrorKind::Limit, format!("{what}: more than the limit {name} of {value} allows"))
    }

    /// The same error at this place.
    #[must_use]
    pub fn at(mut self, path: impl Into<String>, line: u32) -> Self {
        self.path = path.into();
        self.line = line;
        self
    }

    /// The same error with what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// The same error with its document, where it has none yet.
    #[must_use]
    pub fn within(mut self, document: &str) -> Self {
        if self.document.is_empty() {
            self.document = document.to_owned();
        }
        self
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = if self.line == 0 { String::new() } else { format!("line {}", self.line) };
        let place: Vec<&str> = [&self.document, &line, &self.path]
            .into_iter()
            .map(String::as_str)
            .filter(|part| !part.is_empty())
            .collect();
        if !place.is_empty() {
            write!(f, "{}: ", place.join(", "))?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for ManifestError {}

impl From<ManifestError> for Error {
    fn from(error: ManifestError) -> Self {
        let (kind, code) = match error.kind {
            ManifestErrorKind::Invalid => (ErrorKind::InvalidArgument, ErrorCode::InvalidManifest),
            ManifestErrorKind::Unsupported => (ErrorKind::InvalidArgument, ErrorCode::UnsupportedField),
            ManifestErrorKind::Limit => (ErrorKind::ResourceExhausted, ErrorCode::LimitExceeded),
            ManifestErrorKind::DocumentNotFound => (ErrorKind::NotFound, ErrorCode::DocumentNotFound),
            ManifestErrorKind::TargetNotFound => (ErrorKind::NotFound, ErrorCode::WorkloadNotFound),
        };
        Self::new(kind, code, error.to_string()).at(error.path).hint(error.hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_names_document_line_and_path() {
        let error = ManifestError::new(ManifestErrorKind::Invalid, "must not be empty").at("spec.target", 4);
        assert_eq!(error.within("Scenario 'a'").to_string(), "Scenario 'a', line 4, spec.target: must not be empty");
    }

    #[test]
    fn each_kind_has_its_code_and_the_field_is_the_path() {
        let error = Error::from(ManifestError::new(ManifestErrorKind::Unsupported, "x").at("spec.affinity", 1));
        assert_eq!((error.kind, error.code), (ErrorKind::InvalidArgument, ErrorCode::UnsupportedField));
        assert_eq!(error.field, "spec.affinity");
        let limit = Error::from(ManifestError::limit("max_containers", 256, "the documents"));
        assert_eq!((limit.kind, limit.code), (ErrorKind::ResourceExhausted, ErrorCode::LimitExceeded));
        assert!(limit.message.contains("max_containers of 256"), "{}", limit.message);
    }
}
