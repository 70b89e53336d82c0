//! Generates `src/proto` from `proto` in pure Rust, and proves that what is committed is what it generates.
//!
//! `UPDATE_GENERATED=1 cargo nextest run generated` rewrites `src/proto`. A new contract is a file under `proto/` and a
//! line in its README; where its file name says too little or clashes, it also gets a line in [`MODULES`].

mod services;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use protobuf::descriptor::FileDescriptorProto;
use protobuf_codegen::Customize;
use protobuf_codegen::gen_and_write::gen_and_write;
use protobuf_parse::{Parser, ProtoPathBuf};

/// Modules whose name is not that of the file.
const MODULES: &[(&str, &str)] = &[
    ("google/rpc/status.proto", "rpc_status"),
    ("cri/images.proto", "cri_images"),
    ("containerd/containers.proto", "containerd_containers"),
    ("containerd/tasks.proto", "containerd_tasks"),
    ("containerd/task.proto", "containerd_task"),
    ("containerd/runc.proto", "containerd_runc"),
    ("containerd/images.proto", "containerd_images"),
    ("containerd/content.proto", "containerd_content"),
    ("containerd/snapshots.proto", "containerd_snapshots"),
    ("containerd/diff.proto", "containerd_diff"),
    ("containerd/events.proto", "containerd_events"),
    ("containerd/happened.proto", "containerd_happened"),
    ("containerd/namespaces.proto", "containerd_namespaces"),
    ("containerd/leases.proto", "containerd_leases"),
    ("containerd/version.proto", "containerd_version"),
    ("containerd/types.proto", "containerd_types"),
];

/// The well-known types come with the protobuf package.
const WELL_KNOWN: &str = "google/protobuf/";

/// Generates without reflection: nothing in the program asks for it, and it would double the generated code.
fn customize() -> Customize {
    Customize::default()
        .lite_runtime(true)
        .generate_accessors(false)
        .generate_getter(false)
        .oneofs_non_exhaustive(false)
        .btreemaps(true)
        .gen_mod_rs(false)
}

/// The module that holds the messages of `proto`, a path below `proto/`.
fn module_of(proto: &str) -> String {
    match MODULES.iter().find(|(path, _)| *path == proto) {
        Some((_, module)) => (*module).to_owned(),
        None => Path::new(proto).file_stem().unwrap().to_str().unwrap().to_owned(),
    }
}

/// Every contract below `root`, sorted.
fn contracts(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "proto") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// What `src/proto` has to hold, by file name.
fn generate(root: &Path) -> BTreeMap<String, String> {
    let inputs = contracts(root);
    let parsed = Parser::new().pure().include(root).inputs(&inputs).parse_and_typecheck();
    let parsed = parsed.unwrap_or_else(|error| panic!("the contracts do not parse: {error:#}"));
    let ours: BTreeMap<String, String> =
        parsed.relative_paths.iter().map(|path| (path.to_string(), module_of(path.to_str()))).collect();
    let descriptors = renamed(parsed.file_descriptors, &ours);

    let mut files = messages(&descriptors, &ours);
    for file in &descriptors {
        if let Some(contract) = contract_of(file.name(), &ours)
            && !file.service.is_empty()
        {
            let stubs = services::stubs(file, contract, &descriptors);
            let name = format!("{}_grpc.rs", module_of(contract));
            assert!(files.insert(name.clone(), stubs).is_none(), "two contracts generate '{name}'");
        }
    }
    let index = index(&files);
    files.insert("mod.rs".to_owned(), index);
    files
}

/// The contract whose descriptor was renamed to `name`.
fn contract_of<'a>(name: &str, ours: &'a BTreeMap<String, String>) -> Option<&'a str> {
    let module = name.strip_suffix(".proto")?;
    ours.iter().find(|(_, of)| *of == module).map(|(contract, _)| contract.as_str())
}

