//! One refresh: fetch, select, render, publish. When to refresh is [`crate::Runner`]'s to decide.

use std::path::Path;
use std::time::{Duration, Instant};

use keeper_contract::AgentConfig;
use keeper_ksm::{Client, Folders, LookupError, Record, Uid, Vault};
use zeroize::Zeroizing;

use crate::destination::Destination;
use crate::dir::Dir;
use crate::failure::Failure;
use crate::host::Host;
use crate::memory;
use crate::metrics::Metrics;
use crate::publish::{Content, Planned, PublishError, Published};
use crate::render::render;
use crate::schedule::KeeperClock;
use crate::select::{Miss, Selector, Wanted};
use crate::source::Source;
use crate::state::{Pin, Store};
use crate::variables::{self, Environment};

/// Fetches the secrets of one pod and publishes them into its volume.
pub struct Agent {
    config: AgentConfig,
    publishers: Vec<Destination>,
    environment: Environment,
    source: Source,
    selector: Selector,
    metrics: Metrics,
}

/// What a refresh did.
#[derive(Debug, Default)]
pub struct Refresh {
    /// Files that are new or have new content.
    pub changed: usize,
    /// What went wrong. Outputs that failed keep what is published of them.
    pub failures: Vec<Failure>,
    /// A record was missing in an answer that was asked for single records: the next frame should ask for all.
    pub ask_again: bool,
    /// Whether Keeper answered the call for records.
    pub answered: bool,
}

impl Refresh {
    /// Whether every output is published and up to date.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.failures.is_empty() && !self.ask_again
    }
}

/// What one cycle's calls brought.
struct Fetched {
    vault: Vault,
    folders: Option<Folders>,
    /// Why there are no folders, where some were needed.
    folders_failure: Option<keeper_ksm::Error>,
    is_everything: bool,
}

/// What came of an output.
struct Rendered {
    /// The record that it means, if it has ever had one.
    record: Option<Uid>,
    /// Its bytes; none if it failed.
    bytes: Option<Zeroizing<Vec<u8>>>,
}

impl Agent {
    /// Opens the volume at `volume`: makes the output directories and the pod's mount points in them, and
    /// removes what an earlier process left half done.
    ///
    /// # Errors
    /// A volume that can't be used, or a config that contradicts itself.
    pub fn open(
        config: AgentConfig,
        volume: &Path,
        metrics: Metrics,
    ) -> Result<(Self, Store), Failure> {
        let unusable = |source| PublishError::Io {
            action: "use the volume",
            path: volume.display().to_string(),
            source,
        };
        let root = Dir::open_root(volume).map_err(unusable)?;
        let store = Store::open(volume).map_err(unusable)?;
        let publishers = config
            .directories
            .iter()
            .enumerate()
            .map(|(index, directory)| Destination::open(&root, &config, index, directory))
            .collect::<Result<Vec<_>, _>>()?;
        if let Some(output) = config
            .outputs
            .iter()
            .find(|output| output.directory >= publishers.len())
        {
            let path = output.path.clone();
            return Err(PublishError::BadPath { path }.into());
        }
        let environment = Environment::open(&root, &config)?;
        let agent = Self {
            environment,
            source: Source::new(&config, memory::largest_answer(root.capacity())),
            selector: Selector::new(config.strict_lookup),
            config,
            publishers,
            metrics,
        };
        Ok((agent, store))
    }

    /// Gives calls another deadline than the client's own: a test of a server that hangs need not wait as long
    /// as a pod would.
    pub fn set_call_deadline(&mut self, deadline: Duration) {
        self.source.set_call_deadline(deadline);
    }

    /// The config that this agent works by.
    #[must_use]
    pub fn config(&self) -> &AgentConfig {
        &self.config
    }

    /// Which records the selections mean so far.
    #[must_use]
    pub fn pins(&self) -> &[Pin] {
        self.selector.pins()
    }

    /// Keeps to the records that an earlier process found.
    pub fn set_pins(&mut self, pins: Vec<Pin>) {
        self.selector.set_pins(pins);
    }

