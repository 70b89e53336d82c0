//! The Kubernetes Pod that `run` launches: an image and its options as a document.

use serde_json::{Map, Value, json};

use crate::values::{Publish, Volume};

/// The container's name within the workload.
pub const CONTAINER: &str = "main";

/// The annotation that names the networks of a Pod.
const NETWORKS: &str = "actioncontroller.io/networks";

/// What `run` was asked for.
#[derive(Debug, Clone, Default)]
pub struct PodRequest {
    /// The image's reference.
    pub image: String,
    /// The workload; empty takes the image's last part.
    pub name: String,
    /// Environment, in this order.
    pub env: Vec<(String, String)>,
    /// Published ports.
    pub publish: Vec<Publish>,
    /// Volumes.
    pub volumes: Vec<Volume>,
    /// Networks by name, or `host`, or none for the engine's own.
    pub networks: Vec<String>,
    /// Bytes; `None` is no limit.
    pub memory: Option<u64>,
    /// A Kubernetes quantity; `None` is no limit.
    pub cpus: Option<String>,
    /// Arguments in place of the image's; empty keeps those.
    pub args: Vec<String>,
}

impl PodRequest {
    /// The document. It is JSON, so that every text is quoted as it has to be.
    pub fn document(&self) -> Result<Value, String> {
        let name = match self.name.as_str() {
            "" => name_of_image(&self.image)?,
            name => name.to_owned(),
        };
        let mut metadata = Map::from_iter([("name".to_owned(), json!(name))]);
        let mut spec = Map::from_iter([("restartPolicy".to_owned(), json!("Never"))]);
        match self.networks.as_slice() {
            [] => {}
            [host] if host == "host" => {
                spec.insert("hostNetwork".to_owned(), json!(true));
            }
            names if names.iter().any(|name| name == "host") => {
                return Err(String::from("network 'host' cannot be combined with others"));
            }
            names => {
                metadata.insert("annotations".to_owned(), json!({ NETWORKS: names.join(",") }));
            }
        }
        spec.insert("containers".to_owned(), json!([self.container()]));
        if !self.volumes.is_empty() {
            spec.insert("volumes".to_owned(), self.volume_list());
        }
        Ok(json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec }))
    }

    fn container(&self) -> Value {
        let mut container = Map::new();
        let mut put = |name: &str, value: Value| container.insert(name.to_owned(), value);
        put("name", json!(CONTAINER));
        put("image", json!(self.image));
        if !self.args.is_empty() {
            put("args", json!(self.args));
        }
        if !self.env.is_empty() {
            put("env", self.env.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect());
        }
        if !self.publish.is_empty() {
            put("ports", self.publish.iter().map(port).collect());
        }
        if !self.volumes.is_empty() {
            let mounts = self.volumes.iter().enumerate().map(|(index, volume)| {
                json!({ "name": volume_name(index), "mountPath": volume.path, "readOnly": volume.read_only })
            });
            put("volumeMounts", mounts.collect());
        }
        let mut limits = Map::new();
        if let Some(memory) = self.memory {
            limits.insert("memory".to_owned(), json!(memory.to_string()));
        }
        if let Some(cpus) = &self.cpus {
            limits.insert("cpu".to_owned(), json!(cpus));
        }
        if !limits.is_empty() {
            put("resources", json!({ "limits": limits }));
        }
        Value::Object(container)
    }

    fn volume_list(&self) -> Value {
        let volumes = self.volumes.iter().enumerate().map(|(index, volume)| {
            let name = volume_name(index);
            match volume.is_host_path() {
                true => json!({ "name": name, "hostPath": { "path": volume.source } }),
                false => json!({ "name": name, "persistentVolumeClaim": { "claimName": volume.source } }),
            }
        });
        volumes.collect()
    }
}

fn port(publish: &Publish) -> Value {
    let mut port = json!({
        "containerPort": publish.container_port,
        "hostPort": publish.host_port,
        "protocol": publish.protocol,
    });
    if !publish.host_ip.is_empty() {
        port["hostIP"] = json!(publish.host_ip);
    }
    port
}

