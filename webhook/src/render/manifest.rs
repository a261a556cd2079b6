//! Files of manifests as objects that know where they stand.

use std::collections::BTreeMap;

use keeper_contract::NamespaceSettings;
use serde_json::Value;
use serde_saphyr::Spanned;

/// One object of a file.
#[derive(Debug)]
pub(crate) struct Manifest {
    /// The file's name.
    pub(crate) file: String,
    /// Where its document begins.
    pub(crate) line: u64,
    pub(crate) object: Value,
}

/// Why a file says nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("cannot be read: {0}")]
    File(#[from] std::io::Error),
    #[error("is larger than 64 MiB")]
    TooLarge,
    #[error("is not UTF-8 text")]
    NoText,
    /// The parser's words have line and column, and quote no line: a file may hold a Secret.
    #[error("is not YAML: {0}")]
    Yaml(Box<serde_saphyr::Error>),
    #[error("line {0}: no Kubernetes object, which has an apiVersion and a kind")]
    NoObject(u64),
    #[error("holds no Kubernetes object")]
    Empty,
}

impl Manifest {
    /// The namespace that it names itself.
    pub(crate) fn namespace(&self) -> Option<&str> {
        let namespace = self.object.pointer("/metadata/namespace")?.as_str()?;
        (!namespace.is_empty()).then_some(namespace)
    }

    /// Its name and what it says to us, if it is a namespace itself.
    pub(crate) fn as_namespace(&self) -> Option<(&str, NamespaceSettings)> {
        let text = |pointer: &str| self.object.pointer(pointer).and_then(Value::as_str);
        if (text("/apiVersion"), text("/kind")) != (Some("v1"), Some("Namespace")) {
            return None;
        }
        let texts = |pointer: &str| -> BTreeMap<String, String> {
            let map = self.object.pointer(pointer).and_then(Value::as_object);
            map.into_iter()
                .flatten()
                .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
                .collect()
        };
        let said =
            NamespaceSettings::read(&texts("/metadata/labels"), &texts("/metadata/annotations"));
        Some((text("/metadata/name")?, said))
    }
}

/// `web.yaml:12: Deployment shop/web`, on one line whatever stands in the file.
impl std::fmt::Display for Manifest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |pointer: &str| {
            let text = self.object.pointer(pointer).and_then(Value::as_str);
            let printable = text.unwrap_or_default().chars().filter(|c| !c.is_control());
            printable.take(253).collect::<String>()
        };
        let name = match text("/metadata/name") {
            name if name.is_empty() => format!("{}*", text("/metadata/generateName")),
            name => name,
        };
        let namespace = match text("/metadata/namespace") {
            namespace if namespace.is_empty() => namespace,
            namespace => format!("{namespace}/"),
        };
        write!(f, "{} {namespace}{name}", text("/kind"))
    }
}

/// The objects of a file, those of Lists one by one.
///
/// Words like `yes` and numbers like `010` are what kubectl takes them for, so that what lacks quotes is told.
///
/// # Errors
/// If it is not YAML, or a document is no object.
pub(crate) fn parse(file: &str, text: &str) -> Result<Vec<Manifest>, Unreadable> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: false,
        legacy_octal_numbers: true,
    };
    let documents: Vec<Spanned<Value>> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| Unreadable::Yaml(Box::new(error)))?;
    let mut manifests = Vec::new();
    for document in documents {
        let line = document.referenced.line();
        let of_list = |object: &Value| {
            object.get("kind").and_then(Value::as_str) == Some("List")
                && object.get("apiVersion").and_then(Value::as_str) == Some("v1")
        };
        let mut waiting = vec![document.value];
        while let Some(mut object) = waiting.pop() {
            if of_list(&object) {
                let items = object.get_mut("items").and_then(Value::as_array_mut);
                waiting.extend(items.into_iter().flat_map(std::mem::take).rev());
                continue;
            }
            let named = |key| object.get(key).is_some_and(Value::is_string);
            if !named("apiVersion") || !named("kind") {
                return Err(Unreadable::NoObject(line));
            }
            manifests.push(Manifest {
                file: file.to_owned(),
                line,
                object,
            });
        }
    }
    if manifests.is_empty() {
        return Err(Unreadable::Empty);
    }
    Ok(manifests)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<(u64, String)> {
        let manifests = parse("f", text).unwrap();
        manifests.iter().map(|m| (m.line, m.to_string())).collect()
    }

    #[test]
    fn documents_and_items_of_lists_know_their_line() {
        let text = "\
# a comment
---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: shop}
---
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Pod, metadata: {generateName: b-}}
- {apiVersion: v1, kind: Service, metadata: {name: \"c\\nd\"}}
";
        assert_eq!(
            lines(text),
            [
                (3, "Pod shop/a".to_owned()),
                (8, "Pod b-*".to_owned()),
                (8, "Service cd".to_owned())
            ]
        );
    }

    #[test]
    fn json_is_yaml_too() {
        let text = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}"#;
        assert_eq!(lines(text), [(1, "Pod a".to_owned())]);
    }

    /// As kubectl reads them, so that the lack of quotes is seen here too.
    #[test]
    fn what_lacks_quotes_is_no_text() {
        let text = "{apiVersion: v1, kind: Pod, a: yes, b: 0440, c: on, d: \"on\"}";
        let object = &parse("f", text).unwrap()[0].object;
        assert!(
            object["a"].is_boolean() && object["c"].is_boolean(),
            "{object}"
        );
        assert!(
            object["b"].is_number() && object["d"].is_string(),
            "{object}"
        );
    }

    #[test]
    fn what_is_unreadable_says_where_and_quotes_nothing() {
        for (text, says) in [
            ("", "holds no Kubernetes object"),
            ("# nothing\n---\n", "holds no Kubernetes object"),
            (
                "apiVersion: v1\nkind: List\nitems: []\n",
                "holds no Kubernetes object",
            ),
            ("hello", "line 1: no Kubernetes object"),
            ("\n\n- a\n", "line 3: no Kubernetes object"),
            ("a: canary\nb: [canary\n", "line 2"),
            ("a: canary\na: canary\n", "line 2"),
            ("{{ .Values.canary }}", "line 1"),
        ] {
            let error = parse("f", text).unwrap_err().to_string();
            assert!(error.contains(says), "{text:?}: {error}");
            assert!(!error.contains("canary"), "{text:?}: {error}");
        }
    }

    #[test]
    fn aliases_are_bounded() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..9 {
            let aliases = vec![format!("*a{}", i - 1); 10].join(", ");
            bomb += &format!("a{i}: &a{i} [{aliases}]\n");
        }
        assert!(matches!(parse("f", &bomb), Err(Unreadable::Yaml(_))));
    }
}
