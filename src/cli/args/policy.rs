//! The flags of policies: the server's own, and what a workspace asks of its keys beyond that.

use std::time::Duration;

use clap::Args;

use super::{at_least_one, duration, positive};
use crate::cli::Usage;
use crate::model::PolicyChange;
use crate::policy::{CredentialLimits, Policy, PolicyConflict};

/// Flags of `serve`. What is made with this program on the store itself is bound by its workspace's policy only.
#[derive(Debug, Args)]
#[command(
    next_help_heading = "Policy (for what is made or rotated through this server; a workspace may be given a \
                               stricter one)"
)]
pub(in crate::cli) struct PolicyArgs {
    /// The longest that a key may be made to live [default: for ever]
    #[arg(long, env = "SOPHIC_AUTH_KEY_LIFETIME_MAX", value_parser = positive, value_name = "DURATION")]
    key_lifetime_max: Option<Duration>,
    /// The longest that a personal access token may be made to live [default: for ever]
    #[arg(long, env = "SOPHIC_AUTH_PAT_LIFETIME_MAX", value_parser = positive, value_name = "DURATION")]
    pat_lifetime_max: Option<Duration>,
    /// Refuse keys without expiry
    #[arg(long, env = "SOPHIC_AUTH_KEY_EXPIRY_REQUIRED")]
    key_expiry_required: bool,
    /// Refuse personal access tokens without expiry
    #[arg(long, env = "SOPHIC_AUTH_PAT_EXPIRY_REQUIRED")]
    pat_expiry_required: bool,
    /// The most keys of one workspace that are neither revoked nor expired [default: any number]
    #[arg(long, env = "SOPHIC_AUTH_WORKSPACE_KEYS_MAX", value_parser = at_least_one::<u32>, value_name = "N")]
    workspace_keys_max: Option<u32>,
    /// The most personal access tokens of one user that are neither revoked nor expired [default: any number]
    #[arg(long, env = "SOPHIC_AUTH_USER_PATS_MAX", value_parser = at_least_one::<u32>, value_name = "N")]
    user_pats_max: Option<u32>,
    /// The shortest that a rotated credential must be let live on, which it also is where a rotation does not say
    #[arg(long, env = "SOPHIC_AUTH_OVERLAP_MIN", default_value = "0s", value_parser = duration, value_name = "DURATION")]
    overlap_min: Duration,
    /// The longest that a rotated credential may be let live on; 1ms: as good as not at all [default: to its own expiry]
    #[arg(long, env = "SOPHIC_AUTH_OVERLAP_MAX", value_parser = positive, value_name = "DURATION")]
    overlap_max: Option<Duration>,
}

impl PolicyArgs {
    /// The server's policy.
    pub(in crate::cli) fn policy(&self) -> Result<Policy, Usage> {
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
        if wrong.is_empty() { Ok(policy) } else { Err(Usage(wrong.join("; "))) }
    }
}

/// Flags of `workspace put`. What is not named stays as it is.
#[derive(Debug, Args)]
#[command(
    next_help_heading = "Policy (what is not named stays as it is; the server's own holds where it is stricter)"
)]
pub(in crate::cli) struct WorkspacePolicyArgs {
    /// The longest that its keys may be made to live; 0s: no limit
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    key_lifetime_max: Option<Duration>,
    /// Refuse keys without expiry
    #[arg(long, conflicts_with = "no_key_expiry_required")]
    key_expiry_required: bool,
    /// Take keys without expiry again
    #[arg(long)]
    no_key_expiry_required: bool,
    /// The most of its keys that are neither revoked nor expired; 0: no limit
    #[arg(long, value_name = "N")]
    keys_max: Option<u32>,
    /// The shortest that its rotated keys must be let live on; 0s: no limit
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    overlap_min: Option<Duration>,
    /// The longest that its rotated keys may be let live on; 0s: no limit
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    overlap_max: Option<Duration>,
    /// Take its policy away, all of it
    #[arg(long, conflicts_with_all = [
        "key_lifetime_max", "key_expiry_required", "no_key_expiry_required", "keys_max", "overlap_min",
        "overlap_max",
    ])]
    no_policy: bool,
}

impl WorkspacePolicyArgs {
    /// What is to change of the workspace's policy, if anything is.
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
