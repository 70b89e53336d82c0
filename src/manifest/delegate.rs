//! Documents on their way to other nodes and back into the store: a Model made into the Pod that Pullpiri's NodeAgent
//! takes, with annotations, and a Package in which a model has another node. Works on documents as they are, so that
//! fields that mean nothing here reach the other node all the same.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::error::{ManifestError, ManifestErrorKind, ManifestResult};
use crate::model::text::shown;

/// The Pod of a Model: `pod` as it is where the store has it, otherwise made of `model`, with the volumes of `volumes`
/// (a Volume document) that the Model does not have by itself.
pub(super) fn pod_of(name: &str, pod: Option<&str>, model: &str, volumes: Option<&str>) -> ManifestResult<String> {
    if let Some(pod) = pod {
        return Ok(pod.to_owned());
    }
    let mut spec = field(read("Model", name, model)?, "spec");
    if let Some(volumes) = volumes {
        let more = field(field(read("Volume", name, volumes)?, "spec"), "volumes");
        add_volumes(&mut spec, more);
    }
    // Upstream's Pods have nothing but a name here; Models' labels and annotations are added when they are sent.
    write(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}))
}

/// The document with these annotations beside its own.
pub fn annotated(document: &str, annotations: &BTreeMap<String, String>) -> Result<String, ManifestError> {
    let mut root = read("Pod", "", document)?;
    let metadata = entry(&mut root, "metadata");
    let own = entry(metadata, "annotations");
    for (key, value) in annotations {
        if let Value::Object(own) = own {
            own.insert(key.clone(), Value::String(value.clone()));
        }
    }
    write(&root)
}

/// The Package with the model on another node; unknown models are an error.
pub fn moved(package: &str, model: &str, node: &str) -> Result<String, ManifestError> {
    let mut root = read("Package", "", package)?;
    let models = entry(&mut root, "spec").get_mut("models").and_then(Value::as_array_mut);
    let is_it = |found: &&mut Value| found.get("name").and_then(Value::as_str) == Some(model);
    let Some(found) = models.into_iter().flatten().find(is_it) else {
        let message = format!("the Package has no model '{}'", shown(model));
        return Err(ManifestError::new(ManifestErrorKind::Invalid, message).at("spec.models", 0));
    };
    found["node"] = Value::String(node.to_owned());
    write(&root)
}

fn read(kind: &str, name: &str, text: &str) -> ManifestResult<Value> {
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let line = error.location().and_then(|location| u32::try_from(location.line()).ok()).unwrap_or(0);
        let message = format!("{kind} '{}' is no YAML: {}", shown(name), error.without_snippet());
        ManifestError::new(ManifestErrorKind::Invalid, message).at("", line)
    })
}

fn write(value: &Value) -> ManifestResult<String> {
    serde_saphyr::to_string(value).map_err(|error| {
        ManifestError::new(ManifestErrorKind::Invalid, format!("a document cannot be written again: {error}"))
    })
}

/// The field, or null.
fn field(mut value: Value, name: &str) -> Value {
    value.get_mut(name).map(Value::take).unwrap_or_default()
}

/// The mapping under this key, made where there is none.
fn entry<'v>(value: &'v mut Value, name: &str) -> &'v mut Value {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let field = &mut value[name];
    if !field.is_object() {
        *field = Value::Object(Map::new());
    }
    field
}

fn add_volumes(spec: &mut Value, more: Value) {
    let Value::Array(more) = more else { return };
    let own = &mut spec["volumes"];
    if !own.is_array() {
        *own = Value::Array(Vec::new());
    }
    let Some(own) = own.as_array_mut() else { return };
    for volume in more {
        if !own.iter().any(|known| known.get("name") == volume.get("name")) {
            own.push(volume);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: &str = "apiVersion: v1\nkind: Model\nmetadata: {name: m, labels: {a: b}}\nspec:\n  hostNetwork: true\n  \
        containers: [{name: c, image: i, env: [{name: N, value: \"no\"}], resources: {limits: {cpu: \"1.5\"}}}]\n  \
        ofTheFuture: {x: [1, null]}\n  volumes: [{name: own, hostPath: {path: /a}}]\n";

    #[test]
    fn model_becomes_a_pod_that_keeps_every_field_and_its_type() {
        let volumes = "apiVersion: v1\nkind: Volume\nmetadata: {name: v}\n\
            spec: {volumes: [{name: own, hostPath: {path: /b}}, {name: more, hostPath: {path: /c}}]}\n";
        let pod = read("Pod", "", &pod_of("m", None, MODEL, Some(volumes)).unwrap()).unwrap();
        assert_eq!((&pod["kind"], &pod["metadata"]), (&json!("Pod"), &json!({"name": "m"})));
        let spec = &pod["spec"];
        assert_eq!(spec["containers"][0]["env"][0]["value"], "no");
        assert_eq!(spec["containers"][0]["resources"]["limits"]["cpu"], "1.5");
        assert_eq!((&spec["hostNetwork"], &spec["ofTheFuture"]), (&json!(true), &json!({"x": [1, null]})));
        let expected =
            json!([{"name": "own", "hostPath": {"path": "/a"}}, {"name": "more", "hostPath": {"path": "/c"}}]);
        assert_eq!(spec["volumes"], expected);
        assert_eq!(pod_of("m", Some("as it is"), MODEL, None).unwrap(), "as it is");
    }

    #[test]
    fn annotations_are_added_to_those_that_are_there_and_to_none() {
        let new = BTreeMap::from([("io.x".to_owned(), "1".to_owned())]);
        for own in ["{name: m}", "{name: m, annotations: null}", "{name: m, annotations: {a: b}}"] {
            let text = format!("apiVersion: v1\nkind: Pod\nmetadata: {own}\nspec: {{containers: []}}\n");
            let pod = read("Pod", "", &annotated(&text, &new).unwrap()).unwrap();
            assert_eq!(pod["metadata"]["annotations"]["io.x"], "1", "{own}");
            assert_eq!(pod["metadata"]["annotations"].get("a").is_some(), own.contains("a: b"));
        }
        assert!(annotated("a: [", &new).is_err());
    }

    #[test]
    fn model_moves_and_everything_else_stays() {
        let package = "apiVersion: v1\nkind: Package\nmetadata: {label: null, name: p}\nspec:\n  pattern: [{type: plain}]\n  \
            models:\n    - {name: a, node: HPC, resources: {volume: null}}\n    - {name: b, node: HPC}\n";
        let root = read("Package", "", &moved(package, "b", "ZONE1").unwrap()).unwrap();
        let expected =
            json!([{"name": "a", "node": "HPC", "resources": {"volume": null}}, {"name": "b", "node": "ZONE1"}]);
        assert_eq!((&root["spec"]["models"], &root["metadata"]["label"]), (&expected, &Value::Null));
        assert!(moved(package, "c", "x").is_err());
    }
}
