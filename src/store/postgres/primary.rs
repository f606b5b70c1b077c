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

use super::reach::Reach;
use super::{Result, Session, StoreError, hosts, open};
use crate::model::Revision;
use crate::store::writes::Writes;
use crate::store::{Admitted, Floor, Lineage, Place, Refused};

/// How long a farewell may take.
const GRACE: Duration = Duration::from_millis(100);
/// Between two searches that found none.
const SEARCH_PAUSE: Duration = Duration::from_millis(50);
/// How long a connection is waited for before the other hosts are asked whether one of them is the primary.
const LOOK_ELSEWHERE_AFTER: Duration = Duration::from_millis(200);
/// Between two looks at them.
const LOOK_ELSEWHERE_PAUSE: Duration = Duration::from_secs(1);
/// How long the feed waits for an answer before the store is asked on a connection of its own whether it is there.
const SILENCE: Duration = Duration::from_millis(300);
/// How long a search may take: it is all that stands between a store that is silent and one that counts as away.
const SEARCH_TIMEOUT: Duration = Duration::from_millis(1_500);

/// What a statement gave, and where it was answered.
pub(super) struct Seen<T> {
    pub(super) place: Place,
    pub(super) revision: Revision,
    pub(super) what: Result<T>,
}

/// The hosts, and what is known of them.
pub(super) struct Primary {
    /// As the URL has them.
    hosts: Vec<PgConnectOptions>,
    pooled: AtomicBool,
    known: Mutex<Known>,
    /// Whether it is known to be away.
    pub(super) reach: Reach,
    /// Whether it takes writes.
    pub(super) writes: Writes,
    /// How often all connections were thrown away: those of an earlier generation are not used.
    generation: watch::Sender<u64>,
    /// Held while the primary is looked for: one search serves all who wait.
    searching: tokio::sync::Mutex<Option<Search>>,
}

struct Known {
    lineage: Lineage,
    /// The host that is the primary, as far as is known.
    target: usize,
    /// Whether it is to be looked for before the next connection is made.
    lost: bool,
}

