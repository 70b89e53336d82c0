//! Creating a container: its image, a snapshot of it to write into, the specification, and the record, in this order.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::PoisonError;

use oci_spec::runtime::Spec;
use protobuf::MessageField;

use super::client::Scope;
use super::content::Lease;
use super::record;
use super::unpack::{self, SNAPSHOTTER};
use super::view::View;
use super::{ENGINE, Place, image, lifecycle};
use crate::model::workload::NetworkMode;
use crate::proto::containerd_containers::{Container, CreateContainerRequest, Runtime};
use crate::proto::containerd_containers_grpc::CONTAINERS_CREATE;
use crate::proto::containerd_types::Mount;
use crate::runtime::adapter::{
    Call, ContainerConfig, ContainerInstance, MountSource, RtResult, RuntimeError, unsupported,
};
use crate::runtime::shared::calls::apart;
use crate::runtime::shared::owned::taken;
use crate::runtime::shared::volumes::{self, in_use};
use crate::runtime::specification::{self, Bind, ImageDefaults};
use crate::transport::unix;

/// containerd's runtime for runc.
const RUNTIME: &str = "io.containerd.runc.v2";

/// Where a snapshot is mounted in a task's bundle.
const ROOT: &str = "rootfs";

/// Files of the node that a container on its network needs for names.
const NAMES: [&str; 2] = ["/etc/hosts", "/etc/resolv.conf"];

/// A name that nobody else creates a container of meanwhile.
struct Claim<'a> {
    place: Place<'a>,
    name: &'a str,
}

impl<'a> Claim<'a> {
    fn new(place: Place<'a>, name: &'a str) -> RtResult<Self> {
        let mut marks = place.marks.lock().unwrap_or_else(PoisonError::into_inner);
        if !marks.created.insert(name.to_owned()) {
            let detail = " or is being created".to_owned();
            return Err(RuntimeError::AlreadyExists { what: format!("container '{name}'"), detail });
        }
        Ok(Self { place, name })
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.place.marks.lock().unwrap_or_else(PoisonError::into_inner).created.remove(self.name);
    }
}

/// Creates the container and gives it as containerd then knows it.
pub(super) fn create(place: Place, call: &Call, config: &ContainerConfig) -> RtResult<ContainerInstance> {
    check(place, config)?;
    let client = place.scope.client();
    client.ensure_namespace(call)?;
    let _claim = Claim::new(place, &config.name)?;
    if let Some(holder) = record::find(place.scope, call, &config.name)? {
        return Err(taken(&place.settings.node, &config.name, &holder.labels()));
    }
    let binds = binds(place, call, config)?;
    let id = uuid::Uuid::now_v7().simple().to_string();
    let lease = Lease::begin(place.scope, call)?;
    let made = make(place, call, config, &id, &lease, binds)
        .and_then(|()| record::inspect(place.scope, call, &id).map(|known| known.instance(true)));
    if made.is_err() {
        // Also one whose answer never came: its id is known.
        let discarded = apart(|call| {
            lifecycle::delete(place, call, &id)?;
            unpack::remove(place.scope, call, &id)
        });
        if let Err(error) = discarded {
            log::error!(
                "what was made of container '{}' cannot be kept and could not be removed: {error}",
                config.name
            );
        }
    }
    made
}

/// Refuses what does not depend on the image before anything is pulled.
fn check(place: Place, config: &ContainerConfig) -> RtResult<()> {
    if !record::may_be_a_name(&config.name) {
        let reason = format!("name: '{}' is none for a container", config.name);
        return Err(RuntimeError::InvalidSpec { reason });
    }
    record::check_labels(&labels(config))?;
    if config.spec.stdin && !config.spec.tty {
        return Err(unsupported(ENGINE, "stdin without tty"));
    }
    // Of an image that has all, in a root where nobody has to be looked up.
    let image = ImageDefaults { entrypoint: vec!["/".to_owned()], user: "1:1".to_owned(), ..ImageDefaults::default() };
    let mut without_user = config.clone();
    without_user.spec.security.run_as_user = None;
    without_user.spec.security.run_as_group = None;
    generate(place, &without_user, &image, "", Path::new("/"), &[]).map(drop)
}

fn labels(config: &ContainerConfig) -> BTreeMap<String, String> {
    let mut labels = config.labels.clone();
    labels.insert(record::NAME.to_owned(), config.name.clone());
    labels.insert(record::IMAGE.to_owned(), config.spec.image.clone());
    labels
}

