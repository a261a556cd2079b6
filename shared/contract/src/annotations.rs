//! Every `keeper.security/*` annotation, once: the parser, "did you mean", the defaults of namespaces and chart and
//! the reference page all read this table.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

/// What all annotations start with.
pub const PREFIX: &str = "keeper.security/";

/// One annotation, or a family of them.
#[derive(Debug, Clone, Copy)]
pub struct Annotation {
    /// Name without prefix. `<…>` at the end stands for any name: `secret-<name>`.
    pub name: &'static str,
    /// What its value is.
    pub kind: Kind,
    /// The value that absence means, where there is a fixed one.
    pub default: Option<&'static str>,
    /// Where it may be set.
    pub scope: Scope,
    /// Whether this version does it.
    pub status: Status,
    /// Where the reference lists it.
    pub section: Section,
    /// What it does, in a sentence or two.
    pub doc: &'static str,
    /// A value that parses.
    pub example: &'static str,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`, in any case.
    Boolean,
    /// A Go-style duration.
    Duration,
    /// A Kubernetes quantity.
    Quantity,
    /// A TCP port, or 0.
    Port,
    /// Name of a Secret or ConfigMap in the pod's namespace.
    ObjectName,
    /// Key of a Secret or ConfigMap.
    DataKey,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// One selection.
    Selection,
    /// Selections, separated by commas.
    Selections,
    /// An absolute path.
    Path,
    /// An octal file mode.
    Mode,
    /// Names, separated by commas.
    Names,
    /// A YAML document.
    Yaml,
    /// Anything else.
    Text,
}

/// Where an annotation may be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// On a pod only.
    Pod,
    /// On a pod; its default may come from the namespace, or from the chart.
    Defaultable,
}

/// Whether this version does what an annotation asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It does.
    Working,
    /// It does not: the annotation is refused, unless its value is the default.
    NotYet,
}

/// Sections of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// Asking for injection.
    Injection,
    /// Who we are to Keeper.
    Authentication,
    /// Which secrets, and where.
    Secrets,
    /// How the injected containers behave.
    Behaviour,
    /// Environment variables.
    Environment,
    /// Kubernetes Secrets and restarts.
    Sync,
}

impl Annotation {
    const fn new(
        section: Section,
        name: &'static str,
        kind: Kind,
        example: &'static str,
        doc: &'static str,
    ) -> Self {
        let scope = match section {
            Section::Authentication | Section::Behaviour => Scope::Defaultable,
            _ => Scope::Pod,
        };
        Self {
            name,
            kind,
            default: None,
            scope,
            status: Status::Working,
            section,
            doc,
            example,
        }
    }

    const fn default(mut self, value: &'static str) -> Self {
        self.default = Some(value);
        self
    }

    const fn defaultable(mut self) -> Self {
        self.scope = Scope::Defaultable;
        self
    }

    const fn not_yet(mut self) -> Self {
        self.status = Status::NotYet;
        self
    }

    /// The fixed part of a family's name: `secret-` of `secret-<name>`.
    fn family(&self) -> Option<&'static str> {
        // Most are none, and each annotation of a pod is held against the whole table.
        let named = self.name.strip_suffix('>')?;
        named.split_once('<').map(|(fixed, _)| fixed)
    }

    /// Whether `value` asks for nothing but what is done without the annotation.
    #[must_use]
    pub fn is_default(&self, value: &str) -> bool {
        let value = value.trim();
        self.default.is_some_and(|default| match self.kind {
            Kind::Boolean => default.eq_ignore_ascii_case(value),
            _ => default == value,
        })
    }
}

/// The whole name of an annotation.
pub(crate) fn prefixed(name: &str) -> String {
    [PREFIX, name].concat()
}

