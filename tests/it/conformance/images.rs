//! Images: present, pulled, nowhere.

use std::sync::Mutex;

use actioncontroller::model::workload::PullPolicy;
use actioncontroller::runtime::adapter::{
    Call, Change, ContainerConfig, ProgressSink, RuntimeCapabilities, RuntimeError,
};

use super::behaviour::Behaviour;
use super::subject::{Made, Subject};
use super::suite::{Case, with};

pub const CASES: &[Case] = &[
    with(can_pull, "present_image_is_unchanged", present_image),
    with(
        |caps, subject| can_pull(caps, subject) && subject.absent_image.is_some(),
        "pull_policy_never_does_not_pull",
        never,
    ),
    with(
        |caps, subject| can_pull(caps, subject) && subject.absent_image.is_some(),
        "create_pulls_the_missing_image_and_tells_its_bytes",
        create_pulls,
    ),
    with(can_pull, "image_that_is_nowhere_fails_with_its_name_and_leaves_nothing", image_that_is_nowhere),
];

fn can_pull(capabilities: &RuntimeCapabilities, _: &Subject) -> bool {
    capabilities.supports_image_pull
}

struct Told(Mutex<Vec<(u64, u64)>>);

impl ProgressSink for Told {
    fn bytes(&self, _what: &str, done: u64, total: u64) {
        self.0.lock().unwrap().push((done, total));
    }
}

fn with_image(subject: &Subject, image: &str) -> ContainerConfig {
    let mut config = subject.config(&subject.name("image"), &Behaviour::Stay);
    config.spec.image = image.to_owned();
    config
}

fn present_image(subject: &Subject) {
    for pull in [PullPolicy::IfNotPresent, PullPolicy::Never] {
        assert_eq!(subject.adapter.ensure_image(&subject.call(), &subject.image, pull), Ok(Change::Unchanged));
    }
}

/// Comes before the case that pulls it.
fn never(subject: &Subject) {
    let absent = subject.absent_image.as_deref().unwrap();
    let error = subject.adapter.ensure_image(&subject.call(), absent, PullPolicy::Never).unwrap_err();
    assert!(matches!(&error, RuntimeError::ImagePull { image, .. } if image == absent), "{error}");
    let mut config = with_image(subject, absent);
    config.spec.pull = PullPolicy::Never;
    let error = subject.adapter.create_container(&subject.call(), &config).unwrap_err();
    assert!(matches!(error, RuntimeError::ImagePull { .. }), "{error}");
}

fn create_pulls(subject: &Subject) {
    let absent = subject.absent_image.as_deref().unwrap();
    let config = with_image(subject, absent);
    let told = Told(Mutex::default());
    let call = Call { progress: &told, ..subject.call() };
    subject.remember(Made::Container(config.name.clone()));
    let created = subject.adapter.create_container(&call, &config).unwrap();
    assert_eq!(created.image, absent);
    let told = told.0.into_inner().unwrap();
    assert!(!told.is_empty(), "the pull told no progress");
    assert!(told.iter().all(|(done, total)| *total == 0 || done <= total), "{told:?}");
    let again = subject.adapter.ensure_image(&subject.call(), absent, PullPolicy::IfNotPresent);
    assert_eq!(again, Ok(Change::Unchanged));
}

fn image_that_is_nowhere(subject: &Subject) {
    let config = with_image(subject, &subject.missing_image);
    let error = subject.adapter.create_container(&subject.call(), &config).unwrap_err();
    assert!(matches!(error, RuntimeError::ImagePull { .. }), "{error}");
    assert!(error.to_string().contains(&subject.missing_image), "{error}");
    let pull = subject.adapter.ensure_image(&subject.call(), &subject.missing_image, PullPolicy::IfNotPresent);
    assert!(matches!(pull, Err(RuntimeError::ImagePull { .. })), "{pull:?}");
    let gone = subject.adapter.inspect_container(&subject.call(), &config.name);
    assert!(matches!(gone, Err(RuntimeError::NotFound { .. })), "{gone:?}");
}
