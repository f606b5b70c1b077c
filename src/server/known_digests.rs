//! Fills the replica's [`KnownDigests`] in the background, at start and whenever the change log cannot name the new
//! digests. Pauses between pages keep this from slowing down requests.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cache::{FilterRebuild, KnownDigests};
use crate::store::{Result, Store};

/// Digests per page, and the pause after each page. Ten million digests take less than a minute.
const DIGESTS_PER_PAGE: u32 = 5_000;
const PAGE_PAUSE: Duration = Duration::from_millis(10);
/// Shortest pause between two fills, so that a long import does not keep the store busy. The pause is also at least four
/// times as long as the last fill took.
const FILL_PAUSE_MIN: Duration = Duration::from_secs(1);
/// Interval between progress messages in the log.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Fills `known` whenever that is needed, until `stop`.
pub(super) async fn keep_filled(
    store: Arc<dyn Store>,
    known: Arc<KnownDigests>,
    stop: CancellationToken,
) {
    let work = async {
        let mut last = 0;
        loop {
            known.rebuild_needed(last).await;
            let started = Instant::now();
            match rebuild(&*store, &known).await {
                Ok(rebuild) => {
                    let digests = rebuild.digest_count();
                    match known.finish_rebuild(rebuild) {
                        Some(number) => last = number,
                        // More digests exist than were allocated for. Start again at once with more memory.
                        None => continue,
                    }
                    tracing::info!(
                        digests,
                        "the digests of all existing tokens are loaded: a flood of unknown tokens does not limit their look-ups"
                    );
                }
                Err(error) => {
                    tracing::warn!(%error, "could not read the digests of all existing tokens: trying again");
                }
            }
            tokio::time::sleep(FILL_PAUSE_MIN.max(4 * started.elapsed())).await;
        }
    };
    tokio::select! {
        () = work => {}
        () = stop.cancelled() => {}
    }
}

async fn rebuild(store: &dyn Store, known: &KnownDigests) -> Result<FilterRebuild> {
    let mut rebuild = known.begin_rebuild();
    let mut after = None;
    let mut logged = Instant::now();
    loop {
        let page = store.list_digests(after.as_ref(), DIGESTS_PER_PAGE).await?;
        rebuild.add(&page);
        after = page.last().copied();
        if page.len() < DIGESTS_PER_PAGE as usize {
            return Ok(rebuild);
        }
        if logged.elapsed() >= LOG_INTERVAL {
            logged = Instant::now();
            tracing::info!(
                digests = rebuild.digest_count(),
                "reading the digests of existing tokens"
            );
        }
        tokio::time::sleep(PAGE_PAUSE).await;
    }
}
