//! Which host is the primary, and what this process has seen of it. An answer that cannot come from the primary that
//! this process knows discards all connections and starts a search for the primary.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sqlx::error::DatabaseError;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::watch;

use super::primary_timeouts::{
    ANSWER_MARGIN, BACKOFF, DISCARDED_WRITE_GRACE, FEED_PROBE_DELAY, FIRST_ANSWER,
    FIRST_ANSWER_POOLED, OTHER_HOSTS_DELAY, OTHER_HOSTS_PAUSE, REPEAT_WINDOW, SEARCH_CLOSE_TIMEOUT,
    SEARCH_PAUSE, SEARCH_TIMEOUT,
};
use super::reachability::Reachability;
use super::{Result, Session, StoreError, hosts, open};
use crate::model::Revision;
use crate::store::write_health::WriteHealth;
use crate::store::{Admitted, Floor, Lineage, Origin, PERMIT_TIMEOUT, StaleOrigin};

/// Reason for discarding all connections when one of them gets no answer: the others are as old and use the same
/// network path.
pub(super) const UNANSWERED: &str = "a connection does not answer any more";

/// Value returned by a statement, with its origin and the revision there.
pub(super) struct StatementResult<T> {
    pub(super) origin: Origin,
    pub(super) revision: Revision,
    pub(super) value: Result<T>,
}

/// The hosts of the store, and the state of the connections to them.
pub(super) struct Primary {
    /// Hosts, in the order of the URL.
    hosts: Vec<PgConnectOptions>,
    pooled: AtomicBool,
    state: Mutex<State>,
    /// Whether the store is reachable.
    pub(super) reachability: Reachability,
    /// Whether the store accepts writes.
    pub(super) write_health: WriteHealth,
    /// Current pool generation: the number of times that all connections were discarded. Connections of an earlier
    /// generation are not used.
    pool_generation: watch::Sender<u64>,
    /// Locked during a search. One search serves all tasks that wait for it. Holds the last search.
    searching: tokio::sync::Mutex<Option<Search>>,
}

struct State {
    lineage: Lineage,
    /// Index of the last known primary.
    target: usize,
    /// Whether to search for the primary before opening the next connection.
    must_search: bool,
    last_discard: Option<Discard>,
}

/// The last time that all connections were discarded.
struct Discard {
    why: String,
    at: Instant,
    /// Pause of the feed after this discard.
    pause: Duration,
}

/// A finished search.
struct Search {
    started: Instant,
    ended: Instant,
    outcome: Result<()>,
}

/// Omits the hosts, whose options may contain a password.
impl fmt::Debug for Primary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Primary").finish_non_exhaustive()
    }
}

impl Primary {
    /// Starts with the host at index `target` as the primary.
    pub(super) fn new(hosts: Vec<PgConnectOptions>, target: usize, pooled: bool) -> Self {
        let state =
            State { lineage: Lineage::default(), target, must_search: false, last_discard: None };
        Self {
            hosts,
            pooled: AtomicBool::new(pooled),
            state: Mutex::new(state),
            reachability: Reachability::new(),
            write_health: WriteHealth::new(),
            pool_generation: watch::channel(0).0,
            searching: tokio::sync::Mutex::new(None),
        }
    }

    /// Returns the options for connecting to the primary.
    pub(super) fn options(&self) -> PgConnectOptions {
        open::prepare(&self.hosts[self.state.lock().target], self.pooled())
    }

    /// Returns whether there is a transaction-mode pooler. If so, no session state outlives a transaction.
    pub(super) fn pooled(&self) -> bool {
        self.pooled.load(Ordering::Acquire)
    }

    /// Records that an error has revealed a pooler that the URL does not mention. Discards the connections of this
    /// generation, because they rely on session state.
    pub(super) fn notice_pooler(&self, pool_generation: u64) {
        if !self.pooled.swap(true, Ordering::AcqRel) {
            tracing::warn!("{}", open::POOLER_DETECTED);
        }
        self.discard_connections(pool_generation, "there is a pooler in front of Postgres");
    }

    /// Returns the generation of connections opened now.
    pub(super) fn pool_generation(&self) -> u64 {
        *self.pool_generation.borrow()
    }

    /// Returns whether connections of this pool generation have been discarded.
    pub(super) fn is_discarded(&self, pool_generation: u64) -> bool {
        self.pool_generation() != pool_generation
    }

