//! One refresh: fetch, select, render, publish. When to refresh is [`crate::Runner`]'s to decide.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use keeper_contract::AgentConfig;
use keeper_ksm::{Client, Folders, LookupError, Record, Uid, Vault};
use zeroize::Zeroizing;

use crate::attachments::{self, Attachments, Wanted};
use crate::destination::Destination;
use crate::dir::Dir;
use crate::failure::Failure;
use crate::folders::{self, Answers};
use crate::host::Host;
use crate::memory::{self, FileLimit};
use crate::metrics::Metrics;
use crate::publish::{Content, Planned, PublishError, Published};
use crate::render::{RenderError, render};
use crate::schedule::KeeperClock;
use crate::select::{Miss, Selector, Selects};
use crate::source::Source;
use crate::staged::Staged;
use crate::state::{Attachment, State, Store};
use crate::variables::{self, Environment};

/// Fetches the secrets of one pod and publishes them into its volume.
pub struct Agent {
    config: AgentConfig,
    publishers: Vec<Destination>,
    environment: Environment,
    source: Source,
    selector: Selector,
    attachments: Attachments,
    folders: folders::Selected,
    file_limit: FileLimit,
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
    made: Made,
}

/// What was made of it.
enum Made {
    /// Its bytes.
    Bytes(Zeroizing<Vec<u8>>),
    /// An attachment that is on the volume.
    Staged(Staged, Attachment),
    /// An attachment that is published already.
    Unchanged,
    /// It failed; or an attachment that is not here yet.
    Nothing,
}

