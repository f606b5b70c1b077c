//! A workspace or user that is deleted and created again under the same id is another one. On behalf of its people, the
//! credentials of the earlier one do not exist. The system still sees all.

use sophic_auth::grpc::pb::{
    self, BulkRevokeRequest, Credential, CredentialOrder, DisableRequest, EnableRequest,
    ExplainRequest, GetCredentialRequest, ListCredentialsRequest, RevokeRequest, Role,
    RotateRequest, Scope, UpdateCredentialRequest, explain_request, revoke_request,
};
use tonic::Code;

use super::audit::of_action;
use super::refusal::refused;
use crate::harness::{Actor, Harness};
use crate::stores::on_every_store;

on_every_store! {
    the_keys_of_an_earlier_workspace_do_not_exist_for_the_owners_of_the_next,
    the_tokens_of_an_earlier_user_do_not_exist_for_the_next,
}

/// A credential of the earlier owner, and one of the present owner.
struct Pair {
    earlier: (Credential, String),
    present: Credential,
}

async fn ids(actor: &Actor, request: ListCredentialsRequest) -> Vec<String> {
    let listed = actor.auth().list_credentials(request).await.expect("a page").into_inner();
    assert_eq!(listed.next_page_token, "");
    listed.credentials.into_iter().map(|found| found.id).collect()
}

/// Checks every call on behalf of this user that names a credential by its id.
async fn is_missing_by_id(dashboard: &Actor, earlier: &Credential, user: &str) {
    let (id, user) = (earlier.id.clone(), user.to_owned());
    let mut auth = dashboard.auth();
    let get = GetCredentialRequest {
        credential_id: id.clone(),
        acting_user: user.clone(),
        ..Default::default()
    };
    let explain = ExplainRequest {
        credential: Some(explain_request::Credential::CredentialId(id.clone())),
        acting_user: user.clone(),
        ..Default::default()
    };
    let update = UpdateCredentialRequest {
        credential: Some(Credential { name: "mine".to_owned(), ..earlier.clone() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["name".to_owned()] }),
        acting_user: user.clone(),
    };
    let rotate = RotateRequest {
        credential_id: id.clone(),
        acting_user: user.clone(),
        ..Default::default()
    };
    let disable = DisableRequest {
        credential_id: id.clone(),
        acting_user: user.clone(),
        ..Default::default()
    };
    let enable = EnableRequest {
        credential_id: id.clone(),
        acting_user: user.clone(),
        ..Default::default()
    };
    let revoke = RevokeRequest {
        credential: Some(revoke_request::Credential::CredentialId(id)),
        acting_user: user,
        ..Default::default()
    };
    let answers = [
        ("get", refused(auth.get_credential(get).await)),
        ("explain", refused(auth.explain(explain).await)),
        ("update", refused(auth.update_credential(update).await)),
        ("rotate", refused(auth.rotate(rotate).await)),
        ("disable", refused(auth.disable(disable).await)),
        ("enable", refused(auth.enable(enable).await)),
        ("revoke", refused(auth.revoke(revoke).await)),
    ];
    for (call, answer) in answers {
        assert_eq!(answer, (Code::NotFound, "CREDENTIAL_NOT_FOUND".to_owned()), "{call}");
    }
}

async fn is_missing_by_token(dashboard: &Actor, token: &str, user: &str) {
    let (token, user) = (token.to_owned(), user.to_owned());
    let mut auth = dashboard.auth();
    let get = GetCredentialRequest {
        token: token.clone(),
        acting_user: user.clone(),
        ..Default::default()
    };
    let explain = ExplainRequest {
        credential: Some(explain_request::Credential::Token(token.clone())),
        acting_user: user.clone(),
        ..Default::default()
    };
    let missing = (Code::NotFound, "CREDENTIAL_NOT_FOUND".to_owned());
    assert_eq!(refused(auth.get_credential(get).await), missing);
    assert_eq!(refused(auth.explain(explain).await), missing);
    let revoke = RevokeRequest {
        credential: Some(revoke_request::Credential::Token(token)),
        acting_user: user,
        ..Default::default()
    };
    let revoked = auth.revoke(revoke).await.expect("any text is accepted").into_inner();
    assert_eq!(revoked.effective_time, None);
}

