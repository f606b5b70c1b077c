//! How many tokens that nobody knows a caller may have looked up: a flood of made-up ones must not keep the store from
//! those who present real ones. What is in memory is answered all the same. Service tokens that nobody knows are counted
//! by the network address that they come from, since their sender is nobody either; and workspaces where a real token has no
//! role, by that token, since its holder may name whatever they like.
//!
//! What [`Lookup::may_know`](crate::cache::Lookup::may_know) says may be somebody's is no matter of these counts.

use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::cache::ClockMap;
use crate::model::limits::{COUNTED_CALLERS_MAX, COUNTED_PEERS_MAX};
use crate::model::{BootClock, CallerId, Digest};
use crate::service::edge::network;

/// One client of a caller, where its address is known, may have this part of the caller's rate, and so may one credential with
/// the workspaces that it names: so one client who makes things up does not use up what the others have.
const CLIENT_SHARE: u32 = 10;
/// A caller that was quiet may present this much at once.
const BURST: Duration = Duration::from_secs(1);

/// Counts by caller, or by network: the generic cell rate algorithm, on time since boot.
pub struct UnknownRate {
    /// Between two unknown tokens; zero: no limit.
    interval: Duration,
    boot: Arc<dyn BootClock>,
    callers: Counts<CallerId>,
    /// By the network of a caller's client.
    clients: Counts<(CallerId, IpAddr)>,
    networks: Counts<IpAddr>,
    /// By the digest of a token that names workspaces.
    credentials: Counts<Digest>,
}

/// Nanoseconds since boot at which the allowance of each is whole again.
type Counts<K> = ClockMap<(K, Arc<AtomicU64>)>;

impl UnknownRate {
    /// So many a second; 0: no limit.
    pub fn new(per_second: u32, boot: Arc<dyn BootClock>) -> Self {
        let interval = Duration::from_secs(1).checked_div(per_second).unwrap_or_default();
        Self {
            interval,
            boot,
            callers: ClockMap::new(COUNTED_CALLERS_MAX),
            clients: ClockMap::new(COUNTED_PEERS_MAX),
            networks: ClockMap::new(COUNTED_PEERS_MAX),
            credentials: ClockMap::new(COUNTED_PEERS_MAX),
        }
    }

    /// Whether the caller may have something looked up now, for a client at this address, if it says.
    pub fn admits(&self, caller: CallerId, client: Option<IpAddr>) -> bool {
        let of_client = |ip| self.admits_one(&self.clients, &(caller, network(ip)));
        self.admits_one(&self.callers, &caller) && client.is_none_or(of_client)
    }

    /// What the caller had looked up for this client was unknown.
    pub fn count(&self, caller: CallerId, client: Option<IpAddr>) {
        self.count_one(&self.callers, caller, self.interval);
        if let Some(ip) = client {
            let key = (caller, network(ip));
            self.count_one(&self.clients, key, self.share());
        }
    }

    /// Between two of one client, or of one credential: no slower than one a second.
    fn share(&self) -> Duration {
        (self.interval * CLIENT_SHARE).min(BURST).max(self.interval)
    }

    /// Whether the token of this digest may have another workspace looked up now.
    pub fn admits_workspace(&self, token: &Digest) -> bool {
        self.admits_one(&self.credentials, token)
    }

    /// A workspace that this token had looked up is none where it has a role.
    pub fn count_workspace(&self, token: &Digest) {
        self.count_one(&self.credentials, *token, self.share());
    }

    /// Whether a service token from this network may be looked up now.
    pub fn admits_network(&self, network: IpAddr) -> bool {
        self.admits_one(&self.networks, &network)
    }

    /// A service token that this network had looked up was unknown.
    pub fn count_network(&self, network: IpAddr) {
        self.count_one(&self.networks, network, self.interval);
    }

    fn admits_one<K: Hash + Eq>(&self, counts: &Counts<K>, key: &K) -> bool {
        let Some(whole_at) = counts.get(key, shared) else { return true };
        let now = self.boot.since_boot();
        Duration::from_nanos(whole_at.load(Ordering::Relaxed)) <= now + BURST
    }

    fn count_one<K: Hash + Eq>(&self, counts: &Counts<K>, key: K, interval: Duration) {
        if interval.is_zero() {
            return;
        }
        let whole_at = counts.get(&key, shared).unwrap_or_else(|| {
            let new = Arc::new(AtomicU64::new(0));
            counts.insert_if((key, Arc::clone(&new)), || true);
            new
        });
        let now = nanos(self.boot.since_boot());
        let (more, most) = (nanos(interval), now + nanos(2 * BURST));
        // Many may have been let in before any was counted: nobody pays for that for long. The update always gives a value,
        // so it cannot fail.
        let _ = whole_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |at| {
            Some((at.max(now) + more).min(most))
        });
    }
}

fn shared<K>((_, whole_at): &(K, Arc<AtomicU64>)) -> Arc<AtomicU64> {
    Arc::clone(whole_at)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2)
}
