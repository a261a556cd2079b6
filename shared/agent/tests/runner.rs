//! A pod's life in fast frames: what each result means for the application, and what a restart remembers. What becomes of each
//! fault is in `outcomes`.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
#![expect(dead_code, reason = "each test binary uses a part of the support")]

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use keeper_agent::schedule::Grid;
use keeper_agent::wait::WaitError;
use keeper_agent::{Exit, Host as _, Node, Standing, wait};
use keeper_contract::reload::Reload;
use keeper_sim::throttle::Throttle;
use keeper_sim::{Edit, Fault, FaultKind};
use support::virtual_host::VirtualHost;
use support::{Bench, FAST, until};

const VAULT: &str = "records: [{title: Orders, password: first}]";
const OUTPUTS: [&str; 1] = ["Orders[password] -> p"];
const LONG: Duration = Duration::from_secs(15);

/// Runs a pod's sidecar until `done` is.
async fn run_until(bench: &Bench, done: impl Future<Output = ()>) {
    let mut runner = bench.runner();
    tokio::select! {
        ended = runner.run(|_| {}) => panic!("ended: {ended:?}"),
        () = done => {}
    }
    runner.terminated().unwrap();
}

#[tokio::test]
async fn the_first_try_is_at_once_and_the_refreshes_in_slots() {
    let mut bench = Bench::new(VAULT, &OUTPUTS).await;
    bench.config.refresh_interval_seconds = 300;
    let host = VirtualHost::new(&bench.sim, 1);
    let mut runner = bench.runner_on(host.clone(), Grid::STANDARD);
    let script = async {
        host.advance(Duration::ZERO).await;
        assert_eq!(bench.read("p").as_deref(), Some("first"));
        assert_eq!(bench.calls(), 1);
        bench.sim.set("Orders", "password", "second").unwrap();
        host.advance(Duration::from_secs(300)).await;
        assert_eq!(bench.read("p").as_deref(), Some("second"));
        host.advance(Duration::from_secs(23 * 300)).await;
    };
    tokio::select! {
        ended = runner.run(|_| {}) => panic!("ended: {ended:?}"),
        () = script => {}
    }
    // At once, and then one in each of 24 intervals, always at the same place in a frame's first two seconds. The agent's
    // idea of keeper's clock may be wrong by the second that a `Date` doesn't tell.
    let at: Vec<u64> = bench.sim.requests().iter().map(|r| r.at_ms).collect();
    assert_eq!(at.len(), 25, "{at:?}");
    for pair in at[1..].windows(2) {
        assert!((298_000..302_000).contains(&(pair[1] - pair[0])), "{at:?}");
        let in_frame = (pair[1] + 1_000) % 15_000;
        assert!(in_frame < 4_000, "{in_frame} in {at:?}");
    }
    assert_eq!(
        bench.metric("keeper_sidecar_refresh_interval_seconds"),
        300.0
    );
    assert_eq!(bench.metric("keeper_sidecar_stale"), 0.0);
    let state = bench.state();
    assert_eq!(
        (&state["tries"], &state["complete"]),
        (&0.into(), &true.into())
    );
}

#[tokio::test]
async fn an_hour_of_refreshes_without_a_change_leaves_the_state_as_it_is() {
    // Each pod calls at another part of a second, and learns another half of it from the first `Date`.
    for seed in 0..8 {
        let mut bench = Bench::new(VAULT, &OUTPUTS).await;
        bench.config.refresh_interval_seconds = 300;
        let host = VirtualHost::new(&bench.sim, seed);
        let mut runner = bench.runner_on(host.clone(), Grid::STANDARD);
        let file = bench.volume().join("state/state.json");
        let script = async {
            host.advance(Duration::from_secs(300)).await;
            let before = fs::metadata(&file).unwrap().ino();
            host.advance(Duration::from_secs(12 * 300)).await;
            assert_eq!(fs::metadata(&file).unwrap().ino(), before, "seed {seed}");
        };
        tokio::select! {
            ended = runner.run(|_| {}) => panic!("ended: {ended:?}"),
            () = script => {}
        }
        assert!(bench.calls() > 12);
    }
}

