//! Each annotation, good and bad.

use keeper_contract::annotations::{Kind, Section, Status, TABLE};
use keeper_contract::{Auth, Cluster, Decision, LogLevel, Reason, Settings, SkipReason, admit};
use serde_json::json;

use crate::{
    CURRENT, annotate, apply, config, decide, denial, denied, injected, injection, patched, pod,
    reasons, settings, settings_with,
};

#[test]
fn inject_asks_declines_or_is_wrong() {
    for (value, want) in [
        ("true", None),
        ("TRUE", None),
        ("false", Some(SkipReason::Declined)),
        ("False", Some(SkipReason::Declined)),
    ] {
        let decision = decide(&pod(&[("inject", value)]));
        match want {
            None => drop(injection(decision)),
            Some(reason) => assert_eq!(decision, Decision::Skipped(reason), "{value}"),
        }
    }
    for value in ["", "yes", "1", "ture"] {
        let denial = denied(&pod(&[("inject", value)]));
        assert_eq!(
            reasons(&denial),
            [("inject".into(), Reason::BadValue)],
            "{value}"
        );
        assert!(denial.to_string().contains("\"true\" nor \"false\""));
    }
    let plain = json!({"metadata": {"annotations": {"keeper.security/secret": "x"}}});
    for pod in [
        plain,
        json!({}),
        json!(null),
        json!({"metadata": {"annotations": null}}),
    ] {
        assert_eq!(
            decide(&pod),
            Decision::Skipped(SkipReason::NotAsked),
            "{pod}"
        );
    }
}

#[test]
fn some_namespaces_are_never_touched() {
    // Not even where the pod is wrong.
    let pod = pod(&[("nonsense", "x")]);
    for namespace in [
        "kube-system",
        "kube-public",
        "kube-node-lease",
        "keeper-security",
        "monitoring",
    ] {
        let decision = admit(&pod, namespace, &settings(), &CURRENT);
        assert_eq!(
            decision,
            Decision::Skipped(SkipReason::Namespace),
            "{namespace}"
        );
    }
    denial(admit(&pod, "kube-system-2", &settings(), &CURRENT));
}

#[test]
fn what_this_version_does_not_do_is_refused_unless_it_is_the_default() {
    for annotation in TABLE.iter().filter(|a| a.status == Status::NotYet) {
        let name = annotation
            .name
            .replace("<name>", "x")
            .replace("<NAME>", "X");
        let denial = denied(&pod(&[(&name, annotation.example)]));
        assert_eq!(reasons(&denial), [(name.clone(), Reason::NotYet)]);
        assert!(
            denial
                .to_string()
                .contains("this version does not do this yet"),
            "{denial}"
        );
        if let Some(default) = annotation.default {
            injected(&pod(&[(&name, default)]));
        }
    }
}

#[test]
fn every_working_annotation_takes_its_example_and_is_read() {
    for annotation in TABLE.iter().filter(|a| a.status == Status::Working) {
        let name = annotation
            .name
            .replace("<name>", "x")
            .replace("<NAME>", "X");
        if ["injected", "inject"].contains(&name.as_str()) {
            continue;
        }
        let value = annotation.example;
        let mut good = pod(&[(&name, value)]);
        // A key needs its source.
        if name == "ca-cert-key" {
            annotate(&mut good, "ca-cert-secret", json!("ca"));
        }
        if name == "containers" {
            good["spec"]["initContainers"] = json!([{"name": "migrate"}]);
        }
        if name == "run-as-same-user" {
            good["spec"]["securityContext"] = json!({"runAsUser": 1000});
        }
        if name == "signal-process" {
            annotate(&mut good, "signal", json!("SIGHUP"));
        }
        if name == "folder-path" {
            annotate(&mut good, "folder", json!("Prod"));
        }
        if annotation.section == Section::Environment {
            good["spec"]["containers"][0]["command"] = json!(["app"]);
            annotate(&mut good, "secret", json!("Orders"));
        }
        if name == "env-prefix" || name == "env-method" {
            annotate(&mut good, "inject-env-vars", json!("true"));
        }
        injected(&good);
        let bad = match annotation.kind {
            _ if name == "folder" => "a//b",
            Kind::Selection | Kind::Selections => "a]",
            _ => "\u{1}/ nonsense",
        };
        annotate(&mut good, &name, json!(bad));
        let denial = denied(&good);
        assert_eq!(denial.problems.len(), 1, "{name}: {denial}");
        assert_eq!(
            denial.problems[0].annotation,
            format!("keeper.security/{name}")
        );
        assert!(!denial.to_string().contains('\u{1}'), "{denial}");
        // No text at all.
        annotate(&mut good, &name, json!(true));
        assert!(reasons(&denied(&good)).contains(&(name, Reason::BadValue)));
    }
}

