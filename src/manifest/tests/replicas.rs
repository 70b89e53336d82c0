//! Deployments of several replicas.

use super::*;

fn deployment(replicas: u32, spec: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec:\n  replicas: {replicas}\n  template:\n    \
         spec:\n      {spec}\n"
    )
}

const PLAIN: &str = "containers: [{name: c, image: i}]";

// req: BM-03
#[test]
fn replicas_are_workloads_with_their_numbers_that_belong_together() {
    let expansion = expand(&bundle(&deployment(3, PLAIN)), "").unwrap();
    let names: Vec<_> = expansion.workloads.iter().map(|spec| (spec.name.as_str(), spec.package.as_str())).collect();
    assert_eq!(names, [("web-1", "web"), ("web-2", "web"), ("web-3", "web")]);
    assert_eq!((expansion.target.as_str(), expansion.groups), ("web", vec!["web".to_owned()]));
    assert_eq!(expansion.names, ["web", "web-1", "web-2", "web-3"]);
    assert_eq!(one(&deployment(1, PLAIN)).name, "web");
    assert!(expand(&bundle(&deployment(0, PLAIN)), "").unwrap_err().message.contains("0 replicas"));
}

#[test]
fn replicas_that_would_clash_or_are_too_many_are_refused() {
    let port = "containers: [{name: c, image: i, ports: [{containerPort: 80, hostPort: 8080}]}]";
    let error = refusal(&deployment(2, port));
    assert_eq!(error.path, "spec.template.spec.containers[0].ports[0]");
    assert!(error.message.contains("8080") && error.line > 0, "{error}");
    assert!(expand(&bundle(&deployment(1, port)), "").is_ok());
    let host = "{hostNetwork: true, containers: [{name: c, image: i, ports: [{containerPort: 80}]}]}";
    assert!(refusal(&deployment(2, host)).message.contains("80"));
    assert_eq!(refusal(&deployment(300, PLAIN)).path, "spec.replicas");
    let two = "containers: [{name: c, image: i}, {name: d, image: i}]";
    assert!(refusal(&deployment(200, two)).message.contains("400 containers"));
    let twice = format!("{}---\n{}", deployment(2, PLAIN), pod("").replace("{name: p}", "{name: web-1}"));
    assert!(refusal(&twice).message.contains("'web-1' twice"));
}
