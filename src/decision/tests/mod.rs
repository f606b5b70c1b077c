//! Tests of the decision: row by row, against a second, naive statement of the whole table, and by the grammar of its
//! challenges. This file has the fixtures that they share.

mod challenge;
mod explained;
mod oracle;
mod rows;
mod scopes;
mod situation;

use std::sync::Arc;

use super::{Decision, Denial, Request, decide};
use crate::model::tests::samples;
use crate::model::{
    Credential, CredentialFacts, CredentialId, Digest, DisplayName, FoundFacts, IpAllowlist, Owner,
    OwnerKind, PatPolicy, PrincipalFacts, Role, Scope, ScopeSet, Slug, Timestamp, User, UserFacts,
    UserId, Workspace, WorkspaceId,
};

const READ: ScopeSet = ScopeSet::from_scopes(&[Scope::Read]);
const CAPTURE: ScopeSet = ScopeSet::from_scopes(&[Scope::Capture]);
const ADMIN: ScopeSet = ScopeSet::from_scopes(&[Scope::Admin]);
const READ_CAPTURE: ScopeSet = ScopeSet::from_scopes(&[Scope::Read, Scope::Capture]);
const READ_ADMIN: ScopeSet = ScopeSet::from_scopes(&[Scope::Read, Scope::Admin]);
const CAPTURE_ADMIN: ScopeSet = ScopeSet::from_scopes(&[Scope::Capture, Scope::Admin]);
/// The scopes of these tests. The oracle has all, however many there are.
const THREE: ScopeSet = READ_CAPTURE.union(ADMIN);

/// The present in all tests, in microseconds: a moment in 2027.
const NOW: i64 = 1_800_000_000_000_000;

fn micros(micros: i64) -> Timestamp {
    Timestamp::from_unix_micros(micros).expect("the tests stay within the years 1 to 9999")
}

/// Returns the present plus this many microseconds.
fn now_plus(offset: i64) -> Timestamp {
    micros(NOW + offset)
}

fn workspace(id: &str, slug: &str) -> Workspace {
    Workspace {
        id: WorkspaceId::parse(id).expect("a good id"),
        slug: Slug::parse(slug).expect("a good slug"),
        display_name: DisplayName::parse("A workspace").expect("a good name"),
        disabled: false,
        pat_policy: PatPolicy::default(),
        generation: 3,
        generation_time: None,
        create_time: now_plus(-9_000_000),
        update_time: now_plus(-9_000_000),
        delete_time: None,
    }
}

/// The workspace that owns the keys, and of which the user is a member.
fn acme() -> Workspace {
    workspace("ws_1", "acme")
}

fn ada() -> User {
    User {
        id: UserId::parse("usr_ada").expect("a good id"),
        display_name: DisplayName::parse("Ada").expect("a good name"),
        disabled: false,
        generation: 3,
        generation_time: None,
        create_time: now_plus(-9_000_000),
        update_time: now_plus(-9_000_000),
        delete_time: None,
    }
}

fn credential(owner: Owner, scopes: ScopeSet) -> Credential {
    let id = CredentialId::new(now_plus(-5_000_000), [7; 10]);
    let create_time = now_plus(-5_000_000);
    Credential {
        id,
        family_id: id,
        generation: 3,
        scopes,
        create_time,
        ..samples::credential(owner)
    }
}

/// A key of [`acme`].
fn key(scopes: ScopeSet) -> Credential {
    credential(Owner::Workspace(acme().id), scopes)
}

/// A personal access token of [`ada`].
fn pat(scopes: ScopeSet, max_role: Role) -> Credential {
    credential(Owner::User { id: ada().id, max_role }, scopes)
}

fn allowlist(entries: &[&str]) -> IpAllowlist {
    IpAllowlist::parse(entries.iter().copied()).expect("a good allowlist")
}

/// The input of one decision. Each test changes the one or two fields that it is about.
struct Case {
    credential: Credential,
    workspace: Option<Workspace>,
    user: Option<User>,
    named: Option<&'static str>,
    found: Option<Workspace>,
    membership: Option<Role>,
    required: ScopeSet,
    client_ip: Option<&'static str>,
    now: Timestamp,
}

impl Case {
    /// A key of acme with all three, used to read in acme: allowed.
    fn key() -> Self {
        Self {
            credential: key(THREE),
            workspace: Some(acme()),
            user: None,
            named: None,
            found: None,
            membership: None,
            required: READ,
            client_ip: None,
            now: now_plus(0),
        }
    }

    /// A personal access token of Ada without a bound. Ada is an owner of acme, and reads there: allowed.
    fn pat() -> Self {
        Self {
            credential: pat(THREE, Role::Owner),
            workspace: None,
            user: Some(ada()),
            named: Some("acme"),
            found: Some(acme()),
            membership: Some(Role::Owner),
            ..Self::key()
        }
    }

    fn both() -> [Self; 2] {
        [Self::key(), Self::pat()]
    }

    fn disable_owner(&mut self) {
        self.workspace.iter_mut().for_each(|workspace| workspace.disabled = true);
        self.user.iter_mut().for_each(|user| user.disabled = true);
    }

    /// An owner of the wrong kind stands in for a missing one, since facts always have an owner.
    fn principal(&self) -> PrincipalFacts {
        match (&self.workspace, &self.user, self.credential.kind.owner_kind()) {
            (Some(own), _, _) => PrincipalFacts::Workspace(Arc::new(own.clone())),
            (None, Some(user), _) => user_facts(user, self.found.as_ref(), self.membership),
            (None, None, OwnerKind::Workspace) => user_facts(&ada(), None, None),
            (None, None, OwnerKind::User) => PrincipalFacts::Workspace(Arc::new(acme())),
        }
    }

    fn decide(&self) -> Decision {
        let found = FoundFacts {
            credential: facts(&self.credential),
            principal: self.principal(),
            named_workspace: self.found.clone().map(Arc::new),
        };
        let request = Request {
            workspace: self.named,
            required_scopes: self.required,
            client_ip: self.client_ip.map(|ip| ip.parse().expect("a good address")),
        };
        decide(&found, &request, self.now)
    }

    fn denial(&self) -> Option<Denial> {
        self.decide().denial
    }
}

fn facts(credential: &Credential) -> Arc<CredentialFacts> {
    Arc::new(CredentialFacts::new(Digest::from_hash([0; 32]), credential))
}

/// The user, with this role in the named workspace, or in acme if none is named.
fn user_facts(user: &User, named: Option<&Workspace>, role: Option<Role>) -> PrincipalFacts {
    let id = named.map_or_else(|| acme().id, |named| named.id.clone());
    let roles = role.map(|role| (id, role)).into_iter().collect();
    PrincipalFacts::User(Arc::new(UserFacts { user: user.clone(), roles }))
}
