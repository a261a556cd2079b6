//! A squid in the node's network, as the proxy of some pods.

use crate::command::repository;
use crate::namespace::Namespace;
use crate::node;
use crate::poll::until;
use keeper_squid::{Manner, Squid};
use std::net::SocketAddr;

/// One squid, which knows the keeper-sim of a namespace by name and resolves nothing else. It ends with this value.
#[derive(Debug)]
pub struct Proxy {
    squid: Squid,
    address: SocketAddr,
}

impl Proxy {
    /// Starts one at a port of the node's that no other test takes, and waits until it serves.
    ///
    /// # Panics
    /// If it doesn't.
    #[must_use]
    pub fn start(namespace: &Namespace, port: u16, manner: Manner<'_>) -> Self {
        let cluster = repository().join("e2e/cluster/cluster");
        let launcher = [cluster.to_str().expect("a path in UTF-8"), "client"];
        let service = namespace.get("service", "keeper-sim");
        let keeper = service["spec"]["clusterIP"].as_str().expect("an address");
        let hosts = format!("{keeper} {}\n", namespace.keeper_host());
        let address = SocketAddr::new(node::address(), port);
        let squid = Squid::start(&launcher, address, &hosts, manner);
        let mut proxy = Self { squid, address };
        until("a squid that serves", 30, || {
            proxy.squid.is_up().then_some(())
        });
        proxy
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What `keeper.security/proxy` says of it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The squid.
    #[must_use]
    pub fn squid(&self) -> &Squid {
        &self.squid
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("== the squid at {}\n{}", self.address, self.squid.state());
        }
    }
}