#[tokio::test]
async fn the_first_call_of_a_job_s_pod_leaves_a_quiet_frame_its_silence() {
    // The machine starts with a frame that is kept quiet.
    for (is_job, after, at) in [
        (false, 5, 5..6),
        (true, 5, 15..17),
        (true, 1, 1..2),
        (true, 20, 20..21),
    ] {
        let mut bench = Bench::new(VAULT, &OUTPUTS).await;
        bench.config.runs_to_completion = is_job;
        let host = VirtualHost::new(&bench.sim, 1);
        tokio::join!(host.sleep(Duration::from_secs(after)), async {
            host.asleep().await;
            host.end_sleep();
        });
        let mut runner = bench.runner_on(host.clone(), Grid::STANDARD);
        tokio::select! {
            ended = runner.first_fetch(LONG * 2) => ended.unwrap(),
            () = host.advance(LONG * 2) => panic!("not ended"),
        }
        let called = host.uptime().as_secs();
        assert!(at.contains(&called), "{is_job} {after}: {called}");
    }
}

#[tokio::test]
async fn a_throttled_refresh_moves_the_pod_to_another_frame_and_an_outage_does_not() {
    let mut bench = Bench::new(VAULT, &OUTPUTS).await;
    bench.config.refresh_interval_seconds = 300;
    let host = VirtualHost::new(&bench.sim, 1);
    let mut runner = bench.runner_on(host.clone(), Grid::STANDARD);
    let interval = Duration::from_secs(300);
    // The regular frame of the interval, once a failure and its retry are past.
    let frame_after = async |fault: Option<FaultKind>| {
        if let Some(kind) = fault {
            bench.sim.fault(Fault::new(kind).times(1));
        }
        host.advance(interval * 4).await;
        let at = bench.sim.requests().last().unwrap().at_ms;
        (at + 1_000) / 15_000 % 20
    };
    let script = async {
        let own = frame_after(None).await;
        assert_eq!(frame_after(Some(FaultKind::BadGateway)).await, own);
        let throttled = FaultKind::Throttled { retry_after: None };
        let other = frame_after(Some(throttled)).await;
        assert_ne!(other, own);
        assert_eq!(frame_after(None).await, other, "it stays there");
    };
    tokio::select! {
        ended = runner.run(|_| {}) => panic!("ended: {ended:?}"),
        () = script => {}
    }
}

#[tokio::test]
async fn old_generations_are_removed_some_seconds_after_the_swap() {
    let bench = Bench::new(VAULT, &OUTPUTS).await;
    let generations = || {
        let names = fs::read_dir(bench.dir()).unwrap();
        names
            .filter(|e| e.as_ref().unwrap().file_type().unwrap().is_dir())
            .count()
    };
    run_until(&bench, async {
        until("first publication", || bench.read("p").is_some()).await;
        bench.sim.set("Orders", "password", "second").unwrap();
        until("new value", || bench.read("p").as_deref() == Some("second")).await;
        assert_eq!(generations(), 2);
        until("clean-up", || generations() == 1).await;
    })
    .await;
}

#[tokio::test]
async fn the_first_fetch_gives_up_in_the_end() {
    let bench = Bench::new(VAULT, &OUTPUTS).await;
    bench.sim.fault(Fault::new(FaultKind::BadGateway));
    let error = bench
        .runner()
        .first_fetch(Duration::from_secs(1))
        .await
        .unwrap_err();
    assert!(matches!(error, Exit::GaveUp { .. }));
    assert!(
        error.to_string().contains("answered with status 502"),
        "{error}"
    );
    assert!(bench.state()["tries"].as_u64().unwrap() >= 1);
}

#[tokio::test]
async fn retry_after_is_obeyed() {
    let bench = Bench::new(VAULT, &OUTPUTS).await;
    let retry_after = Some(2.into());
    bench
        .sim
        .fault(Fault::new(FaultKind::Throttled { retry_after }).times(1));
    let began = Instant::now();
    bench.runner().first_fetch(LONG).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(2));
    assert_eq!(bench.calls(), 2);
}

/// How far Keeper's clock is ahead of this machine's, as the state has it.
fn keeper_ahead_ms(bench: &Bench) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let booted = i64::try_from((now - Node.uptime()).as_millis()).unwrap();
    let state = bench.state();
    state.pointer("/clock/offsetMs").unwrap().as_i64().unwrap() - booted
}

