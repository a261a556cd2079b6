//! How an application is told that its files have changed: a signal, a request to an address of its own pod.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest URL and process name that are taken, in bytes.
const MAX_URL: usize = 2048;
const MAX_NAME: usize = 255;

/// What the agent does after a change. At least one of them is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Reload {
    /// The signal to send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<Signal>,
    /// The address to `POST` to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<ReloadUrl>,
}

/// A signal and who gets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Signal {
    /// The signal.
    pub name: SignalName,
    /// Who gets it.
    pub target: Target,
}

/// The processes that get a signal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Target {
    /// The main process of each of these containers.
    Containers(Vec<String>),
    /// Each process of this name in the pod, but for the agent's own.
    Process(ProcessName),
}

/// The signals by which programs are told to reload, to restart, or to stop. SIGKILL and SIGSTOP tell a program
/// nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum SignalName {
    /// SIGHUP.
    Hup,
    /// SIGINT.
    Int,
    /// SIGQUIT.
    Quit,
    /// SIGTERM.
    Term,
    /// SIGUSR1.
    Usr1,
    /// SIGUSR2.
    Usr2,
    /// SIGWINCH.
    Winch,
}

impl SignalName {
    const ALL: [Self; 7] = [
        Self::Hup,
        Self::Int,
        Self::Quit,
        Self::Term,
        Self::Usr1,
        Self::Usr2,
        Self::Winch,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Hup => "SIGHUP",
            Self::Int => "SIGINT",
            Self::Quit => "SIGQUIT",
            Self::Term => "SIGTERM",
            Self::Usr1 => "SIGUSR1",
            Self::Usr2 => "SIGUSR2",
            Self::Winch => "SIGWINCH",
        }
    }
}

/// A value that is no signal, process or URL for a reload; the text names the cure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReloadError {
    /// No signal of the list.
    #[error(
        "is no signal to reload by: write SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2 or SIGWINCH"
    )]
    Signal,
    /// No name of a process.
    #[error(
        "is no name of a process: write the program's name without directory or arguments, at most 255 bytes"
    )]
    Process,
    /// TLS, where no certificate could be checked.
    #[error(
        "is not plain HTTP: the request does not leave the pod, and nothing could check a certificate for localhost; write http://"
    )]
    Tls,
    /// No URL of ours. The value is not repeated: it may hold a password.
    #[error("the value holds a user name: a reload URL has none, remove everything up to the @")]
    UserInfo,
    /// A host that is not this pod.
    #[error("is not in this pod: write localhost, 127.0.0.1 or [::1] for its host")]
    Host,
    /// A character that no URL holds.
    #[error(
        "has a path that is no URL's: write each character but letters, digits and -._~!$&'()*+,;=:@/? as % and two \
         hexadecimal digits"
    )]
    Path,
    /// Anything else.
    #[error(
        "is no reload URL: write http://localhost:<port>/<path>, without fragment, at most 2048 bytes"
    )]
    Url,
}

/// With or without `SIG`, in any case.
impl FromStr for SignalName {
    type Err = ReloadError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.trim().to_ascii_uppercase();
        let name = name.strip_prefix("SIG").unwrap_or(&name);
        Self::ALL
            .into_iter()
            .find(|signal| signal.as_str().strip_prefix("SIG") == Some(name))
            .ok_or(ReloadError::Signal)
    }
}

impl fmt::Display for SignalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Name of a process: that of its program, without directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProcessName(String);

impl ProcessName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ProcessName {
    type Err = ReloadError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.trim();
        let fits = (1..=MAX_NAME).contains(&name.len());
        if fits && !name.contains(|c: char| c == '/' || c.is_control()) {
            Ok(Self(name.to_owned()))
        } else {
            Err(ReloadError::Process)
        }
    }
}

/// An address in the pod itself. Its host is never looked up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReloadUrl {
    host: Host,
    port: u16,
    /// Path and query.
    path: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Host {
    Localhost,
    Literal(IpAddr),
}

