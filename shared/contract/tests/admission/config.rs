//! The annotation `config`, from the outside.

use keeper_contract::{FolderRef, Format, Reason, Selection};

use crate::{config, denied, injected, patched, pod, reasons};

/// The example that users of the Go injector know, without what this version does not do.
const EXAMPLE: &str = "\
secrets:
  - record: database-credentials
    path: /keeper/secrets/db.env
    fields: [login, password]
    format: env
    mode: \"0440\"
    injectAsEnvVars: false
    injectAsK8sSecret: false
  - record: tls
    file: cert.pem
folders:
  - path: Production/Databases
    outputPath: /keeper/secrets/db
    injectAsK8sSecret: false
";

#[test]
fn it_asks_for_the_same_as_annotations_do() {
    let config = config(&patched(&pod(&[
        ("config", EXAMPLE),
        ("secret", "Orders DB"),
        // It is for the outputs of the other annotations.
        ("format", "ini"),
    ])));
    let outputs: Vec<_> = config
        .outputs
        .iter()
        .map(|o| (o.path.as_str(), o.format, o.annotation.as_str()))
        .collect();
    assert_eq!(
        outputs,
        [
            ("orders-db.json", Format::Ini, "keeper.security/secret"),
            (
                "db.env",
                Format::Env,
                "keeper.security/config: secrets[0] (line 2, column 5)"
            ),
            (
                "cert.pem",
                Format::Raw,
                "keeper.security/config: secrets[1] (line 9, column 5)"
            ),
        ]
    );
    assert_eq!(config.outputs[1].fields, ["login", "password"]);
    assert_eq!(config.outputs[1].mode, Some(0o440));
    assert!(
        matches!(&config.outputs[2].selection, Selection::File { file, .. } if file == "cert.pem")
    );
    let folder = &config.folders[0];
    assert!(
        matches!(&folder.folder, FolderRef::Path(path) if path.to_string() == "Production/Databases")
    );
    assert_eq!(
        folder.annotation,
        "keeper.security/config: folders[0] (line 12, column 5)"
    );
}

#[test]
fn what_is_wrong_is_told_beside_the_problems_of_other_annotations() {
    let text = "secrets:\n  - {record: a, pth: /x}\n";
    let denial = denied(&pod(&[("config", text), ("refresh-interval", "soon")]));
    assert_eq!(
        reasons(&denial),
        [
            ("config".to_owned(), Reason::BadValue),
            ("refresh-interval".to_owned(), Reason::BadValue)
        ]
    );
    assert_eq!(
        denial.problems[0].to_string(),
        "keeper.security/config: secrets[0].pth (line 2, column 17): unknown key: did you mean path? Correct or remove it"
    );
}

#[test]
fn a_path_is_given_once_whoever_asks_for_it() {
    let text = "secrets:\n  - record: a\n  - record: A\nfolders:\n  - path: F\n";
    let denial = denied(&pod(&[("config", text), ("secret", "a")]));
    let told: Vec<_> = denial.problems.iter().map(|p| p.to_string()).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].starts_with("keeper.security/config: secrets[0] (line 2, column 5): `/keeper/secrets/a.json` is the output of keeper.security/secret already"),
        "{told:?}"
    );
    assert!(
        told[1].starts_with("keeper.security/config: secrets[1] (line 3, column 5): "),
        "{told:?}"
    );
}

#[test]
fn an_empty_one_selects_nothing() {
    let injection = injected(&pod(&[("config", "secrets: []\n")]));
    assert!(
        injection.warnings[0].contains("nothing is selected"),
        "{:?}",
        injection.warnings
    );
}