/// All that goes into the next publications.
struct Publication {
    outputs: Vec<Rendered>,
    folders: Vec<folders::Plan>,
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
        let outputs = config.outputs.iter().map(|o| (o.directory, &o.path));
        let folders = config.folders.iter().map(|f| (f.directory, &f.path));
        if let Some((_, path)) = outputs
            .chain(folders)
            .find(|(directory, _)| *directory >= publishers.len())
        {
            let path = path.clone();
            return Err(PublishError::BadPath { path }.into());
        }
        let file_limit = memory::largest_file(root.capacity());
        let answer_limit = memory::largest_answer(root.capacity());
        let environment = Environment::open(&root, &config)?;
        let agent = Self {
            environment,
            source: Source::new(&config, answer_limit, file_limit.bytes),
            attachments: Attachments::default(),
            folders: folders::Selected::default(),
            file_limit,
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

    /// Notes in the pod's state what the selections mean and what is published of them.
    pub(crate) fn note(&self, state: &mut State) {
        self.selector.pins().clone_into(&mut state.pins);
        self.attachments.known().clone_into(&mut state.attachments);
        self.folders.known().clone_into(&mut state.folders);
    }

    /// Keeps to what an earlier process found and published.
    pub(crate) fn recall(&mut self, state: &State) {
        self.selector.set_pins(state.pins.clone());
        self.attachments.set_known(state.attachments.clone());
        self.folders.set_known(state.folders.clone());
    }

    /// Whether a file of each output, and of each record that is known of a folder, and the variables are there, old or new.
    #[must_use]
    pub fn is_published(&self) -> bool {
        let is_there = |directory: usize, path: &str| {
            let publisher = self.publishers.get(directory);
            publisher.is_some_and(|publisher| publisher.is_published(path))
        };
        let mut outputs = self.config.outputs.iter();
        let mut files = self.folders.published(&self.config);
        self.environment.is_published()
            && outputs.all(|output| is_there(output.directory, &output.path))
            && files.all(|(directory, path, _)| is_there(directory, &path))
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
        let publication = self.prepare(&fetched, &mut refresh, host).await;
        let variables = self.variables(&fetched, &mut refresh);
        drop(fetched);
        if refresh.is_complete() {
            self.selector.all_found();
        }
        if refresh.is_complete() || may_be_partial {
            self.publish(publication, &mut refresh, host);
            self.publish_variables(&variables, &mut refresh, host);
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
        // Only an answer that holds everything tells what lies in a folder, and what no longer does.
        let filter = match self.config.folders.is_empty() {
            true => self.selector.filter(&self.config),
            false => Vec::new(),
        };
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
        let vault = &fetched.vault;
        if is_everything
            && (self.selector.needs_folders(&self.config, vault)
                || self.folders.needs_tree(&self.config, vault))
        {
            match client.get_folders().await {
                Ok(folders) => fetched.folders = Some(folders),
                Err(error) => fetched.folders_failure = Some(error),
            }
        }
        Ok(fetched)
    }

    /// Makes the files of what was fetched; attachments that are new are downloaded.
    async fn prepare(
        &mut self,
        fetched: &Fetched,
        refresh: &mut Refresh,
        host: &impl Host,
    ) -> Publication {
        let (mut outputs, wanted) = self.render(fetched, refresh);
        let answers = Answers {
            vault: &fetched.vault,
            tree: fetched.folders.as_ref(),
            tree_failure: fetched.folders_failure.as_ref(),
        };
        let folders = self
            .folders
            .plan(&self.config, &answers, &mut refresh.failures);
        if let Some(client) = self.source.current().filter(|_| !wanted.is_empty()) {
            let staged = attachments::download(
                client,
                wanted,
                &self.config.outputs,
                &self.publishers,
                self.file_limit,
                host,
                &mut refresh.failures,
            );
            for (output, file, version) in staged.await {
                if let Some(rendered) = outputs.get_mut(output) {
                    rendered.made = Made::Staged(file, version);
                }
            }
        }
        let is_there = |rendered: &&Rendered| !matches!(rendered.made, Made::Nothing);
        let in_folders: usize = folders.iter().map(folders::Plan::rendered).sum();
        self.metrics
            .fetched(outputs.iter().filter(is_there).count() + in_folders);
        Publication { outputs, folders }
    }

    /// Renders the outputs, and says which attachments are to be downloaded.
    fn render<'v>(
        &mut self,
        fetched: &'v Fetched,
        refresh: &mut Refresh,
    ) -> (Vec<Rendered>, Vec<Wanted<'v>>) {
        let Self {
            config,
            selector,
            attachments,
            publishers,
            ..
        } = self;
        let mut rendered = Vec::with_capacity(config.outputs.len());
        let mut wanted = Vec::new();
        for (index, output) in config.outputs.iter().enumerate() {
            let annotation = || output.annotation.clone();
            let made = match resolve(selector, output, fetched, refresh) {
                Some(record) => {
                    let made = match output.selection.attachment() {
                        Some(name) => {
                            let publisher = publishers.get(output.directory);
                            attachments
                                .find((index, output), name, record, publisher)
                                .map(|found| match found {
                                    Some(found) => {
                                        wanted.push(found);
                                        Made::Nothing
                                    }
                                    None => Made::Unchanged,
                                })
                                .map_err(RenderError::from)
                        }
                        None => render(record, output).map(Made::Bytes),
                    };
                    made.unwrap_or_else(|error| {
                        refresh.failures.push(Failure::Render {
                            annotation: annotation(),
                            error,
                        });
                        Made::Nothing
                    })
                }
                None => Made::Nothing,
            };
            let record = selector.pin(output).map(|pin| pin.uid);
            rendered.push(Rendered { record, made });
        }
        (rendered, wanted)
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
        match self.environment.render(records.into_iter()) {
            Ok(files) => is_complete.then_some(files),
            Err((one, error)) => {
                let annotation = one.annotation.clone();
                refresh.failures.push(Failure::Render { annotation, error });
                None
            }
        }
    }

    fn publish_variables(&self, files: &variables::Files, refresh: &mut Refresh, host: &impl Host) {
        for published in self.environment.publish(files, host.now(), host.random()) {
            match published {
                Ok(result) => {
                    self.metrics.published(result);
                    if let Published::Changed(files) = result {
                        refresh.changed += files;
                    }
                }
                Err(error) => refresh.failures.push(error.into()),
            }
        }
    }

    /// Publishes each directory on its own. What a directory has of one record stays of one revision: where an output
    /// of it failed, the others of that record are kept as they are, too.
    fn publish(&mut self, publication: Publication, refresh: &mut Refresh, host: &impl Host) {
        let Publication { outputs, folders } = publication;
        let failed = self.config.outputs.iter().zip(&outputs);
        let failed = failed.filter(|(_, rendered)| matches!(rendered.made, Made::Nothing));
        let torn: HashSet<(usize, Uid)> = failed
            .filter_map(|(output, rendered)| Some((output.directory, rendered.record?)))
            .collect();
        let random = host.random();
        let mut published = Vec::with_capacity(self.publishers.len());
        for (index, publisher) in self.publishers.iter().enumerate() {
            let mode = self.config.file_mode;
            let is_torn = |record| torn.contains(&(index, record));
            let of_outputs = self.config.outputs.iter().zip(&outputs);
            let of_outputs = of_outputs
                .filter(|(output, _)| output.directory == index)
                .map(|(output, rendered)| Planned {
                    path: &output.path,
                    mode: output.mode.unwrap_or(mode),
                    content: match &rendered.made {
                        _ if rendered.record.is_some_and(is_torn) => Content::LastGood,
                        Made::Bytes(bytes) => Content::New(bytes),
                        Made::Staged(staged, _) => Content::Staged(staged),
                        Made::Unchanged | Made::Nothing => Content::LastGood,
                    },
                });
            let of_folders = folders
                .iter()
                .filter(|plan| plan.directory(&self.config) == Some(index))
                .flat_map(|plan| plan.files(mode, is_torn));
            let files: Vec<Planned<'_>> = of_outputs.chain(of_folders).collect();
            match publisher.publish(&files, host.now(), random) {
                Ok(result) => {
                    published.push(index);
                    self.metrics.published(result);
                    if let Published::Changed(files) = result {
                        refresh.changed += files;
                    }
                }
                Err(error) => refresh.failures.push(error.into()),
            }
        }
        for rendered in outputs {
            let Rendered { record, made } = rendered;
            if let Made::Staged(_, version) = made
                && published.contains(&version.directory)
                && !record.is_some_and(|record| torn.contains(&(version.directory, record)))
            {
                self.attachments.note(version);
            }
        }
        for plan in folders {
            let directory = plan.directory(&self.config);
            if directory.is_some_and(|directory| published.contains(&directory)) {
                self.folders.note(plan);
            }
        }
    }
}

/// The record that `one` means; why there is none is recorded.
fn resolve<'f>(
    selector: &mut Selector,
    one: &dyn Selects,
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
