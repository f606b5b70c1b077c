//! The database, as the protocol sees it: a counter, a log in commit order, the replicas' rows, and the entities in
//! answers. Every method is one transaction. A crash loses what is not durable; a promotion begins another incarnation.

mod rows;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sophic_auth::model::{
    Annotations, Credential, CredentialFacts, CredentialId, CredentialKind, Digest, DisplayName,
    Facts, FoundFacts, IpAllowlist, Owner, PrincipalFacts, ReplicaId, Revision, Role, Scope,
    ScopeSet, Slug, Timestamp, User, UserFacts, UserId, Workspace, WorkspaceId,
};
use sophic_auth::store::{Change, ChangedEntity, Incarnation, IncarnationId};

use self::rows::Row;
use super::plan::{Omission, Plan};

/// An entity in an answer. Every change gives it a new version, which is never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Entity {
    Credential(usize),
    User(usize),
    Workspace(usize),
}

/// A change that a client requests. It names the new state, so that it can be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mutation {
    /// Creates a key or a personal access token.
    Create(usize),
    Revoke(usize),
    /// Sets whether a user is disabled.
    PutUser(usize, bool),
    /// Sets the role of a user in a workspace. `None` ends the membership.
    PutRole(usize, usize, Option<Role>),
    /// Sets the slug of a workspace, if the slug is free, and whether the workspace is disabled.
    PutWorkspace(usize, usize, bool),
}

/// Whether a call may take something away, according to its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Narrows,
    Widens,
}

impl Mutation {
    pub(super) const fn entity(self) -> Entity {
        match self {
            Self::Create(at) | Self::Revoke(at) => Entity::Credential(at),
            Self::PutUser(at, _) | Self::PutRole(at, ..) => Entity::User(at),
            Self::PutWorkspace(at, ..) => Entity::Workspace(at),
        }
    }

    pub(super) const fn effect(self) -> Effect {
        match self {
            Self::Create(_) | Self::PutUser(_, false) | Self::PutRole(.., Some(Role::Owner)) => {
                Effect::Widens
            }
            Self::Revoke(_) | Self::PutUser(..) | Self::PutRole(..) | Self::PutWorkspace(..) => {
                Effect::Narrows
            }
        }
    }

    pub(super) const fn deletes(self) -> bool {
        matches!(self, Self::PutRole(.., None))
    }
}

/// The tables, which a promotion may restore to an earlier state.
#[derive(Clone)]
struct Tables {
    revision: u64,
    credentials: HashMap<Digest, Arc<Credential>>,
    users: Vec<(User, Vec<(WorkspaceId, Role)>)>,
    workspaces: Vec<Workspace>,
}

/// A commit that a promotion may still lose, because no client has seen it.
#[derive(Clone)]
struct UnconfirmedCommit {
    call: u64,
    before: Tables,
}

#[derive(Clone)]
pub(super) struct Store {
    tables: Tables,
    changes: BTreeMap<u64, Change>,
    timeline: u32,
    rows: BTreeMap<ReplicaId, Row>,
    /// The rows that are on disk.
    on_disk: BTreeMap<ReplicaId, Row>,
    /// Ids of all replicas so far.
    ids: Vec<ReplicaId>,
    /// When each row was last written, by the clock of the database. For omissions.
    expiries: BTreeMap<ReplicaId, i64>,
    omission: Option<Omission>,
    /// The version of the last change.
    version: i64,
    promotions: bool,
    /// The last revision drawn, for a sequence.
    drawn: u64,
    unconfirmed: Vec<UnconfirmedCommit>,
    /// The versions of each entity, in order, each with the revision of its commit.
    pub(super) history: BTreeMap<Entity, Vec<(u64, i64)>>,
    /// The holders of each name, each with the revision from which it holds the name.
    pub(super) names: BTreeMap<String, Vec<(u64, Option<usize>)>>,
}

pub(super) const USERS: usize = 3;
pub(super) const WORKSPACES: usize = 3;
pub(super) const SLUGS: [&str; 5] = ["alpha", "beta", "gamma", "delta", "omega"];

pub(super) fn digest(at: usize) -> Digest {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&(at as u64).to_be_bytes());
    Digest::from_bytes(&bytes).expect("32 bytes")
}

pub(super) fn index_of_digest(digest: &Digest) -> usize {
    let bytes = digest.as_bytes()[..8].try_into().expect("8 bytes");
    usize::try_from(u64::from_be_bytes(bytes)).expect("made from an index")
}

pub(super) fn workspace_id(at: usize) -> WorkspaceId {
    WorkspaceId::parse(&format!("w{at}")).expect("an id")
}

pub(super) fn index_of_id(id: &str) -> usize {
    id[1..].parse().expect("a number")
}

pub(super) const ROLES: [Role; 4] = [Role::Viewer, Role::Member, Role::Admin, Role::Owner];

fn time() -> Timestamp {
    Timestamp::from_unix_micros(0).expect("a time")
}

