//! What a person can ask in the container of a running agent: how the pod stands, and a refresh.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
#![expect(dead_code, reason = "each test binary uses a part of the support")]

mod support;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use keeper_agent::request::{Request, RequestError};
use keeper_agent::status::Status;
use keeper_agent::{Node, Outcome, Pod, Standing};
use keeper_sim::{Fault, FaultKind};
use support::{Bench, FAST, until};

const VAULT: &str = "records: [{title: Orders, password: first}]";
const OUTPUTS: [&str; 2] = ["Orders[password] -> p", "Orders -> a/o.json"];
const LONG: Duration = Duration::from_secs(15);

/// A pod that refreshes once a day, with its secrets published, while `done` runs.
async fn beside_a_runner(bench: &Bench, done: impl Future<Output = ()>) {
    let mut runner = bench.runner();
    tokio::select! {
        ended = runner.run(|_| {}) => panic!("ended: {ended:?}"),
        () = done => {}
    }
}

async fn bench() -> Bench {
    let mut bench = Bench::new(VAULT, &OUTPUTS).await;
    bench.config.refresh_interval_seconds = 86_400;
    bench.runner().first_fetch(LONG).await.unwrap();
    bench
}

/// As another process would do it.
async fn ask(volume: PathBuf) -> (Duration, Result<Outcome, RequestError>) {
    let asking = tokio::task::spawn_blocking(move || {
        let request = Request::make(&volume, LONG).unwrap();
        (request.due_in, request.outcome(Duration::from_secs(5)))
    });
    asking.await.unwrap()
}

fn status(bench: &Bench) -> Status {
    let pod = Pod {
        name: "pod".into(),
        namespace: "default".into(),
        uid: "0b5a3c4e-7a31-4a1c-9d52-0a4d1f4f3b11".into(),
    };
    Status::read(&bench.config, &pod, &bench.volume(), &Node).unwrap()
}

#[tokio::test]
async fn a_refresh_that_is_asked_for_comes_in_the_next_frame() {
    let bench = bench().await;
    beside_a_runner(&bench, async {
        bench.sim.set("Orders", "password", "second").unwrap();
        let (due_in, outcome) = ask(bench.volume()).await;
        assert!(due_in <= FAST.frame * 2, "{due_in:?}");
        let outcome = outcome.unwrap();
        assert_eq!((outcome.changed, outcome.error), (2, None));
        assert_eq!(bench.read("p").as_deref(), Some("second"));
        assert_eq!(bench.calls(), 2);
        // The next one is an answer of its own, and a failure is told.
        bench.sim.fault(Fault::new(FaultKind::BadGateway));
        let (_, outcome) = ask(bench.volume()).await;
        assert!(outcome.unwrap().error.unwrap().contains("502"));
    })
    .await;
    assert!(!bench.volume().join("state/refresh-request").exists());
}

#[tokio::test]
async fn several_requests_are_one_call() {
    let bench = bench().await;
    beside_a_runner(&bench, async {
        let (one, two, three) = tokio::join!(
            ask(bench.volume()),
            ask(bench.volume()),
            ask(bench.volume())
        );
        for (_, outcome) in [one, two, three] {
            assert_eq!(outcome.unwrap().error, None);
        }
    })
    .await;
    assert_eq!(bench.calls(), 2);
}

#[tokio::test]
async fn a_request_is_no_way_around_what_keeper_asked_for() {
    let bench = bench().await;
    beside_a_runner(&bench, async {
        bench.sim.fault(Fault::new(FaultKind::Throttled {
            retry_after: Some(600.into()),
        }));
        let (_, outcome) = ask(bench.volume()).await;
        assert!(outcome.unwrap().error.is_some());
        let calls = bench.calls();
        let (due_in, outcome) = ask(bench.volume()).await;
        assert!(due_in > Duration::from_secs(590), "{due_in:?}");
        assert!(matches!(outcome, Err(RequestError::Late(_))));
        assert_eq!(bench.calls(), calls);
    })
    .await;
    // Nor is a restart of the container.
    beside_a_runner(&bench, async {
        let (due_in, _) = ask(bench.volume()).await;
        assert!(due_in > Duration::from_secs(580), "{due_in:?}");
    })
    .await;
    assert_eq!(bench.calls(), 2);
}

#[tokio::test]
async fn where_nobody_refreshes_the_request_says_so() {
    let empty = Bench::new(VAULT, &OUTPUTS).await;
    let nothing = Request::make(&empty.volume(), Duration::ZERO).unwrap_err();
    assert!(matches!(nothing, RequestError::NothingYet), "{nothing}");
    let bench = bench().await;
    let late = Request::make(&bench.volume(), Duration::ZERO).unwrap_err();
    assert!(matches!(late, RequestError::NotTaken(_)), "{late}");
    // It stays for the next process.
    beside_a_runner(&bench, async {
        until("the refresh", || bench.calls() == 2).await;
    })
    .await;
}

#[tokio::test]
async fn the_status_tells_all_but_the_values() {
    let bench = bench().await;
    let good = status(&bench);
    assert_eq!(good.standing, Standing::Good);
    let paths: Vec<_> = good.outputs.iter().map(|o| o.path.as_str()).collect();
    assert_eq!(paths, ["/keeper/secrets/p", "/keeper/secrets/a/o.json"]);
    for output in &good.outputs {
        assert!(output.published_age_seconds.unwrap() < 60, "{output:?}");
        assert_eq!(output.record_uid.as_ref().unwrap().len(), 22);
    }
    assert!(good.last_success_age_seconds.unwrap() < 60);
    assert!(good.next_call_in_seconds.unwrap() <= 86_400);
    let before = good.outputs.first().unwrap().revision;

    bench.sim.set("Orders", "password", "canary").unwrap();
    beside_a_runner(&bench, async {
        ask(bench.volume()).await.1.unwrap();
    })
    .await;
    let changed = status(&bench);
    assert!(changed.outputs.first().unwrap().revision > before);
    assert!(!format!("{changed:?}").contains("canary"));

    fs::remove_file(bench.dir().join("..data")).unwrap();
    let emptied = status(&bench);
    assert_eq!(emptied.standing, Standing::Pending);
    assert_eq!(emptied.outputs.first().unwrap().published_age_seconds, None);
}

#[tokio::test]
async fn before_the_first_fetch_everything_is_missing() {
    let bench = Bench::new(VAULT, &OUTPUTS).await;
    let status = status(&bench);
    assert_eq!(status.standing, Standing::Pending);
    assert_eq!(status.last_success_age_seconds, None);
    assert_eq!(status.outputs.first().unwrap().record_uid, None);
}

#[tokio::test]
async fn denied_access_is_still_known_after_a_restart() {
    let bench = bench().await;
    let client = bench.sim.clients().first().unwrap().name.clone();
    bench.sim.set_revoked(&client, true).unwrap();
    beside_a_runner(&bench, async {
        let (_, outcome) = ask(bench.volume()).await;
        assert!(outcome.unwrap().error.is_some());
    })
    .await;
    assert_eq!(status(&bench).standing, Standing::Stale);
    let mut runner = bench.runner();
    let mut standing = None;
    let ended = tokio::time::timeout(
        Duration::from_millis(100),
        runner.run(|s| standing = Some(s)),
    )
    .await;
    assert!(ended.is_err());
    assert_eq!(standing, Some(Standing::Stale));
}