/// Finds an annotation by its name without prefix. A family gives what stands for `<name>`, too.
#[must_use]
pub fn find(name: &str) -> Option<(&'static Annotation, Option<&str>)> {
    if let Some(exact) = BY_NAME.get(name) {
        return exact.family().is_none().then_some((*exact, None));
    }
    FAMILIES.iter().find_map(|(family, a)| {
        let rest = name.strip_prefix(family)?;
        (!rest.is_empty()).then_some((*a, Some(rest)))
    })
}

/// An admission asks some seventy times.
static BY_NAME: LazyLock<HashMap<&str, &Annotation>> =
    LazyLock::new(|| TABLE.iter().map(|a| (a.name, a)).collect());
static FAMILIES: LazyLock<Vec<(&str, &Annotation)>> = LazyLock::new(|| {
    TABLE
        .iter()
        .filter_map(|a| Some((a.family()?, a)))
        .collect()
});

/// The known name that is most like `name`.
#[must_use]
pub fn nearest(name: &str) -> Cow<'static, str> {
    // Names are short; this bounds the work on a hostile one.
    let name: String = name.chars().take(80).collect();
    let mut best = (
        f64::MIN,
        Cow::Borrowed(TABLE.first().map_or("", |a| a.name)),
    );
    for annotation in TABLE {
        let (written, known, candidate) = match annotation.family() {
            None => (
                name.as_str(),
                annotation.name,
                Cow::Borrowed(annotation.name),
            ),
            // `secrt-db` is like `secret-db`, as far as `secrt-` is like `secret-`.
            Some(family) => match name.split_once('-') {
                Some((head, rest)) if !rest.is_empty() => (
                    name.get(..=head.len()).unwrap_or_default(),
                    family,
                    Cow::Owned(format!("{family}{rest}")),
                ),
                _ => continue,
            },
        };
        let likeness = strsim::normalized_damerau_levenshtein(&written.to_lowercase(), known);
        if likeness > best.0 {
            best = (likeness, candidate);
        }
    }
    best.1
}

