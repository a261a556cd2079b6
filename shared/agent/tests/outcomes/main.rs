//! Each fault at each moment of a pod's life, against keeper-sim, on a node whose time is skipped: what comes of it is what
//! docs/reference/outcomes.md says.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]
#![expect(dead_code, reason = "each test binary uses a part of the support")]

mod door;
#[path = "../support/mod.rs"]
mod support;
mod table;
mod world;

use std::time::Duration;
use std::{env, fs, iter};

use keeper_agent::wait::WaitError;
use keeper_agent::{Exit, Host as _};
use keeper_sim::{Change, Edit, FaultKind};
use table::{Fault, Outcome, Phase, Row};
use world::{CACHE, FIRST, INTERVAL, Process, SECOND, World};

const FRAME: Duration = Duration::from_secs(15);
const FRAME_MS: i64 = 15_000;
const WINDOW_MS: i64 = 2_000;
/// Until the last retry of all, or the next regular refresh, and a look at the clock.
const LAST_RETRY: Duration = Duration::from_secs(INTERVAL.as_secs() + 8 * 15 + 75);
/// Longest time until values arrive that nothing is in the way of.
const UNHARMED: Duration = Duration::from_secs(INTERVAL.as_secs() + 15);

#[test]
fn the_page_is_up_to_date() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/reference/outcomes.md"
    );
    let want = table::markdown();
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(path, &want).unwrap();
    }
    assert!(
        fs::read_to_string(path).unwrap_or_default() == want,
        "docs/reference/outcomes.md differs from the table; run UPDATE_DOCS=1 cargo test -p keeper-agent --test outcomes"
    );
}

macro_rules! faults {
    ($($test:ident: $fault:ident,)*) => {
        $(
            #[tokio::test]
            async fn $test() {
                through_a_life(Fault::$fault).await;
            }
        )*

        #[test]
        fn every_line_of_the_table_is_tested() {
            let tested = [$(Fault::$fault,)* Fault::ResolverHang, Fault::FullVolume];
            let lines = table::ROWS.iter().map(|row| row.fault);
            for line in lines {
                assert!(tested.contains(&line), "{line:?}");
            }
            assert_eq!(table::ROWS.len(), tested.len());
        }
    };
}

faults! {
    connection_refused: ConnectionRefused,
    dns_failure: DnsFailure,
    hang: Hang,
    reset: Reset,
    truncated: Truncated,
    server_error: ServerError,
    garbage: Garbage,
    truncated_json: TruncatedJson,
    throttled: Throttled,
    too_many_requests: TooManyRequests,
    unknown_server_key: UnknownServerKey,
    revoked: Revoked,
    bad_config: BadConfig,
    missing_record: MissingRecord,
    missing_field: MissingField,
    bad_record: BadRecord,
    bad_bystander: BadBystander,
    bad_download: BadDownload,
    missing_folder: MissingFolder,
    clock_forward: ClockForward,
    clock_back: ClockBack,
}

#[tokio::test]
async fn resolver_hang() {
    in_namespaces_of_its_own("resolver_hang", Fault::ResolverHang).await;
}

#[tokio::test]
async fn full_volume() {
    in_namespaces_of_its_own("full_volume", Fault::FullVolume).await;
}

/// Set in a process that may mount, and has a network to itself, whose DNS server is 127.0.0.1.
const OWN_NAMESPACES: &str = "KEEPER_TEST_OWN_NAMESPACES";

/// Runs the test `name` once more, in a process that owns what the fault needs.
async fn in_namespaces_of_its_own(name: &str, fault: Fault) {
    if env::var_os(OWN_NAMESPACES).is_some() {
        return through_a_life(fault).await;
    }
    // Look-ups outlast a call's deadline, though the test's end waits for the last of them.
    let resolver = tempfile::NamedTempFile::new().unwrap();
    let text = "nameserver 127.0.0.1\noptions timeout:3 attempts:1\n";
    fs::write(&resolver, text).unwrap();
    let script = "ip link set lo up && mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
    let output = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "--net"])
        .args(["sh", "-c", script])
        .arg(resolver.path())
        .arg(env::current_exe().unwrap())
        .args(["--exact", name])
        .env(OWN_NAMESPACES, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{output:?}"
    );
}