/// Even numbers are keys, odd ones personal access tokens.
fn credential(at: usize, version: i64) -> Credential {
    let id = CredentialId(uuid::Uuid::from_u128(at as u128));
    let (kind, owner) = if at.is_multiple_of(2) {
        (CredentialKind::Key, Owner::Workspace(workspace_id(at / 2 % WORKSPACES)))
    } else {
        let user = UserId::parse(&format!("u{}", at / 2 % USERS)).expect("an id");
        (CredentialKind::Pat, Owner::User { id: user, max_role: Role::Owner })
    };
    Credential {
        id,
        kind,
        owner,
        generation: version,
        name: DisplayName::parse("ci").expect("a name"),
        hint: String::new(),
        scopes: ScopeSet::from_scopes(&[Scope::Read]),
        ip_allowlist: IpAllowlist::default(),
        end_at_once: false,
        granted_workspaces: None,
        barred_workspaces: sophic_auth::model::WorkspaceSet::default(),
        annotations: Annotations::default(),
        create_time: time(),
        expire_time: None,
        disable_time: None,
        revoke_time: None,
        last_use: None,
        creator: String::new(),
        predecessor_id: None,
        family_id: id,
        version: 1,
    }
}

impl Store {
    pub(super) fn new(plan: &Plan) -> Self {
        let user = |at: usize| User {
            id: UserId::parse(&format!("u{at}")).expect("an id"),
            display_name: DisplayName::parse("Somebody").expect("a name"),
            disabled: false,
            generation: 1,
            generation_time: None,
            create_time: time(),
            update_time: time(),
            delete_time: None,
        };
        let workspace = |at: usize| Workspace {
            id: workspace_id(at),
            slug: Slug::parse(SLUGS[at]).expect("a slug"),
            display_name: DisplayName::parse("Something").expect("a name"),
            disabled: false,
            pat_policy: sophic_auth::model::PatPolicy::default(),
            generation: 1,
            generation_time: None,
            create_time: time(),
            update_time: time(),
            delete_time: None,
        };
        let tables = Tables {
            revision: 0,
            credentials: HashMap::new(),
            users: (0..USERS).map(|at| (user(at), Vec::new())).collect(),
            workspaces: (0..WORKSPACES).map(workspace).collect(),
        };
        let holder = |(at, slug): (usize, &&str)| {
            ((*slug).to_owned(), vec![(0, (at < WORKSPACES).then_some(at))])
        };
        Self {
            tables,
            changes: BTreeMap::new(),
            timeline: 1,
            rows: BTreeMap::new(),
            on_disk: BTreeMap::new(),
            ids: Vec::new(),
            expiries: BTreeMap::new(),
            omission: plan.omission,
            version: 1,
            promotions: plan.promotions,
            drawn: 0,
            unconfirmed: Vec::new(),
            history: BTreeMap::new(),
            names: SLUGS.iter().enumerate().map(holder).collect(),
        }
    }

    pub(super) fn incarnation(&self) -> Incarnation {
        Incarnation { epoch: uuid::Uuid::nil(), system: 1, timeline: self.timeline }
    }

    pub(super) fn incarnation_id(&self) -> IncarnationId {
        self.incarnation().id()
    }

    fn revision(&self) -> Revision {
        Revision(self.tables.revision)
    }

    // The entities in answers.

    pub(super) fn look_up(&self, digest: &Digest, workspace: Option<&str>) -> Facts {
        let found = self.tables.credentials.get(digest).map(|credential| {
            let named = |name: &str| {
                let mut all = self.tables.workspaces.iter();
                all.find(|found| found.slug.as_str() == name || found.id.as_str() == name).cloned()
            };
            let (principal, named_workspace) = match &credential.owner {
                Owner::Workspace(id) => {
                    let own = &self.tables.workspaces[index_of_id(id.as_str())];
                    (PrincipalFacts::Workspace(own.clone().into()), None)
                }
                Owner::User { id, .. } => {
                    let (user, roles) = self.tables.users[index_of_id(id.as_str())].clone();
                    let facts = UserFacts { user, roles: roles.into() };
                    (PrincipalFacts::User(facts.into()), workspace.and_then(named))
                }
            };
            let credential = CredentialFacts::new(*digest, credential).into();
            let named_workspace = named_workspace.map(Arc::new);
            FoundFacts { credential, principal, named_workspace }
        });
        Facts::new(self.revision(), found)
    }

