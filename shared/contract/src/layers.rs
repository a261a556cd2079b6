//! Where a setting may stand: on the pod, on its namespace, in the chart. What stands nearer to the pod wins.

use std::collections::BTreeMap;

/// Annotations by their names without prefix.
pub(crate) type Values<'a> = BTreeMap<&'a str, &'a str>;

/// The settings of one pod, by where they stand.
#[derive(Debug, Default)]
pub(crate) struct Layers<'a> {
    pub(crate) pod: Values<'a>,
    pub(crate) namespace: Values<'a>,
    pub(crate) chart: Values<'a>,
}

impl<'a> Layers<'a> {
    fn nearest_first(&self) -> [&Values<'a>; 3] {
        [&self.pod, &self.namespace, &self.chart]
    }

    /// The value that holds for the pod.
    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        let mut layers = self.nearest_first().into_iter();
        layers.find_map(|layer| layer.get(name).copied())
    }

    pub(crate) fn has_any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.get(name).is_some())
    }

    /// Annotations that go together: those of the nearest layer that has any of them, and of no other.
    pub(crate) fn group(&self, names: &[&str]) -> Values<'a> {
        let of = |layer: &Values<'a>| -> Values<'a> {
            let found = names.iter().filter_map(|name| layer.get_key_value(*name));
            found.map(|(name, value)| (*name, *value)).collect()
        };
        let groups = self.nearest_first().map(of);
        let nearest = groups.into_iter().find(|group| !group.is_empty());
        nearest.unwrap_or_default()
    }

    /// What belongs to an annotation of the group `names`: it holds only where it stands beside it or nearer to
    /// the pod.
    pub(crate) fn beside(&self, names: &[&str], name: &str) -> Option<&'a str> {
        for layer in self.nearest_first() {
            if let Some(value) = layer.get(name) {
                return Some(value);
            }
            if names.iter().any(|name| layer.contains_key(name)) {
                return None;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers() -> Layers<'static> {
        Layers {
            pod: Values::from([("a", "pod"), ("key", "pod")]),
            namespace: Values::from([("a", "namespace"), ("b", "namespace"), ("x", "namespace")]),
            chart: Values::from([("c", "chart"), ("y", "chart"), ("late", "chart")]),
        }
    }

    #[test]
    fn the_nearest_value_wins() {
        let layers = layers();
        for (name, want) in [
            ("a", Some("pod")),
            ("b", Some("namespace")),
            ("c", Some("chart")),
            ("d", None),
        ] {
            assert_eq!(layers.get(name), want, "{name}");
        }
        assert!(layers.has_any(&["d", "c"]) && !layers.has_any(&["d"]));
    }

    #[test]
    fn a_group_comes_from_one_layer() {
        let layers = layers();
        assert_eq!(
            layers.group(&["x", "y"]),
            Values::from([("x", "namespace")])
        );
        assert_eq!(layers.group(&["a", "b", "x"]), Values::from([("a", "pod")]));
        assert_eq!(layers.group(&["d"]), Values::new());
        assert_eq!(layers.beside(&["x", "y"], "key"), Some("pod"));
        assert_eq!(layers.beside(&["x", "y"], "late"), None, "x is nearer");
        assert_eq!(layers.beside(&["y"], "late"), Some("chart"));
    }
}
