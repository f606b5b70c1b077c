//! Which host is the primary, and what this process has seen of it. Whatever is seen that cannot be of the primary as this
//! process knows it throws all connections away, and the primary is looked for anew.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sqlx::error::DatabaseError;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::watch;

use super::reachability::Reachability;
use super::{Result, Session, StoreError, hosts, open};
use crate::model::Revision;
use crate::store::write_health::WriteHealth;
use crate::store::{Admitted, Floor, Lineage, Origin, PERMIT_TIMEOUT, StaleOrigin};

/// How long a farewell may take.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(100);
/// Between two searches that found none.
const SEARCH_PAUSE: Duration = Duration::from_millis(50);
/// How long a connection is waited for before the other hosts are asked whether one of them is the primary.
const OTHER_HOSTS_DELAY: Duration = Duration::from_millis(200);
/// Between two looks at them.
const OTHER_HOSTS_PAUSE: Duration = Duration::from_secs(1);
/// How long the feed waits for an answer before the store is asked on a connection of its own whether it is there.
const FEED_PROBE_DELAY: Duration = Duration::from_millis(300);
/// How long a search may take: it is all that stands between a store that is silent and one that counts as away.
const SEARCH_TIMEOUT: Duration = Duration::from_millis(1_500);

/// How long the first answer on a connection is waited for: to a BEGIN, which waits for nothing.
const FIRST_ANSWER: Duration = Duration::from_secs(2);
/// The same behind a pooler, where it waits for a server's connection, until others are asked whether they are served.
const FIRST_ANSWER_POOLED: Duration = Duration::from_secs(3);
/// How much later than the server ends a statement its answer is missed: only a connection whose other end is silent is.
const ANSWER_MARGIN: Duration = Duration::from_millis(500);
/// How long a statement that writes is waited for on a connection that is thrown away.
const DISCARDED_WRITE_GRACE: Duration = Duration::from_secs(3);
/// Why connections are thrown away of which one was found to be silent: the others are as old, and lead the same way.
pub(super) const UNANSWERED: &str = "a connection does not answer any more";
/// What is said of connections that are thrown away again and again for the same reason: once, until it was not so for so long.
const REPEAT_WINDOW: Duration = Duration::from_secs(10);
/// How long the feed waits after the first of these, and the longest that it gets to.
const BACKOFF: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];

/// What a statement gave, and where it was answered.
pub(super) struct StatementResult<T> {
    pub(super) origin: Origin,
    pub(super) revision: Revision,
    pub(super) value: Result<T>,
}

/// The hosts, and what is known of them.
pub(super) struct Primary {
    /// As the URL has them.
    hosts: Vec<PgConnectOptions>,
    pooled: AtomicBool,
    state: Mutex<State>,
    /// Whether it is known to be away.
    pub(super) reachability: Reachability,
    /// Whether it takes writes.
    pub(super) write_health: WriteHealth,
    /// How often all connections were thrown away: those of an earlier generation are not used.
    generation: watch::Sender<u64>,
    /// ConnectionGuard while the primary is looked for: one search serves all who wait.
    searching: tokio::sync::Mutex<Option<Search>>,
}

struct State {
    lineage: Lineage,
    /// The host that is the primary, as far as is known.
    target: usize,
    /// Whether it is to be looked for before the next connection is made.
    must_search: bool,
    last_discard: Option<Discard>,
}

/// When all connections were last thrown away.
struct Discard {
    why: String,
    at: Instant,
    /// How long the feed waits after that.
    pause: Duration,
}

/// A search that is over.
struct Search {
    started: Instant,
    ended: Instant,
    outcome: Result<()>,
}

/// The hosts may hold a password.
impl fmt::Debug for Primary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Primary").finish_non_exhaustive()
    }
}

impl Primary {
    /// Of these hosts this one was found to be the primary.
    pub(super) fn new(hosts: Vec<PgConnectOptions>, target: usize, pooled: bool) -> Self {
        let state =
            State { lineage: Lineage::default(), target, must_search: false, last_discard: None };
        Self {
            hosts,
            pooled: AtomicBool::new(pooled),
            state: Mutex::new(state),
            reachability: Reachability::new(),
            write_health: WriteHealth::new(),
            generation: watch::channel(0).0,
            searching: tokio::sync::Mutex::new(None),
        }
    }

