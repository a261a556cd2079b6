//! What a namespace says about its pods: defaults of their annotations, or that they are left alone.

use std::collections::BTreeMap;

use crate::annotations::PREFIX;
use crate::layers::Values;

/// The label that leaves the pods of a namespace alone, and its value.
const DECLINING_LABEL: (&str, &str) = ("keeper.security/inject", "disabled");
/// Most that the defaults of one namespace may take, names and values, in bytes: somebody remembers them for all
/// namespaces of a cluster, and each could have 256 KiB.
const MAX_BYTES: usize = 8 * 1024;

/// What a namespace's metadata says to us. Small, and empty for most namespaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespaceSettings {
    declines: bool,
    /// Annotations by their names without prefix.
    defaults: BTreeMap<Box<str>, Box<str>>,
    /// What they would have taken, if that was too much to keep.
    oversize: Option<usize>,
}

/// The namespace that a pod is created in.
#[derive(Debug, Clone, Copy)]
pub struct Namespace<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it says; none: nothing.
    pub settings: Option<&'a NamespaceSettings>,
}

impl NamespaceSettings {
    /// Takes what is ours from the labels and annotations of a namespace. Annotations that take more than 8 KiB
    /// are left there, and its pods are denied with a message that says so.
    #[must_use]
    pub fn read(labels: &BTreeMap<String, String>, annotations: &BTreeMap<String, String>) -> Self {
        let (label, value) = DECLINING_LABEL;
        let declines = labels.get(label).is_some_and(|found| found == value);
        let ours: Values<'_> = annotations
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?, value.as_str())))
            .collect();
        let bytes: usize = ours.iter().map(|(n, v)| n.len() + v.len()).sum();
        match bytes > MAX_BYTES {
            true => Self {
                declines,
                oversize: Some(bytes),
                ..Self::default()
            },
            false => Self {
                declines,
                defaults: ours
                    .into_iter()
                    .map(|(n, v)| (n.into(), v.into()))
                    .collect(),
                oversize: None,
            },
        }
    }

    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A namespace that says nothing.
impl<'a> From<&'a str> for Namespace<'a> {
    fn from(name: &'a str) -> Self {
        let settings = None;
        Self { name, settings }
    }
}

impl<'a> Namespace<'a> {
    /// Whether its pods are left alone.
    pub(crate) fn declines(&self) -> bool {
        self.settings.is_some_and(|settings| settings.declines)
    }

    /// All annotations of ours that it has.
    pub(crate) fn values(&self) -> Values<'a> {
        let settings = self.settings.into_iter();
        let all = settings.flat_map(|settings| &settings.defaults);
        all.map(|(name, value)| (&**name, &**value)).collect()
    }

    /// What is wrong with the amount of them.
    pub(crate) fn oversize(&self) -> Option<String> {
        let bytes = self.settings?.oversize?;
        Some(format!(
            "the {PREFIX} annotations of the namespace {} take {bytes} bytes, at most {MAX_BYTES} are taken as defaults: remove what is none",
            self.name
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        entries.iter().map(owned).collect()
    }

    #[test]
    fn what_is_not_ours_is_not_kept() {
        let labels = map(&[("keeper.security/inject", "enabled"), ("team", "x")]);
        let annotations = map(&[("a", "b"), ("keeper.securityx/cache", "1h")]);
        assert!(NamespaceSettings::read(&labels, &annotations).is_empty());
        let ours = map(&[("a", "b"), ("keeper.security/cache", "1h")]);
        let settings = NamespaceSettings::read(&labels, &ours);
        let namespace = Namespace {
            name: "shop",
            settings: Some(&settings),
        };
        assert_eq!(namespace.values(), Values::from([("cache", "1h")]));
        assert!(!namespace.declines());
    }

    #[test]
    fn a_label_declines() {
        let labels = map(&[("keeper.security/inject", "disabled")]);
        let settings = NamespaceSettings::read(&labels, &BTreeMap::new());
        assert!(settings.declines && !settings.is_empty());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let settings = |length| {
            let value = "x".repeat(length);
            let annotations = map(&[("keeper.security/proxy", value.as_str())]);
            NamespaceSettings::read(&BTreeMap::new(), &annotations)
        };
        assert_eq!(settings(MAX_BYTES - 5).oversize, None);
        let large = settings(MAX_BYTES - 4);
        assert_eq!(large.oversize, Some(MAX_BYTES + 1));
        assert!(large.defaults.is_empty() && !large.is_empty());
    }
}
