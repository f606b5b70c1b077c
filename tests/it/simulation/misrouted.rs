//! Connections that lead to the old primary after a failover, and what the real [`Lineage`] does with its replies.

use sophic_auth::store::{Origin, StaleOrigin};

use super::plan::Omission;
use super::world::{Address, Reply, Statement, World};

impl World {
    /// Renews every connection of a process. Each leads to whichever server answers at the address by then.
    pub(super) fn reconnect(&mut self, process: usize) {
        let demoted = self.demoted.is_some();
        for pool in 0..3 {
            self.processes[process].misrouted[pool] = demoted && self.rng.in_thousand(500);
        }
    }

    pub(super) fn is_misrouted(&self, from: Address, statement: &Statement) -> bool {
        self.demoted.is_some() && self.processes[from.process].misrouted[statement.pool() as usize]
    }

    /// The reply of a standby that lags: it answers reads and refuses writes.
    pub(super) fn serve_from_standby(&mut self, from: Address, call: u64, statement: Statement) {
        let wall = self.wall();
        let Some(standby) = &self.demoted else { return };
        let reply = match statement {
            Statement::LookUp(digest, workspace) => {
                Reply::LookedUp(standby.look_up(&digest, workspace.as_deref()))
            }
            Statement::Replicas => {
                let (rows, over) = standby.replicas(wall);
                Reply::Replicas(rows, over)
            }
            Statement::State => {
                let (incarnation, revision) = standby.state();
                Reply::State(incarnation, revision)
            }
            Statement::Connect => Reply::Done,
            _ => Reply::Failed,
        };
        // A refused write shows the standby too: SQLSTATE 25006.
        if matches!(reply, Reply::Failed) {
            self.reconnect(from.process);
        }
        self.reply(from, call, located(Origin::Standby, reply));
    }

    /// Lets a reply pass only if it comes from a primary that is not behind what the process had seen.
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
            Some(StaleOrigin::Standby) => self.plan.omits(Omission::StandbyTrusted),
            Some(_) => false,
        };
        if believed {
            return *reply;
        }
        self.reconnect(me.process);
        Reply::Failed
    }
}

/// Adds the place to a reply, for statements that report it.
pub(super) fn located(origin: Origin, reply: Reply) -> Reply {
    let revision = match &reply {
        Reply::State(_, revision) | Reply::Committed(revision, ..) => *revision,
        Reply::Synced(Some(synced)) => synced.revision,
        Reply::Replicas(rows, _) => rows.revision,
        Reply::LookedUp(facts) => facts.revision,
        Reply::Synced(None)
        | Reply::Done
        | Reply::Ended
        | Reply::MarkedEnded(_)
        | Reply::Failed
        | Reply::From(..) => return reply,
    };
    Reply::From(origin, revision, Box::new(reply))
}
