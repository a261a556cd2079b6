//! The client through a real squid: plain, with a password, and with TLS inspection.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use keeper_ksm::{Client, ClientOptions, DeviceConfig, Error, ProxyOptions};
use keeper_sim::{Options, Sim, Vault};
use keeper_squid::{Manner, Squid};

/// A name that only the squid knows, from its own hosts file.
const NAME: &str = "keeper.invalid";

/// A squid on this machine that serves, and its address.
async fn squid(manner: Manner<'_>) -> (Squid, SocketAddr) {
    let address = free_address();
    let mut squid = Squid::start(&[], address, &format!("127.0.0.1 {NAME}\n"), manner);
    let deadline = Instant::now() + Duration::from_secs(30);
    while !squid.is_up() {
        assert!(Instant::now() < deadline, "{}", squid.state());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (squid, address)
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .unwrap()
}

/// Waits until squid has logged a request with this text: it does so at its end.
async fn logged(squid: &Squid, text: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !squid.access_log().contains(text) {
        assert!(Instant::now() < deadline, "no {text}\n{}", squid.state());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A client of `sim` by [`NAME`], through a proxy, that trusts `ca`.
fn client(sim: &Sim, proxy: SocketAddr, ca: &str) -> Client {
    let options = ClientOptions {
        extra_ca_pem: Some(ca.as_bytes().to_vec()),
        proxy: Some(ProxyOptions {
            url: format!("http://{proxy}"),
            no_proxy: String::new(),
        }),
        ..ClientOptions::default()
    };
    let config = DeviceConfig::parse(sim.device_config().unwrap().as_bytes()).unwrap();
    Client::new(config, options).unwrap()
}

/// A simulator that calls itself [`NAME`] in configs and in the URLs of attachments.
async fn sim() -> Sim {
    let vault = "records: [{title: db, password: x, files: [{name: ca.pem, text: PEM}]}]";
    let listen = free_address();
    let options = Options {
        listen,
        hostname: Some(format!("{NAME}:{}", listen.port())),
        ..Options::default()
    };
    Sim::start(Vault::parse(vault).unwrap(), options)
        .await
        .unwrap()
}

/// Fetches the record and its attachment.
async fn fetch(client: &Client) -> Result<(), Error> {
    let vault = client.get_secret(&[]).await?;
    let file = vault.records.first().unwrap().files().first().unwrap();
    assert_eq!(client.download(file).await?.expose(), b"PEM");
    Ok(())
}

#[tokio::test]
async fn records_and_attachments_come_through_squid() {
    let sim = sim().await;
    let (squid, address) = squid(Manner::Plain).await;
    fetch(&client(&sim, address, sim.ca_pem())).await.unwrap();
    logged(&squid, "TCP_TUNNEL/200").await;
    assert!(squid.access_log().contains(&format!("CONNECT {NAME}:")));
}

#[tokio::test]
async fn a_squid_that_denies_or_demands_a_password() {
    let sim = sim().await;
    let (_denying, address) = squid(Manner::Denying).await;
    let denied = fetch(&client(&sim, address, sim.ca_pem())).await;
    let error = denied.unwrap_err();
    assert!(matches!(error, Error::Proxy { .. }), "{error:?}");
    assert!(error.to_string().contains("it refuses"), "{error}");
    let (_demanding, address) = squid(Manner::Demanding).await;
    let demanded = fetch(&client(&sim, address, sim.ca_pem())).await;
    let error = demanded.unwrap_err();
    assert!(
        matches!(error, Error::ProxyAuthentication { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_squid_that_inspects_tls_is_trusted_by_its_ca_alone() {
    let sim = sim().await;
    let servers_ca = sim.ca_pem();
    let (squid, address) = squid(Manner::Inspecting { servers_ca }).await;
    let untrusted = fetch(&client(&sim, address, servers_ca)).await;
    let error = untrusted.unwrap_err();
    assert!(matches!(error, Error::Untrusted { .. }), "{error:?}");
    assert!(error.to_string().contains("ca-cert-configmap"), "{error}");
    fetch(&client(&sim, address, squid.ca())).await.unwrap();
    // It has seen inside of the tunnel, where nothing can be read.
    logged(&squid, "/api/rest/sm/v1/get_secret").await;
}