    /// Returns what is known now. Call it before sending a statement.
    pub(super) fn floor(&self) -> Floor {
        self.state.lock().lineage.floor()
    }

    /// Runs a statement whose result decides something. The result counts only if it comes from the primary and is not
    /// behind what was known before the statement was sent.
    pub(super) async fn run_deciding<T>(
        &self,
        pool_generation: u64,
        statement: impl Future<Output = Result<StatementResult<T>>>,
    ) -> Result<T> {
        let floor = self.floor();
        let result = statement.await?;
        self.admit(pool_generation, &floor, &result.origin, result.revision)?;
        result.value
    }

    /// Checks the origin of a statement that was sent on a connection of this pool generation after `floor` was taken.
    pub(super) fn admit(
        &self,
        pool_generation: u64,
        floor: &Floor,
        origin: &Origin,
        revision: Revision,
    ) -> Result<()> {
        let admitted = self.state.lock().lineage.admit(floor, origin, revision);
        self.act_on(pool_generation, admitted)?;
        self.reachability.note_answer();
        Ok(())
    }

    /// Records that `revision` is confirmed: a sync has fetched it, or a commit of this process created it.
    pub(super) fn confirm(&self, origin: &Origin, revision: Revision) {
        if let Origin::Primary(incarnation) = origin {
            self.state.lock().lineage.confirm(incarnation, revision);
        }
    }

    fn act_on(
        &self,
        pool_generation: u64,
        admitted: std::result::Result<Admitted, StaleOrigin>,
    ) -> Result<()> {
        match admitted {
            Ok(Admitted::Unchanged) => Ok(()),
            Ok(Admitted::Moved) => {
                self.discard_connections(pool_generation, "the store began another incarnation");
                Ok(())
            }
            Err(refused) => {
                let text = refused.to_string();
                self.discard_connections(pool_generation, &text);
                Err(StoreError::Unavailable(text))
            }
        }
    }

    /// Discards all connections, unless those of this pool generation already are.
    pub(super) fn discard_connections(&self, pool_generation: u64, why: &str) {
        let mut state = self.state.lock();
        let discarded = self.pool_generation.send_if_modified(|now| {
            let current = *now == pool_generation;
            *now += u64::from(current);
            current
        });
        if !discarded {
            return;
        }
        state.must_search = true;
        let again = state
            .last_discard
            .as_ref()
            .filter(|last| last.why == why && last.at.elapsed() < REPEAT_WINDOW);
        let [first, longest] = BACKOFF;
        let pause = again.map_or(Duration::ZERO, |last| (last.pause * 2).clamp(first, longest));
        if again.is_none() {
            tracing::warn!("all connections to the store are being replaced: {why}");
        } else {
            tracing::debug!("all connections to the store are being replaced again: {why}");
        }
        state.last_discard = Some(Discard { why: why.to_owned(), at: Instant::now(), pause });
    }

    /// Converts the error of a statement. A server that rejects writes is not a primary.
    pub(super) fn classify_error(&self, pool_generation: u64, error: sqlx::Error) -> StoreError {
        self.classify_by_codes(pool_generation, error, &["25006"])
    }

    /// Converts the error of a BEGIN. A standby rejects BEGIN READ WRITE as an unsupported feature.
    pub(super) fn classify_begin_error(
        &self,
        pool_generation: u64,
        error: sqlx::Error,
    ) -> StoreError {
        self.classify_by_codes(pool_generation, error, &["25006", "0A000"])
    }

    fn classify_by_codes(
        &self,
        pool_generation: u64,
        error: sqlx::Error,
        codes: &[&str],
    ) -> StoreError {
        let code = error.as_database_error().and_then(DatabaseError::code);
        if code.is_some_and(|code| codes.contains(&&*code)) {
            let text = "it rejects writes, so it is not the primary";
            self.discard_connections(pool_generation, text);
            return StoreError::Unavailable(text.to_owned());
        }
        let broken = matches!(error, sqlx::Error::Io(_) | sqlx::Error::Tls(_));
        if broken && self.hosts.len() > 1 {
            self.discard_connections(
                pool_generation,
                "a connection broke, and the primary may be another host",
            );
        }
        let error = error.into();
        if let StoreError::Pooler { .. } = error {
            self.notice_pooler(pool_generation);
        }
        error
    }

