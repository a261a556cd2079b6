//! What a pod asks Keeper for, as an auditor reads it: who it is to Keeper, and the names of records and folders. The agents'
//! config says it; no value is known here.

use std::collections::BTreeSet;

use crate::agent_config::{AgentConfig, Auth};

/// What a pod asks for. Each name once, as it was written, in the order of the outputs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// The Secret with the device config, in the pod's namespace.
    pub auth_secret: String,
    /// Records, by UID, title or folder path and title.
    pub records: Vec<String>,
    /// Folders, by UID or path.
    pub folders: Vec<String>,
}

impl Asked {
    /// What the agents with this config will ask for.
    #[must_use]
    pub fn of(config: &AgentConfig) -> Self {
        let Auth::Secret { secret_name, .. } = &config.auth;
        let variables = config.environment.iter().flat_map(|e| &e.variables);
        let records = config
            .outputs
            .iter()
            .map(|output| &output.selection)
            .chain(variables.map(|one| &one.selection))
            .map(|selection| selection.record().to_string());
        let folders = config.folders.iter().map(|one| one.folder.to_string());
        Self {
            auth_secret: secret_name.clone(),
            records: once_each(records),
            folders: once_each(folders),
        }
    }
}

fn once_each(names: impl Iterator<Item = String>) -> Vec<String> {
    let names: Vec<String> = names.collect();
    let mut seen = BTreeSet::new();
    let is_first: Vec<bool> = names.iter().map(|name| seen.insert(name)).collect();
    let names = names.into_iter().zip(is_first);
    names
        .filter_map(|(name, is_first)| is_first.then_some(name))
        .collect()
}