#[test]
fn an_unknown_annotation_is_refused_with_the_nearest_one() {
    let denial = denied(&pod(&[("refresh-intervall", "5m")]));
    assert_eq!(
        reasons(&denial),
        [("refresh-intervall".into(), Reason::UnknownAnnotation)]
    );
    assert!(
        denial
            .to_string()
            .contains("did you mean keeper.security/refresh-interval?"),
        "{denial}"
    );
    // Others' annotations are none of ours.
    let mut pod = pod(&[]);
    pod["metadata"]["annotations"]["keeper.securityx/secret"] = json!("x");
    pod["metadata"]["annotations"]["other.io/keeper.security"] = json!("x");
    injected(&pod);
}

#[test]
fn all_problems_are_reported_at_once() {
    let mut pod = pod(&[
        ("refresh-intervall", "5m"),
        ("refresh-interval", "soon"),
        (
            "secret-relative",
            "database-credentials:keeper/secrets/x.json",
        ),
        ("secret-one", "db[login]:/keeper/secrets/same"),
        ("secret-two", "db[password]:/keeper/secrets/same/"),
        ("restart-on-change", "true"),
        ("init-only", "maybe"),
    ]);
    pod["spec"]["os"] = json!({"name": "windows"});
    let denial = denied(&pod);
    let mut found = reasons(&denial);
    found.sort();
    assert_eq!(
        found,
        [
            ("init-only".into(), Reason::BadValue),
            ("inject".into(), Reason::UnsupportedPod),
            ("refresh-interval".into(), Reason::BadValue),
            ("refresh-intervall".into(), Reason::UnknownAnnotation),
            ("restart-on-change".into(), Reason::NotYet),
            ("secret-relative".into(), Reason::BadPath),
            ("secret-two".into(), Reason::PathTaken),
        ]
    );
    let text = denial.to_string();
    assert_eq!(text.lines().count(), 7);
    for part in [
        "`soon`",
        "`keeper/secrets/x.json`",
        "`/keeper/secrets/same` is the output of keeper.security/secret-one already",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn the_config_comes_from_the_pod_its_old_name_or_the_chart() {
    let secret = |pod: &serde_json::Value, defaults| {
        let injection = injection(admit(pod, "default", &settings_with(defaults), &CURRENT));
        let patched = apply(pod, &injection);
        let Auth::Secret { secret_name, file } = config(&patched).auth;
        assert_eq!(file, "/keeper/auth/config");
        let volume = &patched["spec"]["volumes"][1];
        assert_eq!(volume["secret"]["secretName"], secret_name.as_str());
        let old = injection
            .warnings
            .iter()
            .any(|w| w.contains("is the old name"));
        (secret_name, old)
    };
    let without = |annotations: &[(&str, &str)]| {
        let mut pod = pod(annotations);
        pod["metadata"]["annotations"]
            .as_object_mut()
            .unwrap()
            .remove("keeper.security/ksm-config");
        pod
    };
    let chart = json!({"ksm-config": "from-chart"});
    assert_eq!(secret(&pod(&[]), json!({})), ("keeper-auth".into(), false));
    assert_eq!(
        secret(&pod(&[]), chart.clone()),
        ("keeper-auth".into(), false)
    );
    assert_eq!(
        secret(&without(&[]), chart.clone()),
        ("from-chart".into(), false)
    );
    let old = without(&[("auth-secret", "old")]);
    assert_eq!(secret(&old, chart.clone()), ("old".into(), true));
    let both = pod(&[("auth-secret", "keeper-auth")]);
    assert_eq!(secret(&both, chart), ("keeper-auth".into(), true));
    assert_eq!(
        reasons(&denied(&pod(&[("auth-secret", "other")]))),
        [("auth-secret".into(), Reason::Conflict)]
    );
    assert_eq!(
        reasons(&denied(&without(&[]))),
        [("ksm-config".into(), Reason::MissingConfig)]
    );
    // Present and wrong is not missing.
    assert_eq!(
        reasons(&denied(&pod(&[("ksm-config", "")]))),
        [("ksm-config".into(), Reason::BadValue)]
    );
}

#[test]
fn the_interval_is_whole_frames() {
    for (value, seconds, warned) in [
        ("5m", 300, false),
        ("20s", 30, false),
        ("1s", 15, true),
        ("0", 15, true),
    ] {
        let pod = pod(&[("refresh-interval", value), ("secret", "x")]);
        let injection = injected(&pod);
        let config = config(&apply(&pod, &injection));
        assert_eq!(config.refresh_interval_seconds, seconds, "{value}");
        assert_eq!(!injection.warnings.is_empty(), warned, "{value}");
    }
    let default = config(&patched(&pod(&[])));
    assert_eq!(default.refresh_interval_seconds, 300);
    for value in ["", "5", "5 minutes", "-5m", "1d"] {
        assert_eq!(
            reasons(&denied(&pod(&[("refresh-interval", value)]))),
            [("refresh-interval".into(), Reason::BadValue)],
            "{value}"
        );
    }
}

#[test]
fn last_good_values_are_good_for_a_day_or_as_long_as_said() {
    for (annotations, seconds) in [
        (vec![], 86_400),
        (vec![("cache", "90m")], 5_400),
        (vec![("cache", "1500ms")], 2),
        (vec![("cache", "0")], 0),
    ] {
        let got = config(&patched(&pod(&annotations)));
        assert_eq!(got.cache_seconds, seconds, "{annotations:?}");
    }
}

#[test]
fn a_stale_pod_turns_unready_where_it_says_so() {
    let sidecar = |annotations: &[(&str, &str)]| {
        let patched = patched(&pod(annotations));
        patched["spec"]["initContainers"][0].clone()
    };
    assert_eq!(sidecar(&[])["readinessProbe"], json!(null));
    assert_eq!(
        sidecar(&[("on-stale", "serve")])["readinessProbe"],
        json!(null)
    );
    let unready = sidecar(&[("on-stale", "unready"), ("metrics-port", "9900")]);
    assert_eq!(
        unready["readinessProbe"]["httpGet"],
        json!({"path": "/readyz", "port": 9900})
    );
    // Nothing could tell.
    for without in [("metrics-port", "0"), ("init-only", "true")] {
        assert_eq!(
            reasons(&denied(&pod(&[("on-stale", "unready"), without]))),
            [("on-stale".into(), Reason::Conflict)],
            "{without:?}"
        );
    }
}

#[test]
fn a_title_may_have_to_be_unique() {
    assert!(!config(&patched(&pod(&[]))).strict_lookup);
    assert!(config(&patched(&pod(&[("strict-lookup", "True")]))).strict_lookup);
}

#[test]
fn levels_and_defaults_of_the_chart() {
    let pod = pod(&[]);
    let settings = settings_with(json!({"log-level": "warn", "refresh-interval": "1h"}));
    let injection = injection(admit(&pod, "default", &settings, &CURRENT));
    let got = config(&apply(&pod, &injection));
    assert_eq!(
        (got.log_level, got.refresh_interval_seconds),
        (LogLevel::Warn, 3600)
    );
    let stated = crate::pod(&[("log-level", "debug")]);
    let injection = crate::injection(admit(&stated, "default", &settings, &CURRENT));
    assert_eq!(
        config(&apply(&stated, &injection)).log_level,
        LogLevel::Debug
    );
    assert_eq!(config(&patched(&pod)).log_level, LogLevel::Info);
}

#[test]
fn an_extra_trust_root() {
    let volume = |pod: &serde_json::Value, defaults| {
        let injection = injection(admit(pod, "default", &settings_with(defaults), &CURRENT));
        let patched = apply(pod, &injection);
        let with = config(&patched).ca_cert_file;
        let mounts = patched["spec"]["initContainers"][0]["volumeMounts"].to_string();
        assert_eq!(mounts.contains("/keeper/ca"), with.is_some());
        assert!(with.is_none_or(|file| file == "/keeper/ca/ca.crt"));
        let volumes = patched["spec"]["volumes"].as_array().unwrap().clone();
        volumes.into_iter().find(|v| v["name"] == "keeper-ca")
    };
    let chart = json!({"ca-cert-configmap": "chart-ca", "ca-cert-key": "root.pem"});
    let items = |key| json!([{"key": key, "path": "ca.crt"}]);
    assert_eq!(volume(&pod(&[]), json!({})), None);
    let secret = volume(&pod(&[("ca-cert-secret", "my-ca")]), chart.clone()).unwrap();
    assert_eq!(secret["secret"]["secretName"], "my-ca");
    assert_eq!(secret["secret"]["items"], items("ca.crt"));
    let map = volume(&pod(&[]), chart.clone()).unwrap();
    assert_eq!(map["configMap"]["name"], "chart-ca");
    assert_eq!(map["configMap"]["items"], items("root.pem"));
    assert_eq!(map["configMap"]["defaultMode"], 0o444);
    let key = volume(&pod(&[("ca-cert-key", "other.pem")]), chart).unwrap();
    assert_eq!(key["configMap"]["items"], items("other.pem"));

    assert_eq!(
        reasons(&denied(&pod(&[
            ("ca-cert-secret", "a"),
            ("ca-cert-configmap", "b")
        ]))),
        [("ca-cert-configmap".into(), Reason::Conflict)]
    );
    assert_eq!(
        reasons(&denied(&pod(&[("ca-cert-key", "a.pem")]))),
        [("ca-cert-key".into(), Reason::Conflict)]
    );
}

#[test]
fn a_proxy() {
    let proxy = |annotations: &[(&str, &str)], defaults| {
        let pod = pod(annotations);
        let settings: Settings = serde_json::from_value(json!({
            "sidecarImage": "sidecar", "ownNamespace": "keeper", "noProxy": ".corp, 10.0.0.0/8", "defaults": defaults
        }))
        .unwrap();
        let injection = injection(admit(&pod, "default", &settings, &CURRENT));
        let proxy = config(&apply(&pod, &injection)).proxy;
        proxy.map(|proxy| (proxy.url.to_string(), proxy.no_proxy.to_string()))
    };
    let through = |url: &str| Some((url.to_owned(), "corp,10.0.0.0/8".to_owned()));
    let chart = json!({"proxy": "http://chart.corp:3128"});
    assert_eq!(proxy(&[], json!({})), None);
    assert_eq!(proxy(&[], chart.clone()), through("http://chart.corp:3128"));
    let own = [("proxy", "https://own.corp")];
    assert_eq!(proxy(&own, chart.clone()), through("https://own.corp:443"));
    assert_eq!(proxy(&[("proxy", "none")], chart), None);

    let denial = denied(&pod(&[("proxy", "http://user:s3cret@proxy.corp:3128")]));
    assert_eq!(reasons(&denial), [("proxy".into(), Reason::BadValue)]);
    assert!(!denial.to_string().contains("s3cret"), "{denial}");
}

#[test]
fn the_sidecar_mode_and_the_cluster() {
    let mode = |minor, annotations: &[(&str, &str)]| {
        let decision = admit(
            &pod(annotations),
            "default",
            &settings(),
            &Cluster { minor },
        );
        match decision {
            Decision::Injected(injection) => Ok(injection.shape.to_string()),
            Decision::Denied(denial) => Err(reasons(&denial)),
            Decision::Skipped(reason) => panic!("{reason}"),
        }
    };
    let refused = |reason| Err(vec![("sidecar-mode".to_owned(), reason)]);
    let native = Ok("native".to_owned());
    let classic = Ok("classic".to_owned());
    let init_only = Ok("init_only".to_owned());
    assert_eq!(mode(32, &[]), native);
    assert_eq!(mode(32, &[("sidecar-mode", "auto")]), native);
    assert_eq!(mode(32, &[("sidecar-mode", "native")]), native);
    assert_eq!(mode(32, &[("sidecar-mode", "classic")]), classic);
    assert_eq!(mode(31, &[]), classic);
    assert_eq!(mode(31, &[("sidecar-mode", "auto")]), classic);
    assert_eq!(mode(31, &[("sidecar-mode", "classic")]), classic);
    assert_eq!(
        mode(31, &[("sidecar-mode", "native")]),
        refused(Reason::Conflict)
    );
    assert_eq!(mode(30, &[("init-only", "true")]), init_only);
    assert_eq!(
        mode(35, &[("init-only", "true"), ("sidecar-mode", "classic")]),
        init_only
    );
    assert_eq!(
        mode(35, &[("sidecar-mode", "Native")]),
        refused(Reason::BadValue)
    );
}

#[test]
fn the_metrics_port() {
    let port = |annotations: &[(&str, &str)], spec: serde_json::Value| {
        let mut pod = pod(annotations);
        for (key, value) in spec.as_object().unwrap() {
            pod["spec"][key] = value.clone();
        }
        let injection = injected(&pod);
        let patched = apply(&pod, &injection);
        let declared = &patched["spec"]["initContainers"][0]["ports"];
        let declared = declared.as_array().map(|ports| {
            assert_eq!(ports.len(), 1);
            assert_eq!(ports[0]["name"], "keeper-metrics");
            ports[0]["containerPort"].as_u64().unwrap()
        });
        let moved = injection.warnings.iter().any(|w| w.contains("is a port"));
        (
            config(&patched).metrics_port.map(u64::from),
            declared,
            moved,
        )
    };
    let taken = json!({"containers": [{"name": "app", "ports": [
        {"containerPort": 9790}, {"containerPort": 80, "hostPort": 9791}, {"containerPort": "x"}, null]}]});
    let host = json!({"hostNetwork": true});
    for (annotations, spec, want) in [
        (vec![], json!({}), (Some(9790), Some(9790), false)),
        (
            vec![("metrics-port", "9800")],
            json!({}),
            (Some(9800), Some(9800), false),
        ),
        (vec![("metrics-port", "0")], json!({}), (None, None, false)),
        (vec![], taken.clone(), (Some(9792), Some(9792), false)),
        (
            vec![("metrics-port", "9791")],
            taken,
            (Some(9792), Some(9792), true),
        ),
        (vec![], host.clone(), (None, None, false)),
        (
            vec![("metrics-port", "9790")],
            host,
            (Some(9790), None, false),
        ),
        (vec![("init-only", "true")], json!({}), (None, None, false)),
    ] {
        assert_eq!(port(&annotations, spec), want, "{annotations:?}");
    }
}

#[test]
fn what_may_be_missing_without_failing() {
    for (value, optional) in [("true", false), ("false", true)] {
        let patched = patched(&pod(&[("fail-on-error", value), ("ca-cert-secret", "ca")]));
        assert_eq!(config(&patched).fail_on_error, !optional);
        for volume in patched["spec"]["volumes"].as_array().unwrap() {
            if let Some(secret) = volume.get("secret") {
                assert_eq!(secret["optional"], optional, "{volume}");
            }
        }
    }
}

#[test]
fn nothing_selected_is_injected_with_a_warning() {
    let pod = pod(&[]);
    let injection = injected(&pod);
    assert_eq!(injection.outputs, 0);
    assert!(
        injection.warnings[0].contains("nothing is selected"),
        "{:?}",
        injection.warnings
    );
    let patched = apply(&pod, &injection);
    assert!(config(&patched).directories.is_empty());
    assert_eq!(patched["spec"]["containers"], pod["spec"]["containers"]);
}

#[test]
fn the_marker_is_ours_to_set() {
    let pod = pod(&[("injected", "false"), ("secret", "x")]);
    let injection = injected(&pod);
    assert_eq!(injection.warnings.len(), 1);
    let patched = apply(&pod, &injection);
    for kind in ["labels", "annotations"] {
        assert_eq!(
            patched["metadata"][kind]["keeper.security/injected"],
            "true"
        );
    }
}

#[test]
fn pods_that_cannot_be_injected() {
    let mut windows = pod(&[("secret", "x")]);
    windows["spec"]["nodeSelector"] = json!({"kubernetes.io/os": "windows"});
    assert_eq!(
        reasons(&denied(&windows)),
        [("inject".into(), Reason::UnsupportedPod)]
    );
    let mut broken = pod(&[("nonsense", "x")]);
    broken["spec"] = json!("x");
    let mut found = reasons(&denied(&broken));
    found.sort();
    assert_eq!(
        found,
        [
            ("inject".into(), Reason::UnsupportedPod),
            ("nonsense".into(), Reason::UnknownAnnotation)
        ]
    );
    let mut mirror = pod(&[]);
    mirror["metadata"]["annotations"]["kubernetes.io/config.mirror"] = json!("x");
    assert_eq!(decide(&mirror), Decision::Skipped(SkipReason::MirrorPod));
}
