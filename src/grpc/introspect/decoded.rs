//! `Introspect` and `BatchIntrospect` on decoded messages, for requests that the hot path leaves to tonic.

use tonic::{Request, Response, Status};

use crate::grpc::{convert, pb};
use crate::model::limits::BATCH_INTROSPECTIONS_MAX;
use crate::service::{Service, Violations};

/// Answers `Introspect`.
pub(in crate::grpc) async fn introspect(
    service: &Service,
    request: Request<pb::IntrospectRequest>,
) -> Result<Response<pb::IntrospectResponse>, Status> {
    let caller_id = convert::caller_id(&request)?;
    let message = request.into_inner();
    let mut violations = Violations::default();
    let request = convert::introspection_request(service, &mut violations, "", &message, caller_id);
    violations.finish()?;
    Ok(Response::new(convert::introspection(service.introspect(&request).await?)))
}

/// Answers `BatchIntrospect`, in the order of the requests.
pub(in crate::grpc) async fn introspect_many(
    service: &Service,
    request: Request<pb::BatchIntrospectRequest>,
) -> Result<Response<pb::BatchIntrospectResponse>, Status> {
    let caller_id = convert::caller_id(&request)?;
    let messages = request.into_inner().requests;
    let mut violations = Violations::default();
    if messages.len() > BATCH_INTROSPECTIONS_MAX {
        violations.add("requests", format!("must have at most {BATCH_INTROSPECTIONS_MAX} entries"));
        return convert::refuse(violations);
    }
    let requests: Vec<_> = messages
        .iter()
        .enumerate()
        .map(|(place, message)| {
            let prefix = format!("requests[{place}].");
            convert::introspection_request(service, &mut violations, &prefix, message, caller_id)
        })
        .collect();
    violations.finish()?;
    let answers = service.introspect_many(&requests).await?;
    let responses = answers.into_iter().map(convert::introspection).collect();
    Ok(Response::new(pb::BatchIntrospectResponse { responses }))
}
