//! What is selected, and where it goes.

use keeper_contract::{FolderOutput, FolderRef, Format, Reason, Selection, admit};
use serde_json::json;

use crate::{
    CURRENT, annotate, apply, config, decide, denied, injected, injection, patched, pod, reasons,
    settings_with,
};

#[test]
fn selections_become_outputs() {
    let pod = pod(&[
        ("secret", r"Orders DB, Mail[password], a\,b"),
        ("secrets", "Prod/Databases/mysql"),
        ("secret-by-path", "/keeper/secrets/by/path.json"),
        ("secret-login", "Orders DB[login]"),
        ("secret-Record", "Shop"),
        ("secret-url", "keeper://Shop/field/url[1]"),
        ("secret-there", "Shop/type:/keeper/secrets/nested/type"),
        ("file-cert", "TLS:tls.crt"),
        ("file-key", "TLS:tls.key:/keeper/secrets/nested/key.pem"),
        ("file-logo", "Shop/file/Logo.png"),
        ("secret-ca", "TLS/file/ca.pem"),
    ]);
    let injection = injected(&pod);
    assert_eq!(
        (injection.outputs, injection.warnings.as_slice()),
        (13, [].as_slice())
    );
    let config = config(&apply(&pod, &injection));
    let outputs: Vec<_> = config
        .outputs
        .iter()
        .map(|o| {
            let kind = match &o.selection {
                Selection::Record(record) => format!("record {record}"),
                Selection::Field { record, field } => format!("field {record} {field}"),
                Selection::Notation(notation) => notation.to_string(),
                Selection::File { record, file } => format!("file {record} {file}"),
            };
            let annotation = o.annotation.trim_start_matches("keeper.security/");
            assert_eq!(o.directory, 0);
            (annotation, o.path.as_str(), kind, o.format)
        })
        .collect();
    use Format::{Json, Raw};
    let want = [
        ("file-cert", "tls.crt", "file TLS tls.crt", Raw),
        ("file-key", "nested/key.pem", "file TLS tls.key", Raw),
        ("file-logo", "Logo.png", "keeper://Shop/file/Logo.png", Raw),
        ("secret", "orders-db.json", "record Orders DB", Json),
        ("secret", "mail", "field Mail password", Raw),
        ("secret", "a,b.json", "record a,b", Json),
        ("secret-Record", "shop.json", "record Shop", Json),
        ("secret-by-path", "by/path.json", "record by-path", Json),
        ("secret-ca", "ca", "keeper://TLS/file/ca.pem", Raw),
        ("secret-login", "login", "field Orders DB login", Raw),
        ("secret-there", "nested/type", "keeper://Shop/type", Raw),
        ("secret-url", "url", "keeper://Shop/field/url[1]", Raw),
        (
            "secrets",
            "prod-databases-mysql.json",
            "record Prod/Databases/mysql",
            Json,
        ),
    ]
    .map(|(a, p, k, f)| (a, p, k.to_owned(), f));
    assert_eq!(outputs, want);
}

#[test]
fn a_folder_becomes_a_directory_of_files() {
    let uid = "Qz3kT0bXv9mWc5rLr2Hn8A";
    let path = |text: &str| FolderRef::Path(text.parse().unwrap());
    for (annotations, directory, folder) in [
        (
            vec![("folder", "Prod/Databases")],
            "",
            path("Prod/Databases"),
        ),
        (vec![("folder", uid)], "", path(uid)),
        (
            vec![
                ("folder", r" Prod\/EU "),
                ("folder-path", "/keeper/secrets/db/"),
            ],
            "db",
            path(r"Prod\/EU"),
        ),
        (
            vec![("folder-uid", uid), ("folder-path", "/keeper/secrets/a/b")],
            "a/b",
            FolderRef::Uid(uid.into()),
        ),
    ] {
        let injection = injected(&pod(&annotations));
        assert_eq!((injection.outputs, injection.warnings.len()), (1, 0));
        let config = config(&apply(&pod(&annotations), &injection));
        let want = FolderOutput {
            directory: 0,
            path: directory.into(),
            folder,
            annotation: format!("keeper.security/{}", annotations[0].0),
        };
        assert_eq!(config.folders, [want], "{annotations:?}");
        assert_eq!((config.outputs.len(), config.directories.len()), (0, 1));
    }
}

