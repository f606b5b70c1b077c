//! `introspect`: who, where, what, and why not, at a glance.

use super::args::{Global, IntrospectArgs, Output};
use super::{Outcome, asked, open_with, output, read_token, refuse_token_output};
use crate::cache::PrincipalFacts;
use crate::decision::Denial;
use crate::service::{Introspection, IntrospectionRequest, Options, view};
use crate::token::why_no_token;

/// There is no answer, neither yes nor no.
#[derive(Debug, thiserror::Error)]
#[error("could not tell: {0:#}")]
pub(super) struct CouldNotTell(pub(super) anyhow::Error);

pub(super) async fn run(global: &Global, args: IntrospectArgs) -> anyhow::Result<Outcome> {
    refuse_token_output(global)?;
    let (answer, no_token) = ask(global, &args).await.map_err(CouldNotTell)?;
    match global.output {
        Output::Json => {
            let mut shown = view::introspection(&answer);
            if let Some(why) = no_token {
                shown["cannot_be_a_token"] = why.into();
            }
            output::line(&shown.to_string());
        }
        Output::Table | Output::Token => output::line(&glance(&answer, no_token.as_deref())),
    }
    if answer.decision.denial == Some(Denial::TokenUnknown) {
        asked::note("nothing found");
    }
    Ok(if answer.decision.is_allowed() { Outcome::Done } else { Outcome::Refused })
}

/// The answer, and why the text can be no token where it cannot.
async fn ask(
    global: &Global,
    args: &IntrospectArgs,
) -> anyhow::Result<(Introspection, Option<String>)> {
    let token = read_token()?;
    let accept_imported_tokens = args.accept_imported_tokens;
    let options = Options { accept_imported_tokens, ..Options::default() };
    let service = open_with(global, options).await?;
    let answer = service
        .introspect(&IntrospectionRequest {
            token: &token,
            workspace: &args.workspace,
            required_scopes: args.scopes.iter().copied().collect(),
            client_ip: args.client_ip.map(|ip| ip.to_canonical()),
            fresh: true,
            at_least_revision: 0,
            asker: None,
        })
        .await?;
    service.store.close().await;
    let unknown = answer.decision.denial == Some(Denial::TokenUnknown);
    let is_ours = token.starts_with("sophic_") || !accept_imported_tokens;
    let no_token = why_no_token(&token).filter(|_| unknown && is_ours);
    Ok((answer, no_token))
}

fn glance(answer: &Introspection, no_token: Option<&str>) -> String {
    let decision = &answer.decision;
    let mut lines = vec![match (decision.denial, no_token) {
        (None, _) => "ALLOWED     200".to_owned(),
        (Some(denial), Some(why)) => {
            format!("REFUSED     {}: this cannot be a token: {why}", denial.http_status())
        }
        (Some(denial), None) => {
            format!(
                "REFUSED     {} {}: {}",
                denial.http_status(),
                denial.as_str(),
                denial.explanation()
            )
        }
    }];
    if let Some(found) = answer.found.as_ref().filter(|_| decision.is_active()) {
        let credential = &found.credential;
        lines.push(match &found.principal {
            PrincipalFacts::Workspace(workspace) => {
                format!("who         workspace {}, by a key", workspace.slug)
            }
            PrincipalFacts::User(facts) => {
                format!("who         user {} ({})", facts.user.id, facts.user.display_name)
            }
        });
        lines.push(format!(
            "credential  {} \"{}\" {}",
            credential.kind(),
            credential.name(),
            credential.hint()
        ));
        lines.push(format!("            {}", credential.id));
        if let Some(workspace) = answer.workspace() {
            lines.push(format!(
                "where       {} ({}) {}",
                workspace.slug, workspace.display_name, workspace.id
            ));
        }
        if let Some((role, cap)) = decision.role {
            lines.push(format!("as          {role}, set by the {}", cap.as_str()));
        }
        let scopes = if decision.scopes.is_empty() {
            "none".to_owned()
        } else {
            decision.scopes.to_string()
        };
        lines.push(format!("may         {scopes}"));
    }
    if !decision.missing_scopes.is_empty() {
        lines.push(format!("lacks       {}", decision.missing_scopes));
    }
    if !decision.token_lacks.is_empty() {
        lines.push(format!("            {}: the token was not granted it", decision.token_lacks));
    }
    if let Some((role, _)) = decision.role.filter(|_| !decision.role_lacks.is_empty()) {
        lines.push(format!("            {}: the role {role} may not", decision.role_lacks));
    }
    lines.join("\n")
}
