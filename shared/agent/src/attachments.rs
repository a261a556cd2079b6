//! Attachments: which of them are new, and getting those. An attachment that Keeper says the same of as when it was
//! published is not downloaded again, not even after a restart.

use std::collections::BTreeSet;

use keeper_contract::Output;
use keeper_ksm::{Client, Error, ErrorKind, EvaluateError, Evaluated, File, Record, select};
use keeper_notation::Selector;

use crate::destination::Destination;
use crate::failure::{AttachmentFailure, Failure};
use crate::host::Host;
use crate::memory::FileLimit;
use crate::staged::Staged;
use crate::state::Attachment;

/// An attachment to download.
pub(crate) struct Wanted<'v> {
    /// Index into the config's outputs.
    pub(crate) output: usize,
    record: &'v Record,
    file: &'v File,
    /// What is known of it once it is published.
    version: Attachment,
}

/// The attachments that are published.
#[derive(Debug, Default)]
pub(crate) struct Attachments {
    known: Vec<Attachment>,
}

impl Attachments {
    /// Goes on from what an earlier process published.
    pub(crate) fn set_known(&mut self, known: Vec<Attachment>) {
        self.known = known;
    }

    pub(crate) fn known(&self) -> &[Attachment] {
        &self.known
    }

    /// The attachment of an output, if what is published is not it. `name` is the attachment's name, title or UID.
    ///
    /// # Errors
    /// The record has none of this name, or several.
    pub(crate) fn find<'v>(
        &self,
        (index, output): (usize, &Output),
        name: &str,
        record: &'v Record,
        publisher: Option<&Destination>,
    ) -> Result<Option<Wanted<'v>>, EvaluateError> {
        let Evaluated::File(file) = select(record, &Selector::File(name.to_owned()))? else {
            return Ok(None);
        };
        let last_modified = file.last_modified().map(str::to_owned);
        let version = Attachment {
            directory: output.directory,
            path: output.path.clone(),
            uid: file.uid(),
            size: file.size(),
            revision: last_modified.is_none().then(|| record.revision()),
            last_modified,
        };
        let is_there = publisher.is_some_and(|publisher| publisher.is_published(&output.path));
        let is_current = is_there && self.known.contains(&version);
        Ok((!is_current).then_some(Wanted {
            output: index,
            record,
            file,
            version,
        }))
    }

    /// Takes note of what was published.
    pub(crate) fn note(&mut self, version: Attachment) {
        self.known
            .retain(|known| (known.directory, &known.path) != (version.directory, &version.path));
        self.known.push(version);
    }
}

/// Downloads each attachment once, and puts it onto the volume for each output that wants it: by output, what was
/// staged. A server that can't be reached is not tried again for the rest.
pub(crate) async fn download(
    client: &Client,
    wanted: Vec<Wanted<'_>>,
    outputs: &[Output],
    publishers: &[Destination],
    limit: FileLimit,
    host: &impl Host,
    failures: &mut Vec<Failure>,
) -> Vec<(usize, Staged, Attachment)> {
    let mut staged = Vec::with_capacity(wanted.len());
    let mut out_of_reach: Option<Error> = None;
    let files: BTreeSet<_> = wanted.iter().map(|wanted| wanted.version.uid).collect();
    let mut wanted: Vec<_> = wanted.into_iter().map(Some).collect();
    for uid in files {
        let of_file = wanted
            .iter_mut()
            .filter_map(|wanted| wanted.take_if(|wanted| wanted.version.uid == uid));
        let of_file: Vec<Wanted<'_>> = of_file.collect();
        let Some(file) = of_file.first().map(|wanted| wanted.file) else {
            continue;
        };
        let content = match &out_of_reach {
            Some(error) => Err(error.clone()),
            None => client.download(file).await,
        };
        let content = match content {
            Ok(content) => content,
            Err(error) => {
                if is_out_of_reach(&error) {
                    out_of_reach = Some(error.clone());
                }
                let failed = of_file.iter().filter_map(|wanted| {
                    Some(failure(outputs.get(wanted.output)?, wanted, &error, limit))
                });
                failures.extend(failed);
                continue;
            }
        };
        for wanted in of_file {
            let Some(output) = outputs.get(wanted.output) else {
                continue;
            };
            let Some(publisher) = publishers.get(output.directory) else {
                continue;
            };
            match publisher.stage(&output.path, content.expose(), host.random()) {
                Ok(file) => staged.push((wanted.output, file, wanted.version)),
                Err(error) => failures.push(error.into()),
            }
        }
    }
    staged
}

fn is_out_of_reach(error: &Error) -> bool {
    matches!(
        error,
        Error::Timeout { .. } | Error::Connect { .. } | Error::Proxy { .. }
    )
}

fn failure(output: &Output, wanted: &Wanted<'_>, error: &Error, limit: FileLimit) -> Failure {
    Failure::Attachment(Box::new(AttachmentFailure {
        annotation: output.annotation.clone(),
        record: wanted.record.title().to_owned(),
        file: wanted.file.name().to_owned(),
        cure: match error.kind() {
            ErrorKind::TooLarge => limit.cure,
            _ => "",
        },
        error: error.clone(),
    }))
}