    /// How to connect to it.
    pub(super) fn options(&self) -> PgConnectOptions {
        open::prepare(&self.hosts[self.state.lock().target], self.pooled())
    }

    /// Whether a transaction-mode pooler stands between: nothing then outlives a transaction.
    pub(super) fn pooled(&self) -> bool {
        self.pooled.load(Ordering::Acquire)
    }

    /// Something on a connection of this generation shows that a pooler stands between, of which the URL says nothing:
    /// from now on nothing is expected to outlive a transaction.
    pub(super) fn notice_pooler(&self, generation: u64) {
        if !self.pooled.swap(true, Ordering::AcqRel) {
            tracing::warn!("{}", open::POOLER_DETECTED);
        }
        self.discard_connections(generation, "a pooler stands before Postgres");
    }

    /// What connections that are made now are of.
    pub(super) fn generation(&self) -> u64 {
        *self.generation.borrow()
    }

    /// Whether connections of this generation are thrown away.
    pub(super) fn is_discarded(&self, generation: u64) -> bool {
        self.generation() != generation
    }

    /// What is known now: to be taken before a statement is sent.
    pub(super) fn floor(&self) -> Floor {
        self.state.lock().lineage.floor()
    }

    /// Runs a statement whose result decides something, on a connection of this generation: it counts only if it is the
    /// primary's, and not behind what was known before it was sent.
    pub(super) async fn run_deciding<T>(
        &self,
        generation: u64,
        statement: impl Future<Output = Result<StatementResult<T>>>,
    ) -> Result<T> {
        let floor = self.floor();
        let result = statement.await?;
        self.admit(generation, &floor, &result.origin, result.revision)?;
        result.value
    }

    /// Judges where a statement was answered that was sent on a connection of this generation after `floor` was taken.
    pub(super) fn admit(
        &self,
        generation: u64,
        floor: &Floor,
        origin: &Origin,
        revision: Revision,
    ) -> Result<()> {
        let admitted = self.state.lock().lineage.admit(floor, origin, revision);
        self.act_on(generation, admitted)?;
        self.reachability.note_answer();
        Ok(())
    }

    /// Notes that this is confirmed: a sync has fetched it, or a commit of this process made it.
    pub(super) fn confirm(&self, origin: &Origin, revision: Revision) {
        if let Origin::Primary(incarnation) = origin {
            self.state.lock().lineage.confirm(incarnation, revision);
        }
    }

    fn act_on(
        &self,
        generation: u64,
        admitted: std::result::Result<Admitted, StaleOrigin>,
    ) -> Result<()> {
        match admitted {
            Ok(Admitted::Unchanged) => Ok(()),
            Ok(Admitted::Moved) => {
                self.discard_connections(generation, "the store began another life");
                Ok(())
            }
            Err(refused) => {
                let text = refused.to_string();
                self.discard_connections(generation, &text);
                Err(StoreError::Unavailable(text))
            }
        }
    }