/// What wakes a process comes from other threads, at any moment: also in the one in which its sleep is ended. The time of
/// that sleep must not be left over for those after it, which nobody would see then.
#[tokio::test]
async fn a_sleep_that_is_broken_off_leaves_no_time_over() {
    let node = World::new(Fault::BadConfig).await.node;
    let event = tokio::sync::Notify::new();
    let mut process = Box::pin(async {
        tokio::select! {
            biased;
            () = event.notified() => {}
            () = node.sleep(Duration::from_secs(100)) => {}
        }
        node.sleep(Duration::from_secs(10)).await;
    });
    for round in 0..2 {
        tokio::select! {
            biased;
            () = &mut process => panic!("time passed unseen"),
            () = node.asleep() => {}
        }
        if round == 0 {
            node.end_sleep();
            event.notify_one();
        }
    }
    assert_eq!(node.uptime(), Duration::ZERO);
    node.end_sleep();
    process.await;
    assert_eq!(node.uptime(), Duration::from_secs(10));
}

#[tokio::test]
async fn what_keeper_denied_stays_stale_through_an_outage() {
    let mut world = World::new(Fault::Revoked).await;
    let mut sidecar = publish(&mut world).await;
    world.strike().await;
    for reason in ["denied", "unreachable"] {
        world
            .live_on(&mut sidecar, "failure", LAST_RETRY, |world| {
                world.failures(reason) == 1
            })
            .await;
        assert_eq!(world.count("keeper_sidecar_stale"), 1, "{reason}");
        let outage = keeper_sim::Fault::new(FaultKind::BadGateway);
        world.bench.sim.fault(outage);
    }
    // Keeper has let us in since, though it has not answered completely.
    world.edit();
    world.mend().await;
    world
        .bench
        .sim
        .edit(&Edit::Remove {
            record: "Payments".into(),
        })
        .unwrap();
    world
        .live_on(&mut sidecar, "missing record", LAST_RETRY, |world| {
            world.failures("not_found") == 1
        })
        .await;
    assert_eq!(world.count("keeper_sidecar_stale"), 0);
}

/// The clock is put forward by more than `cache`, or back, while Keeper is away: under a process that runs, and between
/// two.
#[tokio::test]
async fn an_outage_is_as_long_as_it_is_whatever_the_clock_shows() {
    for fault in [Fault::ClockForward, Fault::ClockBack] {
        for dies in [false, true] {
            let mut world = World::new(fault).await;
            let mut sidecar = publish(&mut world).await;
            let began = world.node.uptime();
            let outage = keeper_sim::Fault::new(FaultKind::BadGateway);
            world.bench.sim.fault(outage);
            world
                .live_on(&mut sidecar, "failures", 2 * LAST_RETRY, |world| {
                    world.failures("unreachable") == 2
                })
                .await;
            let planned = next_call(&world);
            world.strike().await;
            if dies {
                sidecar = world.sidecar();
            }
            let failures = world.failures("unreachable");
            world
                .live_on(&mut sidecar, "failure", LAST_RETRY, |world| {
                    world.failures("unreachable") > failures
                })
                .await;
            let late = world.node.right_ms() - planned;
            assert!((-1_000..WINDOW_MS).contains(&late), "{fault:?}: {late} ms");
            world
                .live_on(&mut sidecar, "staleness", CACHE + LAST_RETRY, |world| {
                    let age = world.node.uptime().saturating_sub(began);
                    let stale = world.count("keeper_sidecar_stale") == 1;
                    assert!(!stale || age > CACHE, "{fault:?}: stale after {age:?}");
                    stale
                })
                .await;
            let log = world.take_log();
            let cached = log
                .iter()
                .rfind(|line| line["msg"] == "using cached secrets");
            let age = cached.unwrap()["age"].as_str().unwrap();
            assert!(
                age.starts_with("3") && age.contains('m'),
                "{fault:?}: {age}"
            );
        }
    }
}

#[tokio::test]
async fn a_new_process_keeps_to_the_records_of_the_old_one() {
    let mut world = World::new(Fault::MissingRecord).await;
    drop(publish(&mut world).await);
    // Renamed; another one has its title now.
    world.edit();
    let sim = &world.bench.sim;
    sim.set("Payments", "title", "Payments (old)").unwrap();
    let add = Edit::Add {
        title: "Payments".into(),
        kind: None,
        uid: None,
        folder: None,
        changes: vec![Change::text("password", "an-impostor")],
    };
    sim.edit(&add).unwrap();
    let mut sidecar = world.sidecar();
    arrive(&mut world, &mut sidecar).await;
    let log = world.take_log();
    let renamed = "a record was renamed, following it";
    assert!(log.iter().any(|line| line["msg"] == renamed), "{log:?}");
}

