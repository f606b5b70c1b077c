//! Policy flags, of the server and of a workspace, and the arguments of bars against personal access tokens.

use std::time::Duration;

use clap::Args;

use super::{at_least_one, duration, positive};
use crate::cli::UsageError;
use crate::model::{PatPolicyChange, PolicyChange};
use crate::policy::{CredentialLimits, Policy, PolicyConflict};

/// Policy flags of `serve`. They do not apply to credentials that the command line creates in the store directly. Only
/// workspace policies do.
#[derive(Debug, Args)]
#[command(
    next_help_heading = "Policy (for credentials that are created or rotated through this server; a workspace can \
    have a stricter policy)"
)]
pub(in crate::cli) struct PolicyArgs {
    /// Maximum lifetime of a key [default: no limit]
    #[arg(long, env = "SOPHIC_AUTH_KEY_LIFETIME_MAX", value_parser = positive, value_name = "DURATION")]
    key_lifetime_max: Option<Duration>,
    /// Maximum lifetime of a personal access token [default: no limit]
    #[arg(long, env = "SOPHIC_AUTH_PAT_LIFETIME_MAX", value_parser = positive, value_name = "DURATION")]
    pat_lifetime_max: Option<Duration>,
    /// Refuse to create keys that never expire
    #[arg(long, env = "SOPHIC_AUTH_KEY_EXPIRY_REQUIRED")]
    key_expiry_required: bool,
    /// Refuse to create personal access tokens that never expire
    #[arg(long, env = "SOPHIC_AUTH_PAT_EXPIRY_REQUIRED")]
    pat_expiry_required: bool,
    /// Maximum number of keys per workspace, not counting revoked and expired ones [default: no limit]
    #[arg(long, env = "SOPHIC_AUTH_WORKSPACE_KEYS_MAX", value_parser = at_least_one::<u32>, value_name = "N")]
    workspace_keys_max: Option<u32>,
    /// Maximum number of personal access tokens per user, not counting revoked and expired ones [default: no limit]
    #[arg(long, env = "SOPHIC_AUTH_USER_PATS_MAX", value_parser = at_least_one::<u32>, value_name = "N")]
    user_pats_max: Option<u32>,
    /// Minimum overlap of a rotation, and the overlap of a rotation that does not give one
    #[arg(long, env = "SOPHIC_AUTH_OVERLAP_MIN", default_value = "0s", value_parser = duration, value_name = "DURATION")]
    overlap_min: Duration,
    /// Maximum overlap of a rotation. 1ms practically forbids overlaps [default: no limit]
    #[arg(long, env = "SOPHIC_AUTH_OVERLAP_MAX", value_parser = positive, value_name = "DURATION")]
    overlap_max: Option<Duration>,
}

impl PolicyArgs {
    /// Returns the server's policy.
    ///
    /// # Errors
    /// The minimum overlap is longer than the maximum.
    pub(in crate::cli) fn policy(&self) -> Result<Policy, UsageError> {
        let policy = Policy {
            keys: CredentialLimits {
                lifetime_max: self.key_lifetime_max,
                expiry_required: self.key_expiry_required,
                live_max: self.workspace_keys_max,
            },
            pats: CredentialLimits {
                lifetime_max: self.pat_lifetime_max,
                expiry_required: self.pat_expiry_required,
                live_max: self.user_pats_max,
            },
            overlap_min: self.overlap_min,
            overlap_max: self.overlap_max,
        };
        let wrong = policy.conflicts().into_iter().map(|PolicyConflict { field, .. }| {
            format!("--overlap-min must not be above --{}", field.replace('_', "-"))
        });
        let wrong: Vec<_> = wrong.collect();
        if wrong.is_empty() { Ok(policy) } else { Err(UsageError(wrong.join("; "))) }
    }
}

