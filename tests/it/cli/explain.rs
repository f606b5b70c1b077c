//! `explain`, `show -`, and bulk revocation on behalf of a user, on the command line.

use super::program::Program;
use crate::stores::on_every_store;

on_every_store! {
    explain_prints_each_row_and_the_decision,
    explain_on_behalf_of_a_user_finds_only_what_they_may_manage,
    show_says_who_ended_a_credential,
    a_token_of_the_other_kind_or_of_none_revokes_nothing_and_says_so,
    a_bulk_revocation_on_behalf_of_a_user_is_bounded,
}

/// Acme with Ada as its admin, and a key. Returns the key's id and token.
fn set_up(p: &Program) -> (String, String) {
    p.run("workspace put acme").ok();
    p.run("user put ada").ok();
    p.run("member put --workspace acme --user ada --role admin").ok();
    let make = "key create --workspace acme --name ci --scope read --output json";
    let made = p.run(make).json();
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    (text(&made["credential"]["id"]), text(&made["token"]))
}

async fn explain_prints_each_row_and_the_decision(p: Program) {
    let (id, token) = set_up(&p);
    let allowed = p.run(&format!("explain {id} --workspace acme --scope read")).ok();
    let line = |start: &str| allowed.lines().any(|line| line.starts_with(start));
    assert!(line("NUMBER"), "{allowed}");
    assert!(
        allowed.contains("IP_NOT_ALLOWED") && allowed.contains("ip_allowlist=none"),
        "{allowed}"
    );
    assert!(line("ALLOWED"), "{allowed}");
    let refused = p.pipe(&token, "explain - --workspace acme --scope admin --output json");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let explained: serde_json::Value = serde_json::from_str(&refused.out).expect("JSON");
    assert_eq!(explained["decision"]["denial"], "INSUFFICIENT_SCOPE");
    let rows = explained["rows"].as_array().expect("rows");
    let denied: Vec<_> = rows.iter().filter(|row| row["outcome"] == "denied").collect();
    assert_eq!(denied.len(), 1, "{rows:?}");
    assert_eq!(denied[0]["denial"], "INSUFFICIENT_SCOPE");
    let judged = denied[0]["judged"].to_string();
    assert!(judged.contains("required_scopes=admin"), "{judged}");
    // Exit code 1 is an answer, so a failure has another one.
    p.pipe("nobody's", "explain -").failed(2);
    p.pipe("", "explain -").failed(2);
    p.run("explain nonsense").failed(2);
    p.run(&format!("key revoke {id} --reason leaked")).ok();
    let ended = p.run(&format!("explain {id} --workspace acme"));
    assert_eq!(ended.code, Some(1));
    assert!(ended.out.contains("TOKEN_REVOKED") && ended.out.contains("because     leaked"));
}

async fn explain_on_behalf_of_a_user_finds_only_what_they_may_manage(p: Program) {
    let (id, _) = set_up(&p);
    p.run("user put bob").ok();
    p.run(&format!("explain {id} --workspace acme --acting-user ada")).ok();
    let hidden = p.run(&format!("explain {id} --workspace acme --acting-user bob"));
    assert!(hidden.failed(2).contains("no such credential"));
}

async fn show_says_who_ended_a_credential(p: Program) {
    let (id, token) = set_up(&p);
    let shown = p.pipe(&token, "key show - --output json").json();
    assert_eq!((&shown["id"], &shown["state"]), (&id.as_str().into(), &"active".into()));
    assert!(shown.get("end_action").is_none(), "{shown}");
    p.pipe(&token, "pat show -").failed(1);
    p.run(&format!("key disable {id} --reason \"too early\"")).ok();
    for words in [format!("key show {id} --output json"), "key show - --output json".to_owned()] {
        let shown = p.pipe(&token, &words).json();
        assert_eq!(shown["end_action"], "credential.disable", "{shown}");
        assert_eq!(shown["end_reason"], "too early");
        assert_eq!(shown["ended_by"], super::program::operator());
    }
}

async fn a_token_of_the_other_kind_or_of_none_revokes_nothing_and_says_so(p: Program) {
    let (_, token) = set_up(&p);
    let said = p.pipe(&token, "pat revoke -").failed(1);
    assert!(said.contains("no pat has this token: nothing was revoked"), "{said}");
    assert!(said.contains("`sophic-auth key revoke -`"), "{said}");
    assert_eq!(p.pipe(&token, "introspect --workspace acme").code, Some(0));
    let mut mistyped = token.clone();
    mistyped.pop();
    let said = p.pipe(&mistyped, "key revoke -").failed(1);
    assert!(said.contains("cannot be a token") && said.contains("nothing was revoked"), "{said}");
    assert!(!said.contains(&token[11..40]), "{said}");
    let events = p.run("audit export --action credential.revoke").ok();
    let refused = events.lines().filter(|line| line.contains("CREDENTIAL_NOT_FOUND")).count();
    assert_eq!((refused, events.lines().count()), (2, 2), "{events}");
    p.pipe(&token, "key revoke -").ok();
}

async fn a_bulk_revocation_on_behalf_of_a_user_is_bounded(p: Program) {
    let (_, token) = set_up(&p);
    p.run("user put bob").ok();
    let revoke = |rest: &str| p.run(&format!("credentials revoke {rest}"));
    revoke("--workspace acme --acting-user bob").failed(1);
    assert!(revoke("--creator user:bob --acting-user ada").failed(2).contains("workspace"));
    assert!(revoke("--user bob --acting-user ada").failed(2).contains("user"));
    revoke("--workspace acme --unused-for 1d --last-used-before 2027-01-01T00:00:00Z").failed(2);
    let young = revoke("--workspace acme --acting-user ada --unused-for 90d --output json").json();
    assert_eq!(young["revoked_count"], 0);
    assert_eq!(p.pipe(&token, "introspect --workspace acme").code, Some(0));
    let all = revoke("--workspace acme --acting-user ada --output json").json();
    assert_eq!(all["revoked_count"], 1);
}