#[tokio::test]
async fn a_missing_record_ends_the_process_and_the_next_one_waits_for_its_slot() {
    let bench = Bench::new(VAULT, &["Order -> o.json"]).await;
    for tries in 1..=3_u64 {
        // Planned on keeper's clock; in the node's, which is keeper-sim's too, the first try at once.
        let planned = if tries == 1 {
            0
        } else {
            let state = bench.state();
            state["nextCall"].as_i64().unwrap() - keeper_ahead_ms(&bench)
        };
        let error = bench.runner().run(|_| {}).await.unwrap_err();
        let Exit::Permanent(message) = error else {
            panic!("{error}")
        };
        assert!(
            message.contains("`Order`") && message.contains("`Orders`"),
            "{message}"
        );
        let state = bench.state();
        assert_eq!(state["tries"], tries);
        assert_eq!(state["fatal"]["message"], message.as_str());
        assert_eq!(state["complete"], false);
        let called = i64::try_from(bench.sim.requests().last().unwrap().at_ms).unwrap();
        assert!(called >= planned, "{called} {planned}");
    }
    assert_eq!(bench.calls(), 3);
    // As soon as the record is there, the next process finds it.
    bench.sim.set("Orders", "title", "Order").unwrap();
    bench.runner().first_fetch(LONG).await.unwrap();
    assert!(bench.read("o.json").is_some());
}

#[tokio::test]
async fn a_process_that_dies_in_its_first_call_leaves_a_try_behind() {
    let bench = Bench::new(VAULT, &OUTPUTS).await;
    bench.sim.fault(Fault::new(FaultKind::Hang).times(1));
    let mut runner = bench.runner();
    tokio::select! {
        ended = runner.run(|_| {}) => panic!("ended: {ended:?}"),
        () = until("a call", || bench.calls() == 1) => {}
    }
    assert!(matches!(runner.terminated(), Err(Exit::Terminated(_))));
    let state = bench.state();
    assert_eq!(state["tries"], 1);
    assert!(state["nextCall"].is_i64());
    bench.runner().first_fetch(LONG).await.unwrap();
}

#[tokio::test]
async fn where_the_pod_may_start_without_its_secrets_the_first_failure_releases_it() {
    let mut bench = Bench::new(VAULT, &["Orders[password] -> p", "Later[password] -> l"]).await;
    bench.config.fail_on_error = false;
    bench.runner().first_fetch(LONG).await.unwrap();
    assert_eq!(bench.state()["failedOpen"], true);
    wait(&bench.volume(), Duration::ZERO).unwrap();
    assert_eq!(
        bench.read("p").as_deref(),
        Some("first"),
        "what there is, is published"
    );
    run_until(&bench, async {
        let changes = vec![keeper_sim::Change::text("password", "late")];
        let (title, kind, uid, folder) = ("Later".into(), None, None, None);
        bench
            .sim
            .edit(&Edit::Add {
                title,
                kind,
                uid,
                folder,
                changes,
            })
            .unwrap();
        until("late value", || bench.read("l").as_deref() == Some("late")).await;
        until("state", || bench.state()["complete"] == true).await;
    })
    .await;
}

#[tokio::test]
async fn what_init_published_the_sidecar_does_not_fetch_again_at_its_start() {
    let mut bench = Bench::new(VAULT, &OUTPUTS).await;
    bench.config.refresh_interval_seconds = 600;
    bench.runner().first_fetch(LONG).await.unwrap();
    let mut completed = false;
    let mut runner = bench.runner();
    let ended = tokio::time::timeout(
        FAST.frame * 4,
        runner.run(|standing| completed |= standing == Standing::Good),
    )
    .await;
    assert!(ended.is_err() && completed);
    assert_eq!(bench.calls(), 1);
    assert!(bench.metric("keeper_sidecar_last_success_timestamp_seconds") > 1e9);
    // A sandbox that is made anew runs keeper-init again.
    bench.runner().first_fetch(LONG).await.unwrap();
    assert_eq!(bench.calls(), 1);
    // But not if the files are gone.
    fs::remove_file(bench.dir().join("..data")).unwrap();
    bench.runner().first_fetch(LONG).await.unwrap();
    assert_eq!(
        (bench.calls(), bench.read("p").as_deref()),
        (2, Some("first"))
    );
}