#[test]
fn a_folder_has_a_directory_of_its_own_or_shares_the_topmost() {
    let placed = |annotations: &[(&str, &str)]| {
        let mut all = vec![("folder", "Prod")];
        all.extend(annotations);
        let config = crate::config(&patched(&pod(&all)));
        let directories = config.directories.iter().map(|d| d.mount_path.clone());
        let folder = &config.folders[0];
        let outputs = config.outputs.iter().map(|o| (o.directory, o.path.clone()));
        (
            directories.collect::<Vec<_>>(),
            (folder.directory, folder.path.clone()),
            outputs.collect::<Vec<_>>(),
        )
    };
    let own = |path: &str| (vec![path.to_owned()], (0, String::new()), vec![]);
    assert_eq!(placed(&[]), own("/keeper/secrets"));
    assert_eq!(placed(&[("folder-path", "/app/db/")]), own("/app/db"));
    // Never a single file, as its names are the vault's.
    let single = [("folder-path", "/app/db"), ("mount-mode", "file")];
    assert_eq!(placed(&single), own("/app/db"));
    for (folder, output, top, folder_in_it, output_in_it) in [
        ("/app/db/x", "/app/db/a", "/app/db", "x", "a"),
        ("/app/db", "/app/db/y/a", "/app/db", "", "y/a"),
        ("/app/db", "/app/db/a", "/app/db", "", "a"),
    ] {
        let selection = format!("R:{output}");
        let got = placed(&[("folder-path", folder), ("secret", &selection)]);
        let want = (
            vec![top.to_owned()],
            (0, folder_in_it.to_owned()),
            vec![(0, output_in_it.to_owned())],
        );
        assert_eq!(got, want, "{folder} {output}");
    }
}

#[test]
fn folders_that_cannot_be() {
    let uid = "Qz3kT0bXv9mWc5rLr2Hn8A";
    for (annotations, want) in [
        (vec![("folder", "")], ("folder", Reason::BadSelection)),
        (vec![("folder", "a//b")], ("folder", Reason::BadSelection)),
        (vec![("folder", r"a\q")], ("folder", Reason::BadSelection)),
        (
            vec![("folder-uid", "Prod/Databases")],
            ("folder-uid", Reason::BadSelection),
        ),
        (
            vec![("folder", "Prod"), ("folder-uid", uid)],
            ("folder-uid", Reason::Conflict),
        ),
        (
            vec![("folder-path", "/keeper/secrets/x")],
            ("folder-path", Reason::Conflict),
        ),
        (
            vec![("folder", "Prod"), ("folder-path", "db")],
            ("folder-path", Reason::BadPath),
        ),
        (
            vec![("folder", "Prod"), ("folder-path", "/keeper/secrets/..x")],
            ("folder-path", Reason::BadPath),
        ),
        (
            vec![("folder", "Prod"), ("folder-path", "/proc/x")],
            ("folder-path", Reason::BadPath),
        ),
        (
            vec![("folder", "Prod"), ("folder-path", "/app")],
            ("folder-path", Reason::BadPath),
        ),
        (
            vec![("folder", "Prod"), ("folder-path", "/")],
            ("folder-path", Reason::BadPath),
        ),
        (
            vec![
                ("folder", "Prod"),
                ("folder-path", "/keeper/secrets/a/b"),
                ("secret-a", "x[y]"),
            ],
            ("folder-path", Reason::PathTaken),
        ),
        (
            vec![
                ("folder", "Prod"),
                ("folder-path", "/keeper/secrets/a"),
                ("secret-a", "x[y]"),
            ],
            ("folder-path", Reason::PathTaken),
        ),
    ] {
        let denial = denied(&pod(&annotations));
        let want = (want.0.to_owned(), want.1);
        assert_eq!(reasons(&denial), [want], "{annotations:?}: {denial}");
    }
    let mut mounted = pod(&[("folder", "Prod"), ("folder-path", "/keeper/secrets/a/b")]);
    for (at, fits) in [("a", false), ("a/b", false), ("a/b/c", true), ("ab", true)] {
        mounted["spec"]["containers"][0]["volumeMounts"] =
            json!([{"name": "v", "mountPath": format!("/keeper/secrets/{at}")}]);
        match fits {
            true => drop(injected(&mounted)),
            false => assert_eq!(
                reasons(&denied(&mounted)),
                [("folder-path".into(), Reason::MountConflict)],
                "{at}"
            ),
        }
    }
}

