//! Identifiers: opaque ids and slugs, which the dashboard chooses, and UUIDv7 for everything that is created here.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use super::{Invalid, Timestamp};

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// Checks the spelling.
            pub fn parse(text: &str) -> Result<Self, Invalid> {
                let check: fn(&str) -> Result<(), Invalid> = $check;
                check(text)?;
                Ok(Self(text.into()))
            }

            /// Whether the text is a valid one.
            pub fn is_spelled(text: &str) -> bool {
                let check: fn(&str) -> Result<(), Invalid> = $check;
                check(text).is_ok()
            }

            /// Returns the text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                Self::parse(text)
            }
        }

        /// Lets a `&str` look up a map that is keyed by this id. Both have the same hash.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Creates a UUIDv7 (RFC 9562 §5.7) from this time and these random bytes.
            pub fn new(now: Timestamp, random: [u8; 10]) -> Self {
                let millis = u64::try_from(now.unix_micros() / 1_000).unwrap_or(0);
                Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
            }

            /// Checks the spelling: lower case, hyphenated.
            pub fn parse(text: &str) -> Result<Self, Invalid> {
                let id = Uuid::try_parse(text).ok().map(Self);
                id.filter(|id| id.to_string() == text).ok_or_else(|| {
                    Invalid::new("must be a UUID in lower case, such as 0195f2d4-7c1e-7b3a-9d58-0242ac120002")
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                Self::parse(text)
            }
        }
    };
}

text_id! {
    /// A workspace's opaque id: 1 to 64 of `[A-Za-z0-9_-]`.
    WorkspaceId, check_opaque
}
text_id! {
    /// A user's opaque id: 1 to 64 of `[A-Za-z0-9_-]`.
    UserId, check_opaque
}
text_id! {
    /// A workspace's slug: 3 to 63 of `[a-z0-9-]`, no leading, trailing or double `-`.
    Slug, check_slug
}
text_id! {
    /// A workspace's slug or id, as a request names it: the two share one namespace.
    WorkspaceName, check_opaque
}
uuid_id! {
    /// Id of a rotation of a caller's token.
    RotationId
}
uuid_id! {
    /// Id of a credential.
    CredentialId
}
uuid_id! {
    /// Id of a caller.
    CallerId
}
uuid_id! {
    /// Id of an audit event.
    EventId
}
uuid_id! {
    /// Id of a replica. It is created at each start.
    ReplicaId
}

impl RotationId {
    /// Returns the time of the rotation, which the id encodes.
    pub fn time(self) -> Option<Timestamp> {
        let (seconds, nanos) = self.0.get_timestamp()?.to_unix();
        Timestamp::from_unix(i64::try_from(seconds).ok()?, i32::try_from(nanos).ok()?).ok()
    }
}

impl EventId {
    /// Like [`Self::new`], but also encodes the microseconds, where UUIDv7 has room for them (RFC 9562 §6.2, method 3).
    /// Ids then sort by time within a millisecond too.
    pub fn in_order(now: Timestamp, mut random: [u8; 10]) -> Self {
        // Below 4,096, since the remainder is below 1,000 microseconds.
        let fraction = u16::try_from(now.unix_micros().rem_euclid(1_000) * 4_096 / 1_000);
        random[..2].copy_from_slice(&fraction.unwrap_or(0).to_be_bytes());
        Self::new(now, random)
    }

    /// Returns a lower bound of the ids of this time and later.
    pub fn first_of(time: Timestamp) -> Self {
        Self::new(time, [0; 10])
    }

    /// Returns an upper bound, exclusive, of the ids of this time and earlier.
    pub fn first_after(time: Timestamp) -> Self {
        let next = time.checked_add(std::time::Duration::from_millis(1));
        next.map_or(Self(Uuid::max()), Self::first_of)
    }
}

/// Id of a request, which the caller chooses: a UUID of any version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(pub Uuid);

impl RequestId {
    /// Checks the spelling: hyphenated, in either case.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let id = Uuid::try_parse(text).ok().filter(|_| text.len() == 36);
        id.map(Self).ok_or_else(|| {
            Invalid::new("must be a UUID, such as 3f0c9a52-8f3e-4d59-9b1c-6a1c2a7f0e11, or empty")
        })
    }
}

fn check_opaque(text: &str) -> Result<(), Invalid> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
        Ok(())
    } else {
        Err(Invalid::new("must be 1 to 64 of A-Z, a-z, 0-9, '_' and '-'"))
    }
}

fn check_slug(text: &str) -> Result<(), Invalid> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let hyphens_fit = !text.starts_with('-') && !text.ends_with('-') && !text.contains("--");
    if (3..=63).contains(&text.len()) && text.bytes().all(allowed) && hyphens_fit {
        Ok(())
    } else {
        Err(Invalid::new(
            "must be 3 to 63 of a-z, 0-9 and '-', with no leading, trailing or double '-'",
        ))
    }
}