async fn through_a_life(fault: Fault) {
    let row = table::row_of(fault);
    for phase in Phase::ALL {
        let mut world = World::new(fault).await;
        match phase {
            Phase::FirstStart => {
                world.edit();
                world.strike().await;
                start(&mut world, row, phase, World::sidecar).await;
            }
            Phase::OpenStart => {
                world.bench.config.fail_on_error = false;
                world.edit();
                world.strike().await;
                start(&mut world, row, phase, World::sidecar).await;
            }
            Phase::SandboxEmpty => {
                publish(&mut world).await;
                world.edit();
                world.strike().await;
                world.empty_the_volume();
                start(&mut world, row, phase, World::init).await;
            }
            Phase::Refresh => {
                let mut sidecar = publish(&mut world).await;
                world.edit();
                world.strike().await;
                refresh(&mut world, row, &mut sidecar).await;
            }
            Phase::Restart => {
                let before = fail_once(&mut world, row).await;
                let sidecar = world.sidecar();
                restart(&mut world, row, sidecar, before).await;
            }
            Phase::SandboxKept => {
                let before = fail_once(&mut world, row).await;
                let calls = world.bench.calls();
                let mut init = world.init();
                let ended = world.live(&mut init, "end of init", FRAME, |_| false).await;
                assert!(matches!(ended, Some(Ok(()))), "{ended:?}");
                assert_eq!(world.bench.calls(), calls, "keeper-init calls nobody");
                let sidecar = world.sidecar();
                restart(&mut world, row, sidecar, before).await;
            }
        }
    }
}

/// Nothing is published, and the fault is there.
async fn start(world: &mut World, row: &Row, phase: Phase, process: fn(&mut World) -> Process) {
    match row.outcome(phase) {
        Outcome::Waits => {
            let mut first = process(world);
            let reason = row.reason.unwrap();
            for tries in 1..=3 {
                world
                    .live_on(&mut first, "failure", LAST_RETRY, |world| {
                        world.failures(reason) == tries
                    })
                    .await;
                assert_eq!(world.files(), [None, None, None]);
                assert!(matches!(world.hook(), Err(WaitError::Late(_))));
                check_failure(world, row);
                check_retry(world, tries);
            }
            assert_eq!(world.count("keeper_sidecar_refresh_errors_total"), 3);
            assert_eq!(
                world.count("keeper_sidecar_fetch_duration_seconds_count"),
                3
            );
            recover_at_start(world, first).await;
        }
        Outcome::Ends => {
            for tries in 1..=2 {
                let planned = (tries > 1).then(|| next_call(world));
                let mut ending = process(world);
                let ended = world.live(&mut ending, "end", LAST_RETRY, |_| false).await;
                let Some(Err(Exit::Permanent(message))) = ended else {
                    panic!("{:?}: {ended:?}", row.fault)
                };
                check_message(row, &message);
                check_failure(world, row);
                assert_eq!(world.failures(row.reason.unwrap()), 1);
                assert_eq!(world.files(), [None, None, None]);
                assert_eq!(world.bench.state()["fatal"]["message"], message.as_str());
                check_retry(world, tries);
                if let Some(planned) = planned {
                    assert!(
                        world.node.right_ms() >= planned - 1_000,
                        "waits for its slot"
                    );
                }
            }
            let last = process(world);
            recover_at_start(world, last).await;
        }
        Outcome::StartsWithout | Outcome::StartsWithTheRest => {
            let rest = row.outcome(phase) == Outcome::StartsWithTheRest;
            let files = [rest.then(|| SECOND[0].to_owned()), None, None];
            let mut first = process(world);
            for tries in 1..=2 {
                world
                    .live_on(&mut first, "failure", LAST_RETRY, |world| {
                        world.failures(row.reason.unwrap()) == tries
                    })
                    .await;
                assert!(world.hook().is_ok(), "the application starts");
                assert_eq!(world.files(), files);
                check_failure(world, row);
                check_retry(world, tries);
                assert_eq!(world.bench.state()["complete"], false);
            }
            world.mend().await;
            world
                .live_on(&mut first, "new values", LAST_RETRY, |world| {
                    world.files() == SECOND.map(|value| Some(value.to_owned()))
                })
                .await;
            check_good(world);
        }
        Outcome::Unharmed => {
            let mut first = process(world);
            let ended = world
                .live(&mut first, "publication", FRAME, |world| {
                    world.hook().is_ok()
                })
                .await;
            assert!(matches!(ended, None | Some(Ok(()))), "{ended:?}");
            assert_eq!(world.files(), SECOND.map(|value| Some(value.to_owned())));
            check_unharmed(world);
        }
        other => unreachable!("no outcome of a start: {other:?}"),
    }
}

