//! What the agent's schedule promises to fleets, each for several seeds.

use keeper_throttle_sim::{Fleet, Policy, Shape};

const MINUTE_MS: i64 = 60_000;

#[test]
fn slots_never_see_a_throttled_call_in_steady_state() {
    for pods in [30, 100, 300, 1_500] {
        for seed in 1..=4 {
            let outcome = Fleet::new(pods, Policy::Slots).run(seed);
            let steady = &outcome.steady;
            // A refresh each five minutes for 23 hours, but for one that the edges of that time may cut.
            let due = u64::from(pods) * 12 * 23;
            assert!(steady.calls.abs_diff(due) <= u64::from(pods), "{steady:?}");
            assert_eq!(steady.throttled, 0, "{pods} pods, seed {seed}");
            assert_eq!(outcome.without, 0, "{pods} pods, seed {seed}");
            assert!(steady.longest_without_ms < 5 * MINUTE_MS + 2_000);
        }
    }
}

/// The model shows the trouble that slots are for; without this, a throttle that never refuses would pass above.
#[test]
fn the_same_pods_without_slots_are_banned() {
    for policy in [Policy::Jitter, Policy::SdkBackOff] {
        let steady = Fleet::new(1_500, policy).run(1).steady;
        assert!(steady.throttled_per_100_000() > 99_000, "{policy:?}");
    }
}

#[test]
fn a_thousand_pods_at_once_have_their_secrets_in_minutes() {
    for (shape, limit) in [(Shape::Classic, 10), (Shape::Native, 25)] {
        for start_within_ms in [1_000, 30_000] {
            for seed in 1..=10 {
                let outcome = Fleet {
                    shape,
                    start_within_ms,
                    minutes: 60,
                    ..Fleet::new(1_000, Policy::Slots)
                }
                .run(seed);
                let last = outcome.first_success_ms.iter().max().unwrap();
                assert_eq!(outcome.without, 0, "{shape:?}, seed {seed}");
                assert!(*last <= limit * MINUTE_MS, "{shape:?}, seed {seed}: {last}");
            }
        }
    }
}

#[test]
fn clocks_that_are_a_minute_off_are_corrected_by_the_first_answer() {
    for seed in 1..=5 {
        let outcome = Fleet {
            clocks_off_ms: MINUTE_MS,
            minutes: 120,
            ..Fleet::new(1_000, Policy::Slots)
        }
        .run(seed);
        assert_eq!((outcome.steady.throttled, outcome.without), (0, 0));
    }
}

/// A new pod each 5 s leaves no ten seconds of silence but those that are kept.
#[test]
fn a_stream_of_jobs_is_never_throttled_and_waits_little() {
    let fleet = |pods, policy| Fleet {
        churn_ms: Some(5_000),
        minutes: 4 * 60,
        ..Fleet::new(pods, policy)
    };
    assert!(
        fleet(30, Policy::Slots)
            .run(1)
            .steady
            .throttled_per_100_000()
            > 99_000
    );
    for pods in [30, 300] {
        for seed in 1..=4 {
            let steady = fleet(pods, Policy::SlotsOfJobs).run(seed).steady;
            assert_eq!(steady.throttled, 0, "{pods} pods, seed {seed}");
            let made = 3 * 3_600 / 5;
            assert!(steady.served.abs_diff(made) <= made / 20, "{steady:?}");
            let mean_ms = steady.waited_ms / i64::try_from(steady.served).unwrap();
            assert!(mean_ms < 2_000, "{mean_ms} ms");
        }
    }
}

#[test]
fn one_seed_gives_one_outcome() {
    let fleet = Fleet {
        churn_ms: Some(5_000),
        minutes: 70,
        ..Fleet::new(100, Policy::SlotsOfJobs)
    };
    assert_eq!(fleet.run(7), fleet.run(7));
    assert_ne!(fleet.run(7), fleet.run(8));
}