    /// Draws a revision before the commit, as a sequence does.
    pub(super) fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.drawn
    }

    /// Commits a change, if it changes anything. Returns the revision to wait for, the current version, and whether
    /// anything changed.
    pub(super) fn commit(
        &mut self,
        mutation: Mutation,
        call: u64,
        drawn: Option<u64>,
    ) -> (Revision, i64, bool) {
        let before = self.promotions.then(|| self.tables.clone());
        let version = self.version + 1;
        let (entity, changed) = match mutation {
            Mutation::Create(at) => {
                let new =
                    self.tables.credentials.insert(digest(at), Arc::new(credential(at, version)));
                assert!(new.is_none(), "created once");
                (ChangedEntity::Credential(digest(at)), true)
            }
            Mutation::Revoke(at) => {
                // A promotion may have lost the creation.
                let Some(row) = self.tables.credentials.get_mut(&digest(at)) else {
                    return (self.revision(), 0, false);
                };
                let changed = row.revoke_time.is_none();
                if changed {
                    let row = Arc::make_mut(row);
                    row.revoke_time = Some(time());
                    row.generation = version;
                }
                (ChangedEntity::Credential(digest(at)), changed)
            }
            Mutation::PutUser(at, disabled) => {
                let user = &mut self.tables.users[at].0;
                let changed = user.disabled != disabled;
                user.disabled = disabled;
                (self.touch_user(at, changed, version), changed)
            }
            Mutation::PutRole(at, workspace, role) => {
                let roles = &mut self.tables.users[at].1;
                let id = workspace_id(workspace);
                let before = roles.iter().find(|(of, _)| *of == id).map(|(_, role)| *role);
                roles.retain(|(of, _)| *of != id);
                roles.extend(role.map(|role| (id, role)));
                (self.touch_user(at, before != role, version), before != role)
            }
            Mutation::PutWorkspace(at, slug, disabled) => {
                self.put_workspace(at, SLUGS[slug], disabled, version)
            }
        };
        if changed {
            self.version = version;
            let number = drawn.unwrap_or(self.tables.revision + 1);
            self.tables.revision = self.tables.revision.max(number);
            self.changes.insert(number, Change { revision: Revision(number), entity });
            self.history.entry(mutation.entity()).or_default().push((number, version));
            self.note_names();
        }
        // A commit that changes nothing is recorded too, and waits for the standby like any other.
        self.unconfirmed.extend(before.map(|before| UnconfirmedCommit { call, before }));
        self.flush();
        if changed {
            return (self.changes_end(drawn), version, true);
        }
        let version = self.version_of(mutation.entity());
        (self.revision(), version, false)
    }

    /// The revision of the last change.
    fn changes_end(&self, drawn: Option<u64>) -> Revision {
        Revision(drawn.unwrap_or(self.tables.revision))
    }

    fn touch_user(&mut self, at: usize, changed: bool, version: i64) -> ChangedEntity {
        let user = &mut self.tables.users[at].0;
        if changed {
            user.generation = version;
        }
        ChangedEntity::User(user.id.clone())
    }

    fn put_workspace(
        &mut self,
        at: usize,
        slug: &str,
        disabled: bool,
        version: i64,
    ) -> (ChangedEntity, bool) {
        let mut others = self.tables.workspaces.iter().enumerate();
        let free = others.all(|(other, row)| other == at || row.slug.as_str() != slug);
        let workspace = &mut self.tables.workspaces[at];
        let renamed = free && workspace.slug.as_str() != slug;
        if renamed {
            workspace.slug = Slug::parse(slug).expect("a slug");
        }
        let changed = renamed || workspace.disabled != disabled;
        workspace.disabled = disabled;
        if changed {
            workspace.generation = version;
        }
        (ChangedEntity::Workspace(workspace.id.clone()), changed)
    }

    fn version_of(&self, entity: Entity) -> i64 {
        match entity {
            Entity::Credential(at) => {
                self.tables.credentials.get(&digest(at)).map_or(0, |found| found.generation)
            }
            Entity::User(at) => self.tables.users[at].0.generation,
            Entity::Workspace(at) => self.tables.workspaces[at].generation,
        }
    }

    fn note_names(&mut self) {
        for (name, holders) in &mut self.names {
            let mut all = self.tables.workspaces.iter();
            let holder = all.position(|workspace| workspace.slug.as_str() == name);
            if holders.last().is_none_or(|last| last.1 != holder) {
                holders.push((self.tables.revision, holder));
            }
        }
    }

    /// Records that the client of this call has seen its commit, which is therefore on the standby.
    pub(super) fn mark_confirmed(&mut self, call: u64) {
        if let Some(at) = self.unconfirmed.iter().position(|unconfirmed| unconfirmed.call == call) {
            self.unconfirmed.drain(..=at);
        }
    }

    /// Records that all commits have been seen, and are therefore on the standby: a commit is invisible before.
    pub(super) fn mark_all_confirmed(&mut self) {
        self.unconfirmed.clear();
    }

    /// Crashes: loses what is not on disk.
    pub(super) fn crash(&mut self) {
        self.rows = self.on_disk.clone();
    }

    /// Writes the rows to disk, as the database does after a while.
    pub(super) fn write_behind(&mut self) {
        self.flush();
    }

    /// Begins another incarnation without the last `lost` unseen commits. Returns their calls.
    pub(super) fn promote(&mut self, lost: usize) -> Vec<u64> {
        self.timeline += 1;
        let lost = lost.min(self.unconfirmed.len());
        let gone = self.unconfirmed.split_off(self.unconfirmed.len() - lost);
        if let Some(first) = gone.first() {
            self.tables = first.before.clone();
            let newest = self.tables.revision;
            self.changes.retain(|number, _| *number <= newest);
            for versions in self.history.values_mut() {
                versions.retain(|(number, _)| *number <= newest);
            }
            self.note_names();
        }
        gone.iter().map(|unconfirmed| unconfirmed.call).collect()
    }
}
