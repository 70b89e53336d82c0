//! How Compose's fields are read where they differ from those of Pods: numbers and bools may be quoted, mappings may be
//! lists of `KEY=VALUE`, and amounts have units of their own.

use std::collections::BTreeSet;

use super::words;
use crate::manifest::error::ManifestResult;
use crate::manifest::node::Value;
use crate::manifest::reader::{Fields, Place, join};
use crate::model::text::shown;

/// True or false, quoted or not.
pub(super) fn boolean(place: &Place<'_>) -> ManifestResult<bool> {
    match place.text()?.as_str() {
        "true" | "True" | "TRUE" => Ok(true),
        "false" | "False" | "FALSE" => Ok(false),
        _ => Err(place.expected("true or false")),
    }
}

/// The same of a field; absent is false.
pub(super) fn flag(fields: &mut Fields<'_>, name: &'static str) -> ManifestResult<bool> {
    fields.take(name).map_or(Ok(false), |place| boolean(&place))
}

/// A whole number between two bounds, quoted or not.
pub(super) fn number<T: TryFrom<i64>>(place: &Place<'_>, least: i64, most: i64) -> ManifestResult<T> {
    let text = place.text()?;
    let number = text.parse::<i64>().ok().filter(|number| (least..=most).contains(number));
    let number = number.and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| place.invalid(format!("must be a whole number from {least} to {most}")))
}

/// A text that one of the readers of [`words`] takes.
pub(super) fn amount<T>(place: &Place<'_>, read: fn(&str) -> Result<T, String>) -> ManifestResult<T> {
    let text = place.text()?;
    read(&text).map_err(|why| place.invalid(format!("'{}' {why}", shown(&text))))
}

/// The same of a field that may not be 0 where it is given.
pub(super) fn limit(
    fields: &mut Fields<'_>,
    name: &'static str,
    read: fn(&str) -> Result<u64, String>,
) -> ManifestResult<Option<u64>> {
    let Some(place) = fields.take(name) else { return Ok(None) };
    match amount(&place, read)? {
        0 => Err(place.invalid("must be above 0; leave it out for no limit")),
        amount => Ok(Some(amount)),
    }
}

/// A text, or a list of them.
pub(super) fn one_or_more<'a>(place: &Place<'a>) -> ManifestResult<Vec<Place<'a>>> {
    match place.node.value {
        Value::Scalar(_) => Ok(vec![place.clone()]),
        Value::List(_) | Value::Map(_) => place.items(),
    }
}

/// A command line as a list of words, or as one text that is split. One that is empty would take the image's own away,
/// which cannot be done.
pub(super) fn command(fields: &mut Fields<'_>, name: &'static str) -> ManifestResult<Vec<String>> {
    let Some(place) = fields.take(name) else { return Ok(Vec::new()) };
    let list = match place.node.value {
        Value::Scalar(_) => {
            let text = place.text()?;
            words::command(&text).map_err(|why| place.invalid(format!("'{}' {why}", shown(&text))))?
        }
        Value::List(_) | Value::Map(_) => place.texts()?,
    };
    match list.first() {
        None => Err(place.unsupported(format!("an empty {name} in place of the image's own is not supported"))),
        Some(first) if first.is_empty() && name == "entrypoint" => {
            Err(place.invalid("must not begin with an empty text"))
        }
        Some(_) => Ok(list),
    }
}

/// A key of a mapping, its value where it has one, and its place.
pub(super) type Pair<'a> = (String, Option<String>, Place<'a>);

/// A mapping, or a list of `KEY=VALUE`. Keys are there once.
pub(super) fn pairs<'a>(place: &Place<'a>) -> ManifestResult<Vec<Pair<'a>>> {
    let pairs: Vec<Pair<'a>> = match &place.node.value {
        Value::Map(entries) => {
            let pair = |entry: &'a crate::manifest::node::Entry| {
                let at = Place::new(&entry.value, join(&place.path, &entry.key));
                let value = if entry.value.is_null() { None } else { Some(at.text()?) };
                Ok((entry.key.clone(), value, at))
            };
            entries.iter().map(pair).collect::<ManifestResult<_>>()?
        }
        Value::List(_) | Value::Scalar(_) => {
            let pair = |item: Place<'a>| {
                let text = item.text()?;
                Ok(match text.split_once('=') {
                    Some((key, value)) => (key.to_owned(), Some(value.to_owned()), item),
                    None => (text, None, item),
                })
            };
            place.items()?.into_iter().map(pair).collect::<ManifestResult<_>>()?
        }
    };
    let mut seen = BTreeSet::new();
    for (key, _, at) in &pairs {
        if !seen.insert(key.as_str()) {
            return Err(at.invalid(format!("'{}' is given twice", shown(key))));
        }
    }
    Ok(pairs)
}
