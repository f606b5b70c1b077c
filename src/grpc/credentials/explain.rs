//! Explains a decision.

use std::sync::Arc;

use tonic::{Request, Response};
use zeroize::Zeroizing;

use super::{RpcResult, fields};
use crate::decision::{Denial, ExplainedRow, RowFact, RowOutcome};
use crate::grpc::{convert, pb};
use crate::service::{CredentialChoice, Explain, Service, Violations};

/// `Explain`.
pub(in crate::grpc) async fn explain(
    service: &Arc<Service>,
    request: Request<pb::ExplainRequest>,
) -> RpcResult<pb::ExplainResponse> {
    use pb::explain_request::Credential as Choice;
    let context = convert::context(&request)?;
    let message = request.into_inner();
    let mut violations = Violations::default();
    let choice = match message.credential {
        Some(Choice::Token(token)) => Some(CredentialChoice::Token(Zeroizing::new(token))),
        Some(Choice::CredentialId(id)) => {
            let id = fields::credential_id(&mut violations, "credential_id", &id);
            id.map(CredentialChoice::Id)
        }
        None => {
            violations.add("credential", "credential_id or token is required");
            None
        }
    };
    let required_scopes =
        convert::scopes(&mut violations, "required_scopes", &message.required_scopes);
    let client_ip = convert::optional(&message.client_ip)
        .and_then(|text| service.client_address("client_ip", text.as_bytes()));
    let Some(credential) = choice else { return convert::refuse(violations) };
    violations.finish()?;
    let request = Explain {
        credential,
        workspace: &message.workspace,
        required_scopes,
        client_ip,
        acting_user: &message.acting_user,
    };
    let explained = service.explain(&context, request).await?;
    Ok(Response::new(pb::ExplainResponse {
        rows: explained.rows.into_iter().map(row).collect(),
        decision: Some(convert::introspection(explained.introspection)),
        credential: Some(fields::credential(explained.credential, service.now())),
    }))
}

fn row(row: ExplainedRow) -> pb::ExplainedRow {
    let outcome = match row.outcome {
        RowOutcome::Passed => pb::RowOutcome::Passed,
        RowOutcome::Denied => pb::RowOutcome::Denied,
        RowOutcome::NotApplicable => pb::RowOutcome::NotApplicable,
        RowOutcome::NotReached => pb::RowOutcome::NotReached,
    };
    let fact = |RowFact { name, value }| pb::RowFact { name: name.to_owned(), value };
    pb::ExplainedRow {
        number: row.number.into(),
        denial: row.denial.map_or(pb::Denial::Unspecified, Denial::to_proto).into(),
        outcome: outcome.into(),
        text: row.text.to_owned(),
        facts: row.facts.into_iter().map(fact).collect(),
    }
}
