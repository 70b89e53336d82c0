//! `${NAME}` in the values of a Compose document. The daemon has no environment of a caller, so a variable is what its
//! default says, and one without a default is refused. Only `COMPOSE_PROJECT_NAME` is known.
//!
//! Source: the Compose Specification, "Interpolation", and what Docker Compose 2 makes of it.

use crate::manifest::error::{ManifestError, ManifestErrorKind, ManifestResult};
use crate::manifest::node::{Node, Value};
use crate::manifest::reader::{is_extension, join};
use crate::model::text::shown;

/// Defaults inside one another.
const MAX_DEPTH: usize = 16;

/// The one variable that the specification defines by itself.
const PROJECT_NAME: &str = "COMPOSE_PROJECT_NAME";

/// Replaces every variable of the values under `node`; keys and extensions stay as they are. `project` is the project's
/// name where it is known by now.
pub(super) fn interpolate(node: &mut Node, path: &str, project: Option<&str>) -> ManifestResult<()> {
    match &mut node.value {
        Value::Scalar(scalar) if scalar.text.contains('$') => {
            scalar.text = substitute(&scalar.text, project).map_err(|why| {
                let error = ManifestError::new(ManifestErrorKind::Unsupported, why.message).at(path, node.line);
                error.hint(why.hint)
            })?;
        }
        Value::Scalar(_) => {}
        Value::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                interpolate(item, &format!("{path}[{index}]"), project)?;
            }
        }
        Value::Map(entries) => {
            for entry in entries.iter_mut().filter(|entry| !is_extension(&entry.key)) {
                interpolate(&mut entry.value, &join(path, &entry.key), project)?;
            }
        }
    }
    Ok(())
}

/// Why a text has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wrong {
    message: String,
    hint: String,
}

impl Wrong {
    fn form(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: "a plain dollar is written $$".to_owned() }
    }
}

fn substitute(text: &str, project: Option<&str>) -> Result<String, Wrong> {
    Template { rest: text, project }.text(0, true)
}

/// What of a text is still to be read.
struct Template<'t> {
    rest: &'t str,
    project: Option<&'t str>,
}

impl<'t> Template<'t> {
    /// The text to its end or, inside braces, to the brace that closes them. What is not used need not have a value.
    fn text(&mut self, depth: usize, is_used: bool) -> Result<String, Wrong> {
        let mut out = String::new();
        loop {
            let stops = |one: char| one == '$' || (one == '}' && depth > 0);
            let Some(at) = self.rest.find(stops) else {
                if depth > 0 {
                    return Err(Wrong::form("'${' has no closing brace"));
                }
                out.push_str(self.rest);
                return Ok(out);
            };
            let (before, from) = self.rest.split_at(at);
            out.push_str(before);
            self.rest = &from[1..];
            if from.starts_with('}') {
                return Ok(out);
            }
            if self.takes("$") {
                out.push('$');
            } else if self.takes("{") {
                out.push_str(&self.braced(depth + 1, is_used)?);
            } else {
                match self.name() {
                    "" => out.push('$'),
                    name => out.push_str(&self.value(name, is_used)?),
                }
            }
        }
    }

    fn takes(&mut self, prefix: &str) -> bool {
        let rest = self.rest.strip_prefix(prefix);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// The name at the beginning; empty where there is none.
    fn name(&mut self) -> &'t str {
        let is_inner = |one: char| one.is_ascii_alphanumeric() || one == '_';
        let end = self.rest.find(|one| !is_inner(one)).unwrap_or(self.rest.len());
        if self.rest.starts_with(|one: char| one.is_ascii_digit()) {
            return "";
        }
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        name
    }

    fn known(&self, name: &str) -> Option<String> {
        self.project.filter(|_| name == PROJECT_NAME).map(str::to_owned)
    }

    fn value(&self, name: &str, is_used: bool) -> Result<String, Wrong> {
        match self.known(name) {
            Some(value) => Ok(value),
            None if !is_used => Ok(String::new()),
            None => Err(Wrong {
                message: format!(
                    "variable '{}' has no default, and there is no environment to take it from",
                    shown(name)
                ),
                hint: format!("write ${{{}:-DEFAULT}}, or $$ for a plain dollar", shown(name)),
            }),
        }
    }

    /// What is inside `${` and `}`.
    fn braced(&mut self, depth: usize, is_used: bool) -> Result<String, Wrong> {
        if depth > MAX_DEPTH {
            return Err(Wrong::form(format!("defaults are more than {MAX_DEPTH} inside one another")));
        }
        let name = self.name().to_owned();
        if name.is_empty() {
            return Err(Wrong::form("'${' is not followed by the name of a variable"));
        }
        if self.takes("}") {
            return self.value(&name, is_used);
        }
        let known = self.known(&name);
        if self.takes(":-") || self.takes("-") {
            let default = self.text(depth, is_used && known.is_none())?;
            Ok(known.unwrap_or(default))
        } else if self.takes(":+") || self.takes("+") {
            let other = self.text(depth, is_used && known.is_some())?;
            Ok(if known.is_some() { other } else { String::new() })
        } else if self.takes(":?") || self.takes("?") {
            let reason = self.text(depth, false)?;
            match known {
                Some(value) => Ok(value),
                None if !is_used => Ok(String::new()),
                None => Err(Wrong {
                    message: format!("variable '{}' has to be set: {}", shown(&name), shown(&reason)),
                    hint: "there is no environment to take it from: write the value".to_owned(),
                }),
            }
        } else {
            Err(Wrong::form(format!("what follows '${{{}' is neither a default nor its end", shown(&name))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_taken_and_two_dollars_are_one() {
        for (text, expected) in [
            ("plain", "plain"),
            ("$$HOME ${A:-x} ${A-y} $", "$HOME x y $"),
            ("${A:-}", ""),
            ("${A:-${B:-${C-z}}}!", "z!"),
            ("${A:+x}${A+x}", ""),
            ("${A:+${B}}", ""),
            ("$(date) $1 $-", "$(date) $1 $-"),
            ("${COMPOSE_PROJECT_NAME}-$COMPOSE_PROJECT_NAME", "shop-shop"),
            ("${COMPOSE_PROJECT_NAME:-${A}}", "shop"),
            ("${COMPOSE_PROJECT_NAME:+named}", "named"),
            ("${COMPOSE_PROJECT_NAME:?none}", "shop"),
            ("ä${A:-ö}ü", "äöü"),
            ("${A:-{}}", "{}"),
            ("}", "}"),
            ("$$$$", "$$"),
        ] {
            assert_eq!(substitute(text, Some("shop")).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_has_no_value_or_no_form_is_refused() {
        for (text, words) in [
            ("$A", "'A' has no default"),
            ("${A}", "'A' has no default"),
            ("${A:-$B}", "'B' has no default"),
            ("${A:?say it}", "has to be set: say it"),
            ("${A", "neither a default nor its end"),
            ("${A:-x", "no closing brace"),
            ("${}", "not followed by the name"),
            ("${1}", "not followed by the name"),
            ("${A/b/c}", "neither a default"),
            ("$COMPOSE_PROJECT_NAME", "no default"),
        ] {
            let wrong = substitute(text, None).unwrap_err();
            assert!(wrong.message.contains(words), "{text}: {wrong:?}");
        }
        let deep = format!("{}{}", "${A:-".repeat(100_000), "}".repeat(100_000));
        assert!(substitute(&deep, None).unwrap_err().message.contains("more than 16"));
    }
}