/// The table.
pub const TABLE: &[Annotation] = {
    use Kind::{
        Boolean, DataKey, Duration, Mode, Names, ObjectName, OneOf, Path, Port, Quantity,
        Selections, Text, Yaml,
    };
    use Section::{Authentication, Behaviour, Environment, Injection, Secrets, Sync};
    const fn row(
        section: Section,
        name: &'static str,
        kind: Kind,
        example: &'static str,
        doc: &'static str,
    ) -> Annotation {
        Annotation::new(section, name, kind, example, doc)
    }
    &[
        row(Injection, "inject", Boolean, "true",
            "`true` asks for injection, `false` declines.").default("false"),
        row(Injection, "injected", Boolean, "true",
            "Set by the webhook, as label and annotation, on what it has changed. A marker for NetworkPolicies and PodMonitors: what is injected is told by the injected containers."),

        row(Authentication, "ksm-config", ObjectName, "keeper-auth",
            "Secret in the pod's namespace whose key `config` holds the KSM device config: JSON, or base64 of that JSON."),
        row(Authentication, "auth-secret", ObjectName, "keeper-auth",
            "The old name of `ksm-config`; works, with a warning."),
        row(Authentication, "auth-method", OneOf(&["secret", "aws-secrets-manager", "gcp-secret-manager", "azure-key-vault"]), "aws-secrets-manager",
            "Where the device config comes from.").default("secret").not_yet(),
        row(Authentication, "aws-secret-id", Text, "prod/keeper-config",
            "Id or ARN of the secret that holds the device config.").not_yet(),
        row(Authentication, "aws-region", Text, "eu-central-1",
            "Its region; found from the environment when absent.").not_yet(),
        row(Authentication, "gcp-secret-id", Text, "projects/p/secrets/s/versions/latest",
            "The secret version that holds the device config.").not_yet(),
        row(Authentication, "azure-vault-name", Text, "my-vault",
            "The vault that holds the device config.").not_yet(),
        row(Authentication, "azure-secret-name", Text, "keeper-config",
            "The secret in that vault.").not_yet(),
        row(Authentication, "ca-cert-secret", ObjectName, "corporate-ca",
            "Secret with an extra trust root in PEM (for TLS-inspecting proxies), added to the built-in roots. Excludes `ca-cert-configmap`."),
        row(Authentication, "ca-cert-configmap", ObjectName, "corporate-ca",
            "The same from a ConfigMap. Excludes `ca-cert-secret`."),
        row(Authentication, "ca-cert-key", DataKey, "ca.crt",
            "The key that holds the PEM text. Belongs to the `ca-cert-secret` or `ca-cert-configmap` that is set in the same place.").default("ca.crt"),
        row(Authentication, "proxy", Text, "http://proxy.corp:3128",
            "Proxy for calls to Keeper: `http://` or `https://`, host and port, without user or password. `none`: no proxy, whatever namespace or chart say. See [proxies](../proxies.md).").default("none"),

        row(Secrets, "secret", Selections, "Orders DB",
            "Selections, separated by commas; each becomes a file."),
        row(Secrets, "secrets", Selections, "Orders DB, Mail[password]",
            "The same as `secret`."),
        row(Secrets, "secret-<name>", Kind::Selection, "Orders DB:/keeper/secrets/orders.json",
            "One selection becomes a file. A value that is only a path selects the record titled exactly `<name>`."),
        row(Secrets, "file-<name>", Text, "TLS:tls.crt",
            "An attachment becomes a file: `<record>:<file>[:/path]`, or a notation of a file. `<file>` is its name, title or UID, and the path `/keeper/secrets/<file>` unless stated."),
        row(Secrets, "folder", Text, "Production/Databases",
            "One JSON file for each record that lies directly in this folder, named by its path from the shared folder down, or by its UID. See [folders](selections.md#folders)."),
        row(Secrets, "folder-uid", Text, "Qz3kT0bXv9mWc5rLr2Hn8A",
            "The folder by its UID. Excludes `folder`."),
        row(Secrets, "folder-path", Path, "/keeper/secrets/db",
            "The directory for the folder's files. In this version `/keeper/secrets`, or one below it.").default("/keeper/secrets"),
        row(Secrets, "format", OneOf(&["json", "env", "yaml", "properties", "ini", "raw"]), "env",
            "How the whole records of `secret`, `secrets` and `secret-<name>` are rendered: [formats](formats.md). One field is published as it is.").default("json").defaultable(),
        row(Secrets, "template", Text, "{{ .login }}",
            "A Go template for those outputs.").not_yet(),
        row(Secrets, "config", Yaml, "secrets: [{record: Orders DB}]",
            "Files and folders, with more to say of each: see [config](config.md)."),
        row(Secrets, "mount-mode", OneOf(&["directory", "file"]), "file",
            "How outputs outside `/keeper/secrets` reach the containers. `directory`: a mount over their directory, which hides what the image has there; all files in it change at once. `file`: a mount for each file, which hides nothing else and is also allowed in system directories; such a file is rewritten in place, not atomically. See [paths](../paths.md).").default("directory"),

        row(Behaviour, "refresh-interval", Duration, "10m",
            "Time between two refreshes: a Go-style duration, rounded up to a multiple of 15 s; under 15 s is 15 s, with a warning.").default("5m"),
        row(Behaviour, "init-only", Boolean, "true",
            "No sidecar: the files are written once, before the app starts.").default("false"),
        row(Behaviour, "fail-on-error", Boolean, "false",
            "`false`: the pod starts although secrets are missing, and the sidecar keeps trying. The Secret with the device config and the extra trust root may be missing, too.").default("true"),
        row(Behaviour, "cache", Duration, "6h",
            "How long last-good values count as good when Keeper can't be reached. Past it, and at once when Keeper denies access, `keeper_sidecar_stale` is 1; files stay in any case.").default("24h"),
        row(Behaviour, "on-stale", OneOf(&["serve", "unready"]), "unready",
            "`unready`: a pod whose values are stale (see `cache`) also turns not ready, by a readiness probe of the sidecar. Needs `metrics-port`.").default("serve"),
        row(Behaviour, "strict-lookup", Boolean, "true",
            "`true`: several records with one title are an error. Otherwise the first by UID is taken, with a warning in the log. In a notation they always are an error.").default("false"),
        row(Behaviour, "signal", Text, "SIGHUP",
            "Signal to the application after a change: SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2 or SIGWINCH, with or without `SIG`. The pod's containers share their processes then, and the injected ones run as the UID that the pod states."),
        row(Behaviour, "signal-process", Text, "nginx",
            "The signal goes to each process of this name. Without it: to the main process of each container."),
        row(Behaviour, "reload-url", Text, "http://localhost:8080/-/reload",
            "Gets an empty `POST` after a change. Plain HTTP; the host is `localhost` or a loopback address."),
        row(Behaviour, "restart-on-change", Boolean, "true",
            "Rolling restart of the owning workload after a change.").default("false").not_yet(),
        row(Behaviour, "containers", Names, "app, migrate",
            "Which containers get the files, init containers too: names, separated by commas. Without it: all."),
        row(Behaviour, "init-position", OneOf(&["first", "last"]), "last",
            "Place of the injected containers among the init containers. `last`: the pod's own init containers run before, and get no files.").default("first"),
        row(Behaviour, "sidecar-mode", OneOf(&["auto", "native", "classic"]), "native",
            "`native`: an init container with `restartPolicy: Always`, from Kubernetes 1.32 on. `classic`: an init container, and an ordinary one behind the pod's own; in a pod that runs to completion, like a Job's, only the first, with a warning. `auto`: native where it can be.").default("auto"),
        row(Behaviour, "output-mode", Mode, "0440",
            "Mode of the files: octal, in quotes. Without it: 0440 in a pod with an fsGroup, or where the injected containers run as the application's user, else 0444."),
        row(Behaviour, "run-as-same-user", OneOf(&["auto", "true", "false"]), "true",
            "Whether the injected containers run as the application's user, so that its files are for it alone. `auto`: where the pod states one `runAsUser`, other than root, for all containers that get the files. `true`: in any case; a pod that states none is denied. See [paths](../paths.md).").default("auto"),
        row(Behaviour, "tmpfs-size", Quantity, "8Mi",
            "Size of the memory-backed volume, at least 64Ki. Without it: 4Mi, and twice what the outputs are taken to need: 64Ki for each file, 1Mi for each attachment, 4Mi for each folder, 128Ki for each selection that becomes variables."),
        row(Behaviour, "metrics-port", Port, "9800",
            "Port of health and metrics; `0`: none. Moves to the next free one when the pod declares it. In a `hostNetwork` pod it opens only if the pod sets it.").default("9790"),
        row(Behaviour, "sidecar-cpu-request", Quantity, "10m",
            "CPU request of the injected containers. Without it: the chart's value, 5m."),
        row(Behaviour, "sidecar-cpu-limit", Quantity, "100m",
            "CPU limit. Without it: the chart's value, none; in a Guaranteed pod 50m or the request, if that is more."),
        row(Behaviour, "sidecar-memory-request", Quantity, "12Mi",
            "Memory request. Without it: the chart's value, 8Mi."),
        row(Behaviour, "sidecar-memory-limit", Quantity, "32Mi",
            "Memory limit. Without it: the chart's value, 16Mi and the size of the volume."),
        row(Behaviour, "log-level", OneOf(&["debug", "info", "warn", "error"]), "debug",
            "Least severe level that the injected containers log.").default("info"),

        row(Environment, "env-<NAME>", Kind::Selection, "Orders DB[password]",
            "One field, or a notation, becomes the environment variable `NAME`. See [environment variables](../environment.md)."),
        row(Environment, "inject-env-vars", Boolean, "true",
            "`true`: what `secret`, `secrets` and `secret-<name>` select becomes environment variables, in place of files: one for each field, named as the field in upper case.").default("false"),
        row(Environment, "env-prefix", Text, "DB_",
            "What the names of these variables begin with: letters, digits and `_`."),
        row(Environment, "env-method", OneOf(&["auto", "exec", "file-key-ref"]), "exec",
            "How variables reach a container. `exec`: its command is started through a small program. `file-key-ref`: Kubernetes reads them from a file. `auto`: the first of them that fits.").default("auto"),

        row(Sync, "inject-as-k8s-secret", Boolean, "true",
            "A Kubernetes Secret in place of files.").default("false").not_yet(),
        row(Sync, "k8s-secret-name", ObjectName, "orders-db",
            "Its name.").not_yet(),
        row(Sync, "k8s-secret-namespace", Text, "default",
            "Its namespace: the pod's own.").not_yet(),
        row(Sync, "k8s-secret-type", Text, "kubernetes.io/tls",
            "Its type.").default("Opaque").not_yet(),
        row(Sync, "k8s-secret-mode", OneOf(&["overwrite", "merge", "skip-if-exists", "fail"]), "merge",
            "What happens to one that is there already.").default("overwrite").not_yet(),
        row(Sync, "k8s-secret-rotation", Boolean, "true",
            "Keeps it fresh.").default("false").not_yet(),
        row(Sync, "k8s-secret-owner-ref", Boolean, "false",
            "It goes with the last pod that asked for it.").default("true").not_yet(),
    ]
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_of_one_form() {
        for (i, a) in TABLE.iter().enumerate() {
            assert!(
                TABLE.iter().skip(i + 1).all(|b| b.name != a.name),
                "{}",
                a.name
            );
            assert!(!a.doc.is_empty() && a.doc.ends_with('.'), "{}", a.name);
            assert!(!a.doc.contains('|') && !a.doc.contains('\n'), "{}", a.name);
        }
    }

    #[test]
    fn choices_hold_their_default_and_example() {
        for a in TABLE {
            if let Kind::OneOf(words) = a.kind {
                assert!(words.contains(&a.example), "{}", a.name);
                assert!(a.default.is_none_or(|d| words.contains(&d)), "{}", a.name);
            }
        }
    }

    #[test]
    fn exact_names_come_before_families() {
        let found = |name| find(name).map(|(a, rest)| (a.name, rest));
        for (name, want) in [
            ("secret", Some(("secret", None))),
            ("secrets", Some(("secrets", None))),
            ("secret-db", Some(("secret-<name>", Some("db")))),
            ("env-prefix", Some(("env-prefix", None))),
            ("env-method", Some(("env-method", None))),
            ("env-DB_PASSWORD", Some(("env-<NAME>", Some("DB_PASSWORD")))),
            ("file-cert", Some(("file-<name>", Some("cert")))),
            ("secret-", None),
            ("secret-<name>", None),
            ("Inject", None),
            ("", None),
        ] {
            assert_eq!(found(name), want, "{name}");
        }
    }

    #[test]
    fn the_nearest_name_is_what_was_meant() {
        for (name, want) in [
            ("refresh-intervall", "refresh-interval"),
            ("refreshInterval", "refresh-interval"),
            ("Inject", "inject"),
            ("ksm-conf", "ksm-config"),
            ("authsecret", "auth-secret"),
            ("secrt-db", "secret-db"),
            ("secrets-db", "secret-db"),
            ("init_only", "init-only"),
            ("ca-cert-config-map", "ca-cert-configmap"),
            ("secert", "secret"),
            ("sidecar-memory-limits", "sidecar-memory-limit"),
            ("fail-on-errors", "fail-on-error"),
        ] {
            assert_eq!(nearest(name), want, "{name}");
        }
        // Anything gets an answer, whatever its length.
        assert!(!nearest("").is_empty());
        assert!(!nearest(&"ß-".repeat(100_000)).is_empty());
    }
}
