//! The proxy for calls to Keeper: its address, and the hosts that are called without it.
//!
//! Both are parsed here, at admission, so that the agents get nothing that a proxy client could read in another
//! way. An address with a user name or password is refused and never repeated: annotations are no place for them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::quote::quoted;

/// What an annotation says instead of an address: no proxy.
#[cfg(feature = "admission")]
const NONE: &str = "none";

/// Why a value is no proxy. The value is repeated only where it can hold no password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// A user name or a password.
    #[error(
        "the address holds a user name or password, which this injector does not send and which has no place here: \
         write http://host:port, and let the proxy pass the pods' addresses without a password"
    )]
    UserInfo,
    /// No scheme.
    #[error("{0} has no scheme: write {1}")]
    NoScheme(String, String),
    /// Another scheme.
    #[error("the scheme is neither http:// nor https://: write http://host:port, or none")]
    Scheme,
    /// Something behind host and port.
    #[error("there is more than a host and a port: write http://host:port without path or query")]
    Path,
    /// No host.
    #[error(
        "the host is neither a name nor an address (IPv6 in brackets): write http://host:port, or none"
    )]
    Host,
    /// No port.
    #[error("the port is no number from 1 to 65535: write http://host:port")]
    Port,
}

/// Address of a proxy: `http://` or `https://`, host and port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProxyUrl(String);

impl FromStr for ProxyUrl {
    type Err = ProxyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        // Before all else, so that no other message repeats a password.
        if text.contains('@') {
            return Err(ProxyError::UserInfo);
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            let corrected = format!("http://{text}");
            return Err(match corrected.parse::<Self>() {
                Ok(_) => ProxyError::NoScheme(quoted(text), corrected),
                Err(_) => ProxyError::Scheme,
            });
        };
        let (scheme, default_port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => ("http", 80),
            "https" => ("https", 443),
            _ => return Err(ProxyError::Scheme),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#', '\\']) {
            return Err(ProxyError::Path);
        }
        let (host, port) = match authority.rsplit_once(':') {
            // The colon is one of an IPv6 address.
            Some((_, port)) if port.ends_with(']') => (authority, None),
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        };
        if !is_host(host) {
            return Err(ProxyError::Host);
        }
        let port = match port {
            None => default_port,
            Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => {
                let port = port.parse::<u16>().ok().filter(|port| *port > 0);
                port.ok_or(ProxyError::Port)?
            }
            Some(_) => return Err(ProxyError::Port),
        };
        Ok(Self(format!(
            "{scheme}://{}:{port}",
            host.to_ascii_lowercase()
        )))
    }
}

impl ProxyUrl {
    /// The address, always with its port.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ProxyUrl {
    type Error = ProxyError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ProxyUrl> for String {
    fn from(url: ProxyUrl) -> Self {
        url.0
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the annotation says: a proxy, or `none`.
#[cfg(feature = "admission")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProxyChoice(pub(crate) Option<ProxyUrl>);

#[cfg(feature = "admission")]
impl FromStr for ProxyChoice {
    type Err = ProxyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            NONE => Ok(Self(None)),
            url => url.parse().map(|url| Self(Some(url))),
        }
    }
}

/// The hosts that are called without the proxy, as `NO_PROXY` lists them: names, which stand for all below them
/// too, addresses, networks, and `*` for all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NoProxy(Vec<String>);

/// An entry that is none of those.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} is neither a domain, an address, a network such as 10.0.0.0/8, nor `*`: a port or a `*` inside of a name \
     cannot be given"
)]
pub struct NoProxyError(String);