    /// Whether a file of each output is there, old or new.
    #[must_use]
    pub fn is_published(&self) -> bool {
        self.environment.is_published()
            && self.config.outputs.iter().all(|output| {
                self.publishers
                    .get(output.directory)
                    .is_some_and(|publisher| publisher.is_published(&output.path))
            })
    }

    /// Fetches and publishes once, and learns Keeper's time on the way. `may_be_partial` says whether outputs may
    /// be published although others failed.
    pub async fn refresh(
        &mut self,
        clock: &mut KeeperClock,
        may_be_partial: bool,
        host: &impl Host,
    ) -> Refresh {
        self.metrics.refresh_began();
        let mut refresh = Refresh::default();
        let fetched = match self.fetch(clock, host).await {
            Ok(fetched) => fetched,
            Err(failure) => {
                refresh.failures.push(failure);
                self.metrics.failed(&refresh.failures);
                return refresh;
            }
        };
        refresh.answered = true;
        let rendered = self.render(&fetched, &mut refresh);
        let variables = self.variables(&fetched, &mut refresh);
        drop(fetched);
        if refresh.is_complete() {
            self.selector.all_found();
        }
        if refresh.is_complete() || may_be_partial {
            self.publish(&rendered, &variables, &mut refresh, host);
        }
        self.metrics.failed(&refresh.failures);
        refresh
    }

    /// The files that are published now: a change of them is a change for the application. Variables are none, as it
    /// read them at its start.
    pub(crate) fn generations(&self) -> Vec<String> {
        self.publishers
            .iter()
            .map(Destination::generation)
            .collect()
    }

    /// Removes the files that the last publications replaced. To be called some seconds after them.
    pub fn remove_leftovers(&self) {
        for publisher in self
            .publishers
            .iter()
            .chain(self.environment.destinations())
        {
            if let Err(error) = publisher.remove_leftovers() {
                tracing::warn!(%error, "old files cannot be removed");
            }
        }
    }

    /// The mounted file with the device config, whose directory is to be watched.
    #[must_use]
    pub fn config_file(&self) -> &Path {
        Path::new(self.source.file())
    }

    /// Whether the mounted config differs from the one of the last call.
    #[must_use]
    pub fn config_has_changed(&self) -> bool {
        self.source.has_changed()
    }

    /// The one call of a cycle, and a second one to another endpoint if a folder path has to be followed.
    async fn fetch(
        &mut self,
        clock: &mut KeeperClock,
        host: &impl Host,
    ) -> Result<Fetched, Failure> {
        let client = self.source.client()?;
        let filter = self.selector.filter(&self.config);
        let vault = get_secret(client, &filter, clock, &self.metrics, host).await?;
        for warning in &vault.warnings {
            tracing::warn!(warning, "keeper warns");
        }
        for skipped in &vault.skipped {
            tracing::debug!(%skipped, "a part of the answer cannot be read");
        }
        let is_everything = filter.is_empty();
        let mut fetched = Fetched {
            vault,
            folders: None,
            folders_failure: None,
            is_everything,
        };
        if is_everything && self.selector.needs_folders(&self.config, &fetched.vault) {
            match client.get_folders().await {
                Ok(folders) => fetched.folders = Some(folders),
                Err(error) => fetched.folders_failure = Some(error),
            }
        }
        Ok(fetched)
    }

    fn render(&mut self, fetched: &Fetched, refresh: &mut Refresh) -> Vec<Rendered> {
        let Self {
            config, selector, ..
        } = self;
        let mut rendered = Vec::with_capacity(config.outputs.len());
        for output in &config.outputs {
            let annotation = || output.annotation.clone();
            let bytes = match resolve(selector, output, fetched, refresh) {
                Some(record) => match render(record, output) {
                    Ok(bytes) => Some(bytes),
                    Err(error) => {
                        refresh.failures.push(Failure::Render {
                            annotation: annotation(),
                            error,
                        });
                        None
                    }
                },
                None => None,
            };
            let record = selector.pin(output).map(|pin| pin.uid);
            rendered.push(Rendered { record, bytes });
        }
        let fetched = rendered.iter().filter(|output| output.bytes.is_some());
        self.metrics.fetched(fetched.count());
        rendered
    }

