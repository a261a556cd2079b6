//! The annotation `config`: a pod that uses each key, and what is said of one that is wrong.

use keeper_e2e::{Namespace, pods};

const CONFIG: &str = r#"
secrets:
  - record: pair
    fields: [password, login]
    format: properties
    path: /keeper/secrets/app/pair.properties
    mode: "0400"
  - {record: pair, fields: [login], path: /keeper/secrets/app/login}
  - {record: Production/Databases/MySQL}
  - {notation: keeper://pair/field/password, path: /keeper/secrets/app/password}
  - {notation: a2VlcGVyOi8vcGFpci90eXBl}
  - {record: web-keystore, fileName: keystore.p12, injectAsEnvVars: false, injectAsK8sSecret: "False"}
  - {record: pair, fields: [login, password], injectAsEnvVars: true, envPrefix: DB_}
folders:
  - {folderPath: Production/Databases, outputPath: /keeper/secrets/db}
  - {uid: TEAM, outputPath: /keeper/secrets/team}
"#;

/// Each file with its mode, and its content; and the variables.
const LIST: &str = r#"
echo "$DB_LOGIN $DB_PASSWORD"
cd /keeper/secrets/app && stat -Lc '%a %n' pair.properties login
cat pair.properties login; echo; cat password; echo
cd .. && stat -Lc %n *
wc -c < keystore.p12; cat pair; echo; grep login production-databases-mysql.json
cd db && grep -H password *
cd ../team && grep -H password *"#;

#[test]
fn a_pod_finds_what_its_config_asks_for() {
    let namespace = Namespace::new("yaml");
    let keeper = namespace.keeper();
    let team = keeper.run(&["mkdir", "Team"]);
    keeper.run(&["add", "crew", "password=crew-password", "--folder=Team"]);
    let config = CONFIG.replace("TEAM", team.trim());
    let pod = pods::annotated("config", &[("config", &config)], LIST);
    namespace.apply(&pods::once(pod));
    namespace.wait_for_success("config", 90);
    let want = "\
same-0 same-0
400 pair.properties
444 login
login=same-0
password=same-0
same-0
same-0
app
db
keystore.p12
pair
production-databases-mysql.json
team
4000
login
  \"login\": \"app\",
MySQL.json:  \"password\": \"mysql-password\"
Redis-cache.json:  \"password\": \"redis-password\"
crew.json:  \"password\": \"crew-password\"
";
    assert_eq!(namespace.logs("config", pods::APP), want);
}

#[test]
fn a_mistake_in_a_config_is_told_with_its_line_and_column() {
    let namespace = Namespace::new("yaml-wrong");
    let text = CONFIG
        .replace("/keeper/secrets/db", "db")
        .replace("\"0400\"", "0400");
    let denied = namespace.try_apply(&pods::annotated("wrong", &[("config", &text)], ""));
    assert!(!denied.success);
    for line in [
        "keeper.security/config: secrets[0].mode (line 7, column 11): is read as a number without quotes",
        "keeper.security/config: folders[0].outputPath (line 15, column 52): the path `db` is not absolute",
    ] {
        assert!(denied.stderr.contains(line), "{}", denied.stderr);
    }
}
