//! An engine's REST service without the daemon, over the same transport.

use std::path::PathBuf;
use std::time::Duration;

use actioncontroller::cancel::CancelToken;
use actioncontroller::clock::Deadline;
use actioncontroller::transport::http::{HttpClient, Limits, Method, Request};

pub struct Direct {
    http: HttpClient,
    cancel: CancelToken,
    base: &'static str,
}

impl Direct {
    /// `base` is what every target begins with.
    pub fn new(socket: PathBuf, base: &'static str) -> Self {
        Self { http: HttpClient::new(socket), cancel: CancelToken::new(), base }
    }

    /// Creates, starts and looks at a container: what a launch has to do. `create` is the first call's target and document.
    pub fn run(&self, name: &str, (target, document): &(String, String)) {
        self.ask(Method::Post, target, Some(document));
        self.ask(Method::Post, &format!("/containers/{name}/start"), None);
        self.ask(Method::Get, &format!("/containers/{name}/json"), None);
    }

    pub fn remove(&self, name: &str, query: &str) {
        self.ask(Method::Delete, &format!("/containers/{name}?{query}"), None);
    }

    fn ask(&self, method: Method, target: &str, json: Option<&str>) {
        let target = format!("{}{target}", self.base);
        let limits = Limits { deadline: Deadline::after(Duration::from_secs(30)), cancel: &self.cancel };
        let request = Request { method, target: &target, json: json.map(str::as_bytes) };
        let answer = self.http.request(limits, &request).expect("the engine answers");
        assert!(answer.status < 300, "{target}: {} {}", answer.status, String::from_utf8_lossy(&answer.body));
    }
}