#[tokio::test]
async fn what_the_vault_lacks_does_not_put_off_the_retries_of_an_outage() {
    let bench = Bench::new(VAULT, &OUTPUTS).await;
    run_until(&bench, async {
        until("first publication", || bench.read("p").is_some()).await;
        bench
            .sim
            .edit(&Edit::Remove {
                record: "Orders".into(),
            })
            .unwrap();
        until("four answers without the record", || {
            bench.metric("keeper_sidecar_refresh_failures_total{reason=\"not_found\"}") >= 4.0
        })
        .await;
        bench.sim.fault(Fault::new(FaultKind::BadGateway));
        until("an outage", || {
            bench.metric("keeper_sidecar_refresh_failures_total{reason=\"unreachable\"}") >= 1.0
        })
        .await;
        until("its state", || bench.state()["tries"] == 2).await;
    })
    .await;
}

/// Mounts the config of `other`, as the kubelet does it: a rename in the mounted directory.
fn mount_config_of(other: &Bench, bench: &Bench) {
    let auth = bench.root.path().join("auth");
    fs::write(bench.root.path().join("ca.crt"), other.sim.ca_pem()).unwrap();
    fs::write(auth.join("new"), other.sim.device_config().unwrap()).unwrap();
    fs::rename(auth.join("new"), auth.join("config")).unwrap();
}

#[tokio::test]
async fn a_new_config_ends_a_long_wait() {
    let mut bench = Bench::new(VAULT, &OUTPUTS).await;
    bench.config.refresh_interval_seconds = 86_400;
    let other = Bench::new("records: [{title: Orders, password: other}]", &[]).await;
    run_until(&bench, async {
        until("first publication", || bench.read("p").is_some()).await;
        mount_config_of(&other, &bench);
        until("new value", || bench.read("p").as_deref() == Some("other")).await;
    })
    .await;
    assert_eq!(bench.calls(), 1);
}

#[tokio::test]
async fn a_config_that_is_new_since_the_first_call_ends_a_long_wait() {
    let mut bench = Bench::new(VAULT, &OUTPUTS).await;
    bench.config.refresh_interval_seconds = 86_400;
    let other = Bench::new("records: [{title: Orders, password: other}]", &[]).await;
    let mut runner = bench.runner();
    let mut standings = Vec::new();
    tokio::select! {
        ended = runner.run(|standing| {
            standings.push(standing);
            // After the first call, and before anybody waits.
            if standings == [Standing::Pending, Standing::Good] {
                mount_config_of(&other, &bench);
            }
        }) => panic!("ended: {ended:?}"),
        () = until("new value", || bench.read("p").as_deref() == Some("other")) => {}
    }
    assert_eq!(bench.calls(), 1);
}

#[tokio::test]
async fn a_pod_without_outputs_calls_once() {
    let bench = Bench::new(VAULT, &[]).await;
    let mut runner = bench.runner();
    let ended = tokio::time::timeout(Duration::from_millis(2_500), runner.run(|_| {})).await;
    assert!(ended.is_err());
    assert_eq!(bench.calls(), 1);
    assert_eq!(bench.metric("keeper_sidecar_refresh_interval_seconds"), 0.0);
    runner.terminated().unwrap();
}

#[tokio::test]
async fn a_throttled_pod_comes_through_and_learns_keepers_clock() {
    let bench = Bench::new(VAULT, &OUTPUTS).await;
    bench.sim.set_clock_offset_ms(3_600_000);
    bench.sim.set_throttle(Some(Throttle::new(0, 1)));
    let mut runner = bench.runner();
    tokio::select! {
        ended = runner.first_fetch(LONG) => panic!("ended: {ended:?}"),
        () = until("two refusals", || bench.sim.calls().total() == 2) => {}
    }
    let ahead = keeper_ahead_ms(&bench);
    assert!((3_598_900..3_601_100).contains(&ahead), "{ahead}");
    bench.sim.set_throttle(None);
    bench.runner().first_fetch(LONG).await.unwrap();
}