impl NoProxy {
    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for NoProxy {
    type Err = NoProxyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split(|c: char| c == ',' || c.is_whitespace())
            .filter(|entry| !entry.is_empty())
            .map(|entry| no_proxy_entry(entry).ok_or_else(|| NoProxyError(quoted(entry))))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl TryFrom<String> for NoProxy {
    type Error = NoProxyError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<NoProxy> for String {
    fn from(list: NoProxy) -> Self {
        list.to_string()
    }
}

impl fmt::Display for NoProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

/// One entry in its shortest form: `.corp` and `*.corp` are `corp`.
fn no_proxy_entry(entry: &str) -> Option<String> {
    if entry == "*" {
        return Some(entry.to_owned());
    }
    if let Some((address, bits)) = entry.split_once('/') {
        let address: IpAddr = address.parse().ok()?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let known = bits.bytes().all(|b| b.is_ascii_digit());
        let bits: u8 = bits.parse().ok().filter(|bits| known && *bits <= longest)?;
        return Some(format!("{address}/{bits}"));
    }
    if let Ok(address) = entry.parse::<IpAddr>() {
        return Some(address.to_string());
    }
    let name = entry.strip_prefix("*").unwrap_or(entry);
    let name = match name.strip_prefix('.') {
        Some(name) => name,
        // A `*` without a dot behind it is no suffix of whole labels.
        None if name.len() < entry.len() => return None,
        None => name,
    };
    is_name(name).then(|| name.to_ascii_lowercase())
}

fn is_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => host.parse::<Ipv4Addr>().is_ok() || is_name(host),
    }
}

/// A DNS name, which never looks like an IPv4 address: URL parsers take `10.1` for one.
fn is_name(name: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(known);
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= 253
        && name.split('.').all(label)
        && !last.starts_with(|first: char| first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_proxies() {
        for (text, expected) in [
            ("http://proxy.corp:3128", "http://proxy.corp:3128"),
            (" HTTP://Proxy.Corp:3128/ ", "http://proxy.corp:3128"),
            ("http://proxy", "http://proxy:80"),
            ("https://proxy.corp", "https://proxy.corp:443"),
            ("http://10.0.0.1:8080", "http://10.0.0.1:8080"),
            ("http://[fd00::1]:8080", "http://[fd00::1]:8080"),
            ("http://[fd00::1]", "http://[fd00::1]:80"),
        ] {
            let url: ProxyUrl = text.parse().unwrap();
            assert_eq!(url.as_str(), expected);
            assert_eq!(url.as_str().parse::<ProxyUrl>().unwrap(), url);
        }
        assert_eq!("none".parse(), Ok(ProxyChoice(None)));
    }

    #[test]
    fn what_is_no_address_of_a_proxy() {
        for (text, expected) in [
            ("http://", ProxyError::Host),
            ("http://:3128", ProxyError::Host),
            ("http://a b:3128", ProxyError::Host),
            ("http://fd00::1:8080", ProxyError::Host),
            ("http://[fd00::1", ProxyError::Host),
            ("http://[proxy]:80", ProxyError::Host),
            ("http://10.1:80", ProxyError::Host),
            ("http://pröxy:80", ProxyError::Host),
            ("http://proxy:", ProxyError::Port),
            ("http://proxy:0", ProxyError::Port),
            ("http://proxy:+80", ProxyError::Port),
            ("http://proxy:65536", ProxyError::Port),
            ("http://proxy:80/path", ProxyError::Path),
            ("http://proxy?x", ProxyError::Path),
            ("socks5://proxy:1080", ProxyError::Scheme),
            ("", ProxyError::Scheme),
            ("direct proxy", ProxyError::Scheme),
        ] {
            assert_eq!(text.parse::<ProxyChoice>(), Err(expected), "{text}");
        }
        let bare = "proxy.corp:3128".parse::<ProxyUrl>().unwrap_err();
        assert!(bare.to_string().ends_with("write http://proxy.corp:3128"));
    }

    #[test]
    fn a_password_is_refused_and_not_repeated() {
        for text in [
            "http://user:s3cret@proxy:3128",
            "http://s3cret@proxy",
            "user:s3cret@proxy:3128",
            "http://user:s3cret@",
            "ftp://u:s3cret@x/@",
        ] {
            let error = text.parse::<ProxyChoice>().unwrap_err();
            assert_eq!(error, ProxyError::UserInfo);
            assert!(!error.to_string().contains("s3cret"));
        }
    }

    #[test]
    fn hosts_without_a_proxy() {
        let list: NoProxy = " .Corp, *.local,10.0.0.0/8 ,fd00::/8,192.0.2.1 keeper.internal,,"
            .parse()
            .unwrap();
        assert_eq!(
            list.to_string(),
            "corp,local,10.0.0.0/8,fd00::/8,192.0.2.1,keeper.internal"
        );
        assert_eq!("*".parse::<NoProxy>().unwrap().to_string(), "*");
        assert!("".parse::<NoProxy>().unwrap().is_empty());
        for entry in [
            "corp:443",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "fd00::/129",
            "*corp",
            "a.*.b",
            "*.",
            ".",
            "http://a",
            "a/8",
            "10.1",
        ] {
            let error = entry.parse::<NoProxy>().unwrap_err();
            assert!(error.to_string().contains(entry), "{error}");
        }
    }
}
