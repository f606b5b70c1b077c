//! Which host is the primary, and what this process has seen of it. Whatever is seen that cannot be of the primary as this
//! process knows it throws all connections away, and the primary is looked for anew.

use std::fmt;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sqlx::error::DatabaseError;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::watch;

use super::{Result, Session, StoreError, hosts};
use crate::model::Revision;
use crate::store::{Admitted, Floor, Lineage, Place, Refused};

/// How long a farewell may take.
const GRACE: Duration = Duration::from_millis(100);
/// Between two searches that found none.
const SEARCH_PAUSE: Duration = Duration::from_millis(50);
/// How long a connection is waited for before the other hosts are asked whether one of them is the primary.
const LOOK_ELSEWHERE_AFTER: Duration = Duration::from_millis(200);
/// Between two looks at them.
const LOOK_ELSEWHERE_PAUSE: Duration = Duration::from_secs(1);

/// What a statement gave, and where it was answered.
pub(super) struct Seen<T> {
    pub(super) place: Place,
    pub(super) revision: Revision,
    pub(super) what: Result<T>,
}

/// The hosts, and what is known of them.
pub(super) struct Primary {
    hosts: Vec<PgConnectOptions>,
    /// Whether a transaction-mode pooler stands between: nothing then outlives a transaction.
    pub(super) pooled: bool,
    known: Mutex<Known>,
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
            pooled,
            known: Mutex::new(known),
            generation: watch::channel(0).0,
            searching: tokio::sync::Mutex::new(None),
        }
    }

    /// How to connect to it.
    pub(super) fn options(&self) -> PgConnectOptions {
        self.hosts[self.known.lock().target].clone()
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
        self.take(generation, admitted)
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
        error.into()
    }

    /// Behind a pooler each transaction may be on another server: whether this one is on the primary.
    pub(super) async fn ask_behind_pooler(&self, db: &mut Session) -> Result<()> {
        if !self.pooled {
            return Ok(());
        }
        let floor = self.floor();
        let place = hosts::place_of(db.connection(), true).await?;
        let admitted = self.known.lock().lineage.admit_connection(&floor, &place);
        self.take(db.generation, admitted)
    }

    /// Does this unless the connections of this generation are thrown away meanwhile. While it takes long, the other
    /// hosts are asked whether the primary is another.
    pub(super) async fn unless_thrown<T>(
        &self,
        generation: u64,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let thrown = async {
            let mut generations = self.generation.subscribe();
            // The sender lives as long as this.
            let _ = generations.wait_for(|now| *now != generation).await;
        };
        let elsewhere = async {
            if self.hosts.len() > 1 {
                loop {
                    tokio::time::sleep(LOOK_ELSEWHERE_AFTER).await;
                    self.look_elsewhere(generation).await;
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            done = work => Some(done),
            () = thrown => None,
            () = elsewhere => None,
        }
    }

    /// Finds the primary, if it is to be looked for.
    pub(super) async fn find(&self) -> Result<()> {
        let is_lost = || self.known.lock().lost;
        if !is_lost() {
            return Ok(());
        }
        let came = Instant::now();
        let mut last = self.searching.lock().await;
        if !is_lost() {
            return Ok(());
        }
        if let Some(Search { outcome: Err(error), .. }) =
            last.as_ref().filter(|last| last.serves(came, SEARCH_PAUSE))
        {
            return Err(error.clone());
        }
        let begun = Instant::now();
        let outcome = self.search().await.map(|target| {
            let mut known = self.known.lock();
            known.lost = false;
            if target != known.target {
                known.target = target;
                // Pools that were made meanwhile lead to the other host.
                self.generation.send_modify(|now| *now += 1);
            }
        });
        *last = Some(Search { begun, ended: Instant::now(), outcome: outcome.clone() });
        outcome
    }

    /// Throws the connections of this generation away if another host is the primary now.
    pub(super) async fn look_elsewhere(&self, generation: u64) {
        if self.hosts.len() < 2 {
            return;
        }
        let came = Instant::now();
        let mut last = self.searching.lock().await;
        if last.as_ref().is_some_and(|last| last.serves(came, LOOK_ELSEWHERE_PAUSE)) {
            return;
        }
        let begun = Instant::now();
        let outcome = self.search().await.map(|target| {
            if target != self.known.lock().target {
                self.throw(generation, "the primary is another host");
            }
        });
        *last = Some(Search { begun, ended: Instant::now(), outcome });
    }

    /// Asks all hosts; which of them is the primary.
    async fn search(&self) -> Result<usize> {
        let floor = self.floor();
        let mut found = hosts::find(&self.hosts).await?;
        let place = hosts::place_of(&mut found.connection, self.pooled);
        let late = |_| StoreError::Unavailable("it did not answer in time".to_owned());
        let place = tokio::time::timeout(hosts::ACQUIRE_TIMEOUT, place).await.map_err(late)??;
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
        let place = hosts::place_of(connection, self.pooled).await;
        let outcome = place.and_then(|place| {
            let admitted = self.known.lock().lineage.admit_connection(&floor, &place);
            self.take(generation, admitted)
        });
        // sqlx would try again and again; a caller that waits for it is told that it is thrown away.
        outcome.map_err(|error| sqlx::Error::Protocol(error.to_string()))
    }
}

impl Search {
    /// Whether a caller that came at that moment need not begin another.
    fn serves(&self, came: Instant, pause: Duration) -> bool {
        self.begun >= came || self.ended.elapsed() < pause
    }
}
