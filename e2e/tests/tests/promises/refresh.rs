//! What a running pod sees of changes, and what keeping it fresh costs.

use keeper_e2e::{CLIENT, Namespace, pods, until};
use serde_json::json;

/// The shortest interval.
const INTERVAL: (&str, &str) = ("refresh-interval", "15s");

/// Reads both files of a pair again and again. A reader between path walk and open may find a generation gone; one that saw the
/// same generation before and after must have seen one pair.
const READER: &str = r#"
cd /keeper/secrets
while :; do
  before=$(readlink ..data)
  one=$(cat one) && two=$(cat two) || continue
  [ "$before" = "$(readlink ..data)" ] || continue
  [ "$one" = "$two" ] || echo "mixed: $one and $two"
  [ "$one" = "$last" ] || echo "read $one"
  last=$one
done 2>/dev/null
"#;

#[test]
fn a_change_is_published_within_one_interval_and_never_mixed() {
    let namespace = Namespace::new("swap");
    let annotations = [
        ("secret-one", "pair[login]"),
        ("secret-two", "pair[password]"),
        INTERVAL,
    ];
    let mut pod = pods::annotated("reader", &annotations, READER);
    pod["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "200m"}});
    namespace.apply(&pod);
    namespace.wait_for("pod/reader", "condition=Ready", 60);
    let mut expected = String::from("read same-0\n");
    until("the first values", 10, || {
        (namespace.logs("reader", pods::APP) == expected).then_some(())
    });
    for version in ["same-1", "same-2", "same-3"] {
        let fetches = namespace.keeper().fetches(CLIENT);
        namespace.keeper().set(
            "pair",
            &[&format!("login={version}"), &format!("password={version}")],
        );
        expected.push_str(&format!("read {version}\n"));
        until(version, 60, || {
            let read = namespace.logs("reader", pods::APP);
            assert!(expected.starts_with(&read), "{read}");
            (read == expected).then_some(())
        });
        // Counted in fetches, since seconds would also say how busy the node is: one may have been under way, and the next has it.
        let fetches = namespace.keeper().fetches(CLIENT) - fetches;
        assert!(
            (1..=2).contains(&fetches),
            "{version} took {fetches} fetches"
        );
    }
}

#[test]
fn a_refresh_without_a_change_touches_nothing() {
    let namespace = Namespace::new("unchanged");
    let annotations = [("secrets", "database-credentials,pair"), INTERVAL];
    namespace.apply(&pods::annotated(
        "unchanged",
        &annotations,
        "exec sleep 3600",
    ));
    namespace.wait_for("pod/unchanged", "condition=Ready", 60);
    // Inode, time of the last change, and time of the last change of the inode, of all there is.
    let state = || {
        namespace.exec(
            "unchanged",
            pods::APP,
            &[
                "find",
                "/keeper/secrets",
                "-exec",
                "stat",
                "-c",
                "%n %i %Y %Z",
                "{}",
                "+",
            ],
        )
    };
    let before = state();
    assert!(before.contains("..data"), "{before}");
    let start = namespace.keeper().fetches(CLIENT);
    until("two refreshes", 60, || {
        (namespace.keeper().fetches(CLIENT) >= start + 2).then_some(())
    });
    // The call is counted when it comes in; its result has been dealt with when the next metric says so.
    until("the refreshes' end", 30, || {
        (metric(&namespace, "unchanged", "keeper_sidecar_refresh_total") >= start + 2).then_some(())
    });
    assert_eq!(before, state());
}

#[test]
fn a_cycle_costs_one_call_for_one_secret_and_for_fifty() {
    let titles: Vec<String> = (1..=50)
        .map(|number| format!("secret-{number:02}"))
        .collect();
    let shapes = [("one", titles[0].clone()), ("fifty", titles.join(","))];
    let namespaces = shapes.each_ref().map(|(name, secrets)| {
        let namespace = Namespace::new(&format!("calls-{name}"));
        namespace.apply(&pods::annotated(
            name,
            &[("secrets", secrets), INTERVAL],
            "exec sleep 3600",
        ));
        namespace
    });
    for ((name, secrets), namespace) in shapes.iter().zip(&namespaces) {
        namespace.wait_for(&format!("pod/{name}"), "condition=Ready", 60);
        let files = namespace.exec(name, pods::APP, &["ls", "/keeper/secrets"]);
        assert_eq!(files.lines().count(), secrets.split(',').count(), "{files}");
        // Some cycles in, and not in the middle of one.
        let (cycles, calls) = until("three cycles", 90, || {
            let cycles = metric(namespace, name, "keeper_sidecar_refresh_total");
            let calls = namespace.keeper().fetches(CLIENT);
            (cycles >= 3 && cycles == metric(namespace, name, "keeper_sidecar_refresh_total"))
                .then_some((cycles, calls))
        });
        assert_eq!(calls, cycles, "{name}: get_secret calls and cycles");
        assert_eq!(
            namespace.keeper().calls(CLIENT),
            calls,
            "{name}: nothing but get_secret is called"
        );
    }
}

#[test]
fn a_new_device_config_is_taken_up_without_a_restart() {
    let namespace = Namespace::new("config");
    namespace.apply(&pods::annotated(
        "config",
        &[("secret", "database-credentials"), INTERVAL],
        "exec sleep 3600",
    ));
    namespace.wait_for("pod/config", "condition=Ready", 60);
    let second = namespace.keeper().run(&["config", "--client", "second"]);
    let patch = json!({"stringData": {"config": second}}).to_string();
    namespace.kubectl(&[
        "patch",
        "secret",
        keeper_e2e::AUTH_SECRET,
        "--patch",
        &patch,
    ]);
    // The kubelet takes up to a minute and a half to write it into the volume.
    until("a call of the second client", 150, || {
        (namespace.keeper().fetches("second") > 0).then_some(())
    });
    assert_eq!(
        pods::status(&namespace.get("pod", "config"), "keeper-sidecar")["restartCount"],
        0
    );
}

/// A counter of the pod's sidecar.
fn metric(namespace: &Namespace, pod: &str, name: &str) -> u64 {
    let metrics = namespace.metrics(pod);
    let value = metrics
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value
        .unwrap_or_else(|| panic!("{name} in {metrics}"))
        .trim()
        .parse()
        .unwrap()
}
