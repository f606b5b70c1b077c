//! `explain`: the decision row by row.

use anyhow::Context as _;

use super::args::credential::ExplainArgs;
use super::args::{Global, Output};
use super::credential::credential_choice;
use super::introspect::{NoAnswer, end_summary, summary};
use super::output::PrintResult;
use super::{Outcome, open_service_with, operator, output, refuse_token_output};
use crate::service::{CredentialEnd, Explain, Explained, Options, view};

pub(super) async fn run(global: &Global, args: ExplainArgs) -> anyhow::Result<Outcome> {
    refuse_token_output(global)?;
    let (explained, ended) = explain(global, args).await.context(NoAnswer)?;
    // Without the printed answer, the exit code must not be read as one.
    print(global.output, &explained, ended.as_ref()).context(NoAnswer)?;
    let allowed = explained.introspection.decision.is_allowed();
    Ok(if allowed { Outcome::Done } else { Outcome::Refused })
}

/// Explains the decision, and how the credential ended, if it has.
async fn explain(
    global: &Global,
    args: ExplainArgs,
) -> anyhow::Result<(Explained, Option<CredentialEnd>)> {
    let ExplainArgs { credential, asked, acting_user } = args;
    let credential = credential_choice(&credential)?;
    let accept_imported_tokens = asked.accept_imported_tokens;
    let options = Options { accept_imported_tokens, ..Options::default() };
    let service = open_service_with(global, options).await?;
    let request = Explain {
        credential,
        workspace: &asked.workspace,
        required_scopes: asked.scopes.iter().copied().collect(),
        client_ip: asked.client_ip,
        acting_user: &acting_user,
    };
    let explained = service.explain(&operator(), request).await?;
    let ended = service.find_end(explained.credential.id).await?;
    service.close().await;
    Ok((explained, ended))
}

fn print(format: Output, explained: &Explained, ended: Option<&CredentialEnd>) -> PrintResult {
    let rows: Vec<_> = explained.rows.iter().map(view::explained_row).collect();
    match format {
        Output::Json => {
            let mut shown = serde_json::json!({
                "rows": rows,
                "decision": view::introspection(&explained.introspection),
            });
            if let Some(ended) = ended {
                shown["ended"] = view::ended(ended);
            }
            output::line(&shown.to_string())
        }
        Output::Table | Output::Token => {
            let columns = ["number", "outcome", "denial", "demands", "judged"];
            output::list(format, "rows", &columns, &rows)?;
            let mut lines = summary(&explained.introspection, None);
            lines.extend(ended.map(end_summary));
            output::line(&format!("\n{}", lines.join("\n")))
        }
    }
}
