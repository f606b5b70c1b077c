//! Flags of `caller`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::credential::ExpirationArgs;
use super::duration;
use crate::model::Permission;

const CREATE_EXAMPLES: &str = "\
Examples:
  sophic-auth caller create gateway --permission introspect --output token
  sophic-auth caller create migration --permission directory.write --ttl 7d --output token";

const UPDATE_EXAMPLES: &str = "\
Examples:
  sophic-auth caller update gateway --permission introspect --permission audit.read
  sophic-auth caller update migration --ttl 30d                # --no-expiry removes the expiry
  sophic-auth caller update edge --certificate-san spiffe://sophic/edge-2 --etag 3";

const ROTATE_EXAMPLES: &str = "\
Example:
  sophic-auth caller rotate gateway --overlap 1h --output token";

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum CallerCommand {
    /// Create a caller and print its service token. The token cannot be shown again
    #[command(after_help = CREATE_EXAMPLES)]
    Create {
        /// Name: 1 to 63 characters of a-z, 0-9, '.' and '-'
        name: String,
        /// Permission: introspect, credentials.read, credentials.write, credentials.admin, directory.read, directory.write,
        /// audit.read, callers.admin or status.read. Repeatable
        #[arg(long = "permission", required = true, value_name = "PERMISSION")]
        permissions: Vec<Permission>,
        /// DNS name or URI in the caller's client certificate. The caller then has no service token
        #[arg(long, value_name = "SAN")]
        certificate_san: Option<String>,
        #[command(flatten)]
        expiration: ExpirationArgs,
    },
    /// List callers, oldest first. With json, also with the address of the last use, the creator and the etag
    #[command(after_help = "Example:\n  sophic-auth caller list")]
    List,
    /// Change a caller's name, permissions, certificate or expiry, and wait until every server has applied the change
    #[command(after_help = UPDATE_EXAMPLES)]
    Update {
        /// Id or name of the caller
        caller: String,
        #[command(flatten)]
        changes: CallerChanges,
        /// Fail unless the caller still has this etag, with or without its quotes
        #[arg(long, default_value = "", hide_default_value = true)]
        etag: String,
    },
    /// Replace a caller's service token and print the new one. The old one stays valid for an overlap
    #[command(after_help = ROTATE_EXAMPLES)]
    Rotate {
        /// Id or name of the caller
        caller: String,
        /// How long the old token stays valid, at most 7d. 0s ends it before the command returns [default: 10m]
        #[arg(long, value_parser = duration, value_name = "DURATION")]
        overlap: Option<Duration>,
        /// UUID that makes retries safe: within 10 minutes, the same command with the same id replaces the lost new token, even
        /// if a service uses it, and does not rotate again
        #[arg(long, default_value = "", hide_default_value = true, value_name = "UUID")]
        request_id: String,
        /// Fail unless the caller still has this etag, with or without its quotes
        #[arg(long, default_value = "", hide_default_value = true)]
        etag: String,
    },
    /// Revoke a caller for good, and wait until no server accepts its token
    #[command(after_help = "Example:\n  sophic-auth caller revoke gateway")]
    Revoke {
        /// Id or name of the caller
        caller: String,
    },
}

/// The changes that `caller update` makes. At least one is required.
#[derive(Debug, Args)]
#[group(id = "caller_changes", required = true, multiple = true)]
pub(in crate::cli) struct CallerChanges {
    /// New name [default: unchanged]
    #[arg(long)]
    pub(in crate::cli) name: Option<String>,
    /// New permission. Replaces all permissions. Repeatable [default: unchanged]
    #[arg(long = "permission", value_name = "PERMISSION")]
    pub(in crate::cli) permissions: Vec<Permission>,
    /// New DNS name or URI in the caller's client certificate. The old one is refused when the command returns. Only for a
    /// caller that has a certificate [default: unchanged]
    #[arg(long, value_name = "SAN")]
    pub(in crate::cli) certificate_san: Option<String>,
    /// New time from now until the caller expires, such as 90d, earlier or later than before
    #[arg(long, value_parser = duration, value_name = "DURATION", conflicts_with = "expire_time")]
    pub(in crate::cli) ttl: Option<Duration>,
    /// New time at which the caller expires, such as 2027-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) expire_time: Option<String>,
    /// Remove the expiry
    #[arg(long, conflicts_with_all = ["ttl", "expire_time"])]
    pub(in crate::cli) no_expiry: bool,
}