/// A search that is over.
struct Search {
    begun: Instant,
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
        let known = Known { lineage: Lineage::default(), target, lost: false };
        Self {
            hosts,
            pooled: AtomicBool::new(pooled),
            known: Mutex::new(known),
            reach: Reach::new(),
            writes: Writes::new(),
            generation: watch::channel(0).0,
            searching: tokio::sync::Mutex::new(None),
        }
    }

    /// How to connect to it.
    pub(super) fn options(&self) -> PgConnectOptions {
        open::prepare(&self.hosts[self.known.lock().target], self.pooled())
    }

    /// Whether a transaction-mode pooler stands between: nothing then outlives a transaction.
    pub(super) fn pooled(&self) -> bool {
        self.pooled.load(Ordering::Acquire)
    }

    /// Something on a connection of this generation shows that a pooler stands between, of which the URL says nothing:
    /// from now on nothing is expected to outlive a transaction.
    pub(super) fn notice_pooler(&self, generation: u64) {
        if !self.pooled.swap(true, Ordering::AcqRel) {
            tracing::warn!("{}", open::POOLER_NOTICED);
        }
        self.throw(generation, "a pooler stands before Postgres");
    }

    /// What connections that are made now are of.
    pub(super) fn generation(&self) -> u64 {
        *self.generation.borrow()
    }

    /// Whether connections of this generation are thrown away.
    pub(super) fn is_thrown(&self, generation: u64) -> bool {
        self.generation() != generation
    }

    /// What is known now: to be taken before a statement is sent.
    pub(super) fn floor(&self) -> Floor {
        self.known.lock().lineage.floor()
    }

    /// Runs a statement whose result decides something, on a connection of this generation: it counts only if it is the
    /// primary's, and not behind what was known before it was sent.
    pub(super) async fn counted<T>(
        &self,
        generation: u64,
        statement: impl Future<Output = Result<Seen<T>>>,
    ) -> Result<T> {
        let floor = self.floor();
        let seen = statement.await?;
        self.admit(generation, &floor, &seen.place, seen.revision)?;
        seen.what
    }

    /// Judges where a statement was answered that was sent on a connection of this generation after `floor` was taken.
    pub(super) fn admit(
        &self,
        generation: u64,
        floor: &Floor,
        place: &Place,
        revision: Revision,
    ) -> Result<()> {
        let admitted = self.known.lock().lineage.admit(floor, place, revision);
        self.take(generation, admitted)?;
        self.reach.hear();
        Ok(())
    }

    /// Notes that this is confirmed: a sync has fetched it, or a commit of this process made it.
    pub(super) fn confirm(&self, place: &Place, revision: Revision) {
        if let Place::Primary(life) = place {
            self.known.lock().lineage.confirm(life, revision);
        }
    }

    fn take(
        &self,
        generation: u64,
        admitted: std::result::Result<Admitted, Refused>,
    ) -> Result<()> {
        match admitted {
            Ok(Admitted::AsKnown) => Ok(()),
            Ok(Admitted::Moved) => {
                self.throw(generation, "the store began another life");
                Ok(())
            }
            Err(refused) => {
                let text = refused.to_string();
                self.throw(generation, &text);
                Err(StoreError::Unavailable(text))
            }
        }
    }

    /// Throws all connections away, unless those of this generation are already.
    pub(super) fn throw(&self, generation: u64, why: &str) {
        let mut known = self.known.lock();
        let thrown = self.generation.send_if_modified(|now| {
            let current = *now == generation;
            *now += u64::from(current);
            current
        });
        if thrown {
            known.lost = true;
            tracing::warn!("all connections to the store are made anew: {why}");
        }
    }

    /// What is wrong with a statement on a connection of this generation. A server that takes no writes is no primary.
    pub(super) fn judge(&self, generation: u64, error: sqlx::Error) -> StoreError {
        self.judge_by(generation, error, &["25006"])
    }

    /// The same, of the begin of a transaction: a standby refuses even the wish to write in it, as a feature it lacks.
    pub(super) fn judge_begin(&self, generation: u64, error: sqlx::Error) -> StoreError {
        self.judge_by(generation, error, &["25006", "0A000"])
    }

    fn judge_by(&self, generation: u64, error: sqlx::Error, codes: &[&str]) -> StoreError {
        let code = error.as_database_error().and_then(DatabaseError::code);
        if code.is_some_and(|code| codes.contains(&&*code)) {
            let text = "it takes no writes: it is no primary";
            self.throw(generation, text);
            return StoreError::Unavailable(text.to_owned());
        }
        let broken = matches!(error, sqlx::Error::Io(_) | sqlx::Error::Tls(_));
        if broken && self.hosts.len() > 1 {
            self.throw(generation, "a connection broke, and the primary may be another host");
        }
        let error = error.into();
        if let StoreError::Pooler { .. } = error {
            self.notice_pooler(generation);
        }
        error
    }

    /// Behind a pooler each transaction may be on another server: whether this one is on the primary.
    pub(super) async fn ask_behind_pooler(&self, db: &mut Session) -> Result<()> {
        if !self.pooled() {
            return Ok(());
        }
        let floor = self.floor();
        let place = hosts::place_of(db.connection(), true).await?;
        let admitted = self.known.lock().lineage.admit_connection(&floor, &place);
        self.take(db.generation, admitted)
    }

    /// Waits for a connection, unless those of this generation are thrown away meanwhile. While it takes long, all hosts
    /// are asked whether one of them is the primary.
    pub(super) async fn unless_thrown<T>(
        &self,
        generation: u64,
        work: impl Future<Output = T>,
    ) -> Result<T> {
        let lost = async {
            loop {
                tokio::time::sleep(LOOK_ELSEWHERE_AFTER).await;
                if let Err(error) = self.seek(LOOK_ELSEWHERE_PAUSE).await
                    && !self.reach.was_heard_lately()
                {
                    return error;
                }
            }
        };
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = self.thrown(generation) => Err(thrown()),
            error = lost => Err(error),
        }
    }

    /// Waits for what is answered on a connection of this generation, unless that is thrown away meanwhile.
    pub(super) async fn while_kept<T>(
        &self,
        generation: u64,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        tokio::select! {
            biased;
            done = work => done,
            () = self.thrown(generation) => Err(thrown()),
            () = tokio::time::sleep(hosts::ANSWER_TIMEOUT) => Err(late()),
        }
    }

    async fn thrown(&self, generation: u64) {
        let mut generations = self.generation.subscribe();
        // The sender lives as long as this.
        let _ = generations.wait_for(|now| *now != generation).await;
    }

    /// Waits for what the feed asked for, unless the store turns out to be away meanwhile.
    pub(super) async fn unless_gone<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let gone = async {
            loop {
                tokio::time::sleep(SILENCE).await;
                if self.probe().await.is_err()
                    && let Err(error) = self.reach.refuse()
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
    pub(super) async fn find(&self) -> Result<()> {
        if self.known.lock().lost { self.seek(SEARCH_PAUSE).await } else { Ok(()) }
    }

    /// Asks whether it is there. Of the feed only, which asks again and again: others rely on that.
    pub(super) async fn probe(&self) -> Result<()> {
        self.reach.probe();
        let outcome = self.seek(SEARCH_PAUSE).await;
        self.reach.probe();
        outcome
    }

    /// Looks for the primary among all hosts. One search serves all who wait for it, and who comes this soon after it.
    async fn seek(&self, pause: Duration) -> Result<()> {
        let came = Instant::now();
        let mut last = self.searching.lock().await;
        if let Some(last) = last.as_ref().filter(|last| last.serves(came, pause)) {
            return last.outcome.clone();
        }
        let (begun, generation) = (Instant::now(), self.generation());
        let searched = tokio::time::timeout(SEARCH_TIMEOUT, Box::pin(self.search())).await;
        let outcome = match searched.unwrap_or_else(|_| Err(late())) {
            Ok(target) => {
                self.settle_on(target);
                Ok(())
            }
            Err(error) => {
                if self.reach.miss(&error) {
                    self.throw(generation, &error.cause());
                }
                Err(error)
            }
        };
        *last = Some(Search { begun, ended: Instant::now(), outcome: outcome.clone() });
        outcome
    }

    /// This host is the primary.
    fn settle_on(&self, target: usize) {
        let mut known = self.known.lock();
        known.lost = false;
        if target != known.target {
            known.target = target;
            // Pools that were made meanwhile lead to the other host.
            self.generation.send_modify(|now| *now += 1);
            tracing::warn!(
                "all connections to the store are made anew: the primary is another host"
            );
        }
        self.reach.find();
    }

    /// Asks all hosts; which of them is the primary.
    async fn search(&self) -> Result<usize> {
        let (floor, pooled) = (self.floor(), self.pooled());
        let hosts: Vec<_> = self.hosts.iter().map(|host| open::prepare(host, pooled)).collect();
        let mut found = hosts::find(&hosts).await?;
        let place = hosts::place_of(&mut found.connection, pooled).await?;
        let generation = self.generation();
        let admitted = self.known.lock().lineage.admit_connection(&floor, &place);
        match admitted {
            Ok(Admitted::AsKnown) => {}
            Ok(Admitted::Moved) => self.throw(generation, "the store began another life"),
            Err(refused) => return Err(StoreError::Unavailable(refused.to_string())),
        }
        // It has told all that it was made for.
        let _ = tokio::time::timeout(GRACE, found.connection.close()).await;
        Ok(found.host)
    }

    /// Whether a connection that was just made is good for anything.
    pub(super) async fn admit_connection(
        &self,
        generation: u64,
        connection: &mut PgConnection,
    ) -> sqlx::Result<()> {
        let floor = self.floor();
        let place = hosts::place_of(connection, self.pooled()).await;
        let outcome = place.and_then(|place| {
            let admitted = self.known.lock().lineage.admit_connection(&floor, &place);
            self.take(generation, admitted)
        });
        // sqlx would try again and again; a caller that waits for it is told that it is thrown away.
        outcome.map_err(|error| sqlx::Error::Protocol(error.to_string()))
    }
}

/// What to say of connections that are not used any more.
pub(super) fn thrown() -> StoreError {
    StoreError::Unavailable("its connections are being made anew".to_owned())
}

fn late() -> StoreError {
    StoreError::Unavailable("it did not answer in time".to_owned())
}

impl Search {
    /// Whether a caller that came at that moment need not begin another.
    fn serves(&self, came: Instant, pause: Duration) -> bool {
        self.begun >= came || self.ended.elapsed() < pause
    }
}
