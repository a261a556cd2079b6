//! The reference page of the annotations, from the table: nothing about an annotation is written twice.

use std::fmt::Write as _;

use crate::annotations::{Annotation, Kind, PREFIX, Scope, Section, Status, TABLE};

const INTRODUCTION: &str = "\
# Annotations

<!-- Made from the table in shared/contract by its tests. UPDATE_DOCS=1 cargo test -p keeper-contract --test reference -->

All of them begin with `keeper.security/` and are read from the **pod**: in a Deployment that is
`spec.template.metadata.annotations`. Values are strings: quote `\"true\"` and numbers. Booleans ignore case.

An annotation with this prefix that is not in here is refused, with the name that is most like it. One that is marked
**not yet** is known, but this version does not do it: it is refused too, unless its value is the default. All problems of a
pod are reported at once.

Those marked (namespace) may also stand on the pod's namespace, for all of its pods: [namespaces](../namespaces.md). Many of them have a
cluster-wide default in the chart, too, by its `defaults`, `proxy` and `sidecarResources`. The pod's own annotation goes before its
namespace's, and that before the chart's. `ksm-config` and `auth-secret`, and the two `ca-cert-` sources, go together: where one of such a
pair is set, neither is taken from further away.

What a value may select, and where it is published: [selections](selections.md).
";

const CLOSING: &str = "
## What every injected pod gets

- `keeper-sidecar`, first among the init containers, with `restartPolicy: Always` and a `postStart` hook that ends when all files
  are published. In a pod with `restartPolicy: Never`, `keeper-init` stands before it in place of the hook; with `init-only`,
  `keeper-init` is all there is. With a classic sidecar `keeper-init` is the first init container, and `keeper-sidecar` the last
  of the pod's containers: it fetches nothing at its start, and stops together with the app. A name that the pod has already gets a number behind it.
- A memory-backed volume, of which each of the pod's own containers and init containers mounts one directory, read-only, at
  `/keeper/secrets`. If nothing is selected, nothing is mounted.
- The label and the annotation `keeper.security/injected: \"true\"`, and from a release with a [revision](../revisions.md) the label
  `keeper.security/revision`.

The injected containers run as user 65532, in the group 65532 or the pod's `fsGroup`, without privileges and with a read-only
root. They hold no service account token. The Secret with the device config is mounted into them only.

Files have mode 0444, or 0440 in a pod with an `fsGroup`.

In a Guaranteed pod the requests of the injected containers are their limits, so that it stays Guaranteed. A request or limit
that is written goes before a default: a default request gives way to a lower limit, a default limit to a higher request.
";

/// `docs/reference/annotations.md`.
#[must_use]
pub fn markdown() -> String {
    let mut page = INTRODUCTION.to_owned();
    for section in Section::ALL {
        // Writing into a String cannot fail.
        let _ = write!(
            page,
            "\n## {}\n\n| annotation | value | default | meaning |\n|---|---|---|---|\n",
            section.title()
        );
        for annotation in TABLE.iter().filter(|a| a.section == section) {
            page.push_str(&row(annotation));
        }
    }
    page.push_str(CLOSING);
    page
}

fn row(annotation: &Annotation) -> String {
    let code = |text: &str| format!("`{text}`");
    let mut default = annotation.default.map_or(String::new(), code);
    if annotation.scope == Scope::Defaultable {
        let space = if default.is_empty() { "" } else { " " };
        let _ = write!(default, "{space}(namespace)");
    }
    let status = match annotation.status {
        Status::Working => "",
        Status::NotYet => "**Not yet.** ",
    };
    let value = match annotation.kind {
        Kind::Boolean | Kind::OneOf(_) => annotation.kind.describe(),
        kind => format!("{}, such as {}", kind.describe(), code(annotation.example)),
    };
    format!(
        "| `{PREFIX}{}` | {value} | {default} | {status}{} |\n",
        annotation.name, annotation.doc,
    )
}

impl Section {
    const ALL: [Self; 6] = [
        Self::Injection,
        Self::Authentication,
        Self::Secrets,
        Self::Behaviour,
        Self::Environment,
        Self::Sync,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::Injection => "Turning it on",
            Self::Authentication => "Authentication",
            Self::Secrets => "Which secrets, and where",
            Self::Behaviour => "Behaviour",
            Self::Environment => "Environment variables",
            Self::Sync => "Kubernetes Secrets",
        }
    }
}

impl Kind {
    fn describe(self) -> String {
        let fixed = match self {
            Self::Boolean => "`true` or `false`",
            Self::Duration => "duration",
            Self::Quantity => "quantity",
            Self::Port => "port",
            Self::ObjectName => "object name",
            Self::DataKey => "key",
            Self::Selection => "selection",
            Self::Selections => "selections",
            Self::Path => "path",
            Self::Mode => "file mode",
            Self::Names => "names",
            Self::Yaml => "YAML",
            Self::Text => "text",
            Self::OneOf(words) => return format!("one of `{}`", words.join("`, `")),
        };
        fixed.to_owned()
    }
}
