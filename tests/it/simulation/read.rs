//! Drives the [`Reader`] of a process, as `src/cache/cached.rs` and `flights.rs` do with tasks: a read of the store takes time,
//! and a process may stop between any two steps.

use std::time::Duration;

use sophic_auth::cache::{Fill, Miss, Question, Term};
use sophic_auth::model::Facts;

use super::client::Request;
use super::plan::{Broken, L, US};
use super::world::{Address, Arrival, Event, Query, Reply, World};

/// A read under way.
#[derive(Debug)]
pub(super) struct Flight {
    fill: Fill,
    waiters: Vec<Request>,
    /// Nobody may join it: what it finds is the answer, whatever it is.
    alone: bool,
}

fn question(request: &Request) -> Question<'_> {
    let (digest, workspace) = &request.key;
    Question {
        digest,
        workspace: workspace.as_deref(),
        at_least: request.at_least,
        fresh: request.fresh,
    }
}

impl World {
    /// `Service::introspect`: memory first.
    pub(super) fn introspect(&mut self, me: Address, request: Request) {
        let process = &self.processes[me.process];
        let term = process.lease.term();
        let Some(facts) = process.reader.recall(&question(&request)) else {
            return self.look_up(me, request);
        };
        // Now and then its thread is not given the processor for long.
        let longest = if self.rng.in_thousand(5) { 2 * L } else { 20 * US };
        let moment = self.rng.below(longest);
        self.after(moment, Event::At(me, Arrival::Believe(request, facts, term)));
    }

    /// The rest of it: the lease, after the reading.
    pub(super) fn believe(&mut self, me: Address, request: Request, facts: &Facts, term: Term) {
        let process = &self.processes[me.process];
        let later = self.plan.is(Broken::LaterLease);
        let term = if later { process.lease.term() } else { term };
        if process.reader.may_believe(term, process.boot(self.now)) {
            self.answer(&request, Some(facts), true);
        } else {
            self.look_up(me, request);
        }
    }

    fn look_up(&mut self, me: Address, request: Request) {
        let anyhow = self.plan.is(Broken::JoinedWithoutLease);
        let number = self.fresh_number();
        let process = &mut self.processes[me.process];
        let now = if anyhow { Duration::ZERO } else { process.boot(self.now) };
        let mut ticket = number;
        match process.reader.look_up(&question(&request), now, &mut ticket) {
            Miss::Join => {
                let flight = process.flights.get_mut(&ticket).expect("what is on the board flies");
                flight.waiters.push(request);
            }
            Miss::Read(fill) => self.read(me, number, fill, request),
        }
    }

    fn read(&mut self, me: Address, number: u64, fill: Fill, request: Request) {
        let (digest, workspace) = fill.key().clone();
        let alone = request.fresh || request.again;
        let flight = Flight { fill, waiters: vec![request], alone };
        self.processes[me.process].flights.insert(number, flight);
        self.call_as(number, me, Query::LookUp(digest, workspace));
        // The pool's time limit, or the statement's.
        self.after(3 * L, Event::At(me, Arrival::Time(number)));
    }

    pub(super) fn landed(&mut self, me: Address, number: u64, reply: Reply) {
        let unchecked = self.plan.is(Broken::FillUnchecked);
        let process = &mut self.processes[me.process];
        let Some(flight) = process.flights.remove(&number) else { return };
        let Reply::LookedUp(facts) = reply else {
            process.reader.end(&flight.fill);
            for request in flight.waiters {
                self.answer(&request, None, false);
            }
            return;
        };
        if unchecked {
            let (digest, workspace) = flight.fill.key();
            let revision = facts.revision.max(process.mirror.applied());
            let forged = Facts { revision, ..facts.clone() };
            process.mirror.remember(digest, workspace.as_deref(), &forged, process.mirror.life());
            process.reader.end(&flight.fill);
        } else {
            process.reader.land(&flight.fill, &facts);
        }
        for request in flight.waiters {
            let process = &self.processes[me.process];
            if process.reader.suffices(&question(&request), &facts) {
                self.answer(&request, Some(&facts), false);
            } else if flight.alone {
                // RevisionNotReached.
                self.answer(&request, None, false);
            } else {
                let fill = process.reader.read(&question(&request));
                let number = self.fresh_number();
                let mut request = request;
                request.again = true;
                self.read(me, number, fill, request);
            }
        }
    }
}