async fn recover_at_start(world: &mut World, mut process: Process) {
    world.mend().await;
    let ended = world
        .live(&mut process, "publication", LAST_RETRY, |world| {
            world.hook().is_ok()
        })
        .await;
    assert!(matches!(ended, None | Some(Ok(()))), "{ended:?}");
    assert_eq!(world.files(), SECOND.map(|value| Some(value.to_owned())));
    check_good(world);
    world.take_log();
}

/// Everything is published, and the fault is there.
async fn refresh(world: &mut World, row: &Row, sidecar: &mut Process) {
    let outcome = row.outcome(Phase::Refresh);
    let Some(reason) = row.reason else {
        return arrive(world, sidecar).await;
    };
    let published = fs::read_link(world.bench.dir().join("..data")).unwrap();
    for tries in 1..=3 {
        world
            .live_on(sidecar, "failure", LAST_RETRY, |world| {
                world.failures(reason) == tries
            })
            .await;
        check_kept(world, row);
        check_failure(world, row);
        assert_eq!(
            world.count("keeper_sidecar_stale"),
            u32::from(outcome == Outcome::KeepsAllStale)
        );
        assert_eq!(world.bench.state()["tries"], tries_after(outcome, tries));
        match outcome {
            Outcome::KeepsAll | Outcome::KeepsAllStale => check_retry(world, tries),
            _ => check_regular(world),
        }
    }
    assert_eq!(world.count("keeper_sidecar_refresh_errors_total"), 3);
    world
        .live_on(sidecar, "staleness", CACHE + LAST_RETRY, |world| {
            world.count("keeper_sidecar_stale") == 1
        })
        .await;
    if outcome != Outcome::KeepsAllStale {
        let success = world
            .bench
            .metric("keeper_sidecar_last_success_timestamp_seconds");
        let age = f64::from(i32::try_from(world.node.right_ms() / 1_000 - 1_700_000_000).unwrap())
            - (success - 1_700_000_000.0);
        assert!(age >= CACHE.as_secs_f64(), "{age}");
    }
    check_kept(world, row);
    if outcome != Outcome::KeepsThatRecord {
        let now = fs::read_link(world.bench.dir().join("..data")).unwrap();
        assert_eq!(now, published, "not touched");
    }
    recover(world, sidecar).await;
}

/// A new process on the volume of one that has seen the fault once.
async fn restart(world: &mut World, row: &Row, mut sidecar: Process, before: Before) {
    world.live_on(&mut sidecar, "sleep", FRAME, |_| true).await;
    assert_eq!(world.bench.calls(), before.calls, "no call at the start");
    assert!(world.hook().is_ok(), "the application is not held back");
    let outcome = row.outcome(Phase::Restart);
    let Some(reason) = row.reason else {
        return arrive(world, &mut sidecar).await;
    };
    check_kept(world, row);
    assert_eq!(
        world.count("keeper_sidecar_stale"),
        u32::from(outcome == Outcome::KeepsAllStale),
        "as before"
    );
    let planned = before.next_call.unwrap();
    assert_eq!(next_call(world), planned);
    assert_eq!(world.bench.state()["tries"], 1);
    world
        .live_on(&mut sidecar, "failure", LAST_RETRY, |world| {
            world.failures(reason) == 1
        })
        .await;
    if !world.config_changes() {
        assert!(world.node.right_ms() >= planned - 1_000, "in its slot");
    }
    assert_eq!(world.bench.state()["tries"], tries_after(outcome, 2));
    check_kept(world, row);
    check_failure(world, row);
    recover(world, &mut sidecar).await;
}

/// What a process left behind.
struct Before {
    calls: u64,
    next_call: Option<i64>,
}

/// A pod with everything published, whose sidecar has died after it met the fault.
async fn fail_once(world: &mut World, row: &Row) -> Before {
    let mut sidecar = publish(world).await;
    world.edit();
    world.strike().await;
    if let Some(reason) = row.reason {
        world
            .live_on(&mut sidecar, "failure", LAST_RETRY, |world| {
                world.failures(reason) == 1
            })
            .await;
        check_failure(world, row);
    }
    Before {
        calls: world.bench.calls(),
        next_call: row.reason.map(|_| next_call(world)),
    }
}

/// A running sidecar that has published the first values.
async fn publish(world: &mut World) -> Process {
    let mut sidecar = world.sidecar();
    world
        .live_on(&mut sidecar, "publication", FRAME, |world| {
            world.hook().is_ok()
        })
        .await;
    assert_eq!(world.files(), FIRST.map(|value| Some(value.to_owned())));
    check_good(world);
    world.take_log();
    sidecar
}

