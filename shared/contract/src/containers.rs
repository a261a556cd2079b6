//! The containers and volumes that a plan adds to a pod.

use crate::admission::Shape;
use crate::agent_config::{Auth, OnStale};
use crate::identity::Identity;
use crate::layout;
use crate::objects::{
    Capabilities, ConfigMapVolume, Container, EmptyDir, EnvVar, EnvVarSource, Hook, HttpGet,
    KeyToPath, Lifecycle, Mount, Port, Probe, SeccompProfile, SecretVolume, SecurityContext,
    Volume,
};
use crate::plan::Plan;
use crate::quantity::Quantity;
use crate::request::CaKind;
use crate::settings::Settings;

/// Where Kubernetes mounts a service account's token; an empty directory there keeps it out.
const TOKEN_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Readable for everybody in the container, which is nobody but the agent. 0400 would be root's.
const SECRET_MODE: u32 = 0o444;

/// What is added, by list.
pub(crate) struct Containers<'a> {
    pub(crate) init: Vec<Container<'a>>,
    pub(crate) ordinary: Option<Container<'a>>,
}

impl<'a> Containers<'a> {
    pub(crate) fn of(plan: &'a Plan<'_>, settings: &'a Settings) -> Self {
        let first_fetch = || base(plan, settings, &plan.names.init, &["/keeper-init"]);
        let sidecar = || sidecar(plan, settings);
        let (init, ordinary) = match plan.shape {
            Shape::InitOnly => (vec![first_fetch()], None),
            Shape::Native => (vec![sidecar()], None),
            Shape::InitAndNative => (vec![first_fetch(), sidecar()], None),
            Shape::Classic => (vec![first_fetch()], Some(sidecar())),
        };
        Self { init, ordinary }
    }
}

/// The refreshing container.
fn sidecar<'a>(plan: &'a Plan<'_>, settings: &'a Settings) -> Container<'a> {
    let is_stale_unready = plan.config.on_stale == OnStale::Unready;
    let metrics_port = plan.config.metrics_port;
    let probed = metrics_port.filter(|_| is_stale_unready);
    let declared = metrics_port.filter(|_| plan.declare_port);
    Container {
        args: &["run"],
        // An ordinary container restarts as its pod does.
        restart_policy: (plan.shape != Shape::Classic).then_some("Always"),
        // Without a first fetch before it, a hook holds the pod's other containers back until the first publication.
        lifecycle: (plan.shape == Shape::Native).then_some(Lifecycle {
            post_start: Hook::Exec {
                command: &["/keeper-sidecar", "wait"],
            },
        }),
        readiness_probe: probed.map(|port| Probe {
            http_get: HttpGet {
                path: "/readyz",
                port,
            },
            period_seconds: 5,
            timeout_seconds: 2,
        }),
        ports: declared.map(|container_port| {
            [Port {
                container_port,
                name: "keeper-metrics",
                protocol: "TCP",
            }]
        }),
        ..base(plan, settings, &plan.names.sidecar, &["/keeper-sidecar"])
    }
}

/// What both containers have in common. They pass Pod Security *restricted*, but
/// for those that run as root to signal.
fn base<'a>(
    plan: &'a Plan<'_>,
    settings: &'a Settings,
    name: &'a str,
    command: &'static [&'static str],
) -> Container<'a> {
    let config = EnvVar {
        name: layout::CONFIG_ENV.into(),
        value: Some(&plan.config_env),
        value_from: None,
    };
    let field = |name: &'static str, field_path| EnvVar {
        name: name.into(),
        value: None,
        value_from: Some(EnvVarSource::FieldRef {
            api_version: "v1",
            field_path,
        }),
    };
    let Identity {
        user,
        group,
        may_kill,
        ..
    } = plan.identity;
    Container {
        args: &[],
        command,
        env: vec![
            config,
            field(layout::POD_NAME_ENV, "metadata.name"),
            field(layout::POD_NAMESPACE_ENV, "metadata.namespace"),
            field(layout::POD_UID_ENV, "metadata.uid"),
        ],
        image: &settings.sidecar_image,
        image_pull_policy: settings.image_pull_policy,
        lifecycle: None,
        name,
        ports: None,
        readiness_probe: None,
        resources: plan.resources.object(),
        restart_policy: None,
        security_context: SecurityContext {
            allow_privilege_escalation: false,
            capabilities: Capabilities {
                add: if may_kill { &["KILL"] } else { &[] },
                drop: &["ALL"],
            },
            privileged: false,
            read_only_root_filesystem: true,
            run_as_group: group,
            run_as_non_root: user != 0,
            run_as_user: user,
            seccomp_profile: SeccompProfile {
                kind: "RuntimeDefault",
            },
        },
        termination_message_policy: "FallbackToLogsOnError",
        volume_mounts: mounts(plan),
    }
}

/// What both containers mount.
fn mounts<'a>(plan: &'a Plan<'_>) -> Vec<Mount<'a>> {
    let names = &plan.names;
    let whole = |name, mount_path, read_only| Mount {
        mount_path,
        name,
        read_only,
        sub_path: None,
    };
    let mut mounts = vec![
        whole(&names.secrets, layout::VOLUME_DIR, false),
        whole(&names.auth, layout::AUTH_DIR, true),
    ];
    if plan.ca.is_some() {
        mounts.push(whole(&names.ca, layout::CA_DIR, true));
    }
    mounts.extend(plan.volumes.iter().map(|volume| Mount {
        mount_path: &volume.at,
        name: &volume.name,
        read_only: false,
        sub_path: volume.sub_path.as_deref(),
    }));
    mounts.push(whole(&names.no_token, TOKEN_DIR, true));
    mounts
}

/// The volumes that they mount, but for the pod's own.
pub(crate) fn volumes<'a>(plan: &'a Plan<'_>) -> Vec<Volume<'a>> {
    let optional = !plan.config.fail_on_error;
    let Auth::Secret { secret_name, .. } = &plan.config.auth;
    let in_memory = |name, size_limit| Volume {
        name,
        empty_dir: Some(EmptyDir {
            medium: "Memory",
            size_limit,
        }),
        ..Volume::default()
    };
    let mut volumes = vec![
        in_memory(&plan.names.secrets, plan.tmpfs),
        Volume {
            name: &plan.names.auth,
            secret: Some(SecretVolume {
                default_mode: SECRET_MODE,
                items: None,
                optional,
                secret_name,
            }),
            ..Volume::default()
        },
    ];
    if let (Some(ca), Some(file)) = (&plan.ca, &plan.config.ca_cert_file) {
        let items = [KeyToPath {
            key: ca.key.as_str(),
            path: file.rsplit('/').next().unwrap_or_default(),
        }];
        let mut volume = Volume {
            name: &plan.names.ca,
            ..Volume::default()
        };
        match ca.kind {
            CaKind::Secret => {
                volume.secret = Some(SecretVolume {
                    default_mode: SECRET_MODE,
                    items: Some(items),
                    optional,
                    secret_name: ca.name.as_str(),
                });
            }
            CaKind::ConfigMap => {
                volume.config_map = Some(ConfigMapVolume {
                    default_mode: SECRET_MODE,
                    items,
                    name: ca.name.as_str(),
                    optional,
                });
            }
        }
        volumes.push(volume);
    }
    volumes.push(in_memory(&plan.names.no_token, Quantity::units(4 * 1024)));
    volumes
}
