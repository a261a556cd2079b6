//! Absolute paths in a container, normalised: trailing slashes, doubled ones and `.` don't make two paths
//! of one. And the names of files in the published directory.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use crate::annotations::PREFIX;
use crate::layout;

/// Linux takes no longer path.
const MAX_PATH_BYTES: usize = 4095;
/// Nor a longer name.
const MAX_NAME_BYTES: usize = 255;
/// Where no output may go, nor below.
const FORBIDDEN: [&str; 5] = [
    "/proc",
    "/sys",
    "/dev",
    "/var/run/secrets/kubernetes.io",
    "/run/secrets/kubernetes.io",
];
/// Directories that a container can't do without: nothing is mounted over them.
const SYSTEM: [&str; 10] = [
    "/", "/etc", "/bin", "/lib", "/var", "/opt", "/home", "/root", "/tmp", "/app",
];
/// Nor over this one and whatever is below it.
const SYSTEM_TREE: &str = "/usr";

/// An absolute, normalised path without `..`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CleanPath(String);

/// A [`CleanPath`] that somebody else has, or a part of one from the top.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathRef<'a>(&'a str);

/// Why a path cannot be an output's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Not from the root.
    #[error(
        "the path {0} is not absolute: begin it with a slash, such as {dir}/x",
        dir = layout::DEFAULT_OUTPUT_DIR
    )]
    Relative(String),
    /// `..` as a component.
    #[error("the path {0} holds `..`: write it out")]
    DotDot(String),
    /// A colon, which separates selection and path.
    #[error(
        "the path {0} holds a colon: write an escaped one, \\:, where it belongs to the selection"
    )]
    Colon(String),
    /// A control character.
    #[error("the path {0} holds a control character: remove it")]
    Control(String),
    /// Over Linux' limits.
    #[error("the path {0} or a name in it is too long: shorten it")]
    TooLong(String),
    /// `/proc` and its like.
    #[error("nothing can be published at {0}: choose a path below {dir}", dir = layout::DEFAULT_OUTPUT_DIR)]
    Forbidden(String),
    /// The published directory itself.
    #[error("the path {0} is the directory: add a file name, such as {dir}/x", dir = layout::DEFAULT_OUTPUT_DIR)]
    Directory(String),
    /// In a directory that must not be hidden.
    #[error(
        "{0} lies directly in {1}, which a container can't do without and a mount would hide: choose a directory below it, or set {PREFIX}mount-mode: file"
    )]
    System(String, String),
    /// A folder's directory that is one.
    #[error(
        "{0} is a directory that a container can't do without and a mount would hide: choose a directory below it"
    )]
    SystemDirectory(String),
    /// A component that begins with `..`.
    #[error(
        "a name in the path {0} begins with `..`: these are the injector's own, choose another"
    )]
    Reserved(String),
}

impl CleanPath {
    /// The path of a mount as the container runtime takes it: any text means some path. `..` is resolved.
    #[must_use]
    pub fn lenient(text: &str) -> Self {
        if is_clean(text) {
            return Self(text.to_owned());
        }
        let mut parts: Vec<&str> = Vec::new();
        for part in text.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                other => parts.push(other),
            }
        }
        Self(format!("/{}", parts.join("/")))
    }

    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path, borrowed.
    #[must_use]
    pub fn as_path(&self) -> PathRef<'_> {
        PathRef(&self.0)
    }

    /// Whether a file may be here, as far as the path alone tells.
    ///
    /// # Errors
    /// A place where nothing can be published.
    pub fn check_output(&self) -> Result<(), PathError> {
        match self.as_str() {
            "/" | layout::DEFAULT_OUTPUT_DIR => {
                Err(PathError::Directory(crate::problem::quoted(&self.0)))
            }
            _ => self.check_directory(),
        }
    }

    /// Whether a directory of files may be here, as far as the path alone tells.
    ///
    /// # Errors
    /// A place where nothing can be published.
    pub fn check_directory(&self) -> Result<(), PathError> {
        let shown = || crate::problem::quoted(&self.0);
        if FORBIDDEN.into_iter().any(|dir| self.as_path().is_in(dir)) {
            return Err(PathError::Forbidden(shown()));
        }
        if self.0.contains("/..") {
            return Err(PathError::Reserved(shown()));
        }
        Ok(())
    }
}

impl<'a> PathRef<'a> {
    /// The root.
    pub(crate) const ROOT: Self = Self("/");

    /// A path that is written clean.
    pub(crate) const fn written(clean: &'a str) -> Self {
        Self(clean)
    }

