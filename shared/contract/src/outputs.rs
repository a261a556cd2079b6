//! Where files go: at most one output for each path, and none below another. Which directory of which volume that
//! is, [`crate::directories`] decides.

use std::collections::BTreeMap;

use crate::agent_config::{Directory, FolderOutput, Output};
use crate::annotations::{PREFIX, prefixed};
use crate::choices::MountMode;
use crate::directories::{self, Kind, PodVolume, Seat, Site};
use crate::files::File;
use crate::folders::FolderRequest;
use crate::layout;
use crate::path::CleanPath;
use crate::pod::{Container, Pod};
use crate::problem::{Findings, Reason, quoted};

/// The outputs of the agents' config and what they lie in; all empty if nothing is selected.
#[derive(Debug, Default)]
pub(crate) struct Placed {
    pub(crate) directories: Vec<Directory>,
    pub(crate) outputs: Vec<Output>,
    pub(crate) folders: Vec<FolderOutput>,
    /// Volumes of the pod's own that our containers mount, too.
    pub(crate) volumes: Vec<PodVolume>,
}

/// Places the files and folders of a pod whose containers `targets` get them.
pub(crate) fn place(
    files: Vec<File>,
    folders: Vec<FolderRequest>,
    mode: MountMode,
    pod: &Pod<'_>,
    targets: &[Container<'_>],
    findings: &mut Findings,
) -> Placed {
    let mut taken = BTreeMap::new();
    let files = distinct(files, &mut taken, findings);
    let folders = apart(folders, &taken, findings);
    let sites: Vec<Site<'_>> = files
        .iter()
        .map(|file| Site {
            annotation: &file.annotation,
            path: file.path.as_path(),
            kind: Kind::File,
        })
        .chain(folders.iter().map(|folder| Site {
            annotation: folder.path_annotation(),
            path: folder.path.as_path(),
            kind: Kind::Folder,
        }))
        .collect();
    let mut placed = Placed::default();
    let mut seats =
        directories::seat(&sites, mode, pod, targets, findings, &mut placed).into_iter();
    // What has no seat is a problem that stands in the findings.
    for (file, seat) in files.into_iter().zip(&mut seats) {
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
            annotation: prefixed(&file.annotation),
        });
    }
    for (folder, seat) in folders.into_iter().zip(seats) {
        let Some(Seat { directory, path }) = seat else {
            continue;
        };
        placed.folders.push(FolderOutput {
            directory,
            path,
            folder: folder.folder,
            annotation: prefixed(&folder.annotation),
        });
    }
    placed
}

/// The files whose paths may be outputs, each path once; and whose annotation has `taken` which path.
fn distinct(
    files: Vec<File>,
    taken: &mut BTreeMap<CleanPath, String>,
    findings: &mut Findings,
) -> Vec<File> {
    let mut kept = Vec::new();
    for file in files {
        if let Err(error) = file.path.check_output() {
            findings.problem(&file.annotation, Reason::BadPath, error);
            continue;
        }
        if let Some(first) = taken.get(&file.path) {
            findings.problem(
                &file.annotation,
                Reason::PathTaken,
                format_args!(
                    "{} is the output of {PREFIX}{first} already: give one of them a path of its own, such as :{}/x",
                    quoted(file.path.as_str()),
                    layout::DEFAULT_OUTPUT_DIR
                ),
            );
            continue;
        }
        taken.insert(file.path.clone(), file.annotation.clone());
        kept.push(file);
    }
    for file in &kept {
        let mut above = file.path.as_path().parent().from_the_top();
        let above = above.find_map(|above| Some((above, taken.get(above.as_str())?)));
        if let Some((above, other)) = above {
            findings.problem(
                &file.annotation,
                Reason::PathTaken,
                format_args!(
                    "{} lies below {}, which is the file of {PREFIX}{other}: move one of them",
                    quoted(file.path.as_str()),
                    quoted(above.as_str())
                ),
            );
        }
    }
    kept
}

/// The folders whose paths may be directories of files. What names their files have, only the vault knows: here it is
/// seen to it that there can be a directory.
fn apart(
    folders: Vec<FolderRequest>,
    taken: &BTreeMap<CleanPath, String>,
    findings: &mut Findings,
) -> Vec<FolderRequest> {
    let mut kept = Vec::new();
    for folder in folders {
        let annotation = folder.path_annotation();
        if let Err(error) = folder.path.check_directory() {
            findings.problem(annotation, Reason::BadPath, error);
            continue;
        }
        let file = folder
            .path
            .as_path()
            .from_the_top()
            .find_map(|above| taken.get(above.as_str()));
        if let Some(other) = file {
            findings.problem(
                annotation,
                Reason::PathTaken,
                format_args!(
                    "{} is, or lies below, the file of {PREFIX}{other}: move one of them",
                    quoted(folder.path.as_str())
                ),
            );
            continue;
        }
        kept.push(folder);
    }
    kept
}