/// A volume's name within the workload; what it is called outside need not be a name in a Pod.
fn volume_name(index: usize) -> String {
    format!("volume-{index}")
}

/// The last part of an image's reference, without tag and digest, as a workload's name: `docker.io/library/nginx:1` is
/// `nginx`.
fn name_of_image(image: &str) -> Result<String, String> {
    let plain = image.split('@').next().unwrap_or_default();
    let last = plain.rsplit('/').next().unwrap_or_default();
    let last = last.split(':').next().unwrap_or_default();
    let lower = last.to_ascii_lowercase();
    let name: String = lower.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    match name.trim_matches('-') {
        "" => Err(format!("image '{image}' gives no name")),
        name => Ok(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_alone_is_a_pod_of_its_name() {
        let request = PodRequest { image: "docker.io/library/nginx:1.27".to_owned(), ..Default::default() };
        let expected = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": "nginx" },
            "spec": {
                "restartPolicy": "Never",
                "containers": [{ "name": "main", "image": "docker.io/library/nginx:1.27" }],
            },
        });
        assert_eq!(request.document(), Ok(expected));
    }

    #[test]
    fn every_option_has_its_field() {
        let request = PodRequest {
            image: "web:1".to_owned(),
            name: "site".to_owned(),
            env: vec![("A".to_owned(), "yes: \"no\"\n#".to_owned())],
            publish: vec!["127.0.0.1:8080:80/udp".parse().unwrap()],
            volumes: vec!["/data:/d:ro".parse().unwrap(), "cache:/c".parse().unwrap()],
            networks: vec!["front".to_owned(), "back".to_owned()],
            memory: Some(64 << 20),
            cpus: Some("500m".to_owned()),
            args: vec!["--rate".to_owned(), "50".to_owned()],
        };
        let expected = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": "site", "annotations": { "actioncontroller.io/networks": "front,back" } },
            "spec": {
                "restartPolicy": "Never",
                "containers": [{
                    "name": "main",
                    "image": "web:1",
                    "args": ["--rate", "50"],
                    "env": [{ "name": "A", "value": "yes: \"no\"\n#" }],
                    "ports": [
                        { "containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.1", "protocol": "UDP" },
                    ],
                    "volumeMounts": [
                        { "name": "volume-0", "mountPath": "/d", "readOnly": true },
                        { "name": "volume-1", "mountPath": "/c", "readOnly": false },
                    ],
                    "resources": { "limits": { "memory": "67108864", "cpu": "500m" } },
                }],
                "volumes": [
                    { "name": "volume-0", "hostPath": { "path": "/data" } },
                    { "name": "volume-1", "persistentVolumeClaim": { "claimName": "cache" } },
                ],
            },
        });
        assert_eq!(request.document(), Ok(expected));
    }

    #[test]
    fn document_reads_back_as_yaml_with_every_text_as_it_was() {
        let odd = "a: b\n'\"\\ # %@`\t---\nyes".to_owned();
        let request = PodRequest { image: "i".to_owned(), args: vec![odd.clone()], ..Default::default() };
        let text = request.document().unwrap().to_string();
        let read: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(read.pointer("/spec/containers/0/args/0").and_then(Value::as_str), Some(odd.as_str()));
    }

    #[test]
    fn host_network_is_none_of_the_named() {
        let with = |networks: &[&str]| PodRequest {
            image: "i".to_owned(),
            networks: networks.iter().map(|&name| name.to_owned()).collect(),
            ..Default::default()
        };
        assert_eq!(with(&["host"]).document().unwrap().pointer("/spec/hostNetwork"), Some(&json!(true)));
        assert!(with(&["host", "front"]).document().is_err());
    }

    #[test]
    fn names_come_from_the_last_part_of_the_image() {
        for (image, name) in
            [("nginx", "nginx"), ("localhost:5000/team/My_App:2@sha256:00", "my-app"), ("registry/x@sha256:abc", "x")]
        {
            assert_eq!(name_of_image(image).as_deref(), Ok(name), "{image}");
        }
        assert!(name_of_image("registry/:1").is_err());
    }
}
