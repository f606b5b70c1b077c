//! The state of the service, for people and monitors: its replicas, this server, and what the store contains.

use std::time::Duration;

use tokio::sync::Mutex;

use super::page::Cursor;
use super::{Page, PageRequest, Result, Service, Violations};
use crate::cache::BarrierStatus;
use crate::model::limits::{COUNT_INTERVAL, COUNT_MAX, EXPIRING_WITHIN_MAX};
use crate::model::{Credential, CredentialKind, CredentialState, ReplicaId, Revision, Timestamp};
use crate::store::{
    CredentialFilter, CredentialOrder, EntityCounts, ReplicaDetails, StoreKind, VERSION, host_name,
};

/// Time within which credentials expire that a request counts, unless it names another.
pub const EXPIRING_WITHIN_DEFAULT: Duration = Duration::from_hours(7 * 24);
/// Number of credentials that are listed of those that expire soon.
const EXPIRING_LISTED: u32 = 10;

/// Whether a replica runs, by the clock of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaState {
    /// It has synced within its lease.
    Active,
    /// It has not, and was not given up yet.
    Stalled,
    /// It has stopped or was given up.
    Ended,
}

impl ReplicaState {
    /// Returns its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Stalled => "stalled",
            Self::Ended => "ended",
        }
    }

    /// Returns the state of this replica when its row was read.
    pub fn of(replica: &ReplicaDetails) -> Self {
        match replica.end_time {
            Some(_) => Self::Ended,
            None if replica.is_in_time() => Self::Active,
            None => Self::Stalled,
        }
    }
}

/// A number of entities. Counting stops at a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// The number.
    pub count: u64,
    /// Whether there may be more.
    pub at_least: bool,
}

impl Count {
    /// Returns the count of rows of which this many were read.
    fn of(count: u64, read: u64) -> Self {
        Self { count, at_least: read >= u64::from(COUNT_MAX) }
    }
}

/// The numbers of entities at one time.
#[derive(Debug, Clone)]
pub struct Counts {
    /// When they were counted.
    pub time: Timestamp,
    /// Credentials of each kind and state, including zeros.
    pub credentials: Vec<(CredentialKind, CredentialState, Count)>,
    /// Workspaces that are not deleted.
    pub workspaces: Count,
    /// Users that are not deleted.
    pub users: Count,
    /// Callers that are not revoked.
    pub callers: Count,
}

impl Counts {
    fn new(time: Timestamp, counts: &EntityCounts) -> Self {
        let read = counts.credentials.iter().map(|(.., count)| count).sum();
        let states = [
            CredentialState::Active,
            CredentialState::Disabled,
            CredentialState::Expired,
            CredentialState::Revoked,
        ];
        let all =
            CredentialKind::ALL.into_iter().flat_map(|kind| states.map(|state| (kind, state)));
        let number = |kind, state| {
            let of = |found: &&(CredentialKind, CredentialState, u64)| {
                (found.0, found.1) == (kind, state)
            };
            counts.credentials.iter().find(of).map_or(0, |(.., count)| *count)
        };
        Self {
            time,
            credentials: all
                .map(|(kind, state)| (kind, state, Count::of(number(kind, state), read)))
                .collect(),
            workspaces: Count::of(counts.workspaces, counts.workspaces),
            users: Count::of(counts.users, counts.users),
            callers: Count::of(counts.callers, counts.callers),
        }
    }
}

/// The last counts of this process. Its lock lets one call count at a time.
#[derive(Default)]
pub(super) struct LastCounts(Mutex<Option<Counts>>);

/// The state of this server, and what the store contains.
#[derive(Debug, Clone)]
pub struct Status {
    /// Host name of this machine.
    pub host: String,
    /// Release of this program.
    pub version: &'static str,
    /// Kind of the store.
    pub store_kind: StoreKind,
    /// Newest revision in the store.
    pub revision: Revision,
    /// Revision that memory reflects. 0 without memory.
    pub applied: Revision,
    /// Whether memory is valid.
    pub answers_from_memory: bool,
    /// The calls of this process that wait for replicas.
    pub barrier_wait: Option<BarrierStatus>,
    /// The numbers of entities, at most [`COUNT_INTERVAL`] old.
    pub counts: Counts,
    /// Number of credentials that expire soon and are not revoked.
    pub expiring: Count,
    /// The first of them, soonest first.
    pub expiring_credentials: Vec<Credential>,
}

impl Service {
    /// Returns a page of replicas, oldest first, including those that ended lately.
    pub async fn list_replicas(&self, page: &PageRequest) -> Result<Page<ReplicaDetails>> {
        let cursor = Cursor::new(page, "replicas".to_owned())?;
        let after = cursor.after.as_deref().and_then(|id| ReplicaId::parse(id).ok());
        let replicas = self.store.list_replica_details(after, cursor.fetch).await?;
        Ok(cursor.page(replicas, |replica| replica.id.to_string()))
    }

    /// Returns the state of this server and the store. `expiring_within` selects the credentials that expire soon.
    ///
    /// # Errors
    /// [`Reason::ArgumentInvalid`](super::Reason::ArgumentInvalid) if that time is too long.
    pub async fn status(&self, expiring_within: Option<Duration>) -> Result<Status> {
        let within = expiring_within.unwrap_or(EXPIRING_WITHIN_DEFAULT);
        let mut violations = Violations::default();
        if within > EXPIRING_WITHIN_MAX {
            violations.add("expiring_within", "must be at most 366 days");
        }
        violations.finish()?;
        let counts = self.counts().await?;
        let now = self.clock.now();
        let until = now.saturating_add(within);
        let expiring = self.store.count_expiring(now, until, COUNT_MAX).await?;
        let expiring_credentials = self.first_expiring(now, until).await?;
        // The newest revision first: memory is then never ahead of it, except by what was committed in between.
        let revision = self.store.revision().await?;
        Ok(Status {
            host: host_name(),
            version: VERSION,
            store_kind: self.store.kind(),
            revision,
            applied: self.lookup.revision(),
            answers_from_memory: self.lookup.is_current(),
            barrier_wait: self.waiting(),
            counts,
            expiring: Count::of(expiring.count, expiring.read),
            expiring_credentials,
        })
    }

    /// Returns the numbers of entities. Counts at most once in [`COUNT_INTERVAL`], and one call at a time.
    async fn counts(&self) -> Result<Counts> {
        let mut last = self.last_counts.0.lock().await;
        let now = self.clock.now();
        let is_new = |counts: &&Counts| {
            counts.time <= now && now < counts.time.saturating_add(COUNT_INTERVAL)
        };
        if let Some(counts) = last.as_ref().filter(is_new) {
            return Ok(counts.clone());
        }
        let counts = Counts::new(now, &self.store.count_entities(now, COUNT_MAX).await?);
        Ok(last.insert(counts).clone())
    }

    async fn first_expiring(&self, now: Timestamp, until: Timestamp) -> Result<Vec<Credential>> {
        let filter = CredentialFilter {
            expires_before: Some(until),
            order: CredentialOrder::ExpireTime,
            ..CredentialFilter::default()
        };
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            // A page is short if many rows in between do not match.
            let page = self.store.list_credentials(&filter, now, after, EXPIRING_LISTED).await?;
            found.extend(page.credentials);
            after = page.resume;
            if after.is_none() || found.len() >= EXPIRING_LISTED as usize {
                found.truncate(EXPIRING_LISTED as usize);
                return Ok(found);
            }
        }
    }
}