    /// The files of variables: all of them or none.
    fn variables(&mut self, fetched: &Fetched, refresh: &mut Refresh) -> variables::Files {
        let all = self.config.environment.iter().flat_map(|e| &e.variables);
        let mut records = Vec::new();
        let mut is_complete = true;
        for one in all {
            match resolve(&mut self.selector, one, fetched, refresh) {
                Some(record) => records.push((one, record)),
                None => is_complete = false,
            }
        }
        let files = self.environment.render(records.into_iter());
        match files {
            Ok(files) if is_complete => Some(files),
            Ok(_) => None,
            Err((one, error)) => {
                let annotation = one.annotation.clone();
                refresh.failures.push(Failure::Render { annotation, error });
                None
            }
        }
    }

    /// Publishes each directory on its own. What a directory has of one record stays of one revision: where an output
    /// of it failed, the others of that record are kept as they are, too.
    fn publish(
        &self,
        rendered: &[Rendered],
        variables: &variables::Files,
        refresh: &mut Refresh,
        host: &impl Host,
    ) {
        let random = host.random();
        for (index, publisher) in self.publishers.iter().enumerate() {
            let outputs = || {
                let outputs = self.config.outputs.iter().zip(rendered);
                outputs.filter(move |(output, _)| output.directory == index)
            };
            let is_torn = |record: Option<Uid>| {
                let failed = |of: &Rendered| of.bytes.is_none() && of.record == record;
                record.is_some() && outputs().any(|(_, of)| failed(of))
            };
            let files: Vec<Planned<'_>> = outputs()
                .map(|(output, of)| Planned {
                    path: &output.path,
                    mode: output.mode.unwrap_or(self.config.file_mode),
                    content: match &of.bytes {
                        Some(bytes) if !is_torn(of.record) => Content::New(bytes),
                        _ => Content::LastGood,
                    },
                })
                .collect();
            match publisher.publish(&files, host.now(), random) {
                Ok(published) => {
                    self.metrics.published(published);
                    if let Published::Changed(files) = published {
                        refresh.changed += files;
                    }
                }
                Err(error) => refresh.failures.push(error.into()),
            }
        }
        for published in self.environment.publish(variables, host.now(), random) {
            match published {
                Ok(published) => {
                    self.metrics.published(published);
                    if let Published::Changed(files) = published {
                        refresh.changed += files;
                    }
                }
                Err(error) => refresh.failures.push(error.into()),
            }
        }
    }
}

/// The record that `one` means; why there is none is recorded.
fn resolve<'f>(
    selector: &mut Selector,
    one: &dyn Wanted,
    fetched: &'f Fetched,
    refresh: &mut Refresh,
) -> Option<&'f Record> {
    let folders = fetched.folders.as_ref();
    match selector.resolve(one, &fetched.vault, folders, fetched.is_everything) {
        Ok(record) => return Some(record),
        Err(Miss::Absent) => refresh.ask_again = true,
        Err(Miss::Lookup(error)) => {
            refresh
                .failures
                .push(match (&error, &fetched.folders_failure) {
                    // What is not found may be in a folder that we couldn't look up.
                    (LookupError::NotFound { .. }, Some(folders)) => folders.clone().into(),
                    _ => Failure::Selection {
                        annotation: one.annotation().to_owned(),
                        error,
                    },
                });
        }
    }
    None
}

/// One call to Keeper, timed; its answer, of whatever kind, tells Keeper's time.
async fn get_secret(
    client: &Client,
    filter: &[Uid],
    clock: &mut KeeperClock,
    metrics: &Metrics,
    host: &impl Host,
) -> Result<Vault, keeper_ksm::Error> {
    let began = Instant::now();
    let answer = client.get_secret(filter).await;
    let took: Duration = began.elapsed();
    metrics.called(took);
    if let Some(theirs) = client.take_server_time() {
        clock.observe(theirs, host.uptime(), took);
    }
    answer
}