#[test]
fn the_format_is_for_whole_records_and_leaves_the_path() {
    let secrets = [
        ("secret", "Orders DB, Mail[password]"),
        ("secret-x", "Shop"),
    ];
    let formats = |annotations: &[(&str, &str)], defaults| {
        let pod = pod(&[&secrets, annotations].concat());
        let injection = injection(admit(&pod, "default", &settings_with(defaults), &CURRENT));
        let outputs = config(&apply(&pod, &injection)).outputs;
        assert_eq!(
            outputs.iter().map(|o| o.path.as_str()).collect::<Vec<_>>(),
            ["orders-db.json", "mail", "shop.json"]
        );
        assert!(
            outputs
                .iter()
                .all(|o| o.fields.is_empty() && o.mode.is_none())
        );
        outputs.into_iter().map(|o| o.format).collect::<Vec<_>>()
    };
    use Format::{Env, Json, Raw, Yaml};
    let none = || json!({});
    let chart = || json!({"format": "yaml"});
    assert_eq!(formats(&[], none()), [Json, Raw, Json]);
    assert_eq!(formats(&[("format", " env")], none()), [Env, Raw, Env]);
    assert_eq!(formats(&[], chart()), [Yaml, Raw, Yaml]);
    assert_eq!(formats(&[("format", "env")], chart()), [Env, Raw, Env]);
    assert_eq!(formats(&[("format", "json")], chart()), [Json, Raw, Json]);

    let raw = pod(&[&secrets[..], &[("format", "raw")]].concat());
    let denial = denied(&raw);
    assert_eq!(
        reasons(&denial),
        [("secret", Reason::Conflict), ("secret-x", Reason::Conflict)]
            .map(|(name, reason)| (name.to_owned(), reason))
    );
    assert!(
        denial
            .to_string()
            .contains("select one field, as in record[password], or choose another format"),
        "{denial}"
    );
    let one = pod(&[("format", "raw"), ("secret", "Mail[password], Shop/type")]);
    injected(&one);
    for word in ["xml", "JSON", "template", ""] {
        let denial = denied(&pod(&[("format", word), ("secret", "Mail")]));
        assert_eq!(reasons(&denial), [("format".to_owned(), Reason::BadValue)]);
        assert!(
            denial
                .to_string()
                .contains("json, env, yaml, properties, ini, raw"),
            "{denial}"
        );
    }
}

