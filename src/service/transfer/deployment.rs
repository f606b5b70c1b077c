//! File format of a whole deployment: JSON lines, each with its type in `record`. The order is workspaces, users,
//! memberships, credentials, callers, which is the order of their locks. The last line shows that the file is complete.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::record::Record;
use crate::model::limits::CALLER_HINT_BYTES_MAX;
use crate::model::{
    Caller, CallerId, CallerIdentity, CallerName, CertificateSan, DisplayName, Invalid, LastUse,
    Membership, PatPolicy, PermissionSet, PreviousToken, RotationId, Slug, Timestamp, User, UserId,
    Workspace, WorkspaceId, WorkspacePolicy,
};

/// Start of the first line of a deployment file.
pub const DEPLOYMENT_BEGINS: &[u8] = br#"{"record":"deployment""#;
/// The only version of the format.
pub(super) const VERSION: u32 = 1;

/// Any line except that of a credential.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub(super) enum DeploymentRecord {
    /// The first line.
    Deployment {
        version: u32,
        time: String,
    },
    Workspace(WorkspaceRecord),
    User(UserRecord),
    Membership(MembershipRecord),
    Caller(CallerRecord),
    /// The last line, with the number of records in the file.
    End {
        records: u64,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WorkspaceRecord {
    id: String,
    slug: String,
    display_name: String,
    disabled: bool,
    generation: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation_time: Option<String>,
    create_time: String,
    update_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<PolicyRecord>,
    /// Absent in exports of 0.1, and for a workspace without such a policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pat_policy: Option<PatPolicyRecord>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PatPolicyRecord {
    forbidden: bool,
    expiry_required: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    lifetime_max_us: Option<u64>,
}

/// Durations are in microseconds, the precision of both databases.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyRecord {
    #[serde(skip_serializing_if = "Option::is_none")]
    key_lifetime_max_us: Option<u64>,
    key_expiry_required: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys_max: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    overlap_min_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    overlap_max_us: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UserRecord {
    id: String,
    display_name: String,
    disabled: bool,
    generation: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation_time: Option<String>,
    create_time: String,
    update_time: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MembershipRecord {
    workspace_id: String,
    user_id: String,
    role: String,
    create_time: String,
    update_time: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CallerRecord {
    id: String,
    name: String,
    permissions: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_san: Option<String>,
    hint: String,
    create_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoke_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_expire_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotation_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expire_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_use_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_use_ip: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    creator: String,
    #[serde(default = "first_version")]
    version: i64,
}

/// The line of a credential. A [`Record`] is read from it, as in other imports.
#[derive(Debug, Serialize)]
pub(super) struct TaggedCredential<'r> {
    record: &'static str,
    #[serde(flatten)]
    credential: &'r Record,
}

impl<'r> TaggedCredential<'r> {
    pub(super) const fn of(credential: &'r Record) -> Self {
        Self { record: "credential", credential }
    }
}

fn text(time: Option<Timestamp>) -> Option<String> {
    time.map(|time| time.to_string())
}

fn time(text: Option<&str>) -> Result<Option<Timestamp>, Invalid> {
    text.map(Timestamp::parse).transpose()
}

fn micros(duration: Option<Duration>) -> Option<u64> {
    duration.map(|duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

/// The version of a caller in a file that does not say it.
const fn first_version() -> i64 {
    1
}

/// Checks who created a caller. Empty if that is not known.
fn check_creator(text: &str) -> Result<String, Invalid> {
    if text.is_empty() {
        return Ok(String::new());
    }
    match DisplayName::parse(text) {
        Ok(creator) if !crate::token::contains_token(text) => Ok(creator.to_string()),
        _ => Err(Invalid::new("creator must be a short text, and not a token")),
    }
}

/// Rejects a negative generation.
fn check_generation(generation: i64) -> Result<i64, Invalid> {
    Some(generation).filter(|generation| *generation >= 0).ok_or_else(|| Invalid::new("generation"))
}

impl WorkspaceRecord {
    pub(super) fn of(workspace: &Workspace, policy: Option<&WorkspacePolicy>) -> Self {
        Self {
            id: workspace.id.to_string(),
            slug: workspace.slug.to_string(),
            display_name: workspace.display_name.to_string(),
            disabled: workspace.disabled,
            generation: workspace.generation,
            generation_time: text(workspace.generation_time),
            create_time: workspace.create_time.to_string(),
            update_time: workspace.update_time.to_string(),
            policy: policy.map(|policy| PolicyRecord {
                key_lifetime_max_us: micros(policy.key_lifetime_max),
                key_expiry_required: policy.key_expiry_required,
                keys_max: policy.keys_max,
                overlap_min_us: micros(policy.overlap_min),
                overlap_max_us: micros(policy.overlap_max),
            }),
            pat_policy: Some(workspace.pat_policy)
                .filter(|policy| *policy != PatPolicy::default())
                .map(|policy| PatPolicyRecord {
                    forbidden: policy.forbidden,
                    expiry_required: policy.expiry_required,
                    lifetime_max_us: micros(policy.lifetime_max),
                }),
        }
    }

    pub(super) fn read(&self) -> Result<(Workspace, Option<WorkspacePolicy>), Invalid> {
        if self.pat_policy.as_ref().is_some_and(|policy| policy.lifetime_max_us == Some(0)) {
            return Err(Invalid::new("pat_policy.lifetime_max_us must be at least 1"));
        }
        let workspace = Workspace {
            id: WorkspaceId::parse(&self.id)?,
            slug: Slug::parse(&self.slug)?,
            display_name: DisplayName::parse(&self.display_name)?,
            disabled: self.disabled,
            pat_policy: self.pat_policy.as_ref().map_or_else(PatPolicy::default, |policy| {
                PatPolicy {
                    forbidden: policy.forbidden,
                    expiry_required: policy.expiry_required,
                    lifetime_max: policy.lifetime_max_us.map(Duration::from_micros),
                }
            }),
            generation: check_generation(self.generation)?,
            generation_time: time(self.generation_time.as_deref())?,
            create_time: Timestamp::parse(&self.create_time)?,
            update_time: Timestamp::parse(&self.update_time)?,
            delete_time: None,
        };
        let policy = self.policy.as_ref().map(|policy| WorkspacePolicy {
            key_lifetime_max: policy.key_lifetime_max_us.map(Duration::from_micros),
            key_expiry_required: policy.key_expiry_required,
            keys_max: policy.keys_max,
            overlap_min: policy.overlap_min_us.map(Duration::from_micros),
            overlap_max: policy.overlap_max_us.map(Duration::from_micros),
        });
        Ok((workspace, policy))
    }
}

impl UserRecord {
    pub(super) fn of(user: &User) -> Self {
        Self {
            id: user.id.to_string(),
            display_name: user.display_name.to_string(),
            disabled: user.disabled,
            generation: user.generation,
            generation_time: text(user.generation_time),
            create_time: user.create_time.to_string(),
            update_time: user.update_time.to_string(),
        }
    }

    pub(super) fn read(&self) -> Result<User, Invalid> {
        Ok(User {
            id: UserId::parse(&self.id)?,
            display_name: DisplayName::parse(&self.display_name)?,
            disabled: self.disabled,
            generation: check_generation(self.generation)?,
            generation_time: time(self.generation_time.as_deref())?,
            create_time: Timestamp::parse(&self.create_time)?,
            update_time: Timestamp::parse(&self.update_time)?,
            delete_time: None,
        })
    }
}

impl MembershipRecord {
    pub(super) fn of(membership: &Membership) -> Self {
        Self {
            workspace_id: membership.workspace_id.to_string(),
            user_id: membership.user_id.to_string(),
            role: membership.role.to_string(),
            create_time: membership.create_time.to_string(),
            update_time: membership.update_time.to_string(),
        }
    }

    pub(super) fn read(&self) -> Result<Membership, Invalid> {
        Ok(Membership {
            workspace_id: WorkspaceId::parse(&self.workspace_id)?,
            user_id: UserId::parse(&self.user_id)?,
            role: self.role.parse()?,
            create_time: Timestamp::parse(&self.create_time)?,
            update_time: Timestamp::parse(&self.update_time)?,
        })
    }
}

impl CallerRecord {
    pub(super) fn of(caller: &Caller) -> Self {
        let (digest, certificate_san) = match &caller.identity {
            CallerIdentity::Token(digest) => (Some(digest.to_hex()), None),
            CallerIdentity::Certificate(san) => (None, Some(san.as_str().to_owned())),
        };
        Self {
            id: caller.id.to_string(),
            name: caller.name.to_string(),
            permissions: caller.permissions.names().collect(),
            digest,
            certificate_san,
            hint: caller.hint.clone(),
            create_time: caller.create_time.to_string(),
            revoke_time: text(caller.revoke_time),
            previous_digest: caller.previous.map(|previous| previous.digest.to_hex()),
            previous_expire_time: text(caller.previous.map(|previous| previous.expire_time)),
            rotation_id: caller.rotation.map(|rotation| rotation.0.to_string()),
            expire_time: text(caller.expire_time),
            last_use_time: text(caller.last_use.map(|last_use| last_use.time)),
            last_use_ip: caller.last_use.and_then(|last_use| last_use.ip).map(|ip| ip.to_string()),
            creator: caller.creator.clone(),
            version: caller.version,
        }
    }

    pub(super) fn read(&self) -> Result<Caller, Invalid> {
        let digest = |text: &str| {
            let digest = super::digest_text::parse(text);
            digest.ok_or_else(|| Invalid::new(super::digest_text::describe_mismatch(text)))
        };
        let identity = match (&self.digest, &self.certificate_san) {
            (Some(text), None) => CallerIdentity::Token(digest(text)?),
            (None, Some(san)) => CallerIdentity::Certificate(CertificateSan::parse(san)?),
            _ => return Err(Invalid::new("it must have one of digest and certificate_san")),
        };
        let previous = match (&self.previous_digest, &self.previous_expire_time) {
            (Some(text), Some(time)) => {
                Some(PreviousToken { digest: digest(text)?, expire_time: Timestamp::parse(time)? })
            }
            (None, None) => None,
            _ => return Err(Invalid::new("previous_digest and previous_expire_time go together")),
        };
        let rotation = self.rotation_id.as_deref().map(uuid::Uuid::parse_str).transpose();
        // Those that only a newer program knows are numbers in the file, and are kept.
        let mut permissions = PermissionSet::default();
        for text in &self.permissions {
            permissions = permissions.union(PermissionSet::parse_one(text)?);
        }
        // The hint is shown to people, so it must not be a token.
        if crate::token::contains_token(&self.hint) || self.hint.len() > CALLER_HINT_BYTES_MAX {
            return Err(Invalid::new(format!(
                "hint must be at most {CALLER_HINT_BYTES_MAX} bytes, and not a token"
            )));
        }
        Ok(Caller {
            id: CallerId::parse(&self.id)?,
            name: CallerName::parse(&self.name)?,
            permissions,
            identity,
            hint: self.hint.clone(),
            create_time: Timestamp::parse(&self.create_time)?,
            revoke_time: time(self.revoke_time.as_deref())?,
            previous,
            rotation: rotation
                .map_err(|_| Invalid::new("rotation_id must be a UUID"))?
                .map(RotationId),
            expire_time: time(self.expire_time.as_deref())?,
            last_use: self.last_use()?,
            creator: check_creator(&self.creator)?,
            version: Some(self.version)
                .filter(|version| *version > 0)
                .ok_or_else(|| Invalid::new("version must be positive"))?,
        })
    }

    fn last_use(&self) -> Result<Option<LastUse>, Invalid> {
        let ip = self.last_use_ip.as_deref().map(str::parse);
        let ip = ip.transpose().map_err(|_| Invalid::new("last_use_ip must be an address"))?;
        let time = time(self.last_use_time.as_deref())?;
        Ok(time.map(|time| LastUse { time, ip }))
    }
}
