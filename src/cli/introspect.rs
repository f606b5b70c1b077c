//! `introspect`: who, where, what, and why not, at a glance.

use super::args::{Global, IntrospectArgs, Output};
use super::{Outcome, open_with, output, read_token, refuse_token_output};
use crate::cache::PrincipalFacts;
use crate::service::{Introspection, IntrospectionRequest, Options, view};

/// There is no answer, neither yes nor no.
#[derive(Debug, thiserror::Error)]
#[error("could not tell: {0}")]
pub(super) struct CouldNotTell(pub(super) String);

pub(super) async fn run(global: &Global, args: IntrospectArgs) -> anyhow::Result<Outcome> {
    refuse_token_output(global)?;
    let answer = ask(global, &args).await.map_err(|error| CouldNotTell(format!("{error:#}")))?;
    match global.output {
        Output::Json => output::line(&view::introspection(&answer).to_string()),
        Output::Table | Output::Token => output::line(&glance(&answer)),
    }
    Ok(if answer.decision.is_allowed() { Outcome::Done } else { Outcome::Refused })
}

async fn ask(global: &Global, args: &IntrospectArgs) -> anyhow::Result<Introspection> {
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
    Ok(answer)
}

fn glance(answer: &Introspection) -> String {
    let decision = &answer.decision;
    let mut lines = vec![match decision.denial {
        None => "ALLOWED     200".to_owned(),
        Some(denial) => {
            format!(
                "REFUSED     {} {}: {}",
                denial.http_status(),
                denial.as_str(),
                decision.explanation()
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
