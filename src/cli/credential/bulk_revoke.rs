//! `credentials revoke`: bulk revocation, with a progress bar on a terminal.

use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::args::record::BulkRevokeArgs;
use crate::cli::args::{Global, Output};
use crate::cli::output::PrintResult;
use crate::cli::{flag, open_service, operator, output, refuse_token_output};
use crate::model::{CredentialId, Timestamp, UserId, WorkspaceName};
use crate::service::{BulkRevoke, BulkRevoked, Service, view};

pub(super) async fn run(global: &Global, args: BulkRevokeArgs) -> anyhow::Result<()> {
    refuse_token_output(global)?;
    let request = parse(args)?;
    let service = open_service(global).await?;
    let dry_run = request.dry_run;
    let revoked = if dry_run || !output::is_terminal() {
        service.bulk_revoke(operator(), request, |_| ()).await?
    } else {
        revoke_with_progress(&service, request).await?
    };
    print(global.output, &service, dry_run, &revoked)?;
    service.close().await;
    Ok(())
}

async fn revoke_with_progress(
    service: &Arc<Service>,
    request: BulkRevoke,
) -> anyhow::Result<BulkRevoked> {
    let preview = BulkRevoke { dry_run: true, ..request.clone() };
    let total = service.bulk_revoke(operator(), preview, |_| ()).await?.count;
    // The template is a valid literal.
    let style = ProgressStyle::with_template("revoking {bar:30} {pos}/{len} {per_sec} {eta}");
    let bar =
        ProgressBar::new(total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let shown = bar.clone();
    let revoked = service.bulk_revoke(operator(), request, move |count| shown.set_position(count));
    let revoked = revoked.await;
    bar.finish_and_clear();
    Ok(revoked?)
}

fn print(format: Output, service: &Service, dry_run: bool, revoked: &BulkRevoked) -> PrintResult {
    let now = service.now();
    let sample: Vec<_> =
        revoked.sample.iter().map(|credential| view::credential(credential, now)).collect();
    match (format, dry_run) {
        (Output::Json, true) => {
            let answer = serde_json::json!({"would_revoke_count": revoked.count, "sample": sample});
            output::line(&answer.to_string())
        }
        (Output::Table | Output::Token, true) => {
            output::line(&format!("would revoke {}", revoked.count))?;
            let columns =
                ["id", "workspace_id", "user_id", "name", "hint", "create_time", "last_use_time"];
            output::list(format, "sample", &columns, &sample)
        }
        (Output::Json, false) => {
            let revision = revoked.revision.0;
            let answer = serde_json::json!({"revoked_count": revoked.count, "revision": revision});
            output::line(&answer.to_string())
        }
        (Output::Table | Output::Token, false) => {
            output::line(&format!("revoked {}", revoked.count))
        }
    }
}

fn parse(args: BulkRevokeArgs) -> anyhow::Result<BulkRevoke> {
    let time = |name: &str, text: Option<String>| {
        text.map(|text| flag(name, Timestamp::parse(&text))).transpose()
    };
    Ok(BulkRevoke {
        workspace: args
            .workspace
            .map(|name| flag("--workspace", WorkspaceName::parse(&name)))
            .transpose()?,
        user: args.user.map(|id| flag("--user", UserId::parse(&id))).transpose()?,
        family_id: args.family.map(|id| flag("--family", CredentialId::parse(&id))).transpose()?,
        creator: args.creator.unwrap_or_default(),
        created_before: time("--created-before", args.created_before)?,
        last_used_before: time("--last-used-before", args.last_used_before)?,
        unused_for: args.unused_for,
        dry_run: args.dry_run,
        reason: args.reason,
        acting_user: args.acting_user,
        page_token: String::new(),
    })
}