/// Checks that on behalf of `user` only the present credential exists, and for the system both.
async fn only_the_present_exists(
    (root, dashboard): (&Actor, &Actor),
    pair: Pair,
    (workspace, of_user): (&str, &str),
    user: &str,
) {
    let Pair { earlier: (earlier, token), present } = pair;
    is_missing_by_id(dashboard, &earlier, user).await;
    is_missing_by_token(dashboard, &token, user).await;
    let all = ListCredentialsRequest { acting_user: user.to_owned(), ..Default::default() };
    let owned = ListCredentialsRequest {
        workspace: workspace.to_owned(),
        user: of_user.to_owned(),
        ..all.clone()
    };
    let (by_time, by_use) = (CredentialOrder::CreateTimeDesc, CredentialOrder::LastUseTime);
    for (request, order) in [(&all, by_time), (&all, by_use), (&owned, by_time), (&owned, by_use)] {
        let request = ListCredentialsRequest { order: order.into(), ..request.clone() };
        assert_eq!(ids(dashboard, request).await, [present.id.as_str()], "{order:?}");
    }
    let family = ListCredentialsRequest { family_id: earlier.family_id.clone(), ..all };
    assert_eq!(ids(dashboard, family).await, Vec::<String>::new());
    let bulk = BulkRevokeRequest {
        workspace: workspace.to_owned(),
        user: of_user.to_owned(),
        dry_run: true,
        acting_user: user.to_owned(),
        ..Default::default()
    };
    let dry = dashboard.auth().bulk_revoke(bulk).await.expect("they may").into_inner();
    assert_eq!(dry.revoked_count, 1);
    // The system sees both, and how the earlier one ended.
    let system = ListCredentialsRequest { acting_user: String::new(), ..owned };
    assert_eq!(ids(root, system).await, [earlier.id.clone(), present.id]);
    let get = GetCredentialRequest { credential_id: earlier.id, ..Default::default() };
    let found = root.auth().get_credential(get).await.expect("it exists").into_inner();
    assert_eq!(found.end.expect("it has ended").action, "credential.revoke");
    // The log says that somebody presented the token of another.
    let revokes = of_action(root, "credential.revoke").await;
    let hidden = revokes.iter().filter(|event| event.after.contains(r#""permitted":false"#));
    assert_eq!(hidden.count(), 1);
}

async fn the_keys_of_an_earlier_workspace_do_not_exist_for_the_owners_of_the_next(h: Harness) {
    let (root, dashboard) = (h.root().await, h.dashboard().await);
    root.put_user("olga").await;
    let mut keys: Vec<pb::CreateKeyResponse> = Vec::new();
    for deleted_first in [false, true] {
        if deleted_first {
            root.delete_workspace("acme").await;
        }
        root.put_workspace("acme").await;
        root.put_membership("acme", "olga", Role::Owner).await;
        keys.push(root.create_key("acme", &[Scope::Read]).await);
    }
    let [earlier, present] = keys.try_into().expect("two keys");
    let earlier = (earlier.credential.expect("it is given"), earlier.token);
    let pair = Pair { earlier, present: present.credential.expect("it is given") };
    only_the_present_exists((&root, &dashboard), pair, ("acme", ""), "olga").await;
}

async fn the_tokens_of_an_earlier_user_do_not_exist_for_the_next(h: Harness) {
    let (root, dashboard) = (h.root().await, h.dashboard().await);
    let mut pats: Vec<pb::CreatePatResponse> = Vec::new();
    for deleted_first in [false, true] {
        if deleted_first {
            root.delete_user("ada").await;
        }
        root.put_user("ada").await;
        pats.push(root.create_pat("ada", &[Scope::Read], Role::Owner).await);
    }
    let [earlier, present] = pats.try_into().expect("two tokens");
    let earlier = (earlier.credential.expect("it is given"), earlier.token);
    let pair = Pair { earlier, present: present.credential.expect("it is given") };
    only_the_present_exists((&root, &dashboard), pair, ("", "ada"), "ada").await;
}