    /// Checks that the current transaction is on the primary. Behind a pooler each transaction may be on another
    /// server.
    pub(super) async fn check_behind_pooler(&self, db: &mut Session) -> Result<()> {
        if !self.pooled() {
            return Ok(());
        }
        let floor = self.floor();
        let origin = hosts::origin_of(db.connection(), true).await?;
        let admitted = self.state.lock().lineage.admit_connection(&floor, &origin);
        self.act_on(db.pool_generation, admitted)
    }

    /// Waits for a connection, unless this pool generation is discarded in the meantime. If that takes long, asks all
    /// hosts whether one of them is the primary.
    pub(super) async fn unless_discarded<T>(
        &self,
        pool_generation: u64,
        work: impl Future<Output = T>,
    ) -> Result<T> {
        let lost = async {
            loop {
                tokio::time::sleep(OTHER_HOSTS_DELAY).await;
                if let Err(error) = self.shared_search(OTHER_HOSTS_PAUSE).await
                    && !self.reachability.answered_recently()
                {
                    return error;
                }
            }
        };
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = self.discarded(pool_generation) => Err(discarded_error()),
            error = lost => Err(error),
        }
    }

    /// Waits for an answer on a connection of this pool generation, unless it is discarded in the meantime. The server
    /// ends a statement after `limit`. If there is no answer even then, there never will be, and this discards all
    /// connections.
    pub(super) async fn while_current<T>(
        &self,
        pool_generation: u64,
        limit: Option<Duration>,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let silent = async {
            match limit {
                Some(limit) => tokio::time::sleep(limit + ANSWER_MARGIN).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            done = work => done,
            () = self.discarded(pool_generation) => Err(discarded_error()),
            () = silent => {
                self.discard_connections(pool_generation, UNANSWERED);
                Err(timeout_error())
            }
        }
    }

    /// Waits for a write on a connection of this pool generation. If that is discarded, waits at most as long as a
    /// statement may wait for a lock.
    pub(super) async fn bounded_write<T>(
        &self,
        pool_generation: u64,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let lost = async {
            self.discarded(pool_generation).await;
            tokio::time::sleep(DISCARDED_WRITE_GRACE).await;
        };
        tokio::select! {
            biased;
            done = work => done,
            () = lost => Err(discarded_error()),
        }
    }

    /// Waits for the first answer on a connection of this pool generation, and discards all connections if there is
    /// none. A pooler may keep clients waiting, so behind one they are discarded only if a later client is served.
    pub(super) async fn first_answer(
        &self,
        pool_generation: u64,
        work: impl Future<Output = sqlx::Result<()>>,
    ) -> sqlx::Result<()> {
        let (mut work, started) = (std::pin::pin!(work), Instant::now());
        let patience = if self.pooled() { FIRST_ANSWER_POOLED } else { FIRST_ANSWER };
        loop {
            if let Ok(done) = tokio::time::timeout(patience, &mut work).await {
                return done;
            }
            if !self.pooled() || self.shared_search(Duration::ZERO).await.is_ok() {
                self.discard_connections(pool_generation, UNANSWERED);
                return Err(sqlx::Error::PoolClosed);
            }
            if started.elapsed() > PERMIT_TIMEOUT {
                return Err(sqlx::Error::PoolTimedOut);
            }
        }
    }

    async fn discarded(&self, pool_generation: u64) {
        let mut pool_generations = self.pool_generation.subscribe();
        // Ignoring the error is safe: the sender lives as long as `self`.
        let _ = pool_generations.wait_for(|now| *now != pool_generation).await;
    }

    /// Waits for a request of the feed, unless the store turns out to be unreachable.
    pub(super) async fn unless_unreachable<T>(
        &self,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let gone = async {
            loop {
                tokio::time::sleep(FEED_PROBE_DELAY).await;
                if self.probe().await.is_err()
                    && let Err(error) = self.reachability.check()
                {
                    return error;
                }
            }
        };
        tokio::select! {
            biased;
            done = work => done,
            error = gone => Err(error),
        }
    }

    /// Searches for the primary, if a search is due.
    pub(super) async fn ensure_found(&self) -> Result<()> {
        if self.state.lock().must_search { self.shared_search(SEARCH_PAUSE).await } else { Ok(()) }
    }

    /// Waits if all connections have been discarded repeatedly for the same reason. Only for the feed, which probes
    /// whether the reason persists; other requests would be delayed for nothing.
    pub(super) async fn back_off(&self) {
        let left = |last: &Discard| last.pause.saturating_sub(last.at.elapsed());
        let remaining = self.state.lock().last_discard.as_ref().map(left);
        tokio::time::sleep(remaining.unwrap_or_default()).await;
    }

    /// Probes whether the store is reachable. Only for the feed, which probes regularly, and on which all other
    /// requests rely.
    pub(super) async fn probe(&self) -> Result<()> {
        self.reachability.note_probe();
        let outcome = self.shared_search(SEARCH_PAUSE).await;
        self.reachability.note_probe();
        outcome
    }

    /// Searches all hosts for the primary. One search serves all tasks that wait for it, and those that arrive within
    /// `pause` after it.
    async fn shared_search(&self, pause: Duration) -> Result<()> {
        let arrived = Instant::now();
        let mut last = self.searching.lock().await;
        if let Some(last) = last.as_ref().filter(|last| last.serves(arrived, pause)) {
            return last.outcome.clone();
        }
        let (started, pool_generation) = (Instant::now(), self.pool_generation());
        let searched = tokio::time::timeout(SEARCH_TIMEOUT, Box::pin(self.search())).await;
        let outcome = match searched.unwrap_or_else(|_| Err(timeout_error())) {
            Ok(target) => {
                self.set_target(target);
                Ok(())
            }
            Err(error) => {
                if self.reachability.note_failed_search(&error) {
                    self.discard_connections(pool_generation, &error.cause());
                }
                Err(error)
            }
        };
        *last = Some(Search { started, ended: Instant::now(), outcome: outcome.clone() });
        outcome
    }

    /// Records which host is the primary.
    fn set_target(&self, target: usize) {
        let mut state = self.state.lock();
        state.must_search = false;
        if target != state.target {
            state.target = target;
            // Pools created in the meantime lead to the previous host.
            self.pool_generation.send_modify(|now| *now += 1);
            tracing::warn!(
                "all connections to the store are being replaced: the primary is another host"
            );
        }
        self.reachability.note_reachable();
    }

    /// Asks all hosts and returns the index of the primary.
    async fn search(&self) -> Result<usize> {
        let (floor, pooled) = (self.floor(), self.pooled());
        let hosts: Vec<_> = self.hosts.iter().map(|host| open::prepare(host, pooled)).collect();
        let mut found = hosts::find(&hosts).await?;
        let origin = hosts::origin_of(&mut found.connection, pooled).await?;
        let pool_generation = self.pool_generation();
        let admitted = self.state.lock().lineage.admit_connection(&floor, &origin);
        match admitted {
            Ok(Admitted::Unchanged) => {}
            Ok(Admitted::Moved) => {
                self.discard_connections(pool_generation, "the store began another incarnation");
            }
            Err(refused) => return Err(StoreError::Unavailable(refused.to_string())),
        }
        // The connection has served its purpose.
        let _ = tokio::time::timeout(SEARCH_CLOSE_TIMEOUT, found.connection.close()).await;
        Ok(found.host)
    }

    /// Checks the origin of a new connection.
    pub(super) async fn admit_connection(
        &self,
        pool_generation: u64,
        connection: &mut PgConnection,
    ) -> sqlx::Result<()> {
        let floor = self.floor();
        let origin = hosts::origin_of(connection, self.pooled()).await;
        let outcome = origin.and_then(|origin| {
            let admitted = self.state.lock().lineage.admit_connection(&floor, &origin);
            self.act_on(pool_generation, admitted)
        });
        // This error keeps sqlx from retrying. A waiting caller learns that the connections were discarded.
        outcome.map_err(|error| sqlx::Error::Protocol(error.to_string()))
    }
}

/// Error for connections that have been discarded.
pub(super) fn discarded_error() -> StoreError {
    StoreError::Unavailable("its connections are being replaced".to_owned())
}

fn timeout_error() -> StoreError {
    StoreError::Unavailable("it did not answer in time".to_owned())
}

impl Search {
    /// Returns whether the search serves a caller that arrived at this time.
    fn serves(&self, arrived: Instant, pause: Duration) -> bool {
        self.started >= arrived || self.ended.elapsed() < pause
    }
}
