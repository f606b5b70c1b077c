//! Callers: services that call this one.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::{CallerId, CredentialState, Digest, Invalid, LastUse, RotationId, Timestamp};

/// A permission of a caller (`docs/api.md`). The number is also its bit in the store, so it must never be reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum Permission {
    /// Introspect through every face, and revoke by token.
    Introspect = 1,
    /// Read credentials.
    CredentialsRead = 2,
    /// Manage credentials on behalf of an acting user.
    CredentialsWrite = 4,
    /// Manage credentials as the system, without an acting user.
    CredentialsAdmin = 8,
    /// Read the directory.
    DirectoryRead = 16,
    /// Change the directory.
    DirectoryWrite = 32,
    /// Read the audit log.
    AuditRead = 64,
    /// Manage callers.
    CallersAdmin = 128,
    /// See the state of the service: its servers, and how much the store contains.
    StatusRead = 256,
}

impl Permission {
    /// All permissions, in ascending order.
    pub const ALL: [Self; 9] = [
        Self::Introspect,
        Self::CredentialsRead,
        Self::CredentialsWrite,
        Self::CredentialsAdmin,
        Self::DirectoryRead,
        Self::DirectoryWrite,
        Self::AuditRead,
        Self::CallersAdmin,
        Self::StatusRead,
    ];

    /// Returns its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Introspect => "introspect",
            Self::CredentialsRead => "credentials.read",
            Self::CredentialsWrite => "credentials.write",
            Self::CredentialsAdmin => "credentials.admin",
            Self::DirectoryRead => "directory.read",
            Self::DirectoryWrite => "directory.write",
            Self::AuditRead => "audit.read",
            Self::CallersAdmin => "callers.admin",
            Self::StatusRead => "status.read",
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Permission {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::ALL.into_iter().find(|permission| permission.as_str() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            Invalid::new(format!("must be one of {names}"))
        })
    }
}

/// A set of permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PermissionSet(u16);

impl PermissionSet {
    /// Every permission.
    pub const ALL: Self = Self(0x1ff);

    /// Creates a set from the store's number. `None` if it is none. Bits of permissions that only a newer program knows
    /// are kept and permit nothing here, so that its callers can use this one too.
    pub fn from_bits(bits: i64) -> Option<Self> {
        u16::try_from(bits).ok().map(Self)
    }

    /// Returns the store's number.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the sets have a permission in common.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether the set contains `permission`.
    pub const fn contains(self, permission: Permission) -> bool {
        self.0 & permission as u16 != 0
    }

    /// Returns the permission that this text names. A number is a permission that only a newer program knows, as
    /// [`fmt::Display`] writes it.
    pub fn parse_one(text: &str) -> Result<Self, Invalid> {
        let number = text.parse::<u16>().ok().filter(|bits| bits.is_power_of_two());
        match number {
            Some(bits) => Ok(Self(bits)),
            None => text.parse::<Permission>().map(|permission| Self(permission as u16)),
        }
    }

    /// Returns the permissions that only a newer program knows.
    #[must_use]
    pub const fn unknown(self) -> Self {
        self.difference(Self::ALL)
    }

    /// Returns the permissions that are in one of the sets.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns the names, in ascending order. A permission that only a newer program knows is its number.
    pub fn names(self) -> impl Iterator<Item = String> {
        let bits = (0..u16::BITS).map(|shift| 1_u16 << shift);
        bits.filter(move |bit| self.0 & bit != 0).map(|bit| {
            let known = Permission::ALL.into_iter().find(|permission| *permission as u16 == bit);
            known.map_or_else(|| bit.to_string(), |permission| permission.to_string())
        })
    }

    /// Returns the permissions that are not in `other`.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Iterates over the permissions that this program knows, in ascending order.
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL.into_iter().filter(move |permission| self.contains(*permission))
    }
}

impl FromIterator<Permission> for PermissionSet {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        Self(permissions.into_iter().fold(0, |bits, permission| bits | permission as u16))
    }
}

impl fmt::Display for PermissionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.names().collect();
        f.write_str(&names.join(", "))
    }
}

/// Name of a caller: 1 to 63 of `[a-z0-9.-]`, beginning and ending with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallerName(Box<str>);

