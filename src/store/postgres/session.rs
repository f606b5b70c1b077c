//! A connection while it is held, with or without a transaction, and how to get one that is alive.
//!
//! Behind a transaction-mode pooler each transaction may be on another server connection. So there reads too are
//! transactions, no statement is prepared by name, and settings are made by `SET LOCAL`.

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::Query;
use sqlx::{Connection as _, PgPool, Postgres, QueryBuilder, Transaction};

use super::{PostgresStore, Result, StoreError};

/// A connection that is held.
pub(super) struct Session {
    held: Held,
    /// Whether statements are prepared by name and kept, which saves a round trip each.
    persistent: bool,
}

enum Held {
    Connection(PoolConnection<Postgres>),
    /// Dropping it rolls back.
    Transaction(Transaction<'static, Postgres>),
}

impl Session {
    /// A statement, to run on [`Self::connection`].
    pub(super) fn query<'q>(&self, sql: &'static str) -> Query<'q, Postgres, PgArguments> {
        sqlx::query(sql).persistent(self.persistent)
    }

    /// The statement that was built.
    pub(super) fn built<'q>(
        &self,
        query: &'q mut QueryBuilder<Postgres>,
    ) -> Query<'q, Postgres, PgArguments> {
        query.build().persistent(self.persistent)
    }

    pub(super) fn connection(&mut self) -> &mut PgConnection {
        match &mut self.held {
            Held::Connection(connection) => connection,
            Held::Transaction(transaction) => transaction,
        }
    }

    /// On a pool of a feed's own. Behind a pooler it is a transaction, which [`Self::commit`] ends.
    pub(super) async fn of_feed(pool: &PgPool, pooled: bool) -> Result<Self> {
        let held = if pooled {
            Held::Transaction(pool.begin_with("BEGIN; SET LOCAL statement_timeout = '5s'").await?)
        } else {
            Held::Connection(pool.acquire().await?)
        };
        Ok(Self { held, persistent: !pooled })
    }

    /// Whether the server no longer answers on it.
    pub(super) async fn is_broken(&mut self) -> bool {
        self.connection().ping().await.is_err()
    }

    /// Commits, if it is a transaction.
    pub(super) async fn commit(self) -> Result<()> {
        match self.held {
            Held::Connection(_) => Ok(()),
            Held::Transaction(transaction) => Ok(transaction.commit().await?),
        }
    }
}

impl PostgresStore {
    /// A session that reads. Its connection may have broken while it was idle.
    pub(super) async fn session(&self) -> Result<Session> {
        let held = if self.pooled {
            Held::Transaction(
                self.read.begin_with("BEGIN READ ONLY; SET LOCAL statement_timeout = '5s'").await?,
            )
        } else {
            Held::Connection(self.read.acquire().await?)
        };
        Ok(Session { held, persistent: !self.pooled })
    }

    /// A session that reads, on a connection that answers. After a restart of the server all that were idle are
    /// broken: each that is found so is dropped, and at last a new one is made.
    pub(super) async fn live_session(&self) -> Result<Session> {
        for _ in 0..self.read.options().get_max_connections() {
            let mut session = self.session().await?;
            if !session.is_broken().await {
                return Ok(session);
            }
        }
        Err(StoreError::Unavailable("its connections keep breaking".to_owned()))
    }

    /// A transaction that writes.
    pub(super) async fn begin_write(&self) -> Result<Session> {
        // No statement_timeout: a COMMIT that it ends under synchronous replication has happened, and says so in a
        // warning only. Waiting for locks is bounded instead, and so is holding them for a process that is gone.
        let transaction = self
            .write
            .begin_with(
                "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
                 SET LOCAL statement_timeout = 0; \
                 SET LOCAL lock_timeout = '2s'; \
                 SET LOCAL idle_in_transaction_session_timeout = '10s'",
            )
            .await?;
        Ok(Session { held: Held::Transaction(transaction), persistent: !self.pooled })
    }
}

/// Runs a read, and runs it once more where its connection turns out to have broken while it was idle.
macro_rules! read {
    ($store:expr, $db:ident => $read:expr) => {{
        let mut session = $store.session().await?;
        let $db = &mut session;
        match $read.await {
            Err(StoreError::Unavailable(_)) if $db.is_broken().await => {
                drop(session);
                let mut session = $store.live_session().await?;
                let $db = &mut session;
                $read.await
            }
            outcome => outcome,
        }
    }};
}

/// The statement with the row lock that is asked for. Keys never change, so the weaker kind of exclusive lock will do:
/// it does not hold up the foreign keys of others.
macro_rules! locked {
    ($lock:expr, $sql:literal) => {
        match $lock {
            Lock::Share => concat!($sql, " FOR SHARE"),
            Lock::Update => concat!($sql, " FOR NO KEY UPDATE"),
        }
    };
}

pub(super) use {locked, read};
