//! The columns of import and export, and their values. `sophic-auth import --help` prints them.

use crate::model::limits::{
    HINT_BYTES_MAX, IMPORTED_TOKEN_BYTES_MIN, NAME_CHARACTERS_MAX, TOKEN_BYTES_MAX,
};
use crate::model::{Role, Scope};

macro_rules! columns {
    ($($variant:ident, $name:literal, $meaning:literal;)+) => {
        /// A column of a CSV file and field of a JSON object.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Column {
            $(#[doc = concat!("`", $name, "`.")] $variant,)+
        }

        impl Column {
            /// All columns, in the order of an export.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// Returns the name of the column.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// Describes the values of the column.
            pub fn meaning(self) -> String {
                let meaning = match self { $(Self::$variant => $meaning,)+ };
                meaning
                    .replace("{name_characters}", &format!("{NAME_CHARACTERS_MAX} characters"))
                    .replace(
                        "{token_bytes}",
                        &format!("{IMPORTED_TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX} bytes"),
                    )
                    .replace("{hint_bytes}", &format!("{HINT_BYTES_MAX} bytes"))
                    .replace("{scopes}", &Scope::join_names(", "))
                    .replace("{roles}", &Role::join_names(" or "))
            }
        }
    };
}

columns! {
    Id, "id", "UUID in lower case; empty: a new id";
    Kind, "kind", "key or pat; empty: key with a workspace, pat with a user";
    Workspace, "workspace", "workspace of a key, by slug or id; an export has the id";
    User, "user", "id of the user of a pat";
    MaxRole, "max_role", "maximum role of a pat: {roles}; empty: owner";
    Name, "name", "1 to {name_characters}";
    Scopes, "scopes", "one or more of {scopes}, separated by spaces; in JSON an array";
    Digest, "digest", "SHA-256 of the token, in hexadecimal (with or without \\x), base64 or base64url; give this or token";
    Token, "token", "the token itself, of {token_bytes}; only its digest is stored, and it is never exported";
    Hint, "hint", "text by which people recognise the token, up to {hint_bytes}; empty: made from the token, or 'imported'";
    IpAllowlist, "ip_allowlist", "CIDRs separated by spaces, in JSON an array; empty: any address";
    Annotations, "annotations", "an object of strings, in JSON; empty: none";
    CreateTime, "create_time", "a time, see below; empty: now";
    ExpireTime, "expire_time", "a time; empty or infinity: never";
    DisableTime, "disable_time", "a time; empty: not disabled";
    RevokeTime, "revoke_time", "a time; empty: not revoked";
    LastUseTime, "last_use_time", "a time; empty: not known";
    LastUseIp, "last_use_ip", "an address; only with last_use_time";
    Creator, "creator", "creator, such as user:ada; empty: the user who runs the import";
    PredecessorId, "predecessor_id", "credential that it replaced by rotation; only with family_id";
    FamilyId, "family_id", "first credential of its chain of rotations; empty: its own id";
    Limited, "limited", "true: the pat may act only in granted_workspaces; empty: true if those are given";
    GrantedWorkspaces, "granted_workspaces", "workspaces to which a pat is limited, by slug or id, separated by spaces, in JSON an array; an export has the ids; empty with limited: it may act nowhere";
    BarredWorkspaces, "barred_workspaces", "workspaces from which a pat is barred, as in granted_workspaces; empty: none";
    Revoked, "revoked", "true: revoked now, unless revoke_time is given; not exported";
    Enabled, "enabled", "false: disabled now, unless disable_time is given; not exported";
}

impl Column {
    /// Returns the column with this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|column| column.as_str() == text)
    }

    /// Returns the columns of an export. The token is not known, and other columns replace `revoked` and `enabled`.
    pub(super) fn exported() -> impl Iterator<Item = Self> {
        Self::ALL
            .into_iter()
            .filter(|column| !matches!(column, Self::Token | Self::Revoked | Self::Enabled))
    }

    /// Whether the column accepts a JSON number as well as a string.
    pub(super) const fn takes_numbers(self) -> bool {
        matches!(
            self,
            Self::Workspace
                | Self::User
                | Self::CreateTime
                | Self::ExpireTime
                | Self::DisableTime
                | Self::RevokeTime
                | Self::LastUseTime
        ) || self.takes_booleans()
    }

    /// Whether the column accepts `true` and `false`.
    pub(super) const fn takes_booleans(self) -> bool {
        matches!(self, Self::Limited | Self::Revoked | Self::Enabled)
    }
}
