//! After a failover: connections that lead to the server that was the primary before, and what the real [`Lineage`] makes of
//! what comes from there.

use sophic_auth::store::{Origin, StaleOrigin};

use super::plan::Broken;
use super::world::{Address, Query, Reply, World};

impl World {
    /// Every connection of a process is made anew, and leads where the address does by then.
    pub(super) fn reconnect(&mut self, process: usize) {
        let demoted = self.demoted.is_some();
        for pool in 0..3 {
            self.processes[process].astray[pool] = demoted && self.rng.in_thousand(500);
        }
    }

    pub(super) fn is_astray(&self, from: Address, query: &Query) -> bool {
        self.demoted.is_some() && self.processes[from.process].astray[query.pool() as usize]
    }

    /// A standby that lags: it answers what reads, and refuses what writes.
    pub(super) fn serve_astray(&mut self, from: Address, call: u64, query: Query) {
        let wall = self.wall();
        let Some(standby) = &self.demoted else { return };
        let reply = match query {
            Query::LookUp(digest, workspace) => {
                Reply::LookedUp(standby.look_up(&digest, workspace.as_deref()))
            }
            Query::Replicas => {
                let (rows, over) = standby.replicas(wall);
                Reply::Replicas(rows, over)
            }
            Query::State => {
                let (incarnation, revision) = standby.state();
                Reply::State(incarnation, revision)
            }
            Query::Connect => Reply::Done,
            _ => Reply::Failed,
        };
        // A write that is refused there shows it as well: SQLSTATE 25006.
        if matches!(reply, Reply::Failed) {
            self.reconnect(from.process);
        }
        self.reply(from, call, with_origin(Origin::Standby, reply));
    }

    /// What is read counts only if it comes from a primary that is not behind what this process had seen.
    pub(super) fn admit(&mut self, me: Address, call: u64, reply: Reply) -> Reply {
        let process = &mut self.processes[me.process];
        let floor = process.floors.remove(&call);
        let Reply::From(origin, revision, reply) = reply else { return reply };
        let Some(floor) = floor else { return *reply };
        let refused = process.lineage.admit(&floor, &origin, revision).err();
        if let Origin::Primary(incarnation) = origin
            && matches!(*reply, Reply::Synced(_) | Reply::Committed(..))
        {
            process.lineage.confirm(&incarnation, revision);
        }
        let believed = match refused {
            None => true,
            Some(StaleOrigin::Standby) => self.plan.is(Broken::StandbyBelieved),
            Some(_) => false,
        };
        if believed {
            return *reply;
        }
        self.reconnect(me.process);
        Reply::Failed
    }
}

/// The reply with where it comes from, if a statement says so.
pub(super) fn with_origin(origin: Origin, reply: Reply) -> Reply {
    let revision = match &reply {
        Reply::State(_, revision) | Reply::Committed(revision, ..) => *revision,
        Reply::Synced(Some(synced)) => synced.revision,
        Reply::Replicas(rows, _) => rows.revision,
        Reply::LookedUp(facts) => facts.revision,
        Reply::Synced(None)
        | Reply::Done
        | Reply::Ended
        | Reply::Fenced(_)
        | Reply::Failed
        | Reply::From(..) => return reply,
    };
    Reply::From(origin, revision, Box::new(reply))
}