#[test]
fn outputs_that_cannot_be() {
    for (annotations, want) in [
        (vec![("secret", "")], vec![("secret", Reason::BadSelection)]),
        (
            vec![("secret", " , ")],
            vec![("secret", Reason::BadSelection)],
        ),
        (
            vec![("secret", "/keeper/secrets/x")],
            vec![("secret", Reason::BadSelection)],
        ),
        (
            vec![("secret", "a]"), ("secret-x", "R/field")],
            vec![
                ("secret", Reason::BadSelection),
                ("secret-x", Reason::BadSelection),
            ],
        ),
        (
            vec![("secret-x", "R:/app/x.json")],
            vec![("secret-x", Reason::BadPath)],
        ),
        (
            vec![("secret-x", "R:/etc/x.json")],
            vec![("secret-x", Reason::BadPath)],
        ),
        (
            vec![("secret-x", "R:/proc/x")],
            vec![("secret-x", Reason::BadPath)],
        ),
        (
            vec![("secret-x", "R:/keeper/secrets/")],
            vec![("secret-x", Reason::BadPath)],
        ),
        (
            vec![("secret-x", "R:/keeper/secrets/..data/x")],
            vec![("secret-x", Reason::BadPath)],
        ),
        (
            vec![("secret-x", "R:/keeper/secrets/../x")],
            vec![("secret-x", Reason::BadPath)],
        ),
        (vec![("secret", "..")], vec![("secret", Reason::BadPath)]),
        (
            vec![
                ("file-x", "R:tls.crt:x"),
                ("file-y", "R"),
                ("file-z", "R:a/b"),
            ],
            vec![
                ("file-x", Reason::BadPath),
                ("file-y", Reason::BadSelection),
                ("file-z", Reason::BadPath),
            ],
        ),
        (
            vec![("file-x", "TLS:a.pem"), ("file-y", "Other:a.pem")],
            vec![("file-y", Reason::PathTaken)],
        ),
        // Two for one path: by default, by hand, across annotations.
        (
            vec![("secret", "Orders[login], orders[password]")],
            vec![("secret", Reason::PathTaken)],
        ),
        (
            vec![("secret", "orders"), ("secrets", "orders")],
            vec![("secrets", Reason::PathTaken)],
        ),
        (
            vec![
                ("secret-a", "x[y]:/keeper/secrets//b/"),
                ("secret-b", "x[z]"),
            ],
            vec![("secret-b", Reason::PathTaken)],
        ),
        // One below the other.
        (
            vec![
                ("secret-a", "x[y]"),
                ("secret-b", "x:/keeper/secrets/a/b/c"),
            ],
            vec![("secret-b", Reason::PathTaken)],
        ),
    ] {
        let denial = denied(&pod(&annotations));
        let want: Vec<_> = want.into_iter().map(|(n, r)| (n.to_owned(), r)).collect();
        assert_eq!(reasons(&denial), want, "{annotations:?}: {denial}");
    }
    let long = "x".repeat(300);
    assert_eq!(
        reasons(&denied(&pod(&[("secret", &long)]))),
        [("secret".into(), Reason::BadPath)]
    );
    injected(&pod(&[("secret-x", &format!("{long}:/keeper/secrets/x"))]));
}

#[test]
fn more_than_an_environment_carries_is_denied() {
    let many = |n: usize| {
        let list: Vec<String> = (0..n).map(|i| format!("record number {i}")).collect();
        pod(&[("secrets", &list.join(","))])
    };
    injected(&many(500));
    assert_eq!(
        reasons(&denied(&many(2000))),
        [("secrets".into(), Reason::TooLarge)]
    );
}

/// The sizes are those that the API server takes: 256 KiB of annotations. Anything quadratic in them would hold
/// the suite up for minutes.
#[test]
fn a_hostile_pod_is_decided_on() {
    let mut unknown = pod(&[]);
    for i in 0..10_000 {
        annotate(&mut unknown, &format!("x{i}"), json!("y"));
    }
    assert_eq!(denied(&unknown).problems.len(), 10_000);
    let many: Vec<String> = (0..10_000).map(|i| format!("{i}")).collect();
    denied(&pod(&[("secret", &many.join(","))]));
    denied(&pod(&[("secret-x", &"/".repeat(200_000))]));
    denied(&pod(&[("secret-x", &"[a]".repeat(60_000))]));
    denied(&pod(&[("secret-x", &"a:/".repeat(60_000))]));
    let mut mounts = pod(&[("secret", "a")]);
    let list =
        (0..5_000).map(|i| json!({"name": "v", "mountPath": format!("/keeper/secrets/{i}/x")}));
    mounts["spec"]["containers"][0]["volumeMounts"] = list.collect();
    drop(decide(&mounts));
    // As deep as a path can be, many times, and mounts as deep below and above them.
    let deep = |i: usize, end: &str| format!("/{}{i}{end}", "a/".repeat(2000));
    let mut paths = pod(&[]);
    for i in 0..30 {
        let value = json!(format!("R:{}", deep(i, "/x")));
        annotate(&mut paths, &format!("secret-{i}"), value);
    }
    let list = (0..100).map(|i| json!({"name": "v", "mountPath": deep(i, "")}));
    paths["spec"]["containers"][0]["volumeMounts"] = list.collect();
    denied(&paths);
    let names: Vec<String> = (0..5_000).map(|i| format!("c{i}")).collect();
    annotate(&mut paths, "containers", json!(names.join(",")));
    let list = (0..5_000).map(|i| json!({"name": format!("d{i}")}));
    paths["spec"]["containers"] = list.collect();
    denied(&paths);
}