impl ReloadUrl {
    /// Where to connect to: the first that takes the connection.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let hosts = match self.host {
            Host::Localhost => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            Host::Literal(address) => vec![address],
        };
        let with_port = |host| SocketAddr::new(host, self.port);
        hosts.into_iter().map(with_port).collect()
    }

    /// Host and port, as the header `Host` has them.
    #[must_use]
    pub fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        match host {
            Host::Localhost => format!("localhost:{port}"),
            Host::Literal(address) => SocketAddr::new(*address, *port).to_string(),
        }
    }

    /// Path and query.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl FromStr for ReloadUrl {
    type Err = ReloadError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").ok_or(ReloadError::Url)?;
        let (authority, path) = match rest.find(['/', '?', '#', '\\']) {
            Some(end) => rest.split_at_checked(end).ok_or(ReloadError::Url)?,
            None => (rest, ""),
        };
        if authority.contains('@') {
            return Err(ReloadError::UserInfo);
        }
        if scheme.eq_ignore_ascii_case("https") {
            return Err(ReloadError::Tls);
        }
        if !scheme.eq_ignore_ascii_case("http") || text.len() > MAX_URL || path.contains('#') {
            return Err(ReloadError::Url);
        }
        if !is_path_and_query(path) {
            return Err(ReloadError::Path);
        }
        // An IPv6 literal has colons of its own, and ends with its bracket.
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let port = match port {
            None => 80,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().map_err(|_| ReloadError::Url)?
            }
            Some(_) => return Err(ReloadError::Url),
        };
        if port == 0 {
            return Err(ReloadError::Url);
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self {
            host: host.parse()?,
            port,
            path: format!("{slash}{path}"),
        })
    }
}

/// Whether all of it are characters of a path or query as RFC 3986 has them (sections 3.3 and 3.4).
fn is_path_and_query(text: &str) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let fits = match byte {
            b'%' => [bytes.next(), bytes.next()]
                .iter()
                .all(|digit| digit.is_some_and(|digit| digit.is_ascii_hexdigit())),
            _ => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?".contains(&byte),
        };
        if !fits {
            return false;
        }
    }
    true
}

impl FromStr for Host {
    type Err = ReloadError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.eq_ignore_ascii_case("localhost") {
            return Ok(Self::Localhost);
        }
        let bracketed = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
        let address = match bracketed {
            Some(text) => text.parse().map(IpAddr::V6),
            None => text.parse().map(IpAddr::V4),
        };
        match address {
            Ok(address) if address.is_loopback() => Ok(Self::Literal(address)),
            _ => Err(ReloadError::Host),
        }
    }
}

impl fmt::Display for ReloadUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority(), self.path)
    }
}

