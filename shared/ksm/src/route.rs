//! Which way calls go: straight, or through a proxy that tunnels them.

use std::fmt;

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::{NoProxy, Url};

use crate::Error;

/// What is never called through a proxy: this machine and its link, also as IPv4 in IPv6. Names are not resolved to
/// find out: a proxied host's name is the proxy's to resolve.
const NEVER: &str = "localhost,127.0.0.0/8,::1,169.254.0.0/16,fe80::/10,::ffff:127.0.0.0/104,::ffff:169.254.0.0/112";

/// A proxy for all calls, with the method CONNECT: TLS to Keeper goes through it unopened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyOptions {
    /// `http://` or `https://`, host and port; no user, no password.
    pub url: String,
    /// What is called without it, separated by commas: domains, which stand for all below them too, addresses,
    /// networks such as `10.0.0.0/8`, and `*`. Loopback and link-local addresses and `localhost` always are.
    pub no_proxy: String,
}

/// The way of calls.
pub(crate) struct Route(Option<Proxied>);

struct Proxied {
    url: Url,
    name: String,
    exempt: String,
    matcher: Matcher,
}

impl Route {
    pub(crate) fn new(options: Option<&ProxyOptions>) -> Result<Self, Error> {
        let Some(options) = options else {
            return Ok(Self(None));
        };
        let url = Url::parse(&options.url).ok();
        let url = url.filter(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.username().is_empty()
                && url.password().is_none()
        });
        let url = url.ok_or(Error::ProxyAddress)?;
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err(Error::ProxyAddress);
        };
        let exempt = format!("{NEVER},{}", options.no_proxy);
        let matcher = Matcher::builder().https(url.as_str()).no(&exempt).build();
        Ok(Self(Some(Proxied {
            name: format!("{host}:{port}"),
            url,
            exempt,
            matcher,
        })))
    }

    /// What the HTTP client takes. It decides by the same rules as [`Route::to`].
    pub(crate) fn proxy(&self) -> Result<Option<reqwest::Proxy>, Error> {
        let Some(proxied) = &self.0 else {
            return Ok(None);
        };
        let proxy = reqwest::Proxy::https(proxied.url.clone()).map_err(|_| Error::ProxyAddress)?;
        Ok(Some(proxy.no_proxy(NoProxy::from_string(&proxied.exempt))))
    }

    /// Host and port of the proxy that calls to `host` go through, if they do. `host` may have a port.
    pub(crate) fn to(&self, host: &str) -> Option<&str> {
        let proxied = self.0.as_ref()?;
        let uri = format!("https://{host}/").parse().ok()?;
        proxied.matcher.intercept(&uri)?;
        Some(&proxied.name)
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.as_ref().map(|proxied| &proxied.name);
        f.debug_tuple("Route").field(&name).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(url: &str, no_proxy: &str) -> Result<Route, Error> {
        Route::new(Some(&ProxyOptions {
            url: url.to_owned(),
            no_proxy: no_proxy.to_owned(),
        }))
    }

    #[test]
    fn what_is_called_without_the_proxy() {
        let list = "corp,192.0.2.1,10.0.0.0/8,fd00::/8";
        let route = route("http://proxy:3128", list).unwrap();
        for host in [
            "localhost",
            "x.localhost:8443",
            "LOCALHOST",
            "127.0.0.1:443",
            "127.9.9.9",
            "[::1]:8443",
            "169.254.169.254",
            "[fe80::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:169.254.169.254]",
            "corp",
            "keeper.corp",
            "a.b.CORP:443",
            "192.0.2.1",
            "10.1.2.3",
            "[fd00::1]:443",
        ] {
            assert_eq!(route.to(host), None, "{host}");
        }
        for host in [
            "keepersecurity.com",
            "notcorp",
            "corp.example",
            "192.0.2.11",
            "11.0.0.1",
            "[2001:db8::1]",
            "localhost.example",
            "128.0.0.1",
        ] {
            assert_eq!(route.to(host), Some("proxy:3128"), "{host}");
        }
        assert_eq!(self::route("http://proxy", "*").unwrap().to("a.b"), None);
        let default_port = self::route("http://proxy", "").unwrap();
        assert_eq!(default_port.to("a.b"), Some("proxy:80"));
        assert_eq!(Route::new(None).unwrap().to("a.b"), None);
    }

    #[test]
    fn addresses_that_are_refused() {
        for url in [
            "",
            "proxy:3128",
            "socks5://proxy:1080",
            "http://user:pw@proxy",
            "http://user@proxy",
            "http://:pw@proxy",
            "http://",
        ] {
            assert_eq!(route(url, "").unwrap_err(), Error::ProxyAddress, "{url}");
        }
    }
}
