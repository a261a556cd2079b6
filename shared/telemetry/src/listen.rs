//! The ports that a process listens on, whichever of IPv4 and IPv6 its node has.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::TcpListener;

/// Listens at `address`. `[::]` is every address of both kinds; on a node without IPv6, of the one that it has.
///
/// # Errors
/// If that is not possible.
pub async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(_) if address.ip() == Ipv6Addr::UNSPECIFIED => {
            TcpListener::bind((IpAddr::from(Ipv4Addr::UNSPECIFIED), address.port())).await
        }
        listener => listener,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn every_address_is_one_of_both_kinds() {
        let listener = listen("[::]:0".parse().unwrap()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut loopback = vec![IpAddr::from(Ipv4Addr::LOCALHOST)];
        // Not every machine that runs tests has IPv6.
        let ours = IpAddr::from(Ipv6Addr::LOCALHOST);
        if TcpListener::bind((ours, 0)).await.is_ok() {
            loopback.push(ours);
        }
        for address in loopback {
            let _ = TcpStream::connect((address, port)).await.unwrap();
        }
    }

    #[tokio::test]
    async fn one_address_is_that_one() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(address.ip(), IpAddr::from(Ipv4Addr::LOCALHOST));
        assert!(listen(address).await.is_err(), "taken");
        let taken = SocketAddr::from((Ipv6Addr::UNSPECIFIED, address.port()));
        assert!(listen(taken).await.is_err(), "taken");
    }
}
