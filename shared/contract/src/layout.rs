//! Names and places inside an injected pod that admission and the agents must agree on.

/// Environment variable that holds the [`crate::AgentConfig`] as JSON.
pub const CONFIG_ENV: &str = "KEEPER_AGENT_CONFIG";
/// Environment variable with the pod's name, by the downward API.
pub const POD_NAME_ENV: &str = "KEEPER_POD_NAME";
/// Environment variable with the pod's namespace, by the downward API.
pub const POD_NAMESPACE_ENV: &str = "KEEPER_POD_NAMESPACE";
/// Environment variable with the pod's UID, by the downward API: it decides the pod's refresh slot.
pub const POD_UID_ENV: &str = "KEEPER_POD_UID";

/// Where the agents mount the memory-backed volume, whole.
pub const VOLUME_DIR: &str = "/keeper/volume";
/// Where the agents mount the Secret with the device config.
pub const AUTH_DIR: &str = "/keeper/auth";
/// Key of the device config in its Secret, and so the file's name.
pub const AUTH_KEY: &str = "config";
/// Where the agents mount an extra trust root.
pub const CA_DIR: &str = "/keeper/ca";
/// Below which the agents mount the volumes of the pod's own that they publish into.
pub const POD_VOLUMES_DIR: &str = "/keeper/pod-volumes";
/// Where the application finds its files unless told otherwise.
pub const DEFAULT_OUTPUT_DIR: &str = "/keeper/secrets";

/// Directory of the volume that holds the agents' own state; the application never mounts it.
pub const STATE_SUB_PATH: &str = "state";
/// Prefix of the volume's directories that the application mounts: `dirs/0`, `dirs/1`, …
pub const DIRECTORY_SUB_PATH: &str = "dirs";
/// Prefix of the volume's directories whose files the application mounts one by one: `files/0/<name>`.
pub const FILE_SUB_PATH: &str = "files";

/// Directory of the volume with `keeper-exec` and its file of variables, which containers mount that are started
/// through it.
pub const EXEC_SUB_PATH: &str = "exec";
/// Directory of the volume with the file of variables that Kubernetes reads; no container mounts it.
pub const FILE_KEY_REF_SUB_PATH: &str = "file-key-ref";
/// Name of both files of variables.
pub const VARIABLES: &str = "variables";
/// Name of the program that becomes a container's command, in that directory and in the agents' image.
pub const EXEC_PROGRAM: &str = "keeper-exec";
/// Where containers mount that directory.
pub const EXEC_DIR: &str = "/keeper-exec";

/// Name of the first-fetch container.
pub const INIT_CONTAINER: &str = "keeper-init";
/// Name of the refreshing container.
pub const SIDECAR_CONTAINER: &str = "keeper-sidecar";
