//! `introspect`: a summary of the credential and of the decision.

use anyhow::Context as _;

use super::args::{Global, IntrospectArgs, Output};
use super::{
    Outcome, open_service_with, output, read_token_from_stdin, refuse_token_output, store_url,
};
use crate::decision::Denial;
use crate::model::{Owner, PrincipalFacts};
use crate::service::{CredentialEnd, Introspection, IntrospectionRequest, Options, view};
use crate::token::{TOKEN_START, why_not_a_token};

/// The command failed, so there is no answer.
#[derive(Debug, thiserror::Error)]
#[error("could not tell")]
pub(super) struct NoAnswer;

/// The answer, with details that only the operator of the store may see.
struct Report {
    answer: Introspection,
    /// How a revoked, expired or disabled credential ended. gRPC and HTTP do not report it.
    ended: Option<CredentialEnd>,
    /// Why the text cannot be a token, if so.
    invalid_because: Option<String>,
}

pub(super) async fn run(global: &Global, args: IntrospectArgs) -> anyhow::Result<Outcome> {
    refuse_token_output(global)?;
    let report = introspect(global, &args).await.context(NoAnswer)?;
    let decision = &report.answer.decision;
    let printed = match global.output {
        Output::Json => {
            let mut shown = view::introspection(&report.answer);
            if let Some(ended) = &report.ended {
                shown["ended"] = view::ended(ended);
            }
            if let Some(why) = &report.invalid_because {
                shown["cannot_be_a_token"] = why.as_str().into();
            }
            output::line(&shown.to_string())
        }
        Output::Table | Output::Token => {
            let mut lines = summary(&report.answer, report.invalid_because.as_deref());
            lines.extend(report.ended.as_ref().map(end_summary));
            output::line(&lines.join("\n"))
        }
    };
    // Without the printed answer, the exit code must not be read as one.
    printed.context(NoAnswer)?;
    if decision.denial == Some(Denial::TokenUnknown) {
        store_url::note("nothing found");
    }
    Ok(if decision.is_allowed() { Outcome::Done } else { Outcome::Refused })
}

async fn introspect(global: &Global, args: &IntrospectArgs) -> anyhow::Result<Report> {
    let token = read_token_from_stdin()?;
    let accept_imported_tokens = args.accept_imported_tokens;
    let options = Options { accept_imported_tokens, ..Options::default() };
    let service = open_service_with(global, options).await?;
    let answer = service
        .introspect(&IntrospectionRequest {
            token: &token,
            workspace: &args.workspace,
            required_scopes: args.scopes.iter().copied().collect(),
            client_ip: args.client_ip,
            fresh: true,
            at_least_revision: 0,
            caller_id: None,
        })
        .await?;
    let ended = match &answer.found {
        Some(found) if !answer.decision.is_active() => {
            service.find_end(found.credential.id).await?
        }
        _ => None,
    };
    service.close().await;
    let unknown = answer.decision.denial == Some(Denial::TokenUnknown);
    let is_ours = token.starts_with(TOKEN_START) || !accept_imported_tokens;
    let invalid_because = why_not_a_token(&token).filter(|_| unknown && is_ours);
    Ok(Report { answer, ended, invalid_because })
}

/// Describes the credential, and when and by whom it was ended.
pub(super) fn end_summary(ended: &CredentialEnd) -> String {
    let CredentialEnd { credential, state, time, event } = ended;
    let owner = match &credential.owner {
        Owner::Workspace(id) => format!("workspace {id}"),
        Owner::User { id, .. } => format!("user {id}"),
    };
    let (kind, name, hint) = (credential.kind, credential.name.as_str(), &credential.hint);
    let mut lines = vec![
        format!("credential  {kind} \"{name}\" {hint}, of {owner}"),
        format!("            {}", credential.id),
        format!("{:<12}since {time}", state.as_str()),
    ];
    lines.push(match event {
        None => "by          not known: the audit log does not have it".to_owned(),
        Some(event) => {
            let user = event.acting_user.as_ref();
            let user = user.map(|user| format!(", on behalf of user {user}")).unwrap_or_default();
            format!("by          {}{user}: {} at {}", event.caller, event.action, event.time)
        }
    });
    let reason = event.as_ref().and_then(|event| event.reason.as_deref());
    lines.extend(reason.map(|reason| format!("because     {reason}")));
    lines.join("\n")
}

/// Describes the answer, in lines.
pub(super) fn summary(answer: &Introspection, invalid_because: Option<&str>) -> Vec<String> {
    let decision = &answer.decision;
    let mut lines = vec![match (decision.denial, invalid_because) {
        (None, _) if answer.identity_only => {
            "IDENTITY    200, which permits nothing: name the --scope that a request needs"
                .to_owned()
        }
        (None, _) => "ALLOWED     200".to_owned(),
        (Some(denial), Some(why)) => {
            format!("REFUSED     {}: this cannot be a token: {why}", denial.http_status())
        }
        (Some(denial), None) => {
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
            credential.kind,
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
    lines
}