impl CallerName {
    /// Checks the spelling.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = text.as_bytes();
        let ends_fit =
            bytes.first().is_some_and(|b| plain(*b)) && bytes.last().is_some_and(|b| plain(*b));
        if ends_fit
            && bytes.len() <= 63
            && bytes.iter().all(|b| plain(*b) || *b == b'-' || *b == b'.')
        {
            Ok(Self(text.into()))
        } else {
            Err(Invalid::new(
                "must be 1 to 63 of a-z, 0-9, '.' and '-', beginning and ending with a letter or digit",
            ))
        }
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CallerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The subject alternative name (DNS name or URI) of a client certificate: 1 to 255 printable ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CertificateSan(Box<str>);

impl CertificateSan {
    /// Checks the spelling.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text.into()))
        } else {
            Err(Invalid::new(
                "must be a DNS name or URI of 1 to 255 printable ASCII characters without spaces",
            ))
        }
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The credential by which a caller is authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallerIdentity {
    /// Digest of its service token. For an authenticated caller it is the token that was presented, current or
    /// previous.
    Token(Digest),
    /// Subject alternative name of its client certificate.
    Certificate(CertificateSan),
}

/// The service token that the last rotation of a caller replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreviousToken {
    /// Its digest.
    pub digest: Digest,
    /// First instant at which the token is expired.
    pub expire_time: Timestamp,
}

/// A service that calls this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// UUIDv7.
    pub id: CallerId,
    /// Unique among callers that are not revoked.
    pub name: CallerName,
    /// Its permissions.
    pub permissions: PermissionSet,
    /// How it is authenticated.
    pub identity: CallerIdentity,
    /// Prefix and last four characters of the service token. Empty for a certificate.
    pub hint: String,
    /// When it was created.
    pub create_time: Timestamp,
    /// When it was revoked, if it was.
    pub revoke_time: Option<Timestamp>,
    /// The token that its last rotation replaced, if that may still be valid.
    pub previous: Option<PreviousToken>,
    /// Id of its last rotation.
    pub rotation: Option<RotationId>,
    /// First instant at which it is refused. `None` if it does not expire.
    pub expire_time: Option<Timestamp>,
    /// Its last use that is written to the store.
    pub last_use: Option<LastUse>,
    /// Who created it: `caller:NAME` or `operator:NAME`. Empty if the program that created it did not keep that.
    pub creator: String,
    /// Number of its changes, from which the etag is made. A use is not a change.
    pub version: i64,
}

impl Caller {
    /// Returns its state at `now`. No caller is [`CredentialState::Disabled`].
    pub fn state(&self, now: Timestamp) -> CredentialState {
        if self.revoke_time.is_some() {
            CredentialState::Revoked
        } else if self.has_expired(now) {
            CredentialState::Expired
        } else {
            CredentialState::Active
        }
    }

    /// Whether it has expired at `now`.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expire_time.is_some_and(|end| now >= end)
    }

    /// Returns its etag (AIP-154): opaque text that changes with every change except a use.
    pub fn etag(&self) -> String {
        format!("\"{:x}\"", self.version)
    }

    /// Whether its current or previous token has this digest, in constant time.
    pub fn has_token(&self, digest: &Digest) -> bool {
        let current =
            matches!(&self.identity, CallerIdentity::Token(found) if found.equals(digest));
        let previous = self.previous.is_some_and(|previous| previous.digest.equals(digest));
        current | previous
    }

    /// Returns this caller as authenticated by the token of this digest. `None` if that token is another caller's, or
    /// has expired at `now`.
    pub fn authenticated_by(self: Arc<Self>, digest: &Digest, now: Timestamp) -> Option<Arc<Self>> {
        if matches!(&self.identity, CallerIdentity::Token(found) if found.equals(digest)) {
            return Some(self);
        }
        let previous = self.previous.filter(|previous| previous.digest.equals(digest))?;
        let identity = CallerIdentity::Token(previous.digest);
        (now < previous.expire_time).then(|| Arc::new(Self { identity, ..(*self).clone() }))
    }

    /// Returns the first instant at which this caller, as it was authenticated, is refused: its own expiry, or the
    /// earlier one of the token that authenticated it. `None` if neither expires.
    pub fn authentication_end(&self) -> Option<Timestamp> {
        let CallerIdentity::Token(proof) = &self.identity else { return self.expire_time };
        let previous = self.previous.filter(|previous| previous.digest.equals(proof));
        let token = previous.map(|previous| previous.expire_time);
        token.into_iter().chain(self.expire_time).min()
    }
}
