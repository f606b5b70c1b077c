//! Malformed presented tokens get an answer, never an error, and are never trimmed or corrected.

use sophic_auth::grpc::pb::{Denial, Role, Scope};
use sophic_auth::model::Digest;
use sophic_auth::store;
use tonic::Code;

use crate::harness::Harness;
use crate::stores::on_every_store;

on_every_store! {
    malformed_tokens_are_unknown,
    text_around_or_inside_a_token_makes_it_unknown,
    other_values_of_a_credential_are_unknown,
    a_service_token_is_not_a_credential,
    text_beyond_the_largest_request_is_refused,
    imported_text_is_looked_up_only_where_the_deployment_says_so,
}

async fn malformed_tokens_are_unknown(h: Harness) {
    let gateway = h.gateway().await;
    let texts = [
        "x",
        "sophic_key_",
        "sophic_key_00000000000000000000000000000000000000",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "Basic dXNlcjpwYXNz",
        "null",
        "\u{0}",
        "\r\n",
        "ｓｏｐｈｉｃ＿ｋｅｙ",
        "🧿",
        "' OR 1=1 --",
    ];
    for text in texts.into_iter().map(str::to_owned).chain(["j".repeat(4_096), "é".repeat(4_096)])
    {
        let answer = gateway.introspect(&text, "acme", &[Scope::Read]).await;
        assert_eq!(answer.denial(), Denial::TokenUnknown, "{text:.20}");
        assert!(!answer.active);
    }
}

async fn text_around_or_inside_a_token_makes_it_unknown(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let token = root.create_key("acme", &[Scope::Read]).await.token;
    let flipped: String =
        token
            .chars()
            .map(|c| {
                if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }
            })
            .collect();
    let spellings = [
        format!("Bearer {token}"),
        format!(" {token}"),
        format!("{token} "),
        format!("{token}\n"),
        format!("{token}\r\n"),
        format!("\u{feff}{token}"),
        format!("{token}\u{0}"),
        format!("{token}="),
        format!("{token}{token}"),
        format!("{token},{token}"),
        format!("{}%5F{}", &token[..6], &token[7..]),
        format!("{}\u{200b}{}", &token[..20], &token[20..]),
        token.replace("sophic", "Sophic"),
        token.replace("_key_", "_pat_"),
        token[1..].to_owned(),
        flipped,
    ];
    for text in spellings {
        let answer = root.introspect(&text, "acme", &[Scope::Read]).await;
        assert_eq!(answer.denial(), Denial::TokenUnknown, "a spelling of {} bytes", text.len());
    }
    assert!(root.introspect(&token, "acme", &[Scope::Read]).await.allowed);
}

async fn other_values_of_a_credential_are_unknown(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let made = root.create_key("acme", &[Scope::Read]).await;
    let credential = made.credential.expect("it is given");
    let digest = Digest::of(&made.token);
    let hex: String = digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    for text in [hex.to_uppercase(), hex, credential.id, credential.hint, credential.etag] {
        let answer = root.introspect(&text, "acme", &[Scope::Read]).await;
        assert_eq!(answer.denial(), Denial::TokenUnknown, "{text}");
    }
}

async fn a_service_token_is_not_a_credential(h: Harness) {
    let admin = h.root().await;
    let request = sophic_auth::grpc::pb::CreateCallerRequest {
        name: "itself".to_owned(),
        permissions: vec!["introspect".to_owned()],
        ..Default::default()
    };
    let token = admin.admin().create_caller(request).await.expect("it is made").into_inner().token;
    let answer = h.with_token(&token).introspect(&token, "acme", &[Scope::Read]).await;
    assert_eq!(answer.denial(), Denial::TokenUnknown);
    // Revoking the service token by its text does not revoke the caller.
    h.with_token(&token).revoke_token(&token).await;
    h.with_token(&token).introspect("x", "", &[]).await;
}

async fn text_beyond_the_largest_request_is_refused(h: Harness) {
    let request = sophic_auth::grpc::pb::IntrospectRequest {
        token: "t".repeat(1 << 20),
        ..Default::default()
    };
    let status = h.gateway().await.auth().introspect(request).await.expect_err("it is refused");
    assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted), "{status:?}");
    assert!(!status.message().contains("tttt"), "{status:?}");
}

async fn imported_text_is_looked_up_only_where_the_deployment_says_so(h: Harness) {
    let root = h.root().await;
    root.put_user("ada").await;
    root.put_workspace("acme").await;
    root.put_membership("acme", "ada", Role::Member).await;
    let made = root.create_pat("ada", &[Scope::Read], Role::Owner).await;
    let id = made.credential.expect("it is given").id;
    // As after an import: the digest of text in another format.
    let text = "legacy-token-0123456789abcdef0123456789";
    let id = sophic_auth::model::CredentialId::parse(&id).expect("an id");
    let store = store::open(&h.database.location()).await.expect("the store opens");
    let mut credential = store.find_credential(id).await.expect("a read").expect("it is there");
    credential.id = sophic_auth::model::CredentialId::new(credential.create_time, [3; 10]);
    let mut tx = store.begin("test").await.expect("a transaction");
    tx.insert_credential(&credential, &Digest::of(text)).await.expect("it is made");
    let mut event =
        store.list_audit_events(&Default::default(), None, 1).await.expect("a page").remove(0);
    event.id = sophic_auth::model::EventId(credential.id.0);
    tx.commit(&event).await.expect("it commits");
    let answer = root.introspect(text, "acme", &[Scope::Read]).await;
    assert_eq!(answer.denial(), Denial::TokenUnknown);
    let lenient = h.another(|config| config.options.accept_imported_tokens = true).await;
    let answer = root.via(&lenient).introspect(text, "acme", &[Scope::Read]).await;
    assert!(answer.allowed, "{answer:?}");
    lenient.running.stop().await;
}
