//! The reference page of the annotation `config`, from the table of its keys.

use std::fmt::Write as _;

use super::keys::{FOLDER, Key, SECRET};
use crate::annotations::Status;

const INTRODUCTION: &str = "\
# config

<!-- Made from the table in shared/contract by its tests. UPDATE_DOCS=1 cargo test -p keeper-contract --test reference -->

The annotation `keeper.security/config` holds YAML that asks for files, folders and environment variables, with more to say of each than the other
annotations can. It adds to what they ask for. This is of
[examples/config.yaml](../../examples/config.yaml):

```yaml
metadata:
  annotations:
    keeper.security/config: |
      secrets:
        - record: database-credentials
          fields: [login, password]
          format: env
          path: /keeper/secrets/orders/db.env
          mode: \"0440\"
        - notation: keeper://database-credentials/field/login
          path: /keeper/secrets/login
        - record: web-keystore
          file: keystore.p12
      folders:
        - path: Production/Databases
          outputPath: /keeper/secrets/databases
```

It may hold `secrets`, `folders` or both, each a list. An empty one asks for nothing. A key that is not in here is refused, with the
one that is most like it. One that is marked **not yet** is known, but this version does not do it: it is refused too, unless
its value is the default.

Each problem is reported with its key, line and column, counted in the text of the annotation:

```
keeper.security/config: secrets[0].path (line 5, column 11): the path `orders/db.env` is not absolute: begin it with a slash, such as /keeper/secrets/x
```

What is no YAML, an unknown key and a value of the wrong kind are reported alone, everything else at once.
";

const CLOSING: &str = "
## Writing it

- Write `mode` in quotes. `0440` without them is a number, and not the same one to everybody who reads YAML.
- In a text in double quotes YAML itself takes the backslash: write `record: 'Orders \\[prod\\]'`, with single quotes or none.
- Quote a text that begins with `*`, `&`, `!`, `{`, `[`, `@` or a backtick, or that holds `: ` or ` #`.
- A title that looks like a number or a boolean is taken as it is written.
- Switches ignore case and may be quoted, as in annotations.
- Anchors, aliases and merge keys (`<<`) work, in moderation: what they repeat is counted, and a text that grows too large by it is
  refused. So is one with a second document, or one key twice.
";

/// `docs/reference/config.md`.
#[must_use]
pub fn markdown() -> String {
    let mut page = INTRODUCTION.to_owned();
    for (title, keys) in [("secrets", SECRET), ("folders", FOLDER)] {
        // Writing into a String cannot fail.
        let _ = write!(
            page,
            "\n## {title}\n\n| key | value | default | meaning |\n|---|---|---|---|\n"
        );
        for key in keys {
            page.push_str(&row(key));
        }
    }
    page.push_str(CLOSING);
    page
}

fn row(key: &Key) -> String {
    let Key {
        name,
        alias,
        kind,
        default,
        example,
        doc,
        status,
    } = key;
    let alias = alias.map_or(String::new(), |alias| format!(", or `{alias}`"));
    let default = default.map_or(String::new(), |default| format!("`{default}`"));
    let status = match status {
        Status::Working => "",
        Status::NotYet => "**Not yet.** ",
    };
    // What lists its words needs no example.
    let example = match kind.starts_with('`') || kind.starts_with("one of") {
        true => String::new(),
        false => format!(", such as `{example}`"),
    };
    format!("| `{name}`{alias} | {kind}{example} | {default} | {status}{doc} |\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Findings;

    #[test]
    fn the_page_shows_a_config_that_works_and_what_is_said_of_a_wrong_one() {
        let (_, config) = INTRODUCTION
            .split_once("keeper.security/config: |\n")
            .unwrap();
        let (config, _) = config.split_once("```").unwrap();
        let config: String = config
            .lines()
            .flat_map(|line| [line.get(6..).unwrap_or_default(), "\n"])
            .collect();
        let problems = |text: &str| {
            let mut findings = Findings::default();
            crate::config_yaml::read(text, &mut findings);
            findings.problems
        };
        assert_eq!(problems(&config), []);
        let wrong = problems(&config.replace(": /keeper/secrets/orders", ": orders"));
        let [only] = wrong.as_slice() else {
            panic!("{wrong:?}")
        };
        assert!(
            INTRODUCTION.contains(&format!("```\n{only}\n```")),
            "{only}"
        );
    }
}