/// The fault is over, and the new values come.
async fn recover(world: &mut World, sidecar: &mut Process) {
    world.mend().await;
    world
        .live_on(sidecar, "new values", LAST_RETRY, |world| {
            world.files() == SECOND.map(|value| Some(value.to_owned()))
                && world.bench.state()["tries"] == 0
        })
        .await;
    check_good(world);
    let log = world.take_log();
    assert!(log.iter().any(|line| line["msg"] == "secrets updated"));
}

/// The new values come although there is a fault.
async fn arrive(world: &mut World, sidecar: &mut Process) {
    world
        .live_on(sidecar, "new values", UNHARMED, |world| {
            world.files() == SECOND.map(|value| Some(value.to_owned()))
        })
        .await;
    check_unharmed(world);
    // Nor does the calls' schedule suffer.
    let calls = world.bench.calls();
    world
        .live_on(sidecar, "two more calls", 2 * INTERVAL + FRAME, |world| {
            world.bench.calls() >= calls + 2
        })
        .await;
    check_unharmed(world);
    let at = world.bench.sim.requests().last().unwrap().at_ms % 15_000;
    assert!(i64::try_from(at).unwrap() < WINDOW_MS, "{at}");
}

fn check_unharmed(world: &World) {
    assert_eq!(world.count("keeper_sidecar_refresh_errors_total"), 0);
    check_good(world);
}

fn check_good(world: &World) {
    assert_eq!(world.count("keeper_sidecar_stale"), 0);
    let state = world.bench.state();
    assert_eq!(
        (&state["tries"], &state["complete"]),
        (&0.into(), &true.into())
    );
}

/// The files while the fault lasts.
fn check_kept(world: &World, row: &Row) {
    let orders = match row.outcome(Phase::Refresh) {
        Outcome::KeepsThatRecord => SECOND[0],
        _ => FIRST[0],
    };
    let kept = [orders, FIRST[1], FIRST[2]];
    assert_eq!(world.files(), kept.map(|value| Some(value.to_owned())));
}

/// The documented log lines since the last look.
fn check_failure(world: &World, row: &Row) {
    let log = world.take_log();
    let find = |message: &str| log.iter().find(|line| line["msg"] == message);
    let failed = find("failed to fetch secrets").unwrap_or_else(|| panic!("{log:?}"));
    assert_eq!(failed["level"], "error");
    check_message(row, failed["error"].as_str().unwrap());
    let published = world.bench.state()["complete"] == true;
    let cached = find("using cached secrets");
    assert_eq!(cached.is_some(), published, "{log:?}");
    if let Some(cached) = cached {
        assert_eq!(cached["level"], "warn");
        assert_eq!(cached["reason"], row.reason.unwrap());
        assert!(cached["age"].is_string(), "{cached}");
    }
}

fn check_message(row: &Row, message: &str) {
    let mut rest = message;
    for part in row.says {
        let (_, after) = rest
            .split_once(part)
            .unwrap_or_else(|| panic!("{:?}: no `{part}` in: {message}", row.fault));
        rest = after;
    }
    for value in iter::chain(FIRST, SECOND) {
        assert!(!message.contains(value), "{message}");
    }
}

fn next_call(world: &World) -> i64 {
    world.bench.state()["nextCall"].as_i64().unwrap()
}

/// Tries in the state after so many failures in a row: an answer of Keeper, whatever it lacks, begins them anew.
fn tries_after(outcome: Outcome, failures: u32) -> u32 {
    match outcome {
        Outcome::KeepsAll | Outcome::KeepsAllStale => failures,
        _ => 1,
    }
}

/// The next call stands in the state, in a window, and in one of the frames that belong to this try.
fn check_retry(world: &World, tries: u32) {
    let frames = 1 << (tries - 1).min(3);
    let after = world.retry_after();
    let ahead = check_slot(world);
    let longest = after + FRAME * (frames + 1);
    assert!(
        ahead >= i64::try_from(after.as_millis()).unwrap() - 1_000
            && ahead <= i64::try_from(longest.as_millis()).unwrap(),
        "try {tries}: {ahead} ms ahead"
    );
}

/// The next call is the regular one, or, for a record that is missing, in the next frame.
fn check_regular(world: &World) {
    let ahead = check_slot(world);
    let longest = i64::try_from((INTERVAL + FRAME).as_millis()).unwrap();
    assert!((0..=longest).contains(&ahead), "{ahead} ms ahead");
}

/// How far the next call is ahead, in milliseconds.
fn check_slot(world: &World) -> i64 {
    let next = next_call(world);
    assert!(next.rem_euclid(FRAME_MS) < WINDOW_MS, "{next}");
    next - world.node.right_ms()
}