/// Makes snapshot and record.
fn make(
    place: Place,
    call: &Call,
    config: &ContainerConfig,
    id: &str,
    lease: &Lease,
    mut binds: Vec<Bind>,
) -> RtResult<()> {
    let client = place.scope.client();
    let mut container = Container { id: id.to_owned(), labels: labels(config), ..Container::default() };
    let spec = if config.spec.rootfs.is_empty() {
        image::ensure(client, call, &config.spec.image, config.spec.pull)?;
        let content = image::content(client, call, &config.spec.image)?;
        let parent = unpack::unpack(lease.scope(), call, &content)?;
        let mounts = unpack::prepare(lease.scope(), call, id, &parent)?;
        container.image = super::documents::full_reference(&config.spec.image);
        container.snapshotter = SNAPSHOTTER.to_owned();
        container.snapshot_key = id.to_owned();
        add_names(config, &mut binds);
        with_snapshot(place, config, &content.configuration.defaults(), id, &mounts, &binds)?
    } else {
        let root = Path::new(&config.spec.rootfs);
        generate(place, config, &ImageDefaults::default(), id, root, &binds)?
    };
    container.spec = MessageField::some(record::any_json(record::SPEC_TYPE, &spec)?);
    let named = (config.name.clone(), config.labels.clone());
    place.marks.lock().unwrap_or_else(PoisonError::into_inner).keep_name(id, named);
    put(lease.scope(), call, container)
}

/// Makes the record.
pub(super) fn put(scope: Scope, call: &Call, mut container: Container) -> RtResult<()> {
    container.runtime = MessageField::some(Runtime { name: RUNTIME.to_owned(), ..Runtime::default() });
    let request = CreateContainerRequest { container: MessageField::some(container), ..Default::default() };
    scope.ask(call, "create", &CONTAINERS_CREATE, &request)?;
    Ok(())
}

/// On the node's network names are those of the node.
fn add_names(config: &ContainerConfig, binds: &mut Vec<Bind>) {
    if config.network != NetworkMode::Host {
        return;
    }
    for path in NAMES.into_iter().filter(|path| Path::new(path).is_file()) {
        if !binds.iter().any(|bind| bind.path == path) {
            binds.push(Bind { source: path.into(), path: path.to_owned(), read_only: true });
        }
    }
}

fn with_snapshot(
    place: Place,
    config: &ContainerConfig,
    image: &ImageDefaults,
    id: &str,
    mounts: &[Mount],
    binds: &[Bind],
) -> RtResult<Spec> {
    let view = View::open(&place.settings.dir.join("roots"), mounts)?;
    let at = specification::Place {
        engine: ENGINE,
        rootfs: view.path(),
        root_path: Path::new(ROOT),
        cgroup: &cgroup(place, id),
        binds,
        netns: None,
    };
    specification::generate(config, image, &at)
}

/// The specification of a container whose root is a folder.
pub(super) fn generate(
    place: Place,
    config: &ContainerConfig,
    image: &ImageDefaults,
    id: &str,
    root: &Path,
    binds: &[Bind],
) -> RtResult<Spec> {
    let cgroup = cgroup(place, id);
    let at =
        specification::Place { engine: ENGINE, rootfs: root, root_path: root, cgroup: &cgroup, binds, netns: None };
    specification::generate(config, image, &at)
}

/// As containerd's own command names it.
fn cgroup(place: Place, id: &str) -> String {
    format!("/{}/{id}", place.scope.client().namespace())
}

/// What the container mounts from the node.
fn binds(place: Place, call: &Call, config: &ContainerConfig) -> RtResult<Vec<Bind>> {
    for (index, mount) in config.mounts.iter().enumerate() {
        let MountSource::Volume(name, _) = &mount.source else { continue };
        if place.volumes.is_in_memory(name)? && !sees_our_mounts(&place.settings.socket, call) {
            let what =
                format!("mounts[{index}]: volume '{name}' in memory, because it does not see this daemon's mounts");
            return Err(unsupported(ENGINE, what));
        }
    }
    volumes::binds(place.volumes, config)
}

/// Whether what listens on the socket is in the mount namespace of this process.
fn sees_our_mounts(socket: &Path, call: &Call) -> bool {
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    let Ok(peer @ 1..) = unix::knock(socket, call.deadline, call.cancel) else { return false };
    namespace("self").is_some_and(|own| namespace(&peer.to_string()) == Some(own))
}

/// Refuses to go on where a container has the volume.
pub(super) fn volume_is_unused(place: Place, call: &Call, name: &str) -> RtResult<()> {
    if !record::may_be_a_name(name) {
        return Ok(());
    }
    let folder = place.volumes.dir().join(name);
    let uses = |container: &Container| {
        record::Specification::of(container).mounts.iter().any(|mount| Path::new(&mount.source).starts_with(&folder))
    };
    match record::list_records(place.scope, call, Vec::new())?.iter().find(|container| uses(container)) {
        None => Ok(()),
        Some(user) => Err(in_use(name, record::name_of(user))),
    }
}