/// Gives each file its module's name: the generator makes modules of file names, and all lie in one folder.
fn renamed(files: Vec<FileDescriptorProto>, ours: &BTreeMap<String, String>) -> Vec<FileDescriptorProto> {
    let rename = |path: &str| match ours.get(path) {
        Some(module) => format!("{module}.proto"),
        None => {
            assert!(path.starts_with(WELL_KNOWN), "'{path}' is imported and not below proto/");
            path.to_owned()
        }
    };
    let mut taken = BTreeMap::new();
    for (contract, module) in ours {
        if let Some(other) = taken.insert(module, contract) {
            panic!("'{other}' and '{contract}' both make the module '{module}': name one of them in MODULES");
        }
    }
    files
        .into_iter()
        .map(|mut file| {
            file.set_name(rename(file.name()));
            for import in &mut file.dependency {
                *import = rename(import);
            }
            file
        })
        .collect()
}

/// The messages of each contract, by file name.
fn messages(descriptors: &[FileDescriptorProto], ours: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let out = tempfile::tempdir().unwrap();
    let inputs: Vec<_> = ours.values().map(|module| ProtoPathBuf::new(format!("{module}.proto")).unwrap()).collect();
    let callback = Plain;
    gen_and_write(descriptors, "pure", &inputs, out.path(), &customize(), &callback).unwrap();
    let mut files = BTreeMap::new();
    for (contract, module) in ours {
        let name = format!("{module}.rs");
        let text = fs::read_to_string(out.path().join(&name)).unwrap();
        let generated = format!("//! Generated file from `{module}.proto`");
        assert!(text.contains(&generated), "the generator's header has changed: {name}");
        let header = format!("//! Messages of `proto/{contract}`; generated, never edited by hand.");
        files.insert(name, text.replace(&generated, &header));
    }
    files
}

/// No element is generated in another way than the rest.
struct Plain;

impl protobuf_codegen::CustomizeCallback for Plain {}

/// `mod.rs`: the modules, each with the lints that generated code may break.
fn index(files: &BTreeMap<String, String>) -> String {
    let mut text = String::from(
        "//! The wire contracts in `proto/`: messages, and a `_grpc` module of stubs for each contract with services.\n\
         //!\n\
         //! Generated by `tests/it/codegen`, never edited by hand. Stays out: anything written by hand; `grpc::convert` is\n\
         //! where these types end.\n",
    );
    for name in files.keys() {
        let module = name.strip_suffix(".rs").unwrap();
        text.push_str(
            "\n#[allow(missing_docs, clippy::all, clippy::pedantic, clippy::restriction, reason = \"generated\")]\n",
        );
        text.push_str("#[rustfmt::skip]\n");
        text.push_str(&format!("pub mod {module};\n"));
    }
    text
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// What `src/proto` holds now, by file name.
fn committed(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect()
}

#[test]
fn generated_code_is_that_of_the_contracts() {
    let folder = root().join("src/proto");
    let wanted = generate(&root().join("proto"));
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        for name in committed(&folder).keys().filter(|name| !wanted.contains_key(*name)) {
            fs::remove_file(folder.join(name)).unwrap();
        }
        for (name, text) in &wanted {
            fs::write(folder.join(name), text).unwrap();
        }
        return;
    }
    let found = committed(&folder);
    let differing: Vec<_> = wanted
        .keys()
        .chain(found.keys().filter(|name| !wanted.contains_key(*name)))
        .filter(|name| wanted.get(*name) != found.get(*name))
        .collect();
    assert!(
        differing.is_empty(),
        "src/proto is not what proto/ makes: {differing:?}; run: UPDATE_GENERATED=1 cargo nextest run generated"
    );
}

#[test]
fn generated_code_is_the_same_each_time() {
    let root = root().join("proto");
    assert_eq!(generate(&root), generate(&root));
}

#[test]
fn every_contract_is_told_in_the_readme() {
    let root = root().join("proto");
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    for path in contracts(&root) {
        let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
        assert!(readme.contains(&format!("`{name}`")), "proto/README.md does not say where '{name}' comes from");
    }
}
