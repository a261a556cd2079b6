//! The annotation `config`, from the outside.

use keeper_contract::{FolderRef, Format, Naming, Reason, Selection};
use serde_json::{Value, json};

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

/// A pod with a command, which variables need.
fn with_command(annotations: &[(&str, &str)]) -> Value {
    let mut pod = pod(annotations);
    pod["spec"]["containers"][0]["command"] = json!(["app"]);
    pod
}

#[test]
fn an_entry_becomes_variables_in_place_of_its_file_and_others_stay_files() {
    let text = "\
secrets:
  - {record: R, fields: [login, password], injectAsEnvVars: true, envPrefix: DB_}
  - {notation: R/field/url, injectAsEnvVars: true}
  - record: R
";
    let patched = patched(&with_command(&[
        ("config", text),
        ("env-method", "exec"),
        ("env-X", "R[login]"),
        // These are for each other.
        ("inject-env-vars", "true"),
        ("env-prefix", "MAIL_"),
        ("secret", "Mail[login]"),
    ]));
    assert_eq!(
        patched["spec"]["containers"][0]["command"][0],
        "/keeper-exec/keeper-exec"
    );
    let config = config(&patched);
    let paths: Vec<_> = config.outputs.iter().map(|o| o.path.as_str()).collect();
    assert_eq!(paths, ["r.json"]);
    let variables: Vec<_> = config
        .environment
        .iter()
        .flat_map(|e| &e.variables)
        .map(|one| (one.annotation.as_str(), &one.naming, one.names().unwrap()))
        .collect();
    let prefix = |prefix: &str| Naming::Prefix(prefix.to_owned());
    let names = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect::<Vec<_>>();
    assert_eq!(
        variables,
        [
            (
                "keeper.security/secret",
                &prefix("MAIL_"),
                names(&["MAIL_LOGIN"])
            ),
            (
                "keeper.security/env-X",
                &Naming::Written("X".into()),
                names(&["X"])
            ),
            (
                "keeper.security/config: secrets[0] (line 2, column 5)",
                &prefix("DB_"),
                names(&["DB_LOGIN", "DB_PASSWORD"])
            ),
            (
                "keeper.security/config: secrets[1] (line 3, column 5)",
                &prefix(""),
                names(&["URL"])
            ),
        ]
    );
}

#[test]
fn names_of_variables_that_cannot_be_are_told_with_the_cure_of_a_config() {
    let text = "\
secrets:
  - {record: R, fields: [Path, a-b, a_b], injectAsEnvVars: true}
  - {notation: R/field/x, injectAsEnvVars: true}
";
    let denial = denied(&with_command(&[("config", text), ("env-X", "R[y]")]));
    assert_eq!(
        denial.to_string(),
        "\
keeper.security/config: secrets[0] (line 2, column 5): the name of the variable `PATH` is one by which programs load or run code, so that no vault may set it: set `envPrefix` there, or give it a name with keeper.security/env-<NAME>
keeper.security/config: secrets[0] (line 2, column 5): two of its fields are the variable `A_B`: remove one of them
keeper.security/config: secrets[1] (line 3, column 5): the variable `X` is that of keeper.security/env-X already: remove one of them, or set `envPrefix` there"
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
