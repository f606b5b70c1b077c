//! The protocol of DESIGN §6, simulated: thousands of short lives of a store and its replicas, each with faults of its own.
//! `replica`, `cached` and `barrier` here are the loops of their namesakes in `src/cache`, line by line; the steps that
//! they take are the real ones. `docs/protocol.md` has the table of what is found when a safeguard is left out.

mod barrier;
mod cached;
mod checker;
mod client;
mod plan;
mod process;
mod replica;
mod rng;
mod store;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use plan::Broken;
use world::World;

/// Seeds that every run of the tests goes through; `SOPHIC_AUTH_TEST_SEEDS` asks for more.
const SEEDS: u64 = 2_000;

fn seeds() -> u64 {
    std::env::var("SOPHIC_AUTH_TEST_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS)
}

#[test]
fn the_protocol_keeps_its_promise_whatever_the_seed() {
    let (next, answers, remembered, barriers, retries) =
        (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let seeds = seeds();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    let checker = World::new(seed, None)
                        .run()
                        .unwrap_or_else(|violation| panic!("seed {seed}: {violation:?}"));
                    answers.fetch_add(checker.answers, Ordering::Relaxed);
                    remembered.fetch_add(checker.from_memory, Ordering::Relaxed);
                    barriers.fetch_add(checker.barriers, Ordering::Relaxed);
                    retries.fetch_add(checker.retries, Ordering::Relaxed);
                }
            });
        }
    });
    println!(
        "{seeds} seeds in {:?}: {barriers:?} barriers returned, {retries:?} retries, {answers:?} answers, {remembered:?} from memory",
        begun.elapsed(),
    );
}

/// The first seed, of so many, that finds something.
fn first_violation(broken: Broken, seeds: u64) -> Option<(u64, String)> {
    (0..seeds).find_map(|seed| {
        World::new(seed, Some(broken)).run().err().map(|violation| (seed, violation.what))
    })
}

#[test]
fn probe() {
    use Broken::*;
    let all = [
        NoWait, FillUnchecked, DetachedTooLate, NoDetach, JoinedWithoutLease, Heartbeat, DatabaseClock,
        ReadBeforeRegistered, RetryAtOnce, LeaseFromReply, ClockStops, FencedAtOnce, SeenBeforeRead,
        Sequence, EpochIgnored, AcknowledgedInAnotherLife, StoreCounts, SyncsForgotten,
        JudgedByEarlierLook, LeaseOutlivesRow,
    ];
    for broken in all {
        let begun = Instant::now();
        println!("{broken:?}: {:?} in {:?}", first_violation(broken, 300), begun.elapsed());
    }
}
