//! How a pod stands, for a person or a script in its container: told from what lies on the volume, by a process
//! that changes nothing there. No value is read.

use std::path::Path;
use std::time::{Duration, SystemTime};

use keeper_contract::env_name::env_name;
use keeper_contract::{AgentConfig, Naming, Variables};
use rustix::io::Errno;
use serde::Serialize;

use crate::destination::Destination;
use crate::dir::Dir;
use crate::environment::Pod;
use crate::folders::Selected;
use crate::host::Host;
use crate::run::Standing;
use crate::schedule::{Grid, KeeperTime, Schedule};
use crate::select::{Selector, Selects};
use crate::state::{State, Store};
use crate::variables::Environment;

/// How a pod stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Whether everything is published and counts as good.
    pub standing: Standing,
    /// Failed calls since the last success.
    pub tries: u32,
    /// Seconds since everything was last brought up to date.
    pub last_success_age_seconds: Option<u64>,
    /// Seconds until the next call to Keeper; none if there will be none, or it is being planned anew.
    pub next_call_in_seconds: Option<u64>,
    /// The files, and the variables.
    pub outputs: Vec<OutputStatus>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OutputStatus {
    /// Where the application sees it. Of variables: their names, as `$LOGIN`, or `$DB_*` where the record has the names.
    pub path: String,
    /// The record that its selection means.
    pub record_uid: Option<String>,
    /// That record's revision in Keeper's last answer.
    pub revision: Option<u64>,
    /// Seconds since its directory was last published with a change; none: it is not there.
    pub published_age_seconds: Option<u64>,
}

impl Status {
    /// Looks at the volume at `volume`, on `host`.
    ///
    /// # Errors
    /// The system's, if the volume isn't there.
    pub fn read(
        config: &AgentConfig,
        pod: &Pod,
        volume: &Path,
        host: &impl Host,
    ) -> Result<Self, Errno> {
        let root = Dir::open_root(volume)?;
        let store = Store::existing(volume)?;
        let (state, last_success) =
            store.map_or_else(Default::default, |store| store.take_up(host));
        let since = |at: SystemTime| host.now().duration_since(at).unwrap_or_default();
        let mut selector = Selector::new(config.strict_lookup);
        selector.set_pins(state.pins.clone());
        let publishers: Vec<_> = config
            .directories
            .iter()
            .enumerate()
            .map(|(index, directory)| Destination::existing(&root, config, index, directory))
            .collect();
        let pinned = |one: &dyn Selects, path: String, at: Option<SystemTime>| {
            let pin = selector.pin(one);
            OutputStatus {
                path,
                record_uid: pin.map(|pin| pin.uid.to_string()),
                revision: pin.map(|pin| pin.revision),
                published_age_seconds: at.map(|at| since(at).as_secs()),
            }
        };
        let files = config.outputs.iter().map(|output| {
            let publisher = publishers.get(output.directory).and_then(Option::as_ref);
            let at = publisher.and_then(|publisher| publisher.published_at(&output.path));
            pinned(output, visible(config, output.directory, &output.path), at)
        });
        let environment = Environment::existing(&root, config);
        let variables_at = environment.and_then(|environment| environment.published_at());
        let variables = config.environment.iter().flat_map(|e| &e.variables);
        let variables = variables.map(|one| pinned(one, names(one), variables_at));
        let mut outputs: Vec<_> = files.chain(variables).collect();
        let mut folders = Selected::default();
        folders.set_known(state.folders.clone());
        outputs.extend(folders.published(config).map(|(directory, path, file)| {
            let publisher = publishers.get(directory).and_then(Option::as_ref);
            OutputStatus {
                path: visible(config, directory, &path),
                record_uid: Some(file.uid.to_string()),
                revision: Some(file.revision),
                published_age_seconds: publisher
                    .and_then(|publisher| publisher.published_at(&path))
                    .map(|at| since(at).as_secs()),
            }
        }));
        let age = last_success.and_then(|success| success.age(host));
        let all_there = outputs.iter().all(|o| o.published_age_seconds.is_some());
        let good_for = Duration::from_secs(config.cache_seconds);
        Ok(Self {
            standing: match (state.complete && all_there, state.is_stale(age, good_for)) {
                (false, _) => Standing::Pending,
                (true, true) => Standing::Stale,
                (true, false) => Standing::Good,
            },
            tries: state.tries,
            last_success_age_seconds: age.map(|age| age.as_secs()),
            next_call_in_seconds: next_call(config, pod, &state, age, host),
            outputs,
        })
    }
}

/// The application's path of a file.
fn visible(config: &AgentConfig, directory: usize, path: &str) -> String {
    let directory = config.directories.get(directory);
    let mount_path = directory.map_or("", |d| d.mount_path.trim_end_matches('/'));
    format!("{mount_path}/{path}")
}

fn names(variables: &Variables) -> String {
    let names = variables.names().map(|names| names.join(",$"));
    match (names, &variables.naming) {
        (Some(names), _) => format!("${names}"),
        (None, Naming::Prefix(prefix)) => format!("${}*", env_name(prefix, "")),
        (None, Naming::Written(name)) => format!("${name}"),
    }
}

/// What stands in the state, or the regular slot that follows from pod and clock.
fn next_call(
    config: &AgentConfig,
    pod: &Pod,
    state: &State,
    age: Option<Duration>,
    host: &impl Host,
) -> Option<u64> {
    let now = state.clock.at(host.uptime());
    let planned = match (state.next_call, age) {
        (Some(planned), _) => planned,
        (None, Some(age)) if state.complete && config.selects_anything() => {
            let interval = Duration::from_secs(config.refresh_interval_seconds.into());
            let schedule = Schedule::new(Grid::STANDARD, interval, &pod.uid);
            let after_last: KeeperTime = schedule.regular(now.minus(age));
            if after_last < now {
                schedule.regular(now)
            } else {
                after_last
            }
        }
        _ => return None,
    };
    (planned >= now).then(|| planned.since(now).as_secs())
}
