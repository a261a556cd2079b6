//! Where files go: at most one output for each path, and none below another. Which directory of which volume that
//! is, [`crate::directories`] decides.

use std::collections::BTreeMap;

use crate::agent_config::{Directory, Output};
use crate::annotations::PREFIX;
use crate::choices::MountMode;
use crate::directories::{self, PodVolume, Seat};
use crate::files::File;
use crate::layout;
use crate::pod::{Container, Pod};
use crate::problem::{Findings, Reason, quoted};

/// The outputs of the agents' config and what they lie in; all empty if nothing is selected.
#[derive(Debug, Default)]
pub(crate) struct Placed {
    pub(crate) directories: Vec<Directory>,
    pub(crate) outputs: Vec<Output>,
    /// Volumes of the pod's own that our containers mount, too.
    pub(crate) volumes: Vec<PodVolume>,
}

/// Places the files of a pod whose containers `targets` get them.
pub(crate) fn place(
    files: Vec<File>,
    mode: MountMode,
    pod: &Pod<'_>,
    targets: &[Container<'_>],
    findings: &mut Findings,
) -> Placed {
    let files = distinct(files, findings);
    let mut placed = Placed::default();
    let seats = directories::seat(&files, mode, pod, targets, findings, &mut placed);
    for (file, seat) in files.into_iter().zip(seats) {
        // A file without a seat is a problem that stands in the findings.
        let Some(Seat { directory, path }) = seat else {
            continue;
        };
        placed.outputs.push(Output {
            directory,
            path,
            selection: file.selection,
            fields: file.fields,
            format: file.format,
            mode: file.mode.map(|mode| mode.0),
            annotation: format!("{PREFIX}{}", file.annotation),
        });
    }
    placed
}

/// The files whose paths may be outputs, each path once.
fn distinct(files: Vec<File>, findings: &mut Findings) -> Vec<File> {
    let mut taken: BTreeMap<String, String> = BTreeMap::new();
    let mut kept = Vec::new();
    for file in files {
        if let Err(error) = file.path.check_output() {
            findings.problem(&file.annotation, Reason::BadPath, error);
            continue;
        }
        let path = file.path.as_str();
        if let Some(first) = taken.get(path) {
            findings.problem(
                &file.annotation,
                Reason::PathTaken,
                format_args!(
                    "{} is the output of {PREFIX}{first} already: give one of them a path of its own, such as :{}/x",
                    quoted(path),
                    layout::DEFAULT_OUTPUT_DIR
                ),
            );
            continue;
        }
        taken.insert(path.to_owned(), file.annotation.clone());
        kept.push(file);
    }
    for file in &kept {
        let parent = file.path.parent();
        let above = parent
            .from_the_top()
            .find_map(|above| Some((above, taken.get(above)?)));
        if let Some((above, other)) = above {
            findings.problem(
                &file.annotation,
                Reason::PathTaken,
                format_args!(
                    "{} lies below {}, which is the file of {PREFIX}{other}: move one of them",
                    quoted(file.path.as_str()),
                    quoted(above)
                ),
            );
        }
    }
    kept
}
