//! Fills the replica's [`KnownDigests`] in the background: at start, and again where the change log could not say what came.
//! Slowly, so that neither the start nor an import is felt by those who ask.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cache::{FilterRebuild, KnownDigests};
use crate::store::{Result, Store};

/// Digests of one page, and the pause after it: ten million take less than a minute.
const PAGE: u32 = 5_000;
const PAUSE: Duration = Duration::from_millis(10);
/// Between two fillings, so that a long import does not keep the store busy; and four times as long as one takes.
const REST: Duration = Duration::from_secs(1);
/// How often the log tells how far a filling has come.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Fills, again and again, until `stop`.
pub(super) async fn keep(store: Arc<dyn Store>, known: Arc<KnownDigests>, stop: CancellationToken) {
    let work = async {
        let mut rebuilt = 0;
        loop {
            known.rebuild_needed(rebuilt).await;
            let begun = Instant::now();
            match rebuild(&*store, &known).await {
                Ok(rebuild) => {
                    let digests = rebuild.digest_count();
                    match known.finish_rebuild(rebuild) {
                        Some(number) => rebuilt = number,
                        // There are more than there was room for: at once with more room.
                        None => continue,
                    }
                    tracing::info!(
                        digests,
                        "all tokens that exist are known: a flood of others limits none of them"
                    );
                }
                Err(error) => {
                    tracing::warn!(%error, "the tokens that exist could not all be read: trying again");
                }
            }
            tokio::time::sleep(REST.max(4 * begun.elapsed())).await;
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
    let mut told = Instant::now();
    loop {
        let page = store.list_digests(after.as_ref(), PAGE).await?;
        rebuild.add(&page);
        after = page.last().copied();
        if page.len() < PAGE as usize {
            return Ok(rebuild);
        }
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            tracing::info!(digests = rebuild.digest_count(), "reading which tokens exist");
        }
        tokio::time::sleep(PAUSE).await;
    }
}
