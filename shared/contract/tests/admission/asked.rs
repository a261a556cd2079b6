//! What an admission tells an auditor of what the pod asks for.

use keeper_contract::Asked;

use super::*;

#[test]
fn every_record_and_folder_is_named_once_however_it_is_asked_for() {
    let config = "
secrets:
  - record: Team/db
  - notation: keeper://Y-XZ2KHAVYK0sS6Es2Zh2A/field/login
    path: /keeper/secrets/login
folders:
  - path: Production/Databases
";
    let mut pod = pod(&[
        ("secret-password", "db[password]"),
        ("secret-login", "db[login]:/keeper/secrets/other"),
        ("file-cert", "certificates:tls.crt"),
        ("env-TOKEN", "api\\[1\\][token]"),
        ("config", config),
    ]);
    pod["spec"]["containers"][0]["command"] = json!(["app"]);
    let Asked {
        auth_secret,
        mut records,
        folders,
    } = injected(&pod).asked;
    records.sort();
    assert_eq!(auth_secret, "keeper-auth");
    assert_eq!(
        records,
        [
            "Team/db",
            "Y-XZ2KHAVYK0sS6Es2Zh2A",
            "api\\[1\\]",
            "certificates",
            "db"
        ]
    );
    assert_eq!(folders, ["Production/Databases"]);
}

/// Also when only what was lost is put back: the pod starts with these secrets all the same.
#[test]
fn a_repair_tells_what_the_config_says() {
    let mut pod = pod(&[("secret", "db")]);
    pod = patched(&pod);
    pod["metadata"]["labels"] = json!({});
    assert_eq!(injected(&pod).asked.records, ["db"]);
}
