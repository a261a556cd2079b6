//! An entry of `folders`: each record of a folder becomes a file.

use serde_saphyr::Spanned;

use super::document::Folder;
use super::entry::Entry;
use crate::agent_config::FolderRef;
use crate::folders::{self, FolderRequest};
use crate::layout;
use crate::problem::Reason;

/// The folder that an entry asks for; none if something is wrong with it.
pub(super) fn folder(mut entry: Entry<'_>, folder: Folder) -> Option<FolderRequest> {
    let Folder {
        path,
        uid,
        output_path,
        inject_as_k8s_secret,
        k8s_secret_name_prefix,
    } = folder;
    entry.not_yet_on("injectAsK8sSecret", inject_as_k8s_secret.as_ref());
    entry.not_yet("k8sSecretNamePrefix", k8s_secret_name_prefix.as_ref());
    let folder = named(&mut entry, path, uid);
    let path = match output_path {
        None => layout::DEFAULT_OUTPUT_DIR.parse().ok(),
        stated => entry.parsed("outputPath", stated.as_ref(), Reason::BadPath),
    };
    Some(FolderRequest {
        annotation: entry.origin(),
        folder: folder?,
        path: path?,
    })
}

fn named(
    entry: &mut Entry<'_>,
    path: Option<Spanned<String>>,
    uid: Option<Spanned<String>>,
) -> Option<FolderRef> {
    match (path, uid) {
        (Some(_), uid @ Some(_)) => {
            entry.excluded("uid", uid.as_ref(), "excludes `path`: remove one of them");
            None
        }
        (None, None) => {
            let why = "selects nothing: name a folder by `path` or `uid`";
            entry.problem(Reason::BadSelection, why);
            None
        }
        (Some(path), None) => folders::by_path(&path.value)
            .map_err(|why| entry.problem_at("path", &path, Reason::BadSelection, why))
            .ok(),
        (None, Some(uid)) => folders::by_uid(&uid.value)
            .map_err(|why| entry.problem_at("uid", &uid, Reason::BadSelection, why))
            .ok(),
    }
}
