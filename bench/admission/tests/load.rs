//! The load against the floor, over real sockets.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use keeper_admission_bench::{Load, Pace, Target, floor};
use tokio::net::TcpListener;

const NAME: &str = "webhook.test.svc";

/// A floor that lives as long as this process; its address and its certificate.
fn floor() -> (SocketAddr, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new([NAME.to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    let (tell, told) = mpsc::channel();
    let served = certificate.clone();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            floor::serve(listener, served.as_bytes(), key.serialize_pem().as_bytes()).await
        })
    });
    (told.recv().unwrap(), certificate)
}

fn target(address: SocketAddr, certificate: &str, path: &str, body: &str) -> Target {
    Target::new(address, NAME, certificate.as_bytes(), path, body.into()).unwrap()
}

#[test]
fn every_request_is_answered_at_each_pace_on_kept_and_on_fresh_connections() {
    let (address, certificate) = floor();
    for (pace, fresh) in [
        (Pace::Maximum, false),
        (Pace::Maximum, true),
        (Pace::Rate(1000.0), false),
    ] {
        let target = target(address, &certificate, "/mutate", "{}");
        let report = Load::new(target, pace, 100, 4, fresh)
            .unwrap()
            .run()
            .unwrap();
        assert_eq!((report.answered, report.failed), (100, 0), "{report:?}");
        assert!(0.0 < report.p50 && report.p50 <= report.p99 && report.p99 <= report.max);
        if pace != Pace::Maximum {
            assert!(report.seconds >= 0.099, "{report:?}");
        }
    }
}

#[test]
fn a_server_that_is_busy_is_charged_with_what_came_meanwhile() {
    let (address, certificate) = floor();
    // One connection, and requests that are due far faster than it carries them: each waits for those before it.
    let target = target(address, &certificate, "/mutate", "{}");
    let load = Load::new(target, Pace::Rate(1e6), 200, 1, false).unwrap();
    let report = load.run().unwrap();
    assert!(
        Duration::from_secs_f64(report.max / 1e6) > Duration::from_secs_f64(report.seconds / 2.0),
        "{report:?}"
    );
    assert!(report.p50 > report.max / 10.0, "{report:?}");
}

#[test]
fn what_is_no_good_answer_is_no_measurement() {
    let (address, certificate) = floor();
    for (path, body) in [("/mutate", "no JSON"), ("/elsewhere", "{}")] {
        let target = target(address, &certificate, path, body);
        let load = Load::new(target, Pace::Maximum, 10, 1, false).unwrap();
        assert!(load.run().is_err(), "{path} {body}");
    }
}

#[test]
fn only_this_machine_is_asked_and_not_without_end() {
    let (address, certificate) = floor();
    let elsewhere: SocketAddr = "192.0.2.1:443".parse().unwrap();
    assert!(Target::new(elsewhere, NAME, certificate.as_bytes(), "/", Vec::new()).is_err());
    let target = target(address, &certificate, "/mutate", "{}");
    for (pace, requests, connections) in [
        (Pace::Maximum, 1_000_001, 1),
        (Pace::Maximum, 0, 1),
        (Pace::Maximum, 1, 65),
        (Pace::Maximum, 1, 0),
        (Pace::Rate(0.0), 1, 1),
        (Pace::Rate(f64::NAN), 1, 1),
    ] {
        assert!(Load::new(target.clone(), pace, requests, connections, false).is_err());
    }
}
