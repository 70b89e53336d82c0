//! `$(NAME)` in a Kubernetes container's `env` values, `command` and `args`: replaced by the value of a variable of
//! the container's `env`. `$$(` is a plain `$(`, and a name that is not known stays as it stands, as Kubernetes has it.

use std::collections::HashMap;

use crate::model::workload::ContainerSpec;

/// The texts would grow beyond what is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMuch;

/// Replaces every reference of the container. `used` counts the bytes of texts with references; above `most` it ends.
pub(super) fn expand(container: &mut ContainerSpec, most: usize, used: &mut usize) -> Result<(), TooMuch> {
    let mut known: HashMap<String, String> = HashMap::new();
    let texts = [&mut container.command, &mut container.args];
    let has_any = container.env.iter().any(|variable| variable.value.contains('$'))
        || texts.iter().any(|list| list.iter().any(|text| text.contains('$')));
    if !has_any {
        return Ok(());
    }
    for variable in &mut container.env {
        // A variable knows those before it.
        replace(&mut variable.value, &known, most, used)?;
        known.insert(variable.name.clone(), variable.value.clone());
    }
    texts.into_iter().flatten().try_for_each(|text| replace(text, &known, most, used))
}

fn replace(text: &mut String, known: &HashMap<String, String>, most: usize, used: &mut usize) -> Result<(), TooMuch> {
    if !text.contains('$') {
        return Ok(());
    }
    let mut result = String::new();
    let mut rest = text.as_str();
    // Without a parenthesis that closes nothing more is a reference; not looked for again at each `$(`.
    let mut is_closing = true;
    while let Some(dollar) = rest.find('$') {
        result.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        if let Some(escaped) = after.strip_prefix('$') {
            result.push('$');
            rest = escaped;
        } else if let Some((name, behind)) = after.strip_prefix('(').filter(|_| is_closing).and_then(reference) {
            match known.get(name) {
                Some(value) => result.push_str(value),
                None => result.push_str(&rest[dollar..rest.len() - behind.len()]),
            }
            rest = behind;
        } else {
            is_closing = is_closing && !after.starts_with('(');
            result.push('$');
            rest = after;
        }
        if *used + result.len() > most {
            return Err(TooMuch);
        }
    }
    result.push_str(rest);
    *used += result.len();
    *text = result;
    if *used > most { Err(TooMuch) } else { Ok(()) }
}

/// The name in `NAME)` and what is behind it.
fn reference(text: &str) -> Option<(&str, &str)> {
    text.split_once(')')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(text: &str, known: &[(&str, &str)]) -> Result<String, TooMuch> {
        let known = known.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut text = text.to_owned();
        replace(&mut text, &known, 1000, &mut 0).map(|()| text)
    }

    #[test]
    fn references_are_replaced_as_kubernetes_does() {
        for (text, expected) in [
            ("$(A)-$(A)", "1-1"),
            ("$$(A)", "$(A)"),
            ("$(B)", "$(B)"),
            ("$A $ $( $", "$A $ $( $"),
            ("ä$(A)ö", "ä1ö"),
            ("$$$(A)", "$1"),
            ("$(A) $(A $$(", "1 $(A $("),
        ] {
            assert_eq!(replaced(text, &[("A", "1")]).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn references_that_multiply_beyond_the_bound_are_refused() {
        let value = "x".repeat(400);
        assert!(replaced("$(A)$(A)", &[("A", &value)]).is_ok());
        assert_eq!(replaced("$(A)$(A)$(A)", &[("A", &value)]), Err(TooMuch));
    }
}