impl TryFrom<String> for ReloadUrl {
    type Error = ReloadError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ReloadUrl> for String {
    fn from(url: ReloadUrl) -> Self {
        url.to_string()
    }
}

impl TryFrom<String> for ProcessName {
    type Error = ReloadError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ProcessName> for String {
    fn from(name: ProcessName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_two_spellings() {
        for signal in SignalName::ALL {
            let name = signal.to_string();
            assert_eq!(name.parse(), Ok(signal));
            assert_eq!(name.to_lowercase().replace("sig", " ").parse(), Ok(signal));
        }
        for bad in ["", "SIG", "SIGKILL", "STOP", "1", "SIGSIGHUP", "HUP,USR1"] {
            assert_eq!(bad.parse::<SignalName>(), Err(ReloadError::Signal), "{bad}");
        }
    }

    #[test]
    fn a_process_is_named_without_directory() {
        assert_eq!(
            " my app ".parse::<ProcessName>().unwrap().as_str(),
            "my app"
        );
        for bad in ["", " ", "/usr/sbin/nginx", "a\0b", &"x".repeat(256)] {
            assert_eq!(bad.parse::<ProcessName>(), Err(ReloadError::Process));
        }
    }

    #[test]
    fn urls_of_the_pod_are_taken_without_a_lookup() {
        for (text, shown, addresses) in [
            (
                "http://localhost:8080/-/reload?x=1",
                "http://localhost:8080/-/reload?x=1",
                vec!["127.0.0.1:8080", "[::1]:8080"],
            ),
            (
                "HTTP://LocalHost",
                "http://localhost:80/",
                vec!["127.0.0.1:80", "[::1]:80"],
            ),
            (
                "http://127.1.2.3:1/",
                "http://127.1.2.3:1/",
                vec!["127.1.2.3:1"],
            ),
            ("http://[::1]?r", "http://[::1]:80/?r", vec!["[::1]:80"]),
            ("http://[::1]:81", "http://[::1]:81/", vec!["[::1]:81"]),
        ] {
            let url: ReloadUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(shown.parse(), Ok(url.clone()));
            let found: Vec<_> = url.addresses().iter().map(ToString::to_string).collect();
            assert_eq!(found, addresses);
        }
    }

    #[test]
    fn urls_that_lead_elsewhere_are_refused() {
        use ReloadError::{Host, Path, Tls, Url, UserInfo};
        for (text, want) in [
            ("", Url),
            ("localhost:8080/reload", Url),
            ("ftp://localhost/", Url),
            ("https://localhost/", Tls),
            ("http://", Host),
            ("http://:80/", Host),
            ("http://example.com/", Host),
            ("http://localhost.example.com/", Host),
            ("http://10.0.0.1/", Host),
            ("http://0.0.0.0/", Host),
            ("http://2130706433/", Host),
            ("http://127.1/", Host),
            ("http://::1/", Host),
            ("http://[::ffff:127.0.0.1]/", Host),
            ("http://[fe80::1]/", Host),
            ("http://[::1]x/", Url),
            ("http://user:pw@localhost/", UserInfo),
            ("http://localhost@example.com/", UserInfo),
            ("http://localhost:/", Url),
            ("http://localhost:0/", Url),
            ("http://localhost:65536/", Url),
            ("http://localhost:+80/", Url),
            ("http://localhost/a b", Path),
            ("http://localhost/a\r\nX: y", Path),
            ("http://localhost/#x", Url),
            ("http://localhost\\@example.com/", Path),
            ("http://localhost/ä", Path),
            ("http://localhost/%", Path),
            ("http://localhost/%4", Path),
            ("http://localhost/%4g", Path),
            ("http://localhost/%+1", Path),
            ("http://localhost/%4ä", Path),
            ("http://localhost/a%%41", Path),
        ] {
            assert_eq!(text.parse::<ReloadUrl>(), Err(want), "{text}");
        }
        let long = format!("http://localhost/{}", "x".repeat(MAX_URL));
        assert_eq!(long.parse::<ReloadUrl>(), Err(Url));
    }

    #[test]
    fn a_path_has_the_characters_of_rfc_3986() {
        const TAKEN: &str = "-._~!$&'()*+,;=:@/?";
        for c in (0..=0x17f).filter_map(char::from_u32) {
            // The fragment has an error of its own; `%` has something behind it.
            if c == '#' || c == '%' {
                continue;
            }
            let taken = c.is_ascii_alphanumeric() || TAKEN.contains(c);
            for place in ["a", "a?b="] {
                let url = format!("http://localhost/{place}{c}x").parse::<ReloadUrl>();
                assert_eq!(url.is_ok(), taken, "{place}{c:?}");
                assert!(taken || url == Err(ReloadError::Path), "{place}{c:?}");
            }
        }
        for good in ["/%7B", "/%aF%00?%20", "/a%2"] {
            let text = format!("http://localhost:1{good}0");
            assert_eq!(text.parse::<ReloadUrl>().unwrap().to_string(), text);
        }
    }
}
