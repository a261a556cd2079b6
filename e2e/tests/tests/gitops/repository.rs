//! A Git repository that is served in the node's network: by Git's own `http-backend`, as a CGI program of busybox.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use keeper_e2e::{Process, node, repository, until};
use tempfile::TempDir;

const ADDRESS: &str = "127.0.0.1:9418";
/// What the pages call it.
const IN_PAGES: &str = "https://git.example.com/fleet.git";

/// The repository `fleet`, with a checkout in which it is edited.
pub(crate) struct Repository {
    dir: TempDir,
    _server: Process,
}

impl Repository {
    /// Empty.
    pub(crate) fn serve() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (bare, program) = (
            dir.path().join("served/fleet.git"),
            dir.path().join("www/cgi-bin/git"),
        );
        fs::create_dir_all(&bare).unwrap();
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        let script = format!(
            "#!/bin/sh\nGIT_PROJECT_ROOT={}/served GIT_HTTP_EXPORT_ALL=1 exec git http-backend\n",
            dir.path().display()
        );
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        git(
            &bare,
            &["init", "--quiet", "--bare", "--initial-branch=main"],
        );
        let checkout = dir.path().join("checkout");
        fs::create_dir(&checkout).unwrap();
        git(&checkout, &["init", "--quiet", "--initial-branch=main"]);
        let www = dir.path().join("www");
        let command = [
            "busybox",
            "httpd",
            "-f",
            "-p",
            ADDRESS,
            "-h",
            www.to_str().unwrap(),
        ];
        let server = Process::start(&command, &dir.path().join("httpd.log"));
        until("the Git server", 30, || {
            let asked = node::try_client(&["git", "ls-remote", &url()]);
            asked.success.then_some(())
        });
        Self {
            dir,
            _server: server,
        }
    }

    /// Writes a file into the checkout.
    pub(crate) fn write(&self, path: &str, content: &str) {
        let file = self.checkout().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }

    /// Changes a file of the checkout, which must have the old text.
    pub(crate) fn replace(&self, path: &str, old: &str, new: &str) {
        let text = fs::read_to_string(self.checkout().join(path)).unwrap();
        assert!(text.contains(old), "{path} has no {old}");
        self.write(path, &text.replace(old, new));
    }

    /// Copies the chart into the checkout.
    pub(crate) fn add_chart(&self) {
        let chart = self.checkout().join("chart");
        fs::create_dir_all(&chart).unwrap();
        let from = repository().join("chart/keeper-injector");
        let copied = Command::new("cp").arg("-r").args([from, chart]).status();
        assert!(copied.unwrap().success());
    }

    /// Commits what the checkout has, and makes it the branch `main` of what is served; returns the commit.
    pub(crate) fn push(&self, message: &str) -> String {
        let checkout = self.checkout();
        git(&checkout, &["add", "--all"]);
        let identity = ["-c", "user.name=test", "-c", "user.email=test@example.com"];
        let commit = ["commit", "--quiet", "--message", message];
        git(&checkout, &[&identity[..], &commit].concat());
        let served = self.dir.path().join("served/fleet.git");
        git(
            &checkout,
            &["push", "--quiet", served.to_str().unwrap(), "main"],
        );
        git(&checkout, &["rev-parse", "HEAD"]).trim().to_owned()
    }

    fn checkout(&self) -> std::path::PathBuf {
        self.dir.path().join("checkout")
    }
}

fn url() -> String {
    format!("http://{ADDRESS}/cgi-bin/git/fleet.git")
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// A block of YAML of a page: what its first line says of it, and the rest.
pub(crate) struct Block {
    /// A path in the repository, or what is done with it.
    pub(crate) place: String,
    /// With the repository's address for that of the page.
    pub(crate) text: String,
}

/// The blocks of a page that say in a comment on their first line what they are for.
pub(crate) fn blocks(page: &str) -> Vec<Block> {
    let page = fs::read_to_string(repository().join(page)).unwrap();
    let block = |text: &str| {
        let (text, _) = text.split_once("```")?;
        let (first, text) = text.split_once('\n')?;
        Some(Block {
            place: first.strip_prefix("# ")?.to_owned(),
            text: text.replace(IN_PAGES, &url()),
        })
    };
    page.split("```yaml\n").skip(1).filter_map(block).collect()
}
