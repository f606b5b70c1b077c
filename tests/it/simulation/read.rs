//! Drives the [`Reader`] of a process, as `src/cache/cached_lookup.rs` and `store_reads.rs` do with tasks. A read of
//! the store takes time, and a process may stop between any two steps.

use std::time::Duration;

use sophic_auth::cache::{FactsQuery, Fill, LeaseSnapshot, MissAction};
use sophic_auth::model::Facts;

use super::client::Request;
use super::plan::{L, Omission, US};
use super::world::{Address, Event, Message, Reply, Statement, World};

/// A read in flight.
#[derive(Debug)]
pub(super) struct StoreRead {
    fill: Fill,
    waiters: Vec<Request>,
    /// Other requests may not join it, and its result is final.
    unshared: bool,
}

fn facts_query(request: &Request) -> FactsQuery<'_> {
    let (digest, workspace) = &request.key;
    FactsQuery {
        digest,
        workspace: workspace.as_deref(),
        at_least: request.at_least,
        fresh: request.fresh,
    }
}

impl World {
    /// `Service::introspect`: tries memory first.
    pub(super) fn introspect(&mut self, me: Address, request: Request) {
        let process = &self.processes[me.process];
        let snapshot = process.lease.snapshot();
        let Some(facts) = process.reader.unchecked_facts(&facts_query(&request)) else {
            return self.look_up(me, request);
        };
        // Now and then the thread is not scheduled for a long time.
        let longest = if self.rng.in_thousand(5) { 2 * L } else { 20 * US };
        let delay = self.rng.below(longest);
        self.after(delay, Event::At(me, Message::CheckLease(request, facts, snapshot)));
    }

    /// Checks the lease, after memory was read.
    pub(super) fn check_lease(
        &mut self,
        me: Address,
        request: Request,
        facts: &Facts,
        snapshot: LeaseSnapshot,
    ) {
        let process = &self.processes[me.process];
        let later = self.plan.omits(Omission::CheckedAgainstLaterLease);
        let snapshot = if later { process.lease.snapshot() } else { snapshot };
        if process.reader.lease_held_since(snapshot, process.boot(self.now)) {
            self.answer(&request, Some(facts), true);
        } else {
            self.look_up(me, request);
        }
    }

    fn look_up(&mut self, me: Address, request: Request) {
        let anyhow = self.plan.omits(Omission::JoinedWithoutLease);
        let number = self.fresh_number();
        let process = &mut self.processes[me.process];
        let now = if anyhow { Duration::ZERO } else { process.boot(self.now) };
        let mut ticket = number;
        match process.reader.on_miss(&facts_query(&request), now, &mut ticket) {
            MissAction::Join => {
                let read = process.reads.get_mut(&ticket).expect("a read in flight is recorded");
                read.waiters.push(request);
            }
            MissAction::Read(fill) => self.read(me, number, fill, request),
        }
    }

    fn read(&mut self, me: Address, number: u64, fill: Fill, request: Request) {
        let (digest, workspace) = fill.key().clone();
        let unshared = request.fresh || request.is_second_read;
        let read = StoreRead { fill, waiters: vec![request], unshared };
        self.processes[me.process].reads.insert(number, read);
        self.call_as(number, me, Statement::LookUp(digest, workspace));
        // The timeout of the pool or of the statement.
        self.after(3 * L, Event::At(me, Message::Time(number)));
    }

    pub(super) fn landed(&mut self, me: Address, number: u64, reply: Reply) {
        let unchecked = self.plan.omits(Omission::FillUnchecked);
        let process = &mut self.processes[me.process];
        let Some(read) = process.reads.remove(&number) else { return };
        let Reply::LookedUp(facts) = reply else {
            process.reader.discard(&read.fill);
            for request in read.waiters {
                self.answer(&request, None, false);
            }
            return;
        };
        if unchecked {
            let (digest, workspace) = read.fill.key();
            let revision = facts.revision.max(process.mirror.applied());
            let forged = Facts { revision, ..facts.clone() };
            process.mirror.insert(digest, workspace.as_deref(), &forged, process.mirror.resets());
            process.reader.discard(&read.fill);
        } else {
            process.reader.complete(&read.fill, &facts);
        }
        for request in read.waiters {
            let process = &self.processes[me.process];
            if process.reader.suffices(&facts_query(&request), &facts) {
                self.answer(&request, Some(&facts), false);
            } else if read.unshared {
                // RevisionNotReached.
                self.answer(&request, None, false);
            } else {
                let fill = process.reader.unshared_read(&facts_query(&request));
                let number = self.fresh_number();
                let mut request = request;
                request.is_second_read = true;
                self.read(me, number, fill, request);
            }
        }
    }
}