/// Policy flags of `workspace put`. A limit without a flag is unchanged.
#[derive(Debug, Args)]
#[command(
    next_help_heading = "Policy (limits without a flag are unchanged; the server's policy applies where it is stricter)"
)]
pub(in crate::cli) struct WorkspacePolicyArgs {
    /// Maximum lifetime of a key. 0s removes the limit
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    key_lifetime_max: Option<Duration>,
    /// Refuse to create keys that never expire
    #[arg(long, conflicts_with = "no_key_expiry_required")]
    key_expiry_required: bool,
    /// Allow keys that never expire
    #[arg(long)]
    no_key_expiry_required: bool,
    /// Maximum number of keys, not counting revoked and expired ones. 0 removes the limit
    #[arg(long, value_name = "N")]
    keys_max: Option<u32>,
    /// Minimum overlap when a key is rotated. 0s removes the limit
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    overlap_min: Option<Duration>,
    /// Maximum overlap when a key is rotated. 0s removes the limit
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    overlap_max: Option<Duration>,
    /// Remove the whole policy for keys. The one for personal access tokens stays
    #[arg(long, conflicts_with_all = [
        "key_lifetime_max", "key_expiry_required", "no_key_expiry_required", "keys_max", "overlap_min",
        "overlap_max",
    ])]
    no_policy: bool,
}

/// Flags of `workspace put` for the personal access tokens that act in the workspace. A rule without a flag is unchanged.
#[derive(Debug, Args)]
#[command(
    next_help_heading = "Policy for the personal access tokens that act in the workspace (applies at once)"
)]
#[expect(clippy::struct_excessive_bools, reason = "each is a separate flag")]
pub(in crate::cli) struct PatPolicyArgs {
    /// Let no personal access token act in the workspace
    #[arg(long, conflicts_with = "no_pats_forbidden")]
    pats_forbidden: bool,
    /// Let personal access tokens act in the workspace again
    #[arg(long)]
    no_pats_forbidden: bool,
    /// Let only personal access tokens that expire act in the workspace
    #[arg(long, conflicts_with = "no_pat_expiry_required")]
    pat_expiry_required: bool,
    /// Let personal access tokens that never expire act in the workspace
    #[arg(long)]
    no_pat_expiry_required: bool,
    /// Longest lifetime of a personal access token that may act in the workspace. 0s removes the limit
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    pat_lifetime_max: Option<Duration>,
}

impl PatPolicyArgs {
    /// Returns the requested change. `None` changes nothing.
    pub(in crate::cli) fn policy(&self) -> Option<PatPolicyChange> {
        let forbidden = self.pats_forbidden || self.no_pats_forbidden;
        let expiry_required = self.pat_expiry_required || self.no_pat_expiry_required;
        let change = PatPolicyChange {
            forbidden: forbidden.then_some(self.pats_forbidden),
            expiry_required: expiry_required.then_some(self.pat_expiry_required),
            lifetime_max: self.pat_lifetime_max,
        };
        Some(change).filter(|change| *change != PatPolicyChange::default())
    }
}

impl WorkspacePolicyArgs {
    /// Returns the requested change of the workspace's policy. `None` changes nothing.
    pub(in crate::cli) fn policy(&self) -> Option<PolicyChange> {
        if self.no_policy {
            return Some(PolicyChange::NO_LIMIT);
        }
        let named = self.key_expiry_required || self.no_key_expiry_required;
        let change = PolicyChange {
            key_lifetime_max: self.key_lifetime_max,
            key_expiry_required: named.then_some(self.key_expiry_required),
            keys_max: self.keys_max,
            overlap_min: self.overlap_min,
            overlap_max: self.overlap_max,
        };
        Some(change).filter(|change| *change != PolicyChange::default())
    }
}

/// Arguments of `workspace bar-pat` and `workspace unbar-pat`.
#[derive(Debug, Args)]
pub(in crate::cli) struct BarArgs {
    /// Slug or id of the workspace
    pub(in crate::cli) workspace: String,
    /// Id of the personal access token
    pub(in crate::cli) id: String,
    /// Reason, for the audit log
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(in crate::cli) reason: String,
}