#[tokio::test]
async fn the_hook_waits_for_the_publication_and_no_longer() {
    let bench = Bench::new(VAULT, &OUTPUTS).await;
    let volume = bench.volume();
    let late = wait(&volume, Duration::from_millis(100)).unwrap_err();
    assert!(matches!(late, WaitError::Late(_)), "{late}");
    assert!(matches!(
        wait(&volume.join("none"), LONG),
        Err(WaitError::Volume(..))
    ));

    let hook = std::thread::spawn(move || wait(&volume, LONG));
    assert!(!hook.is_finished());
    bench.runner().first_fetch(LONG).await.unwrap();
    hook.join().unwrap().unwrap();
    wait(&bench.volume(), Duration::ZERO).unwrap();
}

#[tokio::test]
async fn the_hook_hears_of_a_failure_but_not_of_an_old_one() {
    let bench = Bench::new(VAULT, &["None -> n.json"]).await;
    bench.runner().first_fetch(LONG).await.unwrap_err();
    let volume = bench.volume();
    // Failures are dated in milliseconds, and one of the same millisecond counts.
    tokio::time::sleep(Duration::from_millis(2)).await;
    let old = wait(&volume, Duration::from_millis(100)).unwrap_err();
    assert!(
        matches!(old, WaitError::Late(_)),
        "a new process is at work"
    );

    let hook = std::thread::spawn(move || wait(&volume, LONG));
    let began = Instant::now();
    bench.runner().first_fetch(LONG).await.unwrap_err();
    let error = hook.join().unwrap().unwrap_err();
    assert!(error.to_string().contains("no record `None`"), "{error}");
    assert!(began.elapsed() < LONG);
}

/// A server in the pod that counts what it is asked, and answers each with 200.
async fn listener(bench: &mut Bench) -> std::rc::Rc<std::cell::Cell<u32>> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/reload", listener.local_addr().unwrap());
    bench.config.reload = Some(Reload {
        signal: None,
        url: Some(url.parse().unwrap()),
    });
    let told = std::rc::Rc::new(std::cell::Cell::new(0));
    let counter = std::rc::Rc::clone(&told);
    tokio::task::spawn_local(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await.unwrap();
            counter.set(counter.get() + 1);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        }
    });
    told
}

#[tokio::test]
async fn the_application_is_told_of_what_changes_after_its_start() {
    let told_ok = "keeper_sidecar_reloads_total{kind=\"url\",result=\"ok\"}";
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let mut bench = Bench::new(VAULT, &OUTPUTS).await;
            let told = listener(&mut bench).await;
            run_until(&bench, async {
                until("some refreshes", || bench.calls() >= 3).await;
                assert_eq!(told.get(), 0);
                bench.sim.set("Orders", "password", "second").unwrap();
                until("a word", || bench.metric(told_ok) == 1.0).await;
                assert_eq!(bench.read("p").as_deref(), Some("second"));
            })
            .await;
            // A process that ended between the publication and the word: the next one says it.
            bench.sim.set("Orders", "password", "third").unwrap();
            let swapped =
                async { until("third", || bench.read("p").as_deref() == Some("third")).await };
            run_until(&bench, swapped).await;
            assert_eq!(told.get(), 1);
            run_until(
                &bench,
                until("a second word", || bench.metric(told_ok) == 2.0),
            )
            .await;
            // And nothing more to the one after.
            let calls = bench.calls();
            run_until(
                &bench,
                until("some refreshes", || bench.calls() >= calls + 3),
            )
            .await;
            assert_eq!(told.get(), 2);
        })
        .await;
}

#[tokio::test]
async fn a_pod_that_started_without_its_secrets_is_told_of_them() {
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let mut bench = Bench::new(VAULT, &OUTPUTS).await;
            bench.config.fail_on_error = false;
            let told = listener(&mut bench).await;
            bench.sim.fault(Fault::new(FaultKind::BadGateway).times(2));
            run_until(&bench, until("a word", || told.get() == 1)).await;
            assert_eq!(bench.read("p").as_deref(), Some("first"));
        })
        .await;
}
