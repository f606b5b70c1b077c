//! What was promised: no introspection that started after a change has returned answers as before it; what CreateKey has
//! returned is known everywhere; no part of an answer is older than the revision that it claims, nor that revision than
//! the one that was asked for.

use std::collections::BTreeMap;

use sophic_auth::model::{Facts, PrincipalFacts, Revision};

use super::client::Request;
use super::store::{Entity, Store, USERS, WORKSPACES, at_of, credential_at};

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) at: u64,
    pub(super) what: String,
}

/// The oldest version of each thing that an answer may be made of.
#[derive(Debug, Clone)]
pub(super) struct Floors {
    revision: u64,
    credential: i64,
    users: [i64; USERS],
    workspaces: [i64; WORKSPACES],
}

pub(super) struct Checker {
    pub(super) violation: Option<Violation>,
    /// Revisions mean different things in different lives of the store.
    one_life: bool,
    /// A barrier for this revision has returned: everything up to it is to be seen.
    revision: u64,
    /// What returned without a barrier.
    alone: BTreeMap<Entity, i64>,
    pub(super) answers: u64,
    pub(super) from_memory: u64,
    pub(super) barriers: u64,
    pub(super) retries: u64,
}

impl Checker {
    pub(super) const fn new(promotions: bool) -> Self {
        Self {
            violation: None,
            one_life: !promotions,
            revision: 0,
            alone: BTreeMap::new(),
            answers: 0,
            from_memory: 0,
            barriers: 0,
            retries: 0,
        }
    }

    pub(super) fn fail(&mut self, at: u64, what: String) {
        self.violation.get_or_insert(Violation { at, what });
    }

    /// A change has returned.
    pub(super) fn returned(&mut self, entity: Entity, barrier: Option<Revision>, version: i64) {
        if let Some(revision) = barrier {
            self.barriers += 1;
            self.revision = self.revision.max(revision.0);
        }
        let floor = self.alone.entry(entity).or_default();
        *floor = (*floor).max(version);
    }

    fn floor(&self, store: &Store, entity: Entity) -> i64 {
        let alone = self.alone.get(&entity).copied().unwrap_or(0);
        alone.max(version_at(store, entity, self.revision))
    }

    /// What holds for an introspection that starts now.
    pub(super) fn floors(&self, store: &Store, credential: usize) -> Floors {
        Floors {
            revision: self.revision,
            credential: self.floor(store, Entity::Credential(credential)),
            users: std::array::from_fn(|at| self.floor(store, Entity::User(at))),
            workspaces: std::array::from_fn(|at| self.floor(store, Entity::Workspace(at))),
        }
    }

    pub(super) fn answered(
        &mut self,
        now: u64,
        store: &Store,
        request: &Request,
        facts: &Facts,
        remembered: bool,
    ) {
        self.answers += 1;
        self.from_memory += u64::from(remembered);
        if facts.revision < request.at_least {
            let text = format!("revision {:?} for {:?}", facts.revision, request.at_least);
            self.fail(now, text);
        }
        let credential = credential_at(&request.key.0);
        for (entity, version) in parts(credential, facts) {
            let floor = match entity {
                Entity::Credential(_) => request.floors.credential,
                Entity::User(at) => request.floors.users[at],
                Entity::Workspace(at) => request.floors.workspaces[at],
            };
            if version < floor {
                let process = request.process;
                let what = format!(
                    "{entity:?} of version {version} at process {process}, and {floor} had returned \
                     (from memory: {remembered}, revision {}, barrier {})",
                    facts.revision.0, request.floors.revision,
                );
                self.fail(now, what);
            }
            let claimed = version_at(store, entity, facts.revision.0);
            if self.one_life && version < claimed {
                let revision = facts.revision.0;
                let what = format!("{entity:?} of version {version} in an answer of {revision}");
                self.fail(now, what);
            }
        }
        self.check_name(now, store, request, facts);
    }

    /// That a name is nobody's may be said only while it is.
    fn check_name(&mut self, now: u64, store: &Store, request: &Request, facts: &Facts) {
        let Some(found) = &facts.found else { return };
        let (PrincipalFacts::User(_), None) = (&found.principal, &found.named_workspace) else {
            return;
        };
        let Some(holders) = request.key.1.as_ref().and_then(|name| store.names.get(name)) else {
            return;
        };
        let since = request.floors.revision;
        let before = holders.iter().rposition(|(revision, _)| *revision <= since).unwrap_or(0);
        let free = holders[before..].iter().any(|(_, holder)| holder.is_none());
        if self.one_life && !free {
            self.fail(now, format!("{:?} is nobody's, it says", request.key.1));
        }
    }
}

/// What an answer is made of.
fn parts(credential: usize, facts: &Facts) -> Vec<(Entity, i64)> {
    let Some(found) = &facts.found else { return vec![(Entity::Credential(credential), 0)] };
    let workspace = |workspace: &sophic_auth::model::Workspace| {
        (Entity::Workspace(at_of(workspace.id.as_str())), workspace.generation)
    };
    let mut parts = vec![(Entity::Credential(credential), found.credential.generation)];
    parts.push(match &found.principal {
        PrincipalFacts::Workspace(own) => workspace(own),
        PrincipalFacts::User(facts) => {
            (Entity::User(at_of(facts.user.id.as_str())), facts.user.generation)
        }
    });
    parts.extend(found.named_workspace.as_deref().map(workspace));
    parts
}

/// The version that a thing had at a revision.
fn version_at(store: &Store, entity: Entity, revision: u64) -> i64 {
    let versions = store.history.get(&entity).map_or(&[][..], Vec::as_slice);
    let newest = versions.iter().rev().find(|(number, _)| *number <= revision);
    newest.map_or(0, |(_, version)| *version)
}