    /// Throws all connections away, unless those of this generation are already.
    pub(super) fn discard_connections(&self, generation: u64, why: &str) {
        let mut state = self.state.lock();
        let discarded = self.generation.send_if_modified(|now| {
            let current = *now == generation;
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
            tracing::warn!("all connections to the store are made anew: {why}");
        } else {
            tracing::debug!("all connections to the store are made anew, again: {why}");
        }
        state.last_discard = Some(Discard { why: why.to_owned(), at: Instant::now(), pause });
    }

    /// What is wrong with a statement on a connection of this generation. A server that takes no writes is no primary.
    pub(super) fn classify_error(&self, generation: u64, error: sqlx::Error) -> StoreError {
        self.classify_by_codes(generation, error, &["25006"])
    }

    /// The same, of the begin of a transaction: a standby refuses even the wish to write in it, as a feature it lacks.
    pub(super) fn classify_begin_error(&self, generation: u64, error: sqlx::Error) -> StoreError {
        self.classify_by_codes(generation, error, &["25006", "0A000"])
    }

    fn classify_by_codes(&self, generation: u64, error: sqlx::Error, codes: &[&str]) -> StoreError {
        let code = error.as_database_error().and_then(DatabaseError::code);
        if code.is_some_and(|code| codes.contains(&&*code)) {
            let text = "it takes no writes: it is no primary";
            self.discard_connections(generation, text);
            return StoreError::Unavailable(text.to_owned());
        }
        let broken = matches!(error, sqlx::Error::Io(_) | sqlx::Error::Tls(_));
        if broken && self.hosts.len() > 1 {
            self.discard_connections(
                generation,
                "a connection broke, and the primary may be another host",
            );
        }
        let error = error.into();
        if let StoreError::Pooler { .. } = error {
            self.notice_pooler(generation);
        }
        error
    }

    /// Behind a pooler each transaction may be on another server: whether this one is on the primary.
    pub(super) async fn check_behind_pooler(&self, db: &mut Session) -> Result<()> {
        if !self.pooled() {
            return Ok(());
        }
        let floor = self.floor();
        let origin = hosts::origin_of(db.connection(), true).await?;
        let admitted = self.state.lock().lineage.admit_connection(&floor, &origin);
        self.act_on(db.generation, admitted)
    }

    /// Waits for a connection, unless those of this generation are thrown away meanwhile. While it takes long, all hosts
    /// are asked whether one of them is the primary.
    pub(super) async fn unless_discarded<T>(
        &self,
        generation: u64,
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
            () = self.discarded(generation) => Err(discarded_error()),
            error = lost => Err(error),
        }
    }