    /// The path.
    #[must_use]
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// What follows `dir/`, if this path lies below `dir`; empty if it is `dir`.
    #[must_use]
    pub fn below(self, dir: PathRef<'_>) -> Option<&'a str> {
        if dir == PathRef::ROOT {
            return self.0.strip_prefix('/');
        }
        match self.0.strip_prefix(dir.0)? {
            "" => Some(""),
            rest => rest.strip_prefix('/'),
        }
    }

    /// Whether this path is `dir`, which is written clean, or lies below it.
    fn is_in(self, dir: &str) -> bool {
        self.below(PathRef(dir)).is_some()
    }

    /// The directory that it is in; the root is in itself.
    #[must_use]
    pub fn parent(self) -> Self {
        match self.0.rsplit_once('/') {
            Some((parent, _)) if !parent.is_empty() => Self(parent),
            _ => Self::ROOT,
        }
    }

    /// This path and all directories above it but the root, the topmost first.
    pub fn from_the_top(self) -> impl Iterator<Item = Self> {
        let bytes = self.0.bytes().enumerate().skip(1);
        let slashes = bytes.filter_map(|(at, byte)| (byte == b'/').then_some(at));
        let ends = slashes.chain([self.0.len()]);
        ends.filter_map(move |end| self.0.get(..end).map(Self))
    }

    /// Whether an output directly in this directory would need a mount over what a container can't do without.
    #[must_use]
    pub fn is_system(self) -> bool {
        SYSTEM.contains(&self.0) || self.is_in(SYSTEM_TREE)
    }
}

/// Both compare as their texts do.
impl Borrow<str> for CleanPath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for CleanPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let shown = || crate::problem::quoted(text);
        if !text.starts_with('/') {
            return Err(PathError::Relative(shown()));
        }
        if text.split('/').any(|part| part == "..") {
            return Err(PathError::DotDot(shown()));
        }
        if text.contains(':') {
            return Err(PathError::Colon(shown()));
        }
        if text.chars().any(char::is_control) {
            return Err(PathError::Control(shown()));
        }
        let has_long_name = || text.split('/').any(|part| part.len() > MAX_NAME_BYTES);
        if text.len() > MAX_PATH_BYTES || text.len() > MAX_NAME_BYTES && has_long_name() {
            return Err(PathError::TooLong(shown()));
        }
        Ok(Self::lenient(text))
    }
}

impl fmt::Display for CleanPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a path is written as [`CleanPath`] keeps it, as nearly all are.
fn is_clean(text: &str) -> bool {
    let is_name = |part: &[u8]| !matches!(part, b"" | b"." | b"..");
    text.strip_prefix('/')
        .is_some_and(|rest| rest.as_bytes().split(|byte| *byte == b'/').all(is_name))
}

/// The name that a record's title gives its file: lower case, spaces and slashes become dashes.
#[must_use]
pub fn slug(title: &str) -> String {
    title.to_lowercase().replace([' ', '/'], "-")
}

/// The path of the file `name` in the published directory.
///
/// # Errors
/// A name that no file can have.
pub fn default_path(name: &str) -> Result<CleanPath, FileNameError> {
    let unusable = name.is_empty()
        || name == "."
        || name.starts_with("..")
        || name.len() > MAX_NAME_BYTES
        || name.chars().any(|c| c == '/' || c == ':' || c.is_control());
    if unusable {
        return Err(FileNameError(crate::problem::quoted(name)));
    }
    Ok(CleanPath(format!("{}/{name}", layout::DEFAULT_OUTPUT_DIR)))
}

