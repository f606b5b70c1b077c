//! A credential as far as an introspection needs it, in little memory: there is one of these for each that is cached.

use std::fmt;

use parking_lot::Mutex;

use super::clock_map::Keyed;
use crate::model::{
    Credential, CredentialId, CredentialKind, Digest, IpAllowlist, LastUse, Owner, Role, ScopeSet,
    Timestamp,
};

/// What is read of a credential to introspect it.
pub struct CredentialFacts {
    /// Of its token.
    pub digest: Digest,
    /// UUIDv7.
    pub id: CredentialId,
    /// A personal access token's downscope; nothing: a key.
    pub max_role: Option<Role>,
    /// What it was granted.
    pub scopes: ScopeSet,
    /// The owner's watermark when it was made.
    pub generation: i64,
    /// When it was made.
    pub create_time: Timestamp,
    /// The first instant at which it is dead.
    pub expire_time: Option<Timestamp>,
    /// When it was disabled, if it is.
    pub disable_time: Option<Timestamp>,
    /// When it was itself revoked: what its owner's watermark revokes is not in it.
    pub revoke_time: Option<Timestamp>,
    /// Where it may be presented from.
    pub ip_allowlist: IpAllowlist,
    /// Its latest use that is not written yet.
    unwritten_use: Mutex<Option<LastUse>>,
    /// The owner's id, the name and the hint, one behind the other: one allocation, not three.
    texts: Box<str>,
    name_at: u16,
    hint_at: u16,
}

impl CredentialFacts {
    /// Of the credential that has this digest.
    pub fn new(digest: Digest, credential: &Credential) -> Self {
        let (owner, max_role) = match &credential.owner {
            Owner::Workspace(id) => (id.as_str(), None),
            Owner::User { id, max_role } => (id.as_str(), Some(*max_role)),
        };
        let name = credential.name.as_str();
        // Ids and names are short (`model::limits`).
        let place = |bytes: usize| u16::try_from(bytes).unwrap_or(u16::MAX);
        Self {
            digest,
            id: credential.id,
            max_role,
            scopes: credential.scopes,
            generation: credential.generation,
            create_time: credential.create_time,
            expire_time: credential.expire_time,
            disable_time: credential.disable_time,
            revoke_time: credential.revoke_time,
            ip_allowlist: credential.ip_allowlist.clone(),
            unwritten_use: Mutex::default(),
            texts: [owner, name, &credential.hint].concat().into(),
            name_at: place(owner.len()),
            hint_at: place(owner.len() + name.len()),
        }
    }

    /// Key or personal access token.
    pub const fn kind(&self) -> CredentialKind {
        match self.max_role {
            None => CredentialKind::Key,
            Some(_) => CredentialKind::Pat,
        }
    }

    /// The id of the workspace or of the user whose it is.
    pub fn owner_id(&self) -> &str {
        &self.texts[..self.name_at.into()]
    }

    /// What its maker called it.
    pub fn name(&self) -> &str {
        &self.texts[self.name_at.into()..self.hint_at.into()]
    }

    /// The prefix and the last four characters of the token's body.
    pub fn hint(&self) -> &str {
        &self.texts[self.hint_at.into()..]
    }

    /// Notes a use, unless a later one is noted; whether none was that is not written yet.
    pub fn note_use(&self, last_use: LastUse) -> bool {
        let mut unwritten = self.unwritten_use.lock();
        let first = unwritten.is_none();
        if unwritten.is_none_or(|noted| noted.time < last_use.time) {
            *unwritten = Some(last_use);
        }
        first
    }

    /// What is noted, to be written; it is noted no longer.
    pub fn take_use(&self) -> Option<LastUse> {
        self.unwritten_use.lock().take()
    }
}

impl Keyed for CredentialFacts {
    type Key = Digest;

    fn key(&self) -> &Digest {
        &self.digest
    }
}

/// Without what anybody wrote into it.
impl fmt::Debug for CredentialFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialFacts").field("id", &self.id).finish_non_exhaustive()
    }
}