    /// Waits for what is answered on a connection of this generation, unless that is thrown away meanwhile. What the server
    /// ends after `limit` and is not answered then never will be: this throws them away.
    pub(super) async fn while_current<T>(
        &self,
        generation: u64,
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
            () = self.discarded(generation) => Err(discarded_error()),
            () = silent => {
                self.discard_connections(generation, UNANSWERED);
                Err(timeout_error())
            }
        }
    }

    /// Waits for a statement that writes on a connection of this generation. Once that is thrown away, it is not waited for
    /// longer than it may wait for a lock.
    pub(super) async fn bounded_write<T>(
        &self,
        generation: u64,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let lost = async {
            self.discarded(generation).await;
            tokio::time::sleep(DISCARDED_WRITE_GRACE).await;
        };
        tokio::select! {
            biased;
            done = work => done,
            () = lost => Err(discarded_error()),
        }
    }

    /// Waits for the first answer on a connection of this generation. Where it does not come, all are thrown away; behind
    /// a pooler, which lets who comes wait, only if others are served that came later.
    pub(super) async fn first_answer(
        &self,
        generation: u64,
        work: impl Future<Output = sqlx::Result<()>>,
    ) -> sqlx::Result<()> {
        let (mut work, started) = (std::pin::pin!(work), Instant::now());
        let patience = if self.pooled() { FIRST_ANSWER_POOLED } else { FIRST_ANSWER };
        loop {
            if let Ok(done) = tokio::time::timeout(patience, &mut work).await {
                return done;
            }
            if !self.pooled() || self.shared_search(Duration::ZERO).await.is_ok() {
                self.discard_connections(generation, UNANSWERED);
                return Err(sqlx::Error::PoolClosed);
            }
            if started.elapsed() > PERMIT_TIMEOUT {
                return Err(sqlx::Error::PoolTimedOut);
            }
        }
    }

    async fn discarded(&self, generation: u64) {
        let mut generations = self.generation.subscribe();
        // The sender lives as long as this.
        let _ = generations.wait_for(|now| *now != generation).await;
    }

    /// Waits for what the feed asked for, unless the store turns out to be away meanwhile.
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

    /// Finds the primary, if it is to be looked for.
    pub(super) async fn ensure_found(&self) -> Result<()> {
        if self.state.lock().must_search { self.shared_search(SEARCH_PAUSE).await } else { Ok(()) }
    }

    /// Waits, where all connections are thrown away again and again for the same reason. Of the feed only, which finds out
    /// whether it is still so: others would be held up for nothing.
    pub(super) async fn back_off(&self) {
        let left = |last: &Discard| last.pause.saturating_sub(last.at.elapsed());
        let remaining = self.state.lock().last_discard.as_ref().map(left);
        tokio::time::sleep(remaining.unwrap_or_default()).await;
    }

    /// Asks whether it is there. Of the feed only, which asks again and again: others rely on that.
    pub(super) async fn probe(&self) -> Result<()> {
        self.reachability.note_probe();
        let outcome = self.shared_search(SEARCH_PAUSE).await;
        self.reachability.note_probe();
        outcome
    }

    /// Looks for the primary among all hosts. One search serves all who wait for it, and who comes this soon after it.
    async fn shared_search(&self, pause: Duration) -> Result<()> {
        let arrived = Instant::now();
        let mut last = self.searching.lock().await;
        if let Some(last) = last.as_ref().filter(|last| last.serves(arrived, pause)) {
            return last.outcome.clone();
        }
        let (started, generation) = (Instant::now(), self.generation());
        let searched = tokio::time::timeout(SEARCH_TIMEOUT, Box::pin(self.search())).await;
        let outcome = match searched.unwrap_or_else(|_| Err(timeout_error())) {
            Ok(target) => {
                self.set_target(target);
                Ok(())
            }
            Err(error) => {
                if self.reachability.note_failed_search(&error) {
                    self.discard_connections(generation, &error.cause());
                }
                Err(error)
            }
        };
        *last = Some(Search { started, ended: Instant::now(), outcome: outcome.clone() });
        outcome
    }

    /// This host is the primary.
    fn set_target(&self, target: usize) {
        let mut state = self.state.lock();
        state.must_search = false;
        if target != state.target {
            state.target = target;
            // Pools that were made meanwhile lead to the other host.
            self.generation.send_modify(|now| *now += 1);
            tracing::warn!(
                "all connections to the store are made anew: the primary is another host"
            );
        }
        self.reachability.note_reachable();
    }

    /// Asks all hosts; which of them is the primary.
    async fn search(&self) -> Result<usize> {
        let (floor, pooled) = (self.floor(), self.pooled());
        let hosts: Vec<_> = self.hosts.iter().map(|host| open::prepare(host, pooled)).collect();
        let mut found = hosts::find(&hosts).await?;
        let origin = hosts::origin_of(&mut found.connection, pooled).await?;
        let generation = self.generation();
        let admitted = self.state.lock().lineage.admit_connection(&floor, &origin);
        match admitted {
            Ok(Admitted::Unchanged) => {}
            Ok(Admitted::Moved) => {
                self.discard_connections(generation, "the store began another life");
            }
            Err(refused) => return Err(StoreError::Unavailable(refused.to_string())),
        }
        // It has told all that it was made for.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, found.connection.close()).await;
        Ok(found.host)
    }

    /// Whether a connection that was just made is good for anything.
    pub(super) async fn admit_connection(
        &self,
        generation: u64,
        connection: &mut PgConnection,
    ) -> sqlx::Result<()> {
        let floor = self.floor();
        let origin = hosts::origin_of(connection, self.pooled()).await;
        let outcome = origin.and_then(|origin| {
            let admitted = self.state.lock().lineage.admit_connection(&floor, &origin);
            self.act_on(generation, admitted)
        });
        // sqlx would try again and again; a caller that waits for it is told that it is thrown away.
        outcome.map_err(|error| sqlx::Error::Protocol(error.to_string()))
    }
}

/// What to say of connections that are not used any more.
pub(super) fn discarded_error() -> StoreError {
    StoreError::Unavailable("its connections are being made anew".to_owned())
}

fn timeout_error() -> StoreError {
    StoreError::Unavailable("it did not answer in time".to_owned())
}

impl Search {
    /// Whether a caller that came at that moment need not begin another.
    fn serves(&self, arrived: Instant, pause: Duration) -> bool {
        self.started >= arrived || self.ended.elapsed() < pause
    }
}