/// A title that is no file name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "its default file name would be {0}, which is not usable: add a path, such as :{dir}/x",
    dir = layout::DEFAULT_OUTPUT_DIR
)]
pub struct FileNameError(String);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn clean(text: &str) -> CleanPath {
        text.parse().unwrap()
    }

    #[test]
    fn one_path_has_one_spelling() {
        for text in ["/a/b", "/a/b/", "//a//b//", "/a/./b/.", " /a/b "] {
            assert_eq!(clean(text).as_str(), "/a/b", "{text}");
        }
        assert_eq!(clean("/").as_str(), "/");
        assert_eq!(clean("/a/..b").as_str(), "/a/..b");
    }

    #[test]
    fn what_is_no_path_says_why() {
        use PathError as E;
        let long = format!("/{}", "x".repeat(256));
        for (text, want) in [
            ("", E::Relative("``".into())),
            ("a/b", E::Relative("`a/b`".into())),
            ("/a/../b", E::DotDot("`/a/../b`".into())),
            ("/a/..", E::DotDot("`/a/..`".into())),
            ("/a:b", E::Colon("`/a:b`".into())),
            ("/a\0b", E::Control("`/a\u{fffd}b`".into())),
        ] {
            assert_eq!(text.parse::<CleanPath>(), Err(want), "{text}");
        }
        assert!(matches!(long.parse::<CleanPath>(), Err(E::TooLong(_))));
    }

    #[test]
    fn below_is_by_component() {
        let below = |path: &str, dir: &str| {
            let path = clean(path);
            let below = path.as_path().below(clean(dir).as_path());
            below.map(str::to_owned)
        };
        assert_eq!(below("/a/b/c", "/a").as_deref(), Some("b/c"));
        assert_eq!(below("/a", "/a").as_deref(), Some(""));
        assert_eq!(below("/a/b", "/").as_deref(), Some("a/b"));
        assert_eq!(below("/", "/").as_deref(), Some(""));
        assert_eq!(below("/ab", "/a"), None);
        assert_eq!(below("/", "/a"), None);
    }

    #[test]
    fn outputs_may_be_anywhere_but_in_a_few_places() {
        use PathError as E;
        for (path, want) in [
            ("/keeper/secrets/a/b.json", "good"),
            ("/processes/x", "good"),
            ("/app/config.json", "good"),
            ("/keeper", "good"),
            ("/var/run/secrets/x", "good"),
            ("/proc", "Forbidden"),
            ("/proc/self/x", "Forbidden"),
            ("/sys/x", "Forbidden"),
            ("/dev/shm/x", "Forbidden"),
            (
                "/var/run/secrets/kubernetes.io/serviceaccount/x",
                "Forbidden",
            ),
            ("/run/secrets/kubernetes.io", "Forbidden"),
            ("/keeper/secrets", "Directory"),
            ("/", "Directory"),
            ("/keeper/secrets/..data", "Reserved"),
            ("/data/a/..x", "Reserved"),
        ] {
            let got = match clean(path).check_output() {
                Ok(()) => "good",
                Err(E::Forbidden(_)) => "Forbidden",
                Err(E::Directory(_)) => "Directory",
                Err(E::Reserved(_)) => "Reserved",
                other => panic!("{path}: {other:?}"),
            };
            assert_eq!(got, want, "{path}");
        }
    }

    #[test]
    fn system_directories_are_meant_exactly_but_usr() {
        for (path, want) in [
            ("/", true),
            ("/etc", true),
            ("/etc/nginx", false),
            ("/app", true),
            ("/app/config", false),
            ("/usr", true),
            ("/usr/local/etc", true),
            ("/usrx", false),
            ("/data", false),
        ] {
            assert_eq!(clean(path).as_path().is_system(), want, "{path}");
        }
    }

    #[test]
    fn the_directories_above() {
        let above = |path: &str| -> Vec<String> {
            let path = clean(path);
            let above = path.as_path().from_the_top();
            above.map(|above| above.as_str().to_owned()).collect()
        };
        assert_eq!(above("/a/b/c"), ["/a", "/a/b", "/a/b/c"]);
        assert_eq!(above("/"), ["/"]);
        for (path, parent) in [("/a/b", "/a"), ("/a", "/"), ("/", "/")] {
            assert_eq!(clean(path).as_path().parent(), clean(parent).as_path());
        }
    }

    #[test]
    fn titles_become_file_names() {
        for (title, name) in [
            ("Orders", "orders"),
            ("Orders DB [prod]", "orders-db-[prod]"),
            ("Production/Databases/MySQL", "production-databases-mysql"),
            ("ÄRGER", "ärger"),
            ("a_b.c", "a_b.c"),
        ] {
            assert_eq!(slug(title), name);
            assert!(default_path(&slug(title)).is_ok(), "{title}");
        }
        for name in ["", ".", "..", "..data", "a/b", "a\nb", "a\0", "a:b"] {
            assert!(default_path(name).is_err(), "{name}");
        }
        assert!(default_path(&"x".repeat(255)).is_ok());
        assert!(default_path(&"x".repeat(256)).is_err());
    }

    proptest! {
        #[test]
        fn display_and_parse_round_trip(text in r"(/[a-z.]{1,4}){0,5}/?") {
            if let Ok(path) = text.parse::<CleanPath>() {
                prop_assert_eq!(path.to_string().parse(), Ok(path));
            }
        }

        #[test]
        fn any_text_is_some_mount_path(text in ".{0,40}") {
            let path = CleanPath::lenient(&text);
            prop_assert!(path.as_str().starts_with('/'));
            prop_assert_eq!(CleanPath::lenient(path.as_str()), path);
        }
    }
}
